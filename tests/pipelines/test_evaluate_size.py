"""The evaluation of a stored run in blocks gives the numbers of the path that holds every probability in memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax

from causalft import diagnose
from causalft.analysis.diagnosis.classes import worst_classes
from causalft.methods.estimators import fusion, stored_logits
from causalft.methods.estimators.member import PREDICTIONS, open_prediction

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import evaluate_size  # noqa: E402

N_SEEDS = 2
SIZE = evaluate_size.Size(3000, 440, 660, 220, N_SEEDS, True)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The folder of a finished run, and its metrics; evaluated in blocks of nine rows, in tables of float32."""
    folder = tmp_path_factory.mktemp("size") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_logits, "_BLOCK", 2000)
        patch.setattr(fusion, "_DOUBLE_ENTRIES", 1000)
        evaluate_size.write_run(folder, SIZE)
        return folder, evaluate_size.evaluate_run(folder, SIZE)


@pytest.fixture(scope="module")
def in_memory(evaluated):
    """Logits of every member as float64: name to (S, n, K), of validation and test images."""
    folder, _ = evaluated
    found = {}
    for name in SIZE.names:
        where = "strata" if name in SIZE.strata else "controls"
        roots = [folder, *(folder / "seeds" / str(seed) for seed in range(1, N_SEEDS))]
        members = [open_prediction(root / where / name / PREDICTIONS)[0] for root in roots]
        found[name] = tuple(
            np.stack([np.array(getattr(m, part), dtype=float) for m in members])
            for part in ("validation_logits", "test_logits", "zero_shot_test")
        )
    return found


def calibrated(names, in_memory, labels):
    """Probabilities of the mixture of (S, n, K) logits, everything at once, and the temperatures."""
    fused, temperatures = [], []
    for seed in range(N_SEEDS):
        parts = [np.mean([softmax(in_memory[n][p][seed], axis=1) for n in names], axis=0) for p in (0, 1)]
        temperatures.append(fusion.fit_temperature(parts[0], labels, kind="probabilities"))
        fused.append(np.exp(log_softmax(np.log(parts[1]) / temperatures[-1], axis=1)))
    return np.stack(fused), temperatures


@pytest.fixture(scope="module")
def expected(in_memory):
    train, validation, test = evaluate_size.labels_of(SIZE)
    control = [SIZE.strata[0], *SIZE.names[3:]]
    fused, temperatures = calibrated(SIZE.strata, in_memory, validation)
    best = max(SIZE.strata, key=lambda name: np.mean([m.argmax(1) == validation for m in in_memory[name][0]]))
    counts = np.bincount(train, minlength=SIZE.n_classes)
    found = diagnose(
        test,
        counts,
        {name: softmax(in_memory[name][1], axis=2) for name in SIZE.strata},
        fused,
        {name: evaluate_size.label_prior(SIZE, name) for name in SIZE.strata},
        controls={
            "seeds": {
                "members": {name: softmax(in_memory[name][1], axis=2) for name in control},
                "fused": calibrated(control, in_memory, validation)[0],
                "prior_of": SIZE.strata[0],
                "kind": "pre-training",
            }
        },
        temperature=temperatures,
        best_single=best,
    )
    return found, fused, best, counts, test


def close(found, wanted, at="metrics"):
    """Numbers within 1e-6, everything else equal."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            close(found[key], value, f"{at}.{key}")
    elif isinstance(wanted, (list, tuple)):
        assert len(found) == len(wanted), at
        for place, (one, other) in enumerate(zip(found, wanted)):
            close(one, other, f"{at}[{place}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-6, nan_ok=True), at
    else:
        assert found == wanted, at


def test_every_number_of_the_diagnosis_is_that_of_the_whole_arrays(evaluated, expected) -> None:
    _, metrics = evaluated
    wanted = expected[0].to_metrics()
    del wanted["class_counts"]  # a list here, by name in a run
    wanted["fused"]["temperature"] = wanted["fused"]["temperature_per_seed"][0]  # of the saved classifier
    close(metrics, json.loads(json.dumps(wanted)))


def test_the_worst_classes_are_those_of_the_whole_arrays(evaluated, expected, in_memory) -> None:
    _, metrics = evaluated
    _, fused, best, counts, test = expected
    found = worst_classes(
        test,
        metrics["classes"],
        counts,
        fused,
        {name: evaluate_size.label_prior(SIZE, name) for name in SIZE.strata},
        single_probs=softmax(in_memory[best][1], axis=2),
        zero_shot=in_memory[best][2][0],
    )
    close(metrics["worst_classes"], [report.to_json() for report in found])


def test_gla_is_that_of_the_whole_arrays(evaluated, in_memory) -> None:
    _, metrics = evaluated
    _, _, test = evaluate_size.labels_of(SIZE)
    for name in SIZE.strata:
        _, tuned, zero_shot = in_memory[name]
        debiased = zero_shot - np.log(evaluate_size.label_prior(SIZE, name))
        assert metrics["strata"][name]["zero_shot"]["gla_accuracy"] == pytest.approx(
            (debiased[0].argmax(1) == test).mean()
        )
        right = ((debiased + tuned).argmax(axis=2) == test).mean()
        assert metrics["strata"][name]["gla_ft"]["accuracy"] == pytest.approx(right, abs=1e-9)


def test_predictions_keep_the_top_of_many_classes(evaluated, expected) -> None:
    folder, _ = evaluated
    table = pd.read_parquet(folder / "predictions.parquet")
    fused, test = expected[1][0], expected[4]
    np.testing.assert_allclose(table["label_probability"], fused[np.arange(len(test)), test], atol=1e-6)
    np.testing.assert_allclose(np.stack(table["top_probabilities"])[:, 0], fused.max(axis=1), atol=1e-6)


def test_a_page_of_many_classes_has_no_table_of_them(evaluated) -> None:
    folder, _ = evaluated
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 0 < page.count("<tr") < 100
    assert sum(name in page for name in evaluate_size.image_sets(SIZE).class_names) < 60


def test_a_damaged_member_is_named(tmp_path) -> None:
    from causalft.errors import CausalFTError

    (tmp_path / PREDICTIONS).write_bytes(b"nothing")
    with pytest.raises(CausalFTError, match="is damaged .*; remove it to fit this stratum again"):
        open_prediction(tmp_path / PREDICTIONS)
