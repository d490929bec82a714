"""Files of known label priors: the settings shared by every command that uses a prior. Imports no NumPy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError
from causalft.runs import limits
from causalft.runs.settings import check_settings, setting

if TYPE_CHECKING:
    from causalft.methods.priors.known import KnownPrior

__all__ = ["PRIORS", "ZERO_COUNTS", "KnownPriorFiles"]

PRIORS = "Known priors"
"""Heading of these options."""

ZERO_COUNTS = ("seen", "unknown")
"""What a count of 0 can mean: seen zero times, or no entry."""


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(limits.check_text(path)))


@dataclass(frozen=True)
class KnownPriorFiles:
    """Where the known label priors are, and how they are read."""

    prior_of: Mapping[str, str] = setting(
        help="How often the pre-training of a model named each class: a .txt, .tsv, .csv or .json file of class name "
        "and count. Repeatable.",
        factory=dict,
        group=PRIORS,
        metavar="NAME=FILE",
    )
    zero_counts: str = setting(
        "seen",
        "What a count of 0 means: seen zero times, or unknown.",
        group=PRIORS,
        metavar="|".join(ZERO_COUNTS),
        choices=ZERO_COUNTS,
    )
    prior_map: str | None = setting(
        None,
        "What classes are called in the files of counts, where the names differ: lines of class and name.",
        group=PRIORS,
        metavar="FILE",
        read=_absolute,
    )

    def given(self) -> dict[str, Any]:
        """Return only what was given, as ``config.json`` stores it."""
        found = asdict(self)
        return {name: found[name] for name, value in vars(KnownPriorFiles()).items() if found[name] != value}

    def absolute(self) -> dict[str, Any]:
        """Return what was given, with absolute paths."""
        found = self.given()
        if "prior_of" in found:
            files = {
                name: os.path.abspath(os.path.expanduser(path)) for name, path in found["prior_of"].items()
            }
            found["prior_of"] = files
        return found

    def check(self, names: Sequence[str] | None) -> None:
        """Refuse unknown names and damaged files before the classes are known.

        Parameters
        ----------
        names : sequence of str, optional
            Models that a name may mean; any, by default.

        Raises
        ------
        CausalFTError
        """
        check_settings(self)
        if not self.prior_of:
            for name in self.given():
                raise CausalFTError(f"--{name.replace('_', '-')} goes with --prior-of NAME=FILE")
            return
        from causalft.methods.priors.known import check_prior_files  # NumPy, which --help does without

        check_prior_files(self.prior_of, names, self.prior_map)

    def read(self, names: Sequence[str] | None, classes: Sequence[str]) -> dict[str, KnownPrior]:
        """Read the priors over K classes.

        Raises
        ------
        CausalFTError
            As :func:`causalft.methods.priors.known.read_known_priors`.
        """
        self.check(names)
        if not self.prior_of:
            return {}
        from causalft.methods.priors.known import read_known_priors

        return read_known_priors(
            self.prior_of,
            names,
            classes,
            zeros_unknown=self.zero_counts == "unknown",
            prior_map=self.prior_map,
        )

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file by the name of its model; that of the map is ``--prior-map``."""
        from causalft.runs.files import existing, sha256_file

        files = {**self.prior_of, **({"--prior-map": self.prior_map} if self.prior_map else {})}
        return {name: sha256_file(existing(path)) for name, path in files.items()}
