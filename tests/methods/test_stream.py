"""Predictions that stream are those of the whole set at once."""

from __future__ import annotations

import numpy as np
import pytest

from causalft.data.given import unlabelled_images
from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from causalft.data.splits import cut_splits
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.estimators.fitted import predict_stream
from causalft.methods.estimators.strata import StrataClassifier
from causalft.models.strata.zoo import open_zoo


@pytest.fixture(scope="module")
def model(photos, tiny_zoo):
    splits = cut_splits(open_images(photos), n_validation=5, n_test=5, seed=0, imbalance_factor=2)
    tuning = Tuning(epochs=1, lr=0.05, batch_size=16)
    found = StrataClassifier(("clip", "openclip"), zoo=open_zoo(tiny_zoo), tuning=tuning, progress=False)
    return found.fit(splits.train, validation=splits.validation)


def test_the_stream_equals_predict_proba(model, photos):
    images = open_images(photos).subset(range(0, 120, 4))
    streamed = list(predict_stream(model, images, 7, progress=False))
    strata = model.stratum_proba(images)
    assert np.concatenate([rows for rows, _, _ in streamed]).tolist() == list(range(30))
    np.testing.assert_allclose(np.concatenate([p for _, p, _ in streamed], axis=1), strata, atol=1e-6)
    np.testing.assert_allclose(
        np.concatenate([p for _, _, p in streamed]), model.fuse_proba(strata), atol=1e-6
    )


def test_each_image_is_read_once_for_all_strata(model, photos, monkeypatch):
    images, read = open_images(photos).subset(range(10)), []
    image = ImageSet.image
    monkeypatch.setattr(ImageSet, "image", lambda self, row: read.append(row) or image(self, row))
    list(predict_stream(model, images, 4, progress=False))
    assert len(read) == 10 + 1  # and one look at the shape


def test_the_stream_can_start_anywhere_and_skip_broken_images(model, photos, tmp_path):
    files = [photos / name for name in open_images(photos).files[:5]]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    images = unlabelled_images([*files[:3], broken, *files[3:]])
    bad = []
    found = list(
        predict_stream(
            model,
            images,
            2,
            rows=range(2, 6),
            on_error="skip",
            bad=lambda *failure: bad.append(failure),
            progress=False,
        )
    )
    assert np.concatenate([rows for rows, _, _ in found]).tolist() == [2, 4, 5]
    assert [row for row, _ in bad] == [3]
    with pytest.raises(CausalFTError, match=r"broken\.png: it is not an image"):
        list(predict_stream(model, images, 2, progress=False))
