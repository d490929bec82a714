"""Predictions with exactly known class accuracies, for the tests of the diagnosis, its figures and its tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from causalft.analysis.diagnosis import Diagnosis, diagnose

N_CLASSES, NAMES = 30, ("clip", "openclip", "metaclip")


def one_hot_predictions(accuracy: np.ndarray, per_class: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities (n, K) whose class accuracies are the given ones, rounded to 1 / per_class."""
    n_classes = len(accuracy)
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), per_class)
    hits = np.rint(accuracy * per_class).astype(int)
    right = np.concatenate([rng.permutation(per_class) < h for h in hits])
    predicted = np.where(right, labels, (labels + 1) % n_classes)
    probs = np.full((len(labels), n_classes), 0.1 / (n_classes - 1))
    probs[np.arange(len(labels)), predicted] = 0.9
    return labels, probs


def exponential_priors(n_models: int, n_classes: int = N_CLASSES, seed: int = 1) -> np.ndarray:
    """M priors with imbalance 100 over K classes, each in an order of its own."""
    rng = np.random.default_rng(seed)
    profile = 100.0 ** (-np.arange(n_classes) / (n_classes - 1))
    return np.stack([rng.permutation(profile / profile.sum()) for _ in range(n_models)])


def simulate(
    *,
    beta: float = 0.0,
    difficulty: float = 0.0,
    fused_beta: float | None = None,
    gain: float = 0.1,
    per_class: int = 200,
    seeds: int = 1,
    control: bool = False,
    n_boot: int = 200,
) -> Diagnosis:
    """Diagnose three strata with class accuracy .5 - difficulty + beta * log q / ln 100.

    The class accuracies of the fused model are the mean of its members' plus ``gain`` (or have the slope
    ``fused_beta`` on each prior); those of the control are the mean of its members' plus half of it.
    """
    priors = exponential_priors(3)
    x = (np.log(priors) - np.log(priors).mean(axis=1, keepdims=True)) / np.log(100)
    hard = difficulty * np.linspace(-1, 1, N_CLASSES)
    members = 0.5 - hard + beta * x
    slope = beta / 3 if fused_beta is None else fused_beta
    fused = 0.5 - hard + slope * x.sum(axis=0) + gain
    labels = one_hot_predictions(members[0], per_class)[0]

    def stack(accuracy: np.ndarray, first_seed: int) -> np.ndarray:
        return np.stack(
            [one_hot_predictions(accuracy, per_class, first_seed + 100 * s)[1] for s in range(seeds)]
        )

    controls = {
        "seeds": {
            "members": {f"clip@{i}": stack(members[0], 40 + i) for i in range(3)},
            "fused": stack(members[0] + gain / 2, 50),
            "prior_of": "clip",
        }
    }
    return diagnose(
        labels,
        np.rint(300 * 100.0 ** (-np.arange(N_CLASSES) / (N_CLASSES - 1))).astype(int),
        {name: stack(members[i], i) for i, name in enumerate(NAMES)},
        stack(fused, 30),
        dict(zip(NAMES, priors)),
        controls=controls if control else None,
        best_single="metaclip",
        n_boot=n_boot,
    )


@pytest.fixture(scope="session")
def simulated() -> Callable[..., Diagnosis]:
    """The function `simulate` of this file."""
    return simulate


@pytest.fixture(scope="session")
def found() -> Diagnosis:
    """Three strata with parameter imbalance, class difficulty and a control, two seeds."""
    return simulate(beta=0.15, difficulty=0.15, per_class=60, seeds=2, control=True)
