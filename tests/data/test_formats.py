"""Every format gives the same set of the same images; records, options and tables agree."""

from __future__ import annotations

import inspect
import pickle
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from causalft.data.formats import FORMATS
from causalft.data.opening import open_images
from causalft.data.tails import ORDERS, PROFILES
from causalft.errors import CausalFTError
from tests.data import kit


@pytest.mark.parametrize("kind", kit.KINDS)
def test_every_format_gives_the_images_of_the_folder(kind: str, pets: Path) -> None:
    folder, images = open_images(pets), open_images(kit.KINDS[kind](pets))
    assert images.format == kind.split()[0] and folder.format == "folder"
    assert images.class_names == ("cat", "dog", "emu")
    assert kit.contents(images) == kit.contents(folder)
    assert np.array_equal(np.asarray(images.image(0)), np.asarray(folder.image(0)))
    assert images.splits == {} and len(images.files) == len(set(images.files)) == 5


@pytest.mark.parametrize("kind", kit.KINDS)
def test_every_format_survives_pickle_and_threads(kind: str, pets: Path) -> None:
    images = open_images(kit.KINDS[kind](pets))
    want = [images.bytes_hash(i) for i in range(5)] * 20
    copy = pickle.loads(pickle.dumps(images))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(copy.bytes_hash, list(range(5)) * 20)) == want
    assert copy.fingerprint == images.fingerprint == open_images(kit.written(kind, pets)).fingerprint
    part = images.subset([4, 0])
    assert part.bytes_hash(1) == images.bytes_hash(0) and part.fingerprint != images.fingerprint


def test_the_same_names_and_sizes_have_one_fingerprint_in_folder_zip_and_tar(pets: Path, write_zip) -> None:
    archive = write_zip({name: (pets / name).read_bytes() for name in kit.PETS})
    packed = kit.write_tar(pets.parent / "flat.tar", {name: (pets / name).read_bytes() for name in kit.PETS})
    prints = {open_images(path).fingerprint for path in (pets, archive, packed)}
    assert len(prints) == 1


def test_unsupported_options_and_unknown_formats_are_refused(pets: Path) -> None:
    with pytest.raises(
        CausalFTError, match="split_column is not for .*, which is a folder with one folder of images"
    ):
        open_images(pets, split_column="part")
    with pytest.raises(CausalFTError, match="no format is named 'tabel'; did you mean 'table'"):
        open_images(pets, format="tabel")
    assert open_images(kit.write_lists(pets), format="folder").format == "folder"
    with pytest.raises(CausalFTError, match="is not a folder; leave format out"):
        open_images(kit.as_csv(pets), format="folder")
    for kind in ("zip", "tar", "table"):
        with pytest.raises(
            CausalFTError, match=f"is a folder, and format {kind} reads a file; name the file"
        ):
            open_images(pets, format=kind)
    with pytest.raises(CausalFTError, match="holds no train....json"):
        open_images(pets, format="inaturalist")
    with pytest.raises(CausalFTError, match="imbalance_factor is not for"):
        open_images(pets, imbalance_factor=10)


def test_every_format_is_one_file_and_its_options_are_those_of_open_images() -> None:
    folder = Path(inspect.getfile(inspect.getmodule(FORMATS.kind))).parent
    assert set(FORMATS) == {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert len({kind.order for kind in FORMATS.values()}) == len(FORMATS)
    for kind in FORMATS.values():
        assert set(kind.options) <= set(inspect.signature(open_images).parameters), kind.name
        assert kind.several in ("", *FORMATS) and kind.reads in ("folder", "file", "either")


def test_the_page_has_a_row_for_every_format_profile_and_order() -> None:
    tables = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "tables.py"))
    assert len({row.count(" | ") for row in tables["formats"]().splitlines()[2:]}) == 1
    assert "| `causalft[data]` |" in tables["formats"]()
    for records, table in ((FORMATS, "formats"), (PROFILES, "profiles"), (ORDERS, "orders")):
        rows = tables[table]().splitlines()[2:]
        assert sorted(row.split("`")[1] for row in rows) == sorted(records)
    assert "| `cifar` | the binary version of CIFAR-10 or CIFAR-100 |" in tables["formats"]()


def test_names_of_formats_and_tails_are_listed_and_refused_without_numpy() -> None:
    code = (
        "import sys\n"
        "from causalft.data.formats import FORMATS\n"
        "from causalft.data.tails import ORDERS, PROFILES\n"
        "from causalft.errors import CausalFTError\n"
        "try:\n"
        "    FORMATS.get_or_refuse('tabel')\n"
        "except CausalFTError as error:\n"
        "    print(error, 'numpy' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "no format is named 'tabel'; did you mean 'table' or 'tar' or 'stl'? False\n"
