"""``diagnose --data``: images without a training split, labelled images for the prior, and the page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from causalft.data.image_set import ImageSet
from causalft.data.splits import Splits
from causalft.errors import CausalFTError
from causalft.methods.estimators.settings import FitSettings
from causalft.methods.priors import prior_on_validation
from causalft.pipelines.pages import before_training
from causalft.pipelines.workflows import diagnose as module
from causalft.pipelines.workflows.diagnose import diagnose_data, draw_labelled, load_parts
from causalft.pipelines.workflows.settings import DiagnoseSettings
from causalft.runs.folder import Run, plain


@pytest.fixture(scope="module")
def settings(tiny_zoo, photos):
    fit = FitSettings(
        strata=("clip", "openclip"), data=str(photos), zoo=str(tiny_zoo), n_test=8, n_validation=4
    )
    return DiagnoseSettings(fit=fit, n_boot=50)


@pytest.fixture(scope="module")
def made(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnose") / "run"
    lines = []
    return (
        folder,
        diagnose_data(settings, folder, command="causalft diagnose", progress=False, say=lines.append),
        lines,
    )


def values(result):
    """The metrics without what differs between equal runs."""
    return plain({k: v for k, v in result.metrics.items() if k not in ("seconds", "made")})


def table_of(folder, pictures, sizes):
    """A table of pictures with these splits, each of so many images of four classes."""
    rows = ["path,label,split"]
    for number, (split, n) in enumerate(sizes.items()):
        pictures(folder / split, dict.fromkeys(("ant", "bee", "cow", "doe"), n), seed=number)
        images = sorted((folder / split).rglob("*.png"))
        rows += [f"{image.relative_to(folder)},{image.parent.name},{split}" for image in images]
    (folder / "set.csv").write_text("\n".join(rows) + "\n")
    return folder / "set.csv"


def with_data(settings, data, **changes):
    return replace(settings, fit=replace(settings.fit, data=str(data), **changes))


def test_result_is_a_complete_run_with_a_page(made):
    folder, result, lines = made
    metrics = Run.open(folder, kind="diagnose").metrics
    assert {"strata", "priors", "cross_table", "slope", "classes"} <= metrics.keys()
    assert metrics["data"]["n_test"] == 32 and metrics["strata"]["clip"]["zero_shot"]["accuracy"] >= 0
    assert (
        metrics["priors"]["clip"]["n"] == 4 * 20
    )  # 4 validation images, and training images up to 20 a class
    page = (folder / "report.html").read_text()
    assert "What the strata look at in these images" in page and ", taken for " in page
    for heading in ("What each method can be expected to mend", "What was measured", "Groups", "The priors"):
        assert heading in page
    assert lines[0].endswith("32 test") and "72 training images of 4 classes" in lines[0]


def test_priors_do_not_depend_on_test_images(settings, made, monkeypatch):
    whole = module.load_parts

    def spoilt(asked):
        parts = whole(asked)
        parts.splits.test.labels = np.where(
            np.arange(len(parts.splits.test)) % 3, parts.splits.test.labels, 0
        )
        return parts

    monkeypatch.setattr(module, "load_parts", spoilt)
    other = diagnose_data(settings, progress=False)
    assert values(other)["priors"] == values(made[1])["priors"]
    assert values(other)["classes"] != values(made[1])["classes"]
    accuracy = [found.metrics["strata"]["clip"]["labelled_accuracy"] for found in (other, made[1])]
    assert accuracy[0] == accuracy[1]


def test_equal_runs_are_equal(settings, made):
    assert values(diagnose_data(settings, progress=False)) == values(made[1])


def test_prior_of_validation_images_alone_is_that_of_fit(settings):
    found = diagnose_data(replace(settings, n_prior=4), progress=False)
    parts = load_parts(settings)
    assert found.metrics["priors"]["clip"]["n"] == 16
    logits = _zero_shot(settings, parts.splits.validation)
    by_fit = prior_on_validation(logits, parts.splits.validation.labels).prior
    assert [row["prior"] for row in found.metrics["priors"]["clip"]["classes"]] == pytest.approx(
        by_fit, rel=1e-4
    )


def _zero_shot(settings, images):
    from causalft.methods.adaptation.tune import encode_zero_shot

    stratum = settings.fit.open_zoo().load("clip")
    return encode_zero_shot(
        stratum, images.class_names, settings.fit.tuning, [images], progress=False
    ).logits[0]


def test_labelled_images_fill_up_each_class():
    labels = np.repeat([0, 1, 2], [50, 6, 1])
    images = ImageSet.from_arrays(np.zeros((57, 2, 2, 3), np.uint8), labels, ["a", "b", "c"])
    splits = Splits(images, images.subset([0, 1, 2, 50]), images.subset([3]))
    drawn = draw_labelled(splits, 5, seed=1)
    assert drawn.class_counts.tolist() == [2, 4, 1]
    assert drawn.files == draw_labelled(splits, 5, seed=1).files != draw_labelled(splits, 5, seed=2).files


def test_without_a_training_split_there_are_no_data_groups(settings, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(before_training, "_figures", lambda *_: {})
    data = table_of(tmp_path, pictures, {"validation": 12, "test": 9})
    lines = []
    found = diagnose_data(with_data(settings, data), tmp_path / "out", progress=False, say=lines.append)
    assert found.found.class_counts is None and found.metrics["strata"]["clip"]["D"] is None
    assert found.metrics["priors"]["clip"]["n"] == 48 and found.metrics["data"]["n_test"] == 36
    assert "no training split" in lines[0] and "D groups are not known" in lines[1]
    assert "so there are no D groups" in (tmp_path / "out" / "report.html").read_text()


def test_a_test_split_alone_is_cut(settings, pictures, tmp_path):
    parts = load_parts(with_data(settings, table_of(tmp_path, pictures, {"test": 20})))
    assert parts.class_counts is None
    assert (
        len(parts.splits.test) == 32 and len(parts.splits.validation) == 16 and len(parts.splits.train) == 32
    )


def test_no_long_tail_is_drawn_from_data_without_training_images(settings, pictures, tmp_path):
    data = table_of(tmp_path, pictures, {"test": 20})
    with pytest.raises(CausalFTError, match="no training split .* leave imbalance_factor out"):
        load_parts(with_data(settings, data, imbalance_factor=5.0))


def test_two_classes_are_too_few(settings, pictures, tmp_path):
    pictures(tmp_path / "two", {"ant": 20, "bee": 20})
    with pytest.raises(CausalFTError, match="2 classes, too few .* 3 or more"):
        diagnose_data(with_data(settings, tmp_path / "two"), progress=False)


def test_classes_without_a_labelled_image_are_refused(settings, monkeypatch):
    whole = module.load_parts

    def poor(asked):
        parts = whole(asked)
        train, validation = (
            part.subset(part.labels == 0) for part in (parts.splits.train, parts.splits.validation)
        )
        return replace(parts, splits=replace(parts.splits, train=train, validation=validation))

    monkeypatch.setattr(module, "load_parts", poor)
    with pytest.raises(CausalFTError, match="3 of 4 classes .*'bee' first.* have no labelled image"):
        diagnose_data(settings, progress=False)
