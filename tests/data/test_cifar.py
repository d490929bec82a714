"""Binary CIFAR: read in place, pickles refused, long-tailed draw of the benchmark."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from causalft.data.formats.cifar import draw_benchmark
from causalft.data.opening import open_images
from causalft.errors import CausalFTError

N = 40  # images of each class in each batch


def planes(label: int, number: int) -> np.ndarray:
    """(3072,) pixels: red is the class, green the number, blue runs along the row."""
    blue = np.tile(np.arange(32, dtype=np.uint8), 32)
    return np.concatenate([np.full(1024, label, np.uint8), np.full(1024, number % 256, np.uint8), blue])


def write_batch(path: Path, labels: np.ndarray, coarse: bool) -> None:
    records = [np.r_[[7] if coarse else [], [k], planes(k, i)].astype(np.uint8) for i, k in enumerate(labels)]
    path.write_bytes(np.concatenate(records).tobytes())


def write_cifar(folder: Path, classes: int = 10) -> Path:
    coarse = classes == 100
    folder.mkdir(parents=True)
    labels = np.tile(np.arange(classes), N if not coarse else 4)
    names = "fine_label_names.txt" if coarse else "batches.meta.txt"
    (folder / names).write_text("\n".join(f"kind{k}" for k in range(classes)) + "\n\n")
    for batch in ("train.bin",) if coarse else [f"data_batch_{i}.bin" for i in range(1, 6)]:
        write_batch(folder / batch, labels, coarse)
    write_batch(folder / ("test.bin" if coarse else "test_batch.bin"), labels[: 2 * classes], coarse)
    return folder


@pytest.fixture(scope="module")
def ten(tmp_path_factory) -> Path:
    return write_cifar(tmp_path_factory.mktemp("c") / "cifar-10-batches-bin")


def test_both_sets_are_read(ten: Path, tmp_path) -> None:
    images = open_images(ten)
    assert images.format == "cifar" and images.name == "cifar-10" and images.class_names[3] == "kind3"
    assert {k: len(v) for k, v in images.splits.items()} == {"train": 5 * 10 * N, "test": 20}
    pixels = np.asarray(images.image(17))
    assert pixels.shape == (32, 32, 3)
    assert (pixels[..., 0] == 7).all() and (pixels[..., 1] == 17).all() and pixels[5, 9, 2] == 9
    assert images.labels[17] == 7
    hundred = open_images(write_cifar(tmp_path / "cifar-100-binary", 100))
    assert hundred.n_classes == 100 and hundred.labels[:3].tolist() == [0, 1, 2]
    assert np.asarray(hundred.image(105))[0, 0].tolist() == [5, 105, 0]


def test_parent_folder_and_archive_are_recognised(ten: Path, tmp_path) -> None:
    images = open_images(ten)
    assert open_images(ten.parent).fingerprint == images.fingerprint
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(ten, ten.name)
    kept = open_images(archive)
    assert "kept in memory" in kept.notes[0]
    assert kept.content_fingerprint() == images.content_fingerprint()
    copy = pickle.loads(pickle.dumps(images))
    assert copy.bytes_hash(1999) == kept.bytes_hash(1999)
    write_cifar(tmp_path / "cifar-100-binary", 100)
    write_cifar(tmp_path / "cifar-10-batches-bin")
    with pytest.raises(CausalFTError, match="holds cifar-10-batches-bin and cifar-100-binary; open one"):
        open_images(tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "folder"),
    [("cifar-10", "data_batch_1", "cifar-10-batches-py"), ("cifar-100", "train", "cifar-100-python")],
)
def test_pickles_are_refused_with_the_address_of_the_binary_version(
    tmp_path, name: str, file: str, folder: str
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / file).write_bytes(b"\x80\x02}q\x01.")
    archive = tmp_path / "python.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tmp_path / folder, folder)
    for path in (tmp_path, tmp_path / folder, archive):
        with pytest.raises(CausalFTError, match=rf"Python pickles.*kriz/{name}-binary\.tar\.gz"):
            open_images(path)


def test_damaged_batches_are_refused(tmp_path) -> None:
    folder = write_cifar(tmp_path / "cifar-10-batches-bin")
    batch = folder / "data_batch_3.bin"
    whole = batch.read_bytes()
    batch.write_bytes(whole[:-100])
    with pytest.raises(CausalFTError, match=r"data_batch_3\.bin in .* is cut off"):
        open_images(folder)
    batch.write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(CausalFTError, match="label 10, outside the 10 classes"):
        open_images(folder)
    batch.unlink()
    with pytest.raises(CausalFTError, match="lacks data_batch_3.bin of cifar-10"):
        open_images(folder)
    (folder / "batches.meta.txt").unlink()
    with pytest.raises(CausalFTError, match="is not a binary CIFAR"):
        open_images(folder, format="cifar")


def test_the_long_tailed_draw_keeps_the_test_part(ten: Path) -> None:
    images = open_images(ten, imbalance_factor=50)
    train = images.subset(images.splits["train"])
    counts = train.class_counts
    expected = [int(200 * (1 / 50) ** (k / 9)) for k in range(10)]
    assert counts.tolist() == expected and counts[0] == 200 and counts[-1] == 200 // 50
    assert len(images.splits["test"]) == 20 and images.name == "cifar-10-lt50"
    again, other = (
        open_images(ten, imbalance_factor=50, seed=0),
        open_images(ten, imbalance_factor=50, seed=1),
    )
    assert again.fingerprint == images.fingerprint != other.fingerprint
    assert all(np.asarray(images.image(i))[0, 0, 0] == images.labels[i] for i in range(0, len(images), 37))
    with pytest.raises(CausalFTError, match="give imbalance_factor too"):
        open_images(ten, seed=3)
    with pytest.raises(CausalFTError, match="asks 0 of the 200 images of class 8"):
        open_images(ten, imbalance_factor=500)


def test_draw_matches_the_code_of_the_benchmark() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 500))
    np.random.seed(0)  # noqa: NPY002 - what the benchmark's code does, written out
    wanted = []
    for k in range(10):
        rows = np.where(labels == k)[0]
        np.random.shuffle(rows)  # noqa: NPY002
        wanted.append(rows[: int(500 * 0.01 ** (k / 9.0))])
    assert draw_benchmark(labels, 100, seed=0).tolist() == sorted(np.concatenate(wanted).tolist())
