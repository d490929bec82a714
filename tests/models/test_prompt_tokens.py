"""Tokenized prompts: cuts are warned of, and classes with equal texts are refused."""

from __future__ import annotations

import json
import sys
import types
import warnings

import click
import pytest
import torch
from click.testing import CliRunner
from open_clip import SimpleTokenizer

from causalft.cli import VERBS, main
from causalft.errors import CausalFTError, CausalFTWarning
from causalft.models.features.cache import cached_text_features
from causalft.models.strata.mini import WordTokenizer
from causalft.models.strata.prompts import TEMPLATES, text_weights
from causalft.models.strata.stratum import Stratum

NAMES = ["lynx", "sea_otter", "red panda"]
FITS = " ".join(["very"] * 60) + " {}"  # 60 + 2 + the name: below 77
CUT_BEHIND = "{} " + " ".join(["very"] * 90)
CUT_BEFORE = " ".join(["very"] * 90) + " {}"


class Counts(torch.nn.Module):
    """Features are counts of the tokens, so different tokens give different features."""

    def encode_text(self, tokens):
        place = torch.arange(1, tokens.shape[1] + 1)
        return torch.stack(
            [torch.bincount(row % 997, weights=place, minlength=997) for row in tokens]
        ).float()


class Blind(torch.nn.Module):
    """Features depend on the length only."""

    def encode_text(self, tokens):
        return torch.ones(len(tokens), 4)


def stratum(tokenizer, model=None) -> Stratum:
    return Stratum(
        "clip", "test", model or Counts(), lambda image: image, 8, (0,), (1,), tokenizer, "0" * 64, "test"
    )


@pytest.fixture(scope="module")
def bpe():
    return stratum(SimpleTokenizer())


@pytest.fixture
def hub_words(words_tokenizer):
    from open_clip.tokenizer import HFTokenizer

    return stratum(HFTokenizer(str(words_tokenizer["tokenizer.json"].parent), context_length=8))


@pytest.mark.parametrize("template", [*TEMPLATES, FITS])
def test_prompts_that_fit_are_neither_warned_of_nor_refused(bpe, template):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert text_weights(bpe, NAMES, template).shape == (3, 997)


def test_a_prompt_of_exactly_the_context_is_not_cut():
    tokenizer = SimpleTokenizer(context_length=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stratum(tokenizer).text_features(["lynx", "otter"], "one very big {}")  # start, 4 words, end
    with pytest.warns(
        CausalFTWarning, match="'clip' reads 6 tokens .* those of 2 of 2 classes, 'lynx' first, are cut"
    ):
        stratum(tokenizer).text_features(["lynx", "otter"], "one {} very big .")


def test_a_cut_is_warned_of_with_the_first_class_and_how_many(bpe):
    with pytest.warns(CausalFTWarning, match="those of 3 of 3 classes, 'lynx' first, are cut"):
        text_weights(bpe, NAMES, CUT_BEHIND)
    long_name = "b " * 90
    with pytest.warns(CausalFTWarning, match="that of 'b b .* is cut"):
        text_weights(bpe, ["lynx", long_name], "a {}")


def test_classes_that_a_cut_makes_equal_are_refused(bpe):
    with (
        pytest.warns(CausalFTWarning),
        pytest.raises(
            CausalFTError,
            match="classes 'lynx' and 'sea_otter' become the same text .*once they are cut to 77",
        ),
    ):
        text_weights(bpe, NAMES, CUT_BEFORE)


@pytest.mark.parametrize("names", [["Lynx", "lynx"], ["sea_otter", "sea otter"], ["bee", "a", "bee "]])
def test_names_that_mean_one_text_are_refused(bpe, names):
    with pytest.raises(CausalFTError, match=f"classes '{names[0]}' and '{names[-1]}' become the same text"):
        text_weights(bpe, names)


def test_words_that_a_tokenizer_of_the_hub_does_not_know_are_one_word(hub_words):
    assert text_weights(hub_words, ["cat", "dog"], "a photo of a {}").shape == (2, 997)
    with pytest.raises(CausalFTError, match="classes 'lynx' and 'otter' become the same text"):
        text_weights(hub_words, ["cat", "lynx", "otter"], "a photo of a {}")
    with pytest.warns(CausalFTWarning, match="those of 2 of 2 classes"):
        text_weights(hub_words, ["cat", "dog"], "{} a photo of a photo of a photo")


def test_a_mini_cannot_tell_names_apart_by_their_signs():
    words = stratum(WordTokenizer(["a", "photo", "of", "c"], 8))
    with pytest.raises(CausalFTError, match=r"classes 'C' and 'C\+\+' become the same text"):
        text_weights(words, ["C", "C++"])
    with pytest.raises(CausalFTError, match="has more than 6 words"):
        text_weights(words, ["c"], "a photo of a photo of a {}")


def test_descriptors_are_checked_class_by_class(bpe, tmp_path):
    path = tmp_path / "said.json"
    path.write_text('{"lynx": ["a {}, cat"], "otter": ["a {}, wet", "a {}, wet"], "bee": ["it flies {}"]}')
    assert text_weights(bpe, ["lynx", "otter", "bee"], path).shape == (3, 997)
    path.write_text(json.dumps(dict.fromkeys(["lynx", "otter"], "big " * 90 + "{}")))
    with (
        pytest.warns(CausalFTWarning, match="said.json"),
        pytest.raises(CausalFTError, match="classes 'lynx' and 'otter' become the same text .*said.json"),
    ):
        text_weights(bpe, ["lynx", "otter"], path)


def test_equal_features_are_refused_where_the_texts_differ():
    with pytest.raises(CausalFTError, match="classes 'lynx' and 'bee' have the same text features in 'clip'"):
        text_weights(stratum(SimpleTokenizer(), Blind()), ["lynx", "bee"])


def test_features_that_are_there_already_are_warned_of_too(bpe, tmp_path):
    from causalft.models.features.cache import FeatureCache

    cache = FeatureCache(tmp_path)
    for _ in range(2):
        with pytest.warns(CausalFTWarning, match="'lynx' first"):
            cached_text_features(cache, bpe, NAMES, CUT_BEHIND)


def test_other_braces_in_a_template_are_text(bpe):
    assert text_weights(bpe, NAMES, "{a} {} {").shape == (3, 997)


def test_a_warning_is_one_line_of_the_command(monkeypatch):
    @click.command()
    def command() -> None:
        for _ in range(2):
            warnings.warn("the prompt\nis cut", CausalFTWarning, stacklevel=1)
        click.echo("done")

    module = types.ModuleType("warns")
    module.command = command
    monkeypatch.setitem(sys.modules, "warns", module)
    monkeypatch.setitem(VERBS, "warns", ("warns:command", "Warn."))
    result = CliRunner().invoke(main, ["warns"])
    assert result.stdout == "done\n" and result.stderr == "causalft: warning: the prompt is cut\n"
