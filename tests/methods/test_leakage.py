"""What a model has seen before is left out of training, refused for testing, and named where it is scored."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from causalft import downstream_splits
from causalft.data.duplicates import pixels_hash, shared_images
from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from causalft.data.splits import cut_splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.strata import StrataClassifier
from causalft.models.pretraining.leakage import pretraining_pool, write_manifest
from causalft.models.pretraining.photo_zoo import plan_photo_zoo
from causalft.models.pretraining.settings import PhotoZooSettings
from causalft.models.strata.zoo import MANIFEST, open_zoo
from causalft.runs.folder import Run

FAST = Tuning(epochs=1, lr=0.01, batch_size=16)


@pytest.fixture(scope="module")
def own_zoo(photos, tiny_zoo, tmp_path_factory):
    """The tiny zoo, with the manifest of a pre-training on half of the photographs."""
    folder = tmp_path_factory.mktemp("own") / "zoo"
    folder.mkdir()
    for file in tiny_zoo.glob("*"):
        (folder / file.name).write_bytes(file.read_bytes())
    images = open_images(photos)
    zoo = plan_photo_zoo(
        images, {"clip": "upper", "openclip": "lower"}, PhotoZooSettings(n_validation=3, n_test=3)
    )
    write_manifest(Run(folder, "zoo", {}), images, zoo)
    return folder


def classifier(zoo) -> StrataClassifier:
    return StrataClassifier(("clip",), zoo=str(zoo), tuning=FAST, progress=False)


def test_splits_of_the_zoo_hold_no_image_of_its_pool(own_zoo, photos):
    splits = downstream_splits(own_zoo, open_images(photos))
    pool = pretraining_pool(open_zoo(own_zoo))
    assert len(pool) == (pd.read_parquet(own_zoo / "manifest.parquet")["split"] == "pool").sum() > 0
    for part in (splits.train, splits.validation, splits.test):
        assert not pool.holds(part).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = classifier(own_zoo).fit(splits.train, validation=splits.validation, test=splits.test)
        model.score(splits.test)
    assert len(pretraining_pool(open_zoo("mini"))) == 0


def test_training_images_of_the_pool_are_left_out_and_counted(own_zoo, photos):
    images = open_images(photos)
    splits = downstream_splits(own_zoo, images)
    rest = np.setdiff1d(
        np.arange(len(images)),
        [images.files.index(f) for f in (*splits.validation.files, *splits.test.files)],
    )
    everything = images.subset(rest)
    n_pool = len(pretraining_pool(open_zoo(own_zoo)))
    with pytest.warns(
        UserWarning, match=f"^{n_pool} of {len(rest)} training images left out: .*zoo was pre-trained on"
    ):
        leaky = classifier(own_zoo).fit(everything, validation=splits.validation)
    clean = classifier(own_zoo).fit(splits.train, validation=splits.validation)
    assert np.array_equal(leaky.predict_proba(splits.test), clean.predict_proba(splits.test))


@pytest.mark.parametrize("name", ["validation", "test"])
def test_validation_and_test_images_of_the_pool_are_refused_by_name(own_zoo, photos, name):
    images = open_images(photos)
    clean, cut = downstream_splits(own_zoo, images), cut_splits(images, n_validation=5, n_test=5, seed=0)
    parts = {"validation": clean.validation, "test": clean.test, name: getattr(cut, name)}
    n = int(pretraining_pool(open_zoo(own_zoo)).holds(parts[name]).sum())
    with pytest.raises(
        CausalFTError, match=rf"^{name}: {n} of 20 images are among .*downstream_splits\(zoo, images\)"
    ):
        classifier(own_zoo).fit(clean.train, **parts)


def test_the_pool_is_found_in_a_copy_of_the_files_and_in_their_pixels(own_zoo, photos, tmp_path):
    images = open_images(photos)
    pool = pretraining_pool(open_zoo(own_zoo))
    expected = pool.holds(images)
    assert 0 < expected.sum() < len(images)
    for i in range(len(images)):
        folder = tmp_path / images.class_names[images.labels[i]]
        folder.mkdir(exist_ok=True)
        (folder / f"copy-{i:04d}{images.files[i][-4:]}").write_bytes(images.read_bytes(i))
    copied = open_images(tmp_path)
    order = [int(file.rpartition("copy-")[2][:4]) for file in copied.files]
    assert pool.holds(copied).tolist() == expected[order].tolist()
    sizes = {images.image(i).size for i in range(len(images))}
    if len(sizes) == 1:
        pixels = np.stack([np.asarray(images.image(i)) for i in range(len(images))])
        decoded = ImageSet.from_arrays(pixels, images.labels, images.class_names)
        assert pool.holds(decoded).tolist() == expected.tolist()


def test_an_image_in_two_sets_is_reported(tiny_zoo, photos):
    splits = cut_splits(open_images(photos), n_validation=3, n_test=3, seed=0)
    model = classifier(tiny_zoo)
    with pytest.warns(UserWarning, match=r"^validation: 4 of 12 images are training images too"):
        mixed = splits.validation.subset(range(8)), splits.train.subset([0, 1, 2, 3])
        names = [*mixed[0].files, *mixed[1].files]
        images = open_images(photos)
        model.fit(splits.train, validation=images.subset([images.files.index(name) for name in names]))
    with pytest.warns(UserWarning, match=r"^test: 12 of 12 images are validation images too"):
        model.fit(splits.train, validation=splits.validation, test=splits.validation)
    with pytest.warns(UserWarning, match=r"^images: 2 of 14 images are training images too"):
        images = open_images(photos)
        names = [*splits.test.files, *splits.train.files[:2]]
        model.score(images.subset([images.files.index(name) for name in names]))


def test_shared_images_of_a_folder_and_of_its_pixels(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)
    for i, picture in enumerate(pixels):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    folder = open_images(tmp_path)
    arrays = ImageSet.from_arrays(pixels[1:3], [1, 0], ["a", "b"])
    found = shared_images(folder, arrays)
    assert [file[-5] for file in np.array(folder.files)[found]] == ["2", "1"]
    assert shared_images(arrays, folder).tolist() == [True, True]
    assert pixels_hash(arrays, 0) == pixels_hash(folder, [f[-5] for f in folder.files].index("1"))


def test_without_a_test_set_no_note_mentions_one(tiny_zoo, photos):
    splits = cut_splits(open_images(photos), n_validation=3, n_test=3, seed=0)
    model = classifier(tiny_zoo).fit(splits.train, validation=splits.validation)
    found = model.predictions_["clip"]
    assert found.test_logits.shape == found.zero_shot_test.shape == (0, 4)
    empty = classifier(tiny_zoo).fit(splits.train, validation=splits.validation, test=splits.test.subset([]))
    assert empty.predictions_["clip"].test_logits.shape == (0, 4)
    with pytest.raises(CausalFTError, match="^validation holds no image"):
        classifier(tiny_zoo).fit(splits.train, validation=splits.validation.subset([]))


def test_a_damaged_manifest_is_named(own_zoo, photos, tmp_path):
    folder = tmp_path / "zoo"
    shutil.copytree(own_zoo, folder)
    manifest = folder / MANIFEST
    whole = manifest.read_bytes()
    for data, words in ((whole[:99], "not a whole Parquet file"), (b"", "not a whole Parquet file")):
        manifest.write_bytes(data)
        for read in (
            lambda: pretraining_pool(open_zoo(str(folder))),
            lambda: downstream_splits(folder, open_images(photos)),
        ):
            with pytest.raises(CausalFTError, match=words):
                read()
    pd.DataFrame({"file": ["a.png"]}).to_parquet(manifest)
    with pytest.raises(CausalFTError, match="lacks the column split"):
        pretraining_pool(open_zoo(str(folder)))
