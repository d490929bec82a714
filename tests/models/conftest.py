"""Small architectures known to open_clip during the tests, files of their weights, and a hub of files."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from pathlib import Path

import huggingface_hub
import open_clip
import open_clip.pretrained
import pytest
import torch
from safetensors.torch import save_file

from causalft.models.strata.cards import sha256_file

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
ARCHITECTURES = {
    "tiny-vit": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": TEXT,
    },
    "tiny-wide": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 24, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8},
        "text_cfg": TEXT,
    },
    "tiny-custom": {
        "embed_dim": 16,
        "custom_text": True,
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": [1, 1, 1, 1],
            "width": 8,
            "patch_size": None,
            "head_width": 64,
        },
        "text_cfg": TEXT,
    },
    "tiny-sigmoid": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "token",
            "timm_proj": "linear",
        },
        "text_cfg": {
            **TEXT,
            "context_length": 8,
            "vocab_size": 8,
            "hf_tokenizer_name": "maker/tiny-words",
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        },
    },
}


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory):
    """Files of random weights of the small architectures, by name."""
    folder = tmp_path_factory.mktemp("architectures")
    for name, config in ARCHITECTURES.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder / f"{name}.json")
    files = {}
    for seed, name in enumerate(ARCHITECTURES):
        torch.manual_seed(seed)
        model = open_clip.create_model(name, load_weights=False)
        files[name] = folder / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, files[name])
    yield files
    for name in ARCHITECTURES:
        open_clip.factory._MODEL_CONFIGS.pop(name)


@pytest.fixture
def known_tag(monkeypatch):
    """Make open_clip know weights ARCH/made during a test."""

    def know(architecture="tiny-vit", **settings):
        cfg = {"url": "", "hf_hub": "maker/tiny/", "interpolation": "bicubic", "resize_mode": "shortest"}
        cfg |= {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD, **settings}
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, architecture, {"made": cfg})

    return know


@pytest.fixture
def empty_places(tmp_path, monkeypatch) -> Path:
    """An empty hub cache and an empty folder of weights; the hub is not forbidden. Returns the cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("CAUSALFT_WEIGHTS", str(tmp_path / "local"))
    return tmp_path / "hub"


@pytest.fixture
def no_network(monkeypatch):
    """Fail on any connection or address look-up."""

    def refuse(*arguments, **_):
        raise AssertionError(f"asked the network for {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)


@pytest.fixture
def fill_cache():
    """Put a file into a hub cache, in the layout of huggingface_hub."""

    def fill(cache, repository, filename, source):
        folder = Path(cache) / f"models--{repository.replace('/', '--')}"
        blob = folder / "blobs" / sha256_file(source)
        snapshot = folder / "snapshots" / "abc123"
        for place in (blob.parent, snapshot, folder / "refs"):
            place.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text("abc123")
        shutil.copy(source, blob)
        (snapshot / filename).symlink_to(Path("../../blobs") / blob.name)
        return snapshot / filename

    return fill


@pytest.fixture
def hub(monkeypatch, empty_places, fill_cache):
    """A hub of dictionaries: ``hub[repository][filename] = file``; ``asked`` lists the requests."""

    class Hub(dict):
        asked: list[tuple[str, str]] = []

    shelves = Hub()
    shelves.asked = []

    def download(repository, filename):
        shelves.asked.append((repository, filename))
        if filename not in shelves.get(repository, {}):
            raise huggingface_hub.errors.EntryNotFoundError("404")
        return str(fill_cache(empty_places, repository, filename, shelves[repository][filename]))

    def card(repository):
        return huggingface_hub.ModelInfo(id=repository, cardData={"license": "mit"})

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "model_info", card)
    return shelves


@pytest.fixture(scope="session")
def words_tokenizer(tmp_path_factory) -> dict[str, Path]:
    """Files of a transformers tokenizer that knows five words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("words")
    vocabulary = {"<pad>": 0, "<unk>": 1, "a": 2, "photo": 3, "of": 4, "cat": 5, "dog": 6, ".": 7}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return {name: folder / name for name in ("tokenizer.json", "tokenizer_config.json")}


@pytest.fixture(scope="session")
def tables():
    """The module that writes tables of the documentation."""
    page = Path(__file__).resolve().parents[2] / "docs" / "tables.py"
    spec = importlib.util.spec_from_file_location("tables", page)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
