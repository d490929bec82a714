"""CReST and CReST+: generations, after each of which pseudo-labels, more of rare classes, join the labelled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from causalft.errors import CausalFTError
from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Method, Step, Targets, Task, hard_targets, log_shares

__all__ = ["AlignedRebalancing", "ClassRebalancing", "aligned", "sampling_rates"]


class ClassRebalancing(Method):
    """FixMatch in generations; after each, unlabelled images join the labelled ones with their pseudo-labels.

    Wei, Sohn, Mellina, Yuille & Yang, "CReST: A Class-Rebalancing Self-Training Framework for Imbalanced
    Semi-Supervised Learning", CVPR 2021, Eq. 1. Of the images that are taken for the class with the l-th most labelled
    ones, the most confident share ``(N_{L+1-l} / N_1)^power`` joins: all of the rarest class, few of the most frequent
    one. They are chosen anew after each generation, and stay unlabelled images as well.

    Parameters
    ----------
    task : Task
    threshold : float
    unlabelled_weight : float
    power : float
    generations : int
        Spans of epochs of as equal length as possible, at least 1; of one epoch each if there are fewer epochs.

    Raises
    ------
    CausalFTError
        For fewer than one generation.

    Attributes
    ----------
    chosen : (n_unlabelled,) Tensor of int
        Labels of the images that have joined, -1 for the others.
    confidence : (n_unlabelled,) Tensor
        Largest probability when an image was last shown, 0 before; ``guesses`` are the classes.
    """

    name = "crest"
    log_prior: Tensor
    chosen: Tensor
    confidence: Tensor
    guesses: Tensor
    rates: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.95,
        unlabelled_weight: float = 1.0,
        power: float = 1 / 3,
        generations: int = 6,
    ) -> None:
        _refuse(generations=generations)
        super().__init__(task, threshold=threshold, unlabelled_weight=unlabelled_weight)
        self.generations = min(generations, task.epochs)
        self.register_buffer("rates", sampling_rates(task.counts, power), persistent=False)
        self.register_buffer("chosen", torch.full((task.n_unlabelled,), -1))
        self.register_buffer("confidence", torch.zeros(task.n_unlabelled))
        self.register_buffer("guesses", torch.zeros(task.n_unlabelled, dtype=torch.int64))

    @property
    def joined(self) -> Tensor:
        """Labels of the images that have joined, (n_unlabelled,); -1 for the others."""
        return self.chosen

    def observe(self, seen: Step) -> None:
        best, label = seen.beliefs[:, self.main].max(-1)
        self._seen.append((seen.rows.to(best.device), best, label))

    def start_batch(self) -> None:
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        found = torch.zeros(3, self.task.n_unlabelled, dtype=torch.float64, device=self.log_prior.device)
        for rows, best, label in self._seen:
            found[:, rows] = torch.stack([torch.ones_like(best), best, label.to(best)]).double()
        seen, best, label = total(found)
        rows = seen.nonzero()[:, 0]
        self.confidence[rows] = (best[rows] / seen[rows]).to(self.confidence)
        self.guesses[rows] = (label[rows] / seen[rows]).round().to(self.guesses)
        self.start_batch()

    def end_epoch(self, number: int) -> None:
        epochs, passed = self.task.epochs, number + 1
        ends = {round(epochs * (g + 1) / self.generations) for g in range(self.generations - 1)}
        if passed in ends:
            self.next_generation()

    def next_generation(self) -> None:
        """Let the most confident images of each class join, and adjust by the law of all labelled ones."""
        self.chosen.fill_(-1)
        for k, rate in enumerate(self.rates.tolist()):
            rows = ((self.guesses == k) & (self.confidence > 0)).nonzero()[:, 0]
            order = self.confidence[rows].argsort(descending=True, stable=True)
            self.chosen[rows[order[: int(rate * len(rows) + 1e-6)]]] = k
        counts = self.task.counts.to(self.log_prior)
        counts = counts + torch.bincount(self.chosen[self.chosen >= 0], minlength=len(counts))
        self.log_prior.copy_(log_shares(counts))


class AlignedRebalancing(ClassRebalancing):
    """CReST+: :class:`ClassRebalancing` with pseudo-labels whose law is aligned with that of the labels, ever less.

    Wei et al., CVPR 2021, section 3.3. With q the probabilities of a weak view, q_bar their moving average and p the
    label law of the labelled images, the pseudo-label is that of

        q' ~ q p^t / q_bar,  t = (1 - g / G) + (g / G) t_min,

    normalised, in generation g = 0, ..., G. So pseudo-labels follow p at first, and a flatter law later.

    Parameters
    ----------
    task, threshold, unlabelled_weight, power, generations
        As :class:`ClassRebalancing`.
    least_exponent : float
        t_min, in [0, 1]; 1 aligns with p in all generations, 0 with equal shares in the last one.
    decay : float
        Share of the former average that stays after a step, in [0, 1].

    Attributes
    ----------
    generation : Tensor of int
        g, a scalar.
    belief : (K,) Tensor
        q_bar; before the first step, zero: then nothing is aligned.
    """

    name = "crest+"
    generation: Tensor
    belief: Tensor
    label_law: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 0.95,
        unlabelled_weight: float = 1.0,
        power: float = 1 / 3,
        generations: int = 6,
        least_exponent: float = 0.5,
        decay: float = 0.9,
    ) -> None:
        super().__init__(
            task,
            threshold=threshold,
            unlabelled_weight=unlabelled_weight,
            power=power,
            generations=generations,
        )
        self.least_exponent, self.decay = least_exponent, decay
        self.register_buffer("generation", torch.zeros((), dtype=torch.int64))
        self.register_buffer("belief", torch.zeros(task.n_classes))
        self.register_buffer("label_law", task.log_prior.exp(), persistent=False)

    @property
    def exponent(self) -> float:
        """t, of this generation; 1 where there is only one."""
        done = int(self.generation) / max(1, self.generations - 1)
        return (1 - done) + done * self.least_exponent

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        if self.belief.any():
            beliefs = aligned(beliefs, self.belief, self.label_law**self.exponent)
        return hard_targets(beliefs, self.threshold)

    def observe(self, seen: Step) -> None:
        super().observe(seen)
        found = seen.beliefs[:, self.main]
        self._belief += torch.cat([found.sum(0), found.new_tensor([len(found)])]).to(self._belief)

    def start_batch(self) -> None:
        super().start_batch()
        self._belief = torch.zeros(self.task.n_classes + 1, device=self.log_prior.device)

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        found = total(self._belief)
        if found[-1] > 0:
            mean = found[:-1] / found[-1]
            kept = self.decay if self.belief.any() else 0.0
            self.belief.mul_(kept).add_((1 - kept) * mean)
        super().finish_batch(total)

    def next_generation(self) -> None:
        super().next_generation()
        self.generation += 1


def aligned(beliefs: Tensor, mean: Tensor, wanted: Tensor) -> Tensor:
    """Probabilities (..., K) whose mean (K,) is moved towards wanted shares (K,), normalised.

    Examples
    --------
    >>> aligned(torch.tensor([[0.5, 0.5]]), torch.tensor([0.25, 0.75]), torch.tensor([0.75, 0.75])).tolist()
    [[0.75, 0.25]]
    """
    found = beliefs * wanted / mean.clamp(min=1e-6)
    return found / found.sum(-1, keepdim=True)


def sampling_rates(counts: Tensor, power: float) -> Tensor:
    """Share of the pseudo-labels of each class that joins the labelled images, (K,).

    Examples
    --------
    >>> sampling_rates(torch.tensor([8.0, 64.0, 1.0]), 1 / 3).round(decimals=2).tolist()  # middle, most, least frequent
    [0.5, 0.25, 1.0]
    """
    order = counts.argsort(descending=True, stable=True)
    ranked = counts[order]
    rates = torch.empty_like(counts)
    rates[order] = (ranked.flip(0) / ranked[0]) ** power
    return rates


def _refuse(*, generations: int, **_: Any) -> None:
    if generations < 1:
        raise CausalFTError(f"generations is {generations}; give 1 or more")


CREST = SemiMethod(
    name="crest",
    help="in generations: confident pseudo-labels, more of rare classes, join the labelled images of the next one",
    make=ClassRebalancing,
    refuse=_refuse,
    ours=(
        "weights go on from one generation to the next, under one schedule, without a restart; an image counts with "
        "the answer of the epoch in which it was last shown; --loss LA adjusts by the law of all labels, those that "
        "join included"
    ),
    source="Wei et al., CVPR 2021",
    order=20,
)
CREST_PLUS = SemiMethod(
    name="crest+",
    help="crest with distribution alignment: pseudo-labels follow the labelled law, less so in each generation",
    make=AlignedRebalancing,
    refuse=_refuse,
    shares=("threshold", "least_exponent", "decay"),
    ours=(
        "those of crest; the mean belief is a moving average over some ten steps, before the step that it aligns; "
        "images join by beliefs that are not aligned; under --loss LA beliefs of a balanced posterior are aligned alike"
    ),
    source="Wei et al., CVPR 2021",
    order=20,
)
