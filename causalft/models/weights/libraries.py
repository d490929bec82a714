"""The libraries of pretrained models, open_clip and timm: their names, and their models with tensors loaded."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision import transforms

from causalft.errors import CausalFTError, nearest
from causalft.models.weights import Library, WeightName, candidate_files
from causalft.models.weights.file import load_all

__all__ = ["BuiltModel", "HubTokenizer", "ImageOnly"]

FindTextFiles = Callable[..., Path]


@dataclass
class BuiltModel:
    """A model with its weights loaded, and what a stratum needs beside it."""

    model: nn.Module
    geometry: Callable[[Image.Image], Image.Image]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    tokenizer: Callable[[Sequence[str]], Tensor] | None


class ImageOnly(nn.Module):
    """A backbone without text, with the attributes of a CLIP that strata use."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def encode_image(self, images: Tensor) -> Tensor:
        """Return pooled features (n, d) of images (n, 3, size, size)."""
        return self.visual(images)


class HubTokenizer:
    """A ``transformers`` tokenizer whose files are loaded with the first text: a head that starts from images needs
    none."""

    def __init__(self, what: WeightName, config: Mapping[str, Any], find: FindTextFiles) -> None:
        self._what, self._config, self._find = what, config, find
        self._tokenizer: Callable[[list[str], int | None], Tensor] | None = None

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """Return token ids, shape (n_texts, context_length); by default the length that the model reads."""
        if self._tokenizer is None:
            self._tokenizer = self._load()
        return self._tokenizer([texts] if isinstance(texts, str) else list(texts), context_length)

    def _load(self) -> Callable[[list[str], int | None], Tensor]:
        from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer

        folder = self._find(self._what.tokenizer_repository, self._what.name)
        try:
            # A folder, and not the name of a repository: transformers asks the network about names.
            return HFTokenizer(
                str(folder),
                context_length=self._config.get("context_length", DEFAULT_CONTEXT_LENGTH),
                tokenizer_mode=self._config.get("tokenizer_mode"),
                trust_remote_code=False,
                **self._config.get("tokenizer_kwargs", {}),
            )
        except ImportError as error:
            raise CausalFTError(
                f"the tokenizer of {self._what.name!r} needs the package transformers ({error}); "
                "pip install 'causalft[diffusion]'"
            ) from error
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
            raise CausalFTError(
                f"the tokenizer of {self._what.name!r} in {folder} cannot be read ({reason}); fetch it again"
            ) from error


def build_open_clip(what: WeightName, tensors: Mapping[str, Tensor], find: FindTextFiles) -> BuiltModel:
    """Return a model of open_clip with the tensors of a file, and the transform of its training.

    Parameters
    ----------
    what : WeightName
    tensors : mapping
        By name; the conventions of OpenAI, MobileCLIP and older versions of open_clip are understood.
    find : callable
        Finds the folder of a tokenizer's files, or of a text tower's configuration.

    Raises
    ------
    CausalFTError
        If the tensors are not those of the architecture.
    """
    import open_clip
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, SimpleTokenizer
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    config = open_clip.get_model_config(what.architecture)
    text: dict[str, Any] = config.get("text_cfg", {})
    changed: dict[str, Any] = {}
    if what.text_repository:
        folder = find(what.text_repository, what.name, configuration_only=True)
        changed["text_cfg"] = {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}
    with _unfilled():  # and nothing is fetched here, also for towers that have published weights of their own
        model = open_clip.create_model(
            what.architecture,
            load_weights=False,
            pretrained_image=False,
            pretrained_text=False,
            force_quick_gelu=bool(what.settings.get("quick_gelu")),
            **changed,
        )
    load_all(model, _as_open_clip(model, dict(tensors)))

    size = _square(model.visual.image_size)
    preprocess = PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(size=size), dict(what.settings)))
    if what.tokenizer_repository:
        tokenizer: Callable[[Sequence[str]], Tensor] = HubTokenizer(what, text, find)
    else:
        tokenizer = SimpleTokenizer(
            context_length=text.get("context_length", DEFAULT_CONTEXT_LENGTH),
            **text.get("tokenizer_kwargs", {}),
        )
    return BuiltModel(
        model=model,
        geometry=_geometry(image_transform_v2(preprocess, is_train=False)),
        image_size=size,
        mean=tuple(preprocess.mean),
        std=tuple(preprocess.std),
        interpolation=preprocess.interpolation,
        resize_mode=preprocess.resize_mode,
        tokenizer=tokenizer,
    )


def blank_open_clip(what: WeightName) -> Mapping[str, Tensor]:
    """Return random tensors of an architecture of open_clip."""
    import open_clip

    with _unfilled():
        model = open_clip.create_model(
            what.architecture, load_weights=False, pretrained_image=False, pretrained_text=False
        )
    return _small_random(model)


def _small_random(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of an unfilled model, small and positive, as a variance must be; integers are kept."""
    generator = torch.Generator().manual_seed(0)
    found = model.state_dict()
    for value in found.values():
        if value.is_floating_point():
            value.uniform_(1e-3, 2e-2, generator=generator)
    return found


class _NoRandomStart(TorchFunctionMode):
    """Skips the random start of parameters, which loading overwrites and which takes longer."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _RANDOM or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


_RANDOM = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_}


@contextmanager
def _unfilled() -> Iterator[None]:
    """Build a model whose tensors :func:`load_all` fills, without open_clip's warning that they are random."""

    root = logging.getLogger()
    root.addFilter(_quiet)
    try:
        with _NoRandomStart():
            yield
    finally:
        root.removeFilter(_quiet)


def _quiet(record: logging.LogRecord) -> bool:
    return "initialized randomly" not in str(record.msg)


def _as_open_clip(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors to open_clip's names, as its own loader does; none is resized."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    for name in ("input_resolution", "context_length", "vocab_size"):  # settings in OpenAI's files
        tensors.pop(name, None)
    tensors = convert_state_dict(model, tensors)
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):
        own = getattr(model, name, None)
        if name in tensors and own is not None and own.ndim != tensors[name].ndim:
            tensors[name] = tensors[name].reshape(own.shape)
    if getattr(model, "logit_bias", None) is not None and "logit_bias" not in tensors:
        # The bias shifts all classes alike; files of models that were not trained with a sigmoid loss lack it.
        tensors["logit_bias"] = torch.zeros_like(model.logit_bias)
    positions = "text.transformer.embeddings.position_ids"  # a buffer of older versions of transformers
    if positions in tensors and positions not in model.state_dict():
        del tensors[positions]
    return tensors


_BELONG_TO_WEIGHTS = ("mean", "std", "interpolation", "resize_mode", "quick_gelu")


def resolve_open_clip(name: str, has_file: bool) -> WeightName:
    """Return what ``ARCH/TAG`` stands for."""
    architecture, _, tag = name.rpartition("/")
    import open_clip

    config = open_clip.get_model_config(architecture) if ":" not in architecture else None
    if config is None:
        known = open_clip.list_models()
        raise CausalFTError(f"open_clip has no architecture {architecture!r}; {nearest(architecture, known)}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    cleaned = tag.lower().replace("-", "_")
    if cleaned in tags:
        tag = cleaned
    elif not has_file:
        raise CausalFTError(f"{architecture} has no weights {tag!r}; {nearest(tag, tags)}")
    settings = _settings(architecture, tag)
    repository, _, filename = str(settings.get("hf_hub", "")).rpartition("/")
    text = config.get("text_cfg", {})
    return WeightName(
        name=name,
        library="open_clip",
        architecture=architecture,
        tag=tag,
        repository=repository,
        filenames=candidate_files(filename) if repository else (),
        settings={key: settings[key] for key in _BELONG_TO_WEIGHTS if settings.get(key) is not None},
        url=str(settings.get("url", "")),
        tokenizer_repository=text.get("hf_tokenizer_name") or "",
        text_repository=text.get("hf_model_name") or "",
    )


def _settings(architecture: str, tag: str) -> Mapping[str, Any]:
    """Settings of a tag; of your own weights, those that all tags of the architecture share."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    found = get_pretrained_cfg(architecture, tag)
    if found:
        return found
    known = [
        get_pretrained_cfg(architecture, other)
        for other in open_clip.list_pretrained_tags_by_model(architecture)
    ]
    return {
        key: known[0].get(key)
        for key in _BELONG_TO_WEIGHTS
        if known and all(other.get(key) == known[0].get(key) for other in known)
    }


def open_clip_names() -> list[str]:
    """Return ``ARCH/TAG`` of all weights."""
    import open_clip

    return [f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained()]


def open_clip_hint(name: str) -> str:
    """Say which tags an architecture has."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        return ""
    return f"{name!r} is an architecture; say which weights, as in {name}/{tags[0]} ({', '.join(tags)})"


OPEN_CLIP = Library(
    name="open_clip",
    help="CLIP models, as ARCH/TAG",
    resolve=resolve_open_clip,
    names=open_clip_names,
    hint=open_clip_hint,
    build=build_open_clip,
    blank=blank_open_clip,
    source="https://github.com/mlfoundations/open_clip",
)


def build_timm(what: WeightName, tensors: Mapping[str, Tensor], find: FindTextFiles) -> BuiltModel:
    """Return a backbone of timm without its classifier, and the transform of timm's own evaluation.

    Raises
    ------
    CausalFTError
        If the tensors are not those of the architecture.
    """
    import timm
    from timm.data import create_transform, resolve_model_data_config

    name = what.full_name.removeprefix(TIMM.prefix) if what.repository else what.architecture
    with _unfilled():
        model: Any = timm.create_model(name, pretrained=False)
    whole = model.state_dict().keys()
    model.reset_classifier(0)
    own = model.state_dict()
    classifier = whole - own.keys()
    tensors = {key: value for key, value in tensors.items() if key not in classifier}
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None and tensors.keys() != own.keys():  # perhaps the names of the first publication
        try:
            converted = convert(dict(tensors), model)
        except (
            Exception
        ):  # a converter meant for another model says nothing useful; the comparison below does
            converted = tensors
        tensors = {key: value for key, value in converted.items() if key not in classifier}
    load_all(model, tensors)

    config = resolve_model_data_config(model)
    return BuiltModel(
        model=ImageOnly(model),
        geometry=_geometry(create_transform(**config, is_training=False)),
        image_size=_square(config["input_size"][1:]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        resize_mode=f"{config['crop_mode']}, crop {config['crop_pct']:g}",
        tokenizer=None,
    )


def blank_timm(what: WeightName) -> Mapping[str, Tensor]:
    """Return random tensors of an architecture of timm."""
    import timm

    name = what.full_name.removeprefix(TIMM.prefix) if what.repository else what.architecture
    with _unfilled():
        model = timm.create_model(name, pretrained=False)
    return _small_random(model)


def resolve_timm(name: str, has_file: bool) -> WeightName:
    """Return what ``timm:NAME`` stands for."""
    import timm

    wanted = name.removeprefix(TIMM.prefix)
    architecture, _, tag = wanted.partition(".")
    if not timm.is_model(architecture):
        models = timm.list_models()
        raise CausalFTError(f"timm has no model {architecture!r}; {nearest(architecture, models)}")
    try:
        config = timm.get_pretrained_cfg(wanted)
    except RuntimeError:  # the tag is not one of timm's
        if not has_file:
            tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
            raise CausalFTError(
                f"timm's {architecture} has no weights {tag!r}; {nearest(tag, tags)}"
            ) from None
        return WeightName(name, "timm", architecture, tag)
    if config is None or not config.hf_hub_id:
        if not has_file:
            raise CausalFTError(
                f"timm has no weights for {wanted!r} on the hub; give a file with --weights {name}=FILE.safetensors"
            )
        return WeightName(name, "timm", architecture, tag)
    files = candidate_files(config.hf_hub_filename) if config.hf_hub_filename else ()
    return WeightName(
        name,
        "timm",
        architecture,
        config.tag or tag,
        repository=config.hf_hub_id,
        filenames=files or ("model.safetensors", "pytorch_model.bin"),
        url=config.url if isinstance(config.url, str) else "",
        licence=config.license,
    )


def timm_names() -> list[str]:
    """Return ``timm:NAME`` of all weights."""
    import timm

    return [TIMM.prefix + name for name in timm.list_pretrained()]


def timm_hint(name: str) -> str:
    """Say that a name of timm lacks its prefix."""
    import timm

    if not timm.is_model(name.split(".")[0]):
        return ""
    return f"zoo 'pretrained' has no stratum {name!r}; did you mean '{TIMM.prefix}{name}'?"


TIMM = Library(
    name="timm",
    help="image-only backbones, as timm:NAME",
    resolve=resolve_timm,
    names=timm_names,
    hint=timm_hint,
    build=build_timm,
    blank=blank_timm,
    prefix="timm:",
    separator=".",
    source="https://github.com/huggingface/pytorch-image-models",
)


def _geometry(transform: transforms.Compose) -> Callable[[Image.Image], Image.Image]:
    """The steps of a library's transform from image to image, before it becomes a tensor."""
    kept = []
    for step in transform.transforms:
        if "ToTensor" in type(step).__name__:
            break
        if type(step).__name__ != "MaybeConvertMode":  # a stratum gives it RGB
            kept.append(step)
    return transforms.Compose(kept)


def _square(size: Any) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise CausalFTError(f"it takes images of {height} x {width}; only square ones are supported")
    return int(height)
