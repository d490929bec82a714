"""The command line as a test calls it, and the one line that it says of a mistake."""

from __future__ import annotations

from click.testing import CliRunner, Result

from causalft.cli import main

__all__ = ["run", "said", "shows"]


def run(*arguments: object, input: str | bytes | None = None) -> Result:
    """``causalft ARGUMENTS``; ``input`` is what stands on standard input."""
    return CliRunner().invoke(main, [str(a) for a in arguments], input=input, prog_name="causalft")


def said(result: Result) -> str:
    """The one line of an error."""
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("causalft: error: ")]
    assert len(lines) == 1, result.output
    return lines[0]


def shows(text: str, words: str) -> bool:
    """Whether the words are in printed text, wherever its lines are broken: at a space, or inside a long path."""
    return "".join(words.split()) in "".join(text.split())
