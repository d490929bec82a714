"""What a fit says of its unlabelled images: the entry ``semi`` of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.hidden import Unlabelled
from causalft.data.splits import Splits
from causalft.methods.estimators.member_prediction import MemberPrediction
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.semi.choices import METHODS
from causalft.methods.semi.law import UnlabelledLaw, estimate_law
from causalft.methods.semi.outliers import energy
from causalft.methods.semi.pseudo_labels import PseudoLabels
from causalft.methods.semi.settings import SemiSettings
from causalft.runs.documents import Document

__all__ = ["law_note", "laws_of_unlabelled", "semi_document"]

Floats = NDArray[np.floating]

MOST_OUTSIDE = 0.25
"""Share of the classes; a law that is followed lies outside in a tenth of them at most (docs/unlabelled-law.md)."""


def semi_document(
    settings: SemiSettings,
    splits: Splits,
    members: Mapping[str, Sequence[MemberPrediction]],
    unlabelled: Unlabelled | None,
    laws: Mapping[str, UnlabelledLaw],
) -> Document:
    """Return the entry of the first seed.

    Parameters
    ----------
    settings : SemiSettings
        With a method.
    splits : Splits
    members : mapping of str to sequence of MemberPrediction
        One per seed.
    unlabelled : Unlabelled, optional
    laws : mapping of str to UnlabelledLaw
        The label law of the unlabelled images by each stratum, and by the fusion under the name ``fused``.
    """
    record = METHODS[settings.method or ""]
    each = {name: labels for name, of in members.items() if (labels := of[0].pseudo_labels) is not None}
    used = {**record.settings, **settings.method_settings}
    document: Document = {
        "method": settings.method,
        "settings": {**used, "unlabeled_ratio": settings.unlabeled_ratio, "shared": settings.share_labels},
        "ours": record.ours,
        "source": record.source,
        "unlabelled": None,
        "pseudo_labels": [],
        "confidence": [],
        "strata": {},
        "reading": [],
    }
    if each:
        # Strata that share their pseudo-labels all hold the same counts.
        parts = list(each.values())[:1] if settings.share_labels else list(each.values())
        pooled = PseudoLabels.pooled(parts)
        document |= {
            "pseudo_labels": pooled.rows(),
            "confidence": pooled.confidence.tolist(),
            "reading": pooled.reading(splits.class_names, float(used.get("threshold", 0.95))),
            "strata": {
                name: {"pseudo_labels": labels.rows(), "believed_law": labels.prior[-1].tolist()}
                for name, labels in each.items()
            },
        }
    if unlabelled is not None and laws:
        document["unlabelled"] = {
            "left_out": dict(unlabelled.left_out),
            **laws["fused"].document,
            "by_stratum": {name: law.document for name, law in laws.items() if name != "fused"},
        }
    return document


def laws_of_unlabelled(
    splits: Splits,
    members: Mapping[str, Sequence[MemberPrediction]],
    seen: Mapping[str, Sequence[Any]],
    mixing: Mixing,
) -> dict[str, UnlabelledLaw]:
    """Return the label law of the unlabelled images by each stratum and by the fusion, under the name ``fused``.

    Images of unseen classes are told by the energy of the logits, for the fusion of their mean over strata.

    Parameters
    ----------
    splits : Splits
        Validation images calibrate; training images give the labelled law.
    members : mapping of str to sequence of MemberPrediction
    seen : mapping of str to sequence of (m, K) arrays
        Logits of the unlabelled images, one per seed; the first is used.
    mixing : Mixing
        Of the first seed.
    """
    labels, counts = splits.validation.labels, splits.train.class_counts
    tables = _tables(members, seen)
    energies = {name: (energy(of[0]), energy(of[1])) for name, of in tables.items()}
    of_mean = [energy(*(of[part] for of in tables.values())) for part in (0, 1)]
    energies["fused"] = (of_mean[0], of_mean[1])
    tables["fused"] = _fused(tables, mixing)
    return {
        name: estimate_law(validation, labels, unlabelled, counts, scores=energies[name])
        for name, (validation, unlabelled) in tables.items()
    }


def law_note(
    splits: Splits,
    members: Mapping[str, Sequence[MemberPrediction]],
    seen: Mapping[str, Sequence[Any]],
    mixing: Mixing,
    target: ArrayLike | None,
) -> str:
    """Say that unlabelled images do not follow the law that a strength was chosen for; empty if they may.

    Parameters
    ----------
    splits, members, seen, mixing
        As in :func:`laws_of_unlabelled`.
    target : (K,) array, optional
        That law, of sum 1; default: every class alike.
    """
    counts = splits.train.class_counts
    shares = np.full(len(counts), 1 / len(counts)) if target is None else np.asarray(target, dtype=float)
    validation, unlabelled = _fused(_tables(members, seen), mixing)
    law = estimate_law(validation, splits.validation.labels, unlabelled, counts)
    outside = float(np.mean((shares < law.ci95[:, 0]) | (shares > law.ci95[:, 1])))
    if outside <= MOST_OUTSIDE:
        return ""
    asked = "every class alike" if target is None else "the target law"
    return (
        f"the unlabelled images do not seem to follow {asked}: for {100 * outside:.0f} % of the classes its share lies "
        "outside the 95 % interval of the estimate, so the strength is for other images than these; give their law "
        "with --target-law, or leave --unlabeled out"
    )


def _tables(
    members: Mapping[str, Sequence[MemberPrediction]], seen: Mapping[str, Sequence[Any]]
) -> dict[str, tuple[Floats, Floats]]:
    """Logits of validation and unlabelled images by each stratum, of the first seed."""
    return {
        name: (np.asarray(of[0].validation_logits), np.asarray(seen[name][0])) for name, of in members.items()
    }


def _fused(tables: Mapping[str, tuple[Floats, Floats]], mixing: Mixing) -> tuple[Floats, Floats]:
    """Log-probabilities of the fusion, likewise."""
    validation, unlabelled = (
        np.log(np.maximum(mixing(np.stack([of[part] for of in tables.values()]), kind="logits"), _LEAST))
        for part in (0, 1)
    )
    return validation, unlabelled


_LEAST = 1e-30
