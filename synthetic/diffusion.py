"""Draws pictures with a text-to-image pipeline of diffusers, one seed a picture, in batches of a fixed size."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from causalft.errors import CausalFTError
from synthetic.pipelines import Found
from synthetic.prompts import Prompts
from synthetic.request import Request

__all__ = ["DiffusionSource"]


class DiffusionSource:
    """A loaded pipeline that draws `Request`\\ s; made by `synthetic.open_diffusion.open_diffusion`.

    Every picture starts from noise of its own generator, on the CPU. Batches have one fixed size, and the last is
    filled up, so that a picture does not depend on its neighbours.

    Attributes
    ----------
    size, steps : int
    guidance : float
    batch_size : pictures at once; halved, and said, when memory runs out.
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
        """The prompt of one picture."""
        return self.prompts.text(request.look, request.part, request.seed)

    def provenance(self) -> dict[str, str]:
        """Model, settings and versions; ``batch_size`` is the one of the last draw."""
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
        """Draw pictures, uint8 (n, size, size, 3), in the order of the requests.

        A picture of one colour is what a safety checker or an overflow leaves; whoever asks must ask again.

        Raises
        ------
        CausalFTError
            If memory does not suffice for one picture, or the pipeline fails.
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
            # Outside of the except block: the error holds the frames, and these the tensors.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self.batch_size == 1:
                raise CausalFTError(
                    f"no memory for one picture of {self.size} px; use --attention-slicing on, --precision fp16, "
                    "a smaller --size or a smaller model"
                )
            self.batch_size //= 2
            self._say(
                f"no memory for the batch: {self.batch_size} pictures at once from here on (recorded with each: "
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
                f"{self.found.model} gave pictures of shape {images.shape[1:]} where {self.size} x {self.size} in "
                "colour was asked; choose a --size that it can draw"
            )
        finite = np.nan_to_num(images[: len(requests)].astype(np.float32), nan=0.0)
        return (finite.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )
