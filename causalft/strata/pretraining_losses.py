"""How each stratum of a finished run was pre-trained, also of a run from before that was kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalft.errors import CausalFTError

__all__ = ["pretraining_losses"]


def pretraining_losses(metrics: Mapping[str, Any], zoo: str | None = None) -> dict[str, str]:
    """Return stratum to pre-training loss, as :func:`causalft.priors.prior_caveats` takes them.

    A document that does not say it is asked for its zoo: the card of a mini of the same weights says it.

    Parameters
    ----------
    metrics : mapping
        ``metrics.json`` of a ``fit`` run.
    zoo : str, optional
        Where the minis are now; by default the place that the document names.

    Examples
    --------
    >>> pretraining_losses({"strata": {"a": {"pretraining_loss": "in-batch"}, "b": {}}})
    {'a': 'in-batch', 'b': 'unknown'}
    """
    place = zoo or metrics.get("zoo")
    return {
        name: stratum.get("pretraining_loss") or _of_card(place, name, metrics.get("weights", {}).get(name))
        for name, stratum in metrics["strata"].items()
    }


def _of_card(zoo: str | None, name: str, sha256: str | None) -> str:
    if zoo in (None, "pretrained") or sha256 is None:
        return "unknown"
    from causalft.strata.zoo import MiniZoo, open_zoo  # loads torch, and few documents need it

    assert zoo is not None
    try:
        opened = open_zoo(zoo)
        card = opened.card(name) if isinstance(opened, MiniZoo) else None
    except CausalFTError:  # the zoo or its member is gone
        return "unknown"
    return card.loss if card is not None and card.sha256 == sha256 else "unknown"
