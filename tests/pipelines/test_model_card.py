"""The model card: front matter that the hub reads, the numbers of metrics.json, and the notes that keep it honest."""

from __future__ import annotations

import copy
import re

import pytest
import yaml

from causalft.errors import CausalFTError
from causalft.methods.priors import prior_caveat
from causalft.models.strata.zoo import pretraining_losses
from causalft.pipelines.pages import model_card as card_module
from causalft.pipelines.pages.model_card import model_card
from causalft.runs.folder import Run
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("card") / "run", tiny_zoo, photos)


@pytest.fixture(scope="module")
def found(fitted):
    return Run.open(fitted)


def sections(text):
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table(section):
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def test_the_front_matter_is_what_the_hub_reads(found):
    text = model_card(found.config, found.metrics, licence="cc-by-4.0")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == "causalft" and front["license"] == "cc-by-4.0"
    assert {"long-tailed", "image-classification"} <= set(front["tags"])
    [result] = front["model-index"][0]["results"]
    accuracy = found.metrics["fused"]["accuracy"]
    assert result["metrics"][0] == {"type": "accuracy", "value": pytest.approx(accuracy, abs=1e-4)}
    mini = {**found.metrics, "zoo": "mini"}
    assert yaml.safe_load(model_card(found.config, mini).split("---\n")[1])["license"] == "apache-2.0"
    assert yaml.safe_load(model_card(found.config, found.metrics).split("---\n")[1])["license"] == "other"


def test_card_numbers_agree_with_metrics(found):
    metrics = found.metrics
    parts = sections(model_card(found.config, metrics))
    for name, digest in metrics["weights"].items():
        assert digest in parts["Strata"]
        assert f"{metrics['strata'][name]['n_tuned']:,}" in parts["Cost"]
    header, _, *rows = table(parts["Accuracy by group"])
    by_model = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    for name in ("clip", "openclip"):
        row, stratum = by_model[name], metrics["strata"][name]
        assert float(row["all"].split(" [")[0]) == pytest.approx(100 * stratum["accuracy"], abs=0.05)
        for kind in ("D", "P"):
            for group, value in stratum[kind].items():
                shown = row[f"{kind}-{group}"].split(" [")[0]
                assert shown == ("–" if value is None else f"{100 * value:.1f}")
    low, high = metrics["fused"]["ci95"]
    assert by_model["**fused**, P by clip"]["all"].endswith(f"[{100 * low:.1f}, {100 * high:.1f}]")
    assert f"{metrics['fused']['temperature']:.3f}" in parts["Calibration"]
    gap = metrics["own_minus_off_gap"]
    [own] = [row for row in table(parts["Parameter imbalance"]) if row[0].startswith("the same, own minus")]
    assert own[1].startswith(f"{100 * gap['before']['estimate']:.1f}")
    assert own[2].startswith(f"{100 * gap['after']['estimate']:.1f}")
    assert metrics["data"]["fingerprint"] in parts["Data"]


def test_card_names_estimated_stratum_prior_and_temperatures(found):
    mixing = {"stratum_prior_ci95": [[0.2, 0.6], [0.4, 0.8]], "stratum_temperatures": [1.25, 0.5]}
    parts = sections(model_card(found.config, {**found.metrics, "mixing": mixing}))
    assert [row[-1] for row in table(parts["Strata"])[2:]] == ["0.5 [0.20, 0.60]", "0.5 [0.40, 0.80]"]
    assert ["temperature of openclip before the fusion", "0.500"] in table(parts["Calibration"])


def test_card_lists_caveats(found):
    text = " ".join(model_card(found.config, found.metrics).split())
    assert "not the weights that OpenAI, LAION or Meta released" in text
    assert "The images are not part of this model" in text
    real = {**found.metrics, "zoo": "pretrained"}
    real["sources"] = {"clip": "open_clip ViT-B-16-quickgelu/openai", "openclip": "open_clip X/y"}
    text = " ".join(model_card(found.config, real).split())
    assert "minis" not in text and "MIT (OpenAI's CLIP)" in text and "not known here" in text
    product = copy.deepcopy(found.metrics)
    product["fused"]["fusion"] = "product"
    assert "which is not Eq. 7" in model_card(found.config, product)


def test_card_limits_depend_on_the_pretraining_loss(found):
    mixed = copy.deepcopy(found.metrics)
    mixed["strata"]["openclip"]["pretraining_loss"] = "in-batch"
    limits = sections(model_card(found.config, mixed))["Limits"]
    assert f"- clip: {prior_caveat('caption-bank')}\n" in limits
    assert f"- openclip: {card_module._text(prior_caveat('in-batch'))}\n" in limits
    assert "in-batch" not in sections(model_card(found.config, found.metrics))["Limits"]


def test_older_run_takes_the_pretraining_loss_from_matching_cards(found, tmp_path):
    old = copy.deepcopy(found.metrics)
    for stratum in old["strata"].values():
        del stratum["pretraining_loss"]
    assert pretraining_losses(old) == {"clip": "caption-bank", "openclip": "caption-bank"}
    limits = sections(model_card(found.config, old))["Limits"]
    assert limits == sections(model_card(found.config, found.metrics))["Limits"]
    gone = tmp_path / "gone"
    assert set(pretraining_losses({**old, "zoo": str(gone)}).values()) == {"unknown"}
    assert pretraining_losses({**old, "zoo": str(gone)}, old["zoo"]) == pretraining_losses(old)
    old["weights"] = {**old["weights"], "clip": "0" * 64}
    assert pretraining_losses(old) == {"clip": "unknown", "openclip": "caption-bank"}


def test_card_names_gla_ft_and_its_cost(found):
    assert "every stratum once" in sections(model_card(found.config, found.metrics))["Cost"]
    doubled = copy.deepcopy(found.metrics)
    for stratum in doubled["strata"].values():
        stratum["gla"] = True
    text = model_card(found.config, doubled)
    assert "those of the zero-shot model, debiased, are added (GLA-FT)" in text
    cost = sections(text)["Cost"]
    assert "every stratum twice" in cost and "every stratum once" not in cost


def test_names_cannot_break_the_page(found):
    odd = copy.deepcopy(found.metrics)
    odd["data"]["name"] = "my | photos\n## <b>[x](y)"
    text = model_card({"tuning": {"template": "a `|` {}"}}, odd)
    assert "\n## <b>" not in text and "\\<b>" in text and "\\[x](y)" in text
    rows = table(sections(text)["Recipe"].replace("\\|", "/"))
    assert ["`template`", "`a '/' {}`"] in rows and {len(row) for row in rows} == {2}


def test_card_of_one_stratum(found):
    alone = copy.deepcopy(found.metrics)
    alone["strata"] = {"clip": alone["strata"]["clip"]}
    alone["fused"]["P"] = {"clip": alone["fused"]["P"]["clip"]}
    for key in ("P_gap", "own_minus_off_gap", "prior_slope", "controls"):
        alone[key] = None
    text = model_card(found.config, alone)
    assert (
        "needs two strata or more" in text
        and "one frozen foundation model:" in text
        and "were fused" not in text.split("##")[0]
    )


def test_card_command_prints_or_writes_without_local_paths(fitted, photos, tmp_path):
    printed = run("card", fitted).stdout
    assert printed.startswith("---\n") and str(photos.parent) not in printed
    assert f"causalft fit --strata clip,openclip --data {photos.name}" in printed
    assert run("card", fitted, "--out", tmp_path / "README.md").exit_code == 0
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == printed
    assert "no such run folder" in said(run("card", tmp_path / "gone"))
    with pytest.raises(CausalFTError, match="'strata' is missing"):
        model_card({}, {"zoo": "mini"})


def test_card_is_in_words_and_not_in_keys(found):
    text = model_card(found.config, found.metrics)
    groups = sections(text)["Accuracy by group"]
    assert (
        "best single stratum by validation" in groups and "mean of log-probabilities of the strata" in groups
    )
    assert "best_single" not in text and "logit_mean" not in text and "## Reproduce" in text
