"""The only training loop of the project."""

from __future__ import annotations

import gc
import math
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError
from causalft.models.tuning.checkpoint import (
    LossWatch,
    Progress,
    TrainingLog,
    all_finite,
    load_checkpoint,
    save_checkpoint,
    trained_state,
)
from causalft.models.tuning.processes import join_processes
from causalft.models.tuning.recipe import (
    History as History,
)
from causalft.models.tuning.recipe import (
    ParameterGroups,
    lr_factor,
    make_optimizer,
    set_lr,
    shape_of_groups,
    warmup_length,
)
from causalft.models.tuning.recipe import (
    Recipe as Recipe,
)
from causalft.models.tuning.statistics import BatchStatistics
from causalft.runs.folder import remove_for_good
from causalft.runs.limits import torch_seed
from causalft.runs.progress import Phase, phase

__all__ = ["cut", "free_memory", "n_batches", "out_of_memory", "train"]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, a GPU or PyTorch's CPU allocator means that memory ran out.

    Examples
    --------
    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    True
    >>> out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    from accelerate.utils.memory import should_reduce_batch_size

    if not isinstance(error, RuntimeError):
        return False
    # accelerate looks for its messages in the first argument, which need not be a text.
    text = RuntimeError(str(error))
    # The allocator's message on Windows is another one.
    return should_reduce_batch_size(text) or "DefaultCPUAllocator: not enough memory" in str(text)


def free_memory() -> None:
    """Free the memory of a failed attempt; call it outside its ``except``, because the exception holds its tensors."""
    from accelerate.utils.memory import clear_device_cache

    gc.collect()
    clear_device_cache()


def cut(indices: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Cut a batch into at most ``parts`` non-empty micro-batches, whose sizes differ by at most one.

    Examples
    --------
    >>> [part.tolist() for part in cut(torch.arange(5), 2)]
    [[0, 1, 2], [3, 4]]
    >>> len(cut(torch.arange(3), 8)), len(cut(torch.arange(0), 2))
    (3, 0)
    """
    if len(indices) == 0:
        return ()
    return (indices,) if parts == 1 else indices.tensor_split(min(parts, len(indices)))


BatchLoss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]
Sampler = Callable[[torch.Generator], Tensor]
CutBatches = Literal["same", "other", "never"]
Validate = Callable[[nn.Module], float]

_SAVING_SHARE = 0.05  # of the time at most


def train(
    model: nn.Module,
    n_samples: int,
    batch_loss: BatchLoss,
    recipe: Recipe,
    *,
    label: str = "training",
    progress: bool | None = None,
    checkpoint: Path | None = None,
    checkpoint_every_seconds: float = 60.0,
    sampler: Sampler | None = None,
    validate: Validate | None = None,
    log_dir: Path | None = None,
    parameter_groups: ParameterGroups | None = None,
    at_epoch: Callable[[int], None] | None = None,
    after_epoch: Callable[[int], None] | None = None,
    cut_batches: CutBatches = "same",
    say: Callable[[str], None] = warnings.warn,
) -> History:
    """Train the parameters of ``model`` that require a gradient.

    Under ``accelerate launch`` or ``torchrun`` each process takes its share of every batch, and all end with the
    weights of a single process up to rounding, if the loss is a mean over samples and draws nothing from its generator.

    Parameters
    ----------
    model : torch.nn.Module
        On its device, in train or eval mode: the loop does not change the mode.
    n_samples : int
        Samples are the indices ``0 .. n_samples - 1``; without a ``sampler`` every epoch visits each once, in an order
        drawn from ``(recipe.seed, epoch)``.
    batch_loss : callable
        ``batch_loss(model, indices, generator) -> scalar loss``, a mean over the samples; ``indices`` has shape
        (batch,), ``generator`` is seeded by the epoch.
    recipe : Recipe
    label : str
        Prefix of the progress bar and of messages.
    progress : bool, optional
        Show the bar; by default if standard error is a terminal.
    checkpoint : pathlib.Path, optional
        A safetensors file, written after every epoch and in between, removed at the end. If it exists, training
        resumes from it and ends with the weights of an uninterrupted run (on a CPU to the last bit).
    checkpoint_every_seconds : float
        Within an epoch; longer if writing takes more than a twentieth of the time. 0 writes after every step.
    sampler : callable, optional
        ``sampler(generator) -> indices`` of one epoch, shape (n_samples,), repeats allowed.
    validate : callable, optional
        ``validate(model) -> float``, lower is better, called after every epoch, without gradients, in every process;
        ``recipe.patience`` stops early by it.
    log_dir : pathlib.Path, optional
        Folder for TensorBoard.
    parameter_groups : sequence of (parameters, factor), optional
        Factors on the learning rate, such as of a new head.
    at_epoch : callable, optional
        ``at_epoch(number)`` before each epoch, from 0, also before one that is resumed half-way.
    after_epoch : callable, optional
        ``after_epoch(number)`` after its last step, before its validation and its checkpoint, in every process: buffers
        that it changes are kept, and if it raises, the last checkpoint stays.
    cut_batches : {"same", "other", "never"}
        What a batch that does not fit into memory gives where it is cut: the same result up to rounding; another one,
        as the loss depends on which samples share a part, which is said; or it is never cut, but refused.
    say : callable
        Receives a line if the loop had to change something, such as a batch that did not fit into memory; by default a
        warning. Also in ``History.notes``.

    Raises
    ------
    CausalFTError
        If there is nothing to train, the recipe is invalid, the loss is not finite, one sample (a batch that is needed
        whole) does not fit into memory, the checkpoint is damaged or of another training, or the processes do not find
        each other.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(1, 1)
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> def squared_error(model, indices, generator):
    ...     return (model(x[indices]) - 3 * x[indices]).square().mean()
    >>> history = train(model, 64, squared_error, Recipe(epochs=30, batch_size=16, lr=0.1), progress=False)
    >>> round(model.weight.item(), 1)
    3.0
    """
    if n_samples < 1:
        raise CausalFTError("there is nothing to train on: 0 samples")
    recipe.check()
    if recipe.patience is not None and validate is None:
        raise CausalFTError("an early stop (patience) needs validation data; give some or leave patience out")
    loop = _Loop(
        model,
        n_samples,
        batch_loss,
        recipe,
        label,
        sampler,
        validate,
        parameter_groups,
        at_epoch,
        after_epoch,
        cut_batches,
        say,
    )
    return loop.run(progress, checkpoint, checkpoint_every_seconds, log_dir)


class _Loop:
    """One training: its constants, and ``state``, which a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        n_samples: int,
        batch_loss: BatchLoss,
        recipe: Recipe,
        label: str,
        sampler: Sampler | None,
        validate: Validate | None,
        groups: ParameterGroups | None,
        at_epoch: Callable[[int], None] | None,
        after_epoch: Callable[[int], None] | None,
        cut_batches: CutBatches,
        say: Callable[[str], None],
    ) -> None:
        self.model, self.n_samples, self.batch_loss, self.recipe = model, n_samples, batch_loss, recipe
        self.label, self.sampler, self.validate, self.say = label, sampler, validate, say
        self.at_epoch, self.after_epoch, self.cut_batches = at_epoch, after_epoch, cut_batches
        self.statistics = [module for module in model.modules() if isinstance(module, BatchStatistics)]
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.parameters:
            raise CausalFTError("there is nothing to train: no parameter of the model requires a gradient")
        self.steps = n_batches(n_samples, recipe.batch_size)
        warmup_length(recipe, self.steps)
        self.optimizer = make_optimizer(self.parameters, recipe, groups)
        self.processes = join_processes(self.parameters[0].device, recipe.precision)
        self.watch = LossWatch(recipe, label, self.steps, self.processes.device)
        self.state = Progress(parts=recipe.accumulation)
        self.generator = torch.Generator()
        self.checkpoint: Path | None = None

    def run(
        self, progress: bool | None, checkpoint: Path | None, every: float, log_dir: Path | None
    ) -> History:
        started = time.perf_counter()
        state, recipe, main = self.state, self.recipe, self.processes.is_main
        self.checkpoint, self.every, self.saved = checkpoint, every, time.monotonic()
        self._start()
        state = self.state
        bar = phase(
            self.label,
            self.steps * recipe.epochs,
            initial=self.done,
            unit="step",
            progress=progress if main else False,
            leave=False,
        )
        with ExitStack() as stack:
            stack.enter_context(bar)
            if log_dir is not None and main:
                self.watch.log = TrainingLog(log_dir, self.done)
                stack.callback(self.watch.log.close)
            while state.epoch < recipe.epochs:
                self._epoch(bar)
                if self._out_of_patience():
                    break
                if state.epoch < recipe.epochs:
                    self._save()
        self._finish()
        return History(
            state.losses, time.perf_counter() - started, state.validation, state.best_epoch, state.notes
        )

    @property
    def done(self) -> int:
        """Steps done in all."""
        return self.state.epoch * self.steps + self.state.batch

    def _start(self) -> None:
        """Resume from the checkpoint, if there is one, and give all processes the same weights."""
        self.identity = {
            "format": 2,
            "recipe": asdict(self.recipe),
            "n_samples": self.n_samples,
            "groups": shape_of_groups(self.optimizer),
        }
        if self.checkpoint is not None and self.checkpoint.exists():
            self.state = load_checkpoint(
                self.checkpoint, self.identity, self.model, self.optimizer, self.processes.scaler
            )
            self.watch.kept = self.checkpoint, self.done
        if not self.processes.all_equal(self.done):
            raise CausalFTError(
                f"not every process sees {self.checkpoint}; put it into a folder that all machines share"
            )
        self.processes.copy_from_main(trained_state(self.model).values())
        self.watch.seen = self.done

    def _epoch(self, bar: Phase) -> None:
        state, recipe = self.state, self.recipe
        if self.at_epoch is not None:
            self.at_epoch(state.epoch)
        self.generator.manual_seed(torch_seed(recipe.seed * 1_000_003 + state.epoch))
        order = self._order()
        if state.generator is not None:
            self.generator.set_state(state.generator)
            state.generator = None
        while state.batch < self.steps:
            set_lr(self.optimizer, recipe.lr * lr_factor(recipe, self.done, self.steps))
            indices = order[state.batch * recipe.batch_size : (state.batch + 1) * recipe.batch_size]
            # Looked at before the step, so that on a CPU no bad loss reaches the weights.
            state.summed += self.watch.take(self._gradient(indices), len(indices))
            self._update()
            state.batch += 1
            bar.update()
            if time.monotonic() - self.saved >= self.every:
                self._save()
        state.summed += self.watch.read()
        state.losses.append(state.summed / self.steps)
        bar.set_postfix(loss=f"{state.losses[-1]:.3f}")
        # Running statistics differ by the share that each process saw.
        self.processes.copy_from_main(self.model.buffers())
        if self.after_epoch is not None:
            self.after_epoch(state.epoch)
        if self.validate is not None:
            self._validate(self.validate)
        state.epoch, state.batch, state.summed = state.epoch + 1, 0, 0.0

    def _order(self) -> Tensor:
        """The indices of an epoch, the same in all processes."""
        if self.sampler is None:
            return torch.randperm(self.n_samples, generator=self.generator)
        order = torch.as_tensor(self.sampler(self.generator))
        if order.shape != (self.n_samples,) or order.min() < 0 or order.max() >= self.n_samples:
            raise CausalFTError(
                f"{self.label}: the sampler must give {self.n_samples} indices below {self.n_samples},"
                f" not a tensor of shape {tuple(order.shape)}"
            )
        return order

    def _gradient(self, indices: Tensor) -> Tensor:
        """Compute the gradients of a batch and return its loss; halve what does not fit into memory."""
        share = self.processes.share(indices)
        generator = self.processes.generator(self.generator, self.recipe, self.done)
        drawn = generator.get_state()
        while True:
            try:
                loss = self._accumulate(share, len(indices), generator)
                break
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            # Outside of the except: the exception held the frames, and these the tensors, of the failed try.
            self._halve(len(share))
            generator.set_state(drawn)
        summed = self.processes.sum_gradients(self.parameters, loss)
        for each in self.statistics:
            each.finish_batch(self.processes.total)
        return summed

    def _accumulate(self, share: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Sum the gradients of the micro-batches of a share, weighted by their part of the ``n`` samples."""
        scaler = self.processes.scaler
        self.optimizer.zero_grad(set_to_none=True)
        for each in self.statistics:
            each.start_batch()
        losses = []
        for part in cut(share, self.state.parts):
            with self.processes.autocast:
                loss = self.batch_loss(self.model, part, generator)
            if len(part) < n:
                loss = loss * (len(part) / n)
            (loss if scaler is None else scaler.scale(loss)).backward()
            losses.append(loss.detach())
        if len(losses) == 1:
            return losses[0]
        return torch.stack(losses).sum() if losses else torch.zeros((), device=self.processes.device)

    def _halve(self, n: int) -> None:
        """Cut every step into twice as many micro-batches."""
        state = self.state
        self.optimizer.zero_grad(set_to_none=True)
        free_memory()
        if self.cut_batches == "never":
            raise CausalFTError(
                f"{self.label}: {n} samples at once do not fit into memory, and their loss needs the whole batch; take"
                " a smaller batch size, model or image size, or tune fewer blocks"
            )
        if state.parts >= n:
            raise CausalFTError(
                f"{self.label}: one sample alone does not fit into memory; take a smaller model or image size, tune"
                " fewer blocks, or use a device with more memory"
            )
        size = -(-n // state.parts)
        state.parts *= 2
        result = "the same result up to rounding"
        if self.cut_batches == "other":
            result = "another result: the loss depends on which samples share a part"
        note = (
            f"{self.label}: {size} samples at once do not fit into memory; from step {self.done + 1} on a batch goes in"
            f" {state.parts} parts, with {result}"
        )
        state.notes.append(note)
        if self.processes.is_main:
            self.say(note)

    def _update(self) -> None:
        """Take one step of the optimiser."""
        scaler, clip = self.processes.scaler, self.recipe.grad_clip
        if clip is not None:
            if scaler is not None:
                scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, clip)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def _validate(self, validate: Validate) -> None:
        started = time.perf_counter()
        state, modes = self.state, [(module, module.training) for module in self.model.modules()]
        try:
            with torch.no_grad():
                value = self.processes.from_main(float(validate(self.model)))
        finally:
            for module, mode in modes:
                module.training = mode
        state.validation.append(value)
        if self.watch.log is not None:
            self.watch.log.validation(self.done - 1, value, time.perf_counter() - started)
        if not math.isnan(value) and (state.best_epoch is None or value < state.validation[state.best_epoch]):
            state.best_epoch = state.epoch
            if self.recipe.patience is not None:
                state.best = {name: x.detach().clone() for name, x in trained_state(self.model).items()}

    def _out_of_patience(self) -> bool:
        state, patience = self.state, self.recipe.patience
        best = -1 if state.best_epoch is None else state.best_epoch
        return patience is not None and len(state.validation) - 1 - best >= patience

    def _save(self) -> None:
        """Write the checkpoint, unless the weights are spoilt: then the next loss will say so."""
        began = self.saved = time.monotonic()
        if self.checkpoint is None or not self.processes.is_main:
            return
        state = self.state
        state.summed += self.watch.read()
        if not all_finite(self.parameters):
            return
        state.generator = self.generator.get_state() if state.batch else None
        save_checkpoint(
            self.checkpoint, self.identity, self.model, self.optimizer, state, self.processes.scaler
        )
        state.generator = None
        self.watch.kept = self.checkpoint, self.done
        self.saved = time.monotonic()
        if self.every > 0:
            self.every = max(self.every, (self.saved - began) / _SAVING_SHARE)

    def _finish(self) -> None:
        """Take the best weights after an early stop, and remove the checkpoint."""
        state = self.state
        if state.best and state.best_epoch != len(state.validation) - 1:
            with torch.no_grad():
                for name, value in trained_state(self.model).items():
                    value.copy_(state.best[name])
        if not all_finite(self.parameters):
            raise self.watch.stopped("the weights are not finite", self.done - 1)
        if self.checkpoint is not None and self.processes.is_main:
            remove_for_good(self.checkpoint)
        self.processes.all_equal(0)  # wait until the file is gone


def n_batches(n_samples: int, batch_size: int) -> int:
    """Return the batches of an epoch; a last batch of one sample is dropped unless it is the only one, because
    batch norm needs two.

    Examples
    --------
    >>> n_batches(128, 64), n_batches(129, 64), n_batches(130, 64), n_batches(1, 64)
    (2, 2, 3, 1)
    """
    full, rest = divmod(n_samples, batch_size)
    return max(1, full + (rest > 1))
