"""Logits at real size: half precision above 200 classes, mapped files, blocks of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import save_file
from scipy.special import softmax

from causalft.errors import CausalFTError
from causalft.methods.estimators import stored_logits
from causalft.methods.estimators.fusion import FUSIONS, fit_temperature, fuse, nll
from causalft.methods.estimators.mixing import fit_mixing
from causalft.methods.estimators.probabilities import log_probabilities
from causalft.methods.estimators.stored_logits import (
    SummedLogits,
    as_kept,
    map_tensors,
    read_rows,
    row_blocks,
    stored_bytes,
)

UNFITTED = [name for name, rule in FUSIONS.items() if not rule.adjusts]


@given(st.integers(0, 400), st.integers(1, 300_000))
def test_blocks_cover_every_row_once(n: int, n_columns: int) -> None:
    covered = [row for rows in row_blocks(n, n_columns) for row in range(rows.start, rows.stop)]
    assert covered == list(range(n))
    assert all((b.stop - b.start) * n_columns <= max(n_columns, 131_072) for b in row_blocks(n, n_columns))


def logits_of(n: int, n_classes: int, scale: float = 8.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (20 + scale * rng.normal(size=(n, n_classes))).astype(np.float32)


def test_up_to_200_classes_logits_are_kept_as_computed() -> None:
    logits = logits_of(50, 200)
    assert as_kept(logits).dtype == np.float32 and np.array_equal(as_kept(logits), logits)


def test_half_precision_keeps_the_prediction_and_almost_every_probability() -> None:
    logits = logits_of(2000, 201, scale=3.0)
    kept = as_kept(logits)
    assert kept.dtype == np.float16
    assert np.array_equal(kept.argmax(axis=1), logits.argmax(axis=1))
    exact = softmax(logits.astype(float), axis=1)
    assert np.abs(np.exp(log_probabilities(kept, "logits")) - exact).max() < 5e-4
    labels = np.arange(2000) % 201
    assert nll(kept, labels, kind="logits") == pytest.approx(nll(logits, labels, kind="logits"), abs=1e-4)


def test_half_precision_tells_the_nearest_float32_logits_apart() -> None:
    logits = np.zeros((1, 300), dtype=np.float32)
    logits[0, 7] = 30.0
    logits[0, 9] = np.nextafter(np.float32(30.0), np.float32(31.0))
    assert as_kept(logits)[0].argmax() == 9 and as_kept(logits)[0, 7] < 0


def test_half_precision_of_far_logits_is_finite() -> None:
    logits = np.zeros((1, 300), dtype=np.float32)
    logits[0, 0] = 1e6
    assert (
        np.isfinite(as_kept(logits)).all() and np.isfinite(log_probabilities(as_kept(logits), "logits")).all()
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_mapped_tensors_are_those_of_the_file(tmp_path, dtype) -> None:
    rng = np.random.default_rng(1)
    arrays = {
        "odd": np.arange(3),
        "logits": rng.normal(size=(5, 7)).astype(dtype),
        "none": np.empty((0, 7), dtype=dtype),
    }
    save_file(arrays, tmp_path / "x.safetensors", {"member": "{}"})
    found, metadata = map_tensors(tmp_path / "x.safetensors")
    assert metadata == {"member": "{}"} and set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    assert np.array_equal(read_rows(found["logits"], slice(1, 3)), arrays["logits"][1:3].astype(float))
    assert np.array_equal(found["logits"], arrays["logits"])  # also after its pages were released


def test_a_cut_off_file_is_refused(tmp_path) -> None:
    save_file({"logits": np.zeros((50, 7))}, tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[:-8])
    with pytest.raises(SafetensorError):
        map_tensors(tmp_path / "x.safetensors")


def test_stored_bytes_are_those_of_the_arrays() -> None:
    for n_classes in (200, 201):
        one = as_kept(logits_of(3, n_classes))
        assert stored_bytes(1, 2, n_classes) == 2 * one.nbytes


@pytest.mark.parametrize("fusion", UNFITTED)
@pytest.mark.parametrize("prior", [None, "em"])
def test_blocks_change_no_number(monkeypatch, fusion: str, prior: str | None) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(3, 90, 6)) * 3
    labels = rng.integers(6, size=90)

    def everything():
        mixing = fit_mixing(
            logits, labels, fusion=fusion, stratum_prior=prior, calibrate_strata=True, kind="logits"
        )
        return mixing, mixing(logits, kind="logits"), fuse(logits, fusion=fusion, kind="logits")

    whole = everything()
    monkeypatch.setattr(stored_logits, "_BLOCK", 42)  # seven rows
    blocks = everything()
    assert blocks[0].temperature == pytest.approx(whole[0].temperature, rel=1e-9)
    np.testing.assert_allclose(blocks[0].stratum_prior, whole[0].stratum_prior, rtol=1e-9)
    np.testing.assert_allclose(blocks[1], whole[1], rtol=1e-9)
    np.testing.assert_allclose(blocks[2], whole[2], rtol=1e-12)


def test_a_bad_row_of_a_later_block_is_named(monkeypatch) -> None:
    monkeypatch.setattr(stored_logits, "_BLOCK", 4)
    probs = np.full((2, 9, 2), 0.5)
    probs[1, 7] = [0.5, 0.7]
    with pytest.raises(CausalFTError, match=r"member 1: the probabilities of row 7 sum to 1.2"):
        fuse(probs, kind="probabilities")
    with pytest.raises(CausalFTError, match=r"\(row 7 sums to 1.2\)"):
        fit_temperature(probs[1], np.zeros(9, int))
    probs[1, 7] = [np.nan, 0.5]
    with pytest.raises(CausalFTError, match=r"row 1, 7 holds nan for class 0"):
        log_probabilities(probs)


def test_summed_logits_are_computed_where_they_are_read() -> None:
    rng = np.random.default_rng(3)
    first, second, shift = (
        rng.normal(size=(5, 4)),
        rng.normal(size=(5, 4)).astype(np.float32),
        rng.normal(size=4),
    )
    found = SummedLogits(first, second, shift)
    np.testing.assert_allclose(np.asarray(found), first + second + shift)
    np.testing.assert_allclose(found[2:4], (first + second + shift)[2:4])
    labels = rng.integers(4, size=5)
    assert nll(found, labels, kind="logits") == pytest.approx(
        nll(first + second + shift, labels, kind="logits")
    )


def test_pages_of_a_mapped_file_are_released_through_views(tmp_path) -> None:
    released = []

    class Mapped:
        def madvise(self, advice: int) -> None:
            released.append(advice)

    save_file({"logits": np.arange(12.0).reshape(4, 3)}, tmp_path / "x.safetensors")
    found = map_tensors(tmp_path / "x.safetensors")[0]["logits"]
    plain = np.asarray(found)[1:]  # no longer a memmap itself
    assert not hasattr(plain, "_mmap")
    base = found.base
    while not hasattr(base, "_mmap"):
        base = base.base
    found._mmap = base._mmap = Mapped()
    assert read_rows(plain, slice(0, 2)).tolist() == [[3, 4, 5], [6, 7, 8]]
    assert len(released) == 1
