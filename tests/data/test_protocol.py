"""Draws of labelled and unlabelled images by the protocol of long-tailed semi-supervised learning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalft.data.hidden import Unlabelled
from causalft.data.image_set import ImageSet
from causalft.data.protocol import draw_protocol, labelled_counts, unlabelled_counts
from causalft.data.settings import UnlabelledOptions
from causalft.data.tails import UNLABELLED_ORDERS
from causalft.data.unlabelled import leave_out, open_unlabelled
from causalft.errors import CausalFTError


def numbered(counts) -> ImageSet:
    """Images whose pixels are their number."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.zeros((len(labels), 1, 2, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.divmod(np.arange(len(labels)), 256)
    return ImageSet.from_arrays(pixels, labels, [f"c{k:02d}" for k in range(len(counts))])


def ids(images: ImageSet) -> set[int]:
    return {int(256 * int(p[0, 0, 0]) + int(p[0, 0, 1])) for p in images.pixels}


def test_class_counts_are_those_of_the_field():
    """CIFAR-10-LT: 500/4000 and 1500/3000 at 100 and 150; CIFAR-100-LT: 50/400 at 10 and 20; STL-10: 450 at 10, 20."""
    assert labelled_counts(10, 500, 100).tolist() == [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]
    assert labelled_counts(10, 1500, 100).tolist() == [1500, 899, 539, 323, 193, 116, 69, 41, 25, 15]
    assert labelled_counts(10, 500, 150)[[0, 1, -1]].tolist() == [500, 286, 3]
    falling = [4000, 2397, 1437, 861, 516, 309, 185, 111, 66, 40]
    assert unlabelled_counts(10, 4000, 100, "consistent").tolist() == falling
    assert unlabelled_counts(10, 4000, 100, "reversed").tolist() == falling[::-1]
    assert unlabelled_counts(10, 4000, 100, "uniform").tolist() == [4000] * 10
    assert unlabelled_counts(10, 4000, 1, "reversed").tolist() == [4000] * 10
    # the published code: places 8 6 4 2 0 1 3 5 7 9, and 1 3 5 7 9 8 6 4 2 0
    assert unlabelled_counts(10, 4000, 100, "middle").tolist() == [
        66,
        185,
        516,
        1437,
        4000,
        2397,
        861,
        309,
        111,
        40,
    ]
    assert unlabelled_counts(10, 4000, 100, "head-tail").tolist() == [
        2397,
        861,
        309,
        111,
        40,
        66,
        185,
        516,
        1437,
        4000,
    ]
    assert labelled_counts(100, 50, 10)[[0, 99]].tolist() == [50, 5] and labelled_counts(100, 50, 20)[99] == 2
    assert (
        labelled_counts(10, 450, 10)[[0, 9]].tolist() == [450, 45] and labelled_counts(10, 450, 20)[9] == 22
    )


@given(
    k=st.integers(2, 40),
    n_max=st.integers(1, 500),
    gamma=st.floats(1, 200),
    order=st.sampled_from(sorted(UNLABELLED_ORDERS)),
)
def test_every_order_permutes_the_same_counts(k, n_max, gamma, order):
    counts = unlabelled_counts(k, n_max, gamma, order)
    flat = UNLABELLED_ORDERS[order].flat
    assert sorted(counts) == sorted(labelled_counts(k, n_max, 1 if flat else gamma))
    assert sorted(UNLABELLED_ORDERS[order].places(k)) == list(range(k))


@given(
    k=st.integers(2, 6),
    n_1=st.integers(4, 12),
    m_1=st.integers(4, 15),
    gamma=st.sampled_from([1.0, 2.0, 4.0]),
    order=st.sampled_from(sorted(UNLABELLED_ORDERS)),
    seed=st.integers(0, 5),
)
def test_labelled_and_unlabelled_images_are_disjoint_and_counted(k, n_1, m_1, gamma, order, seed):
    images = numbered([27] * k)
    options = UnlabelledOptions(n_1, m_1, gamma, None if order == "uniform" else gamma, order)
    labelled, unlabelled = draw_protocol(images, options, seed=seed)
    assert labelled.class_counts.tolist() == labelled_counts(k, n_1, gamma).tolist()
    assert unlabelled.hidden_counts(k).tolist() == unlabelled_counts(k, m_1, gamma, order).tolist()
    assert not ids(labelled) & ids(unlabelled.images)
    assert len(ids(labelled)) == len(labelled) and len(ids(unlabelled.images)) == len(unlabelled)
    truth = images.labels[sorted(ids(unlabelled.images))]
    assert unlabelled.hidden.tolist() == truth.tolist() and set(unlabelled.images.labels.tolist()) == {0}


def test_the_labelled_images_are_the_same_beside_every_unlabelled_law():
    images, options = numbered([60] * 4), UnlabelledOptions(10, 40, 5)
    drawn = [
        draw_protocol(images, replace(options, unlabeled_order=order), seed=3)
        for order in ("consistent", "reversed")
    ]
    assert ids(drawn[0][0]) == ids(drawn[1][0]) and ids(drawn[0][1].images) != ids(drawn[1][1].images)
    other = draw_protocol(images, options, seed=4)[0]
    assert ids(other) != ids(drawn[0][0]) and other.class_counts.tolist() == drawn[0][0].class_counts.tolist()
    alone = draw_protocol(images, UnlabelledOptions(10, gamma_l=5), seed=3)
    assert ids(alone[0]) == ids(drawn[0][0]) and alone[1] is None


def test_the_order_of_the_classes_can_be_named():
    labelled, unlabelled = draw_protocol(
        numbered([60] * 3), UnlabelledOptions(9, 8, 9, 4), seed=0, order=[2, 0, 1]
    )
    assert labelled.class_counts.tolist() == [3, 1, 9] and unlabelled.hidden_counts(3).tolist() == [4, 2, 8]


def test_too_few_images_and_empty_classes_are_refused_with_the_class_named():
    images = numbered([60, 30, 60])
    with pytest.raises(
        CausalFTError, match=r"class 'c01' has 30 images .* 20 labelled and 28 unlabelled \(1 of 3"
    ):
        draw_protocol(images, UnlabelledOptions(20, 28, 1), seed=0)
    with pytest.raises(
        CausalFTError,
        match="class 'c02' would have no labelled image: labeled_per_class=5 is smaller than gamma_l=10",
    ):
        draw_protocol(images, UnlabelledOptions(5, gamma_l=10), seed=0)
    with pytest.raises(
        CausalFTError, match="class 'c00' would have no unlabelled image: unlabeled_per_class"
    ):
        draw_protocol(images, UnlabelledOptions(5, 5, 2, 10, "reversed"), seed=0)
    with pytest.raises(
        CausalFTError, match="no order of unlabelled images named 'reverse': did you mean 'reversed'"
    ):
        unlabelled_counts(3, 10, 2, "reverse")


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ({"gamma_l": 5}, {}, "gamma_l goes with labeled_per_class"),
        ({"unlabeled_per_class": 5}, {}, "unlabeled_per_class goes with labeled_per_class"),
        ({"labeled_per_class": 5, "gamma_u": 5}, {}, "gamma_u goes with unlabeled_per_class"),
        ({"labeled_per_class": 5, "unlabeled_order": "middle"}, {}, "unlabeled_order goes with"),
        ({"labeled_per_class": 5, "unlabeled_per_class": 5}, {"unlabeled": "more"}, "give one of the two"),
        ({"labeled_per_class": 5}, {"imbalance_factor": 10.0}, "give one of the two draws"),
        ({"labeled_per_class": 5}, {"data": "creatures-lt"}, "goes with creatures-ltssl"),
        ({}, {"data": "creatures-ltssl", "unlabeled": "more"}, "brings its own unlabelled images"),
        ({"labeled_per_class": 0}, {}, "the number of labelled images 0 is out of range"),
        (
            {"unlabeled_order": "backwards"},
            {"data": "creatures-ltssl"},
            "unknown order of unlabelled images 'backwards'",
        ),
        ({"unlabeled_order": "uniform", "gamma_u": 5.0}, {"data": "creatures-ltssl"}, "gamma_u=5 does not"),
    ],
)
def test_options_that_exclude_or_need_others_are_refused(options, given, said):
    with pytest.raises(CausalFTError) as error:
        UnlabelledOptions(**options).check(**{"data": "photos", **given})
    assert said in str(error.value)


def test_uniform_and_gamma_1_are_one_law():
    named, alike = (
        UnlabelledOptions(5, 9, 3, unlabeled_order="uniform"),
        UnlabelledOptions(5, 9, 3, 1.0, "reversed"),
    )
    assert named.of("") == alike.of("") == UnlabelledOptions(5, 9, 3, 1.0, "uniform")


def test_images_of_other_parts_are_left_out_or_refused():
    images = numbered([4, 4])
    unlabelled = Unlabelled.of(images, ["c01"], where="photos")
    assert unlabelled.hidden.tolist() == [-1] * 4 + [0] * 4
    parts = {"test": images.subset([0, 5]), "validation": images.subset([5, 6])}
    left = leave_out(unlabelled, parts)
    assert left.left_out == {"test": 2, "validation": 1} and left.hidden.tolist() == [-1] * 3 + [0] * 2
    assert ids(left.images) == {1, 2, 3, 4, 7}
    with pytest.raises(
        CausalFTError, match="2 of 8 unlabelled images of photos are test images too .*strict"
    ):
        leave_out(unlabelled, parts, strict=True)
    with pytest.raises(
        CausalFTError, match="all 8 unlabelled images of photos are images of the run already"
    ):
        leave_out(unlabelled, {"training": images})
    assert len(leave_out(left, parts, strict=True)) == 5


def test_hidden_labels_follow_their_images():
    unlabelled = Unlabelled.of(numbered([3, 2]))
    assert unlabelled.subset([4, 0]).hidden.tolist() == [1, 0]
    few = unlabelled.at_most(2, seed=1)
    assert (
        few.hidden.tolist() == [int(i >= 3) for i in sorted(ids(few.images))]
        and unlabelled.at_most(9) is unlabelled
    )
    assert Unlabelled.of(numbered([3, 2]), known=False).hidden_counts(2) is None
    assert Unlabelled.of(numbered([3, 2]), known=False).fingerprint == unlabelled.fingerprint


@pytest.mark.parametrize("order", ["consistent", "reversed"])
def test_built_in_set_has_few_labels_and_its_own_unlabelled_images(order):
    from causalft.data.creatures import creatures_longtail, creatures_ltssl

    options = UnlabelledOptions(6, 9, 3, unlabeled_order=order)
    splits = creatures_ltssl(options, n_validation=1, n_test=1, size=16)
    rank = [splits.class_names.index(name) for name in splits.order]
    assert splits.train.class_counts[rank].tolist() == labelled_counts(60, 6, 3).tolist()
    assert splits.unlabelled.hidden_counts(60)[rank].tolist() == unlabelled_counts(60, 9, 3, order).tolist()
    usual = creatures_longtail(n_max=6, imbalance_factor=3, n_validation=1, n_test=1, size=16)
    assert splits.validation.pixels.tobytes() == usual.validation.pixels.tobytes()
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    assert sum(leave_out(splits.unlabelled, parts).left_out.values()) == 0
    with pytest.raises(
        CausalFTError, match="would have no image: labeled_per_class=2 is smaller than gamma_l=3"
    ):
        creatures_ltssl(replace(options, labeled_per_class=2))
    with pytest.raises(
        CausalFTError, match="draws 1,000,000 images at most, and .* lower labeled_per_class or"
    ):
        creatures_ltssl(replace(options, unlabeled_per_class=1_000_000))


def test_unlabelled_images_have_hidden_labels_only_where_the_set_is_built_in(tmp_path):
    from PIL import Image

    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name / "1.png")
    (tmp_path / "table.csv").write_text("path,label\nphotos/ant/1.png,ant\nphotos/bee/1.png,bee\n")
    for path in ("photos", "table.csv"):
        found = open_unlabelled(str(tmp_path / path))
        assert len(found) == 2 and found.hidden is None and found.images.class_names == ("unlabelled",)
    assert open_unlabelled("creatures-lt", 60).hidden_counts(60).tolist() == [1] * 60
