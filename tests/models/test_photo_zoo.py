"""The plan of a zoo of the user's images: disjoint parts, unrelated priors, control seeds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from causalft.methods.adaptation.cost import count_flops
from causalft.models.pretraining.leakage import downstream_splits, write_manifest
from causalft.models.pretraining.photo_zoo import (
    estimate_seconds,
    member_config,
    member_pixels,
    plan_photo_zoo,
)
from causalft.models.pretraining.settings import PhotoZooSettings
from causalft.models.strata.mini import build_mini
from causalft.runs.folder import Run, read_json

VIEWS = {"clip": "upper", "openclip": "lower", "metaclip": "grey"}
SMALL = {"n_validation": 3, "n_test": 5, "epochs": 1, "imbalance_factor": 8.0}


def make_images(n_classes=10, n=30, size=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), n)
    pixels = rng.integers(0, 256, (len(labels), size, size, 3)).astype(np.uint8)
    return ImageSet.from_arrays(pixels, labels, [f"kind{k}" for k in range(n_classes)], name="made")


@pytest.fixture(scope="module")
def images():
    return make_images()


@pytest.fixture(scope="module")
def zoo(images):
    return plan_photo_zoo(images, VIEWS, PhotoZooSettings(n_control_seeds=2, **SMALL))


def test_the_parts_are_disjoint_and_every_class_is_in_each(images, zoo):
    assert set(zoo.parts) == {"pool", "downstream", "validation", "test"}
    for a, b in itertools.combinations(zoo.parts.values(), 2):
        assert not set(a.tolist()) & set(b.tolist())
    counts = {
        name: np.bincount(images.labels[rows], minlength=10).tolist() for name, rows in zoo.parts.items()
    }
    assert counts == {"pool": [15] * 10, "downstream": [7] * 10, "validation": [3] * 10, "test": [5] * 10}


def test_the_priors_are_unrelated_to_each_other_and_to_the_downstream_order(zoo):
    orders = [m.order for m in zoo.members[:3]] + [zoo.downstream_order]
    ranks = [np.argsort(order) for order in orders]
    measured = np.array([[spearmanr(a, b).statistic for b in ranks] for a in ranks])
    assert np.allclose(zoo.correlation, measured, atol=1e-9)
    assert np.abs(measured - np.eye(4)).max() < 0.1


def test_control_seeds_share_the_first_members_prior_and_view_and_nothing_else(zoo):
    assert [m.name for m in zoo.members] == ["clip", "openclip", "metaclip", "clip@1", "clip@2"]
    first, *_, one, two = zoo.members
    for control in (one, two):
        assert (control.order, control.view, control.loss) == (first.order, first.view, first.loss)
    assert len({m.seed for m in zoo.members}) == 5


def test_the_wide_member_sees_the_images_of_the_first_at_the_cost_of_three(images, zoo):
    wide = plan_photo_zoo(images, VIEWS, PhotoZooSettings(n_control_seeds=1, wide=True, **SMALL))
    assert [m.name for m in wide.members] == ["clip", "openclip", "metaclip", "clip@1", "clip-wide"]
    first, *_, last = wide.members
    assert replace(last, name=first.name, wide=False) == first == zoo.members[0]
    for one, other in zip(*(member_pixels(images, m, wide, progress=False) for m in (first, last))):
        assert np.array_equal(one, other)
    assert 2.8 < encoding_flops(member_config(last, wide)) / encoding_flops(member_config(first, wide)) < 3.2


def encoding_flops(config):
    tower = build_mini(config).eval().visual
    with torch.no_grad():
        return count_flops(lambda: tower(torch.zeros(1, 3, config.image_size, config.image_size)))


def test_a_plan_repeats_its_seed(images, zoo):
    again = plan_photo_zoo(images, VIEWS, PhotoZooSettings(n_control_seeds=2, **SMALL))
    assert again.members == zoo.members and again.downstream_order == zoo.downstream_order
    assert all(np.array_equal(again.parts[name], rows) for name, rows in zoo.parts.items())
    other = plan_photo_zoo(images, VIEWS, PhotoZooSettings(seed=1, order_seed=1, **SMALL))
    assert other.members[0].order != zoo.members[0].order
    assert not np.array_equal(other.parts["test"], zoo.parts["test"])


def test_order_seeds_choose_the_permutations_and_only_the_downstream_order_is_searched(images):
    zoo = plan_photo_zoo(images, VIEWS, PhotoZooSettings(order_seeds=(3, 5, 8), **SMALL))
    for member, seed in zip(zoo.members, (3, 5, 8)):
        assert member.order == tuple(np.random.default_rng(seed).permutation(10))
    ranks = [np.argsort(o) for o in (*(m.order for m in zoo.members), zoo.downstream_order)]
    assert np.allclose(
        zoo.correlation, [[spearmanr(a, b).statistic for b in ranks] for a in ranks], atol=1e-9
    )


def test_a_member_sees_its_own_long_tail_of_the_pool_through_its_view(images, zoo):
    member = zoo.members[0]
    pixels, labels, prior = member_pixels(images, member, zoo, progress=False)
    counts = np.bincount(labels, minlength=10)
    assert counts[list(member.order)].tolist() == sorted(counts.tolist(), reverse=True)
    assert counts.max() == 15 and counts.min() == 2
    assert prior.sum() == pytest.approx(1)
    assert np.allclose(prior, counts / counts.sum(), atol=0.01)
    hidden = (pixels[:, 17:] == 128).all((1, 2, 3))
    assert hidden.mean() == pytest.approx(0.8, abs=0.12)
    control = zoo.members[3]
    assert np.array_equal(member_pixels(images, control, zoo, progress=False)[2], prior)


def test_duplicates_are_in_one_part_only(tmp_path, pictures):
    folder = pictures(tmp_path / "photos", dict.fromkeys(("ant", "bee"), 24))
    for kind in ("ant", "bee"):
        for number in range(4):
            copy = folder / kind / f"copy{number}.png"
            copy.write_bytes((folder / kind / f"{number:03d}.png").read_bytes())
    images = open_images(folder)
    zoo = plan_photo_zoo(images, {"clip": "upper"}, PhotoZooSettings(**SMALL))
    part_of = {row: name for name, rows in zoo.parts.items() for row in rows}
    by_hash: dict[str, set[str]] = {}
    for row, part in part_of.items():
        by_hash.setdefault(images.bytes_hash(row), set()).add(part)
    assert len(by_hash) == 48 and all(len(parts) == 1 for parts in by_hash.values())
    assert zoo.duplicates.startswith("8 groups of near-identical images among 56 images, 8 surplus copies")


@pytest.mark.parametrize(
    ("views", "options", "message"),
    [
        ({}, {}, "no member given"),
        ({"clip": "uper"}, {}, "no view 'uper'"),
        ({"clip": "upper"}, {"view_share": 1.5}, "view share 1.5"),
        ({"clip": "upper"}, {"order_seeds": (1, 2)}, "2 order seeds for 1 stratum"),
        ({"clip": "upper"}, {"n_test": 29}, "class 'kind0' has 30 images"),
        ({"clip": "upper"}, {"image_size": 30}, "image size 30 is not a multiple of the patch size 8"),
        ({"clip": "upper"}, {"epochs": 0}, "epochs 0 is out of range"),
        (
            {"clip": "upper"},
            {"n_control_seeds": -1},
            "control seeds -1 is out of range; give",
        ),
        ({"clip": "upper"}, {"seed": -1}, "seed -1 is out of range"),
        ({"clip": "upper"}, {"imbalance_factor": 0.5}, "imbalance factor 0.5 is out of range"),
        ({"clip": "upper"}, {"profile": "flat"}, "flat"),
        ({"config": "upper"}, {}, "'config' cannot name a member"),
        ({"../clip": "upper"}, {}, "'../clip' cannot name a member"),
        ({"clip@1": "upper"}, {}, "'clip@1' cannot name a member"),
        ({"clip-wide": "upper"}, {}, "'clip-wide' cannot name a member"),
    ],
)
def test_invalid_plans_are_refused(images, views, options, message):
    with pytest.raises(CausalFTError, match=message):
        plan_photo_zoo(images, views, PhotoZooSettings(**{**SMALL, **options}))


def test_the_time_estimate_grows_with_members_over_jobs(images, zoo, monkeypatch):
    class Eight:
        seconds = 2.0

    monkeypatch.setattr("causalft.models.pretraining.photo_zoo.pretrain_mini", lambda *_, **__: Eight)
    one, all_at_once = estimate_seconds(images, zoo, 1), estimate_seconds(images, zoo, 5)
    assert one == pytest.approx(5 * all_at_once) and all_at_once > 0


# --- what fit gets of it -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory, photos):
    images = open_images(photos)
    zoo = plan_photo_zoo(images, {"clip": "upper", "openclip": "lower"}, PhotoZooSettings(**SMALL))
    run = Run.create(tmp_path_factory.mktemp("zoo") / "zoo", kind="zoo", config={})
    write_manifest(run, images, zoo)
    return run.path, images, zoo


def test_the_manifest_names_every_image_with_its_part_and_hash(written):
    folder, images, zoo = written
    table = pd.read_parquet(folder / "manifest.parquet")
    assert table["file"].tolist() == images.files
    assert [images.bytes_hash(i) for i in (0, 77)] == table["sha256"].iloc[[0, 77]].tolist()
    for name, rows in zoo.parts.items():
        assert np.array_equal(np.flatnonzero(table["split"] == name), rows)
    described = read_json(folder / "zoo.json")
    assert described["class_names"] == list(images.class_names)
    assert set(described["orders"]) == {"clip", "openclip"}


def test_downstream_gets_what_no_member_saw(written):
    folder, images, zoo = written
    splits = downstream_splits(folder, images, imbalance_factor=None, seed=0)
    pool = {images.files[row] for row in zoo.parts["pool"]}
    for part, name in (
        (splits.train, "downstream"),
        (splits.validation, "validation"),
        (splits.test, "test"),
    ):
        assert part.files == [images.files[row] for row in zoo.parts[name]]
        assert not pool & set(part.files)
    assert f"{len(pool)} images of the zoo's pre-training pool left out" in splits.notes


@pytest.mark.parametrize("profile", ["exponential", "zipf"])
def test_the_downstream_tail_follows_the_zoos_order(written, profile):
    folder, images, zoo = written
    splits = downstream_splits(folder, images, imbalance_factor=7, profile=profile, seed=0)
    counts = splits.train.class_counts[list(zoo.downstream_order)]
    assert counts.tolist() == sorted(counts.tolist(), reverse=True) and counts[0] >= 5 * counts[-1]
    other = downstream_splits(folder, images, imbalance_factor=7, profile=profile, seed=1)
    assert other.train.class_counts.tolist() == splits.train.class_counts.tolist()
    assert other.test.files == splits.test.files


def test_other_images_are_refused(written, tmp_path, pictures):
    folder, _, _ = written
    changed = pictures(tmp_path / "changed", dict.fromkeys(("ant", "bee", "cow", "doe"), 30), seed=5)
    with pytest.raises(CausalFTError, match="has changed since"):
        downstream_splits(folder, open_images(changed), imbalance_factor=None, seed=0)
    one = pictures(tmp_path / "one", dict.fromkeys(("ant", "bee", "cow", "doe"), 30))
    (one / "doe" / "017.png").write_bytes((one / "doe" / "018.png").read_bytes())
    with pytest.raises(
        CausalFTError, match=r"doe/017\.png has changed since .* was made \(1 of 120 images have\)"
    ):
        downstream_splits(folder, open_images(one), imbalance_factor=None, seed=0)
    for number in (3, 4):
        (one / "cow" / f"{number:03d}.png").unlink()
    with pytest.raises(CausalFTError, match=r"cow/003\.png is missing from the data \(2 of 120 images"):
        downstream_splits(folder, open_images(one), imbalance_factor=None, seed=0)
    more = pictures(tmp_path / "more", {"ant": 31, "bee": 30})
    with pytest.raises(CausalFTError, match=r"ant/030\.png is not in the manifest"):
        downstream_splits(folder, open_images(more), imbalance_factor=None, seed=0)
