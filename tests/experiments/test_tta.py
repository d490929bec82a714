"""The metrics of the experiment on test-time adaptation, on answers whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import tta
from experiments.frame.claims import judge
from experiments.frame.streams import (
    CLEAN,
    FUSED,
    LONG_TAIL,
    NOTHING,
    SHIFTED,
    Answers,
    gain_rows,
    stream_metrics,
    streams_of,
)

K, N, SEEDS = 6, 600, 3
METHODS = {"tent": 0.5, "cliptta": 0.6, "bn": 0.7}


def made_up(on_shifted: dict[str, float]) -> Answers:
    """The unadapted model is right for half of the images, everywhere; methods differ on shifted images only."""
    rng = np.random.default_rng(0)
    streams = (CLEAN, *SHIFTED, LONG_TAIL)
    labels = {name: rng.integers(K, size=N) for name in streams}
    found = Answers(labels, collapsed=dict.fromkeys(METHODS, 0))

    def answer(truth: np.ndarray, luck: np.ndarray, share: float) -> np.ndarray:
        return np.where(luck < share, truth, (truth + 1) % K)

    for seed in range(SEEDS):
        for who in ("clip", FUSED):
            for name, truth in labels.items():
                if who == FUSED and name in SHIFTED:
                    continue
                luck = np.random.default_rng([seed, streams.index(name)]).random(N)
                for method, share in {NOTHING: 0.5, **on_shifted}.items():
                    # a few answers change at random, so that there is an interval
                    other = np.random.default_rng([seed, len(method)]).random(N) < 0.05 * (method != NOTHING)
                    luck_of = np.where(other, np.random.default_rng([seed, 7]).random(N), luck)
                    right = share if name in SHIFTED else 0.5
                    found.of.setdefault((who, name, method), []).append(answer(truth, luck_of, right))
    return found


def test_gains_are_those_of_the_made_up_answers_and_claims_follow() -> None:
    metrics = stream_metrics(made_up(METHODS))
    for method, share in METHODS.items():
        assert metrics["shifted"][method]["estimate"] == pytest.approx(share - 0.5, abs=0.03)
    assert metrics["between"]["estimate"] == pytest.approx(0.1, abs=0.03)
    verdicts = {claim.text: judge(claim, metrics).verdict for claim in tta.claims()}
    assert verdicts["On shifted images cliptta gains over doing nothing"] == "supported"
    assert verdicts["On shifted images cliptta gains more than tent"] == "supported"
    assert verdicts["On shifted images tent gains over doing nothing"] != "supported"
    assert all(judge(claim, metrics).numbers for claim in tta.claims())


def test_a_method_that_harms_contradicts_its_claim_and_is_counted() -> None:
    metrics = stream_metrics(made_up({**METHODS, "tent": 0.3}))
    verdicts = {claim.text: judge(claim, metrics).verdict for claim in tta.claims()}
    assert verdicts["On shifted images tent gains over doing nothing"] == "contradicted"
    worse = metrics["worse"]["tent"]["by a point"]
    assert worse["n"] == 11 * SEEDS and worse["hits"] >= 9 * SEEDS
    assert metrics["worse"]["bn"]["by a point"]["hits"] < 6


def test_balanced_accuracy_and_macro_f1_count_every_class_alike() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    always, half = np.zeros(100, int), np.where(np.arange(100) % 2 == 0, labels, 1 - labels)
    streams = (CLEAN, *SHIFTED, LONG_TAIL)
    found = Answers(dict.fromkeys(streams, labels), collapsed={"tent": 0})
    for name in streams:
        found.of["clip", name, NOTHING] = [always, always]
        found.of["clip", name, "tent"] = [half, half]
    of = stream_metrics(found)["streams"][LONG_TAIL]
    assert of[NOTHING]["accuracy"]["estimate"] == pytest.approx(0.9)
    assert of[NOTHING]["balanced"]["estimate"] == pytest.approx(0.5)
    assert of[NOTHING]["f1"]["estimate"] == pytest.approx((180 / 190) / 2)
    assert of["tent"]["gain"]["balanced"]["estimate"] == pytest.approx(0, abs=1e-12)


def test_streams_share_their_images_and_the_long_tail_is_one() -> None:
    labels = np.repeat(np.arange(20), 100)
    streams = streams_of(labels, 400)
    assert [stream.name for stream in streams] == [CLEAN, *SHIFTED, LONG_TAIL]
    assert all((stream.rows == streams[0].rows).all() for stream in streams[:-1])
    for stream in streams:
        assert len(set(stream.rows.tolist())) == len(stream.rows) == 400
    counts = np.sort(np.bincount(labels[streams[-1].rows], minlength=20))
    assert counts[-1] > 10 * max(1, counts[0])


def test_the_page_has_a_row_for_each_stream_and_a_section_for_the_fusion() -> None:
    metrics = stream_metrics(made_up(METHODS))
    assert len(gain_rows(metrics["streams"], "accuracy", list(METHODS))) == 11
    assert [section.title for section in tta.sections(metrics)] == ["Balanced accuracy", "Macro-F1", "Fused"]
    assert len(tta.draw(metrics)) == 1
