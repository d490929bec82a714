"""Prompts: the paper's by default, a user's file with every mistake named by its line."""

from __future__ import annotations

import pytest

from causalft.errors import CausalFTError
from synthetic.objects import PARTS
from synthetic.prompts import default_prompts, read_prompts

GOOD = """\
classes:
  horse: [head, tail]
  ship: [bow, stern]
templates:
  plain: a {class}'s {part}
  long: a photo of the {part} of a {class}
use: [long, plain]
negative_prompt: ""
"""


def write(folder, text):
    file = folder / "prompts.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_default_prompts_are_those_of_the_paper():
    prompts = default_prompts()
    assert prompts.classes == PARTS
    assert prompts.text("airplane", 0) == "a photo of a airplane's head (cockpit)"
    assert prompts.text("truck", 1, seed=99) == "a photo of a truck's tail"
    assert prompts.negative_prompt == ""
    others = prompts.using(["picture", "close-up"])
    assert {others.text("cat", 1, seed) for seed in range(4)} == {
        "a picture of a cat's body",
        "a close-up photo of a cat's body",
    }


def test_a_users_file_may_name_any_classes(tmp_path):
    prompts = read_prompts(write(tmp_path, GOOD))
    assert prompts.classes == {"horse": ("head", "tail"), "ship": ("bow", "stern")}
    assert prompts.negative_prompt == "" and prompts.use == ("long", "plain")
    assert prompts.text("ship", 1, seed=4) == "a photo of the stern of a ship"
    assert prompts.text("ship", 1, seed=5) == "a ship's stern"
    short = read_prompts(write(tmp_path, "classes:\n  a: [b, c]\n  d: [e, f]\n"))
    assert short.text("a", 0) == "a photo of a a's b" and short.negative_prompt == ""


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "{part}\n  long",
            "{colour}\n  long",
            r"line 5: .*unknown placeholder \{colour\}; allowed: \{class\}, \{part\}",
        ),
        ("a {class}'s {part}", "a {}'s {part}", r"line 5: .*unknown placeholder \{\}"),
        ("a {class}'s {part}", "a {class", r"line 5: .*single brace"),
        ("a {class}'s {part}", "a {class}", r"line 5: .*lacks \{part\}"),
        ("a {class}'s {part}", "7", r"line 5: .*must be text, not '7' \(a number\)"),
        ("[bow, stern]", "[bow]", r"line 3: class 'ship' has 1 parts; give two"),
        ("[bow, stern]", "[bow, bow]", r"line 3: .*'bow' twice"),
        ("[bow, stern]", "bow", r"line 3: class 'ship' must be two parts"),
        ("[bow, stern]", "[bow, no]", r"line 3: .*must be text, not 'no' \(yes or no\)"),
        ("[bow, stern]", "[bow, '']", r"line 3: .*is empty"),
        ("  ship: [bow, stern]\n", "", r"line 2: 1 classes; give at least two"),
        ("  ship:", "  horse:", r"line 3: 'horse' stands twice"),
        ("  ship:", "  a/b:", r"line 3: class 'a/b' cannot be the name of a folder"),
        ("  ship:", "  ..:", r"line 3: class '..' cannot be the name of a folder"),
        ("classes:", "clases:", r"line 1: unknown key 'clases'; did you mean 'classes'"),
        ("[long, plain]", "[lang]", r"line 7: .*no template 'lang'; did you mean 'long'"),
        ("[long, plain]", "[]", r"line 7: .*names no template"),
        ("[long, plain]", "long", r"line 7: 'use' must be a list of template names"),
        (
            'negative_prompt: ""',
            "negative_prompt: [a]",
            r"line 8: 'negative_prompt' must be text, not a list",
        ),
        ("[bow, stern]", "[bow, stern", r"line \d+: not YAML"),
    ],
)
def test_each_mistake_is_named_with_its_line(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(CausalFTError, match=message) as caught:
        read_prompts(write(tmp_path, GOOD.replace(old, new)))
    assert "\n" not in str(caught.value) and "prompts.yaml" in str(caught.value)


def test_files_that_are_no_prompts(tmp_path):
    with pytest.raises(CausalFTError, match="no such file"):
        read_prompts(tmp_path / "none.yaml")
    with pytest.raises(CausalFTError, match="must be a mapping"):
        read_prompts(write(tmp_path, "- a\n- b\n"))
    with pytest.raises(CausalFTError, match="must be a mapping"):
        read_prompts(write(tmp_path, ""))
    with pytest.raises(CausalFTError, match="'classes' is missing"):
        read_prompts(write(tmp_path, "negative_prompt: dark\n"))
    (tmp_path / "prompts.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CausalFTError, match="UTF-8"):
        read_prompts(tmp_path / "prompts.yaml")


def test_requests_that_the_prompts_cannot_serve():
    prompts = default_prompts()
    with pytest.raises(CausalFTError, match="no class 'dgo'; did you mean 'dog'"):
        prompts.text("dgo", 0)
    with pytest.raises(CausalFTError, match="part must be 0 or 1"):
        prompts.text("dog", 2)
    with pytest.raises(CausalFTError, match="named twice"):
        prompts.using(["photo", "photo"])
