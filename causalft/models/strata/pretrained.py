"""The zoo of real weights: models of open_clip and image-only backbones of timm, from a file, a cache or the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from causalft.errors import CausalFTError
from causalft.models.strata.stratum import Zoo
from causalft.models.weights.names import PRETRAINED, WeightName, resolve_name
from causalft.models.weights.store import WeightSource, WeightStore, check_sha256

if TYPE_CHECKING:
    import torch

    from causalft.models.strata.stratum import Stratum

__all__ = ["PretrainedZoo"]


class PretrainedZoo(Zoo):
    """Real weights: the three of the paper by name, any other of open_clip as ``ARCH/TAG``, of timm as ``timm:NAME``.

    Weights are looked for in ``weights``, then in the local folder (``causalft weights import``), then in the hub's
    cache; only when they are in none of them is the network asked.

    Parameters
    ----------
    weights : mapping of str to path, optional
        Local files for names (``--weights openclip=FILE.safetensors``).
    offline : bool
        Never ask the network.
    allow_pickle : bool
        Read the tensors, and nothing else, of a pickle.
    folder : path, optional
        The local folder; by default :func:`causalft.models.weights.store.weights_folder`.
    """

    label = "pretrained"

    def __init__(
        self,
        weights: Mapping[str, str | os.PathLike[str]] | None = None,
        *,
        offline: bool = False,
        allow_pickle: bool = False,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.weights = {name: Path(path).expanduser() for name, path in (weights or {}).items()}
        self.offline, self.allow_pickle = offline, allow_pickle
        self.source = WeightSource(WeightStore(folder), offline=offline, allow_pickle=allow_pickle)

    def names(self) -> list[str]:
        return list(PRETRAINED)

    def check(self, name: str) -> None:
        what = self.describe(name)
        if name in self.weights:
            _existing_file(name, self.weights[name])
        elif self.offline:
            self.source.weights(what)  # said before the first stratum is trained, not after the second

    def describe(self, name: str) -> WeightName:
        """Return what a name stands for; unknown ones raise a :class:`CausalFTError` with the nearest.

        Examples
        --------
        >>> PretrainedZoo().describe("clip").full_name
        'ViT-B-16-quickgelu/openai'
        """
        return resolve_name(name, has_file=name in self.weights or self.source.store.knows(name))

    def resolve(self, name: str) -> tuple[str, str]:
        """Return (architecture, tag) of a name.

        Examples
        --------
        >>> PretrainedZoo().resolve("openclip")
        ('ViT-B-16', 'laion2b_s34b_b88k')
        """
        what = self.describe(name)
        return what.architecture, what.tag

    def find(self, name: str) -> Path | None:
        """Return the file that a name loads if it is on this machine; the network is not asked."""
        what = self.describe(name)
        return self.weights[name] if name in self.weights else self.source.find(what)

    def load(self, name: str, *, device: torch.device | str = "cpu") -> Stratum:
        """Load a stratum.

        Raises
        ------
        CausalFTError
            For an unknown name; weights that are not here and may not or cannot be fetched; a hash that is not the
            expected one; a pickle that was not allowed; tensors of another architecture.
        """
        import torch

        from causalft.models.strata.stratum import Stratum
        from causalft.models.weights.build import build_open_clip, build_timm
        from causalft.models.weights.file import read_state_dict

        what = self.describe(name)
        file = self.weights[name] if name in self.weights else self.source.weights(what)
        _existing_file(name, file)
        with _about(f"weights of {name!r}: {file} has"):
            sha256 = check_sha256(file, what.url)
        with _about(f"weights of {name!r}: {file} is"):
            tensors = read_state_dict(file, allow_pickle=self.allow_pickle, instead=_safetensors_of(what))
        with _about(f"weights of {name!r}: {file} do not fit {what.architecture}:"):
            if what.library == "timm":
                built = build_timm(what, tensors)
            else:
                built = build_open_clip(what, tensors, self.source.text_files)
        return Stratum(
            name=name,
            zoo=self.label,
            model=built.model.eval().requires_grad_(False).to(device),
            geometry=built.geometry,
            image_size=built.image_size,
            mean=built.mean,
            std=built.std,
            tokenizer=built.tokenizer,
            sha256=sha256,
            source=f"{what.library} {what.full_name.removeprefix('timm:')}",
            device=torch.device(device),
            resize_mode=built.resize_mode,
            interpolation=built.interpolation,
        )


@contextmanager
def _about(subject: str) -> Iterator[None]:
    """Put the subject before what went wrong with it."""
    try:
        yield
    except CausalFTError as error:
        raise CausalFTError(f"{subject} {error}") from error


def _existing_file(name: str, file: Path) -> None:
    if file.is_dir():
        raise CausalFTError(f"weights of {name!r}: {file} is a folder; name the file in it")
    if not file.is_file():
        raise CausalFTError(f"weights of {name!r}: {file} does not exist")


def _safetensors_of(what: WeightName) -> str:
    """Where a name's weights are as safetensors."""
    if not what.safe_filenames:
        return ""
    return f"{what.repository}, {what.safe_filenames[0]} (`causalft weights fetch {what.name}`)"
