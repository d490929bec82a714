"""The ``causalft`` command. Verbs are imported when used."""

from __future__ import annotations

import importlib
import os
from contextlib import nullcontext
from typing import Any

import click

from causalft.cli.failures import failures_in_one_line, full_output, one_line, open_standard_streams
from causalft.cli.launched import SHARED, follows, is_launched, one_speaks
from causalft.errors import make_streams_printable, nearest, speaking_of_options
from causalft.runs.progress import spoken

__all__ = ["VERBS", "main"]

# verb -> (MODULE:COMMAND, the line that `causalft --help` shows without importing it)
VERBS: dict[str, tuple[str, str]] = {
    "verify-confounder": (
        "causalft.cli.verify_confounder:command",
        "Test whether a semantic factor is a confounder, by training on A/B sets.",
    ),
    "fit": (
        "causalft.cli.fit:command",
        "Tune several foundation models and fuse them by backdoor adjustment.",
    ),
    "distill": (
        "causalft.cli.distill:command",
        "Distil a fitted run into one student, at the cost of one model.",
    ),
    "diagnose": (
        "causalft.cli.diagnose:command",
        "Tell which classes the pre-training hurts, without training.",
    ),
    "probe": (
        "causalft.cli.probe:command",
        "Evaluate frozen features: nearest neighbours, and heads of several losses.",
    ),
    "predict": ("causalft.cli.predict:command", "Classify images with a fitted run."),
    "explain": (
        "causalft.cli.explain:command",
        "Show what each stratum of a fitted run looks at in images.",
    ),
    "sensitivity": (
        "causalft.cli.sensitivity:command",
        "Tell which predictions of a fitted run hold for every P(c), and what stays uncertain.",
    ),
    "evaluate": ("causalft.cli.evaluate:command", "Score a fitted run on labelled images."),
    "wise-ft": (
        "causalft.cli.wise_ft:command",
        "Evaluate a fitted run between its initial and its tuned weights.",
    ),
    "data": (
        "causalft.cli.data:command",
        "Show how a set of images is read, and which images are damaged.",
    ),
    "prior": (
        "causalft.cli.prior:command",
        "Estimate the label prior in a model's logits, with intervals and groups.",
    ),
    "weights": (
        "causalft.cli.weights:command",
        "List, fetch, check and import the weights of pretrained models.",
    ),
    "zoo": ("causalft.cli.zoo:command", "List, show, check and pre-train the models of a zoo."),
    "graph": (
        "causalft.cli.graph:command",
        "Draw a causal graph, identify effects, test its implications.",
    ),
    "generate": ("causalft.cli.generate:command", "Write the A/B image sets of a design."),
    "experiment": ("causalft.cli.experiment:command", "Make a table or figure of the paper."),
    "export": ("causalft.cli.share:export", "Write a fitted run as ONNX, torch.export or one file."),
    "card": ("causalft.cli.share:card", "Write the model card of a fitted run."),
    "push": ("causalft.cli.share:push", "Send a fitted run to a model hub, or into a folder."),
    "pull": ("causalft.cli.share:pull", "Fetch a fitted run from a model hub, or from a folder."),
    "cache": ("causalft.cli.cache:command", "List, verify and clear cached features."),
}


# Hide their warnings at import.
for _library in ("HF_HUB_VERBOSITY", "TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
    os.environ.setdefault(_library, "error")

# Read by PyTorch when it is loaded: large buffers on huge pages (Linux only)
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# Read by OpenMP when it is loaded: threads that wait for one another soon give up their cores. With other work on the
# machine they would spin for most of the time: `verify-confounder --quick` beside two processes on two cores took
# 298 s, and 67 s so; alone, 17 s either way.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


class LazyGroup(click.Group):
    """A click group whose verbs live in modules that are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module, _, command = VERBS[name][0].partition(":")
        return getattr(importlib.import_module(module), command)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise click.UsageError(f"no such command {args[0]!r}; {nearest(args[0], VERBS)}", ctx=ctx)
        if args and args[0] in VERBS and args[0] not in SHARED and is_launched():
            shared = f"{', '.join(SHARED[:-1])} and {SHARED[-1]}"
            raise click.UsageError(
                f"'{args[0]}' runs in one process; start it without the launcher (only {shared} share their work)",
                ctx=ctx,
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])

    def main(self, *args: Any, **settings: Any) -> Any:
        open_standard_streams()
        make_streams_printable()
        with speaking_of_options():
            return super().main(*args, **settings)

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        try:
            return super().make_context(*args, **settings)
        except click.UsageError as error:
            raise one_line(error) from None
        except OSError as error:  # --help and --version print here
            raise full_output(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        with failures_in_one_line(ctx), one_speaks(), nullcontext() if follows() else spoken("working"):
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="causalft", prog_name="causalft")
def main(debug: bool) -> None:
    """Causal tools for foundation models under long-tailed data.

    Is my model confounded? Which classes does the pre-training hurt? Give me a classifier adjusted for it.
    """
