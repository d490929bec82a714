"""From the module to a program: traced once by torch.export, without gradients and without traces of this machine."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from causalft.errors import CausalFTError
from causalft.estimators.export.fused_model import FusedModel
from causalft.estimators.export.preprocessing import PictureInput
from causalft.runs.progress import named

__all__ = ["DTYPES", "largest_difference", "trace"]

DTYPES = {"float": torch.float32, "uint8": torch.uint8}
"""What pictures may be: float32 on [0, 1], or uint8."""


@named("tracing the model")
def trace(model: FusedModel, dtype: str = "float") -> torch.export.ExportedProgram:
    """Return the program of a model, for any batch size.

    Parameters
    ----------
    model : FusedModel
    dtype : {"float", "uint8"}

    Raises
    ------
    CausalFTError
        If the model computes in half precision, or does what ``torch.export`` cannot follow.
    """
    if dtype not in DTYPES:
        raise CausalFTError(f"pictures are {' or '.join(DTYPES)}, not {dtype!r}")
    low = [
        name for name, value in model.state_dict().items() if value.dtype in (torch.float16, torch.bfloat16)
    ]
    if low:
        raise CausalFTError(f"{low[0]} is in half precision; load the run in float32 to export it")
    pictures = model.example(2, dtype=DTYPES[dtype])
    batch = torch.export.Dim("batch", min=1)
    # *pictures is one tuple of inputs for torch.export
    shapes: Any = {"pictures": tuple({0: batch, **_sides(entry, k)} for k, entry in enumerate(model.inputs))}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                program = torch.export.export(model, tuple(pictures), dynamic_shapes=shapes)
            except (RuntimeError, ValueError):
                # Python code such as len(batch) fixes the batch in a plain trace; the compiler's own reader, slower,
                # follows it.
                program = torch.export.export(model, tuple(pictures), dynamic_shapes=shapes, strict=True)
    except Exception as error:  # torch raises many kinds for a model that it cannot follow
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise CausalFTError(f"torch.export cannot follow this model ({reason})") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    program.example_inputs = None  # type: ignore[assignment]  # the one part of a .pt2 file that would be pickled
    return program


def _sides(entry: PictureInput, number: int) -> dict[int, Any]:
    """Height and width, where the graph cuts squares from pictures of any shape."""
    if entry.view == "centre":
        return {}
    names = {2: f"height_{number}", 3: f"width_{number}"}
    return {axis: torch.export.Dim(name, min=entry.side) for axis, name in names.items()}


def largest_difference(one: list[Tensor], other: list[Tensor]) -> float:
    """Return max |a - b| over pairs of tensors of the same shapes."""
    return float(torch.stack([(a - b).abs().max() for a, b in zip(one, other, strict=True)]).max())
