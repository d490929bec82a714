"""``causalft predict``: classify image files with a fitted run."""

from __future__ import annotations

from pathlib import Path

import click

from causalft.cli.output import console, print_json

__all__ = ["command"]


@click.command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", type=int, default=3, show_default=True, help="Classes shown for each image.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: every class, every stratum.")
def command(run: Path, paths: tuple[Path, ...], top: int, device: str, as_json: bool) -> None:
    """Classify images: PATHS are files or folders of images, RUN is the folder of a fit."""
    from rich.table import Table

    from causalft.datasets.unlabelled import unlabelled_images
    from causalft.errors import CausalFTError
    from causalft.estimators.strata import StrataClassifier

    if top < 1:
        raise CausalFTError("--top must be 1 or more")
    model = StrataClassifier.load(run, device=device)
    images = unlabelled_images(paths)
    strata = model.stratum_proba(images)
    fused = model.fuse_proba(strata)
    classes = model.classes_.tolist()
    if as_json:
        print_json(
            [
                {
                    "file": file,
                    "prediction": classes[int(row.argmax())],
                    "probabilities": dict(zip(classes, row.tolist(), strict=True)),
                    "strata": {
                        name: {
                            "prediction": classes[int(strata[c, i].argmax())],
                            "probabilities": dict(zip(classes, strata[c, i].tolist(), strict=True)),
                        }
                        for c, name in enumerate(model.members_)
                    },
                }
                for i, (file, row) in enumerate(zip(images.files, fused, strict=True))
            ]
        )
        return
    table = Table(
        box=None, header_style="bold", title="P(Y | do(X)), and what each stratum says", title_justify="left"
    )
    table.add_column("file", overflow="fold")
    table.add_column("adjusted prediction")
    for name in model.members_:
        table.add_column(name, style="dim")
    for i, file in enumerate(images.files):
        best = fused[i].argsort()[::-1][:top]
        table.add_row(
            file,
            ", ".join(f"{classes[k]} {100 * fused[i, k]:.0f} %" for k in best),
            *(f"{classes[int(p.argmax())]} {100 * p.max():.0f} %" for p in strata[:, i]),
        )
    console().print(table)
