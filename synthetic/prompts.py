"""Prompts of the Stable Diffusion generator: classes, parts and templates, read from YAML and checked."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from causalft.errors import CausalFTError, nearest

__all__ = ["Prompts", "default_prompts", "read_prompts"]

_KEYS = ("classes", "templates", "use", "negative_prompt")
_PLACEHOLDERS = ("class", "part")


@dataclass(frozen=True)
class Prompts:
    """Prompts for a text-to-image model.

    Attributes
    ----------
    classes : class name -> names of its parts under C=0 and C=1.
    templates : template name -> text with ``{class}`` and ``{part}``.
    use : templates in use; with several, the image's seed chooses.
    negative_prompt : or ``""``.

    Examples
    --------
    >>> default_prompts().text("cat", 0)
    "a photo of a cat's head"
    """

    classes: Mapping[str, tuple[str, str]]
    templates: Mapping[str, str]
    use: tuple[str, ...]
    negative_prompt: str

    def text(self, look: str, part: int, seed: int = 0) -> str:
        """The prompt of one image.

        Raises
        ------
        CausalFTError
            For an unknown class, or a part other than 0 or 1.
        """
        if look not in self.classes:
            raise CausalFTError(f"the prompts have no class {look!r}; {nearest(look, self.classes)}")
        if part not in (0, 1):
            raise CausalFTError(f"part must be 0 or 1, got {part!r}")
        template = self.templates[self.use[seed % len(self.use)]]
        return template.replace("{class}", look).replace("{part}", self.classes[look][part])

    def using(self, names: Sequence[str]) -> Prompts:
        """The same prompts with other templates in use.

        Raises
        ------
        CausalFTError
            For an unknown or repeated template.
        """
        _check_use(names, self.templates, "--template")
        return replace(self, use=tuple(names))

    def config(self) -> dict[str, Any]:
        """A JSON document that identifies the prompts."""
        return {
            "classes": {name: list(parts) for name, parts in self.classes.items()},
            "templates": [self.templates[name] for name in self.use],
            "negative_prompt": self.negative_prompt,
        }


def default_prompts() -> Prompts:
    """The prompts of the paper: six classes, ``a photo of a {class}'s {part}``."""
    return read_prompts(Path(str(resources.files("synthetic") / "prompts.yaml")))


def read_prompts(path: str | os.PathLike[str]) -> Prompts:
    """Read prompts from YAML; ``classes`` is required, other keys default to the paper's.

    Raises
    ------
    CausalFTError
        One line with file, line and what is allowed: no such file, not YAML, an unknown or repeated key, a value of the
        wrong type, a class without two parts, an unknown or missing placeholder.
    """
    file = Path(path)
    if not file.is_file():
        raise CausalFTError(f"{file}: no such file; --prompts takes a YAML file")
    try:
        tree = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise CausalFTError(f"{file} is not text in UTF-8") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise CausalFTError(f"{file}{place}: not YAML ({getattr(error, 'problem', error)})") from None
    reader = _Reader(file)
    found = reader.mapping(tree, "the file", f"the keys {', '.join(_KEYS)}")
    for key, (key_node, _) in found.items():
        if key not in _KEYS:
            reader.fail(key_node, f"unknown key {key!r}; {nearest(key, _KEYS)}")
    if "classes" not in found:
        reader.fail(tree, "'classes' is missing: give class: [part under C=0, part under C=1]")
    classes = reader.classes(found["classes"][1])
    shipped = None if found.keys() >= set(_KEYS) else default_prompts()
    templates = (
        reader.templates(found["templates"][1]) if "templates" in found else dict(_of(shipped).templates)
    )
    if "use" in found:
        use = reader.texts(found["use"][1], "'use'", "a list of template names")
        try:
            _check_use(use, templates, "'use'")
        except CausalFTError as error:
            reader.fail(found["use"][1], str(error))
    else:
        use = list(templates)[:1]
    negative = _of(shipped).negative_prompt if "negative_prompt" not in found else ""
    if "negative_prompt" in found:
        node = found["negative_prompt"][1]
        if node.tag != "tag:yaml.org,2002:null":
            negative = reader.text(node, "'negative_prompt'", empty=True)
    return Prompts(classes, templates, tuple(use), negative)


def _of(prompts: Prompts | None) -> Prompts:
    assert prompts is not None
    return prompts


def _check_use(names: Sequence[str], templates: Iterable[str], where: str) -> None:
    known = list(templates)
    if not names:
        raise CausalFTError(f"{where} names no template; use at least one of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise CausalFTError(f"{where}: no template {name!r}; {nearest(name, known)}")
        if list(names).count(name) > 1:
            raise CausalFTError(f"{where}: template {name!r} is named twice")


class _Reader:
    """Turns YAML nodes into checked values; messages name file and line."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def fail(self, node: yaml.Node | None, message: str) -> None:
        line = f" line {node.start_mark.line + 1}" if node is not None else ""
        raise CausalFTError(f"{self.file}{line}: {message}")

    def mapping(
        self, node: yaml.Node | None, what: str, wanted: str
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"{what} must be a mapping with {wanted}")
        assert isinstance(node, yaml.MappingNode)
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value in node.value:
            key = self.text(key_node, f"a name in {what}")
            if key in found:
                self.fail(key_node, f"{key!r} stands twice in {what}")
            found[key] = (key_node, value)
        return found

    def text(self, node: yaml.Node, what: str, empty: bool = False) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            shown = f" {node.value!r}" if isinstance(node, yaml.ScalarNode) else ""
            self.fail(node, f"{what} must be text, not{shown} {_kind(node)}; put text in quotes")
        value = " ".join(str(node.value).split())
        if not value and not empty:
            self.fail(node, f"{what} is empty")
        return value

    def texts(self, node: yaml.Node, what: str, wanted: str) -> list[str]:
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, f"{what} must be {wanted}, not {_kind(node)}")
        return [self.text(item, f"an entry of {what}") for item in node.value]

    def classes(self, node: yaml.Node) -> dict[str, tuple[str, str]]:
        classes: dict[str, tuple[str, str]] = {}
        for name, (key_node, value) in self.mapping(node, "'classes'", "class: [part, part]").items():
            # a class is the name of a folder
            if not re.fullmatch(r"[^\W_][^/\\:*?\"<>|\x00-\x1f]*", name) or name.endswith("."):
                self.fail(key_node, f"class {name!r} cannot be the name of a folder; use letters and digits")
            parts = self.texts(value, f"class {name!r}", "two parts: [part under C=0, part under C=1]")
            if len(parts) != 2:
                self.fail(
                    value,
                    f"class {name!r} has {len(parts)} parts; give two: [part under C=0, part under C=1]",
                )
            if parts[0] == parts[1]:
                self.fail(value, f"class {name!r} has the part {parts[0]!r} twice; the two must differ")
            classes[name] = (parts[0], parts[1])
        if len(classes) < 2:
            self.fail(node, f"{len(classes)} classes; give at least two")
        return classes

    def templates(self, node: yaml.Node) -> dict[str, str]:
        templates: dict[str, str] = {}
        for name, (_, value) in self.mapping(node, "'templates'", "name: text").items():
            text = self.text(value, f"template {name!r}")
            try:
                fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
            except ValueError:
                self.fail(value, f"template {name!r} has a single brace; write {{class}} and {{part}}")
            for field in fields:
                if field not in _PLACEHOLDERS or f"{{{field}}}" not in text:
                    self.fail(
                        value,
                        f"template {name!r}: unknown placeholder {{{field}}}; allowed: {{class}}, {{part}}",
                    )
            for field in _PLACEHOLDERS:
                if field not in fields:
                    self.fail(
                        value, f"template {name!r} lacks {{{field}}}; both {{class}} and {{part}} are needed"
                    )
            templates[name] = text
        if not templates:
            self.fail(node, "'templates' is empty; leave it out, or give name: text")
        return templates


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    kind = node.tag.rpartition(":")[2]
    return {"int": "(a number)", "float": "(a number)", "bool": "(yes or no)", "null": "nothing"}.get(
        kind, f"({kind})"
    )
