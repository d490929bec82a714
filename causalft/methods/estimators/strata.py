"""The backdoor-adjusted image classifier: one tuned foundation model per stratum, mixed by P(c), calibrated once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from causalft.data.given import given_images
from causalft.data.groups import balancing_weights
from causalft.data.hidden import Unlabelled
from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.errors import CausalFTError, CausalFTWarning
from causalft.methods.adaptation.settings import Tuning, check_gla, default_tuning
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.methods.estimators.adjustment import TOLERANCE, Adjusting, Adjustment, fit_fusion
from causalft.methods.estimators.fitted import (
    FittedStrata,
    load_fitted,
    predict_stream,
    save_classifier,
    stored_settings,
)
from causalft.methods.estimators.given_sets import fit_sets, scored_images
from causalft.methods.estimators.joint import fit_joint
from causalft.methods.estimators.member import MemberPrediction, fit_member, folder_name, pick_device
from causalft.methods.estimators.mixing import check_mixing
from causalft.methods.estimators.plots import plot_confusion, plot_priors
from causalft.methods.estimators.run_documents import stratum_folder
from causalft.methods.estimators.settings import FitSettings, check_joint
from causalft.methods.estimators.sharing import fit_sharing
from causalft.methods.estimators.stored_logits import as_kept
from causalft.methods.priors.target_law import target_law
from causalft.methods.semi.settings import SemiSettings, check_semi, semi_tuning, usual_rate
from causalft.methods.semi.tune import supervised_by
from causalft.models.features.cache import FeatureCache
from causalft.models.features.encoder import Crops
from causalft.models.pretraining.leakage import keep_apart, seen_in_run, warn_of_seen
from causalft.models.strata.zoo import Zoo, check_strata, open_zoo
from causalft.runs.settings import documented
from causalft.scm import causal_graph, check_adjustment_set

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes

__all__ = ["StrataClassifier", "classifier_of", "logits_without_labels"]


@documented(FitSettings)
class StrataClassifier(ClassifierMixin, BaseEstimator):
    """Classify images by P(Y | do(X)) = sum_c P(Y | b, c) P(c), with foundation models as the strata c.

    Each stratum is a frozen model with adapters and a cosine head, tuned by logit adjustment on the long-tailed
    training set. Their fusion is calibrated on validation images: by default it is moved until the classes that a
    pre-training saw often and seldom are recognised alike; ``fusion="mixture"`` is Eq. 7 as it stands.

    Parameters
    ----------
    {settings}
    graph : networkx.DiGraph, optional
        The causal graph, asked before anything is trained whether C blocks the backdoor paths from X to Y.
    progress : bool, optional
        Show bars; by default on a terminal.

    Attributes
    ----------
    classes_ : numpy.ndarray of str, shape (n_classes,)
    members_ : dict of str to TunedStratum
    predictions_ : dict of str to MemberPrediction
        Of the validation (and test) images seen in ``fit``.
    priors_ : dict of str to numpy.ndarray
        GLA's estimate of each model's label prior.
    mixing_ : Mixing
        P(c), temperatures and fusion in use.
    temperature_ : float
        Of the fused probabilities.
    adjustment_ : str
        The estimand, as found in the graph.
    gap_adjustment_ : Adjustment or None
        What ``fusion="adjusted"`` chose.

    References
    ----------
    Chen et al., "Rethinking the Bias of Foundation Model under Long-tailed Distribution", ICML 2025, Eq. 7.

    Examples
    --------
    >>> from causalft.data.creatures import creatures_longtail
    >>> splits = creatures_longtail(n_max=6, imbalance_factor=3, n_validation=2, n_test=1)
    >>> model = StrataClassifier(("clip", "openclip"), tuning=Tuning(epochs=1, lr=0.05), progress=False)
    >>> model.fit(splits.train, validation=splits.validation).predict_proba(splits.test).shape
    (60, 60)
    """

    def __init__(
        self,
        strata: Sequence[str] = ("clip", "openclip", "metaclip"),
        *,
        zoo: str | Zoo = "mini",
        weights: Mapping[str, str] | None = None,
        tuning: Tuning | None = None,
        learning_rates: tuple[float, ...] = (),
        gla: bool = False,
        fusion: str = "adjusted",
        tolerance: float = TOLERANCE,
        target_law: str | Mapping[str, float] | None = None,
        stratum_prior: Sequence[float] | str | None = None,
        calibrate_strata: bool = False,
        joint: bool = False,
        semi: SemiSettings | None = None,
        graph: nx.DiGraph | None = None,
        device: str = "auto",
        progress: bool | None = None,
        offline: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        self.strata = strata
        self.zoo = zoo
        self.weights = weights
        self.tuning = tuning
        self.learning_rates = learning_rates
        self.gla = gla
        self.fusion = fusion
        self.tolerance = tolerance
        self.target_law = target_law
        self.stratum_prior = stratum_prior
        self.calibrate_strata = calibrate_strata
        self.joint = joint
        self.semi = semi
        self.graph = graph
        self.device = device
        self.progress = progress
        self.offline = offline
        self.allow_pickle = allow_pickle

    def fit(
        self,
        images: Any,
        y: ArrayLike | None = None,
        *,
        validation: Any = None,
        test: Any = None,
        class_names: Sequence[str] | None = None,
        folder: Path | None = None,
        cache: FeatureCache | None = None,
        log_dir: Path | None = None,
        known_priors: Mapping[str, ArrayLike] | None = None,
        unlabeled: ImageSet | Unlabelled | None = None,
    ) -> StrataClassifier:
        """Tune every stratum and calibrate their fusion.

        Parameters
        ----------
        images : ImageSet, path, or sequence of paths, PIL images or arrays (H, W, 3) of uint8
            The long-tailed training set. An ImageSet, or the path of anything that `causalft.open_images` opens, has
            its labels; the others need ``y``.
        y : (n,) array of str or int, optional
            The label of each image.
        validation : ImageSet, path, or (images, labels), optional
            By default the split that the images came with, or a share of each class cut from them
            (`causalft.data.cut_splits`). The label priors, the temperature and (if asked) the learning rates come
            from it. It need not be balanced: every class counts alike. A class without a validation image adds nothing
            to them, and its label prior is taken to be the geometric mean of the others.
        test : ImageSet, path, or (images, labels), optional
            Predicted along the way, kept in ``predictions_``; nothing is learnt from it.
        class_names : sequence of K str, optional
            What the classes are called, where ``y`` holds whole numbers from 0 to K - 1 or only some of the classes.
        folder : pathlib.Path, optional
            Where the strata are written as they are done, so that an interrupted fit goes on.
        cache : causalft.models.features.cache.FeatureCache, optional
            Keeps frozen features beyond this fit.
        log_dir : pathlib.Path, optional
            Folder for TensorBoard, one below it for each stratum.
        known_priors : mapping of str to (K,) arrays, optional
            Known label priors of strata (:attr:`causalft.methods.priors.KnownPrior.prior`), in the order of the
            classes, NaN where not known. GLA subtracts one that has all classes instead of its estimate.
        unlabeled : ImageSet or Unlabelled, optional
            Images whose labels are not read (:func:`causalft.data.unlabelled.open_unlabelled`), which then choose the
            strength of ``fusion="adjusted"``, and which the method of ``semi`` learns from. Their logits are kept in
            ``unlabeled_logits_``.

        Raises
        ------
        CausalFTError
            If the graph leaves a backdoor path open, a name is unknown, the sets do not agree, or validation or test
            images are among those that the zoo was pre-trained on.

        Warns
        -----
        CausalFTWarning
            If training images were left out because the zoo was pre-trained on them, or an image is in two sets.
        """
        zoo = self.check()
        label = self.zoo if isinstance(self.zoo, str) else self.zoo.label
        tuning = self.tuning or usual_rate(default_tuning(label), self.semi)
        unlabelled = Unlabelled.of(unlabeled, known=False) if isinstance(unlabeled, ImageSet) else unlabeled
        supervision = None
        if self.semi is not None and self.semi.method is not None:
            tuning = semi_tuning(tuning, self.semi)
            supervision = supervised_by(self.semi, unlabelled)
        images, validation, test, classes = fit_sets(
            images, y, validation, test, class_names, tuning.seed, zoo
        )
        given = [images, validation] if test is None else [images, validation, test]
        if len({part.class_names for part in given}) > 1:
            raise CausalFTError("training, validation and test images must share one list of classes")
        if not len(validation):
            raise CausalFTError("validation holds no image; the label priors and the temperature need some")
        images = keep_apart(zoo, images, validation, test)
        self._train_images, self._zoo = images, zoo
        splits = Splits(
            train=images, validation=validation, test=validation.subset([]) if test is None else test
        )
        self.members_: dict[str, TunedStratum] = {}
        self.predictions_: dict[str, MemberPrediction] = {}
        shared: dict[str, Any] = {
            "learning_rates": self.learning_rates,
            "device": self.device,
            "cache": cache,
            "progress": self.progress,
        }
        if self.joint:
            together, self.members_ = fit_joint(
                splits,
                self.strata,
                zoo,
                tuning,
                fusion=self.fusion,
                stratum_prior=None if isinstance(self.stratum_prior, str) else self.stratum_prior,
                known_priors=known_priors,
                folder=None if folder is None else folder / "strata",
                log_dir=log_dir,
                **shared,
            )
            self.predictions_ = together.members
        elif supervision is not None and supervision.settings.share_labels:
            self.predictions_, self.members_ = fit_sharing(
                splits,
                self.strata,
                zoo,
                tuning,
                supervision,
                known_priors=known_priors,
                folder=None if folder is None else folder / "strata",
                log_dir=log_dir,
                **shared,
            )
        else:
            for name in self.strata:
                self.predictions_[name], self.members_[name] = fit_member(
                    splits,
                    name,
                    zoo,
                    tuning,
                    gla=self.gla,
                    known_prior=(known_priors or {}).get(name),
                    supervision=supervision,
                    folder=None if folder is None else stratum_folder(folder, name),
                    log_dir=None if log_dir is None else log_dir / folder_name(name),
                    **shared,
                )
        self.classes_ = classes
        self.priors_ = {name: prediction.prior.prior for name, prediction in self.predictions_.items()}
        self.unlabeled_logits_ = {
            name: logits_without_labels(tuned, unlabelled.images, self.progress)
            for name, tuned in self.members_.items()
            if unlabelled is not None
        }
        self.gap_adjustment_: Adjustment | None
        self.mixing_, self.gap_adjustment_ = fit_fusion(
            [p.validation_logits for p in self.predictions_.values()],
            validation.labels,
            Adjusting(
                [p.gla_prior for p in self.predictions_.values()],
                images.class_counts,
                unlabeled=list(self.unlabeled_logits_.values()) or None,
                target_law=target_law(self.target_law, images.class_names),
                tolerance=self.tolerance,
            ),
            fusion=self.fusion,
            stratum_prior=self.stratum_prior,
            calibrate_strata=self.calibrate_strata,
            seed=tuning.seed,
            weights=balancing_weights(validation.labels, validation.n_classes),
            kind="logits",
        )
        return self

    @property
    def temperature_(self) -> float:
        check_is_fitted(self)
        return self.mixing_.temperature

    def stratum_proba(self, images: Any) -> np.ndarray:
        """P(Y | b, c) of each stratum, shape (n_strata, n, n_classes); rows sum to 1.

        ``images`` as in :meth:`predict_proba`.
        """
        check_is_fitted(self)
        images = given_images(images)
        return np.stack(
            [
                softmax(
                    tuned.logits(Crops(images, tuned.stratum, progress=self.progress)).astype(float), axis=1
                )
                for tuned in self.members_.values()
            ]
        )

    def plot_confusion(
        self,
        images: Any,
        y: ArrayLike | None = None,
        *,
        normalize: str | None = "true",
        ax: Axes | None = None,
    ) -> Axes:
        """Draw the confusion matrix of labelled images; arguments as in :meth:`score`.

        Parameters
        ----------
        normalize : {"true", "pred", "all"}, optional
            Shares of the true classes by default; None for counts.
        ax : matplotlib.axes.Axes, optional
            A new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        check_is_fitted(self)
        images, truth = scored_images(images, y, self.classes_)
        return plot_confusion(
            truth, self.predict_proba(images).argmax(axis=1), self.classes_, normalize=normalize, ax=ax
        )

    def plot_priors(self, *, ax: Axes | None = None) -> Axes:
        """Draw the label prior of each stratum, estimated in :meth:`fit`, by rank."""
        check_is_fitted(self, "priors_")
        return plot_priors(self.priors_, ax=ax)

    def predict_stream(
        self, images: ImageSet, batch_size: int = 64, **options: Any
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (rows, P(Y | b, c) of each stratum, P(Y | do(X))) batch by batch, in flat memory.

        See :func:`causalft.methods.estimators.fitted.predict_stream` for the options.
        """
        check_is_fitted(self)
        return predict_stream(self, images, batch_size, **options)

    def predict_proba(self, images: Any) -> np.ndarray:
        """P(Y | do(X)), calibrated, shape (n, n_classes); rows sum to 1.

        Parameters
        ----------
        images : ImageSet, path, PIL image, array, or a sequence of such
            A path is an image file, or a folder or zip of images; an array is one image (H, W, 3) or several
            (n, H, W, 3), of uint8.
        """
        return self.fuse_proba(self.stratum_proba(images))

    def fuse_proba(self, stratum_probs: np.ndarray) -> np.ndarray:
        """Mix and calibrate what :meth:`stratum_proba` gave."""
        check_is_fitted(self)
        return self.mixing_(stratum_probs)

    def predict(self, images: Any) -> np.ndarray:
        """The most probable class of each image, shape (n,); ``images`` as in :meth:`predict_proba`."""
        best = self.predict_proba(images).argmax(axis=1)
        return self.classes_[best]

    def score(
        self, images: Any, y: ArrayLike | None = None, sample_weight: np.ndarray | None = None
    ) -> float:
        """Share of the images whose label is the most probable class.

        Without ``y``, ``images`` are an ImageSet or the path of a labelled set; with it, as in :meth:`predict_proba`.

        Warns
        -----
        CausalFTWarning
            If some of them are training images, or images that the zoo was pre-trained on.
        """
        check_is_fitted(self)
        images, truth = scored_images(images, y, self.classes_)
        if hasattr(self, "_train_images"):
            warn_of_seen(images, self._zoo, self._train_images)
        elif hasattr(self, "_folder"):
            zoo = open_zoo(self.zoo, self.weights) if isinstance(self.zoo, str) else self.zoo
            for note in seen_in_run(images, self._folder, zoo):
                warnings.warn(note, CausalFTWarning, stacklevel=2)
        right = self.predict_proba(images).argmax(axis=1) == truth
        return float(np.average(right, weights=sample_weight))

    def save(self, folder: str | Path) -> Path:
        """Write the fitted classifier into a new folder: settings, tuned tensors, mixture; no backbone and no pickle.

        :meth:`load` and ``causalft predict`` read it. A folder of ``causalft fit`` has a diagnosis and a page as well.

        Parameters
        ----------
        folder : path
            New or empty.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        CausalFTError
            If the folder is taken.
        """
        check_is_fitted(self)
        return save_classifier(self, folder)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str | None = None,
        precision: str | None = None,
        progress: bool | None = None,
    ) -> StrataClassifier:
        """Load what :meth:`save` wrote, or the classifier of a complete ``causalft fit``, with all its settings.

        ``clone(loaded).fit(...)`` is the same fit again. Settings that a run from an older version does not name are at
        their defaults.

        Parameters
        ----------
        folder : path
        device : str, optional
            By default that of the settings where this machine has it, else ``"auto"``.
        precision : {"auto", "fp32", "bf16", "fp16", "int8"}, optional
            By default that of the settings.
        progress : bool, optional

        Raises
        ------
        CausalFTError
            If the folder is not a complete fit run, or the weights behind it have changed.
        """
        fitted = load_fitted(folder, device=device, precision=precision)
        model = _of(cls, fitted)
        if device is not None:
            model.device = device
        if progress is not None:
            model.progress = progress
        if precision is not None:
            model.tuning = fitted.tuning
        model._folder = Path(folder)
        return model

    def check(self) -> Zoo:
        """Refuse wrong choices before anything is trained, and ask the graph for the adjustment set; return the zoo."""
        zoo = self.zoo
        if isinstance(zoo, str):
            zoo = open_zoo(zoo, self.weights, offline=self.offline, allow_pickle=self.allow_pickle)
        check_strata(self.strata, zoo)
        check_mixing(self.fusion, self.stratum_prior, len(self.strata), self.strata)
        check_joint(self)
        check_semi(self.semi, joint=self.joint, gla=self.gla)
        if self.tuning is not None:
            self.tuning.check()
            if self.gla:
                check_gla(self.tuning)
        pick_device(self.device)
        graph = causal_graph() if self.graph is None else self.graph
        self.adjustment_ = str(check_adjustment_set(graph, "X", "Y", ["C"]).formula)
        return zoo


def logits_without_labels(tuned: TunedStratum, images: ImageSet, progress: bool | None = None) -> np.ndarray:
    """Logits (n, n_classes) of a tuned stratum on images whose labels are not read, as a run keeps them."""
    return as_kept(tuned.logits(Crops(images, tuned.stratum, progress=progress)))


def classifier_of(fitted: FittedStrata) -> StrataClassifier:
    """Return strata that are loaded already as a classifier with the settings of their run."""
    return _of(StrataClassifier, fitted)


def _of(cls: type[StrataClassifier], fitted: FittedStrata) -> StrataClassifier:
    model = cls(**stored_settings(fitted.config, cls._get_param_names()))
    model.classes_, model.mixing_, model.members_ = fitted.classes_, fitted.mixing_, fitted.members_
    return model
