"""Every kind of image file becomes an upright RGB image, or an error that names it."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from causalft.data import images as images_module
from causalft.data.images import fit_square, read_image
from causalft.errors import CausalFTError

# Asymmetric, so that every turn and mirror image of it differs.
UPRIGHT = np.array(
    [[[10, 0, 0], [20, 0, 0], [30, 0, 0]], [[40, 0, 0], [50, 0, 0], [60, 0, 0]]], dtype=np.uint8
)

# How a camera held in each of the eight ways stores the upright image.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: np.rot90(UPRIGHT, 2).transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    image = read_image(data, "x")
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    data = encode(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert pixels_of(data).tolist() == UPRIGHT.tolist()


def test_exif_orientation_of_a_jpeg_photo() -> None:
    tall = Image.new("RGB", (16, 48), "red")
    tall.paste("blue", (0, 0, 16, 24))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn it clockwise
    read = read_image(encode(tall.rotate(90, expand=True), "JPEG", exif=exif), "photo.jpg")
    assert read.size == (16, 48)
    assert read.getpixel((8, 4))[2] > 200 and read.getpixel((8, 44))[0] > 200


def test_damaged_exif_is_ignored() -> None:
    whole = encode(Image.new("RGB", (8, 8), "red"), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage")
    assert pixels_of(whole)[0, 0, 0] > 240


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (2, 2), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (2, 2), 1), "PNG", (255, 255, 255)),
        (Image.new("1", (2, 2), 0), "BMP", (0, 0, 0)),
        (Image.new("LA", (2, 2), (77, 255)), "PNG", (77, 77, 77)),
        (Image.new("LA", (2, 2), (77, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 255)), "PNG", (255, 0, 0)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 51)), "PNG", (204, 204, 204)),  # a fifth of black on white
        (Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "TIFF", (255, 255, 255)),
        (Image.new("CMYK", (2, 2), (255, 0, 0, 0)), "TIFF", (0, 255, 255)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
        (Image.new("F", (2, 2), 0.2), "TIFF", (51, 51, 51)),
        (Image.new("RGB", (2, 2), (1, 2, 3)), "PPM", (1, 2, 3)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_modes_with_known_values(image: Image.Image, kind: str, expected: tuple[int, int, int]) -> None:
    assert (pixels_of(encode(image, kind)) == expected).all()


@pytest.mark.parametrize(
    ("cmyk", "expected"), [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0))]
)
def test_cmyk_jpeg_is_not_inverted(cmyk: tuple[int, ...], expected: tuple[int, ...]) -> None:
    read = pixels_of(encode(Image.new("CMYK", (16, 16), cmyk), "JPEG", quality=95))
    assert np.abs(read.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    ramp = np.array([[0, 255, 256], [0x7FFF, 0x8000, 65535]], dtype=np.uint16)
    assert pixels_of(encode(Image.fromarray(ramp), kind))[..., 0].tolist() == [[0, 0, 1], [127, 128, 255]]


def test_big_endian_16_bit_tiff() -> None:
    ramp = Image.frombytes("I;16B", (2, 1), np.array([0x4000, 0xC000], dtype=">u2").tobytes())
    assert pixels_of(encode(ramp, "TIFF"))[0, :, 0].tolist() == [0x40, 0xC0]


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_16_bit_colour_png() -> None:
    row = b"\0" + struct.pack(">3H", 0x1234, 0x8000, 0xFFFF)
    data = png_chunks(
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row)),
        (b"IEND", b""),
    )
    assert pixels_of(data)[0, 0].tolist() == [0x12, 0x80, 0xFF]


def test_palette_with_a_transparent_entry() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60] + [0] * 750)
    image.putpixel((1, 0), 1)
    assert pixels_of(encode(image, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert pixels_of(encode(image, "PNG", transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_transparent_colour_of_an_rgb_png_becomes_white() -> None:
    image = Image.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((1, 0), (1, 2, 3))
    data = encode(image, "PNG", transparency=(1, 2, 3))
    assert pixels_of(data).tolist() == [[[9, 9, 9], [255, 255, 255]]]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (pixels_of(data) == (255, 0, 0)).all()


def noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "GIF"])
def test_truncated_image_is_named(kind: str) -> None:
    data = encode(noise(), kind)
    with pytest.raises(CausalFTError, match=r"lynx/7\.img") as caught:
        read_image(data[: len(data) // 2], "lynx/7.img")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("data", [b"", b"this is a text file\n" * 9, b"\xff\xd8\xff", b"PK\x03\x04"])
def test_what_is_not_an_image_is_named(data: bytes) -> None:
    with pytest.raises(CausalFTError, match=r"cannot read otter/1\.jpg: .*(remove|copy)"):
        read_image(data, "otter/1.jpg")


def test_missing_file_and_folder_are_named(tmp_path) -> None:
    with pytest.raises(CausalFTError, match=r"nothing\.png: No such file"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(CausalFTError, match=tmp_path.name):
        read_image(tmp_path)


def test_path_bytes_and_file_object_agree(tmp_path) -> None:
    path = tmp_path / "a.png"
    noise(8).save(path)
    by_path = np.asarray(read_image(path))
    with open(path, "rb") as file:
        assert np.array_equal(np.asarray(read_image(file, "a")), by_path)
    assert np.array_equal(np.asarray(read_image(path.read_bytes(), "a")), by_path)


def test_samples_of_unknown_range_are_refused() -> None:
    for image, words in (
        (Image.new("I", (2, 2), 1_000_000), "32-bit"),
        (Image.new("F", (2, 2), 7.0), r"not in \[0, 1\]"),
        (Image.new("F", (2, 2), float("nan")), r"not in \[0, 1\]"),
        (Image.new("I", (2, 2), -1), "32-bit"),
    ):
        with pytest.raises(CausalFTError, match=f"deep.tif: .*{words}"):
            read_image(encode(image, "TIFF"), "deep.tif")


def test_image_over_the_pixel_limit_is_refused_before_decoding(monkeypatch) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = png_chunks((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    with pytest.raises(CausalFTError, match=r"bomb\.png: .*pixels"):
        read_image(bomb, "bomb.png")
    monkeypatch.setattr(images_module, "MAX_PIXELS", 63)
    with pytest.raises(CausalFTError, match="8 x 8 pixels is over the limit of 63"):
        read_image(encode(noise(8), "PNG"), "big.png")


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA"]),
    cut=st.floats(0, 1),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_damaged_bytes_give_an_image_or_a_clear_error(
    kind: str, cut: float, damage: list[tuple[float, int]]
) -> None:
    data = bytearray(encode(noise(16), kind))
    for place, value in damage:
        data[int(place * len(data))] = value
    try:
        assert read_image(bytes(data[: int(cut * len(data))]), "hit.img").mode == "RGB"
    except CausalFTError as error:
        assert "hit.img" in str(error)


@given(width=st.integers(1, 200), height=st.integers(1, 200), size=st.integers(1, 64))
def test_fit_square_always_gives_the_square(width: int, height: int, size: int) -> None:
    assert fit_square(Image.new("RGB", (width, height)), size).size == (size, size)


def test_fit_square_keeps_the_centre() -> None:
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste("blue", (20, 0, 40, 20))
    assert (np.asarray(fit_square(wide, 20)) == (0, 0, 255)).all()
