"""Arms: models in a table's row. The controls that reviewers asked for are declared here once, for every study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError, nearest
from experiments.frame.members import Member

if TYPE_CHECKING:
    from experiments.frame.scales import Roles

__all__ = [
    "Arm",
    "Model",
    "best_single",
    "ce_strata",
    "fused",
    "known_prior_gla",
    "larger",
    "longer",
    "oracle_single",
    "placebo_prior",
    "seeds_of_one",
    "shuffled",
    "singles",
]


STRATUM_PRIORS = ("uniform", "em", "placebo")


@dataclass(frozen=True)
class Model:
    """Members that answer together.

    Attributes
    ----------
    members : tuple of Member
    view : str
        What of a member answers: one of :data:`experiments.frame.answers.VIEWS`.
    rule : str
        How several members answer: a fusion, or one of :data:`experiments.frame.answers.RULES` or
        :data:`experiments.frame.adjusting.ADJUSTING`.
    stratum_prior : {"uniform", "em", "placebo"}
        P(c) of a fusion. The placebo gives each stratum the estimated weight of the next.
    """

    members: tuple[Member, ...]
    view: str = "tuned"
    rule: str = "mixture"
    stratum_prior: str = "uniform"

    def __post_init__(self) -> None:
        if self.stratum_prior not in STRATUM_PRIORS:
            raise CausalFTError(
                f"no P(c) of a model is named {self.stratum_prior!r}; {nearest(self.stratum_prior, STRATUM_PRIORS)}"
            )


@dataclass(frozen=True)
class Arm:
    """A row of a table: one model, or several whose measures are averaged.

    Attributes
    ----------
    name : str
    models : tuple of Model
        Empty where the scale lacks what the arm needs.
    lacks : str
        What it lacks, then.
    """

    name: str
    models: tuple[Model, ...]
    lacks: str = ""


def _changes(changes: dict[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`Member`: its own fields, and the rest as changes of the tuning."""
    own: dict[str, Any] = {
        key: changes.pop(key)
        for key in ("loss", "epochs", "recipe", "draw", "method", "method_settings")
        if key in changes
    }
    return {**own, "changes": tuple(sorted(changes.items()))}


def singles(name: str, roles: Roles, *, view: str = "tuned", of: str = "strata", **changes: Any) -> Arm:
    """Each member by itself; measures are averaged over them.

    Parameters
    ----------
    name : str
    roles : Roles
    view : str
    of : {"strata", "seeds", "first"}
        The strata, the seeds of one model with one prior, or the first stratum alone.
    **changes
        ``loss``, ``epochs``, ``recipe``, ``draw``, ``method``, ``method_settings`` of :class:`Member`, and fields of
        ``Tuning``.
    """
    made = _changes(changes)
    return Arm(name, tuple(Model((Member(each, **made),), view=view) for each in roles.members(of)))


def fused(
    name: str,
    roles: Roles,
    rule: str = "mixture",
    *,
    view: str = "tuned",
    of: str = "strata",
    stratum_prior: str = "uniform",
    m: int | None = None,
    **changes: Any,
) -> Arm:
    """The members fused; with ``m``, every subset of m of them."""
    made = _changes(changes)
    members = tuple(Member(each, **made) for each in roles.members(of))
    subsets = combinations(members, m or len(members))
    return Arm(name, tuple(Model(subset, view, rule, stratum_prior) for subset in subsets))


def seeds_of_one(name: str, roles: Roles, rule: str = "mixture", **options: Any) -> Arm:
    """Control: as many seeds of one model, with one pre-training prior; an ordinary ensemble."""
    return fused(name, roles, rule, of="seeds", **options)


def ce_strata(name: str, roles: Roles, rule: str = "logit") -> Arm:
    """Control: strata tuned with cross-entropy, averaged."""
    return fused(name, roles, rule, loss="CE")


def best_single(name: str, roles: Roles, **changes: Any) -> Arm:
    """Control: the single stratum that is best on validation images."""
    return fused(name, roles, "best on validation", **changes)


def oracle_single(name: str, roles: Roles, **changes: Any) -> Arm:
    """The single stratum that is best on TEST images: no method, an upper bound."""
    return fused(name, roles, "best on test", **changes)


def longer(name: str, roles: Roles, **changes: Any) -> Arm:
    """Control: the first stratum trained M times as long."""
    return singles(name, roles, of="first", epochs=float(len(roles.strata)), **changes)


def larger(name: str, roles: Roles, **changes: Any) -> Arm:
    """Control: a single model about as large as all strata together, with the prior of the first."""
    if roles.larger is None:
        return Arm(name, (), lacks=f"no larger model than the strata ({roles.why_no_larger})")
    made = _changes(changes)
    return Arm(name, (Model((Member(roles.larger, **made),)),))


def placebo_prior(name: str, roles: Roles, **changes: Any) -> Arm:
    """Placebo: each stratum gets the estimated P(c) of the next one."""
    return fused(name, roles, stratum_prior="placebo", **changes)


def shuffled(name: str, roles: Roles, **changes: Any) -> Arm:
    """Placebo: for each image, M strata drawn with replacement, so that the fusion does not run over all c."""
    return fused(name, roles, "shuffled", **changes)


def known_prior_gla(name: str, roles: Roles, rule: str | None = "mixture") -> Arm:
    """GLA-FT with the known label prior in place of the estimated one, fused; single strata without a rule."""
    if not roles.knows_priors:
        return Arm(name, (), lacks="the label priors of these models are not known")
    view = "GLA-FT, known prior"
    return singles(name, roles, view=view) if rule is None else fused(name, roles, rule, view=view)


def members_of(arms: Sequence[Arm]) -> list[Member]:
    """The members of all arms, each once."""
    return list(dict.fromkeys(m for arm in arms for model in arm.models for m in model.members))
