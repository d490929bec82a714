"""A lab whose members are made up: logits = signal + noise + what is known to be left of each class prior."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.member import MemberPrediction
from causalft.methods.priors import PriorEstimate
from causalft.models.strata.cards import MemberName
from experiments.frame.members import Member
from experiments.frame.scales import Roles

STRATA, SEEDS_OF_ONE = ("clip", "openclip", "metaclip"), ("clip", "clip@1", "clip@2")
ROLES = Roles(STRATA, SEEDS_OF_ONE, "pre-training", "clip-wide", "", True)
N_CLASSES, PER_CLASS = 20, 30
PROFILE = 100.0 ** (-np.arange(N_CLASSES) / (N_CLASSES - 1))


class MadeUpLab:
    """Stands in for :class:`experiments.frame.lab.Lab`.

    Parameters
    ----------
    left : mapping of loss to (float, float)
        Share of log P_S and of the model's log prior that each loss leaves in the tuned logits.
    noise : float
        Of the tuned logits; each member and seed has its own.
    signal : mapping of name to float, optional
        Strength by stratum; 3 by default.
    """

    def __init__(self, left: dict[str, tuple[float, float]], noise: float = 1.5, **signal: float) -> None:
        self.left, self.noise, self.signal = left, noise, signal
        rng = np.random.default_rng(0)
        self.priors = {name: rng.permutation(PROFILE / PROFILE.sum()) for name in STRATA}
        counts = np.rint(150 * PROFILE[rng.permutation(N_CLASSES)]).astype(int) + 1
        labels = np.repeat(np.arange(N_CLASSES), PER_CLASS)
        images = _Images(labels)
        self.counts, self.seeds, self.quick, self.jobs, self.weights, self.facts = counts, 2, False, 1, {}, {}
        self.splits = SimpleNamespace(
            train=SimpleNamespace(class_counts=counts), validation=images, test=images
        )
        settings = SimpleNamespace(tuning=Tuning())
        self.world = SimpleNamespace(
            roles=ROLES, settings=settings, splits=lambda seed, draw=None: self.splits
        )
        self.prediction = cache(self._prediction)

    def _prediction(self, member: Member, seed: int) -> Any:
        key = sum(map(ord, member.label)) + 1000 * seed
        rng = np.random.default_rng(key)
        stratum = MemberName.parse(member.name).stratum
        prior = self.priors[stratum]
        labels = self.splits.test.labels
        eye = self.signal.get(stratum, 3.0) * np.eye(N_CLASSES)[labels]
        shape = (2, len(labels), N_CLASSES)
        of_data, of_model = self.left[member.loss]
        log_data = np.log(self.counts / self.counts.sum())
        tuned = eye + of_data * log_data + of_model * np.log(prior) + self.noise * rng.normal(size=shape)
        zero_shot = 0.6 * eye + np.log(prior) + rng.normal(size=shape)
        return MemberPrediction(
            member.name,
            *zero_shot,
            *tuned,
            prior=PriorEstimate(prior=prior, loss=0.0, converged=True, n=len(labels)),
            true_prior=prior,
            sha256="0" * 64,
            source="made up",
            lr=0.05,
            n_tuned=1,
            seconds=0.0,
        )


class _Images:
    def __init__(self, labels: np.ndarray) -> None:
        self.labels, self.n_classes = labels, N_CLASSES

    def __len__(self) -> int:
        return len(self.labels)
