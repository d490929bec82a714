"""Gaussian classes on the unit sphere, and a small loop that trains a method on their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.methods.semi.method import Answers, Method, Step, Task

STRONG_NOISE = 0.1


@dataclass(frozen=True)
class Gaussians:
    """Features and classes of labelled, unlabelled and test images; the start of heads."""

    labelled: Tensor
    labels: Tensor
    unlabelled: Tensor
    hidden: Tensor
    test: Tensor
    test_labels: Tensor
    weight: Tensor

    def task(self, **options) -> Task:
        """The task that a method is told."""
        n_classes = len(self.weight)
        counts = torch.bincount(self.labels, minlength=n_classes).float()
        settings = {"epochs": 8, **options}
        return Task(counts=counts, weight=self.weight, n_unlabelled=len(self.unlabelled), **settings)


def gaussians(
    counts: Sequence[int],
    unlabelled: Sequence[int],
    *,
    spread: float = 0.35,
    width: int = 16,
    seed: int = 0,
    n_test: int = 200,
) -> Gaussians:
    """Draw classes whose features lie around random unit vectors; heads start from noisy class means."""
    generator = torch.Generator().manual_seed(seed)
    n_classes = len(counts)
    means = F.normalize(torch.randn(n_classes, width, generator=generator), dim=-1)

    def draw(numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        labels = torch.arange(n_classes).repeat_interleave(torch.tensor(list(numbers)))
        noise = spread * torch.randn(len(labels), width, generator=generator)
        return F.normalize(means[labels] + noise, dim=-1), labels

    x, y = draw(counts)
    u, hidden = draw(unlabelled)
    test, test_labels = draw([n_test] * n_classes)
    weight = F.normalize(means + 0.3 * torch.randn(n_classes, width, generator=generator), dim=-1)
    return Gaussians(x, y, u, hidden, test, test_labels, weight)


def same(tensor: Tensor) -> Tensor:
    """The sum over the one process."""
    return tensor


def blank(method: Method, data: Gaussians) -> Answers:
    """The answers to an image without content, which lies between all classes, nearer to the frequent ones."""
    with torch.no_grad():
        answers: Answers = method(data.labelled.mean(0, keepdim=True))
    return answers


def step(
    method: Method, data: Gaussians, rows: Tensor, drawn: Tensor, labels: Tensor, noise: Tensor
) -> Tensor:
    """The loss of one (micro-)batch, observed by the method."""
    with torch.no_grad():
        weak = method(data.unlabelled[rows])
        beliefs = method.beliefs(weak)
        targets = method.choose(beliefs, rows)
    answers = method(torch.cat([drawn, data.unlabelled[rows] + noise]))
    known, strong = answers[slice(0, len(drawn))], answers[slice(len(drawn), None)]
    loss = method.labelled_loss(known, labels) + method.unlabelled_loss(strong, targets)
    with torch.no_grad():
        detached = Answers(known.features.detach(), known.logits.detach())
        method.observe(Step(detached, labels, weak, beliefs, targets, rows))
    return loss


def train_directly(
    method: Method, data: Gaussians, *, epochs: int | None = None, batch: int = 64, lr: float = 0.02
) -> Method:
    """Train the heads of a method on frozen features; noise is the strong view."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(method.parameters(), lr=lr, momentum=0.9)
    for number in range(method.task.epochs if epochs is None else epochs):
        for rows in torch.randperm(len(data.unlabelled), generator=generator).split(batch):
            features, labels = data.labelled, data.labels
            if method.joined is not None:
                kept = method.joined >= 0
                features = torch.cat([features, data.unlabelled[kept]])
                labels = torch.cat([labels, method.joined[kept]])
            drawn = torch.randint(len(labels), (batch // 2,), generator=generator)
            noise = STRONG_NOISE * torch.randn(len(rows), features.shape[1], generator=generator)
            if method.needs_blank:
                method.see_blank(blank(method, data))
            method.start_batch()
            loss = step(method, data, rows, features[drawn], labels[drawn], noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.finish_batch(same)
        method.end_epoch(number)
    return method


def predict(method: Method, x: Tensor) -> Tensor:
    """Logits (n, K) of the classifier that a method ends with."""
    weight, bias = method.final()
    return method.task.scale * F.normalize(x, dim=-1) @ weight.T + bias


def recall(method: Method, data: Gaussians, head: int | None = None) -> Tensor:
    """Recall of each class on the test features, (K,): of what :meth:`Method.final` predicts, or of one head."""
    with torch.no_grad():
        logits = predict(method, data.test) if head is None else method(data.test).logits[:, head]
    right = (logits.argmax(-1) == data.test_labels).double()
    return torch.stack([right[data.test_labels == k].mean() for k in range(len(data.weight))])
