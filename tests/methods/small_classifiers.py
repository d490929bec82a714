"""A classifier of small towers without a fit: what export and fusion need of one, for tests."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn

from causalft.methods.estimators.mixing import Mixing
from causalft.models.strata.stratum import Stratum, square_crop
from causalft.models.tuning.heads import make_head
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.tuners import apply_tuner

TEXT = CLIPTextCfg(context_length=8, vocab_size=20, width=16, heads=2, layers=1)


class Member(nn.Module):
    """What the classifier's members are to the export: a stratum, and logits of normalised pictures."""

    def __init__(self, stratum, tuner="zero-shot", head="cosine", n_classes=5, seed=0):
        super().__init__()
        self.stratum = stratum
        self.tower = open_tower(stratum.model.visual)
        self.tuned = apply_tuner(self.tower, tuner, bottleneck=4, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.tuned.parameters():  # as after training: nothing is at its start
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        with torch.no_grad():
            d = self.tower(torch.zeros(1, 3, stratum.image_size, stratum.image_size)).shape[-1]
        self.head = make_head(head, torch.randn(n_classes, d, generator=generator), scale=5.0)
        self.eval().requires_grad_(False)

    def tokens(self, pictures):
        with torch.no_grad():
            return self.tower.embed(pictures)

    def predict(self, pictures):
        return self(self.tokens(pictures))

    def forward(self, tokens):
        return self.head(self.tower.pool(self.tower.run(tokens)))


def clip_stratum(
    name, *, size=32, mean=0.5, std=0.25, quick_gelu=False, interpolation="bicubic", seed=0, **vision
):
    """A stratum around a small CLIP of open_clip."""
    settings = {"image_size": size, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1, **vision}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(16, CLIPVisionCfg(**settings), TEXT, quick_gelu=quick_gelu).eval().requires_grad_(False)
    return stratum_of(model, name, size, interpolation, mean=(mean,) * 3, std=(std, std, 2 * std))


def stratum_of(model, name, size, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3):
    return Stratum(
        name=name,
        zoo="mini",
        model=model,
        geometry=square_crop(size, interpolation),
        image_size=size,
        mean=mean,
        std=std,
        tokenizer=lambda texts: None,
        sha256="0" * 64,
        source="a test",
    )


def classifier(
    members, *, fusion="mixture", stratum_prior=None, temperature=0.7, stratum_temperatures=None, **tables
):
    """The attributes of a fitted StrataClassifier that the export reads."""
    n_classes = len(next(iter(members.values())).head.weight)
    prior = stratum_prior or (1 / len(members),) * len(members)
    return SimpleNamespace(
        members_=members,
        mixing_=Mixing(fusion, prior, temperature, stratum_temperatures, **tables),
        classes_=np.array([f"class {k}" for k in range(n_classes)]),
    )
