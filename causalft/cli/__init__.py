"""The ``causalft`` command: verbs are imported when used, and a user's mistake never shows a traceback."""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
from typing import Any

import click

from causalft.errors import CausalFTError, nearest

__all__ = ["VERBS", "main"]

# verb -> (module that defines it as `command`, the line that `causalft --help` shows without importing it)
VERBS: dict[str, tuple[str, str]] = {
    "verify-confounder": (
        "causalft.cli.verify_confounder",
        "Test whether a semantic factor is a confounder: train on A/B sets and see.",
    ),
    "fit": ("causalft.cli.fit", "Tune several foundation models and fuse them by backdoor adjustment."),
    "probe": (
        "causalft.cli.probe",
        "Ask what frozen features can do: neighbours, and heads of several losses.",
    ),
    "predict": ("causalft.cli.predict", "Classify images with a fitted run."),
    "evaluate": ("causalft.cli.evaluate", "Score a fitted run on labelled images."),
    "wise-ft": (
        "causalft.cli.wise_ft",
        "Evaluate a fitted run between where it started and where it ended.",
    ),
    "data": ("causalft.cli.data", "Show what a set of images was understood as, and what is damaged."),
    "prior": (
        "causalft.cli.prior",
        "Estimate the label prior in a model's logits, with intervals and groups.",
    ),
    "weights": ("causalft.cli.weights", "List, fetch, check and import the weights of pretrained models."),
    "zoo": ("causalft.cli.zoo", "List, show, check and pre-train the models of a zoo."),
    "graph": ("causalft.cli.graph", "Draw a causal graph, identify its effects, test what it implies."),
    "generate": ("causalft.cli.generate", "Write the A/B image sets of a design."),
    "experiment": ("causalft.cli.experiment", "Make a table or figure of the paper."),
    "export": ("causalft.cli.export", "Write a fitted run as ONNX, torch.export or one file."),
    "card": ("causalft.cli.card", "Write the model card of a fitted run."),
    "push": ("causalft.cli.push", "Send a fitted run to a model hub, or into a folder."),
    "pull": ("causalft.cli.pull", "Fetch a fitted run from a model hub, or from a folder."),
    "cache": ("causalft.cli.cache", "List, verify and clear the frozen features that are kept."),
}


# PyTorch reads it once, when it is loaded: large buffers on huge pages (Linux; elsewhere it means nothing)
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


# Something else stands where a file or folder should go (a dangling link is "there" as well).
_NO_PLACE = (
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


class LazyGroup(click.Group):
    """A click group whose verbs live in modules that are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return importlib.import_module(VERBS[name][0]).command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise click.UsageError(f"no such command {args[0]!r}; {nearest(args[0], VERBS)}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        try:
            return super().make_context(*args, **settings)
        except click.UsageError as error:
            raise _one_line(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if ctx.params.get("debug"):
                raise
            raise _one_line(error) from None
        except CausalFTError as error:
            _fail(ctx, str(error), 2)
        except (KeyboardInterrupt, click.Abort):
            _fail(ctx, "interrupted; repeat the command to resume where it stopped", 130)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                place = f" while writing {error.filename}" if error.filename else ""
                _fail(ctx, f"the disk is full{place}; free some space and repeat the command to resume", 2)
            if isinstance(error, PermissionError):
                _fail(ctx, f"{error.filename}: permission denied; choose a place you can read and write", 2)
            if error.errno in _NO_PLACE and error.filename:
                place = error.filename2 or error.filename  # of a replacement, where it should have gone
                _fail(ctx, f"{place}: {error.strerror}; choose another place", 2)
            raise


class _Refused(click.ClickException):
    """A command line that click refuses, said like every other mistake."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        sys.stdout.flush()
        click.echo(f"causalft: error: {self.message}", err=True)


def _one_line(error: click.UsageError) -> click.ClickException:
    """Say what click has to say in one line, with the nearest choice or where the help is."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error  # nothing was typed: the help is the answer
    message = " ".join(error.format_message().split()).removeprefix("Invalid value for ").rstrip(".")
    message = message[:1].lower() + message[1:]
    parameter = error.param if isinstance(error, click.BadParameter) else None
    typed = re.search(r"'([^']*)' is not one of ", message)
    if typed and parameter is not None and isinstance(parameter.type, click.Choice):
        close = nearest(typed[1], [str(choice) for choice in parameter.type.choices])
        message += f"; {close}" if close.startswith("did you") else ""
    elif "did you mean" not in message.lower() and error.ctx is not None:
        message += f"; see `{error.ctx.command_path} --help`"
    return _Refused(message)


def _fail(ctx: click.Context, message: str, code: int) -> None:
    """Print one line and leave with ``code``, or show the traceback when --debug was given."""
    if ctx.params.get("debug"):
        raise  # noqa: PLE0704 - called from an except block only
    sys.stdout.flush()
    click.echo(f"causalft: error: {message}", err=True)
    ctx.exit(code)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="causalft", prog_name="causalft")
def main(debug: bool) -> None:
    """Causal tools for foundation models under long-tailed data.

    Is my model confounded? Which classes does the pre-training hurt? Give me a classifier adjusted for it.
    """
