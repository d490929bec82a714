"""``causalft generate``: the image sets of an A/B design as folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalft.cli.options import PATH, GroupedCommand, console, options_of, print_json, refuse_given
from causalft.errors import CausalFTError
from causalft.methods.adaptation.settings import FIRST
from causalft.runs.folder import read_json
from synthetic.settings import GenerateSettings, GeneratorSettings

if TYPE_CHECKING:
    from synthetic.design import Design

__all__ = ["command", "refuse_diffusion_options"]


_GROUPS = {
    FIRST: ("design", "n_per_class", "size", "seed", "out", "generator", "dry_run", "json_mode"),
    "Design": (),
    "Checking the images": (),
    "Stable Diffusion (with --generator stable-diffusion)": (),
}


@click.command("generate", cls=GroupedCommand, groups=_GROUPS)
@options_of(GenerateSettings)
@click.option("--out", type=PATH, help="Output folder; required except with --dry-run.")
@click.option("--dry-run", is_flag=True, help="Print the plan and its cost; write nothing.")
@click.option(
    "--json",
    "json_mode",
    is_flag=True,
    help="Print only metrics.json (or the plan) on standard output.",
)
def command(settings: GenerateSettings, out: Path | None, dry_run: bool, json_mode: bool) -> None:
    """Write the four image sets of an A/B design.

    OUT receives A_train, A_test, B_train and B_test, each an ImageFolder (CLASS/00000.png) with a metadata.csv, and a
    metadata.csv of all. Repeating an interrupted command resumes it and gives the same bytes.
    """
    from causalft.runs.folder import Run
    from synthetic.designs import SETS
    from synthetic.generate import generate

    check = settings.check
    laws = _design(settings)
    laws.counts("A_train", settings.n_per_class)
    if settings.check_weights is not None and check is None:
        raise CausalFTError("--check-weights goes with --check")
    if check is not None:
        _known_judge(check)
    screen = console(json_mode)
    if dry_run:
        plan = _plan(settings, laws)
        if json_mode:
            print_json(plan)
        else:
            _show_plan(screen, plan)
        return
    if out is None:
        raise CausalFTError("--out is missing: name the folder to write, or ask for the plan with --dry-run")
    # before a model is loaded, which takes long
    Run.check(out, kind="generate")
    refuse_diffusion_options(settings.source)
    source = settings.source.open(size=settings.size)
    judge = None
    if check is not None:
        from causalft.pipelines.workflows.check_images import judge_for

        judge = judge_for(check, source, weights=settings.check_weights)
    folder = generate(
        laws,
        out,
        settings.n_per_class,
        settings.seed,
        generator=source,
        judge=judge,
        check=check,
        max_rejects=settings.max_rejects,
    )
    metrics = read_json(folder / "metrics.json")
    if json_mode:
        print_json(metrics)
        return
    screen.print(f"design {laws.name}: {laws.meaning}")
    screen.print(
        f"{metrics['images']} pictures of {source.size} x {source.size} in {', '.join(SETS)}", soft_wrap=True
    )
    if source.name != "renderer":
        facts = metrics["provenance"]
        screen.print(
            f"drawn by {facts['model']} ({facts['revision'][:19]}): {facts['steps']} steps, guidance "
            f"{facts['guidance']}, {facts['scheduler']}, {facts['precision']} on {facts['device']}",
            soft_wrap=True,
        )
    if metrics["rejects"]["total"]:
        screen.print(
            f"{metrics['rejects']['total']} rejected pictures were replaced; they are in {folder / 'rejected'}",
            soft_wrap=True,
        )
    screen.print(f"written to {folder}", soft_wrap=True)


def refuse_diffusion_options(source: GeneratorSettings) -> None:
    """Refuse options of Stable Diffusion that were given to another generator."""
    if source.generator != "stable-diffusion":
        others = (name for name in vars(source) if name != "generator")
        refuse_given(others, "goes with --generator stable-diffusion")


def _design(settings: GenerateSettings) -> Design:
    from synthetic.designs import make_design

    parts = None
    if settings.source.prompts is not None:
        from synthetic.prompts import read_prompts

        parts = read_prompts(settings.source.prompts).classes
    return make_design(settings.design, **vars(settings.law), parts=parts)


def _known_judge(check: str) -> None:
    """Refuse a name that is neither ``renders`` nor known CLIP weights."""
    from causalft.errors import nearest
    from causalft.models.weights import PRETRAINED

    if check in ("renders", *PRETRAINED) or "/" in check:
        return
    import open_clip

    if check not in open_clip.list_models():
        raise CausalFTError(
            f"--check {check}: no such judge; {nearest(check, ['renders', *PRETRAINED])} (or ARCH/TAG of open_clip)"
        )


def _plan(settings: GenerateSettings, laws: Design) -> dict[str, Any]:
    """What a run would do and cost; times one batch if the model is on this machine."""
    from synthetic.designs import SETS
    from synthetic.generate import time_drawing
    from synthetic.pipelines import MissingModelError

    images = len(SETS) * len(laws.classes) * settings.n_per_class
    plan: dict[str, Any] = {
        "design": laws.name,
        "classes": list(laws.classes),
        "generator": settings.source.generator,
        "images": images,
        "check": settings.check,
    }
    refuse_diffusion_options(settings.source)
    try:
        source = settings.source.open(size=settings.size, fetch=False)
    except MissingModelError as error:
        return {
            **plan,
            "model": settings.source.model,
            "seconds": None,
            "bytes": None,
            "not_timed": str(error),
        }
    facts = source.provenance()
    names = ("model", "revision", "scheduler", "steps", "guidance", "precision", "device", "batch_size")
    plan |= {"size": source.size, **{name: facts[name] for name in names if name in facts}}
    seconds, space = time_drawing(source, laws, images)
    return {**plan, "seconds": seconds, "images_per_second": images / seconds, "bytes": space}


def _show_plan(screen: Any, plan: dict[str, Any]) -> None:
    lines = {
        name: ", ".join(value) if isinstance(value, list) else value
        for name, value in plan.items()
        if name not in ("seconds", "images_per_second", "bytes", "not_timed") and value is not None
    }
    if plan["seconds"] is None:
        lines["time"] = f"not timed: {plan['not_timed']}"
    else:
        rate = f"{plan['images_per_second']:,.1f} images/s, from one timed batch"
        lines["time"] = (
            f"about {_duration(plan['seconds'])} ({rate}){', the check not counted' * bool(plan['check'])}"
        )
        lines["disk"] = f"about {plan['bytes'] / 1e6:.1f} MB"
    for name, text in lines.items():
        screen.print(f"{name.replace('_', ' '):12s} {text}", soft_wrap=True)
    screen.print("nothing was written")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
