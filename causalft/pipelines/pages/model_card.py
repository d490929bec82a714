"""The model card of a run for a model hub: Markdown on data, weights, groups, cost and limits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from causalft.analysis.diagnosis.no_conclusion import grouped
from causalft.analysis.diagnosis.parameter_imbalance import flat_priors
from causalft.data.groups import GROUPS
from causalft.errors import CausalFTError
from causalft.methods.estimators.fit_command import fit_command
from causalft.methods.estimators.run_documents import portable, stored_precision
from causalft.methods.priors import prior_caveats
from causalft.models.strata.zoo import pretraining_losses
from causalft.pipelines.pages.adjustment import adjustment_line
from causalft.pipelines.pages.distill import distilled_sentences
from causalft.runs.folder import Run
from causalft.runs.intervals import interval_text
from causalft.runs.lifecycle import made_record
from causalft.runs.limits import BUILT_IN

__all__ = ["model_card", "run_card"]

Document = Mapping[str, Any]

# known licences, by the end of the source of the weights
_LICENCES = {
    "/openai": "MIT (OpenAI's CLIP)",
    "/laion2b_s34b_b88k": "MIT (LAION)",
    "/metaclip_400m": "CC BY-NC 4.0 (MetaCLIP): not for commercial use",
}


def run_card(
    run: Run, *, repo: str | None = None, licence: str | None = None, stored: str | None = None
) -> str:
    """Return the card of a complete ``fit`` run, with paths of this machine cut to their last part.

    Parameters
    ----------
    run : Run
    repo, licence, stored : str, optional
        As in :func:`model_card`; ``stored`` defaults to that of the files.

    Raises
    ------
    CausalFTError
        If ``metrics.json`` is not that of a fit.
    """
    if stored is None and (kept := stored_precision(run)):
        stored = f"{kept}, and used in float32"
    name = repo.rpartition("/")[2] if repo else os.path.basename(os.path.abspath(run.path))
    repeat = fit_command(run.config, f"runs/{name}")
    try:
        text = model_card(run.config, run.metrics, command=repeat, repo=repo, licence=licence, stored=stored)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        what = str(error) if isinstance(error, CausalFTError) else f"{type(error).__name__}: {error}"
        raise CausalFTError(
            f"{run.path / 'metrics.json'} is not that of a fit ({what}); make the run again"
        ) from error
    return portable(text, run.config)


def model_card(
    config: Document,
    metrics: Document,
    *,
    command: str | None = None,
    repo: str | None = None,
    licence: str | None = None,
    stored: str | None = None,
) -> str:
    """Return the card of a ``fit`` run as Markdown with the YAML front matter of the Hugging Face hub.

    Parameters
    ----------
    config : mapping
        ``Run.config``.
    metrics : mapping
        The document of ``metrics.json``.
    command : str, optional
        Command that repeats the run.
    repo : str, optional
        OWNER/NAME on a hub, for the usage example.
    licence : str, optional
        Licence of this model, as the hub names it; by default ``apache-2.0`` for embedded minis, else ``other``.
    stored : str, optional
        Precision of the stored tensors, if not float32.

    Raises
    ------
    CausalFTError
        If the documents are not of a complete ``fit`` run.

    Examples
    --------
    >>> model_card({}, {})
    Traceback (most recent call last):
    causalft.errors.CausalFTError: a model card needs the metrics of a complete fit run; 'strata' is missing
    """
    for key in ("strata", "fused", "data", "weights", "class_counts", "zoo"):
        if key not in metrics:
            raise CausalFTError(f"a model card needs the metrics of a complete fit run; {key!r} is missing")
    sections = [
        f"# {', '.join(metrics['strata'])} on {_text(metrics['data']['name'])}",
        _opening(metrics),
        "## What was found\n\n" + "\n".join(f"- {_text(line)}" for line in metrics.get("conclusion", ())),
        "## Use\n\n" + _use(repo),
        "## Data\n\n" + _data(metrics),
        "## Strata\n\n" + _strata(metrics),
        "## Recipe\n\n" + _recipe(config, metrics, stored),
        "## Accuracy by group\n\n" + _groups(metrics),
        "## Parameter imbalance\n\n" + _imbalance(metrics),
        "## Calibration\n\n" + _calibration(metrics),
        "## Cost\n\n" + _cost(metrics),
        "## Limits\n\n" + _limits(config, metrics),
        "## Reproduce\n\n" + _reproduce(command, metrics),
    ]
    return _front_matter(metrics, licence) + "\n\n".join(sections) + "\n"


def _front_matter(metrics: Document, licence: str | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    title = f"{', '.join(metrics['strata'])} on {metrics['data']['name']}"
    data = ModelCardData(
        library_name="causalft",
        pipeline_tag="image-classification",
        license=licence or ("apache-2.0" if metrics["zoo"] == "mini" else "other"),
        tags=["image-classification", "long-tailed", "backdoor-adjustment", "clip", "causalft"],
        metrics=["accuracy"],
        model_name=title,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type="image-folder",
                dataset_name=str(metrics["data"]["name"]),
                dataset_split="test",
                metric_type="accuracy",
                metric_value=round(float(metrics["fused"]["accuracy"]), 4),
            )
        ],
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _opening(metrics: Document) -> str:
    strata, fused = list(metrics["strata"]), metrics["fused"]
    n_classes = len(metrics["class_counts"])
    words = f"A long-tailed image classifier of {n_classes} classes. "
    distilled = metrics.get("distilled")
    words += "" if distilled else "Adapters and a head were tuned on "
    if distilled:
        teacher = distilled["teacher"]
        words += (
            f"One model was tuned to answer as a teacher does, the fusion ({teacher['fusion']}) of "
            f"{', '.join(teacher['strata'])}. {' '.join(distilled_sentences(distilled))}"
        )
    elif len(strata) == 1:
        words += "one frozen foundation model: with one stratum there is nothing to adjust for."
    else:
        words += (
            f"each of {len(strata)} frozen foundation models, and the models were fused by backdoor adjustment, "
            "P(Y | do(X)) = sum over strata c of P(Y | b, c) P(c) (Chen et al., ICML 2025, arXiv 2501.15955, Eq. 7)."
        )
    if _with_gla(metrics):
        words += (
            " To the logits of each tuned model those of the zero-shot model, debiased, are added (GLA-FT)."
        )
    if len(strata) > 1 and fused.get("fusion") not in (None, "mixture"):
        words += f" Here the fusion is `{fused['fusion']}`, which is not Eq. 7."
        if "adjustment" in metrics:
            words += f" For equal recall it takes out {adjustment_line(metrics['adjustment'])}."
    words += (
        f"\n\nTest accuracy {_percent(fused['accuracy'], fused.get('ci95'))} on {metrics['data']['n_test']} images, "
        f"{_count(metrics.get('n_seeds', 1), 'seed')}. The backbones are not part of this model; their hashes are "
        "below."
    )
    if metrics["zoo"] != "pretrained":
        words += (
            "\n\n**The strata are minis: small models pre-trained by the CausalFT project or its user, not the weights "
            "that OpenAI, LAION or Meta released, whatever their names.**"
        )
    return words


def _use(repo: str | None) -> str:
    place = "run" if repo is None else repo.rpartition("/")[2]
    pull = f"causalft pull {repo} --to {place}\n" if repo else ""
    return (
        f"```sh\n{pull}causalft predict {place} photo.jpg\n"
        f"causalft export {place} --to onnx\n```\n\n"
        f"```python\nfrom causalft import StrataClassifier, open_images\n\n"
        f'model = StrataClassifier.load("{place}")\n'
        f'probabilities = model.predict_proba(open_images("photos"))\n```'
    )


def _data(metrics: Document) -> str:
    data, counts = metrics["data"], metrics["class_counts"]
    by_size = sorted(counts, key=lambda name: -counts[name])
    rows = [
        ["data set", _text(data["name"])],
        ["images", f"{data['n_train']} train, {data['n_validation']} validation, {data['n_test']} test"],
        [
            "classes",
            f"{len(counts)}; training images from {counts[by_size[0]]} ({_text(by_size[0])}) to "
            f"{counts[by_size[-1]]} ({_text(by_size[-1])})",
        ],
    ]
    if data.get("imbalance_factor") is not None:
        rows.append(["imbalance factor", f"{data['imbalance_factor']:.3g}"])
    if data.get("fingerprint"):
        rows.append(["fingerprint (train)", f"`{data['fingerprint']}`"])
    rows += [["note", _text(note)] for note in data.get("notes", ())]
    return _table(["", ""], rows)


def _strata(metrics: Document) -> str:
    rows = []
    # an estimated P(c) has an interval
    intervals = (metrics.get("mixing") or {}).get("stratum_prior_ci95")
    estimated = dict(zip(metrics["strata"], intervals or (), strict=False))
    for name, stratum in metrics["strata"].items():
        source = str(metrics.get("sources", {}).get(name, "?"))
        zero_shot = (stratum.get("zero_shot") or {}).get("accuracy")
        rows.append(
            [
                _text(name),
                _text(source),
                f"`{metrics['weights'].get(name, '?')}`",
                _licence(source, str(metrics["zoo"]), stratum.get("licence")),
                _percent(zero_shot),
                _percent(stratum["accuracy"], stratum.get("ci95")),
                f"{metrics['fused'].get('stratum_prior', {}).get(name, float('nan')):.3g}"
                + (" [{:.2f}, {:.2f}]".format(*estimated[name]) if name in estimated else ""),
            ]
        )
    return _table(["stratum", "weights", "sha256", "licence", "zero-shot", "tuned", "P(c)"], rows)


def _licence(source: str, zoo: str, known: str | None) -> str:
    if known:
        return _text(known)
    if zoo == "mini":
        return "Apache-2.0 (this project)"
    found = [words for end, words in _LICENCES.items() if source.endswith(end)]
    return found[0] if found else "not known here: see where the weights come from"


def _recipe(config: Document, metrics: Document, stored: str | None) -> str:
    tuning = dict(config.get("tuning") or {})
    rows = [[_code(key), _code(value)] for key, value in tuning.items() if value is not None]
    rates = {name: stratum.get("lr") for name, stratum in metrics["strata"].items()}
    if len(config.get("learning_rates") or ()) > 1:
        chosen = ", ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate is not None)
        rows.append(["learning rate chosen on validation", _text(chosen)])
    rows.append(["`fusion`", _code(metrics["fused"].get("fusion", "?"))])
    if stored:
        rows.append(["tuned tensors stored in", _text(stored)])
    return _table(["setting", "value"], rows)


def _groups(metrics: Document) -> str:
    fused = metrics["fused"]
    header = ["model", "all", *(f"D-{group}" for group in GROUPS), *(f"P-{group}" for group in GROUPS)]
    rows = []
    for name, stratum in metrics["strata"].items():
        rows.append(
            [
                _text(name),
                _percent(stratum["accuracy"], stratum.get("ci95"), ""),
                *_cells(stratum.get("D"), stratum.get("D_ci95")),
                *_cells(stratum.get("P"), stratum.get("P_ci95")),
            ]
        )
    for number, (name, groups) in enumerate((fused.get("P") or {}).items()):
        first = number == 0
        rows.append(
            [
                f"**fused**, P by {_text(name)}",
                _percent(fused["accuracy"], fused.get("ci95"), "") if first else "",
                *(_cells(fused.get("D"), fused.get("D_ci95")) if first else [""] * 3),
                *_cells(groups, (fused.get("P_ci95") or {}).get(name)),
            ]
        )
    for name, control in (metrics.get("controls") or {}).items():
        of = f" ({_text(control['name'])})" if control.get("name") else ""
        data_groups = _cells(control.get("D"), control.get("D_ci95"))
        overall = _percent(control["accuracy"], control.get("ci95"), "")
        rows.append([f"{_control(name, control)}{of}", overall, *data_groups, "", "", ""])
    return (
        "Percent, with 95 % intervals. D groups are by training images of the class (more than 100, 20 to 100, fewer "
        "than 20), P groups by the pre-training prior of a stratum (its own, unless said): the highest 30 % "
        "of classes, the next 30 %, the last 40 %.\n\n" + _table(header, rows)
    )


def _control(name: str, control: Document) -> str:
    """What a control is, in the words of the field."""
    if name == "best_single":
        return f"best single stratum by {_text(control.get('chosen_on') or 'validation')}"
    return {"logit_mean": "mean of log-probabilities of the strata"}.get(name, f"control {_text(name)}")


def _imbalance(metrics: Document) -> str:
    measures = {
        "gap P-many minus P-few (points)": metrics.get("P_gap"),
        "the same, own minus other models (points)": metrics.get("own_minus_off_gap"),
    }
    if not flat_priors({name: found["label_prior"] for name, found in metrics["strata"].items()}):
        measures["accuracy per factor of 100 in the prior (points)"] = metrics.get("prior_slope")
    rows = [
        [what, _points(found.get("before")), _points(found.get("after")), _share(found.get("fall"))]
        for what, found in measures.items()
        if found
    ]
    if not rows:
        return "Not measured: it needs two strata or more."
    if reasons := metrics.get("no_conclusion"):
        listed = "\n".join(f"- {_text(reason)}" for reason in grouped(reasons))
        return f"These numbers allow no conclusion:\n\n{listed}\n\n" + _table(
            ["measure", "single models", "after fusion"], [row[:3] for row in rows]
        )
    return _table(["measure", "single models", "after fusion", "fall"], rows)


def _calibration(metrics: Document) -> str:
    fused = metrics["fused"]
    temperatures = (metrics.get("mixing") or {}).get("stratum_temperatures")
    rows = [
        ["temperature, fitted on validation", _number(fused.get("temperature"))],
        *(
            [f"temperature of {_text(name)} before the fusion", _number(value)]
            for name, value in zip(metrics["strata"], temperatures or (), strict=False)
        ),
        ["negative log-likelihood (nats, test)", _number(fused.get("nll"))],
        ["expected calibration error (test)", _percent(fused.get("ece"))],
    ]
    return _table(["", ""], rows)


def _cost(metrics: Document) -> str:
    rows = []
    for name, stratum in metrics["strata"].items():
        tuned = stratum.get("n_tuned")
        rows.append(
            [
                _text(name),
                "?" if tuned is None else f"{tuned:,}",
                _number(stratum.get("seconds"), ".0f"),
                _number(stratum.get("macs"), ".3g"),
            ]
        )
    header = ["stratum", "tuned parameters", "seconds", "MACs an image"]
    if all(stratum.get("macs") is None for stratum in metrics["strata"].values()):
        header, rows = header[:-1], [row[:-1] for row in rows]
    whole = metrics.get("seconds")
    words = (
        "" if whole is None else f"The whole run took {whole:.0f} seconds, controls and report included.\n\n"
    )
    passes = (
        "A prediction runs every stratum twice, tuned and zero-shot (GLA-FT): its cost is twice their sum."
        if _with_gla(metrics)
        else "A prediction runs every stratum once: its cost is their sum."
    )
    return words + _table(header, rows) + f"\n\n{passes}"


def _limits(config: Document, metrics: Document) -> str:
    notes = [
        "It knows its classes and nothing else: every image gets one of them. The numbers are of test images from the "
        "same source as the training images.",
        "The pre-training priors are estimates q (GLA) from zero-shot logits on the validation images.",
        *map(_text, prior_caveats(pretraining_losses(metrics, config.get("zoo")))),
        "Backdoor adjustment takes the strata to be the values of the confounder. That is an assumption of the graph, "
        "which these numbers do not test.",
    ]
    if metrics["zoo"] != "pretrained":
        notes.append(
            "Minis show the method where the truth is known. Nothing here is a claim about the released CLIP models."
        )
    if not _repeatable(metrics):
        notes.append("The images are not part of this model, and repeating the run needs them.")
    return "\n".join(f"- {note}" for note in notes)


def _reproduce(command: str | None, metrics: Document) -> str:
    words = f"Made with CausalFT (card of version {made_record()['version']})."
    if command is None:
        return words + " `config.json` holds every setting."
    where = "" if _repeatable(metrics) else " Put in the path of the images."
    return f"{words} `config.json` holds every setting.{where}\n\n```sh\n{command}\n```"


def _with_gla(metrics: Document) -> bool:
    """Whether the run was made with ``--gla``."""
    return any(stratum.get("gla") for stratum in metrics["strata"].values())


def _repeatable(metrics: Document) -> bool:
    """Whether the data are built in."""
    return bool(metrics["data"]["name"] in BUILT_IN)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells in Markdown."""
    lines = [list(header), ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: Any) -> str:
    """Escape text for Markdown."""
    written = " ".join(str(value).split())
    for sign in ("\\", "|", "<", "[", "`", "*"):
        written = written.replace(sign, f"\\{sign}")
    return written


def _code(value: Any) -> str:
    """Text as inline code."""
    written = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{written}`"


def _percent(value: float | None, ci95: Sequence[float | None] | None = None, unit: str = " %") -> str:
    """A fraction with its interval in percent."""
    return interval_text(value, ci95, unit=unit, missing="–")


def _cells(groups: Document | None, ci95: Document | None) -> list[str]:
    """Accuracies of the groups with intervals, without unit."""
    return [_percent((groups or {}).get(group), (ci95 or {}).get(group), "") for group in GROUPS]


def _points(measure: Document | None) -> str:
    """A difference of fractions with its interval, in points."""
    if not measure:
        return "–"
    return interval_text(measure.get("estimate"), measure.get("ci95"), measure.get("reason", ""), missing="–")


def _share(measure: Document | None) -> str:
    """A relative change in percent; a dash without an interval (division by about zero)."""
    if not measure or measure.get("estimate") is None or not measure.get("ci95"):
        return "–"
    return f"{100 * measure['estimate']:.0f} %"


def _number(value: float | None, form: str = ".3f") -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:{form}}"


def _count(n: int, what: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{n} {what}" + ("" if n == 1 else "s")
