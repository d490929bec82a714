"""Copies are found under other names, sizes and qualities; different images are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter

from causalft.data.duplicates import DUPLICATE_KINDS, duplicate_groups
from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from causalft.errors import CausalFTError


def scene(seed: int, side: int = 64) -> Image.Image:
    """Blobs of colour, smooth like a photograph, different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


VARIANTS = {
    "smaller": lambda image: saved(image.resize((40, 40), Image.Resampling.LANCZOS)),
    "jpeg": lambda image: saved(image, "JPEG", quality=60),
    "brighter": lambda image: saved(ImageEnhance.Brightness(image).enhance(1.2)),
    "softer": lambda image: saved(image.filter(ImageFilter.GaussianBlur(1))),
    "grey": lambda image: saved(image.convert("L")),
    "cropped": lambda image: saved(image.crop((1, 1, 63, 63))),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_near_duplicates_are_found_and_nothing_else(variant: str, maker: str, request) -> None:
    files = {f"a/{seed:02d}.png": saved(scene(seed)) for seed in range(30)}
    files |= {f"b/{seed:02d}.png": VARIANTS[variant](scene(seed)) for seed in (3, 17)}
    files |= {f"b/{seed}.png": saved(scene(seed)) for seed in range(100, 130)}
    images = open_images(request.getfixturevalue(maker)(files))
    report = duplicate_groups(images, "near")
    found = {tuple(images.files[i] for i in rows) for rows in report.groups}
    assert found == {("a/03.png", "b/03.png"), ("a/17.png", "b/17.png")}
    assert len(report.conflicts) == 2 and report.n_copies == 2
    assert (~report.alone).sum() == 4
    for kind in ("bytes", "pixels"):
        assert duplicate_groups(images, kind).groups == ()


@pytest.mark.parametrize("maker", ["write_folder", "write_zip"])
def test_the_three_kinds_nest(maker: str, request) -> None:
    one = scene(1)
    files = {
        "a/1.png": saved(one),
        "a/copy.png": saved(one),
        "a/other-file.png": saved(one, compress_level=1),
        "b/worse.jpg": saved(one, "JPEG", quality=70),
        "b/2.png": saved(scene(2)),
    }
    images = open_images(request.getfixturevalue(maker)(files))
    groups = {
        kind: [images.files[i] for rows in duplicate_groups(images, kind).groups for i in rows]
        for kind in DUPLICATE_KINDS
    }
    assert groups["bytes"] == ["a/1.png", "a/copy.png"]
    assert groups["pixels"] == ["a/1.png", "a/copy.png", "a/other-file.png"]
    assert groups["near"] == ["a/1.png", "a/copy.png", "a/other-file.png", "b/worse.jpg"]


def test_bytes_reads_only_what_could_be_equal(write_folder) -> None:
    path = write_folder({"a/1.png": b"x", "a/2.png": b"xx", "b/1.png": b"xxx"})
    images = open_images(path)
    images.read_bytes = None  # type: ignore[assignment,method-assign]
    assert duplicate_groups(images, "bytes").groups == ()


def test_plain_coloured_images_are_duplicates_only_if_equal() -> None:
    pixels = np.zeros((40, 16, 16, 3), np.uint8)
    pixels += np.arange(40, dtype=np.uint8)[:, None, None, None]
    pixels[39] = pixels[5]
    images = ImageSet.from_arrays(pixels, np.arange(40) % 2, ["a", "b"])
    assert duplicate_groups(images, "near").groups == ((5, 39),)


def test_images_of_different_size_are_not_duplicates(write_folder) -> None:
    files = {f"{kind}/1.png": saved(Image.new("RGB", size)) for kind, size in (("a", (2, 8)), ("b", (8, 2)))}
    assert duplicate_groups(open_images(write_folder(files)), "pixels").groups == ()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=40))
def test_groups_are_exactly_the_equal_images(which: list[int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (13, 16, 16, 3)).astype(np.uint8)
    images = ImageSet.from_arrays(pixels[which], np.arange(len(which)) % 2, ["a", "b"])
    expected = {tuple(i for i, w in enumerate(which) if w == value) for value in set(which)}
    for kind in DUPLICATE_KINDS:
        report = duplicate_groups(images, kind)
        assert {tuple(np.flatnonzero(report.group == g)) for g in set(report.group.tolist())} == expected
        assert set(report.groups) == {rows for rows in expected if len(rows) > 1}
        assert report.n_copies == len(which) - len(expected)
        assert report.conflicts == tuple(rows for rows in report.groups if len({i % 2 for i in rows}) == 2)


@pytest.mark.parametrize("distance", [0, 3, 8])
def test_the_search_by_bands_misses_no_pair(distance: int) -> None:
    scenes = np.stack([np.asarray(scene(seed, 32)) for seed in range(60)])
    noise = np.random.default_rng(1).normal(0, 12, (4, *scenes.shape))
    pixels = np.clip(scenes + noise, 0, 255).astype(np.uint8).reshape(-1, 32, 32, 3)
    images = ImageSet.from_arrays(pixels, np.arange(240) % 2, ["a", "b"])
    import imagehash

    hashes = np.array([imagehash.phash(images.image(i)).hash.ravel() for i in range(240)])
    close = (hashes[:, None] != hashes[None]).sum(axis=2) <= distance
    report = duplicate_groups(images, "near", max_distance=distance, min_correlation=-1.0)
    reachable = np.linalg.matrix_power(close.astype(float), 8) > 0
    assert np.array_equal(report.group[:, None] == report.group[None], reachable)
    assert reachable.sum() > 240  # the search had something to find


def test_unknown_kinds_and_limits_are_refused() -> None:
    images = ImageSet.from_arrays(np.zeros((2, 2, 2, 3), np.uint8), [0, 1], ["a", "b"])
    with pytest.raises(CausalFTError, match="'nears': did you mean 'near'"):
        duplicate_groups(images, "nears")
    with pytest.raises(CausalFTError, match="max_distance 40"):
        duplicate_groups(images, max_distance=40)


def test_report_is_summarised() -> None:
    images = ImageSet.from_arrays(np.zeros((3, 2, 2, 3), np.uint8), [0, 0, 1], ["a", "b"])
    assert repr(duplicate_groups(images, "pixels")) == (
        "DuplicateReport(1 group of identical images among 3 images, 2 surplus copies; 1 with more than one label "
        "(such as a/000000 = a/000001 = b/000002))"
    )
    assert (
        duplicate_groups(
            images.subset(
                [
                    0,
                ]
            ),
            "near",
        ).summary()
        == "no near-identical images among 1 images"
    )
