"""The verdict: every claim of every experiment, judged by the runs that lie in one folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError
from causalft.runs.folder import CONFIG, Run, read_json
from causalft.version import __version__
from experiments.frame.claims import Claim, Verdict, judge, value_at
from experiments.frame.earlier import Earlier
from experiments.frame.objections import OBJECTIONS, Objection

if TYPE_CHECKING:
    from experiments import Experiment

__all__ = ["NOT_RUN", "Result", "Results", "combined", "find_results", "give_verdict"]

NOT_RUN = "not run"

_DATA = ("data", "zoo", "split_seed", "imbalance_factor", "data_options", "n_validation", "n_test")
"""Settings of a study's run that decide which images and models its members are tuned on."""


@dataclass(frozen=True)
class Result:
    """A complete run of an experiment.

    Attributes
    ----------
    experiment : Experiment
    scale : str
        ``mini``, ``photo``, ``full imagenet-lt``; ``own`` for an experiment on the user's data with no scales.
    folder : pathlib.Path
    config, metrics : dict
    """

    experiment: Experiment
    scale: str
    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def command(self) -> str:
        """The command that repeats it."""
        return self.experiment.command_of(self.metrics)


@dataclass(frozen=True)
class Results:
    """What a folder holds.

    Attributes
    ----------
    complete : tuple of Result
    unfinished : dict of str to pathlib.Path
        Folders of interrupted runs, by name of the experiment.
    """

    complete: tuple[Result, ...]
    unfinished: Mapping[str, Path]


def find_results(root: str | os.PathLike[str], may_be_empty: bool = False) -> Results:
    """Read every complete experiment run directly below a folder.

    Raises
    ------
    CausalFTError
        If there is none, unless ``may_be_empty``; for a damaged run, an unknown experiment or another version; for two
        runs of one experiment and scale; for runs of one scale with other data, other weights, or of which only some
        are quick.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise CausalFTError(f"{folder}: no such folder; name the folder of the runs, or make them: {_ALL}")
    complete: list[Result] = []
    unfinished: dict[str, Path] = {}
    for place in sorted(folder.iterdir()):
        if not (place / CONFIG).is_file():
            continue
        found = read_json(place / CONFIG)
        if not isinstance(found, dict) or found.get("kind") != "experiment":
            continue
        config = found.get("config")
        if not isinstance(config, dict) or not isinstance(name := config.get("name"), str):
            raise CausalFTError(
                f"{place / CONFIG}: it names no experiment; the file is damaged, remove {place}"
            )
        if Run(place, "experiment", config).complete:
            complete.append(_opened(place, name))
        else:
            unfinished[name] = place
    if not complete and not may_be_empty:
        raise CausalFTError(f"{folder} holds no complete experiment run; make them: {_ALL}")
    _check_together(complete)
    return Results(tuple(complete), unfinished)


_ALL = "causalft experiment run all"


def _opened(place: Path, name: str) -> Result:
    from experiments import EXPERIMENTS

    run = Run.open(place, "experiment")
    if name not in EXPERIMENTS:
        raise CausalFTError(
            f"{place} is a run of {name!r}, which is no experiment of this version; remove it"
        )
    experiment, metrics = EXPERIMENTS[name], run.metrics
    made = metrics.get("made")
    version = made.get("version") if isinstance(made, dict) else None
    if version is None or "seeds" not in metrics or "quick" not in metrics:
        raise CausalFTError(
            f"{place / 'metrics.json'}: it is not what an experiment writes; run {name} again"
        )
    if version != __version__:
        raise CausalFTError(
            f"{place} holds results of version {version}, this is {__version__}; remove it and run {name} again"
        )
    scale = "own" if experiment.needs else "mini"
    if experiment.study is not None:
        scale = str(run.config.get("scale", metrics.get("scale", "mini")))
        scale += f" {run.config['set']}" if run.config.get("set") else ""
    if scale == "mini":
        _check_weights(place, name, metrics.get("weights"))
    return Result(experiment, scale, place, run.config, metrics)


def _check_weights(place: Path, name: str, used: object) -> None:
    """Refuse results of other minis than those of this version."""
    from causalft.models.strata.zoo import open_zoo

    zoo = open_zoo("mini")
    for model, sha in used.items() if isinstance(used, dict) else ():
        own = zoo.card(model).sha256 if model in zoo.names() else sha  # type: ignore[attr-defined]
        if own != sha:
            raise CausalFTError(
                f"{place} holds results of other weights of {model} (sha256 {str(sha)[:12]}, this version has "
                f"{own[:12]}); remove it and run {name} again"
            )


def _check_together(results: Sequence[Result]) -> None:
    """Refuse runs that cannot belong to one verdict."""
    first: dict[tuple[str, str], Result] = {}
    weights: dict[tuple[str, str], tuple[str, Result]] = {}
    of_scale: dict[str, Result] = {}
    for result in results:
        same = first.setdefault((result.experiment.name, result.scale), result)
        if same is not result:
            raise CausalFTError(
                f"{same.folder} and {result.folder} are both runs of {result.experiment.name} at the scale "
                f"{result.scale}; remove one"
            )
        if result.experiment.study is None:
            continue
        other = of_scale.setdefault(result.scale, result)
        for key in ("quick", *_DATA):
            if result.config.get(key) != other.config.get(key):
                raise CausalFTError(
                    f"{other.folder} and {result.folder} are runs of the scale {result.scale} with {key} "
                    f"{other.config.get(key)!r} and {result.config.get(key)!r}; run one of them again"
                )
        used = result.metrics.get("weights")
        for name, sha in used.items() if isinstance(used, dict) else ():
            before, by = weights.setdefault((result.scale, name), (sha, result))
            if sha != before:
                raise CausalFTError(
                    f"{by.folder} and {result.folder} are runs of the scale {result.scale} with different weights of "
                    f"{name} (sha256 {before[:12]} and {str(sha)[:12]}); run one of them again"
                )


def combined(verdicts: Iterable[Verdict]) -> Verdict:
    """One verdict of several: that of all; contradicted if some are and none is supported; else open.

    Examples
    --------
    >>> combined(["supported", "supported"]), combined(["supported", "contradicted"]), combined([])
    ('supported', 'open', 'open')
    >>> combined(["contradicted", "open"])
    'contradicted'
    """
    found = set(verdicts)
    if found == {"supported"}:
        return "supported"
    return "contradicted" if "contradicted" in found and "supported" not in found else "open"


def give_verdict(results: Results, earlier: Earlier | None = None) -> dict[str, Any]:
    """Judge every claim of every experiment, and every objection by the claims that answer it.

    Parameters
    ----------
    results : Results
    earlier : Earlier, optional
        A verdict of other runs, which counts for the experiments and scales that these lack.

    Returns
    -------
    dict
        ``claims`` and ``objections``: lists of ``{text, verdict, numbers, command, why, ...}``. ``numbers`` has one
        entry per claim and scale: ``{claim, experiment, scale, verdict, why, estimate, ci95, p, p_holm, unit}``, with
        ``left_out`` where the run has nothing that the claim is about.
        ``of`` in ``claims``: ``paper``, or ``further`` for those of this project and of other papers.
        ``runs``: experiment, scale, folder, seeds, quick, date. ``commands``: by experiment and scale. ``earlier``:
        name of the earlier verdict's file. ``version``.
    """
    from experiments import EXPERIMENTS

    again = {(result.experiment.name, result.scale) for result in results.complete}
    before = Earlier({}) if earlier is None else earlier.without(again)
    claims: list[dict[str, Any]] = []
    answers: dict[int, list[dict[str, Any]]] = {objection.number: [] for objection in OBJECTIONS}
    for experiment in {found.name: found for found in EXPERIMENTS.values()}.values():
        of = [result for result in results.complete if result.experiment.name == experiment.name]
        for claim in experiment.claims() if experiment.claims is not None else ():
            rows = _rows(claim, of) + before.rows(claim, experiment)
            entry = _judged(claim, experiment, rows, results.unfinished.get(experiment.name))
            (claims if claim.objection is None else answers[claim.objection]).append(entry)
    return {
        "claims": claims,
        "objections": [_answered(objection, answers[objection.number]) for objection in OBJECTIONS],
        "runs": sorted([*map(_described, results.complete), *before.runs], key=_order),
        "commands": {f"{r.experiment.name} {r.scale}": r.command for r in results.complete} | before.commands,
        "earlier": None if earlier is None else earlier.name,
        "version": __version__,
    }


def _order(run: Mapping[str, Any]) -> tuple[str, str]:
    return run["experiment"], run["scale"]


def _rows(claim: Claim, results: Sequence[Result]) -> list[dict[str, Any]]:
    """A claim at every scale that it was run at."""
    return [
        {
            "claim": claim.text,
            "at": claim.at,
            "experiment": result.experiment.name,
            "scale": result.scale,
            "verdict": found.verdict,
            "why": f"left out: {'; '.join(map(str, left_out.values()))}" if left_out else found.why,
            "unit": claim.unit,
            **({"left_out": True} if left_out else {}),
            **found.numbers,
            "command": result.command,
        }
        for result in results
        for found in [judge(claim, result.metrics)]
        for left_out in [{} if found.numbers else _left_out(claim, result.metrics)]
    ]


def _left_out(claim: Claim, metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run left out, with the reasons, if a claim is about it; an empty number was not left out."""
    holder = value_at(metrics, claim.at.rpartition("/")[0]) if "/" in claim.at else metrics
    is_there = isinstance(holder, Mapping) and claim.at.rpartition("/")[2] in holder
    return {} if is_there else metrics.get("left_out") or {}


def _judged(
    claim: Claim, experiment: Experiment, rows: Sequence[dict[str, Any]], unfinished: Path | None
) -> dict[str, Any]:
    """A claim by its numbers, one a scale; where a run left out what the claim is about, the other scales decide."""
    entry: dict[str, Any] = {
        "text": claim.text,
        "section": claim.section,
        "of": claim.of,
        "experiment": experiment.name,
    }
    if not rows:
        why = NOT_RUN if unfinished is None else f"not finished, the run {unfinished.name} can be resumed"
        return entry | {"verdict": "open", "numbers": [], "command": experiment.command, "why": why}
    numbers = sorted(rows, key=lambda row: str(row["scale"]))
    asked = [row for row in numbers if not row.get("left_out")] or numbers
    verdict = combined(row["verdict"] for row in asked)
    why = ""
    if verdict == "open":
        disagree = len({row["verdict"] for row in asked}) > 1
        told = [f"{row['scale']}: {row['verdict']}" if disagree else str(row["why"]) for row in asked]
        why = "; ".join(dict.fromkeys(told))
    return entry | {
        "verdict": verdict,
        "numbers": numbers,
        "command": " && ".join(dict.fromkeys(row["command"] for row in numbers)),
        "why": why,
    }


def _answered(objection: Objection, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An objection by the claims that answer it."""
    verdict = combined(entry["verdict"] for entry in entries)
    why = "no experiment answers it"
    if entries:
        told = [f"{entry['experiment']}: {entry['why'] or entry['verdict']}" for entry in entries]
        why = "; ".join(dict.fromkeys(told)) if verdict == "open" else ""
    commands = dict.fromkeys(entry["command"] for entry in entries)
    return {
        "text": objection.text,
        "number": objection.number,
        "doubt": objection.doubt,
        "answer": objection.answer,
        "verdict": verdict,
        "numbers": [number for entry in entries for number in entry["numbers"]],
        "command": " && ".join(commands) or "causalft experiment list",
        "why": why,
        "answers": [
            {key: entry[key] for key in ("text", "verdict", "experiment", "why")} for entry in entries
        ],
    }


def _described(result: Result) -> dict[str, Any]:
    return {
        "experiment": result.experiment.name,
        "scale": result.scale,
        "folder": str(result.folder),
        "seeds": result.metrics["seeds"],
        "quick": bool(result.metrics["quick"]),
        "date": result.metrics["made"].get("date", ""),
    }
