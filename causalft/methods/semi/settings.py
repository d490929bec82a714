"""Settings of a semi-supervised training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.semi.choices import METHODS, SemiMethod
from causalft.runs import limits
from causalft.runs.limits import Limits
from causalft.runs.settings import check_settings, documented, one_of, setting

__all__ = ["SEMI", "SemiSettings", "check_semi", "semi_tuning", "usual_rate"]

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
    method_setting: Mapping[str, Any] = setting(
        help="Setting of the method, such as mu=0. Repeatable.",
        factory=dict,
        group=SEMI,
        metavar="NAME=VALUE",
    )
    unlabeled_ratio: int = setting(
        1, "Unlabelled images per labelled one in a step.", group=SEMI, limits=limits.RATIO
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
        """Settings of the method that are given here.

        Raises
        ------
        CausalFTError
            For one that is no number, is out of range or given twice, or that the method does not have.

        Examples
        --------
        >>> SemiSettings(method="simpro", threshold=0.9, method_setting={"decay": "0.5"}).method_settings
        {'threshold': 0.9, 'decay': 0.5}
        """
        found: dict[str, float] = {} if self.threshold is None else {"threshold": self.threshold}
        for option, value in self.method_setting.items():
            name = option.replace("-", "_")
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise CausalFTError(f"{option} {value!r} is not a number; give one to the method") from None
            if name in found:
                raise CausalFTError(f"the {option} of the method is given twice; give it once")
            self.record.settings_with({name: number})
            whole = isinstance(self.record.settings[name], int)
            (limits.SHARE if name in self.record.shares else Limits(0, whole=whole)).check(number, option)
            found[name] = int(number) if whole else number
        return found

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
        causalft.errors.CausalFTError: threshold goes with a semi-supervised method; name one with method
        """
        check_settings(self)
        default = type(self)()
        given = [
            f"--{name.replace('_', '-')}"
            for name in _OF_METHODS
            if getattr(self, name) != getattr(default, name)
        ]
        if self.method is None:
            for option in given:
                raise CausalFTError(f"{option} goes with a semi-supervised method; name one with --method")
            return
        complete = self.record.settings_with(dict(self.method_settings))
        if self.record.refuse is not None:
            self.record.refuse(**complete)
        if not self.record.unlabelled:
            for option in given:
                raise CausalFTError(
                    f"the method {self.method} learns from labelled images alone; leave {option} out, or name another "
                    "with --method"
                )


_OF_METHODS = ("threshold", "method_setting", "unlabeled_ratio", "share_labels", "strong_magnitude")
"""Settings that have no effect without a method that learns from unlabelled images."""


def usual_rate(recipe: Tuning, settings: SemiSettings | None) -> Tuning:
    """Return the recipe of a zoo with the learning rate that a method takes where none is given.

    Examples
    --------
    >>> round(usual_rate(Tuning(lr=0.05), SemiSettings(method="fft")).lr, 4)
    0.003
    """
    if settings is None or settings.method not in METHODS:
        return recipe
    return replace(recipe, lr=recipe.lr * settings.record.rate)


def semi_tuning(tuning: Tuning, settings: SemiSettings) -> Tuning:
    """Return the tuning of a stratum that a method trains: its tuner, and the head that every method ends with.

    Raises
    ------
    CausalFTError
        For settings of the tuning that a method cannot follow.

    Examples
    --------
    >>> found = semi_tuning(Tuning(), SemiSettings(method="lp-fixmatch"))
    >>> found.tuner, found.head
    ('linear-probe', 'l2')
    """
    record, default = settings.record, Tuning()
    if tuning.head not in (default.head, "l2"):
        raise CausalFTError(f"the method {record.name} has heads of its own; leave --head {tuning.head} out")
    if tuning.loss not in ("LA", "CE"):
        raise CausalFTError(
            f"a semi-supervised method learns labelled images by LA or CE; leave --loss {tuning.loss} out"
        )
    if record.adjusts and tuning.loss != "LA":
        raise CausalFTError(
            f"the method {record.name} has its own remedy for the long tail; leave --loss {tuning.loss} out"
        )
    if record.unlabelled and tuning.loss_setting:
        raise CausalFTError(
            f"the method {record.name} learns labelled images by {tuning.loss} without settings; leave "
            "--loss-setting out"
        )
    if tuning.sampler != "uniform":
        raise CausalFTError(
            f"a semi-supervised method draws labelled images uniformly; leave --sampler {tuning.sampler} out"
        )
    if tuning.wise_ft < 1:
        raise CausalFTError(
            f"the method {record.name} ends with new heads; leave --wise-ft {tuning.wise_ft:g} out"
        )
    if tuning.trains_nothing:
        raise CausalFTError(
            f"the tuner zero-shot trains nothing, so the method {record.name} learns nothing; use linear-probe"
        )
    if record.tuner and tuning.tuner not in (default.tuner, record.tuner):
        free = [name for name, other in METHODS.items() if other.make == record.make and not other.tuner]
        instead = f"take --method {free[0]}" if free else "leave --method out"
        raise CausalFTError(
            f"the method {record.name} stands for the tuner {record.tuner}; leave --tuner {tuning.tuner} out, or "
            f"{instead}"
        )
    tuned = replace(tuning, tuner=record.tuner or tuning.tuner)
    return replace(tuned, head="l2") if record.unlabelled else tuned


def check_semi(settings: SemiSettings | None, *, joint: bool = False, gla: bool = False) -> None:
    """Check the settings of a method, and refuse what it cannot be combined with.

    Raises
    ------
    CausalFTError

    Examples
    --------
    >>> check_semi(SemiSettings(method="fixmatch"), gla=True)
    Traceback (most recent call last):
    ...
    causalft.errors.CausalFTError: gla=True does not go with the method fixmatch; leave one of them out
    """
    if settings is None:
        return
    settings.check()
    if settings.method is None:
        return
    for option, given in (("--gla", gla), ("--joint", joint)):
        if given:
            also = "; strata learn together with --share-labels" if option == "--joint" else ""
            raise CausalFTError(
                f"{option} does not go with the method {settings.method}; leave one of them out{also}"
            )
