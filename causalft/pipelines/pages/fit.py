"""The page of a ``fit`` run: facts, diagnosis, and the command that repeats it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from causalft.analysis.diagnosis.classes import ClassReport
from causalft.data.splits import Splits
from causalft.errors import several
from causalft.methods.adaptation.settings import default_tuning
from causalft.methods.estimators.fit_command import fit_command
from causalft.pipelines.pages.adjustment import adjustment_section
from causalft.pipelines.pages.diagnosis import class_section, diagnosis_sections, headline
from causalft.pipelines.pages.distill import distilled_section, distilled_sentences
from causalft.pipelines.pages.explain import map_section
from causalft.pipelines.pages.semi import semi_section
from causalft.report.html import Card, made_line, place_name, render_report
from causalft.runs.folder import Run
from causalft.runs.progress import named

__all__ = ["write_fit_report"]

Metrics = Mapping[str, Any]


@named("writing the report")
def write_fit_report(
    run: Run,
    metrics: Metrics,
    classes: Sequence[ClassReport] = (),
    splits: Splits | None = None,
    maps: Sequence[Card] = (),
) -> Path:
    """Write ``report.html`` and the figures of a ``fit`` run; return the path of the page.

    Parameters
    ----------
    run : Run
    metrics : mapping
        Content of its ``metrics.json``.
    classes : sequence of ClassReport
        The worst classes.
    splits : Splits, optional
        Their images, to be shown.
    maps : sequence of Card
        What the strata look at in some of them; as :func:`causalft.pipelines.workflows.class_maps.class_map_cards`.
    """
    strata = ", ".join(metrics["strata"])
    adjusted = adjustment_section(metrics, run.path / "figures")
    first, *others = diagnosis_sections(metrics, run.path / "figures")
    taught = [distilled_section(metrics["distilled"])] if metrics.get("distilled") else []
    learnt = []
    if metrics.get("semi"):
        learnt = [semi_section(metrics["semi"], metrics["class_counts"], run.path / "figures")]
    by_class = []
    if classes or splits is not None:
        images = (None, None) if splits is None else (splits.test, splits.train)
        by_class = [class_section(classes, metrics["controls"]["best_single"]["name"], *images)]
    page = render_report(
        title=f"{strata} on {place_name(metrics['data']['name'])}",
        verdict=distilled_sentences(metrics["distilled"])[0] if taught else headline(metrics),
        details=metrics["conclusion"],
        made=made_line(metrics),
        facts=_facts(metrics, run.config["tuning"]),
        sections=[*taught, first, *adjusted, *learnt, *by_class, *map_section(maps), *others],
        command=fit_command(run.config, str(run.path)),
    )
    return run.write_page(page)


def _tuning_words(tuning: Metrics, metrics: Metrics) -> str:
    """Describe the tuning in one line."""
    tuning = {**vars(default_tuning(str(metrics["zoo"]))), **tuning}
    rates = sorted({found["lr"] for found in metrics["strata"].values() if "lr" in found})
    precision = sorted({found["precision"] for found in metrics["strata"].values() if "precision" in found})
    gla = any(found.get("gla") for found in metrics["strata"].values())
    added = "; debiased zero-shot logits are added (GLA-FT)" if gla else ""
    return (
        f"{tuning['tuner']}, {tuning['head']} head from {tuning['head_start']}, loss {tuning['loss']}, sampler "
        f"{tuning['sampler']}, {several(range(tuning['epochs']), 'epoch', 'epochs')} of batches of "
        f"{tuning['batch_size']}, learning rate "
        f"{', '.join(f'{rate:g}' for rate in rates)}; {', '.join(precision)}{added}"
    )


def _facts(metrics: Metrics, tuning: Metrics) -> dict[str, str]:
    data, fused = metrics["data"], metrics["fused"]
    prior = ", ".join(f"{name} {p:.3g}" for name, p in fused["stratum_prior"].items())
    weights = ", ".join(f"{name} {digest[:12]}" for name, digest in metrics["weights"].items())
    zoo = str(metrics["zoo"])
    if zoo == "mini":
        zoo = "mini: small models that this project pre-trained on the embedded world, not the real weights"
    facts = {
        "zoo": zoo,
        "weights (sha256)": weights,
        "data": f"{data['name']}: {len(metrics['class_counts'])} classes",
        "images": f"{data['n_train']} train, {data['n_validation']} validation, {data['n_test']} test",
        "seeds": str(metrics["n_seeds"]),
        "tuning": _tuning_words(tuning, metrics),
        "fusion": f"{fused['fusion']}, P(c): {prior}; temperature {fused['temperature']:.3f}",
        "negative log-likelihood": f"{fused['nll']:.3f} nats, calibration error {100 * fused['ece']:.1f} %",
    }
    if data.get("imbalance_factor") is not None:
        facts["images"] += f"; imbalance factor {data['imbalance_factor']:.3g}"
    if data.get("notes"):
        facts["notes"] = "; ".join(data["notes"])
    return facts
