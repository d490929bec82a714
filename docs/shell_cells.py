"""The ``%%bash`` cells of the tutorials: plain output, all of it together, and an error where a command fails."""

from __future__ import annotations

import os
import subprocess
import warnings
from typing import Any

__all__ = ["bash", "load_ipython_extension"]


def bash(line: str, cell: str) -> None:
    """Run the cell in bash and print its standard output; progress bars, on standard error, stay out of the page.

    IPython's own magic prints in pieces of a hundred bytes, and its kernel asks commands for coloured output.
    """
    plain = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "CLICOLOR_FORCE")}
    command = ["bash", "-euo", "pipefail", "-c", cell]
    done = subprocess.run(command, env=plain, capture_output=True, text=True)
    # A page is built in a folder that is gone afterwards: show what is in it, not where it was.
    text = done.stdout.replace(f"{os.getcwd()}{os.sep}", "").rstrip()
    if text:
        print(text)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")


def load_ipython_extension(shell: Any) -> None:
    """Take the place of IPython's magic: ``%load_ext shell_cells``."""
    # tqdm's advice to install a widget for notebooks names a path of the machine that builds the pages.
    warnings.filterwarnings("ignore", message="IProgress not found")
    shell.register_magic_function(bash, "cell", "bash")
