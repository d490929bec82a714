"""``causalft export``: a fitted classifier as one file that runs without this package."""

from __future__ import annotations

from pathlib import Path

import click

from causalft.cli.options import NAMES, PATH, TEXT, console, print_json
from causalft.runs.progress import phase

__all__ = ["command"]


@click.command("export")
@click.argument("run", type=PATH)
@click.option("--to", type=TEXT, required=True, help="onnx, torch-export or single-file.")
@click.option("--out", type=PATH, help="The model's file; by default RUN/export/FORMAT/model.*")
@click.option("--strata", type=NAMES, help="Export only these, as in clip,openclip; all by default.")
@click.option(
    "--fused/--no-fused",
    default=True,
    show_default=True,
    help="Whether the fused probabilities are an output beside those of each stratum.",
)
@click.option(
    "--pictures",
    type=TEXT,
    default="float",
    show_default=True,
    help="What the model takes: float on [0, 1], or uint8.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the description of the export as JSON.")
def command(
    run: Path,
    to: str,
    out: Path | None,
    strata: tuple[str, ...] | None,
    fused: bool,
    pictures: str,
    as_json: bool,
) -> None:
    """Write the classifier of RUN, the folder of a fit, as one model file with preprocessor.json beside it.

    The model takes pictures and gives fused, calibrated probabilities and those of each stratum; normalisation, heads,
    fusion and temperature are inside. What was written is run against the classifier before it is kept.
    """
    from causalft.errors import CausalFTError, nearest
    from causalft.methods.estimators.run_documents import EXPORT_FORMATS, open_fit

    if to not in EXPORT_FORMATS:
        raise CausalFTError(f"no export format {to!r}; {nearest(to, EXPORT_FORMATS)}")
    open_fit(run)  # refused before PyTorch is imported

    with phase("loading libraries"):
        from causalft.pipelines.export import export_run

    made = export_run(run, to, out=out, strata=strata, fused=fused, dtype=pictures)
    if as_json:
        print_json({"files": made.files, "difference": made.difference, **made.about})
        return
    screen = console()
    for file in made.files:
        screen.print(f"{file}  {file.stat().st_size / 1e6:.1f} MB", soft_wrap=True)
    screen.print(f"checked: probabilities differ from the classifier's by at most {made.difference:.1g}")
    if made.about["view"] != "centre":
        sides = " or ".join(str(entry["shorter_side"]) for entry in made.about["inputs"])
        screen.print(
            f"note: the file cuts the {made.about['view']} squares itself; give pictures with a shorter side of "
            f"{sides} pixels, not cut"
        )
    if fused and not made.about["fusion"]["calibrated"]:
        screen.print(
            "note: the temperature belongs to the fusion of all strata; this part of them is not calibrated"
        )
