"""Features are computed once, resumed, shared between processes, verified, and never stale."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from causalft.data.image_set import ImageSet
from causalft.data.opening import open_images
from causalft.errors import CausalFTError
from causalft.models.features import cache as features_module
from causalft.models.features.cache import (
    FeatureCache,
    cached_features,
    cached_text_features,
    cached_zero_shot,
    data_fingerprint,
    default_cache_folder,
)
from causalft.models.features.encoder import Crops, view_cut
from causalft.models.strata.stratum import Stratum, square_crop
from causalft.models.strata.zoo import open_zoo

KINDS = ["ant", "bee", "cow", "doe"]


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


@pytest.fixture(scope="module")
def stratum(tiny_zoo):
    return open_zoo(tiny_zoo).load("clip")


@pytest.fixture(scope="module")
def images(photos):
    return open_images(photos).subset(range(0, 120, 5))


@pytest.fixture
def encoded(monkeypatch):
    """Number of images that went through an encoder."""
    seen = []
    image_features = Stratum.image_features

    def counted(self, pixels, *args):
        seen.append(len(pixels))
        return image_features(self, pixels, *args)

    monkeypatch.setattr(Stratum, "image_features", counted)
    return seen


def get(cache, stratum, images, **options):
    return cached_features(cache, stratum, images, progress=False, **options)


def direct(stratum, images):
    return stratum.image_features(Crops(images, stratum, progress=False)[torch.arange(len(images))]).numpy()


# --- once, and right ---------------------------------------------------------------------------------------------


def test_computed_once_memory_mapped_and_equal_to_direct_computation(cache, stratum, images, encoded):
    first = get(cache, stratum, images, batch_size=7)
    assert sum(encoded) == 24
    again = get(FeatureCache(cache.folder), stratum, images)
    assert sum(encoded) == 24
    assert isinstance(again, np.memmap) and not again.flags.writeable and again.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(again, direct(stratum, images), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), 1, atol=1e-5)


def test_without_a_cache_the_same_numbers_and_no_file(cache, stratum, images, tmp_path):
    np.testing.assert_array_equal(get(None, stratum, images), get(cache, stratum, images))
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("kept", [True, False])
def test_crops_in_memory_are_not_read_once_more(cache, stratum, images, monkeypatch, kept):
    crops = Crops(images, stratum, progress=False, in_memory_bytes=2**30 if kept else 0)
    read, image = [], type(images).image
    monkeypatch.setattr(type(images), "image", lambda self, row: read.append(row) or image(self, row))
    found = get(cache, stratum, images, crops=crops, batch_size=7)
    assert set(read) == (set() if kept else set(range(len(images))))
    np.testing.assert_array_equal(found, get(None, stratum, images, batch_size=7))
    np.testing.assert_array_equal(found, get(cache, stratum, images))  # it is the same entry
    assert len(cache.entries()) == 1


def test_crops_of_something_else_are_refused(cache, stratum, images):
    crops = Crops(images, stratum, progress=False)
    for other in ({"view": "five-crop"}, {"images": images.subset(range(5))}, {"stratum": replace(stratum)}):
        with pytest.raises(CausalFTError, match="these crops are of other images"):
            cached_features(cache, crops=crops, **{"stratum": stratum, "images": images} | other)


def test_labels_and_class_names_do_not_change_the_key(cache, stratum, images, encoded):
    get(cache, stratum, images)
    get(cache, stratum, images.align_classes(KINDS[::-1]))
    assert sum(encoded) == 24


@pytest.mark.parametrize("change", ["weights", "size", "interpolation", "mean", "precision", "view", "order"])
def test_any_change_changes_the_key(cache, stratum, images, encoded, change):
    get(cache, stratum, images)
    options = {}
    if change == "weights":
        stratum = replace(stratum, sha256="0" * 64)
    if change == "size":
        # same output size, another crop: what counts is what the geometry does
        stratum = replace(stratum, geometry=lambda image: image.resize((16, 16)).rotate(180))
    if change == "interpolation":
        stratum = replace(stratum, geometry=square_crop(16, "bilinear"))
    if change == "mean":
        stratum = replace(stratum, mean=(0.0, 0.0, 0.0))
    if change == "precision":
        options = {"precision": "bf16"}
    if change == "view":
        options = {"view": "five-crop"}
    if change == "order":
        images = images.subset(np.arange(len(images))[::-1])
    get(cache, stratum, images, **options)
    assert sum(encoded) == 24 * (6 if change == "view" else 2)
    assert len(cache.entries()) == 2


def test_the_activation_is_in_the_key_although_the_weights_are_the_same(cache, stratum, images, encoded):
    class QuickGELU(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(1.702 * x)

    import copy

    first = get(cache, stratum, images)
    model = copy.deepcopy(stratum.model)
    for block in model.visual.transformer.resblocks:
        block.mlp.gelu = QuickGELU()
    other = get(cache, replace(stratum, model=model), images)
    assert sum(encoded) == 48
    assert np.abs(first - other).max() > 1e-4


def test_changed_image_changes_the_key(stratum, pictures, tmp_path, cache, encoded):
    folder = pictures(tmp_path / "set", {"ant": 3, "bee": 3})
    before = get(cache, stratum, open_images(folder))
    file = folder / open_images(folder).files[1]
    size, times = file.stat().st_size, file.stat()
    changed = bytearray(Image.effect_noise((24, 24), 50).convert("RGB").tobytes())
    Image.frombytes("RGB", (24, 24), bytes(changed)).save(file)
    after = get(cache, stratum, open_images(folder))
    assert sum(encoded) == 12 and not np.allclose(before[1], after[1], atol=1e-4)
    # An edit that hides (same size, same time) is what content=True is for.
    data = bytearray(file.read_bytes())
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    quick, content = (data_fingerprint(open_images(folder), content=c) for c in (False, True))
    data[-20] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert size and data_fingerprint(open_images(folder)) == quick
    assert data_fingerprint(open_images(folder), content=True) != content


def test_pixels_in_memory_are_keyed_by_content():
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    before = data_fingerprint(ImageSet.from_arrays(pixels, [0, 1], ["a", "b"]))
    pixels = pixels.copy()
    pixels[1, 3, 3, 0] = 1
    assert data_fingerprint(ImageSet.from_arrays(pixels, [0, 1], ["a", "b"])) != before


def test_given_encoder_replaces_the_stratum(cache, stratum, images, encoded):
    found = get(cache, stratum, images, encode=lambda p: torch.eye(3)[torch.arange(len(p)) % 3], batch_size=3)
    assert found[:4].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]] and not encoded


# --- views -------------------------------------------------------------------------------------------------------


def test_five_crops_are_corners_and_centre_of_the_resized_image(stratum):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (18, 18, 3), dtype=np.uint8))
    crops = view_cut(stratum, "five-crop")(picture)  # 16 + round(24 * 16 / 224) = 18: nothing is resized
    whole = np.asarray(picture)
    for crop, (top, left) in zip(crops, [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)], strict=True):
        np.testing.assert_array_equal(crop, whole[top : top + 16, left : left + 16])
    ten = view_cut(stratum, "ten-crop")(picture)
    np.testing.assert_array_equal(ten[:5], crops)
    np.testing.assert_array_equal(ten[[6, 5, 8, 7, 9]], crops[:, :, ::-1])  # left corners become right ones


def test_zoomed_centre_is_the_centre_of_the_image_resized_to_256_of_224(stratum):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (18, 20, 3), dtype=np.uint8))
    crop = view_cut(stratum, "zoomed-centre")(picture)  # 16 + round(32 * 16 / 224) = 18: nothing is resized
    np.testing.assert_array_equal(crop, np.asarray(picture)[1:17, 2:18])


def test_views_are_the_first_axis(cache, stratum, images):
    found = get(cache, stratum, images, view="ten-crop", batch_size=25)
    assert found.shape == (10, 24, 16)
    crops = np.stack([view_cut(stratum, "ten-crop")(images.image(row)) for row in range(24)])
    np.testing.assert_allclose(
        found[7], stratum.image_features(torch.from_numpy(crops[:, 7])).numpy(), atol=1e-6
    )


def test_an_unknown_view_is_named(cache, stratum, images):
    with pytest.raises(CausalFTError, match="did you mean 'five-crop'"):
        get(cache, stratum, images, view="fivecrop")


# --- zero-shot ---------------------------------------------------------------------------------------------------


def test_zero_shot_logits_are_scale_times_cosine_and_computed_once(cache, stratum, images, monkeypatch):
    found = cached_zero_shot(cache, stratum, images, KINDS, "a photo of a {}", progress=False)
    text = stratum.text_features(KINDS, "a photo of a {}").numpy()
    np.testing.assert_allclose(found, stratum.logit_scale * direct(stratum, images) @ text.T, atol=1e-4)
    assert isinstance(found, np.memmap) and found.shape == (24, 4)
    for name in ("image_features", "text_features"):
        monkeypatch.setattr(Stratum, name, lambda *args: pytest.fail("computed again"))
    again = cached_zero_shot(cache, stratum, images, KINDS, "a photo of a {}", progress=False)
    np.testing.assert_array_equal(found, again)


def test_template_class_order_and_view_make_other_logits(cache, stratum, images):
    one = cached_zero_shot(cache, stratum, images, KINDS, "a photo of a {}", progress=False)
    other = cached_zero_shot(cache, stratum, images, KINDS[::-1], "a photo of a {}", progress=False)
    np.testing.assert_allclose(one, other[:, ::-1], atol=1e-5)
    bare = cached_zero_shot(cache, stratum, images, KINDS, "{}", progress=False)
    assert np.abs(one - bare).max() > 1e-3
    views = cached_zero_shot(
        cache, stratum, images, KINDS, "a photo of a {}", view="five-crop", progress=False
    )
    text = cached_text_features(cache, stratum, KINDS, "a photo of a {}")
    each = get(cache, stratum, images, view="five-crop") @ text.T * np.float32(stratum.logit_scale)
    np.testing.assert_allclose(views, each.mean(axis=0), atol=1e-4)


# --- kills, damage, company --------------------------------------------------------------------------------------


def test_interrupted_encoding_resumes(cache, stratum, images, monkeypatch):
    image_features, seen = Stratum.image_features, []

    def killed(self, pixels, *args):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(len(pixels))
        return image_features(self, pixels, *args)

    monkeypatch.setattr(Stratum, "image_features", killed)
    with pytest.raises(KeyboardInterrupt):
        get(cache, stratum, images, batch_size=5)
    assert seen == [5, 5, 5] and [entry.complete for entry in cache.entries()] == [False]
    monkeypatch.setattr(
        Stratum, "image_features", lambda self, p, *a: seen.append(len(p)) or image_features(self, p, *a)
    )
    found = get(FeatureCache(cache.folder), stratum, images, batch_size=5)
    assert seen == [5, 5, 5, 5, 4]
    np.testing.assert_allclose(found, direct(stratum, images), atol=1e-6)
    assert [entry.complete for entry in cache.entries()] == [True]
    assert sorted(p.suffix for p in cache.folder.iterdir() if p.is_file()) == [".json", ".npy"]


KILLED = """
import os, sys, numpy as np
from causalft.models.features.cache import FeatureCache
def fill(start):
    for row in range(start, 6):
        if row == 4 and sys.argv[2] == "die":
            os.kill(os.getpid(), 9)
        print(row, flush=True)
        yield np.full((1, 3), row)
print(FeatureCache(sys.argv[1], checkpoint_seconds=0).array({"what": "rows"}, 6, fill)[:, 0].tolist())
"""


def test_encoding_of_a_killed_process_resumes(tmp_path):
    def process(what):
        command = [sys.executable, "-c", KILLED, str(tmp_path), what]
        return subprocess.run(command, capture_output=True, text=True)

    assert process("die").returncode == -9
    done = process("go on")
    assert done.stdout.splitlines() == ["4", "5", "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]"], done.stderr


def test_rows_damaged_by_a_crash_are_recomputed(cache):
    calls = []

    def fill(start, until=4):
        for row in range(start, until):
            calls.append(row)
            yield np.full((1, 3), row)
        if until < 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.array({}, 4, lambda start: fill(start, 2))
    (part,) = cache.folder.glob(".*.part")
    damaged = bytearray(part.read_bytes())
    damaged[-1] ^= 255
    part.write_bytes(damaged)
    assert cache.array({}, 4, fill)[:, 0].tolist() == [0, 1, 2, 3]
    assert calls == [0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "description"])
def test_a_damaged_entry_is_recomputed(cache, stratum, images, encoded, damage):
    good = np.array(get(cache, stratum, images))
    (file,) = cache.folder.glob("*.npy")
    if damage == "flip":
        data = bytearray(file.read_bytes())
        data[-3] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-4])
    elif damage == "gone":
        file.unlink()
    else:
        file.with_suffix(".json").write_text("{")
    fresh = FeatureCache(cache.folder)
    if damage != "description":
        ((_, problem),) = fresh.verify().items()
        assert problem
    with pytest.warns(UserWarning, match="recomputed"):
        again = get(fresh, stratum, images)
    np.testing.assert_array_equal(good, again)
    assert sum(encoded) == 48 and set(fresh.verify().values()) == {None}


def test_concurrent_processes_compute_once(cache, capsys):
    """The second one waits and reads the result, in the same process and in another."""
    inside, go, calls, found = threading.Event(), threading.Event(), [], []

    def fill(start):
        calls.append(start)
        inside.set()
        go.wait()
        yield np.ones((2, 2))

    def ask():
        found.append(FeatureCache(cache.folder).array({}, 2, fill))

    first, second = threading.Thread(target=ask), threading.Thread(target=ask)
    first.start()
    assert inside.wait(300)
    second.start()
    assert cache.clear() == (0, 0)
    go.set()
    first.join()
    second.join()
    assert calls == [0] and len(found) == 2 and np.array_equal(*found)


def test_features_that_are_not_finite_are_refused_and_not_kept(cache, stratum, images):
    with pytest.raises(CausalFTError, match="rows 0 to 23 are not finite"):
        get(cache, stratum, images, encode=lambda p: torch.full((len(p), 2), torch.nan))
    assert not cache.entries()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 2)], "1 rows of features came out, 2 were announced"),
        ([(3, 2)], r"came out in shape \(3, 2\), \(2, 2\) was announced"),
        ([(1, 2), (1, 3)], r"came out in shape \(1, 3\), \(2, 2\) was announced"),
    ],
)
def test_wrong_number_of_rows_is_refused(cache, shapes, message):
    with pytest.raises(CausalFTError, match=message):
        cache.array({}, 2, lambda start: [np.ones(shape) for shape in shapes])
    assert not [entry for entry in cache.entries() if entry.complete]


def test_a_folder_that_cannot_be_made_says_what_to_set(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CausalFTError, match="CAUSALFT_CACHE"):
        FeatureCache(tmp_path / "file" / "cache").array({}, 1, lambda start: [np.ones((1, 1))])


# --- housekeeping ------------------------------------------------------------------------------------------------


def test_entries_say_what_they_are_and_clear_removes_the_unused(cache, stratum, images):
    get(cache, stratum, images)
    cached_zero_shot(cache, stratum, images, KINDS, "{}", progress=False)
    entries = cache.entries()
    assert sorted(entry.about["kind"] for entry in entries) == [
        "features",
        "text features",
        "zero-shot logits",
    ]
    features = next(entry for entry in entries if entry.about["kind"] == "features")
    assert features.shape == (24, 16) and features.about["data"] == images.name
    assert features.n_bytes > 24 * 16 * 4
    old = cache.folder / f"{features.key}.json"
    os.utime(old, (0, 0))
    assert cache.clear(unused_seconds=3600)[0] == 1
    assert features.key not in {entry.key for entry in cache.entries()}
    assert cache.clear()[0] == 2 and cache.entries() == []
    assert [path.name for path in cache.folder.iterdir()] == ["locks"]


def test_using_an_entry_updates_its_time(cache, stratum, images):
    get(cache, stratum, images)
    (file,) = cache.folder.glob("*.json")
    os.utime(file, (0, 0))
    get(cache, stratum, images)
    assert cache.entries()[0].used > 1e9


def test_the_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CAUSALFT_CACHE", str(tmp_path / "mine"))
    assert default_cache_folder() == FeatureCache().folder == tmp_path / "mine"
    monkeypatch.delenv("CAUSALFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "causalft" / "features"


def test_weights_without_a_file_are_keyed_by_their_tensors(stratum):
    import copy

    bare = replace(stratum, sha256="")
    changed = replace(bare, model=copy.deepcopy(stratum.model))
    with torch.no_grad():
        next(changed.model.parameters()).add_(1)
    keys = [features_module._model_key(s)["weights"] for s in (bare, replace(bare), changed)]
    assert keys[0] == keys[1] != keys[2]
