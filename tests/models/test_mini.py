"""The mini CLIP: vocabulary, weights from a seed, and features in half precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import CLIP
from PIL import Image
from torch.nn import functional as F
from torchvision import transforms

from causalft.errors import CausalFTError
from causalft.models.strata.mini import (
    TEMPLATE,
    MiniConfig,
    WordTokenizer,
    build_mini,
    empty_mini,
    vocabulary_of,
)
from causalft.models.strata.stratum import square_crop

NAMES = ["fire truck", "cat", "Sea_lion", "T-34 tank"]


def make(names=NAMES):
    words, length = vocabulary_of(names)
    return WordTokenizer(words, length)


def test_words_come_from_the_class_names_and_the_longest_caption_fits():
    words, length = vocabulary_of(NAMES)
    assert words == sorted({"a", "photo", "of", "fire", "truck", "cat", "sea", "lion", "t", "34", "tank"})
    assert length == len("a photo of a t 34 tank".split()) + 2


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=8, unique=True))
@settings(max_examples=50, deadline=None)
def test_the_end_token_is_the_highest_and_no_caption_is_lost(names):
    tokenizer = make(names)
    tokens = tokenizer([TEMPLATE.format(name) for name in names])
    assert tokens.shape == (len(names), tokenizer.context_length)
    # open_clip pools the text tower at the highest token id
    assert (tokens.max(1).values == tokenizer.vocab_size - 1).all()
    for row, name in zip(tokens.tolist(), names):
        end = row.index(tokenizer.vocab_size - 1)
        assert row[0] == 1 and row[end + 1 :] == [0] * (len(row) - end - 1)
        assert [tokenizer.words[token - 2] for token in row[1:end]] == ["a", "photo", "of", "a", name]


def test_case_dots_and_underscores_do_not_matter():
    tokenizer = make()
    assert torch.equal(tokenizer("a photo of a sea lion."), tokenizer(["A photo of a Sea_lion"]))


def test_unknown_words_and_long_captions_are_refused():
    tokenizer = make()
    with pytest.raises(CausalFTError, match="never saw the word 'dog'.*zoo='pretrained'"):
        tokenizer("a photo of a dog")
    with pytest.raises(CausalFTError, match="has more than"):
        tokenizer("a a a a a a a a a a a")
    with pytest.raises(CausalFTError, match="'--' has no letter or digit"):
        vocabulary_of(["cat", "--"])


def test_classes_with_the_same_caption_are_refused():
    """They would get the same text feature, and the model could never tell them apart."""
    with pytest.raises(CausalFTError, match="'sea-lion' and 'Sea_lion' have the same caption"):
        vocabulary_of(["cat", "sea-lion", "Sea_lion"])


def test_default_mini_is_an_open_clip_clip_of_half_a_million_parameters():
    state = torch.random.get_rng_state()
    model = build_mini(MiniConfig(), seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert type(model) is CLIP
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(507_185, rel=0.01)


def test_same_seed_same_weights():
    one, same, other = (build_mini(MiniConfig(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("patch_size", [2, 4, 8, 16])
def test_stem_gives_one_token_per_patch(patch_size):
    model = build_mini(MiniConfig(image_size=32, patch_size=patch_size)).eval()
    assert model.visual._embeds(torch.zeros(1, 3, 32, 32)).shape == (1, 1 + (32 // patch_size) ** 2, 96)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"image_size": 30}, "image size 30 is not a multiple of the patch size 8"),
        ({"image_size": 0}, "image size 0"),
        ({"patch_size": 1}, "patch size 1 is not a power of two above 1"),
        ({"image_size": 36, "patch_size": 12}, "patch size 12 is not a power of two above 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(CausalFTError, match=message):
        MiniConfig(**sizes)


def test_half_precision_keeps_features_within_a_thousandth():
    model = build_mini(MiniConfig(), seed=0).eval()
    pictures = torch.randn(8, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(2, 60, (8, 8), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = (
            F.normalize(model.encode_image(pictures), dim=1),
            F.normalize(model.encode_text(tokens), dim=1),
        )
        halves = {k: v.half().float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
        model.load_state_dict(halves)
        after = (
            F.normalize(model.encode_image(pictures), dim=1),
            F.normalize(model.encode_text(tokens), dim=1),
        )
    for old, new in zip(before, after):
        assert (old - new).abs().max() < 1e-3


def test_a_mini_computes_what_the_open_clip_model_of_its_weights_computes():
    config = MiniConfig()
    theirs = build_mini(config, seed=5).eval()
    ours = empty_mini(config).eval()
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    ours.load_state_dict(theirs.state_dict())
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(5, 3, 40, 40, generator=generator)
    tokens = torch.randint(1, 60, (7, config.context_length), generator=generator)
    with torch.no_grad():
        assert torch.equal(ours.encode_image(pictures), theirs.encode_image(pictures))
        assert torch.equal(ours.encode_text(tokens), theirs.encode_text(tokens))
        assert torch.equal(ours.logit_scale, theirs.logit_scale)


def test_an_empty_mini_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    empty_mini(MiniConfig())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(60, 50), (40, 40), (41, 97), (300, 40), (33, 20), (1000, 999)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
def test_square_crop_is_torchvisions_resize_and_centre_crop(shape, interpolation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    mode = transforms.InterpolationMode(interpolation)
    theirs = transforms.Compose([transforms.Resize(40, interpolation=mode), transforms.CenterCrop(40)])
    assert np.array_equal(np.asarray(square_crop(40, interpolation)(image)), np.asarray(theirs(image)))
