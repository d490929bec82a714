"""The evidence in sentences, computed from its document; numbers in points."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os.path import commonprefix
from typing import Any

__all__ = ["CAVEAT", "conclusion", "headline", "in_points", "excludes_zero", "short_names"]

Document = Mapping[str, Any]

CAVEAT = (
    "The counts are mentions in captions, which are not always images of the class; what else differs between "
    "pre-training sets together with the counts (kinds of images, captions, filters) is not told apart from "
    "them. Noise "
    "in the counts makes the slope too small."
)


def in_points(value: Document | None, sign: bool = False) -> str:
    """An estimate in points with its interval.

    Examples
    --------
    >>> in_points({"estimate": 37.42, "ci95": [33.2, 41.85]}, sign=True)
    '+37.4 [33.2, 41.9]'
    >>> in_points({"estimate": 1.0, "ci95": None})
    '1.0'
    >>> in_points(None)
    'not measurable'
    """
    if value is None or value["estimate"] is None:
        return "not measurable"
    text = f"{value['estimate']:{'+' * sign}.1f}".replace("-0.0", "0.0")
    if value["ci95"] is None:
        return text
    low, high = (f"{bound:.1f}".replace("-0.0", "0.0") for bound in value["ci95"])
    return f"{text} [{low}, {high}]"


def excludes_zero(value: Document) -> bool:
    """Whether an interval lies on one side of 0.

    Examples
    --------
    >>> excludes_zero({"estimate": 1.0, "ci95": [0.5, 1.5]}), excludes_zero({"estimate": 1.0, "ci95": None})
    (True, False)
    """
    return value["ci95"] is not None and (value["ci95"][0] > 0 or value["ci95"][1] < 0)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names without the words that all of them share at either end, for tables and figures.

    Examples
    --------
    >>> short_names(["backboneViT-B-16_pretrainedcc12m", "backboneViT-B-16_pretrainedlaion2b"])
    {'backboneViT-B-16_pretrainedcc12m': 'pretrainedcc12m', 'backboneViT-B-16_pretrainedlaion2b': 'pretrainedlaion2b'}
    >>> short_names(["clip"])
    {'clip': 'clip'}
    """
    if len(names) < 2:
        return {name: name for name in names}

    def cut(words: Sequence[str]) -> int:
        """Characters of the shared start that end with a separator."""
        ends = [match.end() for match in re.finditer(r"[^A-Za-z0-9]", commonprefix(list(words)))]
        return ends[-1] if ends else 0

    start, end = cut(names), cut([name[::-1] for name in names])
    found = {name: name[start : len(name) - end] for name in names}
    return found if all(found.values()) else {name: name for name in names}


def headline(document: Document) -> str:
    """The first sentence: is there parameter imbalance?"""
    slope = document["slope"]
    if document["own_minus_off"] is None:
        [(name, gap)] = [(name, s["P_gap"]) for name, s in document["strata"].items()]
        return f"P-many minus P-few of {name}: {in_points(gap, sign=True)} points, but {slope['reason']}."
    if not slope["claimed"]:
        shown = (
            ""
            if slope["estimate"] is None
            else f" (The estimate would be {in_points(slope)} points per factor 100.)"
        )
        return f"No slope is claimed, for {slope['reason']}.{shown}"
    many = in_points({**slope, "estimate": abs(slope["estimate"]), "ci95": _turned(slope)})
    what = "a class a hundred times rarer in the pre-training of a model"
    taken_out = "with class difficulty and model quality taken out"
    if not excludes_zero(slope):
        detectable = document["likeness"]["detectable_slope"]
        return (
            f"No parameter imbalance is seen: {what} loses {in_points(slope)} points in that model, "
            f"{taken_out}; a loss of "
            f"{detectable:.0f} points would be found with 80 % power."
        )
    if slope["estimate"] > 0:
        return f"Parameter imbalance: {what} loses {many} points of accuracy in that model, {taken_out}."
    return f"The opposite of parameter imbalance: {what} gains {many} points of accuracy in that model, {taken_out}."


def _turned(slope: Document) -> list[float]:
    low, high = slope["ci95"]
    return [low, high] if slope["estimate"] >= 0 else [-high, -low]


def conclusion(document: Document) -> list[str]:
    """All sentences, the headline first.

    Parameters
    ----------
    document : mapping
        Of `ClassEvidence.to_json`.
    """
    if document["own_minus_off"] is None:
        return [headline(document), _correlations(document)]
    sentences = [headline(document), _own_minus_off(document)]
    if document["slope"]["claimed"]:
        sentences += [_logit(document), _placebos(document), _partial(document)]
    sentences.append(_correlations(document))
    if document["slope"]["claimed"]:
        sentences += _checks(document)
    return [*(sentence for sentence in sentences if sentence), CAVEAT]


def _own_minus_off(document: Document) -> str:
    return (
        "On the classes that its own pre-training had many of rather than few of, a model gains "
        f"{in_points(document['own_minus_off'], sign=True)} points more than the other models do on the same "
        "classes (mean "
        "over the models)."
    )


def _logit(document: Document) -> str:
    logit = document["variants"]["logit"]
    if logit["log_odds"] is None:
        return ""
    odds = logit["log_odds"]
    return (
        f"Without the ceiling (binomial model): {odds['estimate']:.2f} [{odds['ci95'][0]:.2f}, "
        f"{odds['ci95'][1]:.2f}] in log "
        f"odds, which is {in_points(logit['points'])} points at the mean."
    )


_RANKS = {1: "largest", 2: "second largest", 3: "third largest"}


def _placebos(document: Document) -> str:
    found = document["placebo"]
    if found["shuffled_classes"] is None:
        return ""
    shuffled, swapped = found["shuffled_classes"], found["swapped_models"]
    both = shuffled["covers_zero"] and swapped["covers_zero"]
    verdict = "both around 0" if both else "NOT both around 0, so the slope is in doubt"
    said = (
        f"Placebos, {verdict}: counts shuffled between the classes {in_points(shuffled)}, dealt anew to the models "
        f"within each class {in_points(swapped)} (mean and range of 95 % of {shuffled['n']:,} permutations)."
    )
    whole = [order["slope"] for order in document["exchanged_priors"]]
    if len(whole) > 2:
        rank = sum(slope > whole[0] for slope in whole[1:]) + 1
        said += (
            f" Of the {len(whole)} ways to give the models each other's whole priors, the true one has the "
            f"{_RANKS.get(rank, f'{rank}th largest')} slope; the others have {min(whole[1:]):.1f} to "
            f"{max(whole[1:]):.1f}."
        )
    return said


def _partial(document: Document) -> str:
    partial = document["variants"]["partial"]
    return (
        "Own counts and those of the other models together, classes compared with each other: "
        f"{in_points(partial['own'], sign=True)} points per factor 100 of a model's own count, "
        f"{in_points(partial['others'], sign=True)} of the others'."
    )


def _correlations(document: Document) -> str:
    names = short_names(list(document["strata"]))
    each = ", ".join(
        f"{names[name]} {s['rank_correlation']['estimate']:.2f}"
        for name, s in document["strata"].items()
        if s["rank_correlation"]["estimate"] is not None
    )
    return (
        f"Plain rank correlation of class accuracy with own counts: {each}. It mixes the effect of the counts "
        "with how hard "
        "the frequent and the rare classes are."
    )


def _checks(document: Document) -> list[str]:
    slopes = {
        name: c for name, c in document["checks"].items() if name != "bend" and c["estimate"] is not None
    }
    if not slopes:
        return []
    lowest, highest = (pick(slopes.values(), key=lambda check: check["estimate"]) for pick in (min, max))
    clear = sum(excludes_zero(check) and check["estimate"] > 0 for check in slopes.values())
    found = [
        f"Under {len(slopes)} checks the slope is {lowest['estimate']:.1f} ({lowest['words']}) to "
        f"{highest['estimate']:.1f} ({highest['words']}), and above 0 beyond its interval in {clear} of them."
    ]
    bend = document["checks"].get("bend")
    if bend is not None and excludes_zero(bend):
        what = "flatter" if bend["estimate"] < 0 else "steeper"
        found.append(
            f"The effect is no straight line in the logarithm: where counts are a factor 100 higher the slope is "
            f"{in_points({**bend, 'estimate': abs(bend['estimate']), 'ci95': _turned(bend)})} points {what}."
        )
    return found
