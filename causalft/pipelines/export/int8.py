"""An ONNX file in int8: the linear layers of its blocks as :mod:`causalft.models.tuning.int8` computes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from causalft.errors import CausalFTError
from causalft.methods.estimators.strata import StrataClassifier
from causalft.models.tuning.int8 import LARGEST_WEIGHT, RANGE_TINY, TINY
from causalft.models.tuning.precision import round_frozen_layers
from causalft.models.tuning.towers import Tower

__all__ = ["frozen_weights", "kept_in_fp32", "round_onnx", "round_towers"]


def _layers(model: StrataClassifier, strata: Sequence[str] | None = None) -> Iterator[nn.Linear]:
    """The linear layers of the backbones' blocks; not those that a tuner added."""
    members = [member for name, member in model.members_.items() if strata is None or name in strata]
    for member in members:
        added = {id(value) for name, value in member.tower.named_parameters() if name in member.tuned.added}
        for tower in _towers(member):
            if tower.kind.endswith("ViT"):
                for layer in tower.blocks.modules():
                    if type(layer) is nn.Linear and id(layer.weight) not in added:
                        yield layer


def _towers(member: nn.Module) -> list[Tower]:
    return [module for module in member.modules() if isinstance(module, Tower)]


def frozen_weights(model: StrataClassifier, strata: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
    """Return the weights (d_out, d_in) of the linear layers that int8 rounds.

    Raises
    ------
    CausalFTError
        If there is none.
    """
    found = [layer.weight.detach().numpy() for layer in _layers(model, strata)]
    if not found:
        raise CausalFTError("int8 is for the layers of a ViT, and no stratum is one; leave --precision out")
    return found


def kept_in_fp32(model: StrataClassifier, strata: Sequence[str] | None = None) -> list[str]:
    """Names of the strata that have no layer to round: ResNets."""
    chosen = [name for name in model.members_ if strata is None or name in strata]
    return [name for name in chosen if next(_layers(model, [name]), None) is None]


def round_towers(model: StrataClassifier, weights: list[NDArray[np.float32]]) -> None:
    """Round the layers of these weights in the model itself, for comparison with the file."""
    chosen = {array.__array_interface__["data"][0] for array in weights}
    for tower in [tower for member in model.members_.values() for tower in _towers(member)]:
        for layer in tower.blocks.modules():
            if type(layer) is nn.Linear:
                layer.weight.requires_grad_(layer.weight.data_ptr() not in chosen)
        round_frozen_layers(tower, fp32_attention=True)


def round_onnx(path: Path, weights: list[NDArray[np.float32]]) -> None:
    """Replace products with these weights in an ONNX file by integer products, in place.

    Rows of activations are rounded as they come, so that the result does not depend on what else is in the batch.

    Parameters
    ----------
    path : pathlib.Path
        Weights of more than 2 GB lie in a file beside it.
    weights : list of numpy.ndarray
        From :func:`frozen_weights`; found in the file by their values.

    Raises
    ------
    CausalFTError
        If the file has not all of them.
    """
    import onnx
    from onnx import numpy_helper

    document = onnx.load(path)
    beside = path.with_name(path.name + ".data")
    graph: Any = document.graph
    wanted = {np.ascontiguousarray(weight.T).tobytes() for weight in weights}
    stored: dict[str, Any] = {value.name: value for value in graph.initializer}
    for name, value in _CONSTANTS.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    nodes: list[Any] = []
    rounded: set[str] = set()
    found: set[bytes] = set()
    for node in graph.node:
        weight = stored.get(node.input[1]) if node.op_type == "MatMul" else None
        values = None if weight is None else numpy_helper.to_array(weight)
        if weight is None or values is None or values.tobytes() not in wanted:
            nodes.append(node)
            continue
        nodes += _integer_layer(graph, node, values)
        rounded.add(weight.name)
        found.add(values.tobytes())
    if found != wanted:
        raise CausalFTError(
            f"the file holds {len(found)} of {len(wanted)} layers in a form that int8 can round; leave --precision out"
        )
    used = {name for node in nodes for name in node.input}
    for name in rounded - used:
        graph.initializer.remove(stored[name])
    del graph.node[:]
    graph.node.extend(nodes)
    beside.unlink(missing_ok=True)
    if document.ByteSize() < 2**31 - 2**26:  # what protobuf holds
        onnx.save(document, path)
    else:
        onnx.save(document, path, save_as_external_data=True, location=beside.name)


_CONSTANTS: dict[str, NDArray[Any]] = {
    "int8_range_tiny": np.array(RANGE_TINY, np.float32),
    "int8_steps": np.array(255, np.float32),
    "int8_zero": np.array(0, np.uint8),
    "int8_last_axis": np.array([-1], np.int64),
}


def _integer_layer(graph: Any, node: Any, weight: NDArray[np.float32]) -> list[Any]:
    """The nodes in the place of a product with ``weight`` (d_in, d_out)."""
    from onnx import TensorProto, helper, numpy_helper

    scale = np.maximum(np.abs(weight).max(0) / LARGEST_WEIGHT, TINY).astype(np.float32)
    integers = np.round(weight / scale).astype(np.int8)
    of_least = (scale * integers.sum(0, dtype=np.float32)).astype(np.float32)
    name, x = node.name or node.output[0], node.input[0]
    for what, value in (("weight", integers), ("scale", scale), ("of_least", of_least)):
        graph.initializer.append(numpy_helper.from_array(value, f"{name}_int8_{what}"))
    made: list[Any] = []

    def then(kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        out = out or f"{name}_int8_{len(made)}"
        made.append(
            helper.make_node(kind, list(inputs), [out], name=f"{name}_int8_{len(made)}", **attributes)
        )
        return out

    least = then("ReduceMin", x, "int8_last_axis", keepdims=1)
    largest = then("ReduceMax", x, "int8_last_axis", keepdims=1)
    extent = then("Add", then("Sub", largest, least), "int8_range_tiny")
    steps = then("Mul", then("Sub", x, least), then("Div", "int8_steps", extent))
    eight_bits = then("Cast", then("Round", steps), to=TensorProto.UINT8)
    product = then("MatMulInteger", eight_bits, f"{name}_int8_weight", "int8_zero")
    in_rows = then("Mul", then("Cast", product, to=TensorProto.FLOAT), then("Div", extent, "int8_steps"))
    above = then("Mul", in_rows, f"{name}_int8_scale")
    then("Add", above, then("Mul", least, f"{name}_int8_of_least"), out=node.output[0])
    return made
