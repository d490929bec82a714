"""Text-to-image pipelines on disk: found and loaded; no pickle is opened."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from causalft.errors import CausalFTError, nearest

__all__ = [
    "Found",
    "MissingModelError",
    "PICKLES",
    "component_names",
    "find_pipeline",
    "first_line",
    "import_diffusers",
    "load_pipeline",
    "mini_pipeline_folder",
    "pipeline_index",
    "quiet_libraries",
]


PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_WITHOUT_MODEL = "`--model mini` is the embedded small pipeline"


class MissingModelError(CausalFTError):
    """The files of a model are not on this machine."""


@dataclass(frozen=True)
class Found:
    """A pipeline on disk.

    Attributes
    ----------
    model : as the user named it.
    path : folder, or one safetensors file.
    revision : commit of a hub model, else ``sha256:`` of the content.
    config : for one file, the folder that describes its networks and tokenizer.
    """

    model: str
    path: Path
    revision: str
    config: Path | None = None


def import_diffusers() -> Any:
    """Return the module diffusers, quiet.

    Raises
    ------
    CausalFTError
        If the extra ``diffusion`` is not installed.
    """
    try:
        import diffusers
        import transformers  # noqa: F401 - the pipelines need it, and say so late
    except ImportError as error:
        raise CausalFTError(
            f"Stable Diffusion needs more packages ({error}): pip install 'causalft[diffusion]'"
        ) from None
    return diffusers


def mini_pipeline_folder() -> Path:
    """The folder of the mini Stable Diffusion that ships with the package."""
    return Path(str(resources.files("synthetic") / "mini_diffusion"))


def find_pipeline(
    model: str, *, revision: str | None = None, config: str | None = None, fetch: bool = True
) -> Found:
    """Find the files of a model; the hub is asked only for what is missing.

    Parameters
    ----------
    model : ``"mini"``, a folder, a ``.safetensors`` file, or a hub model OWNER/NAME.
    revision : branch, tag or commit of a hub model.
    config : for one file, a folder or hub model with the same networks.
    fetch : whether the hub may be asked.

    Raises
    ------
    MissingModelError
        If the files are missing and cannot be fetched.
    CausalFTError
        For a pickle, a folder that is not a pipeline, or an impossible name.
    """
    path = Path(model).expanduser()
    if model != "mini" and path.suffix.lower() in PICKLES:
        raise CausalFTError(
            f"{model} is a pickle, which can run code when opened; use the .safetensors file or folder of the model"
        )
    if revision is not None and (model == "mini" or path.exists()):
        raise CausalFTError(f"--revision {revision} goes with a model of the hub; {model!r} has no revisions")
    if config is not None and not path.is_file():
        raise CausalFTError(
            "--model-config goes with a single .safetensors file; other models bring their own"
        )
    if model == "mini":
        folder = mini_pipeline_folder()
        if not (folder / "model_index.json").is_file():
            raise MissingModelError(
                "the mini Stable Diffusion of the package is not installed: install it again, or make it with "
                "`causalft zoo pretrain-diffusion` and pass its folder with --model"
            )
        return Found(model, folder, _content_hash(folder))
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise CausalFTError(
                f"{model} is not a pipeline: it has no model_index.json; --model takes a folder written by diffusers"
            )
        return Found(model, path, _content_hash(path))
    if path.is_file():
        if path.suffix.lower() != ".safetensors":
            raise CausalFTError(f"{model} is not a pipeline: --model takes a .safetensors file or a folder")
        settings = _config_of_file(path, config, fetch)
        return Found(model, path, _content_hash(path), settings)
    if (
        path.suffix.lower() == ".safetensors"
        or not re.fullmatch(r"[\w.-]+/[\w.-]+", model)
        or model[0] in "./~"
    ):
        raise MissingModelError(
            f"no model {model!r}: --model takes a folder, a .safetensors file, OWNER/NAME of the hub, or mini"
        )
    folder = _of_the_hub(model, revision, fetch)
    return Found(model, folder, folder.name)


def _of_the_hub(model: str, revision: str | None, fetch: bool) -> Path:
    """Return the snapshot of a hub model: a complete local one, else fetched."""
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    named = model if revision is None else f"{model} at {revision}"
    try:
        folder = Path(huggingface_hub.snapshot_download(model, revision=revision, local_files_only=True))
        if _is_whole(folder):
            return folder
    except (OSError, ValueError):
        pass
    advice = (
        f"fetch it on a connected machine (`hf download {model} --local-dir FOLDER`), copy FOLDER here and pass "
        f"--model FOLDER; {_WITHOUT_MODEL}"
    )
    if not fetch:
        raise MissingModelError(f"{named} is not in the hub cache of this machine")
    diffusers = import_diffusers()
    try:
        with quiet_libraries(diffusers):
            return Path(diffusers.DiffusionPipeline.download(model, revision=revision, use_safetensors=True))
    except RevisionNotFoundError:
        raise CausalFTError(f"{model} has no revision {revision!r} on the hub") from None
    except RepositoryNotFoundError:
        raise MissingModelError(
            f"the hub has no public model {model!r}; check the name, or {advice}"
        ) from None
    except Exception as error:  # any failure of network, hub or library ends in the one line below
        if isinstance(error, OSError) and error.errno in (
            28,
            122,
        ):  # the disk is full: the command line says so
            raise
        if "safetensors" in str(error):
            raise CausalFTError(
                f"{model} has no safetensors weights on the hub, and pickles are not opened; choose another model"
            ) from None
        raise MissingModelError(
            f"{named} is not in the hub cache and could not be fetched ({first_line(error, 80)}); {advice}"
        ) from None


def _is_whole(folder: Path) -> bool:
    """Whether every network of the index has a non-empty folder."""
    try:
        index = pipeline_index(folder, str(folder))
    except CausalFTError:
        return False
    return all((folder / name).is_dir() and any((folder / name).iterdir()) for name in component_names(index))


def component_names(index: dict[str, Any]) -> list[str]:
    return [
        name
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and not name.startswith("_") and all(value)
    ]


def pipeline_index(folder: Path, model: str) -> dict[str, Any]:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CausalFTError(f"{model} is not a pipeline: model_index.json cannot be read ({error})") from None
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise CausalFTError(
            f"{model} is not a pipeline of diffusers: model_index.json names no class (code of its own is not run)"
        )
    return index


def _config_of_file(path: Path, config: str | None, fetch: bool) -> Path:
    """Return the folder that describes the networks of one file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as weights:
            keys = set(weights.keys())
            shapes = {
                key: weights.get_slice(key).get_shape()
                for key in keys
                if key.endswith("input_blocks.0.0.weight")
            }
    except SafetensorError as error:
        raise CausalFTError(f"{path} is not a whole safetensors file ({first_line(error)})") from None
    if not any(key.startswith("model.diffusion_model.") for key in keys) or not any(
        key.startswith("first_stage_model.") for key in keys
    ):
        raise CausalFTError(
            f"{path} is not a whole Stable Diffusion checkpoint (no U-Net, or no VAE); use the folder of the pipeline"
        )
    channels = next(iter(shapes.values()), [0, 4])[1]
    if channels != 4:
        raise CausalFTError(
            f"{path} is an inpainting or editing model ({channels} input channels), not text-to-image"
        )
    if config is not None and Path(config).expanduser().exists():
        folder = Path(config).expanduser()
        if not (folder / "model_index.json").is_file():
            raise CausalFTError(
                f"--model-config {config} is not the folder of a pipeline: it has no model_index.json"
            )
        return folder
    import_diffusers()
    from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint

    name = (
        config
        or fetch_diffusers_config(load_single_file_checkpoint(str(path)))["pretrained_model_name_or_path"]
    )
    import huggingface_hub

    wanted = ["*.json", "*.txt", "*.model"]
    for local in (True, False) if fetch else (True,):
        try:
            folder = Path(
                huggingface_hub.snapshot_download(name, allow_patterns=wanted, local_files_only=local)
            )
            if (folder / "model_index.json").is_file():
                return folder
        except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError):
            continue
    raise MissingModelError(
        f"{path} needs the small text files of {name} (configuration and tokenizer), which are not here and could not "
        f"be fetched; copy that folder without its weights and pass --model-config FOLDER; {_WITHOUT_MODEL}"
    )


def _content_hash(path: Path) -> str:
    """Return the SHA-256 of weights and descriptions; the same files give the same hash anywhere."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    for file in files:
        if not file.is_file() or any(part.startswith(".") for part in file.relative_to(path).parts):
            continue
        if path.is_dir():
            if (
                file.suffix not in (".safetensors", ".json", ".txt", ".model")
                or file.parent == path
                and (file.name != "model_index.json")
            ):
                continue
            digest.update(file.relative_to(path).as_posix().encode())
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"


@contextmanager
def quiet_libraries(diffusers: Any) -> Iterator[list[str]]:
    """Silence bars and log messages of the libraries; collect what they report about missing weights."""
    import transformers

    complaints: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if "newly initialized" in text or "MISSING" in text:
                complaints.append("weights are missing (" + " ".join(text.split())[:160] + ")")

    listener, libraries = Listener(), (diffusers.utils.logging, transformers.utils.logging)
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    kept = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    bars = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS")
    for library in libraries:
        library.disable_progress_bar()
    for logger in loggers:
        logger.handlers, logger.propagate = [listener], False
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield complaints
    finally:
        for logger, (level, handlers, propagate) in zip(loggers, kept, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        if bars is None:
            for library in libraries:
                library.enable_progress_bar()


def first_line(error: BaseException, length: int = 200) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = (lines[0] if lines else type(error).__name__).rstrip(".")
    return shorten(line, length, placeholder=" ...")


# A pipeline with one of these arguments does not draw from text alone.
_NOT_FROM_TEXT = {
    "image",
    "mask_image",
    "control_image",
    "video",
    "num_frames",
    "audio_length_in_s",
    "audio_end_in_s",
}


def load_pipeline(
    found: Found, *, dtype: torch.dtype, device: torch.device, safety_checker: bool = True
) -> Any:
    """Load a pipeline from disk; nothing is fetched, and no pickle is opened.

    Raises
    ------
    CausalFTError
        If it is not a text-to-image pipeline, lacks files, or does not fit the device.
    """
    diffusers = import_diffusers()
    kind = _text_to_image_class(diffusers, found)
    # the older name of the option, which every supported version knows
    options: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True}
    if not safety_checker and "safety_checker" in inspect.signature(kind.__init__).parameters:
        options |= {"safety_checker": None, "requires_safety_checker": False}
    with quiet_libraries(diffusers) as complaints:
        try:
            if found.path.is_file():
                pipeline = kind.from_single_file(str(found.path), config=str(found.config), **options)
            else:
                _refuse_pickles(found)
                pipeline = kind.from_pretrained(
                    str(found.path), use_safetensors=True, variant=_variant(found.path), **options
                )
        except CausalFTError:
            raise
        except Exception as error:  # the library's errors are many; each ends in one line
            raise CausalFTError(
                f"{found.model} cannot be loaded as {kind.__name__}: {first_line(error)}"
            ) from error
    if complaints:
        raise CausalFTError(f"{found.model} is not whole: {complaints[0]}")
    try:
        return pipeline.to(device)
    except (RuntimeError, MemoryError) as error:
        raise CausalFTError(
            f"{found.model} does not fit on {device} ({first_line(error)}); use --precision fp16, a smaller model, or "
            "--device cpu"
        ) from error


def _text_to_image_class(diffusers: Any, found: Found) -> Any:
    """Return the class that the index names, if it draws from text alone."""
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING as FROM_TEXT

    name = pipeline_index(found.config or found.path, found.model)["_class_name"]
    kind = getattr(diffusers, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)):
        known = [entry for entry in dir(diffusers) if entry.endswith("Pipeline")]
        raise CausalFTError(
            f"{found.model}: this version of diffusers ({diffusers.__version__}) has no pipeline {name!r}; "
            f"{nearest(name, known)}"
        )
    takes = set(inspect.signature(kind.__call__).parameters)
    listed = kind in FROM_TEXT.values() and "Control" not in name and "num_frames" not in takes
    if not listed and ("prompt" not in takes or takes & _NOT_FROM_TEXT or not {"height", "width"} <= takes):
        raise CausalFTError(
            f"{found.model} is a {name}, which does not make images from text alone; use a text-to-image pipeline "
            "such as StableDiffusionPipeline"
        )
    return kind


def _refuse_pickles(found: Found) -> None:
    """Refuse a network whose weights are missing or pickled."""
    for name in component_names(pipeline_index(found.path, found.model)):
        folder = found.path / name
        if not folder.is_dir():
            if name in ("safety_checker", "feature_extractor"):
                continue  # the library says what it thinks of that
            raise CausalFTError(f"{found.model} is not whole: it has no folder {name}/")
        files = [file.name for file in folder.iterdir()]
        if any(file.endswith(PICKLES) for file in files) and not any(
            file.endswith(".safetensors") for file in files
        ):
            raise CausalFTError(
                f"{found.model}: the weights of {name} are pickles, which can run code when opened; use safetensors"
            )


def _variant(folder: Path) -> str | None:
    """Return ``"fp16"`` if a network has only that variant."""
    for part in (path for path in folder.iterdir() if path.is_dir()):
        weights = [path.name for path in part.glob("*.safetensors")]
        if weights and all(".fp16." in name or ".fp16-" in name for name in weights):
            return "fp16"
    return None
