"""First answer: is my model confounded? The A/B experiment, its statistics and its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalft.runs.lazy import lazy_names

if TYPE_CHECKING:
    from causalft.confounding.verify import Verification, verify_confounder

__all__ = ["Verification", "verify_confounder"]

_HOMES = {
    "Verification": "causalft.confounding.verify",
    "verify_confounder": "causalft.confounding.verify",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
