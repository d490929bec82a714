"""Export formats, one record each: how to write a traced program, and how to run the file."""

from __future__ import annotations

import json
import logging
import math
import operator
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.fx import Node

from causalft.errors import CausalFTError
from causalft.pipelines.export import standalone
from causalft.pipelines.export.fused_model import FusedModel
from causalft.pipelines.export.standalone import FORMAT, OPERATIONS
from causalft.runs.files import sort_metadata

__all__ = ["FORMATS", "ExportFormat", "computation", "run_onnx", "write_onnx", "write_single_file"]


@dataclass(frozen=True)
class ExportFormat:
    """One format.

    Attributes
    ----------
    write : callable
        ``write(program, model, metadata, path)``.
    run : callable
        ``run(path, pictures)``: the outputs of the file.
    require : callable, optional
        Raises a :class:`CausalFTError` where a package that the format needs is missing.
    """

    write: Callable[[torch.export.ExportedProgram, FusedModel, dict[str, str], Path], None]
    run: Callable[[Path, list[Tensor]], list[Tensor]]
    require: Callable[[], object] = lambda: None


# protobuf holds at most 2 GB; larger weights go to a file beside it
_INLINE_BYTES = 2**31 - 2**26


def _onnx_packages() -> Any:
    """Import the packages of the extra; return onnxruntime."""
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
    except Exception as error:  # the exporter wraps any error in its own types
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise CausalFTError(
            f"this model has no ONNX form ({reason}); use --to torch-export or --to single-file"
        ) from error
    assert found is not None
    graph: Any = found.model.graph
    # names of symbolic sizes, such as s77 of the batch
    named = {str(graph.inputs[0].shape[0]): "batch"}
    for entry, value in zip(model.inputs, graph.inputs, strict=True):
        if entry.view != "centre":
            beside = f"_{entry.size}" if len(model.inputs) > 1 else ""
            named |= {str(value.shape[2]): f"height{beside}", str(value.shape[3]): f"width{beside}"}
    nodes = list(graph.all_nodes())
    values = [value for node in nodes for value in node.outputs]
    for node in nodes:
        node.metadata_props.clear()  # traces with paths of this machine
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
    """Return the outputs of an ONNX file for images, by onnxruntime on the CPU."""
    session = _onnx_packages().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {entry.name: batch.numpy() for entry, batch in zip(session.get_inputs(), pictures, strict=True)}
    return [torch.from_numpy(np.asarray(value)) for value in session.run(None, given)]


_ARITHMETIC = {
    getattr(operator, name): f"python.{name}"
    for name in ("add", "floordiv", "getitem", "mod", "mul", "sub", "truediv")
}


def write_single_file(program: torch.export.ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Write the tensors and the computation of a program, for :mod:`causalft.pipelines.export.standalone`.

    Raises
    ------
    CausalFTError
        If the loader does not know an operation of the program.
    """
    graph, tensors = computation(program)
    save_file(tensors, path, {**metadata, "graph": json.dumps(graph, separators=(",", ":"))})
    sort_metadata(path)


def computation(program: torch.export.ExportedProgram) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a program as data, and its tensors by name.

    Returns
    -------
    graph : dict
        ``inputs`` and ``tensors`` (value name to tensor name), ``steps`` [value name, operation, arguments, keyword
        arguments] in order, and ``result``.
    tensors : dict of str to Tensor
        Used tensors; shared memory is stored once.
    """
    signature = program.graph_signature
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    stored |= signature.inputs_to_lifted_tensor_constants
    given = set(signature.user_inputs)
    values = {**program.state_dict, **program.constants}
    tensors: dict[str, Tensor] = {}
    kept: dict[tuple[Any, ...], str] = {}
    graph: dict[str, Any] = {"format": FORMAT, "inputs": [], "tensors": {}, "steps": [], "result": None}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in given:
            graph["inputs"].append(node.name)
        elif node.op == "placeholder":
            if node.users:
                value = values[stored[node.name]].detach()
                same = (value.data_ptr(), value.shape, value.stride(), value.dtype)
                name = kept.setdefault(same, stored[node.name])
                tensors[name] = value.cpu().contiguous()
                graph["tensors"][node.name] = name
        elif node.op == "call_function":
            operation = _operation(node)
            if operation is not None:
                step = [node.name, operation, _coded(list(node.args)), _coded(dict(node.kwargs))]
                graph["steps"].append(step)
        elif node.op == "output":
            graph["result"] = _coded(list(node.args[0]))
        else:
            raise CausalFTError(f"the model has a part {node.op} {node.target}; {_WAY_OUT}")
    return graph, tensors


_WAY_OUT = "a single file cannot hold it: use --to onnx or --to torch-export"


def _operation(node: Node) -> str | None:
    """Name of the operation of a node; None for an assertion."""
    if node.target in _ARITHMETIC:
        return _ARITHMETIC[node.target]  # type: ignore[index]
    name = str(node.target)
    if name.startswith(("aten._assert", "aten.sym_constrain")):
        return None
    parts = name.split(".")
    if len(parts) != 3 or parts[0] != "aten" or parts[1] not in OPERATIONS:
        raise CausalFTError(f"the model uses the operation {name}; {_WAY_OUT}")
    return name


def _coded(argument: Any) -> Any:
    """An argument as JSON: numbers, text, None and lists unchanged, others as a dict with one key."""
    if isinstance(argument, Node):
        return {"value": argument.name}
    if isinstance(argument, (list, tuple)):
        return [_coded(item) for item in argument]
    if isinstance(argument, dict):
        return {"items": {key: _coded(item) for key, item in argument.items()}}
    if isinstance(argument, (torch.dtype, torch.layout, torch.memory_format)):
        return {"torch": str(argument).removeprefix("torch.")}
    if isinstance(argument, torch.device):
        return {"device": True}
    if isinstance(argument, float) and not math.isfinite(argument):
        return {"number": str(argument)}
    if argument is None or isinstance(argument, (bool, int, float, str)):
        return argument
    raise CausalFTError(f"an operation of the model takes a {type(argument).__name__}; {_WAY_OUT}")


def _write_named_onnx(
    program: torch.export.ExportedProgram, model: FusedModel, metadata: dict[str, str], path: Path
) -> None:
    write_onnx(program, model, {**metadata, "classes": json.dumps(model.classes, ensure_ascii=False)}, path)


def _write_torch_export(
    program: torch.export.ExportedProgram, model: FusedModel, metadata: dict[str, str], path: Path
) -> None:
    torch.export.save(program, path, extra_files={"causalft.json": metadata["causalft"]})


def _run_torch_export(path: Path, pictures: list[Tensor]) -> list[Tensor]:
    with torch.inference_mode():
        return list(torch.export.load(path).module()(*pictures))


def _write_with_loader(
    program: torch.export.ExportedProgram, model: FusedModel, metadata: dict[str, str], path: Path
) -> None:
    write_single_file(program, metadata, path)
    shutil.copyfile(standalone.__file__, path.with_name("model.py"))


def _run_single_file(path: Path, pictures: list[Tensor]) -> list[Tensor]:
    return list(standalone.load(path)(*pictures))


FORMATS = {
    "onnx": ExportFormat(_write_named_onnx, run_onnx, _onnx_packages),
    "torch-export": ExportFormat(_write_torch_export, _run_torch_export),
    "single-file": ExportFormat(_write_with_loader, _run_single_file),
}
"""By name; `causalft.methods.estimators.run_documents.EXPORT_FORMATS` names their files."""
