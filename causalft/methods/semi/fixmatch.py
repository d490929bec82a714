"""FixMatch, and the rungs that only name a tuner: a linear probe, lightweight and full fine-tuning."""

from __future__ import annotations

from causalft.methods.semi.choices import SemiMethod
from causalft.methods.semi.method import Method, Task

__all__ = ["fixmatch"]


def fixmatch(task: Task, *, threshold: float = 0.95, unlabelled_weight: float = 1.0) -> Method:
    """FixMatch: the confident class of the weak view is the label of the strong view.

    Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020,
    Eq. 3-4.

    Parameters
    ----------
    task : Task
    threshold : float
        Least confidence of a pseudo-label.
    unlabelled_weight : float
    """
    return Method(task, threshold=threshold, unlabelled_weight=unlabelled_weight)


def supervised(task: Task) -> Method:
    """The labelled images alone."""
    return Method(task)


LP = SemiMethod(
    name="lp",
    help="linear probe on the labelled images alone",
    make=supervised,
    tuner="linear-probe",
    unlabelled=False,
    order=1,
)
LFT = SemiMethod(
    name="lft",
    help="lightweight fine-tuning (adapters) on the labelled images alone",
    make=supervised,
    tuner="adaptformer",
    unlabelled=False,
    order=2,
)
FFT = SemiMethod(
    name="fft",
    help="full fine-tuning on the labelled images alone",
    ours="0.06 of the usual learning rate, at which it diverges",
    make=supervised,
    tuner="full",
    rate=0.06,
    unlabelled=False,
    order=3,
)
FIXMATCH = SemiMethod(
    name="fixmatch",
    help="the confident class of the weak view is the label of the strong one; with the tuner that --tuner names",
    make=fixmatch,
    source="Sohn et al., NeurIPS 2020",
    order=4,
)
LP_FIXMATCH = SemiMethod(
    name="lp-fixmatch",
    help="FixMatch with a linear probe",
    make=fixmatch,
    tuner="linear-probe",
    source="Sohn et al., NeurIPS 2020",
    order=5,
)
LFT_FIXMATCH = SemiMethod(
    name="lft-fixmatch",
    help="FixMatch with lightweight fine-tuning",
    make=fixmatch,
    tuner="adaptformer",
    source="Sohn et al., NeurIPS 2020",
    order=6,
)
FFT_FIXMATCH = SemiMethod(
    name="fft-fixmatch",
    help="FixMatch with full fine-tuning",
    make=fixmatch,
    tuner="full",
    rate=0.06,
    source="Sohn et al., NeurIPS 2020",
    order=7,
)
