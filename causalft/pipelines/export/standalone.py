"""Load and run a model of `causalft export --to single-file`: needs torch, safetensors and Pillow, not causalft.

The .safetensors file holds every tensor, and in its metadata the computation as data: a list of ATen operations.
Only operations named in OPERATIONS are run, so that reading a file runs no code of the file. Use:

    python model.py model.safetensors photo.jpg ...

    from model import load
    model = load("model.safetensors")
    probabilities, strata = model(*model.pictures(["photo.jpg"]))
"""

from __future__ import annotations

import json
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from torch import Tensor, nn

__all__ = ["OPERATIONS", "Model", "load"]

FORMAT = 1

# operations of towers, adapters, heads and fusions; they touch nothing but tensors
OPERATIONS = frozenset(
    """
    abs adaptive_avg_pool1d adaptive_avg_pool2d add add_ addmm alias all amax any arange argmax avg_pool2d
    baddbmm batch_norm bmm broadcast_to cat chunk clamp clamp_ clamp_min clone constant_pad_nd contiguous
    conv1d conv2d cos cumsum detach detach_ div div_ dropout einsum elu empty eq exp expand expand_as fill_
    flatten flip floor_divide full full_like gather ge gelu group_norm gt hardsigmoid hardswish hardtanh index
    index_select instance_norm layer_norm le leaky_relu lift_fresh_copy linalg_vector_norm linear log
    log_softmax _log_softmax logical_and logical_not logical_or logsumexp lt masked_fill_ masked_fill matmul
    max max_pool2d maximum mean min minimum mish movedim mT mul mul_ narrow native_layer_norm ne neg
    new_full new_ones new_zeros norm numpy_T ones ones_like pad permute pow prod reciprocal reflection_pad2d
    relu_ relu relu6 repeat repeat_interleave reshape rms_norm roll rsqrt rsub scalar_tensor
    scaled_dot_product_attention select sigmoid silu_ silu sin slice _softmax softmax softplus split
    split_with_sizes sqrt square squeeze stack std sub_ sub sum swapaxes sym_size t tanh tile to _to_copy
    topk transpose tril triu type_as unbind unflatten _unsafe_view unsqueeze upsample_bicubic2d
    upsample_bilinear2d upsample_nearest2d var view where zeros zeros_like
    """.split()
)
_ARITHMETIC = {
    f"python.{name}": getattr(operator, name)
    for name in ("add", "floordiv", "getitem", "mod", "mul", "sub", "truediv")
}


class Model(nn.Module):
    """An exported classifier.

    ``model(*pictures)`` takes one tensor for each entry of ``model.inputs``, (n, 3, size, size) on [0, 1] or uint8, and
    returns what ``model.outputs`` names: ``probabilities`` (n, n_classes), fused and calibrated, and ``strata``
    (n, n_strata, n_classes), each foundation model alone. Where the model averages over crops, which it cuts itself,
    pictures have any height and width with the shorter side of the entry.
    """

    def __init__(self, tensors: dict[str, Tensor], graph: dict[str, Any], about: dict[str, Any]) -> None:
        super().__init__()
        self.about, self.classes = about, list(about["classes"])
        self.inputs, self.outputs = about["inputs"], [output["name"] for output in about["outputs"]]
        for number, name in enumerate(graph["tensors"].values()):
            self.register_buffer(f"t{number}", tensors[name])
        self._tensors = list(graph["tensors"])
        self._given, self._result = graph["inputs"], graph["result"]
        self._steps = [(name, _operation(call), args, kwargs) for name, call, args, kwargs in graph["steps"]]
        last = {used: place for place, step in enumerate(self._steps) for used in _used(step[2:])}
        kept = set(_used(self._result))
        self._free: list[list[str]] = [[] for _ in self._steps]
        for name, place in last.items():
            if name not in kept:
                self._free[place].append(name)

    @property
    def device(self) -> torch.device:
        return next(self.buffers()).device

    def forward(self, *pictures: Tensor) -> list[Tensor]:
        if len(pictures) != len(self._given):
            raise ValueError(
                f"this model takes {[i['name'] for i in self.inputs]}, not {len(pictures)} tensors"
            )
        values: dict[str, Any] = {name: getattr(self, f"t{i}") for i, name in enumerate(self._tensors)}
        for name, batch, wanted in zip(self._given, pictures, self.inputs, strict=True):
            size = wanted["size"]
            if self._cuts(wanted):  # the model cuts its own crops
                right = batch.shape[1:2] == (3,) and min(batch.shape[2:]) == wanted["shorter_side"]
                shape = f"(n, 3, height, width) with a shorter side of {wanted['shorter_side']}"
            else:
                right, shape = tuple(batch.shape[1:]) == (3, size, size), f"(n, 3, {size}, {size})"
            if batch.dtype != getattr(torch, wanted["dtype"]) or batch.ndim != 4 or not right:
                raise ValueError(
                    f"{wanted['name']} must be {wanted['dtype']} {shape}, not "
                    f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
                )
            values[name] = batch.to(self.device)
        with torch.inference_mode():
            for (name, call, args, kwargs), done in zip(self._steps, self._free, strict=True):
                values[name] = call(*self._value(args, values), **self._value(kwargs, values))
                for used in done:
                    del values[used]
        return self._value(self._result, values)

    def _value(self, coded: Any, values: dict[str, Any]) -> Any:
        if isinstance(coded, list):
            return [self._value(item, values) for item in coded]
        if not isinstance(coded, dict):
            return coded
        if "value" in coded:
            return values[coded["value"]]
        if "torch" in coded:
            found = getattr(torch, coded["torch"])
            if not isinstance(found, (torch.dtype, torch.layout, torch.memory_format)):
                raise ValueError(f"torch.{coded['torch']} is no dtype, layout or memory format")
            return found
        if "device" in coded:
            return self.device
        if "number" in coded:
            return float(coded["number"])
        return {key: self._value(item, values) for key, item in coded["items"].items()}

    def pictures(self, files: Sequence[str | Path]) -> list[Tensor]:
        """Read image files as inputs of the model."""
        batches: list[list[Tensor]] = [[] for _ in self.inputs]
        for file in files:
            with Image.open(file) as opened:
                picture = upright_rgb(opened)
            for batch, wanted in zip(batches, self.inputs, strict=True):
                batch.append(to_tensor(shape(picture, wanted["steps"]), wanted["dtype"]))
        if any(len({tensor.shape for tensor in batch}) > 1 for batch in batches):
            raise ValueError(
                "these pictures have several shapes, and this model takes them uncut: give one at a time"
            )
        return [torch.stack(batch) for batch in batches]

    @staticmethod
    def _cuts(wanted: dict[str, Any]) -> bool:
        return wanted.get("view", "centre") != "centre"

    def predict(self, files: Sequence[str | Path], batch_size: int = 32) -> Iterator[dict[str, Any]]:
        """Yield the predictions for each image file, fused and per stratum."""
        names = [stratum["name"] for stratum in self.about["strata"]]
        if any(map(self._cuts, self.inputs)):
            batch_size = 1  # images of different shapes cannot be batched
        for start in range(0, len(files), batch_size):
            some = files[start : start + batch_size]
            found = dict(zip(self.outputs, self(*self.pictures(some)), strict=True))
            for row, file in enumerate(some):
                line: dict[str, Any] = {"file": str(file)}
                if "probabilities" in found:
                    line |= self._best(found["probabilities"][row])
                line["strata"] = {
                    name: self._best(p) for name, p in zip(names, found["strata"][row], strict=True)
                }
                yield line

    def _best(self, probabilities: Tensor) -> dict[str, Any]:
        best = int(probabilities.argmax())
        return {"prediction": self.classes[best], "probability": float(probabilities[best])}


def upright_rgb(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation, and composite transparency on white."""
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block may raise anything
        image.load()
    if image.mode.startswith("I") or image.mode == "F":
        raise ValueError(f"a picture has samples in mode {image.mode}; save it with 8 bits")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image.convert("RGB")


def shape(picture: Image.Image, steps: list[dict[str, Any]]) -> Image.Image:
    """Resize and crop an image by the steps of `preprocessor.json`."""
    for step in steps:
        width, height = picture.size
        if step["step"] == "resize":
            if "shorter_side" in step:
                if step is not steps[-1] and max(picture.size) > 64 * min(picture.size):
                    # crop a strip first: scaled whole, 1 x 65000 pixels would take gigabytes
                    short, longer = sorted(picture.size)
                    kept = 64 * short + (longer - 64 * short) % 2
                    start = (longer - kept) // 2
                    wide = picture.width > picture.height
                    box = (start, 0, start + kept, short) if wide else (0, start, short, start + kept)
                    picture = picture.crop(box)
                    width, height = picture.size
                short, longer = (
                    step["shorter_side"],
                    int(step["shorter_side"] * max(picture.size) / min(picture.size)),
                )
                new = (short, longer) if width <= height else (longer, short)
            else:
                new = (step["width"], step["height"])
            if new != picture.size:
                picture = picture.resize(new, getattr(Image.Resampling, step["interpolation"].upper()))
        elif step["step"] == "center_crop":
            size = step["size"]
            left, top = round((width - size) / 2), round((height - size) / 2)
            picture = picture.crop((left, top, left + size, top + size))
        else:
            raise ValueError(f"this loader does not know the preprocessing step {step['step']!r}")
    return picture


def to_tensor(picture: Image.Image, dtype: str) -> Tensor:
    """An image as a tensor (3, size, size), uint8 or float32 on [0, 1]."""
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    pixels = pixels.reshape(picture.height, picture.width, 3).permute(2, 0, 1).contiguous()
    return pixels if dtype == "uint8" else pixels.float() / 255


def load(path: str | Path, device: str = "cpu") -> Model:
    """Read a model from one .safetensors file."""
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
        if "graph" not in metadata or "causalft" not in metadata:
            raise ValueError(f"{path} is no single-file export of causalft")
        about, graph = json.loads(metadata["causalft"]), json.loads(metadata["graph"])
        if graph["format"] != FORMAT:
            raise ValueError(
                f"{path} has format {graph['format']}; this loader reads {FORMAT}: use its own model.py"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    return Model(tensors, graph, about).eval().to(device)


def _operation(name: str) -> Callable[..., Any]:
    if name in _ARITHMETIC:
        return _ARITHMETIC[name]
    space, operation, overload = name.split(".")
    if space != "aten" or operation not in OPERATIONS:
        raise ValueError(f"the operation {name} is not one that this loader runs")
    return getattr(getattr(torch.ops.aten, operation), overload)


def _used(coded: Any) -> Iterator[str]:
    if isinstance(coded, (list, tuple)):
        for item in coded:
            yield from _used(item)
    elif isinstance(coded, dict):
        if "value" in coded:
            yield coded["value"]
        elif "items" in coded:
            yield from _used(list(coded["items"].values()))


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 2:
        sys.stderr.write("usage: python model.py MODEL.safetensors PICTURE ...\n")
        return 2
    for line in load(arguments[0]).predict(list(arguments[1:])):
        sys.stdout.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
