"""The worst classes on a page: one table, and a card with images for the worst of them."""

from __future__ import annotations

from collections.abc import Sequence

from causalft.analysis.diagnosis.classes import ClassReport
from causalft.analysis.diagnosis.conclusion import points
from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError
from causalft.report.drawing import thumbnail_uri
from causalft.report.html import Card, Section, Table, Thumbnail

__all__ = ["TITLE", "class_cards", "class_section", "class_table"]

TITLE = "Which of my classes?"

N_CARDS = 6
"""Classes that are shown with images: at most 36 images of a few kilobytes."""


def class_section(
    reports: Sequence[ClassReport],
    single: str,
    test: ImageSet | None = None,
    train: ImageSet | None = None,
) -> Section:
    """The worst classes by name, with images where the image sets are given.

    Parameters
    ----------
    reports : sequence of ClassReport
        Of :func:`causalft.analysis.diagnosis.classes.worst_classes`.
    single : str
        Name of the stratum that ``zero_shot`` and ``single`` are the accuracies of.
    test, train : ImageSet, optional
        The sets that the rows of ``misses`` and ``examples`` count in.
    """
    if not reports:
        return Section(TITLE, ["The fused model recognises every test image of every class."])
    return Section(
        TITLE,
        [
            "The classes that the fused model recognises worst, worst first. With few test images an interval is wide, "
            "and the order of the classes is uncertain."
        ],
        tables=[class_table(reports, single)],
        cards=class_cards(reports, test, train),
    )


def class_table(reports: Sequence[ClassReport], single: str) -> Table:
    """One row per class: groups, accuracies in percent with 95 % intervals, and what it is taken for."""
    strata = list(reports[0].P)
    before = reports[0].zero_shot.exists
    columns = [
        "class",
        *([f"{single}, zero-shot"] if before else []),
        f"{single}, tuned",
        "fused",
        "taken for",
    ]
    columns += ["D", f"P by {' / '.join(strata)}", "trained on", "tested on"]
    rows = []
    for report in reports:
        row = [report.name, *([points(report.zero_shot)] if before else []), points(report.single)]
        row += [points(report.fused), _taken_for(report), report.D, " / ".join(report.P.values())]
        rows.append([*row, str(report.n_train), str(report.n_test)])
    caption = "Accuracy in percent with 95 % intervals over test images; numbers of training and test images."
    return Table(columns, rows, caption)


def class_cards(
    reports: Sequence[ClassReport], test: ImageSet | None, train: ImageSet | None, most: int = N_CARDS
) -> list[Card]:
    """A card per class: the test images most surely taken for another class, and training images beside them."""
    cards = []
    for report in reports[:most]:
        rows: list[tuple[str, list[Thumbnail]]] = []
        if test is not None:
            missed = [
                _thumbnail(
                    test,
                    miss.row,
                    f"{100 * miss.probability:.0f} % {miss.taken_for}",
                    f"test image of {report.name}, taken for {miss.taken_for}",
                )
                for miss in report.misses
            ]
            rows.append(("Test images most surely taken for another class:", missed))
        if train is not None:
            shown = [
                _thumbnail(train, row, "", f"training image of {report.name}") for row in report.examples
            ]
            rows.append(("In training:", shown))
        if any(images for _, images in rows):
            right = f"{points(report.fused)} % of {report.n_test} test images recognised."
            taken = f" Taken for {_taken_for(report)}." if report.confused_with else ""
            cards.append(Card(report.name, [right + taken], rows))
    return cards


def _taken_for(report: ClassReport) -> str:
    return ", ".join(f"{other.name} ({100 * other.share:.0f} %)" for other in report.confused_with)


def _thumbnail(images: ImageSet, row: int, caption: str, alt: str) -> Thumbnail:
    try:
        return Thumbnail(thumbnail_uri(images.image(row)), caption, alt)
    except CausalFTError:  # predictions came from the cache, and the file has gone since
        return Thumbnail("", f"{caption} (cannot be read)".strip(), alt)
