"""FreeMatch's thresholds, which follow the confidence of the model, for the heads of a channel ensemble."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from causalft.methods.semi.channel_ensemble import ChannelEnsemble, refuse_heads
from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Step, Targets, Task

__all__ = ["AdaptiveEnsemble", "class_thresholds"]


class AdaptiveEnsemble(ChannelEnsemble):
    """:class:`ChannelEnsemble` whose threshold adapts itself, as that of FreeMatch does.

    Wang et al., "FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning", ICLR 2023, Eq. 5-8. The global
    threshold tau and the shares p of the classes are moving averages, over steps, of the mean confidence and of the
    mean probabilities of the weak views, both 1 / K at first. A view that is taken for class c counts from

        tau_c = tau p_c / max p

    on. Here a head counts where it is as sure as the threshold of its own class, and an image where enough heads count.

    Parameters
    ----------
    task : Task
    threshold : float
        Most that a threshold may be; 1 leaves them free.
    unlabelled_weight, heads, agree, own_share, low_bias, low_variance
        As :class:`ChannelEnsemble`.
    decay : float
        Share of the former averages that stays after a step, in [0, 1].

    Attributes
    ----------
    level : Tensor
        tau, a scalar.
    law : (K,) Tensor
        p.
    """

    level: Tensor
    law: Tensor

    def __init__(
        self,
        task: Task,
        *,
        threshold: float = 1.0,
        unlabelled_weight: float = 1.0,
        heads: int = 5,
        agree: int = 4,
        own_share: float = 0.1,
        low_bias: float = 1.0,
        low_variance: float = 1.0,
        decay: float = 0.9,
    ) -> None:
        super().__init__(
            task,
            threshold=threshold,
            unlabelled_weight=unlabelled_weight,
            heads=heads,
            agree=agree,
            own_share=own_share,
            low_bias=low_bias,
            low_variance=low_variance,
        )
        self.decay = decay
        self.register_buffer("level", torch.tensor(1 / task.n_classes))
        self.register_buffer("law", torch.full((task.n_classes,), 1 / task.n_classes))

    @property
    def least_confidence(self) -> float:
        return min(float(self.level), self.threshold)

    def choose(self, beliefs: Tensor, rows: Tensor) -> Targets:
        """One target for all heads."""
        least = class_thresholds(self.level, self.law).clamp(max=self.threshold)
        best, label = beliefs[:, 1:].max(-1)
        enough = (best >= least[label]).sum(1, keepdim=True) >= self.agree
        one_hot = F.one_hot(beliefs[:, :1].argmax(-1), beliefs.shape[-1]).to(beliefs.dtype)
        return Targets(one_hot, enough.to(beliefs.dtype))

    def observe(self, seen: Step) -> None:
        heads = seen.beliefs[:, 1:].flatten(0, 1)
        found = torch.cat([heads.amax(-1).sum()[None], heads.sum(0), heads.new_tensor([len(heads)])])
        self._sums += found.to(self._sums)

    def start_batch(self) -> None:
        self._sums = torch.zeros(self.task.n_classes + 2, device=self.log_prior.device)

    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        found = total(self._sums)
        if found[-1] > 0:
            mean = found[:-1] / found[-1]
            self.level.mul_(self.decay).add_((1 - self.decay) * mean[0])
            self.law.mul_(self.decay).add_((1 - self.decay) * mean[1:])
        super().finish_batch(total)
        self.start_batch()


def class_thresholds(level: Tensor, law: Tensor) -> Tensor:
    """FreeMatch's thresholds (K,): the global one, a scalar, times the shares (K,) over the largest of them.

    Examples
    --------
    >>> class_thresholds(torch.tensor(0.8), torch.tensor([0.5, 0.25, 0.25])).tolist()
    [0.800000011920929, 0.4000000059604645, 0.4000000059604645]
    """
    return level * law / law.max()


CHANNEL_FREEMATCH = SemiMethod(
    name="channel-freematch",
    help="channel-ensemble with FreeMatch's thresholds, one per class, which follow the confidence of the model",
    make=AdaptiveEnsemble,
    refuse=refuse_heads,
    shares=("threshold", "own_share", "decay"),
    ours=(
        "those of channel-ensemble; the averages are over all heads and some ten steps (decay 0.9, where the published "
        "0.999 is for a million steps), before the step that they serve; without FreeMatch's fairness loss"
    ),
    source="Wu et al., arXiv 2403.18407; Wang et al., ICLR 2023",
    order=29,
)
