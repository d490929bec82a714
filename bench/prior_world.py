"""How often intervals of an estimated prior hold the model's own prior, and the known one; a table of docs/priors.md.

    python bench/prior_world.py [DRAWS]

The minis of the embedded world whose loss leaves the prior in the logits were pre-trained with a known class prior. A
draw is one of them (in turn) and 5, 10, 20 or 80 images of each of the 60 classes, drawn with replacement from 300 that
no mini has seen. Two truths are held against its 95 % intervals:

* the limit: GLA's estimate from all 300 images of each class, without a penalty. Sampling intervals are about it.
* the known prior. The limit is away from it by the misfit of the model, which no number of images lowers. The wider
  intervals add the misfit that the *other* minis have (root mean square over their classes).

Prints the table, and writes docs/prior-coverage.csv. The error is that of a mean over draws; that between minis, which
share their misfit, stands behind it. About half an hour on one core.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from causalft.methods.priors import bootstrap_prior, estimate_prior
from causalft.methods.priors.misfit import with_misfit
from causalft.models.strata.zoo import MiniZoo, open_zoo
from synthetic.creatures import CLASS_NAMES, FACTORS, N_CLASSES, factor_law, part_table, render_creatures

IMAGES = (5, 10, 20, 80)
POOL, BLOCK = 300, 50
TABLE = Path(__file__).resolve().parents[1] / "docs" / "prior-coverage.csv"
COLUMNS = (
    "images of a class",
    "draws",
    "hold the limit (%)",
    "hold the known prior (%)",
    "with misfit (%)",
    "least to most of a mini (%)",
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """A mini: logits (n, K) of the pool, and log priors (K,)."""

    name: str
    logits: NDArray[np.float32]
    known: Floats
    limit: Floats

    @property
    def misfit(self) -> float:
        """Mean square of the limit about the known prior, on the log scale."""
        return float(((self.limit - self.known) ** 2).mean())


def members() -> tuple[list[Member], NDArray[np.int64]]:
    """The minis, and the labels (n,) of the pool."""
    zoo = open_zoo("mini")
    assert isinstance(zoo, MiniZoo)
    names = [name for name in zoo.names() if zoo.card(name).loss == "caption-bank"]
    strata = {name: zoo.load(name) for name in names}
    texts = {name: stratum.text_features(CLASS_NAMES).cpu() for name, stratum in strata.items()}
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    of_block = np.repeat(np.arange(N_CLASSES), BLOCK)
    for block in range(POOL // BLOCK):
        factors = np.random.default_rng(31_000 + block).choice(
            len(FACTORS), size=len(of_block), p=factor_law("uniform")
        )
        pixels = torch.from_numpy(
            render_creatures(part_table()[of_block], factors, size=40, seed=41_000_000 + block)
        )
        for name, stratum in strata.items():
            found = stratum.logit_scale * stratum.image_features(pixels) @ texts[name].T
            rows[name].append(found.float().numpy())
        print(f"images of block {block + 1} of {POOL // BLOCK}", file=sys.stderr, flush=True)
    labels = np.tile(of_block, POOL // BLOCK)
    made = []
    for name in names:
        logits = np.concatenate(rows[name])
        prior = np.array(zoo.card(name).prior)
        limit = estimate_prior(logits, labels, l2=0.0).prior
        made.append(Member(name, logits, np.log(prior / prior.sum()), np.log(limit)))
    return made, labels


def main(draws: int) -> None:
    torch.set_num_threads(1)
    minis, labels = members()
    print("mini, misfit of log q (root mean square over classes)")
    for mini in minis:
        print(f"  {mini.name:24} {np.sqrt(mini.misfit):.2f}")
    print(f"  {'all':24} {np.sqrt(np.mean([mini.misfit for mini in minis])):.2f}")
    own = [np.flatnonzero(labels == k) for k in range(N_CLASSES)]
    table = []
    for n in IMAGES:
        rng = np.random.default_rng(n)
        shares = np.empty((draws, 3))
        for draw in range(draws):
            mini = minis[draw % len(minis)]
            chosen = np.concatenate([rows[rng.integers(len(rows), size=n)] for rows in own])
            found = bootstrap_prior(
                mini.logits[chosen], labels[chosen], n_boot=100, seed=draw, imbalance=False
            )
            others = float(np.sqrt(np.mean([other.misfit for other in minis if other is not mini])))
            shares[draw] = [
                _held(found.log_prior, mini.limit),
                _held(found.log_prior, mini.known),
                _held(with_misfit(found, others), mini.known),
            ]
        cells = [_with_error(column, len(minis)) for column in shares.T]
        of_minis = [shares[m :: len(minis), 2].mean() for m in range(min(draws, len(minis)))]
        table.append([n, draws, *cells, f"{100 * min(of_minis):.0f} to {100 * max(of_minis):.0f}"])
        print(*table[-1], sep="  ", flush=True)
    with open(TABLE, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *table])


def _held(intervals: Floats, truth: Floats) -> float:
    return float(((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean())


def _with_error(shares: Floats, n_minis: int) -> str:
    """Mean of the draws, its standard error, and that of a mean over minis."""
    of_minis = np.array([shares[m::n_minis].mean() for m in range(min(len(shares), n_minis))])
    of_draws = shares.std(ddof=1) / np.sqrt(len(shares))
    between = of_minis.std(ddof=1) / np.sqrt(len(of_minis))
    return f"{100 * shares.mean():.1f} ± {100 * of_draws:.1f} ({100 * between:.1f})"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
