"""What can be chosen for a training, by name: losses, tuners, heads, samplers. Imports no PyTorch.

A choice is a record in the file that implements it. A new loss, for example, is one new file in ``losses/``::

    from causalft.models.tuning.choices import Loss
    from causalft.models.tuning.losses import Counts, Criterion, weighted


    def sqrt_weighted(counts: Counts) -> Criterion:
        return weighted(counts, counts.values**-0.5)


    SQRT = Loss(name="SQRT", help="weights of 1 / sqrt(n_y)", formula=r"$n_y^{-1/2}\\,$CE", make=sqrt_weighted)

Options, refusals, checks and the tables of the documentation follow from it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from causalft.errors import CausalFTError, nearest
from causalft.runs.records import Records

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Choice",
    "HEADS",
    "Head",
    "LOSSES",
    "Loss",
    "Optimum",
    "PRECISIONS",
    "Precision",
    "SAMPLERS",
    "Sampler",
    "TEST_VIEWS",
    "TUNERS",
    "Tuner",
    "View",
    "check_int8",
    "n_views",
    "optimum_of",
    "own_spelling",
    "parse_tuner",
]

Optimum = Literal["training posterior", "balanced posterior", "other"]


@dataclass(frozen=True)
class Loss:
    """A loss of logits and labels.

    Attributes
    ----------
    name, help : str
        ``help`` says when to use it.
    formula : str
        Markdown with TeX.
    make : callable
        ``make(counts, **settings) -> loss(logits (n, K), labels (n,)) -> scalar``; the settings have defaults.
    optimum : {"training posterior", "balanced posterior", "other"}
        What the logits converge to at the default settings: log p(y|x) under P_S, the class prior of the training set,
        so that log P_S is a summand of the logits; log p(y|x) under a balanced prior; or neither. Only the first two
        can be used in GLA-FT (:func:`causalft.methods.estimators.gla.gla_finetuned`).
    needs_every_class : bool
        Undefined where a class has no training image.
    needs_model_prior : bool
        ``make`` takes ``model_log_prior``, the log label prior of the foundation model.
    of_batch : bool
        It depends on which images share a batch: no mean over images, so accumulation changes it.
    uses_head_scale : bool
        Its setting ``scale`` must be that of the head.
    symbols : mapping of str to str
        TeX symbols of settings in the formula.
    source : str
    """

    name: str
    help: str
    formula: str
    make: Callable[..., Any]
    optimum: Optimum = "other"
    needs_every_class: bool = True
    needs_model_prior: bool = False
    of_batch: bool = False
    uses_head_scale: bool = False
    symbols: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def settings(self) -> dict[str, float]:
        """The settings and their defaults.

        Examples
        --------
        >>> LOSSES["LDAM"].settings
        {'max_margin': 0.5, 'scale': 25.0}
        """
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


@dataclass(frozen=True)
class Tuner:
    """One way to tune an image tower.

    Attributes
    ----------
    name : str
    trains : str
        What it trains.
    order : int
        Tuners are put into a tower in this order: later ones wrap, or leave out, what earlier ones added.
    fits : callable
        ``fits(tower) -> bool``: whether it is defined for a tower.
    apply : callable
        ``apply(tower, blocks, confined, bottleneck) -> parameters``: changes the tower and returns what is trained.
        ``blocks`` is the range of blocks to tune; ``confined`` whether nothing else may be touched.
    merge : callable, optional
        ``merge(tower) -> bool``: folds what it added into the weights, and says whether all could be.
    stays : bool
        Part of it is left to compute beside the backbone after merging.
    uses_bottleneck : bool
        The bottleneck is its inner width: of an adapter, or the rank of LoRA.
    alone : str
        Why no other tuner can be added; empty where one can.
    excludes : mapping of str to str
        Tuners that it cannot be combined with, and why.
    towers : str
        Where it is defined, in words.
    source : str
    """

    name: str
    trains: str
    order: int
    fits: Callable[[Any], bool]
    apply: Callable[..., list[Any]]
    merge: Callable[[Any], bool] | None = None
    stays: bool = False
    uses_bottleneck: bool = False
    alone: str = ""
    excludes: Mapping[str, str] = field(default_factory=dict)
    towers: str = "every tower"
    source: str = ""


@dataclass(frozen=True)
class Head:
    """A classifier on features.

    Attributes
    ----------
    name, help : str
        ``help`` says when to use it.
    formula : str
        Markdown with TeX.
    make : callable
        ``make(weight (n_classes, d), scale) -> torch.nn.Module``; with ``uses_alpha`` it also takes ``alpha``.
    saves : str
        The tensors of its state.
    scale : float, optional
        An inverse temperature of its own, which ``--head-scale`` does not change.
    uses_alpha : bool
        At test ``alpha`` times the part along the mean feature of the training is taken out.
    posterior : bool
        Whether the logits at test remain what the loss made of them (:attr:`Loss.optimum`).
    source : str
    """

    name: str
    help: str
    formula: str
    make: Callable[..., Any]
    saves: str = "weight, bias"
    scale: float | None = None
    uses_alpha: bool = False
    posterior: bool = True
    source: str = ""


@dataclass(frozen=True)
class Sampler:
    """How often an epoch shows each class.

    Attributes
    ----------
    name, help : str
    power : float
        P(class) is proportional to its number of images to this power.
    """

    name: str
    help: str
    power: float


@dataclass(frozen=True)
class Augmentation:
    """What is made of a training image each time it is shown.

    Attributes
    ----------
    name, help : str
    flips : bool
        Half of the images are mirrored.
    least_area : float, optional
        The smallest share of the square that a random crop shows; None: no crop.
    sides : (int, int)
        The longest and the shortest side of a crop.
    grows : bool
        ``least_area`` grows to 1 over the epochs.
    source : str
    """

    name: str
    help: str
    flips: bool = False
    least_area: float | None = None
    sides: tuple[int, int] = (1, 1)
    grows: bool = False
    source: str = ""


@dataclass(frozen=True)
class View:
    """What is cut out of a test image.

    Attributes
    ----------
    n : int
        Number of squares, whose logits are averaged.
    margin : int
        By how much the shorter side is longer than that of a square, in pixels of 224; 0: the model's own transform.
    """

    n: int
    margin: int = 0


LOSSES = Records("causalft.models.tuning.losses", Loss, "loss")
TUNERS = Records("causalft.models.tuning.tuners", Tuner, "tuner")
HEADS = Records("causalft.models.tuning.heads", Head, "head")
SAMPLERS = Records("causalft.models.tuning.samplers", Sampler, "sampler")

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16", "fp16", "int8")
AUGMENTATIONS = Records("causalft.models.features.augmentation", Augmentation, "augmentation")
TEST_VIEWS = {
    "centre": View(1),
    "zoomed-centre": View(1, margin=32),
    "five-crop": View(5, margin=24),
    "ten-crop": View(10, margin=24),
}


def own_spelling(name: str) -> str:
    """Return a loss in its own capitals, however it was typed; unknown names are returned unchanged.

    Examples
    --------
    >>> own_spelling("gla-train"), own_spelling("arcface")
    ('GLA-Train', 'arcface')
    """
    return next((own for own in LOSSES if own.lower() == name.lower()), name)


def optimum_of(name: str) -> Optimum:
    """Return :attr:`Loss.optimum`; an unknown name raises a :class:`CausalFTError`.

    Examples
    --------
    >>> optimum_of("CE"), optimum_of("LA"), optimum_of("Focal")
    ('training posterior', 'balanced posterior', 'other')
    """
    return LOSSES.get_or_refuse(name).optimum


@dataclass(frozen=True)
class Choice:
    """One tuner of a spec, and the last blocks that it is confined to (None: the whole tower)."""

    name: str
    last: int | None = None

    def __str__(self) -> str:
        if self.name == "last-K":
            return f"last-{self.last}"
        return self.name if self.last is None else f"{self.name}@last-{self.last}"


def check_int8(tuner: str, precision: str) -> None:
    """Refuse int8 with a tuner that trains a part of every layer: only frozen layers are rounded.

    Examples
    --------
    >>> check_int8("adaptformer", "int8")
    >>> check_int8("full", "int8")
    Traceback (most recent call last):
    ...
    causalft.errors.CausalFTError: int8 rounds frozen layers, and the tuner full freezes none; use precision='auto', ...
    """
    if precision != "int8":
        return
    for choice in parse_tuner(tuner):
        if choice.name in ("full", "bias") and choice.last is None:
            raise CausalFTError(
                f"int8 rounds frozen layers, and the tuner {choice.name} freezes none; use --precision auto, or "
                "another tuner such as adaptformer"
            )


def parse_tuner(spec: str) -> tuple[Choice, ...]:
    """Read ``NAME[@last-K][+NAME[@last-K]...]``; the result is in the order of :data:`TUNERS`.

    Parameters
    ----------
    spec : str
        ``@last-K`` confines a tuner to the last K blocks. ``last-K`` alone is a tuner of its own: those blocks whole.

    Raises
    ------
    CausalFTError
        For an unknown name, a name given twice, a malformed ``@last-K``, or tuners that exclude each other.

    Examples
    --------
    >>> [str(choice) for choice in parse_tuner("bias+lora@last-4")]
    ['lora@last-4', 'bias']
    """
    choices = [_choice(part.strip(), spec) for part in spec.lower().split("+")]
    names = [choice.name for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise CausalFTError(f"tuner {spec!r} names {name!r} twice; give it once")
        if TUNERS[name].alone and len(names) > 1:
            raise CausalFTError(f"tuner {spec!r}: {name} {TUNERS[name].alone}; give it alone")
    for name in names:
        for other, why in TUNERS[name].excludes.items():
            if other in names:
                raise CausalFTError(f"tuner {spec!r}: {why}; choose one of them")
    order = list(TUNERS)
    return tuple(sorted(choices, key=lambda choice: order.index(choice.name)))


def _choice(part: str, spec: str) -> Choice:
    alone = re.fullmatch(r"last-([1-9]\d*)", part)
    if alone:
        return Choice("last-K", int(alone[1]))
    name, at, place = part.partition("@")
    if name not in TUNERS or name == "last-K":
        where = "" if name == spec else f" in {spec!r}"
        raise CausalFTError(f"unknown tuner {name!r}{where}: {nearest(name, TUNERS)}")
    if not at:
        return Choice(name)
    confined = re.fullmatch(r"last-([1-9]\d*)", place)
    if not confined:
        raise CausalFTError(
            f"tuner {part!r}: after '@' write last-K for the last K blocks (such as {name}@last-4)"
        )
    if TUNERS[name].alone:
        instead = f"; write last-{confined[1]}" if name == "full" else ""
        raise CausalFTError(f"tuner {part!r}: {name} cannot be confined to some blocks{instead}")
    return Choice(name, int(confined[1]))


def n_views(view: str) -> int:
    """Return how many squares a test-time view has; an unknown one raises a :class:`CausalFTError`.

    Examples
    --------
    >>> n_views("five-crop")
    5
    """
    if view not in TEST_VIEWS:
        raise CausalFTError(f"no test-time view {view!r}; {nearest(view, TEST_VIEWS)}")
    return TEST_VIEWS[view].n
