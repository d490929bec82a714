"""The reviewers' objections: the doubt, and what would answer it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OBJECTIONS", "Objection"]


@dataclass(frozen=True)
class Objection:
    """An objection to the paper.

    Attributes
    ----------
    number : int
        As in :attr:`experiments.frame.claims.Claim.objection`.
    doubt : str
    answer : str
        What would answer it; a verdict is about this.
    """

    number: int
    doubt: str
    answer: str

    @property
    def text(self) -> str:
        """Doubt and answer in one line."""
        return f"Doubt: {self.doubt} Answer: {self.answer}"


OBJECTIONS = tuple(
    Objection(number, doubt, answer)
    for number, (doubt, answer) in enumerate(
        (
            (
                "Balancing a factor is no intervention, and in the 90:10 design the factor is independent of the "
                "class: a shift, not confounding.",
                "A strict design, in which the factor depends on the class, shows the effect too, and both are named.",
            ),
            (
                "Estimates without ground truth prove nothing.",
                "Where P(Y|X) and P(Y|do(X)) are known exactly, the estimates agree with them.",
            ),
            (
                "Nobody showed that the factor C acts on the class or on the image.",
                "C has a direct effect on Y and on X.",
            ),
            (
                "The method may be just an ensemble.",
                "Under one recipe, the strata beat as many seeds of one model, the mean of logits, strata tuned with "
                "cross-entropy and the best single model.",
            ),
            (
                "P(C=c) = 1/M is assumed.",
                "P(C=c) is estimated, beside a placebo, and uniform weights lose nothing.",
            ),
            (
                "The estimated prior is never validated.",
                "Where the true prior is known, the estimate agrees with it.",
            ),
            (
                "Nobody showed that class accuracy follows the pre-training prior less after adjustment.",
                "The slope of class accuracy along the prior falls.",
            ),
            (
                "Cost grows with the number of strata.",
                "The cost is reported, and one model of the same cost does not reach the strata.",
            ),
            (
                "All strata have one architecture.",
                "Strata can be had from a single model.",
            ),
            (
                "The gains are marginal.",
                "Over seeds, by a paired test, the gain has an interval above 0.",
            ),
            (
                "Nobody measured what the strata look at.",
                "Each stratum looks most at its own part, by a number, and the fused model spreads.",
            ),
            (
                "A contrastive loss with in-batch negatives removes the class prior from the logits, so GLA's estimate "
                "need not be the prior.",
                "Both cases are shown: the estimate follows the prior with a caption bank, and not with the "
                "contrastive loss.",
            ),
        ),
        1,
    )
)
"""By number, from 1. The last one is this project's own."""
