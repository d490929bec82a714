"""What a semi-supervised method is: a small module with heads, losses, targets and a state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalft.models.tuning.heads import CosineHead
from causalft.models.tuning.statistics import BatchStatistics

__all__ = [
    "Answers",
    "Method",
    "Step",
    "Targets",
    "Task",
    "hard_targets",
    "log_shares",
    "mean_loss",
    "soft_cross_entropy",
    "soft_targets",
]


@dataclass(frozen=True, eq=False)
class Task:
    """What a method is told before the training.

    Attributes
    ----------
    counts : (K,) Tensor
        Labelled images per class, float32.
    weight : (K, d) Tensor
        Where heads start: captions, or class means, unit rows.
    n_unlabelled : int
    epochs : int
        Passes over the unlabelled images.
    adjust : bool
        Whether the labelled images are learnt by logit adjustment (``--loss LA``) or plain cross-entropy.
    scale : float
        Inverse temperature of the heads.
    ratio : float
        Unlabelled images per labelled one in a step.
    seed : int
    """

    counts: Tensor
    weight: Tensor
    n_unlabelled: int
    epochs: int
    adjust: bool = True
    scale: float = 25.0
    ratio: float = 2.0
    seed: int = 0

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.counts)

    @property
    def prior(self) -> Tensor:
        """P_L, the label law of the labelled images, (K,)."""
        return self.counts / self.counts.sum()

    @property
    def log_prior(self) -> Tensor:
        """log P_L, (K,); a class without an image counts as half of one."""
        return log_shares(self.counts)


def log_shares(counts: Tensor) -> Tensor:
    """Logs of the shares of counts (K,); a count below one half counts as one half.

    Examples
    --------
    >>> log_shares(torch.tensor([1.5, 0.0])).exp().tolist()
    [0.75, 0.25]
    """
    counts = counts.clamp(min=0.5)
    return (counts / counts.sum()).log()


@dataclass(frozen=True, eq=False)
class Answers:
    """What a stratum makes of a batch.

    Attributes
    ----------
    features : (n, d) Tensor
        Not normalised.
    logits : (n, H, K) Tensor
        One row per head, in fp32.
    """

    features: Tensor
    logits: Tensor

    def __getitem__(self, rows: slice) -> Answers:
        return Answers(self.features[rows], self.logits[rows])


@dataclass(frozen=True, eq=False)
class Targets:
    """What the heads learn of a batch of unlabelled images.

    Attributes
    ----------
    probabilities : (n, H, K) Tensor
        One-hot rows are hard pseudo-labels.
    weights : (n, H) Tensor
        0 leaves an image out.
    """

    probabilities: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """What a method saw in a (micro-)batch; no gradient.

    Attributes
    ----------
    labelled : Answers
        To the labelled images.
    labels : (n_labelled,) Tensor of int
    weak : Answers
        To the weak views of the unlabelled images.
    beliefs : (n, H, K) Tensor
        Of these views; the mean over strata that share pseudo-labels.
    targets : Targets
        That the strong views learnt.
    rows : (n,) Tensor of int
        Which unlabelled images they are.
    """

    labelled: Answers
    labels: Tensor
    weak: Answers
    beliefs: Tensor
    targets: Targets
    rows: Tensor


class Method(nn.Module, BatchStatistics):
    """A semi-supervised method; this base is FixMatch (Sohn et al., NeurIPS 2020) with one head.

    The loop of :func:`causalft.methods.semi.tune.tune_semi` calls, in each step:

    1. ``beliefs(weak)``: probabilities of the weak views, no gradient; strata that share pseudo-labels average them;
    2. ``choose(beliefs, rows)``: targets and weights;
    3. ``labelled_loss(answers, labels)`` and ``unlabelled_loss(strong, targets)``, whose sum is minimised;
    4. ``observe(seen)``: collect, in plain attributes, what the state needs of the batch;
    5. ``finish_batch(total)``: take what was collected into the state, summed over all processes;

    and ``end_epoch(number)`` after each epoch. State that outlives a batch is a buffer, so that checkpoints hold it.

    Parameters
    ----------
    task : Task
    threshold : float
        Least confidence of a pseudo-label, in [0, 1].
    unlabelled_weight : float
        Weight of the loss of the unlabelled images.

    Attributes
    ----------
    main : int
        The head that predicts, and whose pseudo-labels are watched.
    needs_blank : bool
        The loop then calls ``see_blank(answers)`` with an image without content before each step.
    needs_zero_shot : bool
        The loop then calls ``see_zero_shot(probabilities)`` once, before the training.
    generator : torch.Generator
        Whatever a method draws comes from it; on the CPU. The loop puts its own here, so that a resumed training draws
        the same.
    """

    main = 0
    needs_blank = False
    needs_zero_shot = False

    def __init__(self, task: Task, *, threshold: float = 0.95, unlabelled_weight: float = 1.0) -> None:
        super().__init__()
        self.task, self.threshold, self.unlabelled_weight = task, threshold, unlabelled_weight
        self.heads = nn.ModuleList([self.make_head() for _ in range(self.n_heads)])
        self.register_buffer("log_prior", task.log_prior.float(), persistent=False)
        self.generator = torch.Generator().manual_seed(task.seed)
        self.start_batch()

    log_prior: Tensor
    n_heads = 1

    @property
    def joined(self) -> Tensor | None:
        """Labels (n_unlabelled,) of the unlabelled images that have joined the labelled ones, -1 for the others: the
        loop then draws labelled images from both. None if a method lets none join.
        """
        return None

    @property
    def least_confidence(self) -> float:
        """The threshold of this step, for messages."""
        return self.threshold

    def make_head(self) -> nn.Module:
        """A cosine head that starts from the prototypes of the task."""
        return CosineHead(self.task.weight, scale=self.task.scale)

    def forward(self, features: Tensor) -> Answers:
        """Logits of all heads for features (n, d)."""
        return Answers(features, torch.stack([head(features) for head in self.heads], dim=1))

    def see_blank(self, blank: Answers) -> None:
        """Take the answers to an image without content, (1, ...); called if :attr:`needs_blank`."""

    def see_zero_shot(self, probabilities: Tensor) -> None:
        """Take the probabilities (n, K) of all unlabelled images by the untuned model; for :attr:`needs_zero_shot`."""

    def labelled_loss(self, answers: Answers, labels: Tensor) -> Tensor:
        """Mean loss of labelled images: cross-entropy of the first head, after log P_L is added with ``adjust``."""
        logits = answers.logits[:, 0]
        return F.cross_entropy(logits + self.log_prior if self.task.adjust else logits, labels)

    def beliefs(self, weak: Answers) -> Tensor:
        """Probabilities (n, H, K) of the weak views; what a method knows beside its heads may follow them as rows."""
        return weak.logits.softmax(-1)

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        """Targets of a batch: the most probable class, where it is as probable as the threshold.

        Parameters
        ----------
        beliefs : (n, H, K) Tensor
        rows : (n,) Tensor of int
            Which unlabelled images they are.
        """
        return hard_targets(beliefs, self.threshold)

    def unlabelled_loss(self, strong: Answers, targets: Targets) -> Tensor:
        """Mean weighted cross-entropy of the strong views, over heads and images."""
        return self.unlabelled_weight * mean_loss(strong.logits, targets)

    def observe(self, seen: Step) -> None:
        """Collect what the state needs of a (micro-)batch; no gradient."""

    def start_batch(self) -> None:
        """Forget what :meth:`observe` collected."""

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        """Take the batch into the state; ``total(tensor)`` is its sum over all processes."""

    def end_epoch(self, number: int) -> None:
        """Change the state after epoch ``number``, counted from 0."""

    def final(self) -> tuple[Tensor, Tensor]:
        """Weight (K, d) and bias (K,) of the classifier ``scale * unit(x) @ weight.T + bias`` that predicts.

        Its logits are those of a posterior under a balanced prior where the loss makes them so.
        """
        weight = F.normalize(self.heads[self.main].get_parameter("weight").detach(), dim=-1)
        return weight, torch.zeros(len(weight), device=weight.device)


def hard_targets(beliefs: Tensor, threshold: float | Tensor) -> Targets:
    """The most probable class of each row, with weight 1 from the threshold on and 0 below.

    Examples
    --------
    >>> found = hard_targets(torch.tensor([[[0.97, 0.03]], [[0.4, 0.6]]]), 0.95)
    >>> found.probabilities.tolist(), found.weights.tolist()
    ([[[1.0, 0.0]], [[0.0, 1.0]]], [[1.0], [0.0]])
    """
    best, label = beliefs.max(-1)
    one_hot = F.one_hot(label, beliefs.shape[-1]).to(beliefs.dtype)
    return Targets(one_hot, (best >= threshold).to(beliefs.dtype))


def soft_targets(beliefs: Tensor, threshold: float | Tensor) -> Targets:
    """The beliefs themselves, with the weights of :func:`hard_targets`.

    Examples
    --------
    >>> found = soft_targets(torch.tensor([[[0.75, 0.25]], [[0.5, 0.5]]]), 0.7)
    >>> found.probabilities.tolist(), found.weights.tolist()
    ([[[0.75, 0.25]], [[0.5, 0.5]]], [[1.0], [0.0]])
    """
    return Targets(beliefs, (beliefs.amax(-1) >= threshold).to(beliefs.dtype))


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Cross-entropy (...) of logits (..., K) against probabilities (..., K), in nats."""
    return -(probabilities * logits.log_softmax(-1)).sum(-1)


def mean_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Mean over all images and heads of the weighted cross-entropy: images of weight 0 count in the denominator.

    Examples
    --------
    >>> targets = hard_targets(torch.tensor([[[0.97, 0.03]], [[0.4, 0.6]]]), 0.95)
    >>> round(mean_loss(torch.zeros(2, 1, 2), targets).item(), 3)  # log(2) / 2
    0.347
    """
    return (targets.weights * soft_cross_entropy(logits, targets.probabilities)).mean()
