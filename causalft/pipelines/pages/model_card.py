"""The model card of a run: one Markdown page with data, weights, groups, cost and limits, as a model hub shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalft.errors import CausalFTError
from causalft.methods.priors import prior_caveats
from causalft.models.strata.zoo import pretraining_losses
from causalft.pipelines.pages import markdown as md

__all__ = ["model_card"]

Document = Mapping[str, Any]

# Licences of weights that this project knows, by the end of their source; any other is for the reader to look up.
_LICENCES = {
    "/openai": "MIT (OpenAI's CLIP)",
    "/laion2b_s34b_b88k": "MIT (LAION)",
    "/metaclip_400m": "CC BY-NC 4.0 (MetaCLIP): not for commercial use",
}


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
        The command that makes the run again.
    repo : str, optional
        OWNER/NAME on a hub, for the lines that say how to load it.
    licence : str, optional
        The hub's identifier of the licence of *this* model; by default ``apache-2.0`` for the minis that ship with
        the package and ``other`` for anything else.
    stored : str, optional
        In what the tuned tensors are stored where it is not float32, in words.

    Raises
    ------
    CausalFTError
        If the documents are not those of a complete ``fit`` run.

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
        f"# {', '.join(metrics['strata'])} on {md.text(metrics['data']['name'])}",
        _opening(metrics),
        "## What was found\n\n" + "\n".join(f"- {md.text(line)}" for line in metrics.get("conclusion", ())),
        "## Use\n\n" + _use(repo),
        "## Data\n\n" + _data(metrics),
        "## Strata\n\n" + _strata(metrics),
        "## Recipe\n\n" + _recipe(config, metrics, stored),
        "## Accuracy by group\n\n" + _groups(metrics),
        "## Parameter imbalance\n\n" + _imbalance(metrics),
        "## Calibration\n\n" + _calibration(metrics),
        "## Cost\n\n" + _cost(metrics),
        "## Limits\n\n" + _limits(config, metrics),
        "## Again\n\n" + _again(command, metrics),
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
    words = f"A long-tailed image classifier of {n_classes} classes. Adapters and a head were tuned on "
    if len(strata) == 1:
        words += "one frozen foundation model: with one stratum there is nothing to adjust for."
    else:
        words += (
            f"each of {len(strata)} frozen foundation models, and the models were fused by backdoor adjustment, "
            "P(Y | do(X)) = sum over strata c of P(Y | b, c) P(c) (Chen et al., ICML 2025, arXiv 2501.15955, Eq. 7)."
        )
    if _with_gla(metrics):
        words += (
            " To the logits of each tuned model those of the untouched one, debiased, are added (GLA-FT)."
        )
    if len(strata) > 1 and fused.get("fusion") not in (None, "mixture"):
        words += f" Here the fusion is `{fused['fusion']}`, which is not Eq. 7."
    words += (
        f"\n\nTest accuracy {md.percent(fused['accuracy'], fused.get('ci95'))} on {metrics['data']['n_test']} images, "
        f"{md.count(metrics.get('n_seeds', 1), 'seed')}. The backbones are not part of this model; their hashes are "
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
        ["data set", md.text(data["name"])],
        ["images", f"{data['n_train']} train, {data['n_validation']} validation, {data['n_test']} test"],
        [
            "classes",
            f"{len(counts)}; training images from {counts[by_size[0]]} ({md.text(by_size[0])}) to "
            f"{counts[by_size[-1]]} ({md.text(by_size[-1])})",
        ],
    ]
    if data.get("imbalance_factor") is not None:
        rows.append(["imbalance factor", f"{data['imbalance_factor']:.3g}"])
    if data.get("fingerprint"):
        rows.append(["fingerprint (train)", f"`{data['fingerprint']}`"])
    rows += [["note", md.text(note)] for note in data.get("notes", ())]
    return md.table(["", ""], rows)


def _strata(metrics: Document) -> str:
    rows = []
    # P(c) has an interval where it was estimated
    intervals = (metrics.get("mixing") or {}).get("stratum_prior_ci95")
    estimated = dict(zip(metrics["strata"], intervals or (), strict=False))
    for name, stratum in metrics["strata"].items():
        source = str(metrics.get("sources", {}).get(name, "?"))
        zero_shot = (stratum.get("zero_shot") or {}).get("accuracy")
        rows.append(
            [
                md.text(name),
                md.text(source),
                f"`{metrics['weights'].get(name, '?')}`",
                _licence(source, str(metrics["zoo"]), stratum.get("licence")),
                md.percent(zero_shot),
                md.percent(stratum["accuracy"], stratum.get("ci95")),
                f"{metrics['fused'].get('stratum_prior', {}).get(name, float('nan')):.3g}"
                + (" [{:.2f}, {:.2f}]".format(*estimated[name]) if name in estimated else ""),
            ]
        )
    return md.table(["stratum", "weights", "sha256", "licence", "zero-shot", "tuned", "P(c)"], rows)


def _licence(source: str, zoo: str, known: str | None) -> str:
    if known:
        return md.text(known)
    if zoo == "mini":
        return "Apache-2.0 (this project)"
    found = [words for end, words in _LICENCES.items() if source.endswith(end)]
    return found[0] if found else "not known here: see where the weights come from"


def _recipe(config: Document, metrics: Document, stored: str | None) -> str:
    tuning = dict(config.get("tuning") or {})
    rows = [[md.code(key), md.code(value)] for key, value in tuning.items() if value is not None]
    rates = {name: stratum.get("lr") for name, stratum in metrics["strata"].items()}
    if len(config.get("learning_rates") or ()) > 1:
        chosen = ", ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate is not None)
        rows.append(["learning rate chosen on validation", md.text(chosen)])
    rows.append(["`fusion`", md.code(metrics["fused"].get("fusion", "?"))])
    if stored:
        rows.append(["tuned tensors stored in", md.text(stored)])
    return md.table(["setting", "value"], rows)


def _groups(metrics: Document) -> str:
    fused = metrics["fused"]
    header = ["model", "all", *(f"D-{group}" for group in md.GROUPS), *(f"P-{group}" for group in md.GROUPS)]
    rows = []
    for name, stratum in metrics["strata"].items():
        rows.append(
            [
                md.text(name),
                md.percent(stratum["accuracy"], stratum.get("ci95"), ""),
                *md.cells(stratum.get("D"), stratum.get("D_ci95")),
                *md.cells(stratum.get("P"), stratum.get("P_ci95")),
            ]
        )
    for number, (name, groups) in enumerate((fused.get("P") or {}).items()):
        first = number == 0
        rows.append(
            [
                f"**fused**, P by {md.text(name)}",
                md.percent(fused["accuracy"], fused.get("ci95"), "") if first else "",
                *(md.cells(fused.get("D"), fused.get("D_ci95")) if first else [""] * 3),
                *md.cells(groups, (fused.get("P_ci95") or {}).get(name)),
            ]
        )
    for name, control in (metrics.get("controls") or {}).items():
        of = f" ({md.text(control['name'])})" if control.get("name") else ""
        data_groups = md.cells(control.get("D"), control.get("D_ci95"))
        overall = md.percent(control["accuracy"], control.get("ci95"), "")
        rows.append([f"control {md.text(name)}{of}", overall, *data_groups, "", "", ""])
    return (
        "Percent, with 95 % intervals. D groups are by training images of the class (more than 100, 20 to 100, fewer "
        "than 20), P groups by the estimated pre-training prior of a stratum (its own, unless said): the highest 30 % "
        "of classes, the next 30 %, the last 40 %.\n\n" + md.table(header, rows)
    )


def _imbalance(metrics: Document) -> str:
    measures = {
        "gap P-many minus P-few (points)": metrics.get("P_gap"),
        "the same, own minus other models (points)": metrics.get("own_minus_off_gap"),
        "accuracy per factor of 100 in the prior (points)": metrics.get("prior_slope"),
    }
    rows = [
        [what, md.points(found.get("before")), md.points(found.get("after")), md.share(found.get("fall"))]
        for what, found in measures.items()
        if found
    ]
    if not rows:
        return "Not measured: it needs two strata or more."
    if reasons := metrics.get("no_conclusion"):
        listed = "\n".join(f"- {md.text(reason)}" for reason in reasons)
        return f"These numbers allow no conclusion:\n\n{listed}\n\n" + md.table(
            ["measure", "single models", "after fusion"], [row[:3] for row in rows]
        )
    return md.table(["measure", "single models", "after fusion", "fall"], rows)


def _calibration(metrics: Document) -> str:
    fused = metrics["fused"]
    temperatures = (metrics.get("mixing") or {}).get("stratum_temperatures")
    rows = [
        ["temperature, fitted on validation", md.number(fused.get("temperature"))],
        *(
            [f"temperature of {md.text(name)} before the fusion", md.number(value)]
            for name, value in zip(metrics["strata"], temperatures or (), strict=False)
        ),
        ["negative log-likelihood (nats, test)", md.number(fused.get("nll"))],
        ["expected calibration error (test)", md.percent(fused.get("ece"))],
    ]
    return md.table(["", ""], rows)


def _cost(metrics: Document) -> str:
    rows = []
    for name, stratum in metrics["strata"].items():
        tuned = stratum.get("n_tuned")
        rows.append(
            [
                md.text(name),
                "?" if tuned is None else f"{tuned:,}",
                md.number(stratum.get("seconds"), ".0f"),
                md.number(stratum.get("macs"), ".3g"),
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
        "A prediction runs every stratum twice, tuned and untouched (GLA-FT): its cost is twice their sum."
        if _with_gla(metrics)
        else "A prediction runs every stratum once: its cost is their sum."
    )
    return words + md.table(header, rows) + f"\n\n{passes}"


def _limits(config: Document, metrics: Document) -> str:
    notes = [
        "It knows its classes and nothing else: any picture gets one of them. The numbers are of test images from the "
        "same source as the training images.",
        "The pre-training priors are estimates q (GLA) from zero-shot logits on the validation images.",
        *map(md.text, prior_caveats(pretraining_losses(metrics, config.get("zoo")))),
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


def _again(command: str | None, metrics: Document) -> str:
    from causalft.version import __version__

    words = f"Made with CausalFT (card of version {__version__})."
    if command is None:
        return words + " `config.json` holds every setting."
    where = "" if _repeatable(metrics) else " Put in the path of the images."
    return f"{words} `config.json` holds every setting.{where}\n\n```sh\n{command}\n```"


def _with_gla(metrics: Document) -> bool:
    """Whether the run was made with ``--gla``."""
    return any(stratum.get("gla") for stratum in metrics["strata"].values())


def _repeatable(metrics: Document) -> bool:
    """Whether the data come with the package."""
    return bool(metrics["data"]["name"] == "creatures-lt")
