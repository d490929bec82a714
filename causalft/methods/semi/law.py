"""The class law of unlabelled images, estimated by EM from class probabilities, and how it stands to the labelled law.

Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural
Computation 2002: if only the class shares differ (label shift), the posterior under the law q is proportional to
q_k / pi_k times the classifier's under its own law pi, and EM finds the q that makes the images likeliest. The
probabilities must be calibrated (Alexandari, Kundaje and Shrikumar, ICML 2020), which :func:`calibrate` does on
validation images: one temperature, and one bias per class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalft.data.tails import UNLABELLED_ORDERS
from causalft.errors import CausalFTError
from causalft.methods.semi.label_shift import calibrate, em_law, law_posterior, mean_log_likelihood
from causalft.methods.semi.outliers import Outliers, confidence, find_outliers
from causalft.runs.documents import Document

__all__ = ["OTHER", "Evidence", "UnlabelledLaw", "anchor_laws", "estimate_law"]

OTHER = "other"
"""The setting of a law that no anchor explains."""

_TOLERANCE = 0.25
"""A class may hold about a quarter more or less than an anchor says. Without it every anchor is refused once the images
are many: no calibration is exact."""

_DRAWS = 4_000
_PSEUDO = 5.0
"""Images added to each class where the posterior starts, since EM leaves classes empty."""


@dataclass(frozen=True)
class Evidence:
    """How one anchor stands to the unlabelled images.

    Attributes
    ----------
    l1 : float
        Sum of the absolute differences to the estimated law, from 0 to 2.
    log_likelihood : float
        Mean of an image under the anchor less that under the maximum of the likelihood, in nats: at most 0.
    log_odds : float
        Log-odds of the anchor, a quarter of a class more or less, against a law that may be any other (Bayes factor, in
        nats): positive where the anchor explains the images better.
    """

    l1: float
    log_likelihood: float
    log_odds: float


@dataclass(frozen=True, repr=False)
class UnlabelledLaw:
    """The class law of unlabelled images.

    Attributes
    ----------
    law : (K,) array
        Estimated shares of the classes; sum to 1.
    ci95 : (K, 2) array
        95 % intervals of the shares, for the images and for the calibration.
    em : (K,) array
        The shares of maximum likelihood (EM) that the estimate starts from.
    setting : str
        ``consistent``, ``uniform``, ``reversed``, ``middle`` or ``head-tail``; ``other`` if none of them explains the
        images.
    evidence : dict of str to Evidence
        By anchor.
    n : int
        Unlabelled images.
    l1 : float
        Sum of the absolute differences to the labelled law, from 0 to 2.
    temperature : float
        Of the calibration.
    spread : float
        Estimated standard deviation of the log shares about a trend over the labelled classes.
    outliers : Outliers
        Whether there are images of no labelled class, by the calibrated confidence. A model that learnt from the
        unlabelled images is surer of them, so it finds fewer.
    """

    law: NDArray[np.float64]
    ci95: NDArray[np.float64]
    em: NDArray[np.float64]
    setting: str
    evidence: Mapping[str, Evidence]
    n: int
    l1: float
    temperature: float
    spread: float
    outliers: Outliers

    @property
    def document(self) -> Document:
        """The estimate in JSON."""
        return {
            "n": self.n,
            "law": self.law.tolist(),
            "law_ci95": self.ci95.tolist(),
            "setting": self.setting,
            "l1_to_labelled": self.l1,
            "em": self.em.tolist(),
            "temperature": self.temperature,
            "spread": self.spread,
            "outliers": self.outliers.document,
            "evidence": {name: dict(vars(found)) for name, found in self.evidence.items()},
        }

    def __repr__(self) -> str:
        return f"UnlabelledLaw({self.setting}, {self.n:,} images, {self.l1:.2f} from the labelled law)"


def anchor_laws(labelled_counts: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """The laws of the field by name, (K,) each: the labelled shares in another order, or equal ones.

    Parameters
    ----------
    labelled_counts : (K,) array
        Labelled images per class; a class without any counts half an image.

    Raises
    ------
    CausalFTError
        For a negative count, or none at all.

    Examples
    --------
    >>> laws = anchor_laws([10, 70, 20])
    >>> laws["consistent"].tolist(), laws["reversed"].tolist()
    ([0.1, 0.7, 0.2], [0.7, 0.1, 0.2])
    """
    counts = np.asarray(labelled_counts, dtype=float)
    if (
        counts.ndim != 1
        or len(counts) < 2
        or not np.isfinite(counts).all()
        or counts.min() < 0
        or not counts.any()
    ):
        raise CausalFTError("the labelled law needs a count for each of two or more classes, not all 0")
    counts = np.maximum(counts, 0.5)
    rank = np.argsort(-counts, kind="stable")
    falling = counts[rank] / counts.sum()
    laws = {}
    for name, order in UNLABELLED_ORDERS.items():
        laws[name] = np.empty(len(counts))
        laws[name][rank] = 1 / len(counts) if order.flat else falling[list(order.places(len(counts)))]
    return laws


def estimate_law(
    validation: ArrayLike,
    labels: ArrayLike,
    unlabelled: ArrayLike,
    labelled_counts: ArrayLike,
    *,
    scores: tuple[ArrayLike, ArrayLike] | None = None,
    seed: int = 0,
) -> UnlabelledLaw:
    """Estimate the class law of unlabelled images, and say how it stands to the labelled one.

    The model is calibrated on validation images (:func:`causalft.methods.semi.label_shift.calibrate`). EM gives the law
    of maximum likelihood, and :func:`causalft.methods.semi.label_shift.law_posterior` shrinks it towards a trend over
    the labelled classes, as far as the images ask for it. The trend is a line in the log of the labelled shares and in
    its distance from the middle, so every anchor follows one, at any imbalance. Strata are estimated one by one, and
    their fusion from its probabilities.

    Parameters
    ----------
    validation : (n, K) array
        Logits or log-probabilities of images that the model was not trained on. A model whose logits still carry a
        class law is calibrated too, though best less the log of that law.
    labels : (n,) array of int in [0, K)
        Of the validation images, whose classes need not be equally frequent.
    unlabelled : (m, K) array
        The same of the unlabelled images.
    labelled_counts : (K,) array
        Labelled training images per class.
    scores : (n,) and (m,) arrays, optional
        Of the validation and the unlabelled images, by which outliers are told, such as
        :func:`causalft.methods.semi.outliers.energy`; by default the confidence.
    seed : int
        Of the draws behind the intervals.

    Raises
    ------
    CausalFTError
        If there is no validation or no unlabelled image, or the numbers of classes differ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> def logits(labels):
    ...     return 3 * np.eye(4)[labels] + rng.normal(size=(len(labels), 4))
    >>> labels, hidden = np.repeat(np.arange(4), 50), np.repeat(np.arange(4), [50, 100, 200, 400])
    >>> found = estimate_law(logits(labels), labels, logits(hidden), [80, 40, 20, 10])
    >>> found
    UnlabelledLaw(reversed, 750 images, 1.22 from the labelled law)
    >>> bool(np.abs(found.law - [1 / 15, 2 / 15, 4 / 15, 8 / 15]).sum() < 0.1)
    True
    """
    anchors = anchor_laws(labelled_counts)
    k = len(anchors["uniform"])
    tables = {"validation": np.asarray(validation), "unlabelled": np.asarray(unlabelled)}
    for what, table in tables.items():
        if table.ndim != 2 or table.shape[1] != k or not len(table):
            raise CausalFTError(
                f"the law needs scores of {what} images for {k} classes, not of shape {table.shape}"
            )
    calibration = calibrate(validation, labels)
    log_p = calibration.scores(unlabelled)
    em = em_law(log_p, tolerance=1e-5)
    start = (em * len(log_p) + _PSEUDO) / (len(log_p) + k * _PSEUDO)
    posterior = law_posterior(unlabelled, calibration, _trend(anchors["consistent"]), start=start)
    draws = posterior.draw(_DRAWS, np.random.default_rng(seed))
    law = draws.mean(axis=0)
    best = mean_log_likelihood(log_p, em)
    evidence = {
        name: Evidence(
            l1=float(np.abs(law - anchor).sum()),
            log_likelihood=min(0.0, mean_log_likelihood(log_p, anchor) - best),
            log_odds=posterior.log_evidence(anchor, _TOLERANCE) - posterior.free,
        )
        for name, anchor in anchors.items()
    }
    known, other = scores or (confidence(validation, calibration), confidence(unlabelled, calibration))
    likeliest = max(evidence, key=lambda name: evidence[name].log_odds)
    return UnlabelledLaw(
        law=law,
        ci95=np.quantile(draws, [0.025, 0.975], axis=0).T,
        em=em,
        setting=likeliest if evidence[likeliest].log_odds >= 0 else OTHER,
        evidence=evidence,
        n=len(log_p),
        l1=evidence["consistent"].l1,
        temperature=calibration.temperature,
        spread=posterior.spread,
        outliers=find_outliers(known, labels, other, law, seed=seed),
    )


def _trend(labelled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns (K, f) with mean 0 and variance 1: the log shares, and their distance from the middle of their range."""
    logs = np.log(labelled)
    logs = logs - (logs.max() + logs.min()) / 2
    columns = [column - column.mean() for column in (logs, np.abs(logs))]
    kept = [column / column.std() for column in columns if column.std() > 1e-9]
    return np.column_stack(kept) if kept else np.zeros((len(labelled), 0))
