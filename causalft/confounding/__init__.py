"""First answer: is my model confounded? The A/B experiment, its statistics and its verdict."""

from __future__ import annotations

from causalft.confounding.verify import Verification, verify_confounder

__all__ = ["Verification", "verify_confounder"]
