"""Whether weights are what they should be: their hashes, and whether each file loads and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from causalft.errors import CausalFTError
from causalft.models.strata.pretrained import PretrainedZoo
from causalft.models.weights.store import WeightStore
from causalft.runs.files import sha256_file

__all__ = ["check_folder", "check_names"]

Say = Callable[[str], None]


def check_names(
    names: Sequence[str], zoo: PretrainedZoo, say: Say = lambda line: None
) -> list[dict[str, str]]:
    """Load each name from what is on this machine, and run it once; return one row a name.

    Returns
    -------
    list of dict
        ``name``, ``sha256`` (empty if it was not reached), ``problem`` (empty if all is well).
    """
    rows = []
    for name in names:
        say(name)
        try:
            rows.append({"name": name, "sha256": _runs(name, zoo), "problem": ""})
        except CausalFTError as error:
            rows.append({"name": name, "sha256": "", "problem": str(error)})
    return rows


def check_folder(
    folder: Path, *, allow_pickle: bool = False, say: Say = lambda line: None
) -> list[dict[str, str]]:
    """Compare each file of a folder with its manifest, and load what is weights; return one row a file.

    Raises
    ------
    CausalFTError
        If the folder has no manifest.
    """
    store = WeightStore(folder)
    lines = store.files()
    if not lines:
        raise CausalFTError(f"{folder} has no manifest of weights; `causalft weights fetch --to` writes one")
    rows = []
    for path, line in lines.items():
        say(path)
        file, problem = store.folder / path, ""
        if not file.is_file():
            problem = "it is missing"
        elif (found := sha256_file(file)) != line.sha256:
            problem = f"sha256 {found[:12]}..., manifest {line.sha256[:12]}...; it was changed or cut short"
        else:
            for name in line.names:
                zoo = PretrainedZoo({name: file}, offline=True, allow_pickle=allow_pickle, folder=folder)
                try:
                    _runs(name, zoo)
                except CausalFTError as error:
                    problem = str(error)
        rows.append({"name": path, "sha256": line.sha256, "problem": problem})
    return rows


def _runs(name: str, zoo: PretrainedZoo) -> str:
    """Load a stratum and ask it about one picture and one word; return the hash of its weights."""
    stratum = zoo.load(name)
    size = stratum.image_size
    found = [stratum.image_features(torch.zeros(1, size, size, 3, dtype=torch.uint8))]
    if stratum.has_text:
        found.append(stratum.text_features(["cat"]))
    if not all(bool(torch.isfinite(features).all()) for features in found):
        raise CausalFTError(f"{name}: its features are not finite; its weights are damaged")
    return stratum.sha256
