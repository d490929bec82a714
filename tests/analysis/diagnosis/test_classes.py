"""The worst classes: which, in what order, with which intervals, and how they stand on a page."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from causalft.analysis.diagnosis.classes import ClassReport, Confusion, worst_classes, worst_classes_line
from causalft.data import ImageSet
from causalft.errors import CausalFTError
from causalft.pipelines.pages.diagnosis import TITLE, class_section
from causalft.report.html import render_report, without_images


def one_hot(taken: list[int], n_classes: int, surety: list[float] | None = None) -> np.ndarray:
    """Probabilities that give these classes, each with its surety and the rest spread over the others."""
    sure = np.asarray(surety or [0.9] * len(taken))
    probs = np.repeat(((1 - sure) / (n_classes - 1))[:, None], n_classes, axis=1)
    probs[np.arange(len(taken)), taken] = sure
    return probs


NAMES = ["cat", "lynx", "mole", "newt"]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]  # newt has no test image
TAKEN = [0, 0, 0, 1, 0, 0, 2, 1, 2, 2]
SURE = [0.9, 0.9, 0.9, 0.6, 0.7, 0.95, 0.8, 0.9, 0.9, 0.9]


def reports(**options: object) -> list[ClassReport]:
    prior = {"clip": [0.4, 0.3, 0.2, 0.1], "openclip": [0.1, 0.2, 0.3, 0.4]}
    return worst_classes(LABELS, NAMES, [150, 50, 9, 3], one_hot(TAKEN, 4, SURE), prior, **options)


def test_worst_first_with_groups_counts_and_confusions() -> None:
    found = reports()
    assert [r.name for r in found] == ["lynx", "cat"]  # mole is always recognised, newt never tested
    lynx, cat = found
    assert (lynx.fused.estimate, cat.fused.estimate) == (0.25, 0.75)
    assert (lynx.n_train, lynx.n_test, lynx.D, cat.D) == (50, 4, "medium", "many")
    assert lynx.P == {"clip": "medium", "openclip": "few"} and cat.P == {"clip": "many", "openclip": "few"}
    assert lynx.confused_with == (Confusion("cat", 0.5), Confusion("mole", 0.25))
    assert [(miss.row, miss.taken_for) for miss in lynx.misses] == [(5, "cat"), (6, "mole"), (4, "cat")]
    assert [miss.probability for miss in lynx.misses] == [0.95, 0.8, 0.7]


@pytest.mark.parametrize(("right", "n"), [(0, 1), (0, 20), (1, 20), (19, 20), (7, 9)])
def test_intervals_lie_inside_the_exact_ones_and_are_never_of_width_zero(right: int, n: int) -> None:
    taken = [0] * right + [1] * (n - right)
    (report,) = worst_classes([0] * n, ["a", "b"], [5, 5], one_hot(taken, 2), {})
    exact = binomtest(right, n).proportion_ci(method="exact")
    assert report.fused.estimate == right / n
    assert exact.low <= report.fused.low <= right / n <= report.fused.high <= exact.high
    assert report.fused.high - report.fused.low > 0.8 * (exact.high - exact.low)


def test_accuracies_are_averaged_over_seeds_beside_the_single_stratum() -> None:
    labels, first, second = [0, 0, 1], one_hot([1, 1, 1], 2), one_hot([0, 1, 1], 2)
    (report,) = worst_classes(
        labels, ["a", "b"], [5, 5], np.stack([first, second]), {}, single_probs=first, zero_shot=second
    )
    assert (report.fused.estimate, report.single.estimate, report.zero_shot.estimate) == (0.25, 0.0, 0.5)
    assert report.confused_with == (Confusion("b", 0.75),)


def test_ties_go_to_the_class_with_more_test_images() -> None:
    found = worst_classes([0, 1, 1, 2], ["a", "b", "c"], [1, 1, 1], one_hot([2, 2, 2, 0], 3), {})
    assert [r.name for r in found] == ["b", "a", "c"]


def test_a_thousand_classes_give_ten_and_json_names_no_image() -> None:
    n = 1000
    probs = np.eye(n)[(np.arange(n) + 1) % n]
    found = worst_classes(
        np.arange(n), [f"class {k}" for k in range(n)], np.full(n, 30), probs, {"clip": np.arange(1, n + 1)}
    )
    assert len(found) == 10 and all(len(r.confused_with) <= 3 for r in found)
    document = found[0].to_json()
    assert document == {
        "class": "class 0",
        "n_train": 30,
        "n_test": 1,
        "D": "medium",
        "P": {"clip": "few"},
        "zero_shot": None,
        "single": None,
        "fused": {"accuracy": 0.0, "ci95": [0.0, pytest.approx(1 - 2 * 0.022)]},
        "confused_with": [{"class": "class 1", "share": 1.0}],
    }


def test_inputs_of_different_classes_are_refused() -> None:
    with pytest.raises(CausalFTError, match="do not belong together"):
        worst_classes([0, 1], ["a", "b", "c"], [1, 1], np.eye(2), {})


def test_the_terminal_line_names_at_most_three_classes() -> None:
    found = reports()
    assert worst_classes_line(found) == (
        "worst classes: lynx 25.0 % (of 4 test images), cat 75.0 % (of 4 test images)"
    )
    assert worst_classes_line(found * 3).count("test images") == 3 and worst_classes_line([]) == ""


@pytest.fixture
def folder(tmp_path: Path) -> ImageSet:
    """Two classes; the photographs of the first lie on their side, as phones store them."""
    for name, colour in (("<b>cat & 'co'", "red"), ("lynx", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(3):
            image = Image.new("RGB", (600, 300), colour)
            exif = image.getexif()
            exif[0x0112] = 6  # turn by 90 degrees to see it upright
            exif[0x010F] = "a maker"
            image.save(tmp_path / "photos" / name / f"{k}.jpg", exif=exif)
    return ImageSet.from_folder(tmp_path / "photos")


class Thumbs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.uris: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag == "img":
            self.uris.append(dict(attrs)["src"])


def page_of(images: ImageSet) -> str:
    found = worst_classes(
        images.labels,
        images.class_names,
        images.class_counts,
        one_hot([1, 1, 0, 1, 1, 1], 2),
        {"clip": [0.5, 0.5]},
        train_labels=images.labels,
    )
    section = class_section(found, "clip", images, images)
    return render_report(title="t", verdict="v.", facts={}, sections=[section], command="c")


def test_thumbnails_are_small_upright_and_without_metadata(folder: ImageSet) -> None:
    parser = Thumbs()
    page = page_of(folder)
    parser.feed(page)
    assert len(parser.uris) == 2 + 2  # two misses of the one class with misses, two training images
    for uri in parser.uris:
        content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
        small = Image.open(io.BytesIO(content))
        assert small.size == (48, 96) and len(content) < 10_000
        assert not small.getexif() and b"a maker" not in content
    assert "&lt;b&gt;cat &amp; &#39;co&#39;" in page and "<b>" not in page
    assert TITLE in page and "lynx (67 %)" in page


def test_a_pushed_page_has_no_thumbnail(folder: ImageSet) -> None:
    bare = without_images(page_of(folder))
    assert "<img" not in bare and "data:" not in bare and "In training" not in bare
    assert TITLE in bare and "lynx (67 %)" in bare
    assert len(re.findall(r"<div\b", bare)) == bare.count("</div>")


def test_a_missing_image_is_reported_and_the_page_is_written(folder: ImageSet) -> None:
    (Path(folder.location) / folder.files[0]).unlink()
    page = page_of(folder)
    assert page.count("(cannot be read)") == 2  # a miss and an example


def test_a_sentence_says_that_no_image_is_wrong() -> None:
    section = class_section([], "clip")
    assert section.paragraphs == ["The fused model recognises every test image of every class."]
