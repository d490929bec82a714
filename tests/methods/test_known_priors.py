"""Known priors: read from files of counts, with what did not match, and zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from causalft.errors import CausalFTError
from causalft.methods.priors import read_known_priors

CLASSES = ("cat", "dog", "lynx", "wolf")


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    path = tmp_path / "counts.txt"
    path.write_text("Cat\t300\ndog\t100\nlynx\t0\neel\t5\n")
    return path


def test_a_count_of_zero_is_rarer_than_every_class_that_was_seen(counts: Path) -> None:
    found = read_known_priors([f"clip={counts}"], ["clip"], CLASSES)["clip"]
    np.testing.assert_array_equal(found.counts, [300, 100, 0, np.nan])
    np.testing.assert_allclose(found.log_counts, np.log([300, 100, 50, np.nan]))
    np.testing.assert_allclose(found.prior, [300 / 450, 100 / 450, 50 / 450, np.nan])
    assert found.known.tolist() == [True, True, True, False]
    assert found.notes(CLASSES) == [
        f"clip: 3 of 4 classes have a count in {counts}",
        "clip: no count for 1 class, left out of the P groups and slopes: wolf",
        "clip: 1 count is for no class of the data: eel",
        "clip: 1 count is 0, taken as seen zero times (--zero-counts unknown if they mean no entry): lynx",
    ]


def test_zeros_that_mean_no_entry_are_unknown(counts: Path) -> None:
    found = read_known_priors({"clip": str(counts)}, None, CLASSES, zeros_unknown=True)["clip"]
    np.testing.assert_array_equal(found.counts, [300, 100, np.nan, np.nan])
    np.testing.assert_allclose(found.prior, [0.75, 0.25, np.nan, np.nan])
    assert found.notes(CLASSES)[-1] == "clip: 1 count is 0, taken as unknown and left out: lynx"


def test_shares_and_counts_give_one_prior(tmp_path: Path) -> None:
    for name, scale in (("a", 1.0), ("b", 1 / 700)):
        lines = [f"{c}\t{n * scale!r}" for c, n in zip(CLASSES, (500.0, 150.0, 50.0, 0.0), strict=True)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines))
    found = read_known_priors([f"{name}={tmp_path / name}.tsv" for name in "ab"], "ab", CLASSES)
    np.testing.assert_allclose(found["a"].prior, found["b"].prior)
    assert found["a"].sha256 != found["b"].sha256 and len(found["a"].sha256) == 64


def test_all_classes_are_required_by_name(counts: Path) -> None:
    found = read_known_priors([f"clip={counts}"], ["clip"], CLASSES)["clip"]
    with pytest.raises(
        CausalFTError, match=r"GLA needs the count of every class, and .* has none for 1 class \(wolf\)"
    ):
        found.require_all(CLASSES, "GLA")
    known = read_known_priors([f"clip={counts}"], ["clip"], CLASSES[:3])["clip"]
    np.testing.assert_array_equal(known.require_all(CLASSES[:3], "GLA"), known.prior)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["{file}"], "is not NAME=FILE"),
        (["={file}"], "is not NAME=FILE"),
        (["clip="], "names no file; give NAME=FILE"),
        (["clip={file}", "clip={file}"], "gives 'clip' twice; keep one file"),
        (["clp={file}"], "no model is called so; did you mean 'clip'"),
        (["clip={file}x"], "no such file or folder; in .* did you mean 'counts.txt'"),
    ],
)
def test_bad_options_get_one_line(counts: Path, given: list[str], words: str) -> None:
    with pytest.raises(CausalFTError, match=words):
        read_known_priors([each.format(file=counts) for each in given], ["clip", "openclip"], CLASSES)


def test_counts_that_tell_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "zeros.txt").write_text("cat\t0\ndog\t0\n")
    with pytest.raises(CausalFTError, match="every count of .*zeros.txt is 0 for the classes of the data"):
        read_known_priors([f"clip={tmp_path}/zeros.txt"], None, CLASSES)
    (tmp_path / "one.txt").write_text("cat\t7\ndog\t0\n")
    with pytest.raises(CausalFTError, match="for only one class of the data"):
        read_known_priors([f"clip={tmp_path}/one.txt"], None, CLASSES, zeros_unknown=True)


def test_a_map_to_a_name_in_no_file_is_refused(counts: Path, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("wolf,eel\n")
    given = [f"clip={counts}"]
    found = read_known_priors(given, None, CLASSES, prior_map=tmp_path / "map.csv")["clip"]
    assert found.counts.tolist() == [300, 100, 0, 5] and found.matched.missing == ()
    (tmp_path / "map.csv").write_text("wolf,eele\n")
    with pytest.raises(
        CausalFTError, match="maps 'wolf' to 'eele', which no file of .* has; did you mean 'eel'"
    ):
        read_known_priors(given, None, CLASSES, prior_map=tmp_path / "map.csv")
    with pytest.raises(CausalFTError, match="goes with"):
        read_known_priors([], None, CLASSES, prior_map=tmp_path / "map.csv")


def test_public_zeros_of_places_mean_no_entry(public_tables: Path) -> None:
    folder = public_tables / "pretraining-counts"
    path = folder / "class_frequency_metaclip_400m_places365_ori.txt"
    classes = [line.split("\t")[0].replace("_", " ") for line in path.read_text().splitlines()]
    seen, unknown = (
        read_known_priors([f"metaclip={path}"], None, classes, zeros_unknown=flag)["metaclip"]
        for flag in (False, True)
    )
    assert seen.known.sum() == 365 and unknown.known.sum() == 225
