"""Text starts: means of unit features by hand, and files of descriptors in every format."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
import torch
import yaml
from torch.nn import functional as F

from causalft.errors import CausalFTError
from causalft.models.strata.prompts import TEMPLATES, read_descriptors, text_weights
from causalft.models.strata.stratum import Stratum
from causalft.models.strata.zoo import open_zoo

NAMES = ["Canada_lynx", "doe"]
DESCRIPTORS = {
    "canada lynx": ["tufts on its ears.", "a {} in the snow"],
    "doe": "long legs",
    "elk": ["antlers"],
}


class TextTower(torch.nn.Module):
    """Features are letter counts of the text."""

    def encode_text(self, tokens):
        return torch.stack([torch.bincount(row, minlength=128).float() for row in tokens])


def tokenize(texts):
    rows = [list(text.encode("ascii")) for text in texts]
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


class Heard(list):
    """Collects every text that reaches the tokenizer."""

    def __call__(self, texts):
        self.extend(texts)
        return tokenize([text.ljust(200) for text in texts])


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def stratum(heard):
    return Stratum(
        "letters", "test", TextTower(), lambda image: image, 8, (0,), (1,), heard, "0" * 64, "a test"
    )


def feature(text):
    return F.normalize(TextTower().encode_text(tokenize([text.ljust(200)]))[0], dim=0)


def test_the_default_is_one_template_and_the_classname_nothing_but_the_name(stratum, heard):
    assert torch.allclose(text_weights(stratum, NAMES)[0], feature("a photo of a Canada lynx."))
    assert torch.allclose(text_weights(stratum, NAMES, "classname")[1], feature("doe"))
    assert torch.allclose(text_weights(stratum, NAMES, "one {}!")[1], feature("one doe!"))


def test_an_ensemble_is_the_direction_of_the_mean_unit_feature(stratum, heard):
    found = text_weights(stratum, NAMES, "ensemble")
    mean = torch.stack([feature(template.format("doe")) for template in TEMPLATES["ensemble"]]).mean(0)
    assert torch.allclose(found[1], F.normalize(mean, dim=0), atol=1e-6)
    assert found.dtype == torch.float32 and torch.allclose(found.norm(dim=1), torch.ones(2))
    assert len(heard) == 2 * len(TEMPLATES["ensemble"])


def test_the_sets_of_templates_are_sound():
    assert set(TEMPLATES) == {"classname", "default", "ensemble"}
    assert 10 <= len(TEMPLATES["ensemble"]) == len(set(TEMPLATES["ensemble"])) <= 20
    assert all(template.count("{}") == 1 for templates in TEMPLATES.values() for template in templates)


def write(path, descriptors=DESCRIPTORS):
    if path.suffix == ".json":
        path.write_text(json.dumps(descriptors))
    elif path.suffix == ".txt":
        lines = ["# class: phrases", ""]
        for name, phrases in descriptors.items():
            lines.append(f"{name}: {phrases if isinstance(phrases, str) else '; '.join(phrases)}")
        path.write_text("\n".join(lines))
    else:
        path.write_text(yaml.safe_dump(descriptors))
    return path


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml", ".txt"])
def test_descriptors_of_every_format_give_the_same_prompts(tmp_path, suffix, stratum):
    path = write(tmp_path / f"descriptors{suffix}")
    assert read_descriptors(path, NAMES) == {
        "Canada_lynx": ["a photo of a Canada lynx, tufts on its ears.", "a Canada lynx in the snow"],
        "doe": ["a photo of a doe, long legs."],
    }
    found = text_weights(stratum, NAMES, str(path))
    prompts = read_descriptors(path, NAMES)["Canada_lynx"]
    assert torch.allclose(found[0], F.normalize(feature(prompts[0]) + feature(prompts[1]), dim=0))
    assert torch.allclose(found[1], feature("a photo of a doe, long legs."))


def test_a_phrase_may_hold_braces(tmp_path, stratum, heard):
    path = write(tmp_path / "d.json", {"doe": "marked {x} or {", "lynx": "{} says {y}"})
    text_weights(stratum, ["doe", "lynx"], path)
    assert heard == ["a photo of a doe, marked {x} or {.", "lynx says {y}"]


def test_classes_without_a_descriptor_are_named(tmp_path, stratum):
    path = write(tmp_path / "d.yaml", {"doe": ["long legs"], "ant": []})
    names = ["doe", "ant", "bee", "cow", "dab"]
    with pytest.raises(
        CausalFTError, match=r"no descriptor for 4 of 5 classes \('ant', 'bee', 'cow', \.\.\.\)"
    ):
        text_weights(stratum, names, path)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("d.json", "{", "cannot be read: "),
        ("d.yaml", "a: [b", "cannot be read: "),
        ("d.json", "[1]", "must map each class name to its phrases; it holds a list"),
        ("d.yaml", "doe: {a: 1}", "phrases of class 'doe' must be texts"),
        ("d.json", '{"doe": [3]}', "phrases of class 'doe' must be texts"),
        ("d.txt", "doe: long legs\nlynx tufts", "line 2: 'lynx tufts' is not 'class: phrase; phrase'"),
    ],
)
def test_bad_files_are_refused(tmp_path, stratum, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(CausalFTError, match=message):
        text_weights(stratum, ["doe"], tmp_path / name)


def test_missing_files_and_invalid_templates_are_refused(tmp_path, stratum):
    with pytest.raises(CausalFTError, match="none.json cannot be read"):
        text_weights(stratum, ["doe"], tmp_path / "none.json")
    with pytest.raises(CausalFTError, match=r"'ensembl' is no set of templates \(did you mean 'ensemble'"):
        text_weights(stratum, ["doe"], "ensembl")


def test_a_mini_starts_from_the_template_it_was_trained_with(tiny_zoo):
    mini = open_zoo(tiny_zoo).load("clip")
    found = text_weights(mini, ["ant", "bee"], "a photo of a {}")
    assert torch.allclose(found, mini.text_features(["ant", "bee"], "a photo of a {}").cpu(), atol=1e-6)
    with pytest.raises(CausalFTError, match="never saw the word"):
        text_weights(mini, ["ant"], "ensemble")


def test_empty_braces_are_the_name_and_other_braces_are_text(tiny_zoo):
    stratum = open_zoo(str(tiny_zoo)).load("clip")
    plain = text_weights(stratum, ["ant", "bee"], "{}")
    assert plain.shape == (2, 16)
    said_twice = text_weights(stratum, ["ant", "bee"], "{} {}")
    assert said_twice.shape == (2, 16) and said_twice.isfinite().all()
    for template in ("{}{}", "a {0} {}", "{x} {}", "{ {}"):
        with suppress(CausalFTError):  # a mini knows few words, and says so
            assert text_weights(stratum, ["ant", "bee"], template).isfinite().all()


def test_descriptors_in_blocks_give_the_same_features(tiny_zoo, monkeypatch):
    stratum = open_zoo(tiny_zoo).load("clip")
    kinds = stratum.card.class_names
    prompts = {kind: [f"a photo of a {kind}.", f"photo of {kind}", kind] for kind in kinds}
    whole = stratum.described_features(prompts, "here")
    monkeypatch.setattr("causalft.models.strata.stratum._TEXTS", 5)  # a block ends within a class
    assert torch.allclose(stratum.described_features(prompts, "here"), whole, atol=1e-6)
