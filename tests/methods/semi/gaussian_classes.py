"""Classes that are Gaussian in a small feature space, and a loop that drives a method without images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from causalft.methods.semi.method import Answers, Task


@dataclass
class World:
    """``means`` (K, d) are unit rows; an image is one of them plus noise."""

    means: torch.Tensor
    noise: float

    @classmethod
    def draw(cls, n_classes=4, width=12, noise=0.25, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return cls(F.normalize(torch.randn(n_classes, width, generator=generator), dim=-1), noise)

    def images(self, counts, seed):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.repeat_interleave(torch.arange(len(counts)), torch.as_tensor(counts))
        noise = self.noise * torch.randn(len(labels), self.means.shape[1], generator=generator)
        return self.means[labels] + noise, labels

    def task(self, counts, n_unlabelled, *, start=0.6, **others):
        """Heads start from the true means plus noise."""
        generator = torch.Generator().manual_seed(99)
        off = start * torch.randn(self.means.shape, generator=generator) / self.means.shape[1] ** 0.5
        weight = F.normalize(self.means + off, dim=-1)
        others = {"epochs": 5, "scale": 10.0, **others}
        return Task(torch.as_tensor(counts).float(), weight, n_unlabelled, **others)


def learn(
    method, labelled, unlabelled, *, epochs=5, batch=64, lr=0.02, parts=1, noise=0.1, blank=None, seed=0
):
    """Train a method on features; ``parts`` are micro-batches per step, ``blank`` the features without content."""
    (x, y), u = labelled, unlabelled
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    for epoch in range(epochs):
        for rows in torch.randperm(len(u), generator=generator).split(batch):
            drawn = torch.randint(len(x), (len(rows) // 2,), generator=generator)
            strong = u[rows] + noise * torch.randn(len(rows), u.shape[1], generator=generator)
            method.start_batch()
            optimiser.zero_grad()
            for part, mine in zip(torch.arange(len(rows)).chunk(parts), drawn.chunk(parts), strict=True):
                step(
                    method,
                    (x[mine], y[mine]),
                    u[rows[part]],
                    strong[part],
                    rows[part],
                    blank,
                    len(part) / len(rows),
                )
            method.finish_batch(lambda tensor: tensor)
            optimiser.step()
        method.end_epoch(epoch)
    return method


def step(method, labelled, weak, strong, rows, blank=None, share=1.0):
    """One (micro-)batch, as the loop of the project calls a method."""
    x, y = labelled
    with torch.no_grad():
        if method.needs_blank:
            method.see_blank(method(blank[None]))
        seen = method(weak)
        beliefs = method.beliefs(seen)
        targets = method.choose(beliefs, rows)
    answers = method(torch.cat([x, strong]))
    mine, others = answers[slice(0, len(x))], answers[slice(len(x), None)]
    loss = method.labelled_loss(mine, y) + method.unlabelled_loss(others, targets)
    (share * loss).backward()
    with torch.no_grad():
        detached = Answers(mine.features.detach(), mine.logits.detach())
        method.observe(detached, y, seen, beliefs, targets, rows)
    return loss


def predict(method, x):
    """Logits (n, K) of the classifier that a method ends with."""
    weight, bias = method.final()
    return method.task.scale * F.normalize(x, dim=-1) @ weight.T + bias


def recalls(method, x, y):
    """Share of each class that is found, (K,)."""
    right = predict(method, x).argmax(1) == y
    return torch.stack([right[y == k].float().mean() for k in range(method.task.n_classes)])


def assert_same_state(first, second, *, atol=1e-5):
    """Weights and buffers agree."""
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(
            tensor, two[name], rtol=0, atol=atol, msg=lambda found, name=name: f"{name}: {found}"
        )
