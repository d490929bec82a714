"""A group of verbs whose help shows the whole first sentence of each, not the part that fits into one line."""

from __future__ import annotations

from typing import Any

import click

from causalft.cli.failures import VERB

__all__ = ["VerbGroup"]


class VerbGroup(click.Group):
    """A click group that wraps what its verbs do where click would cut it off with three dots."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        found = super().resolve_command(ctx, args)
        ctx.meta[VERB] = f"{ctx.info_name} {found[0]}"
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            verb = self.get_command(ctx, name)
            if verb is not None and not verb.hidden:
                rows.append((name, verb.get_short_help_str(limit=10_000)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
