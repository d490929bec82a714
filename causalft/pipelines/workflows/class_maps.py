"""Maps for the pages of fit and diagnose: what strata look at in misclassified images of the classes that suffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from causalft.analysis.diagnosis.classes import ClassReport
from causalft.analysis.maps import FUSED, truest_map
from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import HEAD
from causalft.methods.adaptation.tuned import load_tuned
from causalft.methods.estimators.maps import FusedView, fused_view, zero_shot_view
from causalft.methods.estimators.mixing import Mixing
from causalft.methods.estimators.run_documents import stratum_folder
from causalft.methods.estimators.settings import FitSettings
from causalft.models.strata.zoo import Zoo
from causalft.models.tuning.processes import pick_device
from causalft.pipelines.pages.explain import map_card
from causalft.report.html import Card
from causalft.runs.folder import Run
from causalft.runs.progress import named

__all__ = ["class_map_cards", "zero_shot_map_cards"]

_MOST = 4  # images: each takes every kind of map of every stratum
_STEPS = 5  # of the curves that choose among them


@named("maps of the worst classes")
def class_map_cards(
    run: Run,
    settings: FitSettings,
    zoo: Zoo,
    test: ImageSet,
    reports: Sequence[ClassReport],
    mixing: Mixing,
) -> list[Card]:
    """One card for each of up to four classes: an image that the fusion takes for another class, and why.

    Classes that the pre-training of a stratum rarely showed (P-few) come first. The maps show the evidence for the
    class that the image is taken for. Empty if the tuned strata are not in the run's folder, or no image is
    misclassified.

    Parameters
    ----------
    run : Run
    settings : FitSettings
    zoo : Zoo
    test : ImageSet
        That the reports' misses index.
    reports : sequence of ClassReport
        The worst classes, worst first.
    mixing : Mixing
    """
    folders = {name: stratum_folder(run.path, name) for name in settings.strata}
    if not all((folder / HEAD).is_file() for folder in folders.values()):
        return []
    classes = list(test.class_names)
    tuning = replace(settings.tuning, precision="fp32")
    members = {
        name: load_tuned(
            zoo.load(name, device=pick_device(settings.device)), folder, classes, tuning, gla=settings.gla
        )
        for name, folder in folders.items()
    }
    return _cards(fused_view(members, mixing, classes), test, reports)


@named("maps of the worst classes")
def zero_shot_map_cards(
    settings: FitSettings, zoo: Zoo, test: ImageSet, reports: Sequence[ClassReport]
) -> list[Card]:
    """:func:`class_map_cards` before training: of zero-shot strata, and the mean of their probabilities.

    Empty if a stratum has no text tower: nothing then says what it takes an image for without training images.
    """
    strata = {name: zoo.load(name, device=pick_device(settings.device)) for name in settings.strata}
    if not all(stratum.has_text for stratum in strata.values()):
        return []
    classes = list(test.class_names)
    views = {
        name: zero_shot_view(stratum, classes, settings.tuning.template) for name, stratum in strata.items()
    }
    mixing = Mixing("mixture", (1 / len(views),) * len(views), 1.0)
    return _cards(FusedView(views, mixing, tuple(classes)), test, reports)


def _cards(view: FusedView, test: ImageSet, reports: Sequence[ClassReport]) -> list[Card]:
    missed = [report for report in reports if report.misses]
    missed.sort(key=lambda report: "few" not in report.P.values())  # stable: the worst of each kind first
    chosen = missed[:_MOST]
    if not chosen:
        return []
    try:
        frames = np.stack([view.frame(test.image(report.misses[0].row)) for report in chosen])
    except CausalFTError:  # predictions were cached, and a file is gone
        return []
    taken = [report.misses[0].taken_for for report in chosen]
    of = [view.classes.index(name) for name in taken]
    kept = truest_map(view, frames, of, steps=_STEPS, controls=False)
    look = kept.look
    cards = []
    for row, (report, other) in enumerate(zip(chosen, taken, strict=True)):
        of_class = look.probabilities[:, row, look.classes[row]]
        captions = [report.name]
        captions += [
            f"{name} {100 * p:.0f}\N{NO-BREAK SPACE}%"
            for name, p in zip((*view.strata, FUSED), of_class, strict=True)
        ]
        line = (
            f"Evidence for {other} ({kept.method}), with its probability by each stratum and by the fusion."
        )
        title = f"{report.name}, taken for {other}"
        cards.append(map_card(title, [line], frames[row], look.maps[:, row], captions))
    return cards
