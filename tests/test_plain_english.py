"""The project's words are plain English: phrases that no engineer of the field would use are kept out."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

UNIT = r"an? (?:class|cell|line|seed|stratum|image|picture|row|table|prior|epoch)\b"

PHRASES = {
    rf"\b(?:an?|one) (?:\w+ ){{0,3}}?(?:name|row|line|folder|seed|temperature|vector|file) {UNIT}": "one X per Y",
    rf"\b(?:images|pictures|rows|lines|seeds|samples|shots|features|numbers) {UNIT}": "X per Y",
    r"\b[0-9.]+ (?:ms|seconds?|minutes?|bytes|MB|nats|images|pictures|steps) an? (?!half|quarter)\w+": "X per Y",
    r"^That \w+\.$": "a phrase that stands alone",
    r"\b(?:class|text) anchors\b": "class prototypes",
    r"\bwithout a word\b": "by default",
    r"\bthat (?:is|are) none\b": "unknown X",
    r"\bthat are too many\b": "above this many",
    r"\bshall not be\b": "negative prompt",
    r"\bas (?:they|it) comes? if\b": "empirical, if ...",
    r"\bthe same kinds or\b": "same formats",
    r"\bis said(?:,| and)": "is reported",
    r"\b(?:and|is) made (?:again|anew)\b": "is recomputed",
    r"\bfrom before there was\b": "older",
    r"\bthat stands? in\b": "in",
    r"\buntouched model\b": "zero-shot model",
    r"\bhas no say\b": "has no effect",
    r"\bnot there (?:where|with)\b": "absent",
}

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "bench" / "README.md"]
DOCUMENTS += sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
HELP = sorted((ROOT / "tests" / "golden" / "help").glob("*.txt"))
ROOMS = [
    room
    for package in ("causalft", "synthetic", "experiments", "tests", "bench")
    for room in sorted((ROOT / package).iterdir())
    if room.suffix == ".py" or (room / "__init__.py").exists() or package == "tests"
]


def words_of(path: Path) -> list[str]:
    """Everything in a Python file that a person reads: strings, comments, names of tests."""
    text = path.read_text(encoding="utf-8")
    found = [
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found += [token.string for token in tokens if token.type == tokenize.COMMENT]
    found += [name.replace("_", " ") for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)]
    return found


def dialect(text: str) -> list[str]:
    """The phrases of ``text`` that are not plain English, each with what to write."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    return [
        f"{match[0]!r}: write {better!r}"
        for paragraph in paragraphs
        for pattern, better in PHRASES.items()
        for match in re.finditer(pattern, paragraph, re.IGNORECASE)
    ]


def test_dialect_is_found_and_plain_english_is_not():
    for text in (
        "One line an image",
        "a key that is none",
        "20 images a class",
        "0.5 ms an image",
        "That model.",
    ):
        assert dialect(text), text
    assert not dialect("One line per image. Put the images into a class folder. Unknown keys are refused.")


@pytest.mark.parametrize("path", DOCUMENTS + HELP, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_and_help_are_plain_english(path):
    found = dialect(path.read_text(encoding="utf-8"))
    assert not found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_say_image_or_figure(path):
    """Not picture: the word stays in code, where it names an option or an argument."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\bpictures?\b", re.sub(r"`[^`]*`", "", text), re.IGNORECASE)
    assert not found


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_comments_messages_and_test_names_are_plain_english(room):
    files = sorted(room.rglob("*.py")) if room.is_dir() else [room] if room.suffix == ".py" else []
    found = [
        f"{path.relative_to(ROOT)}: {phrase}"
        for path in files
        if path != Path(__file__)
        for words in words_of(path)
        for phrase in dialect(words)
    ]
    assert not found
