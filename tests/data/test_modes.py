"""Deep, inverted and unusual samples become the right 8-bit pixels; metadata changes nothing."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import textwrap
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from causalft.data.images import end_pieces, fit_square, middle_of_strip, read_image
from causalft.errors import CausalFTError

UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def tiff(samples: np.ndarray, sample_format: int = UNSIGNED, photometric: int = 1) -> bytes:
    """A grey TIFF written by hand: Pillow writes few of the kinds that it reads."""
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    tags = [(256, width), (257, height), (258, samples.dtype.itemsize * 8), (259, 1), (262, photometric)]
    tags += [(273, 8), (277, channels), (278, height), (279, len(data)), (339, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(data))
        + data
        + struct.pack("<H", len(tags))
        + entries
        + b"\0" * 4
    )


def grey(data: bytes) -> list[int]:
    image = read_image(data, "x.tif")
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert (pixels[..., :1] == pixels).all()
    return pixels[..., 0].ravel().tolist()


@pytest.mark.parametrize(
    ("values", "dtype", "kind", "expected"),
    [
        ([0, 1, 100, 255], "u4", UNSIGNED, [0, 1, 100, 255]),
        ([0, 1, 100, 255], "i4", SIGNED, [0, 1, 100, 255]),
        ([0, 500, 1000], "i4", SIGNED, [0, 125, 250]),
        ([0, 2048, 4095], "u4", UNSIGNED, [0, 128, 255]),
        ([0, 255, 256, 32768, 65535], "u4", UNSIGNED, [0, 0, 1, 128, 255]),
        ([0, 100, 16384, 32767], "i2", SIGNED, [0, 0, 128, 255]),
        ([0, 255, 256, 65535], "u2", UNSIGNED, [0, 0, 1, 255]),
        ([0.0, 0.2, 1.0], "f4", FLOAT, [0, 51, 255]),
        ([0, 0, 0], "u4", UNSIGNED, [0, 0, 0]),
    ],
)
def test_deep_tiff_samples_keep_their_range(values, dtype, kind, expected) -> None:
    assert grey(tiff(np.array([values], dtype), kind)) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "kind", "expected"),
    [([0, 256, 65535], "u2", UNSIGNED, [255, 254, 0]), ([0.0, 0.2, 1.0], "f4", FLOAT, [255, 204, 0])],
)
def test_a_tiff_in_which_white_is_zero_is_inverted(values, dtype, kind, expected) -> None:
    assert grey(tiff(np.array([values], dtype), kind, photometric=0)) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "kind", "words"),
    [
        ([0, 65536], "i4", SIGNED, "no agreed range"),
        ([0, 4_000_000_000], "u4", UNSIGNED, "no agreed range"),
        ([-5, 100], "i4", SIGNED, "no agreed range"),
        ([0.0, 255.0], "f4", FLOAT, r"not in \[0, 1\]"),
        ([0.5, np.nan], "f4", FLOAT, r"not in \[0, 1\]"),
        ([0.5, np.inf], "f4", FLOAT, r"not in \[0, 1\]"),
        ([0.5, 1.0], "f8", FLOAT, "samples of an unusual kind; save it with 8 bits"),
    ],
)
def test_samples_without_a_known_white_are_refused(values, dtype, kind, words) -> None:
    with pytest.raises(CausalFTError, match=f"cannot read x.tif: .*{words}"):
        read_image(tiff(np.array([values], dtype), kind), "x.tif")


def test_16_bit_rgb_tiff_keeps_the_upper_bits() -> None:
    data = tiff(np.array([[[0x1234, 0x8000, 0xFFFF]]], "u2"), photometric=2)
    assert np.asarray(read_image(data, "x.tif")).tolist() == [[[0x12, 0x80, 0xFF]]]


def test_lab_becomes_srgb() -> None:
    cms = pytest.importorskip("PIL.ImageCms")
    red = Image.new("RGB", (2, 2), (200, 30, 60))
    to_lab = cms.buildTransform(cms.createProfile("sRGB"), cms.createProfile("LAB"), "RGB", "LAB")
    file = io.BytesIO()
    cms.applyTransform(red, to_lab).save(file, "TIFF")
    assert np.abs(np.asarray(read_image(file.getvalue(), "x")).astype(int) - (200, 30, 60)).max() <= 2


def test_the_transparent_grey_of_a_16_bit_png_is_white() -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[256, 512]], np.uint16)).save(file, "PNG", transparency=256)
    assert grey(file.getvalue()) == [255, 2]


def test_a_turned_deep_image_keeps_its_range() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 100, 200]], np.int32)).save(file, "TIFF", exif=exif)
    assert grey(file.getvalue()) == [200, 100, 0]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, behind: bool = False) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 1), (1, 2, 3)).save(file, "PNG")
    plain = file.getvalue()
    place = plain.index(b"IEND") - 4 if behind else plain.index(b"IDAT") - 4
    return plain[:place] + b"".join(chunks) + plain[place:]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"tEXt", b"Comment\0" + b"a" * 3_000_000)],
        [chunk(b"tEXt", b"Comment\0" + b"a" * 900_000)] * 80,
        [chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 3_000_000))],
        [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"a" * 3_000_000))],
        [chunk(b"iCCP", b"p\0\0" + zlib.compress(b"a" * 3_000_000))],
    ],
    ids=["text", "many", "compressed", "international", "profile"],
)
def test_png_with_megabytes_of_text_is_read(chunks: list[bytes], behind: bool) -> None:
    image = read_image(png_with(*chunks, behind=behind), "wordy.png")
    assert np.asarray(image).tolist() == [[[1, 2, 3], [1, 2, 3]]]


def test_damaged_png_with_text_is_refused() -> None:
    wordy = png_with(chunk(b"tEXt", b"Comment\0" + b"a" * 3_000_000))
    broken = wordy.replace(b"IDAT", b"IDAX")
    with pytest.raises(CausalFTError, match=r"cannot read wordy\.png"):
        read_image(broken, "wordy.png")


def jpeg_with_corrupt_exif() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09garbage")
    return file.getvalue()


def test_corrupt_metadata_changes_no_pixel_and_prints_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert read_image(jpeg_with_corrupt_exif(), "x.jpg").getpixel((4, 4))[0] > 240
    assert [str(each.message) for each in caught] == []


def test_messages_of_pillow_are_not_printed() -> None:
    code = textwrap.dedent(
        """
        import sys
        from causalft.data.images import read_image
        print(read_image(sys.stdin.buffer, "x").size)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=jpeg_with_corrupt_exif(), capture_output=True, check=True
    )
    assert done.stdout.split() == [b"(8,", b"8)"] and done.stderr == b""


def ramp(width: int, height: int) -> Image.Image:
    """An image whose pixels encode their place."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x % 251, y % 251, (x + y) // 251 % 251], axis=2).astype(np.uint8))


@pytest.mark.parametrize("size", [(1, 64), (64, 1), (90, 60), (3, 100)])
def test_ordinary_images_are_unchanged(size: tuple[int, int]) -> None:
    image = ramp(*size)
    assert middle_of_strip(image) is image and end_pieces(image) is None


@pytest.mark.parametrize(("width", "height"), [(2, 4001), (4000, 3), (1, 65_000)])
def test_the_middle_of_a_strip_stays_in_the_middle(width: int, height: int) -> None:
    whole = np.asarray(ramp(width, height))
    cut = np.asarray(middle_of_strip(ramp(width, height)))
    for axis, (all_of_it, kept) in enumerate(zip(whole.shape[:2], cut.shape[:2])):
        start = (all_of_it - kept) // 2
        assert (all_of_it - kept) % 2 == 0 and kept <= 64 * min(width, height) + 1
        whole = np.take(whole, range(start, start + kept), axis=axis)
    assert np.array_equal(whole, cut)


def test_fit_square_of_a_strip_is_the_middle_of_it() -> None:
    strip = Image.new("RGB", (4, 1000), "red")
    strip.paste("blue", (0, 498, 4, 502))
    assert (np.asarray(fit_square(strip, 4)) == (0, 0, 255)).all()


@pytest.mark.parametrize("size", [(1, 65_000), (65_000, 1)])
@pytest.mark.parametrize("view", ["centre", "zoomed-centre", "five-crop", "ten-crop"])
def test_a_stratum_scales_only_what_it_sees_of_a_strip(size, view: str, monkeypatch) -> None:
    from causalft.models.features.encoder import n_views, view_cut
    from causalft.models.strata.stratum import Stratum, square_crop

    one = (1.0, 1.0, 1.0)
    stratum = Stratum("clip", "mini", None, square_crop(56), 56, one, one, None, "0", "made")
    strip = Image.new("RGB", size, "red")
    middle = (size[0] // 2, 0) if size[0] > 1 else (0, size[1] // 2)
    strip.paste("blue", (*middle, middle[0] + 1, middle[1] + 1))
    strip.putpixel((0, 0), (0, 255, 0))
    scaled: list[int] = []
    resize = Image.Image.resize

    def counted(image: Image.Image, to: tuple[int, int], *args: object, **options: object) -> Image.Image:
        scaled.append(to[0] * to[1])
        return resize(image, to, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", counted)
    cut = view_cut(stratum, view)(strip).reshape(n_views(view), 56, 56, 3)
    assert max(scaled) <= 70 * 62 * 62
    half_red_half_blue = cut[4 if len(cut) > 1 else 0].mean(axis=(0, 1))
    assert 90 < half_red_half_blue[0] < 165 and 90 < half_red_half_blue[2] < 165
    if len(cut) > 1:
        first_corners = {0, 1, 2} - (
            {2} if size[0] == 1 else {1}
        )  # two corners show the end with the green pixel
        assert {k for k in range(4) if cut[k][..., 1].mean() > 100} == first_corners


@pytest.mark.slow
def test_a_strip_of_65_000_pixels_takes_little_memory() -> None:
    """By the geometry of a stratum at 224 pixels and by its crops; scaled whole it would take 9.8 GB."""
    pytest.importorskip("resource")
    code = textwrap.dedent(
        """
        import resource
        import numpy as np
        from PIL import Image
        from causalft.data.images import fit_square
        from causalft.models.features.encoder import view_cut
        from causalft.models.strata.stratum import Stratum, square_crop
        one = (1.0, 1.0, 1.0)
        stratum = Stratum("clip", "mini", None, square_crop(224), 224, one, one, None, "0", "made")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for size in ((1, 65_000), (65_000, 1)):
            strip = Image.new("RGB", size, "red")
            assert fit_square(strip, 224).size == (224, 224)
            for view, shape in (("centre", ()), ("five-crop", (5,)), ("ten-crop", (10,))):
                assert view_cut(stratum, view)(strip).shape == (*shape, 224, 224, 3)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 400
