"""Zoos of minis: a name loads the verified weights of its card."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

from causalft.errors import CausalFTError
from causalft.models.strata.cards import ModelCard, sha256_file
from causalft.models.strata.zoo import MiniZoo, open_zoo


def test_a_mini_comes_with_its_card_and_frozen(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    assert zoo.names() == ["clip", "clip@1", "metaclip", "openclip"]
    stratum = zoo.load("openclip")
    assert stratum.sha256 == sha256_file(tiny_zoo / "openclip.safetensors") == stratum.card.sha256
    assert not stratum.model.training and not any(p.requires_grad for p in stratum.model.parameters())
    assert stratum.visual is stratum.model.visual and stratum.has_text and stratum.activation == "relu"
    assert "openclip" in repr(stratum) and stratum.sha256[:12] in repr(stratum)
    crop = stratum.crop(Image.new("L", (40, 20), 7))
    assert crop.shape == (16, 16, 3) and (crop == 7).all()
    features = stratum.image_features(torch.from_numpy(crop.copy())[None])
    assert features.norm(dim=1).item() == pytest.approx(1, abs=1e-5)
    text = stratum.text_features(stratum.card.class_names)
    assert text.shape == (4, 16) and torch.allclose(text.norm(dim=1), torch.ones(4), atol=1e-5)
    with pytest.raises(CausalFTError, match="no {} for the class name"):
        stratum.text_features(["ant"], "a photo")
    with pytest.raises(CausalFTError, match="never saw the word 'zebra'"):
        stratum.text_features(["zebra"])


def test_batches_do_not_change_features(tiny_zoo):
    stratum = open_zoo(tiny_zoo).load("clip")
    pixels = torch.randint(0, 256, (7, 16, 16, 3), generator=torch.Generator().manual_seed(0)).byte()
    whole, parts = stratum.image_features(pixels), stratum.image_features(pixels, batch_size=3)
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.fixture
def copied_zoo(tiny_zoo, tmp_path):
    return shutil.copytree(tiny_zoo, tmp_path / "copied")


def test_a_changed_or_cut_file_is_refused(copied_zoo):
    weights = copied_zoo / "clip.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CausalFTError, match=r"clip\.safetensors is not the file of its card"):
        MiniZoo(copied_zoo, "copied").load("clip")


def test_weights_of_another_architecture_are_refused(copied_zoo):
    card = json.loads((copied_zoo / "clip.json").read_text())
    for change in ({"width": 48}, {"depth": 3}):
        edited = card | {"architecture": card["architecture"] | change}
        (copied_zoo / "clip.json").write_text(json.dumps(edited))
        with pytest.raises(CausalFTError, match="does not have the architecture of its card"):
            MiniZoo(copied_zoo, "copied").load("clip")


def test_incomplete_card_names_the_missing_fields(copied_zoo):
    card = json.loads((copied_zoo / "clip.json").read_text())
    del card["prior"]
    (copied_zoo / "clip.json").write_text(json.dumps(card))
    with pytest.raises(CausalFTError, match=r"clip\.json is not the card of a mini model \(missing: prior\)"):
        MiniZoo(copied_zoo, "copied").card("clip")
    (copied_zoo / "clip.json").write_text("[1, 2]")
    with pytest.raises(CausalFTError, match="is not the card of a mini model"):
        MiniZoo(copied_zoo, "copied").card("clip")


def test_card_is_equal_after_write_and_read(tiny_zoo, tmp_path):
    card = ModelCard.read(tiny_zoo / "clip.json")
    assert ModelCard.read(card.write(tmp_path / "again.json")) == card


def test_unknown_names_and_zoos(tiny_zoo, tmp_path):
    with pytest.raises(CausalFTError, match="has no stratum 'opnclip'; did you mean 'openclip'"):
        open_zoo(tiny_zoo).load("opnclip")
    with pytest.raises(CausalFTError, match="use mini, pretrained, or a folder"):
        open_zoo(tmp_path / "gone")
    with pytest.raises(CausalFTError, match="holds no mini models"):
        open_zoo(tmp_path)
    with pytest.raises(CausalFTError, match="weights goes with zoo='pretrained'"):
        open_zoo("mini", {"clip": "a.safetensors"})
    with pytest.raises(CausalFTError, match="weights goes with zoo='pretrained'"):
        open_zoo(tiny_zoo, {"clip": "a.safetensors"})


def test_a_package_without_its_minis_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("causalft.models.strata.zoo.mini_folder", lambda: tmp_path)
    with pytest.raises(CausalFTError, match="minis of the package are not installed"):
        open_zoo("mini")
