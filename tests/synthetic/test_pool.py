"""A pool of images: what it holds, that its halves are apart, that a request is answered alike, and resuming."""

from __future__ import annotations

import numpy as np
import pytest

from synthetic.designs import make_design
from synthetic.gallery import PictureSource, Request
from synthetic.generate import Renderer, make_set
from synthetic.pool import draw_pool

DESIGN = make_design("confounded", ["cat", "dog"])


@pytest.fixture(scope="module")
def pool():
    return draw_pool(Renderer(16), DESIGN, 4, seed=0)


def test_halves_of_a_pool_share_no_image(pool):
    def hashes(half):
        return {image.tobytes() for images in half.images.values() for image in images}

    assert len(hashes(pool.train)) == len(hashes(pool.test)) == 4 * 4
    assert not hashes(pool.train) & hashes(pool.test)
    assert pool.source("B_train") is pool.train and pool.source("A_test") is pool.test


def test_request_is_answered_alike_alone_and_among_others(pool):
    requests = [Request("cat", 0, 5), Request("dog", 1, 6), Request("cat", 0, 9)]
    together = pool.train.draw(requests)
    assert (together[1] == pool.train.draw(requests[1:2])[0]).all()
    assert (together[0] == together[2]).all(), "5 and 9 leave the same rest of 4"
    assert isinstance(pool.train, PictureSource) and pool.train.prompt(requests[0]) is None


def test_images_of_a_set_show_what_its_rows_say(pool):
    pictures = make_set(DESIGN, "B_train", 20, seed=1, generator=pool.source("B_train"), size=16)
    for look, part, image in zip(pictures.looks, pictures.parts, pictures.pixels, strict=True):
        assert any((image == each).all() for each in pool.train.images[DESIGN.classes[look], part])


def test_pool_resumes_from_its_folder_with_the_same_images(pool, tmp_path):
    first = draw_pool(Renderer(16), DESIGN, 4, seed=0, folder=tmp_path, progress=False)
    lost = sorted(tmp_path.rglob("*.png"))[3]
    lost.unlink()
    drawn = []

    class Counting(Renderer):
        def draw(self, requests):
            drawn.extend(requests)
            return super().draw(requests)

    again = draw_pool(Counting(16), DESIGN, 4, seed=0, folder=tmp_path, progress=False)
    assert 0 < len(drawn) <= Renderer.batch_size and lost.exists()
    for kind, images in pool.test.images.items():
        assert np.array_equal(images, first.test.images[kind]) and np.array_equal(
            images, again.test.images[kind]
        )
    assert again.provenance()["pool"].startswith("4 for training and 4 for testing")
