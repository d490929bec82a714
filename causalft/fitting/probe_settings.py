"""What decides ``causalft probe``: neighbours, losses and heads beside the settings of ``fit``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from causalft.errors import CausalFTError, nearest
from causalft.fitting.settings import FitSettings
from causalft.models.tuning.names import HEADS, optimum_of
from causalft.runs import limits

__all__ = ["ProbeSettings", "config_of"]


@dataclass(frozen=True)
class ProbeSettings:
    """Everything that decides what ``probe`` does.

    Attributes
    ----------
    fit : FitSettings
        Strata, zoo and data, as in ``fit``; of its tuning: epochs, batch size, learning rate, head scale and template.
        ``seed`` draws the long tail, and the heads are trained with the seeds ``seed, seed + 1, ...``.
    k : tuple of int
        Numbers of neighbours, none above that of the training images; one is chosen on validation.
    losses, heads : tuple of str
        None of ``losses``: no head is trained.
    """

    fit: FitSettings = field(default_factory=FitSettings)
    k: tuple[int, ...] = (1, 5, 20)
    losses: tuple[str, ...] = ("CE", "LA")
    heads: tuple[str, ...] = ("cosine",)

    def absolute(self) -> ProbeSettings:
        """The same with absolute paths: it is repeatable from anywhere."""
        return replace(self, fit=self.fit.absolute())

    def check(self) -> None:
        """Refuse what has no meaning, before anything is loaded.

        Raises
        ------
        CausalFTError
        """
        for number in self.k:
            limits.NEIGHBOURS.check(number, "the number of neighbours")
        if not self.k or len(set(self.k)) < len(self.k):
            raise CausalFTError(
                f"neighbours {', '.join(map(str, self.k)) or '(none)'}: give numbers of 1 or more, each once"
            )
        if not self.fit.strata or len(set(self.fit.strata)) < len(self.fit.strata):
            raise CausalFTError("name at least one stratum, and each once")
        self.fit.check()
        for loss in self.losses:
            optimum_of(loss)  # refuses an unknown name
        for head in self.heads:
            if head not in HEADS:
                raise CausalFTError(f"no head is named {head!r}; {nearest(head, HEADS)}")
        for what, names in (("loss", self.losses), ("head", self.heads)):
            if len(set(names)) < len(names):
                raise CausalFTError(f"a {what} is named twice in {', '.join(names)}")
        self.fit.tuning.check()


def config_of(settings: ProbeSettings) -> dict[str, Any]:
    """Everything needed to repeat it, for ``config.json``."""
    fit = asdict(settings.fit)
    names = ("fusion", "stratum_prior", "calibrate_strata", "control", "control_of", "tensorboard")
    for unused in names:
        fit.pop(unused, None)
    return {
        **fit,
        "zoo": settings.fit.zoo_name,
        "k": settings.k,
        "losses": settings.losses,
        "heads": settings.heads,
    }
