"""Which model a member of a fusion is: a stratum, a further pre-training of it, or a further tuning of one of these."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MemberName"]

_FORM = re.compile(r"(?P<stratum>.+?)(?:@(?P<pretraining>[1-9]\d*))?(?:#(?P<tuning>[1-9]\d*))?")


@dataclass(frozen=True)
class MemberName:
    """The identity of one member, written ``clip``, ``clip@1`` (pre-trained again) or ``clip#1`` (tuned again).

    Attributes
    ----------
    stratum : str
        Name in the zoo of the first pre-training.
    pretraining : int
        Number of the further pre-training; 0 is the first.
    tuning : int
        Number of the further tuning of the same weights; 0 is the first.

    Examples
    --------
    >>> MemberName.parse("clip@2"), str(MemberName("clip", tuning=1)), MemberName("clip", 2, 1).weights
    (MemberName(stratum='clip', pretraining=2, tuning=0), 'clip#1', 'clip@2')
    """

    stratum: str
    pretraining: int = 0
    tuning: int = 0

    @classmethod
    def parse(cls, text: str) -> MemberName:
        """Read what `str` gives; any other name is a stratum."""
        found = _FORM.fullmatch(text)
        if found is None:
            return cls(text)
        return cls(found["stratum"], int(found["pretraining"] or 0), int(found["tuning"] or 0))

    def __str__(self) -> str:
        return self.weights + (f"#{self.tuning}" if self.tuning else "")

    @property
    def weights(self) -> str:
        """Name of the weights in the zoo, the same for every tuning."""
        return self.stratum + (f"@{self.pretraining}" if self.pretraining else "")

    def tuning_seed(self, first: int) -> int:
        """Seed of this tuning, where the first one has the seed ``first``."""
        return first + 1000 * self.tuning
