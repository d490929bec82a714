"""An exported program as one .safetensors file: every tensor, and the computation as data in the metadata."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.fx import Node

from causalft.errors import CausalFTError
from causalft.pipelines.export.standalone import FORMAT, OPERATIONS
from causalft.runs.files import sort_metadata

__all__ = ["computation", "write_single_file"]

_ARITHMETIC = {
    getattr(operator, name): f"python.{name}"
    for name in ("add", "floordiv", "getitem", "mod", "mul", "sub", "truediv")
}


def write_single_file(program: torch.export.ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Write the tensors and the computation of a program, for :mod:`causalft.pipelines.export.standalone`.

    Raises
    ------
    CausalFTError
        If the program uses an operation that the loader does not run; the message names it.
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
        Only what is used; tensors that share memory are kept once.
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
    """Name of the operation of a node, None for a check that computes nothing."""
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
    """An argument as JSON: numbers, text, None and lists as they are, the rest as a dict with one key."""
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
