"""An earlier verdict, kept as JSON: results whose runs lie elsewhere still count."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError
from causalft.runs.folder import read_json
from causalft.version import __version__
from experiments.frame.claims import INSIGNIFICANT, judge_number

if TYPE_CHECKING:
    from experiments import Experiment
    from experiments.frame.claims import Claim

__all__ = ["Earlier"]


@dataclass(frozen=True)
class Earlier:
    """What ``causalft experiment verdict --json`` printed for other runs.

    Attributes
    ----------
    found : dict
        As :func:`experiments.frame.verdict.give_verdict` returns it.
    name : str
        Of the file.
    """

    found: Mapping[str, Any]
    name: str = "verdict.json"

    @classmethod
    def read(cls, path: Path) -> Earlier:
        """Read a file.

        Raises
        ------
        CausalFTError
            If it is not there, is no verdict, or is one of another version.
        """
        again = f"write one with `causalft experiment verdict DIR --json > {path.name}`"
        if not path.is_file():
            raise CausalFTError(f"{path}: no such file; {again}")
        found = read_json(path, way_out=again)
        keys = {"claims", "objections", "runs", "commands", "version"}
        if not isinstance(found, dict) or not keys <= found.keys():
            raise CausalFTError(f"{path} is no verdict; {again}")
        if found["version"] != __version__:
            raise CausalFTError(
                f"{path} is the verdict of version {found['version']}, this is {__version__}; run its experiments "
                "again, or leave it out"
            )
        return cls(found, path.name)

    def without(self, again: Collection[tuple[str, str]]) -> Earlier:
        """The same without what was run again: pairs of experiment and scale."""
        runs = [run for run in self.runs if (run["experiment"], run["scale"]) not in again]
        kept = {f"{run['experiment']} {run['scale']}" for run in runs}
        commands = {key: command for key, command in self.commands.items() if key in kept}
        return replace(self, found={**self.found, "runs": runs, "commands": commands})

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Experiment, scale, seeds and date of each run."""
        return list(self.found.get("runs", []))

    @property
    def commands(self) -> dict[str, str]:
        """By experiment and scale."""
        return dict(self.found.get("commands", {}))

    def rows(self, claim: Claim, experiment: Experiment) -> list[dict[str, Any]]:
        """Numbers of a claim, one a scale, judged by what it claims now."""
        entries = [*self.found.get("claims", []), *self.found.get("objections", [])]
        return [
            {**number, **_again(claim, number), "command": command}
            for entry in entries
            for number in entry["numbers"]
            if (number["claim"], number["experiment"]) == (claim.text, experiment.name)
            and number.get("at", claim.at) == claim.at  # of the same arms
            and (command := self.commands.get(f"{experiment.name} {number['scale']}"))
        ]


def _again(claim: Claim, number: Mapping[str, Any]) -> dict[str, Any]:
    """Verdict and reason; those stay that the number alone does not tell."""
    if number.get("estimate") is None or (number["why"] == INSIGNIFICANT and number.get("p_holm") is None):
        return {}
    judged = judge_number(claim, number)
    return {"verdict": judged.verdict, "why": judged.why}
