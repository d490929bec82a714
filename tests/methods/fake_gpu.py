"""A GPU without a GPU: tensors on ``cuda`` that have shapes and devices but no numbers.

PyTorch's fake tensors raise the error of a real GPU where two devices meet. Above them a mode notes whatever would make
the processor wait for the GPU, and answers the questions that need a number.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from causalft.models.tuning import precision
from causalft.models.tuning import train as module
from causalft.models.tuning.devices import autocast
from causalft.models.tuning.processes import Processes

DEVICE = torch.device("cuda:0")
ATEN = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
BY_INDEX = (ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default)


def on_gpu(values) -> bool:
    return any(
        isinstance(value, torch.Tensor) and value.device.type == "cuda" for value in tree_leaves(values)
    )


class FakeGpu(TorchDispatchMode):
    """``waits`` lists the operations that a processor cannot leave behind on a real GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is ATEN._local_scalar_dense.default:
            if on_gpu(args):
                self.waits.append("item")
            return {torch.bool: True, torch.int64: 1}.get(args[0].dtype, 1.0)
        found = func(*args, **kwargs)
        if func in COPIES:
            source = args[1] if func is ATEN.copy_.default else args[0]
            non_blocking = kwargs.get("non_blocking", len(args) > 2 and args[2])
            both = {source.device.type, found.device.type}
            # from the GPU the processor needs the numbers; to the GPU it need not wait
            if len(both) == 2 and not (non_blocking and found.device.type == "cuda"):
                self.waits.append(
                    f"copy {source.device.type} to {found.device.type} of {tuple(source.shape)}"
                )
        elif func in BY_INDEX and on_gpu(args[0]):
            if any(index is not None and index.device.type == "cpu" for index in args[1]):
                self.waits.append("index on the CPU")
        return found


def to_gpu(module: nn.Module) -> nn.Module:
    """Replace every tensor of a module by one on the fake GPU."""
    for part in module.modules():
        for name, value in list(part._parameters.items()):
            if value is not None:
                made = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
                part._parameters[name] = nn.Parameter(made, requires_grad=value.requires_grad)
        for name, value in list(part._buffers.items()):
            if value is not None:
                part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
    return module


def _moved(self, fn, recurse=True):
    """`torch.nn.Module._apply`, which cannot swap fake tensors."""
    for child in self.children():
        child._apply(fn)
    for name, value in self._parameters.items():
        made = value if value is None else fn(value.detach())
        if made is not None and made.device != value.device:
            self._parameters[name] = nn.Parameter(made, requires_grad=value.requires_grad)
    for name, value in self._buffers.items():
        if value is not None:
            self._buffers[name] = fn(value)
    return self


def _numpy(self, **_):
    """`torch.Tensor.numpy`: any numbers from the CPU, and the error of PyTorch for a GPU."""
    if self.device.type != "cpu":
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
    if self.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")
    if not isinstance(self, FakeTensor):
        return real_numpy(self)
    rng, shape = np.random.default_rng(0), tuple(self.shape)
    # whole numbers that can be indices, others that can be counts
    found = rng.uniform(1, 2, shape) if self.is_floating_point() else rng.integers(0, 2, shape)
    return np.asarray(found, str(self.dtype).removeprefix("torch."))


def _backward(self, *_, **__):
    """Gradients of the right place and shape: PyTorch's engine asks the driver for a stream."""
    for parameter in LEAVES:
        parameter.grad = torch.zeros_like(parameter)


def _alone(device, precision="fp32"):
    """`join_processes`, which would ask for the GPU; without the scaler of fp16, whose kernel has no fake."""
    return Processes(device, 0, 1, autocast(device, precision))


def _noted(parameters, *rest):
    LEAVES[:] = parameters
    return make_optimizer(parameters, *rest)


make_optimizer, real_numpy = module.make_optimizer, torch.Tensor.numpy
LEAVES: list[nn.Parameter] = []


@contextmanager
def fake_gpu():
    """Run the block with a fake GPU; gives the :class:`FakeGpu`."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(precision, "has_bf16", lambda device: True)
        patch.setattr(module, "join_processes", _alone)
        patch.setattr(module, "make_optimizer", _noted)
        patch.setattr(nn.Module, "_apply", _moved)
        patch.setattr(torch.Tensor, "numpy", _numpy)
        patch.setattr(torch.Tensor, "backward", _backward)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        LEAVES.clear()
        gpu = stack.enter_context(FakeGpu())

        def to_list(tensor):
            gpu.waits += ["tolist"] * on_gpu(tensor)
            return np.ones(tuple(tensor.shape)).tolist()

        patch.setattr(FakeTensor, "tolist", to_list)
        yield gpu
