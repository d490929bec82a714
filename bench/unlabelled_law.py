"""How well the class law of unlabelled images is estimated, and its setting named; a table of docs/unlabelled-law.md.

    python bench/unlabelled_law.py MEMBERS [DRAWS]

MEMBERS holds a folder per tuned stratum of the built-in set (``experiment run`` leaves ``members/mini``): clip,
openclip and metaclip tuned on creatures-lt with LA, seed 0. They score 450 new images of each class, and 80 more that
serve as validation images; the logits are kept beside MEMBERS, in ``unlabelled-law.safetensors``. A draw takes 10
validation images of each class, a random order of the 60 classes, labelled counts of 50 to 2 (gamma 20), and unlabelled
images whose largest class has 400, in each order of the field and in a random one unlike all of them. Truth is the
share of each class among these images. The draws share their images, so the errors of a class are not independent
between draws. A quarter of an hour on one core at 20 draws.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from causalft.data.image_set import ImageSet
from causalft.data.protocol import labelled_counts, unlabelled_counts
from causalft.data.tails import UNLABELLED_ORDERS
from causalft.methods.adaptation.settings import default_tuning
from causalft.methods.adaptation.tuned import load_tuned, tuning_as_saved
from causalft.methods.estimators.strata import logits_without_labels
from causalft.methods.semi.law import OTHER, UnlabelledLaw, estimate_law
from causalft.models.strata.zoo import open_zoo
from synthetic.creatures import CLASS_NAMES, FACTORS, N_CLASSES, factor_law, part_table, render_creatures

STRATA = ("clip", "openclip", "metaclip")
GAMMA, N_1, M_1, N_VALIDATION = 20.0, 50, 400, 10
SEEDS = {"validation": (80, 9_100_001), "pool": (450, 9_200_002)}
COLUMNS = (
    "scores",
    "setting",
    "images",
    "L1 of EM",
    "L1",
    "largest L1",
    "covered (%)",
    "worst class (%)",
    "named (%)",
)

Floats = NDArray[np.float32]


def scored(members: Path) -> dict[str, NDArray[Any]]:
    """Logits of both sets of images by ``set/stratum``, and their labels by ``set/labels``."""
    kept = members / "unlabelled-law.safetensors"
    if kept.exists():
        return load_file(kept)
    zoo, found = open_zoo("mini"), {}
    for name, (n, seed) in SEEDS.items():
        labels = np.repeat(np.arange(N_CLASSES), n)
        factors = np.random.default_rng(seed).choice(len(FACTORS), size=len(labels), p=factor_law("uniform"))
        pixels = render_creatures(part_table()[labels], factors, size=40, seed=seed)
        images = ImageSet.from_arrays(pixels, labels, list(CLASS_NAMES))
        found[f"{name}/labels"] = labels
        for stratum in STRATA:
            (folder,) = members.glob(f"{stratum}-LA-seed0-*")
            tuning = tuning_as_saved(folder, default_tuning("mini"))
            tuned = load_tuned(zoo.load(stratum), folder, list(CLASS_NAMES), tuning)
            found[f"{name}/{stratum}"] = np.asarray(logits_without_labels(tuned, images)).astype(np.float32)
            print(f"{name}: {stratum} scored", file=sys.stderr, flush=True)
    save_file(found, kept)
    return found


def fused(scores: dict[str, NDArray[Any]], name: str) -> Floats:
    """Log of the mean of the strata's probabilities."""
    logits = [scores[f"{name}/{stratum}"].astype(float) for stratum in STRATA]
    return np.log(
        np.mean([np.exp(z - np.logaddexp.reduce(z, axis=1, keepdims=True)) for z in logits], axis=0)
    )


def one_draw(
    tables: tuple[Floats, NDArray[Any], Floats, NDArray[Any]], order: str, draw: int
) -> tuple[UnlabelledLaw, NDArray[np.float64]]:
    """The estimate, and the true shares."""
    validation, labels, pool, hidden = tables
    rng = np.random.default_rng(draw)
    rank = rng.permutation(N_CLASSES)
    counts, labelled = np.empty(N_CLASSES, int), np.empty(N_CLASSES, int)
    drawn = unlabelled_counts(N_CLASSES, M_1, GAMMA, "consistent" if order == OTHER else order)
    counts[rank] = rng.permutation(drawn) if order == OTHER else drawn
    labelled[rank] = labelled_counts(N_CLASSES, N_1, GAMMA)
    rows = [rng.permutation(np.flatnonzero(labels == k))[:N_VALIDATION] for k in range(N_CLASSES)]
    beside = [rng.permutation(np.flatnonzero(hidden == k))[: counts[k]] for k in range(N_CLASSES)]
    seen, unlabelled = np.concatenate(rows), np.concatenate(beside)
    found = estimate_law(validation[seen], labels[seen], pool[unlabelled], labelled)
    return found, counts / counts.sum()


def main(members: Path, draws: int) -> None:
    torch.set_num_threads(1)
    scores = scored(members)
    print(*COLUMNS, sep=", ")
    for who in ("fused", *STRATA[::-1]):
        values = [fused(scores, name) if who == "fused" else scores[f"{name}/{who}"] for name in SEEDS]
        tables = values[0], scores["validation/labels"], values[1], scores["pool/labels"]
        for order in (*UNLABELLED_ORDERS, OTHER):
            found = [one_draw(tables, order, draw) for draw in range(draws)]
            l1, em = (
                np.array([np.abs(getattr(one, name) - truth).sum() for one, truth in found])
                for name in ("law", "em")
            )
            held = np.array([(one.ci95[:, 0] <= truth) & (truth <= one.ci95[:, 1]) for one, truth in found])
            named = np.mean([one.setting == order for one, _ in found])
            row = [who, order, found[0][0].n, f"{em.mean():.3f}", f"{l1.mean():.3f}", f"{l1.max():.3f}"]
            row += [f"{100 * held.mean():.1f}", f"{100 * held.mean(axis=0).min():.0f}", f"{100 * named:.0f}"]
            print(*row, sep="  ", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
