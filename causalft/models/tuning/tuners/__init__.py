"""Tuners: one name, or several joined by "+", decides what of an image tower is trained; one record each."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from causalft.errors import CausalFTError, several
from causalft.models.tuning.choices import TUNERS, Choice, parse_tuner
from causalft.models.tuning.towers import Tower

__all__ = [
    "TUNERS",
    "Tuned",
    "any_tower",
    "apply_tuner",
    "check_tuner",
    "has_blocks",
    "is_resnet",
    "is_vit",
    "names_in",
    "need_exact_weights",
    "replace_module",
    "supported_tuners",
]


class Tuned:
    """A tower with its tuners, made by :func:`apply_tuner`.

    Attributes
    ----------
    tower : Tower
    spec : str
        The tuners in their own order, such as ``adaptformer+bias``.
    bottleneck, seed : int
    first_tuned_block : int
        Everything before it is frozen, so its output for an image never changes; the number of blocks if nothing of the
        tower is trained.
    trains_head : bool
        False for ``zero-shot`` only.
    added : frozenset of str
        Trained parameters of the tower that the backbone does not have, such as those of adapters.
    """

    def __init__(
        self,
        tower: Tower,
        choices: tuple[Choice, ...],
        names: list[str],
        bottleneck: int,
        seed: int,
        added: frozenset[str],
    ) -> None:
        self.tower = tower
        self.choices = choices
        self.spec = "+".join(map(str, choices))
        self.bottleneck = bottleneck
        self.seed = seed
        self._names, self.added = names, added
        self.first_tuned_block = min([tower.reaches(name) for name in self._names], default=len(tower.blocks))
        self.trains_head = self.spec != "zero-shot"
        self._merged = False

    def __repr__(self) -> str:
        return f"Tuned({self.tower.kind}, {self.spec!r}, {self.n_parameters:,} trained parameters)"

    def parameters(self) -> list[nn.Parameter]:
        """Trained parameters of the tower, without the head."""
        return [self.tower.get_parameter(name) for name in self._names]

    @property
    def n_parameters(self) -> int:
        """Trained numbers of the tower."""
        return sum(parameter.numel() for parameter in self.parameters())

    def state(self) -> dict[str, Tensor]:
        """Return copies of the trained tensors by name, on the CPU, without the backbone.

        Raises
        ------
        CausalFTError
            After :meth:`merge`, or if some of them are rounded.
        """
        self._refuse_merged("saved")
        whole = {name for name, _ in self.tower.named_parameters()}
        if not whole.issuperset(self._names):
            raise CausalFTError(
                f"{self.spec!r} is rounded to int8 for prediction and cannot be saved; load it in fp32"
            )
        return {
            _name_in_file(name): self.tower.get_parameter(name).detach().cpu().clone().contiguous()
            for name in self._names
        }

    def load(self, state: Mapping[str, Tensor]) -> Tuned:
        """Read what :meth:`state` gave.

        Raises
        ------
        CausalFTError
            If a tensor is missing, unknown, or of another shape; then nothing is changed.
        """
        self._refuse_merged("loaded into")
        own = {_name_in_file(name): self.tower.get_parameter(name) for name in self._names}
        for name in [*own, *state]:
            if name in own and name in state and own[name].shape == state[name].shape:
                continue
            if name not in state:
                what = f"lack the tensor {name}"
            elif name not in own:
                what = f"hold the tensor {name}, which is not trained here"
            else:
                what = f"have {name} of shape {tuple(state[name].shape)} and not {tuple(own[name].shape)}"
            raise CausalFTError(
                f"these tuned weights {what}: they are not of {self.spec!r} with bottleneck {self.bottleneck} on this "
                "image tower; load them with the tuner and the backbone they were fitted with"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])
        return self

    def merge(self) -> tuple[str, ...]:
        """Fold the tuners into the weights where possible, and freeze; the features stay the same.

        Returns
        -------
        tuple of str
            Tuners that still cost something at inference, such as adapters and prompts.
        """
        left = []
        for choice in reversed(self.choices):  # from the inside out
            tuner = TUNERS[choice.name]
            whole = tuner.merge is None or tuner.merge(self.tower)
            if tuner.stays or not whole:
                left.append(choice.name)
        self.tower.requires_grad_(False)
        self._merged, self._names = True, []
        return tuple(reversed(left))

    def _refuse_merged(self, what: str) -> None:
        if self._merged:
            raise CausalFTError(
                f"{self.spec!r} was merged into the tower and can no longer be {what} by itself"
            )


def apply_tuner(tower: Tower, spec: str, *, bottleneck: int, seed: int) -> Tuned:
    """Make the parameters of a tower trainable that ``spec`` names, and add new ones.

    Except with prompts, the features are unchanged until it is trained. Everything else stays frozen and in eval mode.

    Parameters
    ----------
    tower : Tower
        Of :func:`~causalft.models.tuning.towers.open_tower`; changed in place, without changing the original model.
    spec : str
        Names of :data:`TUNERS` joined by "+" in any order, each with or without ``@last-K``.
    bottleneck : int
        Width of adapters, rank of LoRA (:func:`~causalft.models.tuning.tuners.adapters.bottleneck_width`).
    seed : int

    Raises
    ------
    CausalFTError
        For an unknown or unsupported tuner, more blocks than there are, a bottleneck below 1, or a tower that is
        already tuned.

    Examples
    --------
    >>> from causalft.models.strata.mini import MiniConfig, build_mini
    >>> from causalft.models.tuning.towers import open_tower
    >>> tuned = apply_tuner(open_tower(build_mini(MiniConfig()).visual), "lora@last-2+bias", bottleneck=4, seed=0)
    >>> tuned
    Tuned(open_clip ViT, 'lora@last-2+bias', 8,136 trained parameters)
    """
    choices = parse_tuner(spec)
    if bottleneck < 1:
        raise CausalFTError(f"a bottleneck of {bottleneck} holds nothing; give 1 or more")
    if any(parameter.requires_grad for parameter in tower.parameters()):
        raise CausalFTError("this tower is tuned already; open the image tower again")
    check_tuner(tower, spec)
    n_blocks = len(tower.blocks)
    device = next(tower.parameters()).device
    of_backbone = {name for name, _ in tower.named_parameters()}
    trained: list[nn.Parameter] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for choice in choices:
            blocks = range(n_blocks - (choice.last or n_blocks), n_blocks)
            trained += TUNERS[choice.name].apply(tower, blocks, choice.last is not None, bottleneck)
            for parameter in trained:  # again each time: peft freezes whatever is not its own
                parameter.requires_grad_()
    tower.eval().to(device)
    names = [name for name, parameter in tower.named_parameters() if parameter.requires_grad]
    return Tuned(tower, choices, names, bottleneck, seed, frozenset(names) - of_backbone)


def check_tuner(tower: Tower, spec: str) -> None:
    """Refuse tuners that a tower does not support; the tower is not changed.

    Parameters
    ----------
    tower : Tower
    spec : str
        As for :func:`apply_tuner`.

    Raises
    ------
    CausalFTError
        For an unknown or unsupported tuner, or more blocks than there are.

    Examples
    --------
    >>> from causalft.models.tuning.towers import open_tower
    >>> check_tuner(open_tower(nn.Sequential(nn.Conv2d(3, 8, 4), nn.Flatten())), "full")
    """
    for choice in parse_tuner(spec):
        if not TUNERS[choice.name].fits(tower):
            raise CausalFTError(
                f"tuner {choice.name!r} is not defined for this image tower ({tower.kind}); "
                f"it supports {', '.join(supported_tuners(tower))}"
            )
        if (choice.last or 0) > len(tower.blocks):
            raise CausalFTError(
                f"tuner {str(choice)!r}: this image tower has only {several(tower.blocks, 'block', 'blocks')}; "
                f"give last-K a K of 1 to {len(tower.blocks)}"
            )


def supported_tuners(tower: Tower) -> list[str]:
    """Return the names of the tuners that fit a tower.

    Examples
    --------
    >>> from causalft.models.tuning.towers import open_tower
    >>> supported_tuners(open_tower(nn.Sequential(nn.Conv2d(3, 8, 4), nn.Flatten())))
    ['bias', 'full', 'linear-probe', 'zero-shot']
    """
    return sorted(name for name, tuner in TUNERS.items() if tuner.fits(tower))


def _name_in_file(name: str) -> str:
    """AdaptFormer's tensors keep the short names of the first runs: ``blocks.0.down.weight``."""
    return re.sub(r"^(blocks\.\d+)\.mlp\.(down|up)\.", r"\1.\2.", name)


def any_tower(tower: Tower) -> bool:
    """Every tower."""
    return True


def is_vit(tower: Tower) -> bool:
    """Whether every block is a transformer block."""
    try:
        return all(tower.parts(block) is not None for block in tower.blocks)
    except CausalFTError:
        return False


def is_resnet(tower: Tower) -> bool:
    """Whether the blocks are the stages of a ResNet."""
    return tower.kind == "ResNet"


def has_blocks(tower: Tower) -> bool:
    """Whether a tower is a ViT or a ResNet."""
    return is_vit(tower) or is_resnet(tower)


def names_in(names: list[str], blocks: range, confined: bool) -> list[str]:
    """Of these names in the tower, those in the blocks (all, if not confined to them)."""
    places = tuple(f"blocks.{number}." for number in blocks)
    return [name for name in names if not confined or name.startswith(places)]


def need_exact_weights(layer: nn.Module, tuner: str) -> None:
    """Raise a :class:`CausalFTError` for a layer in bfloat16: it has no exact weights to merge a tuner into."""
    if not hasattr(layer, "weight"):
        raise CausalFTError(
            f"{tuner} cannot be merged into layers that were rounded to bf16; load it into a tower in fp32"
        )


def replace_module(tower: Tower, name: str, module: nn.Module) -> None:
    """Replace the module of this name."""
    parent, _, leaf = name.rpartition(".")
    setattr(tower.get_submodule(parent), leaf, module)
