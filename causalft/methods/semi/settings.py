"""Settings of a semi-supervised training."""

from __future__ import annotations

from dataclasses import dataclass

from causalft.errors import CausalFTError
from causalft.methods.semi.choices import METHODS, SemiMethod
from causalft.runs import limits
from causalft.runs.settings import check_settings, documented, one_of, setting

__all__ = ["SEMI", "SemiSettings"]

SEMI = "Unlabelled images"
"""Heading in ``--help``."""


@documented()
@dataclass(frozen=True)
class SemiSettings:
    """How unlabelled images are learnt from.

    Attributes
    ----------
    {settings}
    """

    method: str | None = setting(
        None,
        f"Semi-supervised method, which learns from --unlabeled: {one_of(METHODS)}.",
        group=SEMI,
        metavar="NAME",
        choices=METHODS,
    )
    threshold: float | None = setting(
        None,
        "Least confidence of a pseudo-label.",
        group=SEMI,
        usual="that of the method",
        limits=limits.SHARE,
    )
    unlabeled_ratio: int = setting(
        2, "Unlabelled images per labelled one in a step.", group=SEMI, limits=limits.RATIO
    )
    share_labels: bool = setting(
        False,
        "The strata learn together, and the mean of their probabilities makes the pseudo-labels of all.",
        group=SEMI,
    )
    strong_magnitude: int = setting(
        10, "Strength of the strong view (RandAugment), 0 to 30.", group=SEMI, limits=limits.MAGNITUDE
    )

    @property
    def record(self) -> SemiMethod:
        """The method."""
        assert self.method is not None
        return METHODS.get_or_refuse(self.method)

    @property
    def method_settings(self) -> dict[str, float]:
        """Settings of the method that are given here."""
        return {} if self.threshold is None else {"threshold": self.threshold}

    def check(self) -> None:
        """Check names and numbers.

        Raises
        ------
        CausalFTError
            For an unknown method, a number out of range, a threshold that the method does not have, or a setting
            without a method.

        Examples
        --------
        >>> SemiSettings(threshold=0.7).check()
        Traceback (most recent call last):
        ...
        causalft.errors.CausalFTError: --threshold goes with a semi-supervised method; name one with --method
        """
        check_settings(self)
        if self.method is not None:
            self.record.settings_with(dict(self.method_settings))
            return
        for name, option in (("threshold", "--threshold"), ("share_labels", "--share-labels")):
            if getattr(self, name) != getattr(type(self), name):
                raise CausalFTError(f"{option} goes with a semi-supervised method; name one with --method")
