"""Claims of the paper and objections of its reviewers: each is judged by one number of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from causalft.errors import CausalFTError

__all__ = ["INSIGNIFICANT", "Claim", "Judged", "Verdict", "judge", "judge_number", "value_at"]

Verdict = Literal["supported", "contradicted", "open"]

INSIGNIFICANT = "not significant after Holm's correction"


@dataclass(frozen=True)
class Claim:
    """A sentence that a number supports, contradicts or leaves open.

    Attributes
    ----------
    text : str
        What is claimed.
    at : str
        Where ``metrics.json`` holds ``{estimate, ci95}``: keys with a slash between them, such as ``paired/gain``.
    above, below : float, optional
        Claimed bound, as a fraction.
    within, beyond : float, optional
        Claimed bound of the absolute value, which lies below or above it.
    closed : float, optional
        Claimed bound of a gap that is closed: its interval lies within it both ways, or holds 0 and ends below it. One
        that is overshot is not closed.
    section : str
        Of the paper: ``Fig. 2``, ``Tab. 8``, ``Sec. 3``. Else the subject: ``ULFine``.
    objection : int, optional
        Number of the objection that it answers instead; ``text`` is then what its answer claims.
    unit : {"points", ""}
        The number is shown times 100, or as it is: a rank correlation, a count.

    A claim is supported if the 95 % interval lies on its side of the bound, contradicted if it lies on the other one,
    and open otherwise. Where ``p_holm`` is given, an interval away from 0 must also have ``p_holm`` below 0.05.
    """

    text: str
    at: str
    above: float | None = None
    below: float | None = None
    within: float | None = None
    beyond: float | None = None
    closed: float | None = None
    section: str = ""
    objection: int | None = None
    unit: Literal["points", ""] = "points"

    def __post_init__(self) -> None:
        if len(self._bounds) != 1:
            raise CausalFTError(
                f"the claim {self.text!r} needs one of above, below, within, beyond and closed"
            )

    @property
    def of(self) -> Literal["paper", "further"]:
        """Whether the paper claims it, by its section; answers to objections are further."""
        return "paper" if self.section.startswith(("Fig.", "Tab.", "Sec.")) else "further"

    @property
    def _bounds(self) -> list[float]:
        bounds = (self.above, self.below, self.within, self.beyond, self.closed)
        return [bound for bound in bounds if bound is not None]

    @property
    def bound(self) -> float:
        """The one that is claimed."""
        return self._bounds[0]


@dataclass(frozen=True)
class Judged:
    """A claim with the number that decided.

    Attributes
    ----------
    claim : Claim
    verdict : {"supported", "contradicted", "open"}
    numbers : dict
        ``{estimate, ci95, p, p_holm}`` as far as they are there; empty if the number is missing.
    why : str
        Why it is open.
    """

    claim: Claim
    verdict: Verdict
    numbers: dict[str, Any]
    why: str = ""


def value_at(metrics: Mapping[str, Any], at: str) -> Any:
    """What ``metrics`` holds at keys with a slash between them; None if it does not.

    Examples
    --------
    >>> value_at({"paired": {"gain": {"estimate": 0.1}}}, "paired/gain")
    {'estimate': 0.1}
    """
    found: Any = metrics
    for key in at.split("/"):
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def judge(claim: Claim, metrics: Mapping[str, Any]) -> Judged:
    """Judge a claim by the metrics of its experiment.

    Examples
    --------
    >>> metrics = {"paired": {"gain": {"estimate": 0.02, "ci95": [0.01, 0.03]}}}
    >>> judge(Claim("it gains", "paired/gain", above=0.0), metrics).verdict
    'supported'
    >>> judge(Claim("it gains 5 points", "paired/gain", above=0.05), metrics).verdict
    'contradicted'
    """
    found = value_at(metrics, claim.at)
    if not isinstance(found, Mapping) or found.get("estimate") is None:
        return Judged(claim, "open", {}, f"the run has no number {claim.at!r}")
    return judge_number(claim, found)


def judge_number(claim: Claim, found: Mapping[str, Any]) -> Judged:
    """Judge a claim by its number, ``{estimate, ci95, p_holm}``.

    Examples
    --------
    >>> judge_number(Claim("a gap remains", "gap", beyond=0.0), {"estimate": 0.1, "ci95": [-0.1, 0.3]}).why
    'the interval includes 0'
    """
    numbers = {key: found[key] for key in ("estimate", "ci95", "p", "p_holm") if found.get(key) is not None}
    if found.get("ci95") is None or None in found["ci95"]:
        return Judged(claim, "open", numbers, f"no interval: {found.get('reason', 'one repetition')}")
    low, high = found["ci95"]
    bound, of_size = claim.bound, claim.above is None and claim.below is None
    if of_size:
        inside, outside = -bound < low and high < bound, low > bound or high < -bound
        if claim.closed is not None:
            inside = inside or low <= 0 <= high < bound
        verdict = _side(outside, inside) if claim.beyond is not None else _side(inside, outside)
    else:
        above, below = low > bound, high < bound
        verdict = _side(above, below) if claim.above is not None else _side(below, above)
    if verdict == "open":
        shown = f"{100 * bound:g}" if claim.unit == "points" else f"{bound:g}"
        return Judged(
            claim,
            "open",
            numbers,
            f"the interval includes {shown}" + (f" or -{shown}" if of_size and bound else ""),
        )
    if bound == 0.0 and numbers.get("p_holm", 0.0) >= 0.05:
        return Judged(claim, "open", numbers, INSIGNIFICANT)
    return Judged(claim, verdict, numbers)


def _side(supported: bool, contradicted: bool) -> Verdict:
    return "supported" if supported else "contradicted" if contradicted else "open"
