"""The Stable Diffusion generator: checks its settings, loads the pipeline, draws with one seed per image."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from causalft.errors import CausalFTError, nearest
from causalft.runs import limits
from causalft.runs.folder import read_json
from synthetic.gallery import Request
from synthetic.pipelines import Found, find_pipeline, import_diffusers, load_pipeline
from synthetic.prompts import Prompts, default_prompts, read_prompts

__all__ = ["DiffusionSource", "PRECISIONS", "SCHEDULERS", "open_diffusion"]


class DiffusionSource:
    """A loaded pipeline that draws `Request`\\ s; made by `open_diffusion`.

    Each image starts from noise of its own CPU generator. Batches have a fixed size and are filled up, so that an image
    does not depend on the others.

    Attributes
    ----------
    size, steps : int
    guidance : float
    batch_size : images at once; halved, and reported, when memory runs out.
    """

    name = "stable-diffusion"

    def __init__(
        self,
        pipeline: Any,
        prompts: Prompts,
        found: Found,
        *,
        size: int,
        steps: int,
        guidance: float,
        batch_size: int,
        facts: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.pipeline, self.prompts, self.found = pipeline, prompts, found
        self.size, self.steps, self.guidance, self.batch_size = size, steps, guidance, batch_size
        self.parts = prompts.classes
        self._facts, self._say = dict(facts), say
        self._versions = {
            "diffusers": version("diffusers"),
            "transformers": version("transformers"),
            "torch": torch.__version__,
        }
        self._takes = set(inspect.signature(pipeline.__call__).parameters)

    def __repr__(self) -> str:
        return f"DiffusionSource({self.found.model!r}, {self.size} px, {self.steps} steps, guidance {self.guidance:g})"

    def prompt(self, request: Request) -> str | None:
        """The prompt of one image."""
        return self.prompts.text(request.look, request.part, request.seed)

    def provenance(self) -> dict[str, str]:
        """Model, settings and versions; ``batch_size`` is that of the last draw."""
        return {
            "model": self.found.model,
            "revision": self.found.revision,
            "negative_prompt": self.prompts.negative_prompt,
            "scheduler": type(self.pipeline.scheduler).__name__,
            "steps": str(self.steps),
            "guidance": f"{self.guidance:g}",
            "size": str(self.size),
            **self._facts,
            "batch_size": str(self.batch_size),
            **self._versions,
        }

    def draw(self, requests: Sequence[Request]) -> np.ndarray:
        """Draw images, uint8 (n, size, size, 3), in the order of the requests.

        An image of one colour (a safety checker, an overflow) is returned as it is.

        Raises
        ------
        CausalFTError
            If memory does not suffice for one image, or the pipeline fails.
        """
        if not requests:
            return np.empty((0, self.size, self.size, 3), np.uint8)
        while True:
            batches = [
                requests[start : start + self.batch_size]
                for start in range(0, len(requests), self.batch_size)
            ]
            try:
                return np.concatenate([self._draw_batch(batch) for batch in batches])
            except CausalFTError:
                raise
            except Exception as error:  # the libraries' errors are many; all but memory end in one line
                if not _out_of_memory(error):
                    reason = " ".join(str(error).split())[:200] or type(error).__name__
                    raise CausalFTError(
                        f"{self.found.model} failed to draw {self.size} px: {reason}"
                    ) from error
            # Outside of the except block, where the error would keep the tensors alive.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self.batch_size == 1:
                raise CausalFTError(
                    f"no memory for one image of {self.size} px; use --attention-slicing on, --precision fp16, "
                    "a smaller --size or a smaller model"
                )
            self.batch_size //= 2
            self._say(
                f"no memory for the batch: {self.batch_size} images at once from here on (recorded with each: "
                "another batch size may change a grey level)"
            )

    def _draw_batch(self, requests: Sequence[Request]) -> np.ndarray:
        filled = [*requests, *[requests[-1]] * (self.batch_size - len(requests))]
        options: dict[str, Any] = {
            "prompt": [self.prompt(request) for request in filled],
            "generator": [torch.Generator("cpu").manual_seed(request.seed) for request in filled],
            "num_inference_steps": self.steps,
            "height": self.size,
            "width": self.size,
            "output_type": "np",
        }
        if "guidance_scale" in self._takes:
            options["guidance_scale"] = self.guidance
        if "negative_prompt" in self._takes and self.prompts.negative_prompt:
            options["negative_prompt"] = [self.prompts.negative_prompt] * len(filled)
        if "use_resolution_binning" in self._takes:
            options["use_resolution_binning"] = False
        with torch.inference_mode(), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
            images = np.asarray(self.pipeline(**options).images)
        if images.shape != (len(filled), self.size, self.size, 3):
            raise CausalFTError(
                f"{self.found.model} gave images of shape {images.shape[1:]} where {self.size} x {self.size} in "
                "colour was asked; choose a --size that it can draw"
            )
        finite = np.nan_to_num(images[: len(requests)].astype(np.float32), nan=0.0)
        return (finite.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )


SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "flow-euler": "FlowMatchEulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""Short name -> scheduler of diffusers; ``"auto"`` is the pipeline's own."""
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Name -> type of weights and activations; ``"auto"`` is fp16 on CUDA and fp32 elsewhere."""

_WORDS = re.compile(r"'s|[a-z]+|[0-9]|[^\sa-z0-9]+")  # as the tokenizer of the mini cuts text


def open_diffusion(
    model: str = "mini",
    *,
    prompts: Prompts | str | None = None,
    templates: Sequence[str] = (),
    negative_prompt: str | None = None,
    revision: str | None = None,
    model_config: str | None = None,
    size: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    scheduler: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | str = "auto",
    attention_slicing: str = "auto",
    safety_checker: bool = True,
    fetch: bool = True,
    say: Callable[[str], None] | None = None,
) -> DiffusionSource:
    """Load a text-to-image pipeline.

    Parameters
    ----------
    model : ``"mini"`` (embedded), a folder, a ``.safetensors`` file, or OWNER/NAME of the hub.
    prompts : `Prompts`, or a YAML file; those of the paper by default.
    templates : names of the templates in use, in place of the prompts' own choice.
    negative_prompt : in place of the prompts' own; ``""`` for none.
    revision : branch, tag or commit of a model of the hub.
    model_config : for one file, a folder or a model of the hub that describes its networks.
    size : side of the images in pixels; the model's own by default.
    steps, guidance : those of the pipeline by default, and for ``mini`` those it was measured with.
    scheduler : name in `SCHEDULERS`, a class of diffusers, or ``"auto"`` for the pipeline's own.
    precision : name in `PRECISIONS` or ``"auto"``.
    device : ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    batch_size : images at once, or ``"auto"``.
    attention_slicing : ``"on"`` (less memory, slower), ``"off"``, or ``"auto"``.
    safety_checker : whether the pipeline's safety checker runs, where it has one.
    fetch : whether the hub may be asked for what is not on this disk.
    say : called with news, such as a halved batch; printed on standard error by default.

    Raises
    ------
    CausalFTError
        For a model that is not there or does not fit, and for any setting out of range.

    References
    ----------
    Prompts: "Rethinking the Bias of Foundation Model under Long-tailed Distribution" (arXiv 2501.15955), A/B sets.
    """
    chosen = _prompts(prompts, templates, negative_prompt)
    if steps is not None:
        limits.STEPS.check(steps, "steps")
    if guidance is not None:
        limits.GUIDANCE.check(guidance, "guidance")
    if size is not None and size < 8:
        raise CausalFTError(f"size {size} is too small to show a part; use at least 8 pixels")
    if attention_slicing not in ("auto", "on", "off"):
        raise CausalFTError(f"--attention-slicing {attention_slicing}: use auto, on or off")
    if batch_size != "auto":
        limits.BATCH_SIZE.check(batch_size, "batch_size")
    where = _device(device)
    dtype = _precision(precision, where)
    found = find_pipeline(model, revision=revision, config=model_config, fetch=fetch)
    pipeline = load_pipeline(found, dtype=PRECISIONS[dtype], device=where, safety_checker=safety_checker)
    pipeline.set_progress_bar_config(disable=True)
    takes = inspect.signature(pipeline.__call__).parameters
    if "negative_prompt" not in takes and chosen.negative_prompt:
        if negative_prompt:
            raise CausalFTError(f"{model} ({type(pipeline).__name__}) takes no negative prompt")
        chosen = _prompts(chosen, (), "")
    card = _card(found)
    sampler = card.get("sampler", {})
    _check_prompts(pipeline, chosen, model, card.get("words"))
    if scheduler != "auto":
        pipeline.scheduler = _scheduler(pipeline, scheduler)
    side = size or _native_size(pipeline)
    sliced = attention_slicing == "on" or attention_slicing == "auto" and _little_memory(where)
    if sliced:
        pipeline.enable_attention_slicing()
    own_guidance = takes["guidance_scale"].default if "guidance_scale" in takes else 1.0
    checker = getattr(pipeline, "safety_checker", None) is not None
    return DiffusionSource(
        pipeline,
        chosen,
        found,
        size=side,
        steps=steps or int(sampler.get("steps") or _default(takes, "num_inference_steps", 30)),
        guidance=guidance if guidance is not None else float(sampler.get("guidance") or own_guidance),
        batch_size=batch_size if isinstance(batch_size, int) else _automatic_batch(where, side),
        facts={
            "precision": dtype,
            "device": where.type,
            "attention_slicing": "on" if sliced else "off",
            "safety_checker": "on" if checker else "off",
        },
        say=say or _print,
    )


def _print(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


def _default(parameters: Mapping[str, inspect.Parameter], name: str, otherwise: int) -> int:
    value = parameters[name].default if name in parameters else None
    return value if isinstance(value, int) and value > 0 else otherwise


def _prompts(prompts: Prompts | str | None, templates: Sequence[str], negative_prompt: str | None) -> Prompts:
    if isinstance(prompts, Prompts):
        chosen = prompts
    else:
        chosen = default_prompts() if prompts is None else read_prompts(prompts)
    if templates:
        chosen = chosen.using(templates)
    if negative_prompt is not None:
        chosen = Prompts(chosen.classes, chosen.templates, chosen.use, negative_prompt)
    return chosen


def _card(found: Found) -> dict[str, Any]:
    """Read the sampler and the vocabulary of a pipeline of `causalft zoo pretrain-diffusion`."""
    card = found.path / "card.json"
    known = read_json(card) if card.is_file() else {}
    return known if isinstance(known, dict) else {}


def _check_prompts(pipeline: Any, prompts: Prompts, model: str, words: Sequence[str] | None) -> None:
    """Refuse prompts that the model would cut, which loses the part, or words that it was not trained on."""
    tokenizer = getattr(pipeline, "tokenizer", None)
    limit = getattr(tokenizer, "model_max_length", None)
    texts = [
        prompts.using([template]).text(look, part)
        for template in prompts.use
        for look in prompts.classes
        for part in (0, 1)
    ]
    for text in [*texts, prompts.negative_prompt]:
        unknown = set(_WORDS.findall(text.lower())) - set(words) if words else set()
        if unknown:
            raise CausalFTError(
                f"{model} was not trained on {sorted(unknown)[0]!r} of the prompt {text!r}; a small model knows "
                "its own words only: use those of its prompts, or another --model"
            )
        if tokenizer is not None and limit is not None:
            tokens = tokenizer(text, truncation=False, verbose=False).input_ids
            if len(tokens) > limit:
                raise CausalFTError(
                    f"the prompt {text!r} has {len(tokens)} tokens, and {model} reads {limit}; make it shorter"
                )


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(limits.check_device(name))
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < max(torch.cuda.device_count(), 1),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise CausalFTError(f"--device {name}: not on this machine; use auto or cpu")
    return device


def _precision(name: str, device: torch.device) -> str:
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name not in PRECISIONS:
        raise CausalFTError(f"no precision {name!r}; {nearest(name, ['auto', *PRECISIONS])}")
    return name


def _scheduler(pipeline: Any, name: str) -> Any:
    """Return the scheduler of that name with the pipeline's configuration."""
    diffusers = import_diffusers()
    fitting = {kind.__name__ for kind in pipeline.scheduler.compatibles} | {type(pipeline.scheduler).__name__}
    class_name = SCHEDULERS.get(name, name)
    if class_name not in fitting:
        known = ["auto", *(short for short, long in SCHEDULERS.items() if long in fitting)]
        raise CausalFTError(
            f"no scheduler {name!r} for {type(pipeline).__name__}; {nearest(name, known)}"
            if getattr(diffusers, class_name, None) is None
            else f"scheduler {name!r} does not fit {type(pipeline).__name__}; use {', '.join(known)}"
        )
    return getattr(diffusers, class_name).from_config(pipeline.scheduler.config)


def _native_size(pipeline: Any) -> int:
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    sample = getattr(pipeline, "default_sample_size", None) or getattr(
        getattr(network, "config", None), "sample_size", None
    )
    if isinstance(sample, (list, tuple)):
        sample = sample[0]
    return int(sample * getattr(pipeline, "vae_scale_factor", 1)) if sample else 512


def _little_memory(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory < 8 * 2**30


def _automatic_batch(device: torch.device, size: int) -> int:
    """Return a batch size from device and image size alone, so that a machine always takes the same."""
    if device.type != "cuda":
        return 16 if size <= 64 else 4 if size <= 128 else 1
    gibibytes = torch.cuda.get_device_properties(device).total_memory / 2**30
    fits = max(1.0, (gibibytes - 4) / 1.5 * (512 / size) ** 2)
    return min(64, 2 ** int(np.log2(fits)))
