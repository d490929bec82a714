"""How unlabelled images of unseen classes are told from known ones; the figures of docs/unlabelled-law.md.

    python bench/unseen_classes.py MEMBERS [DRAWS]

MEMBERS holds a folder per tuned stratum of the built-in set, as for `unlabelled_law.py`. Unseen classes are creatures
whose head, body and tail are all known, in one of the 3,315 combinations that no class has; images of pure noise stand
beside them. First comes the AUC of scores (a known image is above an unseen one), then how often find_outliers finds a
share of them in draws of 600 validation and about 900 known unlabelled images (the largest class has 50, imbalance 20,
laws consistent). Half an hour on one core at 10 draws.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import rankdata

from causalft.data.image_set import ImageSet
from causalft.data.protocol import labelled_counts, unlabelled_counts
from causalft.methods.adaptation.settings import default_tuning
from causalft.methods.adaptation.tuned import load_tuned, tuning_as_saved
from causalft.methods.estimators.strata import logits_without_labels
from causalft.methods.semi.law import estimate_law
from causalft.methods.semi.outliers import Outliers, confidence, energy
from causalft.models.strata.zoo import open_zoo
from synthetic.creatures import (
    CLASS_NAMES,
    FACTORS,
    N_CLASSES,
    N_TYPES,
    factor_law,
    part_table,
    render_creatures,
)

STRATA = ("clip", "openclip", "metaclip")
GAMMA, N_1, M_1, N_VALIDATION, N_NEW = 20.0, 50, 50, 10, 1500
ROWS = (("unseen", 0.0), ("unseen", 0.3), ("unseen", 0.5), ("noise", 0.05), ("noise", 0.1), ("noise", 0.3))

Floats = NDArray[np.float64]
Logits = dict[str, Floats]


def images() -> tuple[dict[str, ImageSet], NDArray[np.int64]]:
    """Known images (60 of each class), unseen ones and noise; the classes of the known ones."""
    table, rng = part_table(), np.random.default_rng(5)
    there = {tuple(row) for row in table.tolist()}
    every = np.indices((N_TYPES,) * 3).reshape(3, -1).T
    new = np.array([row for row in every.tolist() if tuple(row) not in there])
    labels = np.repeat(np.arange(N_CLASSES), N_VALIDATION + M_1)
    parts = {"known": table[labels], "unseen": new[rng.integers(len(new), size=N_NEW)]}
    found = {}
    for number, (name, of) in enumerate(parts.items()):
        factors = rng.choice(len(FACTORS), size=len(of), p=factor_law("uniform"))
        pixels = render_creatures(of, factors, size=40, seed=9_300_001 + number)
        found[name] = ImageSet.from_arrays(pixels, np.zeros(len(of), int), ["creature"])
    noise = rng.integers(0, 256, (N_NEW, 40, 40, 3)).astype(np.uint8)
    return {**found, "noise": ImageSet.from_arrays(noise, np.zeros(N_NEW, int), ["noise"])}, labels


def scored(members: Path, sets: dict[str, ImageSet]) -> dict[str, Logits]:
    """Logits by set and stratum."""
    zoo, found = open_zoo("mini"), {name: {} for name in sets}  # type: dict[str, Logits]
    for stratum in STRATA:
        (folder,) = members.glob(f"{stratum}-LA-seed0-*")
        tuning = tuning_as_saved(folder, default_tuning("mini"))
        tuned = load_tuned(zoo.load(stratum), folder, list(CLASS_NAMES), tuning)
        for name, of in sets.items():
            found[name][stratum] = np.asarray(logits_without_labels(tuned, of), dtype=float)
    return found


def auc(known: Floats, other: Floats) -> float:
    """Probability that a known image has the higher score."""
    ranks = rankdata(np.concatenate([known, other]))[: len(known)]
    return float((ranks.sum() - len(known) * (len(known) + 1) / 2) / (len(known) * len(other)))


def fused(logits: Logits) -> Floats:
    """Log of the mean of the strata's probabilities."""
    found: Floats = np.log(np.mean([softmax(each, axis=1) for each in logits.values()], axis=0) + 1e-30)
    return found


def one_draw(
    found: dict[str, Logits], labels: NDArray[np.int64], kind: str, share: float, seed: int
) -> tuple[dict[str, Outliers], NDArray[np.bool_]]:
    """Evidence by the first stratum and by all, and which unlabelled images are new."""
    rng = np.random.default_rng(seed)
    rank = rng.permutation(N_CLASSES)
    counts, labelled = np.empty(N_CLASSES, int), np.empty(N_CLASSES, int)
    counts[rank] = unlabelled_counts(N_CLASSES, M_1, GAMMA, "consistent")
    labelled[rank] = labelled_counts(N_CLASSES, N_1, GAMMA)
    drawn = [rng.permutation(np.flatnonzero(labels == k)) for k in range(N_CLASSES)]
    seen = np.concatenate([rows[:N_VALIDATION] for rows in drawn])
    beside = np.concatenate([rows[N_VALIDATION:][:n] for rows, n in zip(drawn, counts, strict=True)])
    new = rng.permutation(N_NEW)[: round(len(beside) * share / (1 - share))]
    known = {name: of[seen] for name, of in found["known"].items()}
    other = {
        name: np.concatenate([of[beside], found[kind][name][new]]) for name, of in found["known"].items()
    }
    evidence = {}
    for name in ("fused", STRATA[0]):
        chosen = STRATA if name == "fused" else STRATA[:1]
        tables = [fused({each: of[each] for each in chosen}) for of in (known, other)]
        scores = tuple(energy(*(of[each] for each in chosen)) for of in (known, other))
        law = estimate_law(tables[0], labels[seen], tables[1], labelled, scores=(scores[0], scores[1]))
        evidence[name] = law.outliers
    return evidence, np.arange(len(beside) + len(new)) >= len(beside)


def main(members: Path, draws: int) -> None:
    torch.set_num_threads(1)
    sets, labels = images()
    found = scored(members, sets)
    right = {stratum: (found["known"][stratum].argmax(axis=1) == labels).mean() for stratum in STRATA}
    print("accuracy", *(f"{stratum} {100 * value:.0f} %" for stratum, value in right.items()))
    scores = {
        "confidence of clip": lambda of: confidence(of["clip"]),
        "energy of clip": lambda of: energy(of["clip"]),
        "confidence of the fusion": lambda of: confidence(fused(of)),
        "energy of the mean logits": lambda of: energy(*of.values()),
    }
    for name, score in scores.items():
        values = [auc(score(found["known"]), score(found[kind])) for kind in ("unseen", "noise")]
        print(f"{name:26}  AUC unseen {values[0]:.3f}  noise {values[1]:.3f}", flush=True)
    for kind, share in ROWS:
        made = [one_draw(found, labels, kind, share, draw) for draw in range(draws if share else 2 * draws)]
        for name in ("fused", STRATA[0]):
            each = [(evidence[name], new) for evidence, new in made]
            left = [of.drop[new].mean() for of, new in each if of.found and new.any()]
            lost = [of.drop[~new].mean() for of, new in each if of.found]
            row = f"{kind} {share:.2f} {name}: found in {sum(of.found for of, _ in each)} of {len(each)}"
            row += f", share {np.mean([of.share for of, _ in each]):.2f}"
            print(row + (f", left out {np.mean(left):.2f} / {np.mean(lost):.2f}" if left else ""), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
