"""What a zoo is: names, and a frozen stratum for each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from causalft.errors import CausalFTError, nearest

if TYPE_CHECKING:
    import torch

    from causalft.strata.stratum import Stratum

__all__ = ["Zoo", "check_strata"]


class Zoo(ABC):
    """A set of named strata.

    Attributes
    ----------
    label : str
        What headers and ``metrics.json`` call it.
    """

    label: str

    @abstractmethod
    def names(self) -> list[str]:
        """Names that can be loaded without further options."""

    @abstractmethod
    def load(self, name: str, *, device: torch.device | str = "cpu") -> Stratum:
        """Load a stratum; an unknown name or wrong weights raise a :class:`CausalFTError`."""

    def check(self, name: str) -> None:
        """Raise a :class:`CausalFTError` with the nearest names if there is no stratum of that name."""
        if name not in self.names():
            raise CausalFTError(f"zoo {self.label!r} has no stratum {name!r}; {nearest(name, self.names())}")


def check_strata(strata: Sequence[str], zoo: Zoo) -> None:
    """Refuse strata that are none or named twice, are not in the zoo, or weights that are of no stratum.

    Raises
    ------
    CausalFTError
    """
    if not strata:
        raise CausalFTError("no stratum given; name at least one, as in --strata clip,openclip,metaclip")
    if len(set(strata)) != len(strata):
        raise CausalFTError(f"a stratum is named twice in {', '.join(strata)}")
    for name in strata:
        zoo.check(name)
    unused = [name for name in getattr(zoo, "weights", ()) if name not in strata]
    if unused:
        raise CausalFTError(
            f"weights are given for {unused[0]!r}, which is no stratum here; {nearest(unused[0], strata)}"
        )
