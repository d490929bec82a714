"""Students of a fusion, and soups of its members: one model in place of several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.frame.unlabelled import logits_of, unlabelled

if TYPE_CHECKING:
    from causalft.data.image_set import ImageSet
    from causalft.methods.adaptation.same_view import Answers, SameView
    from causalft.methods.adaptation.settings import Tuning
    from causalft.methods.estimators.mixing import Mixing
    from experiments.frame.lab import Lab
    from experiments.frame.members import Member

__all__ = [
    "EPOCHS",
    "LONGER",
    "SOUP",
    "STUDENTS",
    "Lesson",
    "gain_shares",
    "soup",
    "student",
    "student_cost",
    "student_costs",
]

Floats = NDArray[np.float64]

EPOCHS = 3
"""Passes over 2,636 labelled and 10,000 unlabelled images. Students with fewer images take as many steps."""

LONGER = 8
"""The default of ``causalft distill``."""

_QUICK = 1  # epochs


@dataclass(frozen=True)
class Lesson:
    """How a student of the members is taught.

    Attributes
    ----------
    fusion : str
        Of the teacher.
    unlabelled : bool
        Whether there are unlabelled images beside the labelled ones.
    label_weight : float
        1: the labels alone, no teacher.
    epochs : int
        Passes over all images, had it unlabelled ones too: students of as many epochs take as many steps.
    depth : float
        Blocks of its image tower, times those of the first member.
    images : float
        Unlabelled images, times the usual number.
    """

    fusion: str = "adjusted"
    unlabelled: bool = False
    label_weight: float = 0.2
    epochs: int = EPOCHS
    depth: float = 1.0
    images: float = 1.0

    @property
    def document(self) -> dict[str, Any]:
        """What its folder depends on: fields that were added later only where they are used."""
        usual = type(self)()
        later = [name for name in ("depth", "images") if getattr(self, name) == getattr(usual, name)]
        return {name: value for name, value in asdict(self).items() if name not in later}


STUDENTS = {
    "student": Lesson(),
    "student, longer": Lesson(epochs=LONGER),
    "student, unlabelled": Lesson(unlabelled=True),
    "student, unlabelled, longer": Lesson(unlabelled=True, epochs=LONGER),
    "labels alone": Lesson(label_weight=1.0),
    "student, twice the steps": Lesson(unlabelled=True, epochs=2 * LONGER),
    "student, twice the images": Lesson(unlabelled=True, epochs=LONGER, images=2.0),
    "student, 2/3 of the blocks": Lesson(unlabelled=True, epochs=LONGER, depth=2 / 3),
    "student, 2 x the blocks": Lesson(unlabelled=True, epochs=LONGER, depth=2.0),
    "student, 3 x the blocks": Lesson(unlabelled=True, epochs=LONGER, depth=3.0),
    "labels alone, 3 x the blocks": Lesson(label_weight=1.0, epochs=LONGER, depth=3.0),
}
"""Rules: one model, started from the weights of the first member and tuned as a whole, answers in place of all."""

SOUP = "soup"
"""Rule: one model with the mean of the members' tuned tensors; they must share their weights before tuning."""


def student(lab: Lab, members: Sequence[Member], lesson: Lesson, seed: int) -> Any:
    """Test logits (n, K) of a student of the fused members; trained now if it is not yet.

    Raises
    ------
    CausalFTError
        As :func:`causalft.methods.estimators.member.fit_member`.
    """
    from causalft.methods.adaptation.distill import Lessons
    from causalft.methods.estimators.member import fit_member

    first, splits = members[0], lab.world.splits(seed, members[0].draw)
    usual = unlabelled(lab, seed)
    more = (
        (usual if lesson.images == 1 else unlabelled(lab, seed, lesson.images)) if lesson.unlabelled else None
    )
    passes = (_QUICK if lab.quick else lesson.epochs) * (len(splits.train) + len(usual))
    tuning = _tuning(
        lab, first, seed, passes / (len(splits.train) + (0 if more is None else len(more))), more
    )
    prior = _mean_prior(lab, members, seed)
    identity = {
        "members": [lab.folder(member, seed).name for member in members],
        **lesson.document,
        "unlabelled": None if more is None else more.fingerprint,
        "tuning": asdict(tuning),
    }
    with lab.together(
        members, seed, f"student-{lesson.fusion}", json.dumps(identity, sort_keys=True)
    ) as folder:
        lessons = Lessons(
            _Answers(lab, members, lesson.fusion, seed, splits.train),
            more,
            None if more is None else _Answers(lab, members, lesson.fusion, seed, more),
            label_weight=lesson.label_weight,
            prior=prior,
            same_view=_same_view(lab, members, lesson.fusion, seed),
            identity=identity,
        )
        found, _ = fit_member(
            splits,
            _name(lab, first, lesson),
            lab.world.zoo,
            tuning,
            lessons=lessons,
            device=lab.world.settings.device,
            folder=folder,
        )
    return found.test_logits


def _name(lab: Lab, first: Member, lesson: Lesson) -> str:
    """The student in the zoo: the first member, or that with another number of blocks."""
    from causalft.models.strata.cards import MemberName, ResizedName
    from causalft.models.tuning.towers import open_tower

    whole = MemberName.parse(first.name).weights
    if lesson.depth == 1:
        return whole
    n_blocks = len(open_tower(lab.world.zoo.load(whole, device="cpu").visual).blocks)
    return str(ResizedName(whole, max(1, round(lesson.depth * n_blocks))))


def _tuning(lab: Lab, first: Member, seed: int, epochs: float, more: ImageSet | None) -> Tuning:
    """The recipe of ``causalft distill``, with more images or without."""
    from causalft.pipelines.workflows.distill_settings import DistillSettings, student_tuning

    settings = lab.world.settings
    usual = DistillSettings(epochs=max(1, round(epochs)), unlabeled=None if more is None else more.name)
    return student_tuning(usual, first.tuning(settings.tuning, seed), settings.zoo_name)


def _mean_prior(lab: Lab, members: Sequence[Member], seed: int) -> Floats:
    """Geometric mean of the members' label priors, (K,)."""
    logs = np.mean([np.log(lab.prediction(member, seed).label_prior) for member in members], axis=0)
    found = np.exp(logs - logs.max())
    return found / found.sum()


class _Answers:
    """Probabilities of a teacher, computed when a row is asked for: a finished student asks for none."""

    def __init__(self, lab: Lab, members: Sequence[Member], fusion: str, seed: int, images: ImageSet) -> None:
        self._ask = lab, tuple(members), fusion, seed, images
        self.shape = len(images), lab.world.splits(seed).train.n_classes
        self._found: Floats | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if self._found is None:
            self._found = _fused(*self._ask)
        return self._found[rows]


def _fused(lab: Lab, members: Sequence[Member], fusion: str, seed: int, images: ImageSet) -> Floats:
    return _mixing(lab, members, fusion, seed)(logits_of(lab, members, seed, images), kind="logits")


def _same_view(lab: Lab, members: Sequence[Member], fusion: str, seed: int) -> SameView:
    """The teacher, loaded when it is asked about the first image."""

    def teacher(images: ImageSet) -> Answers:
        from causalft.methods.adaptation.same_view import same_view

        mixing = _mixing(lab, members, fusion, seed)
        tuned = [lab.tuned(member, seed)[1] for member in members]
        return same_view(tuned, lambda logits: mixing(logits, kind="logits"))(images)

    return teacher


def _mixing(lab: Lab, members: Sequence[Member], fusion: str, seed: int) -> Mixing:
    from causalft.data.groups import balancing_weights
    from causalft.methods.estimators.mixing import fit_mixing
    from experiments.frame.adjusting import Fused, chosen

    of = Fused.of(lab, members, seed)
    if fusion == "adjusted":
        return chosen(of)[0]
    return fit_mixing(
        [each.validation_logits for each in of.members],
        of.labels,
        fusion=fusion,
        weights=balancing_weights(of.labels, of.splits.validation.n_classes),
        kind="logits",
    )


def soup(lab: Lab, members: Sequence[Member], seed: int) -> Any:
    """Test logits (n, K) of the mean of the members' tuned tensors.

    Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models", ICML 2022.

    Raises
    ------
    CausalFTError
        If the members do not share a backbone, or were tuned in different ways.
    """
    import torch

    from causalft.errors import CausalFTError
    from causalft.models.features.encoder import Crops

    tuned = [lab.tuned(member, seed)[1] for member in members]
    states = [each.trained_state() for each in tuned]
    if len({each.stratum.sha256 for each in tuned}) > 1 or len({tuple(state) for state in states}) > 1:
        raise CausalFTError("a soup needs members of one backbone that were tuned alike")
    mean = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    before = tuned[0].trained_state()
    try:
        tuned[0].load_trained_state(mean)
        return tuned[0].logits(Crops(lab.world.splits(seed).test, tuned[0].stratum))
    finally:
        tuned[0].load_trained_state(before)


def student_cost(lab: Lab) -> dict[str, Any]:
    """Operations of a prediction of a student over those of the first stratum, tuned: a count, so without spread."""
    (cost,) = student_costs(lab, {"student": Lesson()}).values()
    return {
        "student over one stratum": cost["over one stratum"],
        "flops": {"student": cost["flops"], "one stratum": cost["flops of one stratum"]},
        "seconds": {"student": cost["seconds"], "one stratum": cost["seconds of one stratum"]},
    }


def student_costs(lab: Lab, lessons: Mapping[str, Lesson]) -> dict[str, dict[str, Any]]:
    """Cost of a prediction of each student, by name, beside that of the first stratum, tuned.

    Returns
    -------
    dict
        ``over one stratum``: ratio of operations, a count and so without spread; ``flops`` and ``seconds`` of an image,
        and those ``of one stratum``.
    """
    import torch

    from causalft.methods.adaptation.cost import prediction_cost
    from causalft.models.features.encoder import Crops
    from experiments.frame.members import Member

    world, train = lab.world, lab.world.splits(0).train
    first = Member(world.roles.strata[0])
    probed = train.subset(np.arange(min(32, len(train))))

    def cost(name: str, tuning: Tuning) -> Any:
        stratum = world.zoo.load(name, device="cpu")
        return prediction_cost(
            stratum, tuning, train.n_classes, Crops(probed, stratum)[torch.arange(len(probed))]
        )

    single, found = cost(first.name, first.tuning(world.settings.tuning, 0)), {}
    for name, lesson in lessons.items():
        taught = cost(_name(lab, first, lesson), _tuning(lab, first, 0, 1, None))
        ratio = taught.flops / single.flops
        found[name] = {
            "over one stratum": {"estimate": ratio, "ci95": [ratio, ratio]},
            "flops": taught.flops,
            "flops of one stratum": single.flops,
            "seconds": taught.seconds,
            "seconds of one stratum": single.seconds,
        }
    return found


def gain_shares(
    labels: NDArray[np.int64], n_classes: int, teacher: Any, best: Any, students: dict[str, Any]
) -> dict[str, Any]:
    """Share of the teacher's gain over the best single stratum that each student keeps, with 95 % intervals.

    Parameters
    ----------
    labels : (n,) array of int in [0, K)
    n_classes : int
    teacher, best : (S, n) array of bool
        Right answers for S seeds.
    students : dict of str to (S, n) array of bool
    """
    from causalft.analysis.diagnosis.intervals import bootstrap

    share = np.bincount(labels, minlength=n_classes) / len(labels)

    def statistics(products: Floats) -> dict[str, Floats]:
        accuracy = products[..., 0]
        gain = accuracy[:, 0] - accuracy[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                name: (accuracy[:, place] - accuracy[:, 1]) / gain for place, name in enumerate(students, 2)
            }

    correct = np.stack([teacher, best, *students.values()])
    found = bootstrap(statistics, correct, labels, n_classes, vectors=share[None])
    return {name: value.to_json() for name, value in found.items()}
