"""On a GPU no two devices meet, the head computes in fp32, and a training does not wait for the GPU at every step."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from scipy.special import softmax
from torch import nn

from causalft.data.image_set import ImageSet
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tune import encode_zero_shot, start_of_head, tune
from causalft.methods.adaptation.tuned import TunedStratum, Untouched
from causalft.methods.estimators.fusion import fuse
from causalft.models.features.augmentation import augment
from causalft.models.features.cache import cached_zero_shot
from causalft.models.features.encoder import Crops
from causalft.models.strata.mini import MiniConfig, WordTokenizer, build_mini, vocabulary_of
from causalft.models.strata.stratum import Stratum, square_crop
from causalft.models.tuning.choices import AUGMENTATIONS, HEADS, LOSSES
from causalft.models.tuning.losses import make_loss
from causalft.models.tuning.recipe import Recipe
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.train import train
from causalft.models.tuning.tuners import supported_tuners
from causalft.models.weights.libraries import ImageOnly
from tests.methods.fake_gpu import DEVICE, fake_gpu, to_gpu

pytestmark = pytest.mark.skipif(
    torch.version.cuda is None, reason="this build of PyTorch knows no CUDA device"
)

KINDS = ("ant", "bee", "cow", "doe")
TEXT = CLIPTextCfg(context_length=8, vocab_size=32, width=16, heads=2, layers=1)


def mini():
    words, length = vocabulary_of(KINDS)
    tokenizer = WordTokenizer(words, length)
    config = MiniConfig(
        image_size=32,
        width=32,
        layers=2,
        heads=2,
        embed_dim=16,
        context_length=length,
        vocab_size=tokenizer.vocab_size,
    )
    return build_mini(config), tokenizer


def eva():
    visual = timm.create_model(
        "eva02_base_patch16_clip_224", num_classes=0, img_size=32, depth=2, embed_dim=32, num_heads=2
    )
    return ImageOnly(visual), None


def resnet():
    return CLIP(16, CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, image_size=32), TEXT), None


BACKBONES = {made.__name__: made for made in (mini, eva, resnet)}
CASES = [("mini", tuner) for tuner in supported_tuners(open_tower(mini()[0].visual))]
CASES += [("eva", "vpt-deep"), ("eva", "ia3"), ("resnet", "ssf"), ("resnet", "adapter")]


def stratum_of(name: str) -> Stratum:
    model, tokenizer = BACKBONES[name]()
    model = to_gpu(model.eval().requires_grad_(False))
    scale = (0.5,) * 3, (0.25,) * 3
    return Stratum(
        name, "mini", model, square_crop(32), 32, *scale, tokenizer, "0" * 64, "random", device=DEVICE
    )


def images(n: int = 4) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    return ImageSet.from_arrays(pixels, np.arange(n) % 4, KINDS)


def features_of(stratum: Stratum) -> int:
    return open_tower(stratum.visual)(torch.empty(1, 3, 32, 32, device=DEVICE)).shape[1]


@pytest.mark.parametrize("name, tuner", CASES)
def test_every_tuner_trains_and_predicts_on_one_device(name, tuner):
    tuner = "last-1" if tuner == "last-K" else tuner
    with fake_gpu():
        stratum = stratum_of(name)
        crops = Crops(images(), stratum, progress=False)
        tuning = Tuning(
            epochs=1, batch_size=4, tuner=tuner, augmentation="crop-flip", patience=1, wise_ft=0.5
        )
        weight = torch.zeros(4, features_of(stratum), device=DEVICE)
        tuned, _ = tune(stratum, crops, KINDS, tuning, weight=weight, validation=crops, progress=False)
        assert {value.device for value in tuned.state_dict().values()} == {DEVICE}
        assert tuned.precision == "bf16"
        assert {value.dtype for value in tuned.tuned.parameters()} <= {torch.float32}
        assert tuned.logits(crops).shape == (4, 4)


@pytest.mark.parametrize(
    "head, precision", [*((name, "bf16") for name in sorted(HEADS)), ("cosine", "fp16"), ("cosine", "fp32")]
)
def test_every_head_computes_in_fp32_during_training(head, precision):
    with fake_gpu():
        stratum = stratum_of("mini")
        tuned = TunedStratum(stratum, torch.zeros(4, 16), Tuning(head=head, precision=precision))
        tokens = tuned.tokens(stratum.normalise(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)))
        with torch.autocast("cuda", torch.bfloat16):
            logits = tuned(tokens)
        assert (logits.device, logits.dtype) == (DEVICE, torch.float32)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_follows_its_logits(loss):
    with fake_gpu():
        stratum = stratum_of("mini")
        crops = Crops(images(), stratum, progress=False)
        tuning = Tuning(epochs=1, batch_size=4, loss=loss, augmentation="flip")
        weight = torch.zeros(4, 16)
        tune(stratum, crops, KINDS, tuning, weight=weight, model_prior=np.full(4, 0.25), progress=False)
        made = make_loss(
            loss,
            torch.ones(4, device=DEVICE),
            **({"model_log_prior": torch.zeros(4, device=DEVICE)} if LOSSES[loss].needs_model_prior else {}),
        )
        found = made(
            torch.zeros(2, 4, device=DEVICE, dtype=torch.bfloat16), torch.zeros(2, device=DEVICE).long()
        )
        assert (found.device, found.dtype) == (DEVICE, torch.float32)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_zero_shot_model_encodes_on_the_gpu(precision, tmp_path):
    described = tmp_path / "prompts.txt"
    described.write_text("".join(f"{kind}: {{}}; a {{}}\n" for kind in KINDS))
    with fake_gpu():
        stratum = stratum_of("mini")
        crops = Crops(images(), stratum, progress=False)
        tuning = Tuning(template=str(described), precision=precision)
        found = encode_zero_shot(stratum, KINDS, tuning, (crops, crops.images), progress=False)
        assert [part.shape for part in found.logits] == [(4, 4), (4, 4)]
        for template in ("default", str(described)):
            start = start_of_head(stratum, crops, KINDS, Tuning(template=template))
            assert (start.device, start.dtype) == (DEVICE, torch.float32)
        for view in ("centre", "five-crop"):
            logits = cached_zero_shot(None, stratum, crops.images, KINDS, view=view, progress=False)
            assert logits.shape == (4, 4)


def test_gla_and_fusion_take_what_a_gpu_predicted():
    with fake_gpu():
        members = []
        for view in ("centre", "ten-crop"):
            stratum = stratum_of("mini")
            tuned = TunedStratum(stratum, torch.zeros(4, 16), Tuning(test_view=view))
            tuned.untouched = Untouched(stratum, torch.zeros(4, 16), torch.zeros(4, dtype=torch.float64))
            members.append(tuned.logits(Crops(images(), stratum, progress=False)))
    fused = fuse(softmax(np.stack(members), axis=2))
    np.testing.assert_allclose(fused.sum(1), 1)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_step_of_a_training_does_not_wait_for_the_gpu(augmentation):
    waits = []
    for n_images in (8, 16):
        with fake_gpu() as gpu:
            stratum = stratum_of("mini")
            crops = Crops(images(n_images), stratum, progress=False)
            tuning = Tuning(epochs=1, batch_size=4, augmentation=augmentation)
            tune(stratum, crops, KINDS, tuning, weight=torch.zeros(4, 16), progress=False)
            waits.append(gpu.waits)
    assert waits[0] == waits[1]  # two steps or four


def test_augmentation_stays_on_the_gpu():
    with fake_gpu():
        pictures = torch.zeros(4, 3, 8, 8, device=DEVICE)
        for kind in AUGMENTATIONS:
            assert augment(pictures, kind, torch.Generator()).device == DEVICE


def test_fake_gpu_finds_faults():
    """What the tests above rely on."""
    with fake_gpu() as gpu:
        layer = to_gpu(nn.Linear(2, 2))
        with pytest.raises(RuntimeError, match="same device"):
            layer(torch.zeros(1, 2))
        with pytest.raises(TypeError, match="to numpy"):
            layer(torch.zeros(1, 2, device=DEVICE)).detach().numpy()
        assert gpu.waits == []
        layer.weight[torch.tensor([0])]
        torch.zeros(2).to(DEVICE)
        float(layer.weight.detach().sum())
        assert gpu.waits == ["index on the CPU", "copy cpu to cuda of (2,)", "item"]

    def on_the_cpu(model, indices, generator):
        return model(torch.zeros(len(indices), 2)).sum()

    with fake_gpu(), pytest.raises(RuntimeError, match="same device"):
        train(to_gpu(nn.Linear(2, 2)), 4, on_the_cpu, Recipe(epochs=1, batch_size=2, lr=0.1), progress=False)
