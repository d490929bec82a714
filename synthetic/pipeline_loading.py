"""Loads a text-to-image pipeline from this disk: nothing fetched, no pickle opened, nothing left out silently."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from causalft.errors import CausalFTError, nearest
from synthetic.pipelines import (
    PICKLES,
    Found,
    component_names,
    first_line,
    import_diffusers,
    pipeline_index,
    quiet_libraries,
)

__all__ = ["load_pipeline"]

# A pipeline with one of these arguments starts from a picture or makes something else, whatever else it takes.
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
    """Load a pipeline from this disk; nothing is fetched, and no pickle is opened.

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
    """The class that the index names, if it makes pictures from text alone."""
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
            f"{found.model} is a {name}, which does not make pictures from text alone; use a text-to-image pipeline "
            "such as StableDiffusionPipeline"
        )
    return kind


def _refuse_pickles(found: Found) -> None:
    """Name the network whose weights are missing, or are there as a pickle only."""
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
    """``"fp16"`` where a network's weights are there in that variant only."""
    for part in (path for path in folder.iterdir() if path.is_dir()):
        weights = [path.name for path in part.glob("*.safetensors")]
        if weights and all(".fp16." in name or ".fp16-" in name for name in weights):
            return "fp16"
    return None
