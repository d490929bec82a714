"""The words of an A/B run: what the sets are, what each test compares, what a verdict means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from causalft.analysis.confounding.verdict import Verdict
from synthetic.designs import BUILT_IN

__all__ = [
    "TEST_NAMES",
    "VERDICT_WORDS",
    "VerdictWords",
    "estimand",
    "explain_sets",
    "verdict_line",
    "what_follows",
]


@dataclass(frozen=True)
class VerdictWords:
    """The headline of a page, what the verdict says, and what would change it."""

    headline: str
    meaning: str
    would_change: str


VERDICT_WORDS: dict[str, VerdictWords] = {
    Verdict.VERIFIED: VerdictWords(
        headline="Verified: the factor C confounds.",
        meaning="C confounds: it acts on the image and on the label, and training on B costs accuracy on A",
        would_change="A drop of B->A that vanishes with more seeds or images; a path test that fails on other "
        "rows; a graph in which C does not lie on a backdoor path.",
    ),
    Verdict.SHIFT: VerdictWords(
        headline="No confounder: only the law of C changes between the sets.",
        meaning="C is independent of the label in B: what hurts is that its law changes between training and test",
        would_change="A dependence of C and Y in B: then the path X <- C -> Y could be open. More images of the "
        "rare part close a gap that is a mere shift.",
    ),
    Verdict.SELECTION: VerdictWords(
        headline="No confounder: C goes with the label through selection only.",
        meaning="C goes with the label through sampling only: training on B hurts, but C is no cause of the label",
        would_change="Knowledge that the rows were not selected on C and Y: the same numbers would then speak for "
        "confounding.",
    ),
    Verdict.NOT_DETECTED: VerdictWords(
        headline="Not detected: an effect of the size that matters is excluded.",
        meaning="an effect of the size that matters is excluded",
        would_change="A stronger tie of C and Y, or a part that is easier to see; effects below 5 points of "
        "accuracy are not excluded.",
    ),
    Verdict.INCONCLUSIVE: VerdictWords(
        headline="Inconclusive: these data cannot tell.",
        meaning="the data cannot tell",
        would_change="More seeds or more images, as the power table says.",
    ),
}
"""Each `Verdict` and its words."""

TEST_NAMES = {
    "gap_B": "B->B minus B->A: what the B-trained model loses when C's law changes",
    "gap_A": "A->B minus A->A: the same change for the A-trained model",
    "A_minus_B_on_A": "A->A minus B->A: what training on B costs on the balanced set",
    "gap_B_minus_gap_A": "the first minus the second: what the B-trained model loses beyond what the A-trained "
    "one loses too",
    "c_to_x": "C -> X: is C visible in the image, given the class?",
    "c_to_y": "C -> Y: does C carry label information beyond the image?",
    "open_backdoor_path": "X <- C -> Y: does adjusting for C change P(Y|X)?",
    "gap_closed": "adjusted->A minus B->A: does adjustment close the gap?",
    "placebo_c": "placebo: the same with C shuffled",
    "placebo_treatment": "refuter: a shuffled treatment",
    "dummy_outcome": "refuter: a shuffled outcome",
    "random_common_cause": "refuter: a random common cause added",
    "subset_stability": "refuter: 80 % of the rows",
    "unobserved_confounder": "sensitivity: the E-value of the adjusted effect",
}
"""What each test compares."""


def explain_sets(metrics: Mapping[str, Any]) -> list[str]:
    """What Y, C, A and B are in the design of a run, a sentence or two each.

    Examples
    --------
    >>> print("\\n".join(explain_sets({"design": "null", "classes": ["cat", "dog"], "ratio": 0.9,
    ...                               "class_parts": [["head", "body"]] * 2, "design_meaning": ""})))
    Y: the label of an image (cat, dog).
    C: the part in view, the factor in question: C=0 or C=1, such as cat head or cat body.
    A: C is balanced and says nothing of the label.
    B: C follows the object (90 % of a class has one value of it), but this is a control: the images ignore C and
    show both parts equally often, as in A.
    """
    record = BUILT_IN.get(metrics["design"])
    first = metrics["classes"][0]
    share = 100 * metrics["ratio"]
    return [
        f"Y: the label of an image ({', '.join(metrics['classes'])}).",
        "C: the part in view, the factor in question: C=0 or C=1, such as "
        + " or ".join(f"{first} {part}" for part in metrics["class_parts"][0])
        + ".",
        "A: C is balanced and says nothing of the label." if record else "A: as the file says.",
        record.set_b.format(share=share, rest=100 - share) if record else f"B: {metrics['design_meaning']}",
    ]


def what_follows(metrics: Mapping[str, Any]) -> str:
    """What a result in this design can and cannot show."""
    record = BUILT_IN.get(metrics["design"])
    if record is None:
        return (
            "This design comes from a user's file; its graph and tables say how C relates to Y, and the verdict "
            "uses them."
        )
    return record.follows.format(mi=metrics["mutual_information_nats"]["B_train"])


def estimand(metrics: Mapping[str, Any]) -> str:
    """The question as a formula, with the two exact laws and their distance in this design."""
    truth = metrics["truth"]
    return (
        "The estimand is P(Y | do(X)): the label that an image would get if images were drawn at random, so "
        "that C has its share P(C) whatever the image. What a classifier learns from B is P(Y | X). In this "
        f"design, exactly: the two are {100 * truth['tv']:.1f} points of total variation apart"
        + (f" (KL {truth['kl']:.3f} nats)." if truth["kl"] is not None else ".")
    )


def verdict_line(metrics: Mapping[str, Any]) -> str:
    """The verdict, what it says, and its reason."""
    return f"{metrics['verdict']}: {VERDICT_WORDS[metrics['verdict']].meaning}. {metrics['reason']}"
