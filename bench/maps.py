"""Are maps true to the model, and do they find the part that a mini was pre-trained to see?

On fitted runs of creatures-lt:

    .venv/bin/python bench/maps.py runs/fit runs/fit-seed1 --images 120 --out bench/maps.json

Three truths that need no map stand beside the maps: the fall of the true class's probability when a part is hidden; the
part that wins when head, body and tail come from three classes (cue conflict); and the shares of a map that knows
nothing. `--zero-shot` measures the minis before tuning.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from causalft.analysis.maps import (
    confidence_when_hidden,
    curves_of_maps,
    map_shares,
    mask_areas,
)
from causalft.data.creatures import creatures_longtail, creatures_masks
from causalft.methods.estimators.fitted import load_fitted
from causalft.methods.estimators.maps import FusedView, fused_view, zero_shot_view
from causalft.methods.estimators.mixing import Mixing
from causalft.models.strata.zoo import open_zoo
from causalft.runs.intervals import mean_interval
from synthetic.creatures import FACTORS, N_TYPES, PARTS, part_table, render_creatures

FAVOURITE = {"clip": "head", "openclip": "body", "metaclip": "tail"}
LEAST_AREA = 0.02  # of the image, for each of the three parts


def _view(run: str | None) -> FusedView:
    if run is not None:
        model = load_fitted(run, precision="fp32")
        return fused_view(model.members_, model.mixing_, model.classes_)
    zoo, names = open_zoo("mini"), creatures_longtail(n_max=1, n_validation=1, n_test=1).class_names
    strata = {name: zoo.load(name) for name in FAVOURITE}
    views = {name: zero_shot_view(stratum, names) for name, stratum in strata.items()}
    return FusedView(views, Mixing("mixture", (1 / 3,) * 3, 1.0), tuple(names))


def _conflict(view: FusedView, n: int, factor: str, seed: int) -> dict[str, list[tuple[float, float, float]]]:
    """Share of images whose predicted class has the head (body, tail) that is shown, where no class has two of them."""
    rng, table = np.random.default_rng(seed), part_table()
    drawn = rng.integers(0, N_TYPES, size=(20 * n, 3))
    agreeing = (drawn[:, None, :] == table[None]).sum(axis=2).max(axis=1)
    parts = drawn[agreeing < 2][:n]
    pixels = render_creatures(parts, np.full(len(parts), FACTORS.index(factor)), seed=seed)
    log_p = view.log_probabilities(pixels)
    found = {}
    for name, each in zip([*view.strata, "fused"], [*np.exp(log_p), view.mixing.of_log_probabilities(log_p)]):
        agrees = table[each.argmax(axis=1)] == parts
        found[name] = [mean_interval(agrees[:, part]) for part in range(3)]
    return found


def measure(run: str | None, methods: list[str], n: int, seed: int) -> dict[str, Any]:
    view, test = _view(run), creatures_longtail().test
    whole = np.flatnonzero(np.asarray(test.factors) == "whole")
    seen = whole[(mask_areas(creatures_masks("test", whole))[:, :3] > LEAST_AREA).all(axis=1)]
    rows = np.sort(np.random.default_rng(seed).choice(seen, n, replace=False))
    masks, pixels, labels = creatures_masks("test", rows), test.pixels[rows], test.labels[rows]
    result: dict[str, Any] = {"run": run, "n": n, "areas": mask_areas(masks).mean(axis=0).tolist()}
    result["conflict"] = {factor: _conflict(view, 5 * n, factor, seed) for factor in ("whole",)}
    result["hidden"] = {}
    falls = {}
    for name in (*view.strata, "fused"):
        score = view.probabilities if name == "fused" else view.strata[name].probabilities
        confidence = confidence_when_hidden(score, pixels, masks, labels)
        falls[name] = confidence[:, :1] - confidence[:, 1:]
        result["hidden"][name] = {
            "confidence": mean_interval(confidence[:, 0]),
            "fall": [mean_interval(falls[name][:, part]) for part in range(3)],
        }
    result["hidden_contrast"] = {
        name: mean_interval(
            falls[name][:, PARTS.index(part)]
            - np.mean([falls[o][:, PARTS.index(part)] for o in FAVOURITE if o != name], axis=0)
        )
        for name, part in FAVOURITE.items()
    }
    controls: dict[str, Any] = {}
    print(json.dumps(result, default=float), flush=True)
    for method in methods:
        found = map_shares(view, pixels, masks, labels, method)
        curves = curves_of_maps(view, pixels, found.maps, labels, steps=8, controls=not controls)
        controls = controls or {
            name: {kind: curve for kind, curve in each.items() if kind != "map"}
            for name, each in curves.items()
        }
        curves = {name: {**each, **controls[name]} for name, each in curves.items()}
        result[method] = {
            name: {
                "share": [mean_interval(found.shares[k, :, part]) for part in range(3)],
                "among_parts": np.nanmean(found.part_shares[k], axis=0).tolist(),
                "spread": mean_interval(found.spread[k]),
                "correlation_with_fall": float(
                    np.corrcoef((found.shares[k, :, :3]).ravel(), falls[name].ravel())[0, 1]
                ),
                **{
                    f"{kind}_{what}": mean_interval(getattr(curve, f"{what}_auc"))
                    for kind, curve in curves[name].items()
                    for what in ("deletion", "insertion")
                },
                **{
                    f"beats_{kind}": mean_interval(
                        curves[name]["map"].faithfulness - curves[name][kind].faithfulness
                    )
                    for kind in ("random", "centre")
                },
            }
            for k, name in enumerate(found.names)
        }
        result[method]["contrast"] = {
            name: found.contrast(name, PARTS.index(part)) for name, part in FAVOURITE.items()
        }
        result[method]["spread_fused_minus_mean"] = mean_interval(
            found.spread[-1] - found.spread[:-1].mean(axis=0)
        )
        result[method]["overlap"] = float(
            np.mean([found.overlap(a, b).mean() for a in FAVOURITE for b in FAVOURITE if a < b])
        )
        print(method, json.dumps(result[method], default=float), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--zero-shot", action="store_true")
    parser.add_argument("--methods", default="integrated-gradients,occlusion,rollout,grad-cam")
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for run in [*([None] if given.zero_shot else []), *given.runs]:
        found.append(measure(run, given.methods.split(","), given.images, given.seed))
        if given.out is not None:
            given.out.write_text(json.dumps(found, default=float), encoding="utf-8")


if __name__ == "__main__":
    main()
