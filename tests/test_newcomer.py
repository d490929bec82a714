"""What a newcomer types wrongly first: one line that names the thing and the way out, and nothing spoilt is kept."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from causalft.cli import main

FIT = ["--strata", "clip", "--epochs", "2", "--n-test", "8", "--n-validation", "5"]


def fit(photos, tiny_zoo, out, *options):
    arguments = ["fit", "--zoo", str(tiny_zoo), "--data", str(photos), "--out", str(out), *FIT, *options]
    return CliRunner().invoke(main, arguments, prog_name="causalft")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--weight-decay", "-1"], "a weight decay of -1 trains nothing; give 0 or more"),
        (["--weight-decay", "nan"], "a weight decay of nan"),
        (["--lr", "1e9"], "stratum 'clip': the logits are not finite"),
        (["--lr", "1e9"], "lower the learning rate (now 1e+09)"),
        (["--lr", "1e9,0.05"], "lower the learning rate (now 1e+09)"),
    ],
)
def test_a_number_that_cannot_work_is_one_line_and_no_result(photos, tiny_zoo, tmp_path, options, line):
    result = fit(photos, tiny_zoo, tmp_path / "run", *options)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1 and line in result.stderr
    assert not list(tmp_path.rglob("*.safetensors"))  # so the corrected command may use the same --out
