"""Known label priors: how often the pre-training of a model named each class, from a file of counts.

The counts of real models are public for some class lists (Wen et al., NeurIPS 2024; Udandarao et al., NeurIPS 2024).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from causalft.data.class_tables import MatchedTable, match_classes, name_key, read_class_table, read_name_map
from causalft.errors import CausalFTError, first_few, nearest, several, short
from causalft.runs.files import sha256_file

__all__ = ["KnownPrior", "check_prior_files", "known_prior", "read_known_priors", "split_prior_option"]


@dataclass(frozen=True)
class KnownPrior:
    """The known label prior of one model, or pre-training set, over K classes.

    Attributes
    ----------
    name : str
        The model, or pre-training set.
    source : str
        The file.
    counts : (K,) array
        0 or more; NaN where the count of a class is not known. At least two are known, and not all are 0.
    matched : MatchedTable
    sha256 : str
        Of the file.
    zeros_unknown : bool
        Zeros of the file are not known.
    """

    name: str
    source: str
    counts: NDArray[np.float64] = field(compare=False)
    matched: MatchedTable = field(compare=False)
    sha256: str = ""
    zeros_unknown: bool = False

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the count of each class is known: (K,)."""
        return ~np.isnan(self.counts)

    @cached_property
    def log_counts(self) -> NDArray[np.float64]:
        """Natural log of the counts, (K,); NaN where unknown.

        A class seen zero times enters with half the least positive count: rarer than any class that was seen, and the
        same whether the file holds counts or shares.
        """
        least = self.counts[self.counts > 0].min()  # NaN is not positive
        return np.log(np.where(self.counts == 0, least / 2, self.counts))

    @cached_property
    def prior(self) -> NDArray[np.float64]:
        """The counts, zeros as in `log_counts`, as shares of the known classes, (K,): sums to 1; NaN where unknown."""
        weights = np.exp(self.log_counts - np.nanmax(self.log_counts))
        return weights / np.nansum(weights)

    def require_all(self, classes: Sequence[str], purpose: str) -> NDArray[np.float64]:
        """Return `prior`, refusing it if the count of a class is not known.

        Parameters
        ----------
        classes : sequence of K str
        purpose : str
            What needs all classes, for the message.

        Raises
        ------
        CausalFTError
            Names the classes.
        """
        if not self.known.all():
            unknown = [name for name, known in zip(classes, self.known, strict=True) if not known]
            raise CausalFTError(
                f"{purpose} needs the count of every class, and {self.source} has none for "
                f"{several(unknown, 'class', 'classes')} ({first_few(unknown)}); add them, or leave out "
                f"--prior-of {self.name}"
            )
        return self.prior

    def notes(self, classes: Sequence[str]) -> list[str]:
        """Return what did not match, in sentences: on either side, and zeros.

        Parameters
        ----------
        classes : sequence of K str
        """
        n, matched = len(self.counts), self.matched
        found = [f"{self.name}: {matched.n_matched} of {n} classes have a count in {short(self.source, 300)}"]
        if matched.missing:
            found.append(
                f"{self.name}: no count for {several(matched.missing, 'class', 'classes')}, left out of the P groups "
                f"and slopes: {first_few(matched.missing, 10)}"
            )
        if matched.unused:
            found.append(
                f"{self.name}: {several(matched.unused, 'count is', 'counts are')} for no class of the data: "
                f"{first_few(matched.unused, 10)}"
            )
        zeros = np.flatnonzero(matched.values == 0).tolist()
        if len(zeros):
            names = first_few([classes[k] for k in zeros], 10)
            meant = (
                "taken as unknown and left out"
                if self.zeros_unknown
                else "taken as seen zero times (--zero-counts unknown if they mean no entry)"
            )
            found.append(f"{self.name}: {several(zeros, 'count is', 'counts are')} 0, {meant}: {names}")
        return found


def split_prior_option(given: Iterable[str] | Mapping[str, str]) -> dict[str, str]:
    """Split the values NAME=FILE of repeated options.

    Raises
    ------
    CausalFTError
        If a value has no name or file, or a name comes twice.

    Examples
    --------
    >>> split_prior_option(["laion400m=counts/laion400m.txt"])
    {'laion400m': 'counts/laion400m.txt'}
    """
    if isinstance(given, Mapping):
        return dict(given)
    pairs: dict[str, str] = {}
    for text in given:
        name, sign, path = (part.strip() for part in text.partition("="))
        if not sign or not name:
            raise CausalFTError(
                f"--prior-of '{short(text)}' is not NAME=FILE; give a model and its file of counts"
            )
        if not path:
            raise CausalFTError(f"--prior-of {short(name)}= names no file; give NAME=FILE")
        if name in pairs:
            raise CausalFTError(f"--prior-of gives '{short(name)}' twice; keep one file")
        pairs[name] = path
    return pairs


def read_known_priors(
    given: Iterable[str] | Mapping[str, str],
    names_allowed: Sequence[str] | None,
    classes: Sequence[str],
    *,
    zeros_unknown: bool = False,
    prior_map: str | os.PathLike[str] | None = None,
) -> dict[str, KnownPrior]:
    """Read the known priors of models from files of counts.

    Parameters
    ----------
    given : sequence of "NAME=FILE", or mapping of name to file
    names_allowed : sequence of str, optional
        Models that a name may mean; any, by default.
    classes : sequence of K str
    zeros_unknown : bool
        A count of 0 means that the class has no entry, instead of seen zero times.
    prior_map : path, optional
        File with what classes are called in the files of counts (`causalft.data.class_tables.read_name_map`).

    Returns
    -------
    dict of str to KnownPrior

    Raises
    ------
    CausalFTError
        If a name is unknown or given twice, a file is damaged (`causalft.data.class_tables.read_class_table`), fewer
        than half of the classes match, or the counts tell nothing (fewer than two, or all 0).

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "counts.txt"
    >>> _ = file.write_text("cat\\t30\\ndog\\t10\\nlynx\\t0\\n")
    >>> found = read_known_priors([f"clip={file}"], ["clip", "openclip"], ["cat", "dog", "lynx", "wolf"])
    >>> found["clip"].counts.tolist(), found["clip"].prior.round(3).tolist()
    ([30.0, 10.0, 0.0, nan], [0.667, 0.222, 0.111, nan])
    """
    pairs = split_prior_option(given)
    tables, name_map = check_prior_files(pairs, names_allowed, prior_map)
    return {
        name: known_prior(
            name, table, classes, source=pairs[name], zeros_unknown=zeros_unknown, name_map=name_map
        )
        for name, table in tables.items()
    }


def check_prior_files(
    pairs: Mapping[str, str], names_allowed: Sequence[str] | None, prior_map: str | os.PathLike[str] | None
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Read files of counts before the classes are known; arguments as of `read_known_priors`.

    Returns
    -------
    tables : dict of str to dict of str to float
        The counts of each name.
    name_map : dict of str to str
        Empty without a file.

    Raises
    ------
    CausalFTError
        As `read_known_priors`, but for what does not match.
    """
    for name in pairs:
        if names_allowed is not None and name not in names_allowed:
            raise CausalFTError(
                f"--prior-of {short(name)}: no model is called so; {nearest(name, names_allowed)}"
            )
    if not pairs and prior_map is not None:
        raise CausalFTError("--prior-map goes with --prior-of NAME=FILE; give the counts too")
    name_map = {} if prior_map is None else read_name_map(prior_map)
    tables = {name: read_class_table(path) for name, path in pairs.items()}
    _check_map(name_map, tables)
    return tables, name_map


def known_prior(
    name: str,
    table: Mapping[str, float],
    classes: Sequence[str],
    *,
    source: str,
    zeros_unknown: bool = False,
    name_map: Mapping[str, str] | None = None,
) -> KnownPrior:
    """Match the counts of one model, read from ``source``, with the classes of a set.

    Raises
    ------
    CausalFTError
        As `read_known_priors`.
    """
    matched = match_classes(table, classes, path=source, name_map=name_map)
    counts = matched.values.copy()
    if zeros_unknown:
        counts[counts == 0] = np.nan
    if not (counts > 0).any():
        raise CausalFTError(
            f"every count of {short(source, 300)} is 0 for the classes of the data; give others"
        )
    if np.count_nonzero(~np.isnan(counts)) < 2:
        raise CausalFTError(
            f"{short(source, 300)} has a known count for only one class of the data; a prior compares two or more"
        )
    return KnownPrior(
        name=name,
        source=str(source),
        counts=counts,
        matched=matched,
        sha256=sha256_file(os.path.expanduser(source)),
        zeros_unknown=zeros_unknown,
    )


def _check_map(name_map: Mapping[str, str], tables: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse a map to a name that no table has."""
    known = {name_key(name): name for table in tables.values() for name in table}
    for name, other in name_map.items():
        if name_key(other) not in known:
            raise CausalFTError(
                f"--prior-map maps '{short(name)}' to '{short(other)}', which no file of --prior-of has; "
                f"{nearest(other, known.values())}"
            )
