"""Prompts of a class that a head starts from: one template, an ensemble, or descriptors from a file."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError, nearest
from causalft.runs.files import parse_json, read_text

if TYPE_CHECKING:
    from torch import Tensor

    from causalft.models.strata.stratum import Stratum

__all__ = ["TEMPLATES", "check_template", "read_descriptors", "text_weights"]

TEMPLATES: dict[str, tuple[str, ...]] = {
    "classname": ("{}",),
    "default": ("a photo of a {}.",),
    "ensemble": (
        "a photo of a {}.",
        "a photo of the {}.",
        "a picture that shows a {}.",
        "a snapshot of one {}.",
        "a close view of a {}.",
        "a {} seen from afar.",
        "a {} in its usual place.",
        "a {} in front of a busy background.",
        "part of a {}, the rest out of view.",
        "several of them: a group of {}.",
        "a dim, grainy photo of a {}.",
        "a sharp photo of a {} in daylight.",
        "a small {} in a large scene.",
        "a drawing of a {}.",
        "this is a {}.",
    ),
}
"""Sets of templates by name."""

_SUFFIXES = (".json", ".yaml", ".yml", ".txt")


def text_weights(stratum: Stratum, class_names: Sequence[str], spec: str | Path = "default") -> Tensor:
    """Return where a head starts from text: the direction of the mean unit text feature of each class.

    Parameters
    ----------
    stratum : Stratum
        With a text tower.
    class_names : sequence of str
    spec : str or pathlib.Path
        A set of :data:`TEMPLATES` (``classname``, ``default``, ``ensemble``), a template with ``{}`` for the class
        name, or a file of descriptors (:func:`read_descriptors`).

    Returns
    -------
    Tensor
        Shape (n_classes, d), float32, unit rows.

    Raises
    ------
    CausalFTError
        If ``spec`` is invalid, the file lacks a class or cannot be read, a mini does not know a word, or two classes
        have the same texts for the model.

    Warns
    -----
    causalft.errors.CausalFTWarning
        If a text is longer than the model reads.
    """
    if _is_file(spec):
        return stratum.described_features(read_descriptors(Path(spec), class_names), str(spec))
    check_template(spec)
    templates = TEMPLATES.get(str(spec), (str(spec),))
    sums: Any = 0
    for template in templates:  # one at a time: for thousands of classes all would not fit
        sums = sums + stratum.text_features(class_names, template).cpu().double()
    return _unit(sums).to(stratum.device)


def check_template(spec: str | Path) -> None:
    """Refuse what :func:`text_weights` could not use with any classes; no model is needed.

    Raises
    ------
    CausalFTError
        If ``spec`` is no set, template or file of descriptors, or the file cannot be read.

    Examples
    --------
    >>> check_template("a drawing of a {}.")
    """
    if _is_file(spec):
        _read(Path(spec))
    elif str(spec) not in TEMPLATES and "{}" not in str(spec):
        raise CausalFTError(
            f"{str(spec)!r} is no set of templates ({nearest(str(spec), TEMPLATES)}), no template with {{}}, and no "
            f"file of descriptors ({', '.join(_SUFFIXES)})"
        )


def _is_file(spec: str | Path) -> bool:
    return str(spec).lower().endswith(_SUFFIXES)


def read_descriptors(path: Path, class_names: Sequence[str]) -> dict[str, list[str]]:
    """Read the prompts of each class from a file.

    JSON or YAML: class name to a phrase or a list of phrases. Text: one line ``class: phrase; phrase`` per class; empty
    lines and lines that start with ``#`` are skipped. A phrase with ``{}`` is a template; any other follows the name:
    ``a photo of a lynx, tufts on its ears.`` Case and underscores in class names are ignored, other classes left out.

    Parameters
    ----------
    path : pathlib.Path
        ``.json``, ``.yaml``, ``.yml`` or ``.txt``.
    class_names : sequence of str

    Returns
    -------
    dict of str to list of str
        In the order of ``class_names``.

    Raises
    ------
    CausalFTError
        If the file cannot be read, is no such mapping, or lacks a class (the first three are named).
    """
    found = {_key(name): phrases for name, phrases in _read(path).items()}
    missing = [name for name in class_names if not found.get(_key(name))]
    if missing:
        listed = ", ".join(map(repr, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise CausalFTError(
            f"{path} has no descriptor for {len(missing)} of {len(class_names)} classes ({listed}); add a phrase "
            "for each"
        )
    return {name: [_prompt(name, phrase) for phrase in found[_key(name)]] for name in class_names}


def _unit(sums: Tensor) -> Tensor:
    from torch.nn import functional as F  # PyTorch: check_template does without it

    return F.normalize(sums, dim=1).float()


def _prompt(name: str, phrase: str) -> str:
    """The sentence; ``replace`` and not ``format``, because a phrase may hold other braces."""
    name = name.replace("_", " ")
    return phrase.replace("{}", name) if "{}" in phrase else f"a photo of a {name}, {phrase.rstrip('.')}."


def _key(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", str(name)).replace("_", " ").casefold().split())


def _read(path: Path) -> dict[str, list[str]]:
    import yaml  # for a file of descriptors only

    try:
        text = read_text(path)
        if path.suffix.lower() == ".json":
            content: Any = parse_json(text, "the text")
        elif path.suffix.lower() == ".txt":
            return _read_lines(path, text)
        else:
            content = yaml.safe_load(text)
    except RecursionError:
        raise CausalFTError(f"the descriptors in {path} cannot be read: they are nested too deeply") from None
    except (CausalFTError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise CausalFTError(f"the descriptors in {path} cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise CausalFTError(
            f"{path} must map each class name to its phrases; it holds a {type(content).__name__}"
        )
    descriptors: dict[str, list[str]] = {}
    for name, phrases in content.items():
        listed = [phrases] if isinstance(phrases, str) else phrases
        if not isinstance(listed, list) or not all(isinstance(phrase, str) for phrase in listed):
            raise CausalFTError(f"{path}: the phrases of class {str(name)!r} must be texts, not {phrases!r}")
        descriptors[str(name)] = [phrase.strip() for phrase in listed if phrase.strip()]
    return descriptors


def _read_lines(path: Path, text: str) -> dict[str, list[str]]:
    descriptors: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, phrases = line.partition(":")
        if not colon:
            raise CausalFTError(f"{path}, line {number}: {line.strip()!r} is not 'class: phrase; phrase'")
        spoken = [phrase.strip() for phrase in phrases.split(";") if phrase.strip()]
        descriptors.setdefault(name.strip(), []).extend(spoken)
    return descriptors
