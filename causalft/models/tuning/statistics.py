"""Statistics of whole batches that a module keeps during training, whatever a batch was cut into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

__all__ = ["BatchStatistics"]


class BatchStatistics(ABC):
    """A module that learns a statistic of each batch, such as a moving average, beside its weights.

    Its ``forward`` sees micro-batches, and of several processes only a share. It collects there, and
    :func:`causalft.models.tuning.train.train` calls the two methods around the batch.
    """

    @abstractmethod
    def start_batch(self) -> None:
        """Forget what was collected: a batch begins, or begins anew because it did not fit into memory."""

    @abstractmethod
    def finish_batch(self, total: Callable[[Tensor], Tensor]) -> None:
        """Take the batch into the statistic.

        Parameters
        ----------
        total : callable
            ``total(tensor) -> tensor``: the sum over all processes, which call it equally often with equal shapes.
        """
