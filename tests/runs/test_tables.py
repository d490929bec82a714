"""One reader for the tables of every command: separators, Excel's line, blank lines, byte order marks, types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalft.errors import CausalFTError
from causalft.runs.tables import read_frame, read_table
from tests.command_line import run, said

ROWS = {"path": ["cat/1.png", "dog/1.png"], "label": ["cat", "dog"]}


def write(folder: Path, data: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        "path,label\ncat/1.png,cat\ndog/1.png,dog\n",
        "path;label\ncat/1.png;cat\ndog/1.png;dog\n",
        "path\tlabel\ncat/1.png\tcat\ndog/1.png\tdog",
        "path|label\ncat/1.png|cat\ndog/1.png|dog\n",
        "sep=;\npath;label\ncat/1.png;cat\ndog/1.png;dog\n",
        '\ufeff"sep=;"\r\n\r\npath;label\r\ncat/1.png;cat\r\ndog/1.png;dog\r\n;\r\n',
        "\n  \n\ufeffpath, label\ncat/1.png, cat\n\ndog/1.png ,dog\n,\n",
        ",path,label\n0,cat/1.png,cat\n1,dog/1.png,dog\n",
        "path,label,\ncat/1.png,cat,\ndog/1.png,dog,\n",
        'path,"label"\r"cat/1.png",cat\rdog/1.png,"dog"\r',
        "path\tlabel\ncat/1.png\tcat\ndog/1.png\tdog\n".encode("utf-16"),
    ],
    ids=range(11),
)
def test_text_tables_are_read_alike_in_every_dialect(tmp_path: Path, data: str | bytes) -> None:
    table = read_table(write(tmp_path, data))
    assert {name: table.values(name) for name in table.columns} == ROWS


def test_quoted_cells_keep_separators_and_line_ends(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, 'path,label\n"a,b\nc.png","say ""hi"""\n'))
    assert table.values("path") == ["a,b\nc.png"] and table.values("label") == ['say "hi"']


def test_data_frame_has_numbers_booleans_and_text(tmp_path: Path) -> None:
    text = "n;half;gap;truth;word\n1;1,5;1;TRUE;NA\n20;-2;;false;None\n"
    frame = read_frame(write(tmp_path, text))
    assert frame["n"].tolist() == [1, 20] and frame["n"].dtype == np.int64
    assert frame["half"].tolist() == [1.5, -2.0] and frame["truth"].tolist() == [True, False]
    assert frame["gap"][0] == 1 and np.isnan(frame["gap"][1])
    assert frame["word"].tolist() == ["NA", "None"]
    comma = read_frame(write(tmp_path, "n,word\n1,a\n2,b\n"))
    assert comma["n"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b\n1,2\n3\n", r"not a whole table .line 3: Expected 2 columns, got 1"),
        ("\nsep=,\n\na,b\n1,2\n3\n", r"line 6: Expected 2 columns"),
        ("a,b,a\n1,2,3\n", "column 'a' twice"),
        (b"a,b\n1,\xe9\n", r"is not text in UTF-8 .line 2.; .* as in caf\\xe9\.png"),
        ("a" * 200_000 + ",b\n", "is not a whole table .field larger"),
    ],
)
def test_a_damaged_table_is_refused_in_one_short_line(tmp_path: Path, data: str | bytes, words: str) -> None:
    with pytest.raises(CausalFTError, match=words) as caught:
        read_table(write(tmp_path, data))
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 600


def test_falsify_and_prior_read_the_tables_that_data_show_reads(tmp_path: Path) -> None:
    """Excel's first line, semicolons and decimal commas in every command that takes a table."""
    (tmp_path / "g.txt").write_text("X -> Z\nZ -> Y\n")
    rows = "".join(f"{i % 2};{i % 3};{(i // 3) % 2}\n" for i in range(60))
    data = write(tmp_path, "sep=;\n\nX;Z;Y\n" + rows)
    result = run("graph", "falsify", "--data", data, "--graph", tmp_path / "g.txt")
    assert result.exit_code == 0, result.output
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(60, 3))
    lines = [
        ";".join([*(f"{v:.4f}".replace(".", ",") for v in row), f"{i % 3},0"]) for i, row in enumerate(logits)
    ]
    data = write(tmp_path, "sep=;\nant;bee;cow;label\n" + "\n".join(lines) + "\n", "l.csv")
    quick = ("--l2", "0", "--n-boot", "20", "--json")
    by_commas = run("prior", "estimate", "--logits", data, *quick)
    frame = pd.DataFrame(logits.round(4), columns=["ant", "bee", "cow"]).assign(label=np.arange(60) % 3)
    frame.to_parquet(tmp_path / "l.parquet")
    by_parquet = run("prior", "estimate", "--logits", tmp_path / "l.parquet", *quick)
    assert by_commas.exit_code == by_parquet.exit_code == 0, by_commas.output
    assert by_commas.stdout.replace("l.csv", "l.parquet") == by_parquet.stdout
    frame.astype({"label": float}).assign(label=lambda f: f["label"].where(f.index != 4)).to_parquet(
        tmp_path / "gap.parquet"
    )
    gap = said(run("prior", "estimate", "--logits", tmp_path / "gap.parquet", *quick))
    assert "no label in 1 of 60 rows (first: row 5)" in gap
