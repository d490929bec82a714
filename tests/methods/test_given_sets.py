"""The image classifier takes what a person has: paths, PIL images, arrays and labels give the fit of the folder."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from causalft.data.opening import open_images
from causalft.data.splits import cut_splits
from causalft.errors import CausalFTError, CausalFTWarning
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.strata import StrataClassifier

FAST = Tuning(epochs=1, lr=0.01, batch_size=16)


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return StrataClassifier(("clip", "openclip"), zoo=str(tiny_zoo), tuning=FAST, progress=False)


@pytest.fixture(scope="module")
def splits(photos):
    return cut_splits(open_images(photos), n_validation=4, n_test=4, seed=0)


@pytest.fixture(scope="module")
def fitted(model, splits):
    return clone(model).fit(splits.train, validation=splits.validation)


def paths_and_labels(images, photos):
    return [photos / file for file in images.files], [images.class_names[k] for k in images.labels]


def test_paths_and_labels_fit_as_the_set_does(model, splits, fitted, photos):
    X, y = paths_and_labels(splits.train, photos)
    again = clone(model).fit(X, y, validation=paths_and_labels(splits.validation, photos))
    assert again.classes_.tolist() == ["ant", "bee", "cow", "doe"]
    np.testing.assert_array_equal(again.predict_proba(splits.test), fitted.predict_proba(splits.test))


def test_pixels_and_numbers_fit_as_the_set_does(model, splits, fitted):
    def pixels(images):
        return np.stack([np.asarray(images.image(k)) for k in range(len(images))])

    again = clone(model).fit(
        pixels(splits.train),
        splits.train.labels,
        validation=(list(map(Image.fromarray, pixels(splits.validation))), splits.validation.labels),
        class_names=splits.train.class_names,
    )
    np.testing.assert_array_equal(again.predict_proba(splits.test), fitted.predict_proba(splits.test))
    assert again.predict(pixels(splits.test)[0])[0] in again.classes_


def test_every_form_of_an_image_gives_the_same_prediction(fitted, splits, photos):
    expected = fitted.predict_proba(splits.test)
    paths, labels = paths_and_labels(splits.test, photos)
    opened = [Image.open(path) for path in paths]
    for images in (paths, list(map(str, paths)), opened, [np.asarray(image) for image in opened]):
        np.testing.assert_allclose(fitted.predict_proba(images), expected, atol=1e-6)
    np.testing.assert_allclose(fitted.predict_proba(opened[3]), expected[3:4], atol=1e-5)
    np.testing.assert_allclose(fitted.predict_proba(paths[3]), expected[3:4], atol=1e-5)
    assert fitted.predict_proba(photos / "ant").shape == (30, 4)
    right = (fitted.predict(paths) == np.array(labels)).mean()
    for scored in (
        (splits.test,),
        (paths, labels),
        (opened, splits.test.labels),
        (splits.test, splits.test.labels),
    ):
        assert fitted.score(*scored) == pytest.approx(right)
    with pytest.warns(CausalFTWarning, match="are training images too"):
        assert fitted.score(photos) == pytest.approx(fitted.score(open_images(photos)))
    with pytest.raises(CausalFTError, match="label 'gnu' .* is no class"):
        fitted.score(paths[:1], ["gnu"])
    with pytest.raises(CausalFTError, match="these images have no labels; give y"):
        fitted.score(paths)


def test_validation_is_cut_from_the_training_images_by_default(model, splits, photos):
    images = open_images(photos)
    X, y = paths_and_labels(images, photos)
    found = clone(model).fit(X, y)
    cut = cut_splits(images, n_validation="auto", n_test=0, seed=FAST.seed)
    assert 4 <= len(cut.validation) < len(images) / 2
    expected = clone(model).fit(cut.train, validation=cut.validation)
    np.testing.assert_array_equal(found.predict_proba(splits.test), expected.predict_proba(splits.test))


def test_numeric_labels_without_names_give_a_warning(model, photos):
    images = open_images(photos)
    with (
        pytest.warns(CausalFTWarning, match="the labels are numbers .* give class_names"),
        pytest.raises(CausalFTError, match="never saw the word"),
    ):
        clone(model).fit([photos / file for file in images.files], images.labels)


def test_the_tools_of_scikit_learn_take_paths(model, photos):
    images = open_images(photos)
    X, y = paths_and_labels(images, photos)
    scores = cross_val_score(model, X, y, cv=2)
    assert scores.shape == (2,) and scores.min() > 0.2


def test_figures_are_axes(fitted, splits, photos):
    paths, labels = paths_and_labels(splits.test, photos)
    axes = fitted.plot_confusion(paths, labels)
    assert isinstance(axes, Axes) and axes.get_xlabel() == "predicted"
    assert [text.get_text() for text in axes.get_xticklabels()] == fitted.classes_.tolist()
    assert fitted.plot_confusion(splits.test, normalize=None, ax=axes) is axes
    priors = fitted.plot_priors()
    assert isinstance(priors, Axes) and len(priors.get_lines()) == 3
    with pytest.raises(NotFittedError):
        StrataClassifier().plot_confusion(paths, labels)


def test_validation_is_not_cut_from_images_that_the_zoo_has_seen(model, tiny_zoo, photos, tmp_path):
    images = open_images(photos)
    seen = np.arange(len(images)) % 3 == 0
    zoo = shutil.copytree(tiny_zoo, tmp_path / "zoo")
    pd.DataFrame(
        {
            "sha256": [images.bytes_hash(k) for k in range(len(images))],
            "split": np.where(seen, "pool", "downstream"),
        }
    ).to_parquet(zoo / "manifest.parquet")
    home_made = clone(model).set_params(zoo=str(zoo), strata=("clip",))
    with pytest.warns(CausalFTWarning, match="40 of 120 training images left out"):
        home_made.fit(images)
    expected = clone(home_made).fit(images.subset(~seen))
    np.testing.assert_array_equal(
        home_made.predict_proba(photos / "ant"), expected.predict_proba(photos / "ant")
    )
