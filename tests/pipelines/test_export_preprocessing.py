"""Preprocessing as data: the loader of a single file cuts the same pixels as the stratum, from the same files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from causalft.data.opening import open_images
from causalft.pipelines.export.fused_model import geometry_steps
from causalft.pipelines.export.standalone import shape, to_tensor, upright_rgb
from tests.methods.small_classifiers import clip_stratum


def noise(width, height, seed=0, channels=3):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    "size", [(32, 32), (33, 47), (200, 50), (31, 90), (32, 61), (500, 333), (7, 5), (640, 479)]
)
def test_preprocessing_steps_agree_with_the_stratum(size, interpolation):
    stratum = clip_stratum("a", interpolation=interpolation)
    steps = json.loads(json.dumps(geometry_steps(stratum)))
    picture = noise(*size)
    assert np.array_equal(np.asarray(shape(picture, steps)), stratum.crop(picture))


def test_squashed_and_wider_geometries():
    stratum = clip_stratum("a")
    for geometry in (
        transforms.Compose([transforms.Resize((32, 32)), transforms.CenterCrop(32)]),
        transforms.Compose(
            [transforms.Resize(40, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(32)]
        ),
        transforms.Resize((32, 32)),
    ):
        stratum.geometry = geometry
        picture = noise(77, 50)
        assert np.array_equal(np.asarray(shape(picture, geometry_steps(stratum))), stratum.crop(picture))


def test_a_preprocessing_step_that_is_not_data_is_reported():
    stratum = clip_stratum("a")
    stratum.geometry = transforms.Compose([transforms.Pad(3), transforms.CenterCrop(32)])
    steps = geometry_steps(stratum)
    assert [step["step"] for step in steps] == ["other", "center_crop"] and "Pad" in steps[0]["description"]
    with pytest.raises(ValueError, match="does not know the preprocessing step 'other'"):
        shape(noise(40, 40), steps)


def test_loader_reads_files_like_the_image_set(tmp_path):
    """Orientation, transparency, palettes, grey: whatever a file is, both make the same RGB picture of it."""
    folder = tmp_path / "pictures" / "kind"
    folder.mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    noise(40, 20).save(folder / "turned.png", exif=turned)
    noise(30, 20, channels=4).save(folder / "transparent.png")
    noise(30, 20, channels=1).save(folder / "grey.png")
    noise(30, 20).convert("P").save(folder / "palette.png", transparency=3)
    noise(30, 20).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    images = open_images(tmp_path / "pictures", min_classes=1)
    for number, file in enumerate(images.files):
        with Image.open(tmp_path / "pictures" / file) as opened:
            found = upright_rgb(opened)
        wanted = images.image(number).convert("RGB")
        assert found.size == wanted.size and np.array_equal(np.asarray(found), np.asarray(wanted)), file
    with pytest.raises(ValueError, match="save it with 8 bits"):
        upright_rgb(Image.fromarray(np.zeros((4, 4), np.uint16)))


def test_images_become_tensors():
    picture = noise(5, 4)
    assert np.array_equal(to_tensor(picture, "uint8").numpy(), np.asarray(picture).transpose(2, 0, 1))
    assert np.allclose(to_tensor(picture, "float32").numpy() * 255, np.asarray(picture).transpose(2, 0, 1))
