"""The semi-supervised methods by name. Imports no PyTorch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from causalft.errors import CausalFTError
from causalft.runs.records import Records

__all__ = ["METHODS", "SemiMethod"]


@dataclass(frozen=True)
class SemiMethod:
    """A semi-supervised method, declared in the file that implements it.

    Attributes
    ----------
    name, help : str
        ``help`` says what it does to the unlabelled images, and for what.
    make : callable
        ``make(task, **settings)`` returns a :class:`causalft.methods.semi.method.Method`; the settings have defaults.
    tuner : str
        The tuner that its name stands for; empty: that of ``--tuner``.
    rate : float
        Factor on the usual learning rate of the zoo, which is that of adapters.
    unlabelled : bool
        Whether it uses unlabelled images.
    adjusts : bool
        It has its own remedy for the long tail of the labels, so the loss is its own; otherwise ``--loss`` (CE or LA)
        is that of the labelled images.
    shares : tuple of str
        Settings from 0 to 1; the others are 0 or more.
    refuse : callable, optional
        ``refuse(**settings)`` raises a CausalFTError if they do not go together; called before any image is read.
    ours : str
        What its source leaves open, and what is done here.
    source : str
    order : int
        Place in lists: the ladder.
    """

    name: str
    help: str
    make: Callable[..., Any]
    tuner: str = ""
    rate: float = 1.0
    unlabelled: bool = True
    adjusts: bool = False
    shares: tuple[str, ...] = ("threshold",)
    refuse: Callable[..., None] | None = None
    ours: str = ""
    source: str = ""
    order: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the method and their defaults.

        Examples
        --------
        >>> METHODS["fixmatch"].settings["threshold"]
        0.95
        """
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    def settings_with(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the settings, those in ``given`` replaced.

        Raises
        ------
        CausalFTError
            For a setting that the method does not have.
        """
        known = self.settings
        for name in given:
            if name not in known:
                has = f"it has {', '.join(known)}" if known else "it has no setting, so leave it out"
                raise CausalFTError(f"the method {self.name} has no {name.replace('_', ' ')}; {has}")
        return {**known, **given}


METHODS = Records("causalft.methods.semi", SemiMethod, "semi-supervised method")
