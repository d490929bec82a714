"""Two processes against one: the same training of 50 steps, and the largest difference of the weights."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from causalft.models.tuning.processes import is_main_process
from causalft.models.tuning.train import Recipe, train


def trained() -> dict[str, torch.Tensor]:
    """Train in whatever processes there are, and return the weights."""
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 2))
    # 500 in batches of 51: ten steps an epoch, shares of 26 and 25, and a last batch of 41
    recipe = Recipe(epochs=5, batch_size=51, lr=0.1)
    train(
        model,
        500,
        lambda model, i, generator: torch.nn.functional.cross_entropy(model(x[i]), y[i]),
        recipe,
        progress=False,
    )
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def main() -> None:
    """Without an argument: start two processes, train alone too, print the difference. With one: be one of the two."""
    if len(sys.argv) > 1:
        weights = trained()
        if is_main_process():
            save_file(weights, sys.argv[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "two.safetensors")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run([*launcher, __file__, out], check=True)
        two = load_file(out)
    print(max(float((two[name] - value).abs().max()) for name, value in trained().items()))


if __name__ == "__main__":
    main()
