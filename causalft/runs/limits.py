"""The limits of every setting, for the command line and Python."""

from __future__ import annotations

import math
import numbers
import re
from dataclasses import dataclass
from typing import Any

from causalft.errors import CausalFTError

__all__ = [
    "BUILT_IN",
    "CREATURES",
    "CREATURES_LTSSL",
    "Limits",
    "check_device",
    "check_text",
    "read_names",
    "shown",
    "torch_seed",
    "words_of_seed",
]


_SHOWN = 60  # characters of a wrong value in a message


@dataclass(frozen=True)
class Limits:
    """The range of a number; NaN and infinity are never in it.

    Attributes
    ----------
    least, most : float
        Inclusive bounds.
    above : float, optional
        Exclusive lower bound, instead of ``least``.
    whole : bool
        Whole numbers only.
    why : str
        Reason for the upper bound, for the message.

    Examples
    --------
    >>> EPOCHS.check(10, "epochs")
    10
    >>> WEIGHT_DECAY.check(float("nan"), "weight decay")
    Traceback (most recent call last):
    ...
    causalft.errors.CausalFTError: weight decay nan is not a finite number; give a number from 0 to 1,000
    """

    least: float = -math.inf
    most: float = math.inf
    above: float | None = None
    whole: bool = False
    why: str = ""

    def words(self) -> str:
        """Describe the range.

        Examples
        --------
        >>> LEARNING_RATE.words()
        'a number above 0 and at most 1,000,000,000'
        """
        kind = "a whole number" if self.whole else "a number"
        why = f" ({self.why})" if self.why else ""
        if self.above is not None:
            upper = "" if self.most == math.inf else f" and at most {_number(self.most)}"
            return f"{kind} above {_number(self.above)}{upper}{why}"
        if self.most == math.inf:
            return kind if self.least == -math.inf else f"{kind}, {_number(self.least)} or more{why}"
        return f"{kind} from {_number(self.least)} to {_number(self.most)}{why}"

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with ``value``, or None."""
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return "is not a number"
        if isinstance(value, numbers.Integral):
            finite = int(value)
        elif not math.isfinite(value):
            return "is not a finite number"
        else:
            finite = value  # type: ignore[assignment]
        if self.whole and finite != int(finite):
            return "is not a whole number"
        too_small = finite < self.least or (self.above is not None and finite <= self.above)
        return "is out of range" if too_small or finite > self.most else None

    def check(self, value: Any, what: str) -> Any:
        """Return ``value`` if it is in range.

        Raises
        ------
        CausalFTError
            Names ``what``, the value and the range.
        """
        wrong = self.problem(value)
        if wrong:
            raise CausalFTError(f"{what} {shown(value)} {wrong}; give {self.words()}")
        return value

    def read(self, text: Any) -> Any:
        """Parse a number from the command line.

        Raises
        ------
        CausalFTError
            Without the name of the option; click adds it.

        Examples
        --------
        >>> SEED.read("7"), SHARE.read("0.5")
        (7, 0.5)
        """
        value: Any = text
        if isinstance(text, str):
            try:
                value = int(text) if self.whole else float(text)
            except (ValueError, OverflowError):
                wrong = "is not a whole number" if self.whole else "is not a number"
                raise CausalFTError(f"{shown(text)} {wrong}; give {self.words()}") from None
        wrong_value = self.problem(value)
        if wrong_value:
            raise CausalFTError(f"{shown(text)} {wrong_value}; give {self.words()}")
        return value


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def shown(value: Any) -> str:
    """Return a wrong value for a message, shortened."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-10:]}"


_MEMORY = "more at once does not fit in memory"

SEED = Limits(0, 2**63 - 1, whole=True)
SEEDS = Limits(1, 10_000, whole=True, why="each is a whole training")
CONTROL_SEEDS = Limits(0, 99, whole=True, why="the seeds of two members are 100 apart")
EPOCHS = Limits(1, 1_000_000, whole=True)
PATIENCE = Limits(1, 1_000_000, whole=True)
BATCH_SIZE = Limits(1, 1_000_000, whole=True, why=_MEMORY)
ACCUMULATION = Limits(1, 1_000_000, whole=True)
BOTTLENECK = Limits(1, 65_536, whole=True, why="no tower is as wide")
HEAD_SCALE = Limits(above=0, most=1e6)
TDE_ALPHA = Limits(0, 1_000)
LEARNING_RATE = Limits(above=0, most=1e9)
WEIGHT_DECAY = Limits(0, 1_000)
MOMENTUM = Limits(0, 1)
GRADIENT = Limits(above=0, most=1e9)
WISE_FT = Limits(above=0, most=1)
WISE_FT_LINE = Limits(0, 1)
NEIGHBOURS = Limits(1, 1_000_000_000, whole=True)
IMBALANCE_FACTOR = Limits(1, 1e9)
AUTO = "auto"
"""A share of each class instead of a number of images (`causalft.data.splits`)."""
IMAGES_PER_CLASS = Limits(0, 1_000_000_000, whole=True)
LABELLED_PER_CLASS = Limits(1, 1_000_000_000, whole=True)
PICTURES_PER_CLASS = Limits(1, 100_000, whole=True, why="the sets of a run are held in memory")
PICTURES = Limits(1, 100_000_000, whole=True)
PICTURE_SIZE = Limits(8, 4_096, whole=True, why="pixels; larger pictures do not fit in memory")
IMAGE_SIZE = Limits(8, 1_024, whole=True, why="pixels; a mini is no model of larger images")
SHARE = Limits(0, 1)
STRENGTH = Limits(0, 1)
RATIO = Limits(1, 64, whole=True)
MAGNITUDE = Limits(0, 30, whole=True)
STORED_IMAGES = Limits(0, 1_000_000, whole=True)
MERGED_TOKENS = Limits(0, 10_000, whole=True)
POINTS = Limits(0, 100)
STEPS = Limits(1, 1_000, whole=True, why="the noise schedule has 1,000")
TRAINING_STEPS = Limits(1, 10_000_000, whole=True)
GUIDANCE = Limits(0, 1_000)
PENALTY = Limits(0, 1e9)
BOOTSTRAP = Limits(20, 1_000_000, whole=True)
ROWS = Limits(2, 1_000_000_000, whole=True)
ERROR_RATE = Limits(0.001, 0.5)
PERMUTATIONS = Limits(0, 1_000_000, whole=True)
DAYS = Limits(0, 1_000_000)
JOBS = Limits(1, 1_024, whole=True, why="each is a process with a model of its own")
TOP = Limits(1, 1_000_000_000, whole=True)
CURVE_STEPS = Limits(0, 200, whole=True)
EXPLAINED_IMAGES = Limits(1, 64, whole=True)
COVERAGE = Limits(0.01, 0.999)


def check_text(value: str, what: str = "it") -> str:
    """Return a name or path if it is not empty.

    Raises
    ------
    CausalFTError
        If it is blank or contains a NUL character.

    Examples
    --------
    >>> check_text("photos", "--data")
    'photos'
    """
    if not value.strip():
        raise CausalFTError(f"{what} is empty; give a value")
    if "\0" in value:
        raise CausalFTError(f"{what} {shown(value)} holds a NUL character; no name or path has one")
    return value


def read_names(text: str) -> tuple[str, ...]:
    """Return names separated by commas.

    Raises
    ------
    CausalFTError
        If no name is given.

    Examples
    --------
    >>> read_names("clip, openclip")
    ('clip', 'openclip')
    """
    check_text(text)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise CausalFTError(f"{shown(text)} names nothing; give names separated by commas")
    return names


def check_device(name: str, what: str = "device") -> str:
    """Return the name of a device if it is valid; it need not be present.

    Parameters
    ----------
    name : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    what : str
        Name of the setting in messages.

    Raises
    ------
    CausalFTError

    Examples
    --------
    >>> check_device("cuda:1")
    'cuda:1'
    >>> check_device("meta")
    Traceback (most recent call last):
    ...
    causalft.errors.CausalFTError: device 'meta' is unknown; use auto, cpu, cuda, cuda:N or mps
    """
    if not isinstance(name, str) or not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,2})?|mps", name):
        wrong = f"{shown(name)} is unknown; use auto, cpu, cuda, cuda:N or mps"
        raise CausalFTError(f"{what} {wrong}" if what else wrong)
    return name


def torch_seed(number: int) -> int:
    """Return ``number`` modulo 2^63, as PyTorch's generators need it.

    Examples
    --------
    >>> torch_seed(5), torch_seed(2**63 + 5)
    (5, 5)
    """
    return number % 2**63


def words_of_seed(number: int) -> int | list[int]:
    """Return a seed for NumPy's legacy generators: itself below 2^32, else its 32-bit words.

    Examples
    --------
    >>> words_of_seed(7), words_of_seed(2**32 + 1)
    (7, [1, 1])
    """
    return number if number < 2**32 else [number % 2**32, number >> 32]


CREATURES = "creatures-lt"
"""The built-in set (:mod:`causalft.data.creatures`)."""
CREATURES_LTSSL = "creatures-ltssl"
"""The same with few labels and unlabelled images of its own."""
BUILT_IN = (CREATURES, CREATURES_LTSSL)
