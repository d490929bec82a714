"""How near an estimated prior comes to a known one, and how often its intervals hold it; the tables of docs/priors.md.

    python bench/prior_coverage.py [DRAWS]

Simulated softmax models: Gaussian classes whose centres have standard deviation 1.5 in each dimension (10 dimensions:
about 80 % right with 100 classes), a balanced labelled sample, and a label prior of imbalance 1 or 100 in the logits.
"""

from __future__ import annotations

import sys

import numpy as np

from causalft.methods.priors import bootstrap_prior, estimate_prior, kl_divergence


def simulate(n_classes: int, n_per_class: int, dimensions: int, imbalance: float, seed: int):
    """The true prior, the Bayes logits under it (n, K) and the labels (n,) of a balanced sample."""
    rng = np.random.default_rng(seed)
    prior = rng.permutation(imbalance ** (-np.arange(n_classes) / (n_classes - 1)))
    prior /= prior.sum()
    centres = 1.5 * rng.normal(size=(n_classes, dimensions))
    labels = np.repeat(np.arange(n_classes), n_per_class)
    x = centres[labels] + rng.normal(size=(len(labels), dimensions))
    distance = (x**2).sum(1)[:, None] - 2 * x @ centres.T + (centres**2).sum(1)
    return prior, np.log(prior) - distance / 2, labels


def main(draws: int) -> None:
    print(
        "classes dims images truth | KL: uniform  l2=0  default | imbalance: l2=0  corrected  covers | log q covers"
    )
    for n_classes, dimensions in ((8, 4), (20, 4), (100, 6), (100, 10)):
        for n in (1, 5, 20):
            for imbalance in (1.0, 100.0):
                rows = []
                for seed in range(draws):
                    prior, logits, labels = simulate(n_classes, n, dimensions, imbalance, seed)
                    plain = estimate_prior(logits, labels, l2=0)
                    found = bootstrap_prior(logits, labels, n_boot=60, seed=seed)
                    low, high = found.log_prior.T
                    rows.append(
                        [
                            kl_divergence(prior, np.full(n_classes, 1 / n_classes)),
                            kl_divergence(prior, plain.prior),
                            kl_divergence(prior, found.estimate.prior),
                            plain.imbalance,
                            found.imbalance_estimate,
                            found.imbalance[0] <= imbalance * (1 + 1e-9) and imbalance <= found.imbalance[1],
                            ((low <= np.log(prior)) & (np.log(prior) <= high)).mean(),
                        ]
                    )
                table = np.array(rows, dtype=float)
                mean, median = np.nanmean(table, axis=0), np.nanmedian(table, axis=0)
                print(
                    f"{n_classes:7} {dimensions:4} {n:6} {imbalance:5.0f} | "
                    f"{mean[0]:11.3f} {mean[1]:5.3f} {mean[2]:8.3f} | "
                    f"{median[3]:15.4g} {median[4]:10.3g} {mean[5]:7.2f} | {mean[6]:12.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
