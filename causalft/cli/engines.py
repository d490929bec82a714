"""Options that say who works on the images: this process, those of a launcher, or a Ray cluster."""

from __future__ import annotations

from typing import Any

import click

from causalft.cli.options import Number
from causalft.errors import CausalFTError
from causalft.runs import limits

__all__ = ["check_engine", "engine_options"]


def engine_options(function: Any) -> Any:
    """Add ``--engine`` and ``--workers`` to a command."""
    workers = click.option(
        "--workers",
        type=Number(limits.JOBS),
        help="Workers of --engine ray. Default: one per GPU, else one per processor.",
    )
    engine = click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="local (this process, or those of torchrun), or the workers of a Ray cluster.",
    )
    return engine(workers(function))


def check_engine(engine: str, workers: int | None) -> None:
    """Refuse what :func:`causalft.models.features.engines.open_engine` would, before PyTorch is loaded."""
    if engine == "ray":
        from causalft.models.features.ray_workers import check_ray

        check_ray()
    elif workers is not None:
        raise CausalFTError(
            "--workers goes with --engine ray; without Ray, start several processes with torchrun"
        )
