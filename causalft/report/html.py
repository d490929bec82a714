"""One self-contained HTML page for a run: verdict first, then facts, tables and figures, then how to repeat it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from causalft.errors import CausalFTError

__all__ = ["Figure", "Section", "Table", "render_report"]

_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes
    ----------
    columns : sequence of str
        Header; the first column names the rows, the others are set as numbers (right-aligned).
    rows : list of list of str
        Each as long as ``columns``.
    caption : str
        One sentence above the table.
    """

    columns: Sequence[str]
    rows: list[list[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise CausalFTError(
                    f"row {index} of table '{self.caption}' has {len(row)} cells, its header {len(self.columns)}"
                )


@dataclass(frozen=True)
class Figure:
    """A picture on disk that the page will carry inside.

    Attributes
    ----------
    path : Path
        PNG, JPEG or SVG.
    caption : str
        What to see in it.
    alt : str
        The same for who cannot see it.
    """

    path: Path
    caption: str
    alt: str

    @property
    def data_uri(self) -> str:
        """The file as a ``data:`` address."""
        path = Path(self.path)
        if path.suffix.lower() not in _MEDIA_TYPES:
            raise CausalFTError(f"{path}: a report shows .png, .jpg or .svg, not '{path.suffix}'")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise CausalFTError(f"{path}: no such figure; draw it before the report") from None
        return f"data:{_MEDIA_TYPES[path.suffix.lower()]};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs (plain text), then tables, then figures."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


def render_report(
    *,
    title: str,
    verdict: str,
    facts: dict[str, str],
    sections: Sequence[Section],
    command: str,
) -> str:
    """Return the page: one HTML text with style and pictures inside, without any address to fetch.

    Parameters
    ----------
    title : str
    verdict : str
        The answer, in one or two sentences; it stands first.
    facts : dict of str to str
        What was run on what: data, zoo, seeds, seconds.
    sections : sequence of Section
    command : str
        The command that makes the run again.

    Returns
    -------
    str

    Examples
    --------
    >>> page = render_report(title="A & B", verdict="Verified.", facts={"seeds": "3"}, sections=[], command="x")
    >>> "A &amp; B" in page, "http" in page
    (True, False)
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("causalft.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(title=title, verdict=verdict, facts=facts, sections=sections, command=command)
