"""Help in groups: the options that matter first, then the others by what they are about; and former spellings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

__all__ = ["DATA_GROUP", "GENERATOR_GROUP", "SPLIT_GROUP", "GroupedCommand", "SpelledOption"]

DATA_GROUP = (
    "format",
    "root",
    "class_names",
    "path_column",
    "label_column",
    "split_column",
    "factor_column",
    "split_as",
)
"""How the data is opened (:mod:`causalft.cli.data_options`)."""

SPLIT_GROUP = (
    "n_validation",
    "n_test",
    "imbalance_factor",
    "profile",
    "order",
    "order_by",
    "drop_empty_classes",
)
"""How splits are cut and a tail is drawn (:mod:`causalft.cli.split_options`)."""

GENERATOR_GROUP = (
    "model",
    "revision",
    "model_config",
    "prompts",
    "template",
    "negative_prompt",
    "scheduler",
    "steps",
    "guidance",
    "precision",
    "device",
    "batch_size",
    "attention_slicing",
    "safety_checker",
)
"""Stable Diffusion's own (:mod:`causalft.cli.generator_options`)."""

_OTHER = "Other options"


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings.

    Parameters
    ----------
    groups : mapping of str to sequence of str
        Heading to names of parameters, in the order of the help. What is named in none comes last.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.groups = {title: tuple(names) for title, names in groups.items()}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {
            parameter.name: record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            if (record := parameter.get_help_record(ctx)) is not None
        }
        sections = [
            (title, [records.pop(name) for name in names if name in records])
            for title, names in self.groups.items()
        ]
        sections.append((_OTHER, list(records.values())))
        # One column for all sections, so that they can be read as one table.
        wide = max((len(name) for _, rows in sections for name, _ in rows if len(name) <= 28), default=0)
        for title, rows in sections:
            if rows:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(wide), text) for name, text in rows])


class SpelledOption(click.Option):
    """An option with other spellings, former ones or those of a sibling command: they work and are not shown.

    Parameters
    ----------
    former : sequence of str
        Such as ``("--output",)``.
    """

    def __init__(self, *args: Any, former: Sequence[str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.former = list(former)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        shown = self.opts
        self.opts = [*shown, *self.former]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """All spellings, so that the one that was typed is among them."""
        return " / ".join(f"'{name}'" for name in (*self.opts, *self.former))
