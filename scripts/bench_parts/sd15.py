"""Stable Diffusion 1.5's architecture, written out, with random weights: it costs what the trained one costs."""

import json
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from diffedit.testing import TinyPipeline

UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 1,
}
PARAMETERS = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
"""Of the published weights."""


def build(on: AbstractContextManager | torch.device) -> dict[str, torch.nn.Module]:
    """The three networks on a device, with fresh weights; on `meta` without any."""
    with on:
        return {
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(**VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
        }


def write(folder: Path, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Path:
    """Write a pipeline with random weights of a seed; its tokenizer spells, and takes 77 tokens.

    Args:
        folder: where to.
        device: on which the weights are drawn.
        dtype: in which they are stored; they are loaded in any.
        seed: of the weights.
    """
    tiny = TinyPipeline(tokens=77)
    torch.manual_seed(seed)
    networks = {name: network.to(dtype) for name, network in build(device).items()}
    pipeline = StableDiffusionPipeline(
        **networks,
        tokenizer=write_tokenizer(folder / "tokenizer"),
        scheduler=DDIMScheduler(**tiny.ddim().config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer that spells, with as many tokens as the text encoder has; most are never met."""
    TinyPipeline(tokens=TEXT["max_position_embeddings"]).tokenizer(folder)
    path = folder / "vocab.json"
    *letters, start, end = json.loads(path.read_text())
    unmet = [f"<unmet {i}>" for i in range(TEXT["vocab_size"] - len(letters) - 2)]
    path.write_text(json.dumps({token: i for i, token in enumerate([*letters, *unmet, start, end])}))
    return CLIPTokenizer.from_pretrained(folder)


def count_flops(config: dict, latent: int, tokens: int) -> int:
    """Floating-point operations of one row of a UNet: two for each multiplication and addition, attention included.

    Counted on a copy without weights.

    Args:
        config: of the UNet.
        latent: side of the latent grid.
        tokens: of the text.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
        x = torch.zeros(1, unet.config.in_channels, latent, latent)
        text = torch.zeros(1, tokens, unet.config.cross_attention_dim)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            unet(x, torch.zeros(1, dtype=torch.long), encoder_hidden_states=text)
    return counter.get_total_flops()
