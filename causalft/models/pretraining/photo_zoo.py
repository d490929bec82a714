"""A zoo of minis from the user's own images: priors, incomplete views, splits, and the pre-training of a member."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from causalft.data.image_set import ImageSet, decode
from causalft.data.images import middle_of_strip
from causalft.data.longtail import choose_orders, draw_longtail, largest_head, profile_counts
from causalft.data.splits import pool_splits
from causalft.errors import CausalFTError, nearest, several
from causalft.models.pretraining.pretrain import PRETRAINING, WIDE, pretrain_mini, save_mini
from causalft.models.pretraining.settings import PhotoZooSettings, PretrainingLoss
from causalft.models.strata.cards import MemberName, ModelCard
from causalft.models.strata.mini import MiniConfig
from causalft.models.strata.stratum import square_crop
from causalft.models.tuning.train import Recipe
from causalft.runs.settings import check_settings

__all__ = [
    "VIEWS",
    "PhotoMember",
    "PhotoZoo",
    "apply_view",
    "estimate_seconds",
    "find_view",
    "member_pixels",
    "plan_photo_zoo",
    "pretrain_photo_member",
]


View = Callable[[Image.Image], Image.Image]

_GREY = (128, 128, 128)


def _masked(image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """Keep the part of an image inside ``box`` (fractions left, top, right, bottom), mid-grey elsewhere."""
    width, height = image.size
    left, top, right, bottom = box
    corner = (round(left * width), round(top * height))
    kept = image.crop((*corner, round(right * width), round(bottom * height)))
    shown = Image.new("RGB", image.size, _GREY)
    shown.paste(kept, corner)
    return shown


def _grey_low_pass(image: Image.Image) -> Image.Image:
    """Brightness only, blurred with a radius of 1/16 of the shorter side."""
    radius = min(image.size) / 16
    return image.convert("L").filter(ImageFilter.GaussianBlur(radius)).convert("RGB")


VIEWS: dict[str, View] = {
    "upper": lambda image: _masked(image, (0, 0, 1, 0.5)),
    "lower": lambda image: _masked(image, (0, 0.5, 1, 1)),
    "left": lambda image: _masked(image, (0, 0, 0.5, 1)),
    "right": lambda image: _masked(image, (0.5, 0, 1, 1)),
    "grey": _grey_low_pass,
    "full": lambda image: image,
}
"""Views by name: halves, grey low-pass, and the full image."""


def find_view(name: str) -> View:
    """Return a view by name, or a function ``package.module:function`` (PIL image to PIL image).

    Raises
    ------
    CausalFTError
        If there is no such view, module or function.

    Examples
    --------
    >>> find_view("upper")(Image.new("RGB", (4, 4), (9, 9, 9))).getpixel((0, 3))
    (128, 128, 128)
    """
    if name in VIEWS:
        return VIEWS[name]
    module, _, function = name.partition(":")
    if not function:
        raise CausalFTError(f"no view {name!r}; {nearest(name, VIEWS)}; your own as package.module:function")
    try:
        view = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise CausalFTError(
            f"view {name!r} cannot be imported ({error}); is {module} on PYTHONPATH?"
        ) from error
    if not callable(view):
        raise CausalFTError(f"view {name!r} is not a function")
    return view


def apply_view(pixels: np.ndarray, view: str, share: float, rng: np.random.Generator) -> np.ndarray:
    """Show a share of the images through a view and the others whole.

    Parameters
    ----------
    pixels : numpy.ndarray
        Shape (n, size, size, 3), uint8.
    view : str
    share : float
        In [0, 1].
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        A new array of the same shape.

    Raises
    ------
    CausalFTError
        If a user's view returns no image, or one of another size.
    """
    shown, function = pixels.copy(), find_view(view)
    for row in np.flatnonzero(rng.random(len(pixels)) < share):
        found = function(Image.fromarray(pixels[row]))
        if not isinstance(found, Image.Image):
            raise CausalFTError(f"view {view!r} returned a {type(found).__name__}, not a PIL image")
        seen = np.asarray(found.convert("RGB"))
        if seen.shape != pixels.shape[1:]:
            raise CausalFTError(
                f"view {view!r} changed the size of an image from {pixels.shape[1:]} to {seen.shape}"
            )
        shown[row] = seen
    return shown


BATCH_SIZE = 128
"""Of every pre-training on images."""
_EPOCHS, _STEPS = 20, 400


@dataclass(frozen=True)
class PhotoMember:
    """One mini to be pre-trained on images.

    Attributes
    ----------
    name : str
    view : str
        See :func:`find_view`.
    order : tuple of int
        Class numbers from the head to the tail of its prior.
    seed : int
        Of its images, weights and batches.
    loss : {"caption-bank", "in-batch"}
    wide : bool
        Whether it is three times as costly.
    """

    name: str
    view: str
    order: tuple[int, ...]
    seed: int
    loss: PretrainingLoss = "caption-bank"
    wide: bool = False


@dataclass(frozen=True)
class PhotoZoo:
    """The plan of a zoo: its members, and the images that are kept for later.

    Attributes
    ----------
    members : tuple of PhotoMember
    parts : dict of str to numpy.ndarray
        Row numbers of ``pool``, ``downstream``, ``validation`` and ``test``: disjoint, without duplicates.
    downstream_order : tuple of int
        Class order of the downstream long tail.
    correlation : numpy.ndarray
        Spearman correlations of all orders, downstream last.
    duplicates : str
    settings : dict
    """

    members: tuple[PhotoMember, ...]
    parts: dict[str, np.ndarray]
    downstream_order: tuple[int, ...]
    correlation: np.ndarray
    duplicates: str
    settings: dict[str, Any]


def plan_photo_zoo(
    images: ImageSet,
    views: dict[str, str],
    settings: PhotoZooSettings,
) -> PhotoZoo:
    """Cut the images, choose the priors, and list the members.

    Parameters
    ----------
    images : ImageSet
    views : dict of str to str
        Name of each stratum to its incomplete view.
    settings : PhotoZooSettings

    Raises
    ------
    CausalFTError
        If a view or a name is invalid, a number is out of range, a class has too few images, or the number of order
        seeds is wrong.
    """
    for view in views.values():
        find_view(view)
    if not views:
        raise CausalFTError("no member given; name at least one, as in --member clip=upper")
    for name in views:
        _check_name(name)
        for other in views:  # one file for both on a disk that does not tell them apart
            if name < other and name.lower() == other.lower():
                raise CausalFTError(f"{name!r} and {other!r} differ only in case; give them other names")
    check_settings(settings)
    order_seeds = settings.order_seeds
    form = settings.imbalance_factor, settings.profile
    MiniConfig(image_size=settings.image_size)  # refuses a size that the stem cannot halve
    profile_counts(images.n_classes, 1, *form)  # refuses an invalid factor or profile
    parts, report = pool_splits(
        images,
        n_test=settings.n_test,
        n_validation=settings.n_validation,
        seed=settings.seed,
        pool_fraction=settings.pool_fraction,
        duplicates="near",
    )
    n_classes = images.n_classes
    if order_seeds:
        if len(order_seeds) != len(views):
            raise CausalFTError(
                f"{several(order_seeds, 'order seed', 'order seeds')} for "
                f"{several(views, 'stratum', 'strata')}; give one each"
            )
        fixed = [np.random.default_rng(s).permutation(n_classes) for s in order_seeds]
        found = choose_orders(n_classes, 1, settings.order_seed, fixed=fixed)
        orders, downstream = fixed, found[0]
        correlation = np.roll(found.correlation, (-1, -1), axis=(0, 1))
    else:
        found = choose_orders(n_classes, len(views) + 1, settings.order_seed)
        orders, downstream = [found[i] for i in range(len(views))], found[len(views)]
        correlation = found.correlation
    members = [
        PhotoMember(
            name, view, tuple(int(k) for k in order), seed=100 * number + settings.seed, loss=settings.loss
        )
        for number, ((name, view), order) in enumerate(zip(views.items(), orders, strict=True))
    ]
    pool_counts = np.bincount(images.labels[parts["pool"]], minlength=n_classes)
    epochs = settings.epochs
    if epochs is None:
        epochs = _default_epochs(pool_counts, [member.order for member in members], *form)
    first = members[0]
    members += [
        replace(first, name=str(MemberName(first.name, extra)), seed=first.seed + extra)
        for extra in range(1, settings.n_control_seeds + 1)
    ]
    if settings.wide:  # the images, view and seed of the first
        members.append(replace(first, name=str(MemberName(first.name, wide=True)), wide=True))
    return PhotoZoo(
        members=tuple(members),
        parts=parts,
        downstream_order=tuple(int(k) for k in downstream),
        correlation=correlation,
        duplicates="not looked for" if report is None else report.summary(),
        settings={
            "imbalance_factor": settings.imbalance_factor,
            "profile": settings.profile,
            "view_share": settings.view_share,
            "image_size": settings.image_size,
            "epochs": epochs,
            "repeats": any(head_count(pool_counts, member.order, *form)[1] for member in members),
        },
    )


def head_count(
    pool_counts: NDArray[np.int64], order: Sequence[int], imbalance_factor: float, profile: str
) -> tuple[int, bool]:
    """Return the images of a member's most frequent class, and whether images have to be repeated for it.

    The largest head that the pool serves without repeats. If the largest class of the pool is at least twice the
    smallest, that would be very few for most orders: then as many images are drawn as the pool holds, with repeats of
    rare classes.

    Parameters
    ----------
    pool_counts : (K,) array of int
    order : sequence of K int
        Class numbers, the most frequent first.
    imbalance_factor : float
    profile : str

    Examples
    --------
    >>> head_count(np.array([50, 50, 50]), [2, 0, 1], 10, "exponential")
    (50, False)
    >>> head_count(np.array([100, 30, 5]), [2, 1, 0], 10, "exponential")      # 95, 30 and 10 images of 135
    (95, True)
    """
    if pool_counts.max() < 2 * pool_counts.min():
        return largest_head(pool_counts[list(order)], imbalance_factor, profile), False
    total = int(pool_counts.sum())
    low, high = 1, total
    while low < high:
        middle = (low + high + 1) // 2
        if profile_counts(len(pool_counts), middle, imbalance_factor, profile).sum() <= total:
            low = middle
        else:
            high = middle - 1
    return low, True


def _default_epochs(
    pool_counts: NDArray[np.int64], orders: Sequence[Sequence[int]], imbalance_factor: float, profile: str
) -> int:
    """20 epochs, or as many as make 400 steps of the member with the fewest images."""
    fewest = min(
        profile_counts(
            len(pool_counts),
            head_count(pool_counts, order, imbalance_factor, profile)[0],
            imbalance_factor,
            profile,
        ).sum()
        for order in orders
    )
    return max(_EPOCHS, math.ceil(_STEPS / math.ceil(fewest / BATCH_SIZE)))


def _check_name(name: str) -> None:
    """A member's name is that of its files, beside those of the zoo."""
    taken = name in ("config", "manifest", "metrics", "zoo") or MemberName.parse(name).wide
    if taken or not re.fullmatch(r"\w[\w.-]*", name):
        raise CausalFTError(
            f"{name!r} cannot name a member: use letters, digits, '-', '_' and '.', and not config, manifest, metrics "
            "or zoo (NAME@1 is kept for --control-seeds, NAME-wide for --wide)"
        )


def member_pixels(
    images: ImageSet, member: PhotoMember, zoo: PhotoZoo, progress: bool | None
) -> tuple[Any, ...]:
    """Draw a member's long-tailed pre-training images through its view: (pixels, labels, prior)."""
    settings = zoo.settings
    pool = images.subset(zoo.parts["pool"])
    head, repeat = head_count(
        pool.class_counts, member.order, settings["imbalance_factor"], settings["profile"]
    )
    drawn = draw_longtail(
        pool,
        imbalance_factor=settings["imbalance_factor"],
        seed=member.seed,
        n_max=head,
        profile=settings["profile"],
        order=list(member.order),
        repeat=repeat,
    )
    crop = square_crop(settings["image_size"])

    def cut(image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(crop(middle_of_strip(image)), dtype=np.uint8)

    pixels = decode(drawn, None, cut, f"reading {several(drawn, 'image', 'images')}", progress=progress)
    rng = np.random.default_rng([member.seed, 7])
    shown = apply_view(pixels, member.view, settings["view_share"], rng)
    prior = np.empty(images.n_classes)
    prior[list(member.order)] = profile_counts(
        images.n_classes, head, settings["imbalance_factor"], settings["profile"]
    )
    return shown, drawn.labels, prior / prior.sum()


def member_config(member: PhotoMember, zoo: PhotoZoo) -> MiniConfig:
    """Size of a member."""
    return replace(WIDE if member.wide else MiniConfig(), image_size=zoo.settings["image_size"])


def member_recipe(member: PhotoMember, zoo: PhotoZoo) -> Recipe:
    """Training recipe of a member."""
    return replace(PRETRAINING, epochs=zoo.settings["epochs"], batch_size=BATCH_SIZE, seed=member.seed)


def pretrain_photo_member(
    images: ImageSet, member: PhotoMember, zoo: PhotoZoo, folder: Path, *, progress: bool | None = None
) -> ModelCard:
    """Pre-train one member and write its weights and card; resumes from its checkpoint."""
    pixels, labels, prior = member_pixels(images, member, zoo, progress)
    recipe = member_recipe(member, zoo)
    role = {"role": "control: the images of a stratum, at the cost of three minis"} if member.wide else {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same weights however many cores the machine has
    try:
        trained = pretrain_mini(
            pixels,
            labels,
            list(images.class_names),
            loss=member.loss,
            recipe=recipe,
            config=member_config(member, zoo),
            flip=True,
            label=f"pre-training {member.name}",
            progress=progress,
            checkpoint=folder / f".{member.name}.checkpoint.safetensors",
        )
        return save_mini(
            trained,
            folder,
            member.name,
            world=images.name,
            loss=member.loss,
            prior=prior,
            view={"view": member.view, "share": zoo.settings["view_share"]},
            recipe={**asdict(recipe), "n_images": len(labels), **zoo.settings, **role},
        )
    finally:
        torch.set_num_threads(threads)


def estimate_seconds(images: ImageSet, zoo: PhotoZoo, jobs: int) -> float:
    """Time 8 steps of the first member on one thread; return the seconds for all members."""
    member = zoo.members[0]
    recipe = member_recipe(member, zoo)
    rng = np.random.default_rng(0)
    size, n = zoo.settings["image_size"], 8 * recipe.batch_size
    noise = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, images.n_classes, n)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trial = replace(recipe, epochs=1)
        seconds = pretrain_mini(
            noise,
            labels,
            list(images.class_names),
            recipe=trial,
            flip=True,
            progress=False,
            config=member_config(member, zoo),
        ).seconds
    finally:
        torch.set_num_threads(threads)
    counts = np.bincount(images.labels[zoo.parts["pool"]], minlength=images.n_classes)
    form = zoo.settings["imbalance_factor"], zoo.settings["profile"]
    head, _ = head_count(counts, member.order, *form)
    per_member = profile_counts(images.n_classes, head, *form).sum()
    minis = len(zoo.members) + 2 * sum(each.wide for each in zoo.members)  # a wide one takes as long as three
    rounds = -(-minis // jobs)
    return seconds / n * per_member * recipe.epochs * rounds
