"""Under a launcher a command that does not share its work is refused, instead of run by every process."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from causalft.cli import VERBS, main
from causalft.cli.launched import SHARED


@pytest.mark.parametrize("verb", sorted(set(VERBS) - set(SHARED)))
def test_a_command_of_one_process_is_refused_under_a_launcher(verb, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)  # nobody to agree with on who speaks
    found = CliRunner().invoke(main, [verb, "--help"])
    assert found.exit_code == 2
    assert f"'{verb}' runs in one process" in found.stderr
    assert "fit, probe, predict and evaluate" in found.stderr


@pytest.mark.parametrize("verb", SHARED)
def test_the_others_start(verb, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    found = CliRunner().invoke(main, [verb, "--help"])
    assert found.exit_code == 0
    assert "Usage" in found.stdout
