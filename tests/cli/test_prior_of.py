"""``prior estimate --prior-of``: the known prior beside the estimate, and one line for wrong counts."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalft.data.groups import GROUPS
from causalft.errors import CausalFTError
from causalft.methods.priors import bootstrap_prior, compare_priors, kl_divergence, rank_correlation
from tests import command_line
from tests.command_line import said

NAMES = [f"great_{letter}-shark" for letter in "abcdefghij"]
K = len(NAMES)
PRIOR = 60.0 ** (-np.arange(K) / (K - 1))

run = partial(command_line.run, "prior", "estimate")


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    """Bayes logits of Gaussian classes under PRIOR, and balanced labels."""
    rng = np.random.default_rng(0)
    labels, centres = np.repeat(np.arange(K), 20), 1.3 * rng.normal(size=(K, 4))
    x = centres[labels] + rng.normal(size=(len(labels), 4))
    return np.log(PRIOR) - 0.5 * ((x[:, None] - centres) ** 2).sum(-1), labels


@pytest.fixture
def folder(tmp_path: Path, sample: tuple[np.ndarray, np.ndarray]) -> Path:
    logits, labels = sample
    np.savez(tmp_path / "zs.npz", logits=logits, label=labels)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    write_counts(tmp_path / "counts.tsv", range(K))
    return tmp_path


def write_counts(path: Path, classes: object, extra: str = "") -> None:
    lines = [f"Great {chr(97 + k)} (shark)\t{round(1e5 * PRIOR[k])}" for k in classes]  # type: ignore[attr-defined]
    path.write_text("\n".join(lines) + extra)


def estimate(folder: Path, *options: object) -> dict:
    options = ("--logits", folder / "zs.npz", "--classes", folder / "names.txt", "--n-boot", 40, *options)
    result = run(*options, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["estimates"][0]


def test_known_and_estimated_prior_are_compared(folder, sample) -> None:
    document = estimate(folder, "--prior-of", f"zs={folder / 'counts.tsv'}")
    counts = np.rint(1e5 * PRIOR)
    expected = compare_priors(counts, bootstrap_prior(*sample, n_boot=40))
    truth = document["truth"]
    assert truth["source"] == str(folder / "counts.tsv") and len(truth["sha256"]) == 64
    assert truth["imbalance"] == pytest.approx(counts[0] / counts[-1]) and truth["n_known"] == K
    assert truth["n_inside_ci95"] == expected.n_inside >= 8
    assert truth["share_inside_ci95"] == expected.n_inside / K
    assert truth["groups"] == expected.group_counts and truth["n_same_group"] == expected.n_same_group
    rows = document["classes"]
    np.testing.assert_allclose([row["true_prior"] for row in rows], counts / counts.sum())
    assert [row["true_group"] for row in rows] == ["many"] * 3 + ["medium"] * 3 + ["few"] * 4


def test_a_class_without_a_count_is_reported_and_left_out(folder) -> None:
    write_counts(folder / "part.tsv", range(1, K), "\nwhale\t4\n")
    document = estimate(folder, "--prior-of", f"zs={folder / 'part.tsv'}")
    truth, first = document["truth"], document["classes"][0]
    assert truth["n_known"] == K - 1 and first["true_prior"] is None and first["true_group"] == "unknown"
    assert truth["notes"][1:] == [
        "zs: no count for 1 class, left out of the P groups and slopes: great_a-shark",
        "zs: 1 count is for no class of the data: whale",
    ]
    printed = run(
        *("--logits", folder / "zs.npz", "--classes", folder / "names.txt", "--n-boot", 40),
        *("--prior-of", f"zs={folder / 'part.tsv'}", "--out", folder / "rows.csv"),
    )
    assert printed.exit_code == 0, printed.output
    text = " ".join(printed.output.split())
    assert "left out of the P groups and slopes: great_a-shark" in text
    assert f"of {K - 1} known classes inside their interval" in text and "known few: 0 estimated many" in text
    rows = pd.read_csv(folder / "rows.csv")
    assert rows["true_prior"].isna().sum() == 1 and rows["true_group"].tolist()[0] == "unknown"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prior-of", "clip={0}/counts.tsv"], "--prior-of clip: no model is called so; known: zs"),
        (["--prior-of", "zs={0}/few.tsv"], "a count for only 3 of 10 classes; not for great_d-shark"),
        (["--prior-of", "zs={0}/few.tsv"], "for 'great_d-shark' did you mean 'Great"),
        (["--prior-of", "zs={0}/few.tsv"], "with --prior-map FILE"),
        (
            ["--prior-of", "zs={0}/negative.tsv"],
            "the count of 'Great a (shark)' is '-3'; a count is 0 or more",
        ),
        (["--prior-of", "zs={0}/none.tsv"], "no such file or folder"),
        (["--prior-of", "zs"], "--prior-of 'zs' is not NAME=FILE"),
        (["--zero-counts", "unknown"], "--zero-counts goes with --prior-of NAME=FILE"),
        (["--prior-of", "zs={0}/counts.tsv", "--prior-map", "{0}/map.csv"], "which is no class of the data"),
    ],
)
def test_wrong_counts_get_one_line(folder, options, words) -> None:
    write_counts(folder / "few.tsv", range(3))
    (folder / "negative.tsv").write_text("Great a (shark)\t-3\n")
    (folder / "map.csv").write_text("great z shark,Great a (shark)\n")
    given = [option.format(folder) for option in options]
    result = run("--logits", folder / "zs.npz", "--classes", folder / "names.txt", *given)
    assert result.exit_code == 2 and words in said(result)


def test_priors_that_agree_and_differ_in_closed_form() -> None:
    same = compare_priors(PRIOR, PRIOR / PRIOR.sum())
    assert (same.kl, same.spearman, same.n_same_group, same.n_inside) == (0.0, 1.0, K, None)
    p, q = PRIOR / PRIOR.sum(), PRIOR[::-1] / PRIOR.sum()
    turned = compare_priors(7 * p, q)
    assert turned.kl == pytest.approx(float((p * np.log(p / q)).sum())) and turned.spearman == -1.0
    assert turned.group_counts["many"] == {"many": 0, "medium": 0, "few": 3}
    assert turned.to_json()["share_inside_ci95"] is None


def test_unknown_classes_change_neither_ranks_nor_shares_of_the_others(sample) -> None:
    found = bootstrap_prior(*sample, n_boot=40)
    part = PRIOR.copy()
    part[[0, 4]] = np.nan
    kept = ~np.isnan(part)
    q = found.estimate.prior[kept] / found.estimate.prior[kept].sum()
    p = part[kept] / part[kept].sum()
    one = compare_priors(part, found)
    assert one.kl == pytest.approx(kl_divergence(p, q)) and one.spearman == rank_correlation(p, q)
    assert sum(one.group_counts[a][b] for a in GROUPS for b in GROUPS) == one.n_known == K - 2
    low, high = found.log_prior[kept].T - np.log(found.estimate.prior[kept].sum())
    assert one.n_inside == int(((low <= np.log(p)) & (np.log(p) <= high)).sum())
    with pytest.raises(CausalFTError, match="a comparison needs two or more"):
        compare_priors([1.0] + [np.nan] * (K - 1), found)
