"""Tables of the documentation that are written from the records: formats, losses, tuners, fusions and others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from causalft.data.formats import FORMATS
from causalft.data.tails import ORDERS, PROFILES
from causalft.methods.adaptation.at_test import AT_TEST
from causalft.methods.adaptation.presets import PRESETS
from causalft.methods.estimators import FUSIONS
from causalft.methods.semi.choices import METHODS
from causalft.models.tuning.choices import AUGMENTATIONS, HEADS, LOSSES, SAMPLERS, TUNERS, Loss

__all__ = [
    "adaptations",
    "augmentations",
    "formats",
    "fusions",
    "heads",
    "losses",
    "orders",
    "presets",
    "profiles",
    "samplers",
    "semi_methods",
    "trained_numbers",
    "tuners",
    "write",
]


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def formats() -> str:
    """The table of file formats, the plainest first."""
    rows = (
        (
            f"`{each.name}`",
            each.help,
            each.sign,
            ", ".join(f"`{option}`" for option in each.options),
            f"`causalft[{each.needs}]`" if each.needs else "",
            each.source,
        )
        for each in list(FORMATS.values())[::-1]
    )
    return markdown(["format", "what it is", "recognised by", "own options", "needs", "source"], rows)


def profiles() -> str:
    """The table of profiles of a long tail."""
    rows = ((f"`{each.name}`", each.help, each.source) for each in PROFILES.values())
    return markdown(["profile", "count of class $k$ of $K$, head first", "source"], rows)


def orders() -> str:
    """The table of class orders of a long tail."""
    rows = ((f"`{each.name}`", each.help, each.source) for each in ORDERS.values())
    return markdown(["order", "head of the tail", "source"], rows)


def losses() -> str:
    """The table of losses."""
    rows = (
        (f"`{loss.name}`", loss.formula, _settings(loss), loss.source, loss.help) for loss in LOSSES.values()
    )
    return markdown(["name", "formula", "settings", "source", "when"], rows)


def _settings(loss: Loss) -> str:
    return ", ".join(
        f"`{name}` {f'(${loss.symbols[name]}$) ' if name in loss.symbols else ''}{value:g}"
        for name, value in loss.settings.items()
    )


def heads() -> str:
    """The table of heads."""
    rows = ((f"`{head.name}`", head.formula, head.saves, head.source, head.help) for head in HEADS.values())
    return markdown(["kind", "logits", "saved", "source", "when"], rows)


def augmentations() -> str:
    """The table of augmentations."""
    rows = ((f"`{each.name}`", each.help, each.source) for each in AUGMENTATIONS.values())
    return markdown(["name", "what a training image becomes", "source"], rows)


def adaptations() -> str:
    """The table of methods of test-time adaptation."""
    rows = (
        (f"`{each.name}`", each.formula, each.changes, each.source, each.help) for each in AT_TEST.values()
    )
    return markdown(["name", "loss", "changes", "source", "what it does"], rows)


def presets() -> str:
    """The table of presets: a row per setting, a column per preset."""
    names = list(dict.fromkeys(name for each in PRESETS.values() for name in each.values))
    rows = [["source", *(each.source for each in PRESETS.values())]]
    for name in names:
        cells = [f"`--{name.replace('_', '-')}`" if name != "momentum" else "momentum of SGD"]
        for each in PRESETS.values():
            value = each.values.get(name)
            cell = "the rule for K classes and L blocks" if value is None else f"`{value}`"
            if name in each.then:
                cell += f"; `{each.then[name]}` on {each.many_classes:,} classes or more, if you say so"
            cells.append(cell)
        rows.append(cells)
    return markdown(["", *(f"`{name}`" for name in PRESETS)], rows)


def semi_methods() -> str:
    """The table of semi-supervised methods."""
    rows = (
        (
            f"`{each.name}`",
            each.help,
            ", ".join(f"`{name}` {value:g}" for name, value in each.settings.items()),
            each.ours,
            each.source,
        )
        for each in METHODS.values()
    )
    return markdown(["method", "what it does", "settings", "our choices", "source"], rows)


def samplers() -> str:
    """The table of samplers."""
    probability = {1.0: r"$\propto n_y$", 0.5: r"$\propto \sqrt{n_y}$", 0.0: "the same for all"}
    rows = ((f"`{s.name}`", probability[s.power], s.help) for s in SAMPLERS.values())
    return markdown(["name", "P(class)", "images"], rows)


def tuners() -> str:
    """The table of tuners, with what each trains of a ViT-B/16 at a bottleneck of 32."""
    numbers = trained_numbers()
    rows = (
        (
            f"`{tuner.name}`",
            tuner.trains,
            f"{numbers[tuner.name]:,}",
            tuner.towers,
            "stays" if tuner.stays else "nothing",
            tuner.source,
        )
        for tuner in TUNERS.values()
    )
    return markdown(["name", "trains", "ViT-B/16", "defined for", "at inference", "source"], rows)


def trained_numbers() -> dict[str, int]:
    """Trained numbers of the image tower of CLIP ViT-B/16 by tuner (``last-K``: the last block)."""
    import torch
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    from causalft.models.tuning.towers import open_tower
    from causalft.models.tuning.tuners import apply_tuner, supported_tuners

    text = CLIPTextCfg(context_length=8, vocab_size=32, width=16, heads=2, layers=1)
    with torch.device("meta"):
        visual = CLIP(512, CLIPVisionCfg(layers=12, width=768, patch_size=16, image_size=224), text).visual
    known = supported_tuners(open_tower(visual))
    return {
        name: apply_tuner(open_tower(visual), re.sub("K$", "1", name), bottleneck=32, seed=0).n_parameters
        if name in known
        else 0
        for name in TUNERS
    }


def fusions() -> str:
    """The table of fusion rules."""
    rows = ((f"`{rule.name}`", f"${rule.formula}$", rule.help, rule.source) for rule in FUSIONS.values())
    return markdown(["name", r"$P(Y \mid do(X))$", "is", "source"], rows)


def write(folder: Path) -> None:
    """Write every table into a folder, for the pages to include."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in (
        formats,
        profiles,
        orders,
        losses,
        heads,
        samplers,
        semi_methods,
        tuners,
        fusions,
        augmentations,
        adaptations,
        presets,
    ):
        (folder / f"{table.__name__}.md").write_text(table(), encoding="utf-8")
