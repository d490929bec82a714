"""Export a run: trace its classifier, write it with its preprocessing, check what was written."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalft.errors import CausalFTError, nearest
from causalft.methods.estimators.run_documents import (
    EXPORT_FORMATS,
    PREDICTIONS,
    open_fit,
    portable,
    stratum_folder,
)
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.estimators.strata import StrataClassifier
from causalft.models.tuning.int8 import require_int8
from causalft.pipelines.export.formats import FORMATS
from causalft.pipelines.export.fused_model import FusedModel, PictureInput
from causalft.pipelines.export.int8 import frozen_weights, kept_in_fp32, round_onnx, round_towers
from causalft.pipelines.workflows.fit_data import load_splits
from causalft.pipelines.workflows.int8_agreement import Int8Agreement, int8_agreement
from causalft.runs.files import sha256_file
from causalft.runs.folder import Run, check_place, plain, system_error, write_json
from causalft.runs.lifecycle import made_record
from causalft.runs.locks import writing
from causalft.runs.progress import named, phase

__all__ = ["DTYPES", "Export", "TOLERANCE", "export_run", "largest_difference", "trace"]


DTYPES = {"float": torch.float32, "uint8": torch.uint8}
"""Types of images: float32 on [0, 1], or uint8."""


@named("tracing the model")
def trace(model: FusedModel, dtype: str = "float") -> torch.export.ExportedProgram:
    """Trace a model for any batch size.

    Parameters
    ----------
    model : FusedModel
    dtype : {"float", "uint8"}

    Raises
    ------
    CausalFTError
        If the model computes in half precision, or ``torch.export`` cannot trace it.
    """
    if dtype not in DTYPES:
        raise CausalFTError(f"images are given as {' or '.join(DTYPES)}, not {dtype!r}")
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
                # len(batch) and the like fix the batch size in a plain trace; the strict tracer, slower,
                # follows it.
                program = torch.export.export(model, tuple(pictures), dynamic_shapes=shapes, strict=True)
    except Exception as error:  # torch raises many types here
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise CausalFTError(f"torch.export cannot follow this model ({reason})") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds paths of this machine
    program.example_inputs = None  # type: ignore[assignment]  # the one part of a .pt2 file that would be pickled
    return program


def _sides(entry: PictureInput, number: int) -> dict[int, Any]:
    """Symbolic height and width, where the model cuts crops."""
    if entry.view == "centre":
        return {}
    names = {2: f"height_{number}", 3: f"width_{number}"}
    return {axis: torch.export.Dim(name, min=entry.side) for axis, name in names.items()}


def largest_difference(one: list[Tensor], other: list[Tensor]) -> float:
    """Return max |a - b| over pairs of tensors of the same shapes."""
    return float(torch.stack([(a - b).abs().max() for a, b in zip(one, other, strict=True)]).max())


TOLERANCE = 1e-4
"""Largest accepted difference of a probability between file and classifier."""

INT8_TOLERANCE = 0.02
"""The same in int8, both rounded: an activation near the middle between two integers may go to either."""


@dataclass(frozen=True)
class Export:
    """Result of :func:`export_run`.

    Attributes
    ----------
    path : pathlib.Path
        The model.
    files : list of pathlib.Path
        All files: the model, ``preprocessor.json``, and others that the format needs.
    about : dict
        The description stored in the file: classes, strata with hashes, inputs, outputs, fusion.
    difference : float
        Largest difference of a probability from the classifier in the same precision, over random images in batches
        of 1 and 3.
    agreement : Int8Agreement, optional
        In int8: how far the run in int8 agrees with it in fp32 on its test images, where they are here.
    note : str
        Why the agreement was not measured.
    """

    path: Path
    files: list[Path]
    about: dict[str, Any]
    difference: float
    agreement: Int8Agreement | None = None
    note: str = ""


def export_run(
    folder: str | os.PathLike[str],
    to: str,
    *,
    out: str | os.PathLike[str] | None = None,
    strata: Sequence[str] | None = None,
    fused: bool = True,
    dtype: str = "float",
    precision: str = "fp32",
) -> Export:
    """Export the classifier of a complete ``fit`` run.

    Parameters
    ----------
    folder : path
    to : {"onnx", "torch-export", "single-file"}
    out : path, optional
        File of the model; by default ``export/FORMAT/model.*`` in the run.
    strata : sequence of str, optional
        Export only these (see :class:`FusedModel`).
    fused : bool
        Whether to output the fused probabilities.
    dtype : {"float", "uint8"}
        Type of the images: float32 on [0, 1], or uint8.
    precision : {"fp32", "int8"}
        Of the linear layers in the blocks of a ViT; ``int8`` needs the format ``onnx``.

    Raises
    ------
    CausalFTError
        For an unknown format or precision, a missing package, int8 where PyTorch has no layers for it, an unreadable
        run, an existing file, a model that the format cannot hold, or a file that gives other probabilities.
    """
    if to not in FORMATS:
        raise CausalFTError(f"no export format {to!r}; {nearest(to, FORMATS)}")
    if dtype not in DTYPES:
        raise CausalFTError(f"images are given as {' or '.join(DTYPES)}, not {dtype!r}")
    if precision not in EXPORT_PRECISIONS:
        raise CausalFTError(f"a file is in {' or '.join(EXPORT_PRECISIONS)}, not {precision!r}")
    if precision == "int8" and to != "onnx":
        raise CausalFTError(f"int8 is for --to onnx; {to} has no integer layers")
    run = open_fit(folder)
    place = to if precision == "fp32" else f"{to}-{precision}"
    path = Path(out) if out is not None else run.path / "export" / place / EXPORT_FORMATS[to]
    suffix = Path(EXPORT_FORMATS[to]).suffix
    if path.suffix != suffix:
        better = path / EXPORT_FORMATS[to] if path.is_dir() else path.with_suffix(suffix)
        raise CausalFTError(f"{path}: the file of {to} ends in {suffix}; give --out {better}")
    check_place(path)
    FORMATS[to].require()
    if precision == "int8":
        require_int8()
    with writing(path):
        return _export(run, to, path, strata, fused, dtype, precision)


EXPORT_PRECISIONS = ("fp32", "int8")


def _export(
    run: Run, to: str, path: Path, strata: Sequence[str] | None, fused: bool, dtype: str, precision: str
) -> Export:
    classifier = _load(run)
    weights = frozen_weights(classifier, strata) if precision == "int8" else []
    model = FusedModel(classifier, strata, fused=fused)
    agreement, note = _agreement(run) if weights else (None, "")
    about = _about(run, model, dtype)
    if weights:
        about["precision"] = {"frozen_layers": "int8", **({} if agreement is None else agreement.to_dict())}
        if exact := kept_in_fp32(classifier, strata):
            about["precision"]["fp32_strata"] = exact
    program = trace(model, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    # written and checked in a temporary folder, then moved
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as temporary:
        place = Path(temporary) / path.name
        try:
            with phase("writing the model file"):
                text = {"causalft": json.dumps(about, ensure_ascii=False)}
                FORMATS[to].write(program, model, text, place)
                if weights:
                    round_onnx(place, weights)
                    round_towers(classifier, weights)
        except Exception as error:
            number = system_error(error)
            if number is None:
                raise
            raise OSError(number, os.strerror(number), os.fspath(path)) from error
        difference = _check(to, place, model, dtype, INT8_TOLERANCE if weights else TOLERANCE)
        write_json(
            place.with_name("preprocessor.json"), {key: about[key] for key in ("inputs", "normalisation")}
        )
        made = sorted(item.name for item in Path(temporary).iterdir())
        for name in made:
            # another export of the same geometry may share the folder
            if (path.parent / name).exists() and not _same(path.parent / name, Path(temporary) / name):
                raise CausalFTError(f"{path.parent / name} exists; choose another --out, or remove it")
        umask = os.umask(0)
        os.umask(umask)
        for name in made:
            (Path(temporary) / name).chmod(0o666 & ~umask)
            os.replace(Path(temporary) / name, path.parent / name)
    return Export(path, [path.parent / name for name in made], about, difference, agreement, note)


def _agreement(run: Run) -> tuple[Int8Agreement | None, str]:
    """Measure int8 on test images of the run, or say why not."""
    try:
        settings = FitSettings.from_config(run.config)
        test = load_splits(settings, settings.seed).test
        if test.fingerprint != run.config["data_fingerprint"][2]:
            return None, f"{settings.data} has changed since the fit"
        return int8_agreement(run.path, test), ""
    except CausalFTError as error:  # the file can be written without the images
        return None, str(error)


def _load(run: Run) -> StrataClassifier:
    """Load the classifier in float32, with LoRA and scale-and-shift merged into the weights."""
    model = StrataClassifier.load(run.path, device="cpu", precision="fp32", progress=False)
    for member in model.members_.values():
        member.tuned.merge()
    return model


@named("checking the file against the classifier")
def _check(to: str, path: Path, model: FusedModel, dtype: str, tolerance: float) -> float:
    """Return the largest difference from the classifier; refuse one above the tolerance."""
    found = []
    for n in (1, 3):
        pictures = model.example(n, dtype=DTYPES[dtype], seed=n)
        with torch.inference_mode():
            wanted = list(model(*pictures))
        found.append(largest_difference(wanted, FORMATS[to].run(path, pictures)))
    largest = float(np.max(found))  # NaN stays NaN
    if not largest <= tolerance:
        raise CausalFTError(
            f"the {to} file gives probabilities that differ by {largest:.2g}; it was not kept: use another format"
        )
    return largest


def _about(run: Run, model: FusedModel, dtype: str) -> dict[str, Any]:
    """Describe an export: its parts, inputs and outputs."""
    strata = []
    for name, stratum in model.strata.items():
        files = sorted(stratum_folder(run.path, name).glob("*.safetensors"))
        strata.append(
            {
                "name": name,
                "source": stratum.source,
                "sha256": stratum.sha256,
                "size": stratum.image_size,
                "tuned": {file.name: sha256_file(file) for file in files if file.name != PREDICTIONS},
            }
        )
    n_classes, n_strata = len(model.classes), len(model.names)
    shapes = {"probabilities": ["batch", n_classes], "strata": ["batch", n_strata, n_classes]}
    about = plain(
        {
            "causalft": made_record()["version"],
            "torch": str(torch.__version__),
            "classes": model.classes,
            "strata": strata,
            "inputs": [entry.document(str(DTYPES[dtype]).removeprefix("torch.")) for entry in model.inputs],
            # logits of crops are averaged, as in the run
            "view": model.view,
            "outputs": [{"name": name, "shape": shapes[name]} for name in model.outputs],
            "normalisation": {
                "where": "inside the model: give pictures as they are",
                "strata": {
                    name: {"mean": list(stratum.mean), "std": list(stratum.std)}
                    for name, stratum in model.strata.items()
                },
            },
            "fusion": {
                "fusion": model.fusion if model.fused else None,
                "stratum_prior": dict(zip(model.names, model.stratum_prior, strict=True)),
                "stratum_temperatures": dict(zip(model.names, model.stratum_temperatures, strict=True)),
                "temperature": model.temperature,
                "calibrated": model.calibrated,
            },
        }
    )
    # sources of members hold the path of a zoo folder
    return json.loads(portable(json.dumps(about), run.config))


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()
