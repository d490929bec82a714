"""An exported program as an ONNX file, checked with onnxruntime."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalft.errors import CausalFTError
from causalft.pipelines.export.fused_model import FusedModel

__all__ = ["run_onnx", "write_onnx"]

# protobuf, the container of ONNX, holds at most 2 GB; larger weights go to a file beside it.
_INLINE_BYTES = 2**31 - 2**26


def _onnx_packages() -> Any:
    """Import what the extra brings, or say how to get it; return onnxruntime."""
    try:
        import onnx  # noqa: F401 - torch.onnx needs it
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise CausalFTError(f"ONNX needs the package {error.name}: pip install 'causalft[export]'") from error
    return onnxruntime


def write_onnx(
    program: torch.export.ExportedProgram, model: FusedModel, metadata: Mapping[str, str], path: Path
) -> None:
    """Write a program as ONNX with a dynamic batch; ``metadata`` becomes the file's metadata properties.

    Raises
    ------
    CausalFTError
        If the extra ``export`` is not installed, or an operation has no ONNX form.
    """
    _onnx_packages()
    names = [entry.name for entry in model.inputs]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        found = torch.onnx.export(
            program,
            dynamo=True,
            input_names=names,
            output_names=model.outputs,
            external_data=False,
            verbose=False,
        )
    except Exception as error:  # the exporter wraps whatever happened in kinds of its own
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise CausalFTError(
            f"this model has no ONNX form ({reason}); use --to torch-export or --to single-file"
        ) from error
    assert found is not None
    graph: Any = found.model.graph
    # torch's own names of what is not fixed, such as s77 of the batch
    named = {str(graph.inputs[0].shape[0]): "batch"}
    for entry, value in zip(model.inputs, graph.inputs, strict=True):
        if entry.view != "centre":
            beside = f"_{entry.size}" if len(model.inputs) > 1 else ""
            named |= {str(value.shape[2]): f"height{beside}", str(value.shape[3]): f"width{beside}"}
    nodes = list(graph.all_nodes())
    values = [value for node in nodes for value in node.outputs]
    for node in nodes:
        node.metadata_props.clear()  # how torch traced it, with files of this machine
    for value in (*graph.inputs, *values, *graph.initializers.values()):
        value.metadata_props.clear()
        for axis, size in enumerate(value.shape or ()):
            if str(size) in named:
                value.shape[axis] = named[str(size)]
    found.model.metadata_props.clear()
    found.model.metadata_props.update(metadata)
    n_bytes = sum(value.nbytes for value in program.state_dict.values())
    found.save(path, external_data=n_bytes > _INLINE_BYTES)


def run_onnx(path: Path, pictures: list[Tensor]) -> list[Tensor]:
    """Return the outputs of an ONNX file for pictures, from onnxruntime on the CPU."""
    session = _onnx_packages().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {entry.name: batch.numpy() for entry, batch in zip(session.get_inputs(), pictures, strict=True)}
    return [torch.from_numpy(np.asarray(value)) for value in session.run(None, given)]
