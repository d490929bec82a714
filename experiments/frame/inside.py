"""Strata from inside one tuned model: read-outs of its layers, thirds of its patches, attention without some heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalft.errors import CausalFTError
from experiments.frame.further import through

if TYPE_CHECKING:
    from torch import Tensor

    from causalft.data.image_set import ImageSet
    from causalft.methods.adaptation.tuned import TunedStratum
    from causalft.methods.estimators.member import MemberPrediction
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member

__all__ = ["HEADS", "INSIDE", "READOUTS", "TOKENS", "inside", "views_of"]

READOUTS = "read-outs"
"""The feature after a third, two thirds and all of the blocks, the first two with heads of their own, trained as the
model's head on frozen features: the cost of one model in prediction."""

HEADS = "head groups"
"""The model with a third of the attention heads of every block silenced, another third each time: no further training,
the cost of three in prediction."""

TOKENS = "token groups"
"""After the first third of the blocks, the class token goes on with a third of the patches, another third each time,
sorted by the direction in which the patches of the training images vary most. Each third has a head of its own, trained
on frozen features: the cost of about one model in prediction."""

GROUPS = 3


def views_of(family: str) -> tuple[list[str], str]:
    """The views of a member that a family fuses, and their fusion.

    Examples
    --------
    >>> views_of("read-outs")
    (['read-outs, 1', 'read-outs, 2', 'read-outs, 3'], 'read-outs, together')
    """
    return [f"{family}, {number}" for number in range(1, GROUPS + 1)], f"{family}, together"


INSIDE = tuple(
    view for family in (READOUTS, TOKENS, HEADS) for view in (*views_of(family)[0], views_of(family)[1])
)

_FOUND: dict[Any, list[NDArray[np.float32]]] = {}
"""Logits of the three views of one member by family and folder: four arms ask for them, each for all seeds."""


def inside(lab: Lab, member: Member, seed: int, view: str) -> MemberPrediction:
    """The member with its test logits replaced by those of a view (:data:`INSIDE`).

    Raises
    ------
    CausalFTError
        If the tower is no vision transformer, or its heads do not fall into three groups.
    """
    from causalft.methods.estimators.fusion import fuse

    family, which = view.split(", ")
    key = family, lab.folder(member, seed)
    if key not in _FOUND:
        for old in [each for each in _FOUND if each[0] != family]:
            del _FOUND[old]
        compute = {READOUTS: _readouts, TOKENS: _of_token_groups, HEADS: _without_heads}[family]
        _FOUND[key] = compute(lab, member, seed)
    prediction, found = lab.prediction(member, seed), _FOUND[key]
    if which != "together":
        return replace(prediction, test_logits=found[int(which) - 1])
    return replace(prediction, test_logits=np.log(np.maximum(fuse(found, kind="logits"), 1e-300)))


def _tuned_vit(lab: Lab, member: Member, seed: int) -> TunedStratum:
    from causalft.models.maps.grid import is_vit

    _, tuned = lab.tuned(member, seed)
    if not is_vit(tuned.tower):
        raise CausalFTError(
            f"{tuned.stratum.name} is no vision transformer, so it has no early class token and no attention heads"
        )
    return tuned


def _readouts(lab: Lab, member: Member, seed: int) -> list[NDArray[np.float32]]:
    tuned = _tuned_vit(lab, member, seed)
    stops = [_share_of_blocks(tuned, part) for part in range(1, GROUPS)]
    found = _with_heads(lab, member, seed, tuned, [partial(_early, tuned, stop) for stop in stops])
    return [*found, np.asarray(lab.prediction(member, seed).test_logits, dtype=np.float32)]


def _share_of_blocks(tuned: TunedStratum, thirds: int) -> int:
    return max(1, round(thirds * len(tuned.tower.blocks) / GROUPS))


def _early(tuned: TunedStratum, stop: int, pixels: Tensor) -> Tensor:
    """Features (n, d) that the tower would give if it ended after some of its blocks."""
    tower = tuned.tower
    return tower.pool(tower.run(tower.embed(pixels), stop=stop)).float()


def _of_token_groups(lab: Lab, member: Member, seed: int) -> list[NDArray[np.float32]]:
    tuned = _tuned_vit(lab, member, seed)
    stop = _share_of_blocks(tuned, 1)
    direction = _main_direction(tuned, lab.world.splits(seed, member.draw).train, stop)
    parts = [partial(_of_group, tuned, stop, direction, group) for group in range(GROUPS)]
    return _with_heads(lab, member, seed, tuned, parts)


def _main_direction(tuned: TunedStratum, images: ImageSet, stop: int, at_most: int = 1000) -> Tensor:
    """The direction (width,) in which the patches of up to 1,000 images vary most after some blocks."""
    import torch

    tower = tuned.tower
    some = images.subset(np.arange(0, len(images), max(1, -(-len(images) // at_most))))
    patches = through(
        lambda pixels: tower.run(tower.embed(pixels), stop=stop)[:, tower.n_prefix :].float(), tuned, some
    ).reshape(-1, tower.width)
    centred = patches - patches.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return torch.from_numpy(vectors[:, -1] * np.sign(vectors[np.abs(vectors[:, -1]).argmax(), -1]))


def _of_group(tuned: TunedStratum, stop: int, direction: Tensor, group: int, pixels: Tensor) -> Tensor:
    """Features (n, d) where the later blocks see the class token and one third of the patches."""
    import torch

    tower = tuned.tower
    tokens = tower.run(tower.embed(pixels), stop=stop)
    before, patches = tokens[:, : tower.n_prefix], tokens[:, tower.n_prefix :]
    order = (patches.float() @ direction.to(patches.device)).argsort(dim=1)
    places = order.tensor_split(GROUPS, dim=1)[group].sort(dim=1).values
    kept = patches.take_along_dim(places[..., None], dim=1)
    return tower.pool(tower.run(torch.cat([before, kept], dim=1), start=stop)).float()


def _with_heads(
    lab: Lab, member: Member, seed: int, tuned: TunedStratum, parts: Sequence[Callable[[Tensor], Tensor]]
) -> list[NDArray[np.float32]]:
    """Test logits of a head for each kind of feature, trained as the model's own on frozen features."""
    from causalft.methods.estimators.probes import head_logits, sweep_heads

    splits, tuning = lab.world.splits(seed, member.draw), member.tuning(lab.world.settings.tuning, seed)
    found = []
    for part in parts:
        train, test = (through(part, tuned, images) for images in (splits.train, splits.test))
        sweep = sweep_heads(
            train,
            splits.train.labels,
            splits.train.class_counts,
            losses=[tuning.loss],
            seeds=[tuning.seed],
            heads=[tuning.head],
            recipe=tuning.recipe,
            keep_heads=True,
            progress=False,
        )
        (head,) = sweep.heads.values()
        found.append(head_logits(head, test).astype(np.float32))
    return found


def _without_heads(lab: Lab, member: Member, seed: int) -> list[NDArray[np.float32]]:
    tuned = _tuned_vit(lab, member, seed)
    test, found = lab.world.splits(seed, member.draw).test, []
    for group in range(GROUPS):
        with _silenced(tuned, group):
            found.append(through(tuned.predict, tuned, test))
    return found


@contextmanager
def _silenced(tuned: TunedStratum, group: int) -> Iterator[None]:
    """Nothing comes out of one group of heads, and the others count as much more, as in dropout."""
    tower, handles = tuned.tower, []
    for block in tower.blocks:
        parts = tower.parts(block)
        attention: Any = parts.attention
        n_heads = getattr(attention, "n_heads", None) or attention.num_heads
        if n_heads < GROUPS:
            raise CausalFTError(
                f"{tuned.stratum.name} has {n_heads} attention heads; {GROUPS} groups need {GROUPS}"
            )
        silent = np.array_split(np.arange(n_heads), GROUPS)[group]
        handles.append(parts.proj.register_forward_pre_hook(_silencer(silent, n_heads)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _silencer(silent: NDArray[np.int64], n_heads: int) -> Callable[[Any, Any], Any]:
    def before(_: Any, given: tuple[Tensor, ...]) -> Any:
        (mixed,) = given  # (n, n_tokens, width): the heads side by side
        heads = mixed.unflatten(-1, (n_heads, -1)).clone()
        heads[..., silent, :] = 0
        return (heads.flatten(-2) * (n_heads / (n_heads - len(silent))),)

    return before
