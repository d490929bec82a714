"""A member of an experiment: which model is tuned on which images and how; it is tuned once for all experiments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError

if TYPE_CHECKING:
    from causalft.methods.adaptation.settings import Tuning
    from causalft.methods.semi.settings import SemiSettings

__all__ = ["Draw", "Member"]


@dataclass(frozen=True)
class Draw:
    """The training images.

    Attributes
    ----------
    order : {"", "consistency", "reverse", "balance"}
        Order of the classes in the long tail against the label prior of `order_by`; "" keeps that of the data.
    order_by : str
        Stratum.
    law : str
        The protocol of semi-supervised learning in place of the long tail of the data: few labelled images, and
        unlabelled ones whose law this names (:data:`causalft.data.tails.UNLABELLED_ORDERS`); ``none``: no unlabelled
        ones.
    first_seed : int
        With a law: what is added to every seed, of images and tuning alike. Unless it is 0, the test images of
        creatures are others too, so that what was chosen on the usual ones is tested afresh.

    The images, and for balance the order too, differ between seeds.
    """

    order: str = ""
    order_by: str = ""
    law: str = ""
    first_seed: int = 0

    @property
    def document(self) -> dict[str, str | int]:
        """What a member's folder depends on: fields that were added later only where they are used."""
        later: dict[str, str | int] = {"law": self.law, "first_seed": self.first_seed}
        used = {name: value for name, value in later.items() if value}
        return {"order": self.order, "order_by": self.order_by, **used}


@dataclass(frozen=True)
class Member:
    """One foundation model, tuned.

    Attributes
    ----------
    name : str
        In the zoo, such as ``clip``, ``clip@1`` (pre-trained again) or ``clip#1`` (tuned again).
    loss : str
        In :data:`causalft.models.tuning.choices.LOSSES`.
    epochs : float
        Times the epochs of the recipe.
    recipe : str
        A preset of ``fit``, such as ``lift+``, in place of the recipe of the scale.
    changes : tuple of (str, value)
        Further fields of :class:`causalft.methods.adaptation.settings.Tuning` that differ from the recipe of the scale.
    draw : Draw
    method : str
        Semi-supervised method that tunes it, in :data:`causalft.methods.semi.choices.METHODS`.
    method_settings : tuple of (str, number)
        Settings of the method that differ from its own.

    Examples
    --------
    >>> Member("clip", "CE", changes=(("tuner", "linear-probe"),)).label
    'clip-CE-linear-probe'
    """

    name: str
    loss: str = "LA"
    epochs: float = 1.0
    recipe: str = ""
    changes: tuple[tuple[str, Any], ...] = ()
    draw: Draw = Draw()
    method: str = ""
    method_settings: tuple[tuple[str, float], ...] = ()

    @property
    def label(self) -> str:
        """For folders and messages."""
        words = [self.name, *([self.method] if self.method else [])]
        words += [f"{name}-{value:g}" for name, value in self.method_settings] + [self.loss]
        if self.epochs != 1:
            words.append(f"x{self.epochs:g}")
        words += [self.recipe] if self.recipe else []
        words += [str(value) for _, value in self.changes]
        if self.draw.order:
            words.append(f"{self.draw.order}-{self.draw.order_by}")
        words += [self.draw.law] if self.draw.law else []
        words += [f"from-{self.draw.first_seed}"] if self.draw.first_seed else []
        return "-".join(words).replace("/", "_").replace("@last", "_last")

    def tuning(self, recipe: Tuning, seed: int) -> Tuning:
        """The recipe of the scale with what this member changes, for one seed.

        Raises
        ------
        CausalFTError
            For an unknown field.
        """
        from causalft.methods.semi.settings import semi_tuning, usual_rate
        from causalft.models.strata.cards import MemberName

        known = vars(recipe)
        for field, _ in self.changes:
            if field not in known:
                raise CausalFTError(f"{self.label} changes {field!r}, which no tuning has")
        if self.recipe:
            from causalft.methods.adaptation.presets import PRESETS

            values = PRESETS.get_or_refuse(self.recipe).values
            recipe = replace(recipe, **{**values, "epochs": min(values["epochs"], recipe.epochs)})
        recipe = usual_rate(recipe, self.semi)
        changed = replace(recipe, **{"loss": self.loss, **dict(self.changes)})
        found = replace(
            changed,
            epochs=max(1, round(self.epochs * changed.epochs)),
            seed=MemberName.parse(self.name).tuning_seed(self.draw.first_seed + seed),
        )
        settings = self.semi
        return found if settings is None else semi_tuning(found, settings)

    @property
    def semi(self) -> SemiSettings | None:
        """The settings of its method; None without one."""
        from causalft.methods.semi.settings import SemiSettings

        if not self.method:
            return None
        return SemiSettings(method=self.method, method_setting=dict(self.method_settings))

    def folder(self, recipe: Tuning, seed: int, data: Mapping[str, Any]) -> str:
        """Name of its folder: what it is, and a digest of everything it depends on.

        Parameters
        ----------
        recipe : Tuning
        seed : int
        data : mapping
            Describes zoo and images of the scale.
        """
        usual, tuning = asdict(type(recipe)()), asdict(self.tuning(recipe, seed))
        # Only what differs from the defaults: a setting that is added later changes no name.
        chosen = {key: value for key, value in tuning.items() if value != usual[key]}
        depends = {"tuning": chosen, "draw": self.draw.document, **data}
        if self.method:
            depends["method"] = self.method
        if self.method_settings:
            depends["method_settings"] = dict(self.method_settings)
        digest = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()
        return f"{self.label}-seed{seed}-{digest[:10]}"
