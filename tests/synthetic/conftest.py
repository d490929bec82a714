"""A tiny Stable Diffusion pipeline with random weights, as a folder and as one file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


def build_tiny(folder: Path, *, seed: int = 0, kind: str = "StableDiffusionPipeline") -> Path:
    """16 x 16 pixels; the tokenizer spells prompts letter by letter."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(seed)
    letters = [chr(byte) for byte in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[],
        model_max_length=77,
        pad_token="<|endoftext|>",
    )
    text_encoder = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            intermediate_size=16,
            projection_dim=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=len(tokens) - 2,
            eos_token_id=len(tokens) - 1,
            pad_token_id=len(tokens) - 1,
        )
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    pipeline = getattr(diffusers, kind)(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


_RESNET = [
    (".norm1.", ".in_layers.0."),
    (".conv1.", ".in_layers.2."),
    (".time_emb_proj.", ".emb_layers.1."),
    (".norm2.", ".out_layers.0."),
    (".conv2.", ".out_layers.3."),
    (".conv_shortcut.", ".skip_connection."),
]
_ENDS = [
    ("time_embedding.linear_1.", "time_embed.0."),
    ("time_embedding.linear_2.", "time_embed.2."),
    ("conv_in.", "input_blocks.0.0."),
    ("conv_norm_out.", "out.0."),
    ("conv_out.", "out.2."),
]


def _unet_name(name: str) -> str:
    """For two levels with one layer each, both with attention."""
    for new, old in _ENDS:
        if name.startswith(new):
            return old + name[len(new) :]
    if "resnets" in name:
        for new, old in _RESNET:
            name = name.replace(new, old)
    for pattern, place in (
        (r"down_blocks\.(\d)\.resnets\.0\.", lambda i: f"input_blocks.{1 + 2 * i}.0."),
        (r"down_blocks\.(\d)\.attentions\.0\.", lambda i: f"input_blocks.{1 + 2 * i}.1."),
        (r"down_blocks\.(\d)\.downsamplers\.0\.conv\.", lambda i: f"input_blocks.{2 + 2 * i}.0.op."),
        (r"mid_block\.resnets\.(\d)\.", lambda i: f"middle_block.{2 * i}."),
        (r"mid_block\.attentions\.(\d)\.", lambda i: "middle_block.1."),
    ):
        found = re.match(pattern, name)
        if found:
            return place(int(found[1])) + name[found.end() :]
    found = re.match(r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)\.", name)
    if found:
        block = 2 * int(found[1]) + int(found[3])
        return f"output_blocks.{block}.{'resnets attentions'.split().index(found[2])}." + name[found.end() :]
    found = re.match(r"up_blocks\.(\d)\.upsamplers\.0\.", name)
    assert found, name
    return f"output_blocks.{2 * int(found[1]) + 1}.2." + name[found.end() :]


def _vae_name(name: str) -> str:
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name)
    name = re.sub(
        r"decoder\.up_blocks\.(\d)\.resnets\.", lambda m: f"decoder.up.{1 - int(m[1])}.block.", name
    )
    name = re.sub(
        r"decoder\.up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"decoder.up.{1 - int(m[1])}.upsample.", name
    )
    name = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", name)
    for new, old in (
        ("group_norm", "norm"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("to_out.0", "proj_out"),
    ):
        name = name.replace(f"mid_block.attentions.0.{new}.", f"mid.attn_1.{old}.")
    return name


def write_file(folder: Path, file: Path) -> Path:
    """The weights of the tiny pipeline in ``folder`` as one safetensors file, with the names of the original code."""
    from safetensors.torch import load_file, save_file

    weights = {}
    for name, value in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        weights[f"model.diffusion_model.{_unet_name(name)}"] = value
    for name, value in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        old = _vae_name(name)
        if "attn_1" in old and old.endswith("weight") and value.dim() == 2:
            value = value[:, :, None, None].contiguous()
        weights[f"first_stage_model.{old}"] = value
    for name, value in load_file(folder / "text_encoder" / "model.safetensors").items():
        # newer versions of transformers leave "text_model." out
        weights[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    save_file(weights, file)
    return file


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """The folder of a tiny text-to-image pipeline."""
    return build_tiny(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture(scope="session")
def write_single_file():
    """The function that writes the weights of such a folder into one file."""
    return write_file
