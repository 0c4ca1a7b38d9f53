"""Tiny models with random weights in the layouts of the real ones: everything runs on them, to pictures of noise.

For tests, benchmarks of speed and a first look without weights. Every file is of the true kind: model_index.json,
unet/, vae/, text_encoder/, tokenizer/ (vocab.json and merges.txt), scheduler/; weights as safetensors.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    VQModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


@dataclass(frozen=True)
class TinyPipeline:
    """Sizes of a tiny pipeline; the defaults evaluate in a millisecond or two.

    Attributes:
        channels: of the UNet's stages; multiples of 8.
        vae_channels: of the autoencoder's; each stage but the first halves the side.
        latent: side of the latent grid.
        width: of the text embedding.
        tokens: the text encoder's limit.
        prediction_type: "epsilon" or "v_prediction".
        scheduler: settings over those of Stable Diffusion 1.5.
        seed: of the weights.
    """

    channels: Sequence[int] = (16, 32)
    vae_channels: Sequence[int] = (8, 16, 16)
    latent: int = 8
    width: int = 16
    tokens: int = 32
    prediction_type: str = "epsilon"
    scheduler: dict[str, Any] | None = None
    seed: int = 0

    def write(self, folder: Path | str) -> Path:
        """Write all files; returns the folder."""
        folder = Path(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            tokenizer = self.tokenizer(folder / "tokenizer")
            pipeline = StableDiffusionPipeline(
                vae=self.vae(),
                text_encoder=self.text_encoder(len(tokenizer)),
                tokenizer=tokenizer,
                unet=self.unet(),
                scheduler=self.ddim(),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        pipeline.save_pretrained(folder, safe_serialization=True)
        return folder

    def unet(self) -> UNet2DConditionModel:
        """Attention in all stages but the first, heads of width 8."""
        cross = ["CrossAttnDownBlock2D"] * (len(self.channels) - 1)
        return UNet2DConditionModel(
            sample_size=self.latent,
            in_channels=4,
            out_channels=4,
            block_out_channels=tuple(self.channels),
            layers_per_block=1,
            down_block_types=("DownBlock2D", *cross),
            up_block_types=(*[block.replace("Down", "Up") for block in cross], "UpBlock2D"),
            cross_attention_dim=self.width,
            attention_head_dim=8,
            norm_num_groups=8,
        )

    def vae(self) -> AutoencoderKL:
        """One layer a stage, 4 latent channels."""
        stages = len(self.vae_channels)
        return AutoencoderKL(
            block_out_channels=tuple(self.vae_channels),
            down_block_types=("DownEncoderBlock2D",) * stages,
            up_block_types=("UpDecoderBlock2D",) * stages,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=self.latent * 2 ** (stages - 1),
        )

    def text_encoder(self, vocabulary: int) -> CLIPTextModel:
        """Two layers."""
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=self.width,
                intermediate_size=self.width * 4,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=self.tokens,
                projection_dim=self.width,
                bos_token_id=vocabulary - 2,
                eos_token_id=vocabulary - 1,
                pad_token_id=vocabulary - 1,
            )
        )

    def ddim(self) -> DDIMScheduler:
        """Stable Diffusion 1.5's noise schedule."""
        config = {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            "prediction_type": self.prediction_type,
        }
        return DDIMScheduler(**config | (self.scheduler or {}))

    def tokenizer(self, folder: Path) -> CLIPTokenizer:
        """CLIP's byte-level BPE without a single merge, in CLIP's own files: every text is its characters."""
        letters = list(bytes_to_unicode().values())
        vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.tokens,
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return CLIPTokenizer.from_pretrained(folder)


def bytes_to_unicode() -> dict[int, str]:
    """GPT-2's table: each byte as a printable character; printable bytes stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


CLASSES = {0: ("n00000001", "apple"), 1: ("n00000002", "pear, Pyrus"), 2: ("n00000003", "plum")}


@dataclass(frozen=True)
class TinyLatentDiffusion:
    """A tiny class-conditional latent diffusion model, in the layout that scripts/convert_ldm.py writes.

    Attributes:
        has_null: whether there is a row for no class.
        count: of classes; they have names if they are three.
        seed: of the weights.
    """

    has_null: bool = True
    count: int = 3
    seed: int = 0

    def write(self, folder: Path | str) -> Path:
        """Write all files; returns the folder."""
        folder, width = Path(folder), 16
        tiny = TinyPipeline(width=width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            tiny.unet().save_pretrained(folder / "unet")
            self.vqvae().save_pretrained(folder / "vqvae")
            rows = torch.randn(self.count + self.has_null, width)
        safetensors.torch.save_file({"weight": rows}, folder / "class_embedding.safetensors")
        scheduler = {"beta_start": 0.0015, "beta_end": 0.0195}
        DDIMScheduler(**dict(tiny.ddim().config) | scheduler).save_pretrained(folder / "scheduler")
        index = {"_class_name": "LatentDiffusion", "null_class": self.count if self.has_null else None}
        (folder / "model_index.json").write_text(json.dumps(index | {"vqvae": ["diffusers", "VQModel"]}))
        if self.count == len(CLASSES):
            (folder / "classes.json").write_text(json.dumps({number: list(names) for number, names in CLASSES.items()}))
        return folder

    def vqvae(self) -> VQModel:
        """One layer a stage, 4 latent channels, 32 codes."""
        return VQModel(
            block_out_channels=(8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=32,
            num_vq_embeddings=32,
            scaling_factor=1.0,
        )


@dataclass(frozen=True)
class TinyDiT:
    """A tiny DiT in diffusers' layout.

    Attributes:
        seed: of the weights.
    """

    seed: int = 0

    def write(self, folder: Path | str) -> Path:
        """Write all files; returns the folder."""
        folder = Path(folder)
        labels = {number: name for number, (_, name) in CLASSES.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            transformer = self.transformer()
            for part in transformer.parameters():  # some begin as zeros, which would predict zeros
                part.data = torch.randn_like(part) * 0.1
            pipeline = DiTPipeline(transformer, TinyPipeline().vae(), self.ddim(), id2label=labels)
        pipeline.save_pretrained(folder, safe_serialization=True)
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"id2label": labels}))  # which is not saved
        return folder

    def transformer(self) -> DiTTransformer2DModel:
        """Two layers of two heads; 8 channels out, of which half are a variance."""
        return DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            num_embeds_ada_norm=len(CLASSES),
        )

    def ddim(self) -> DDIMScheduler:
        """DiT's noise schedule: truly linear."""
        return DDIMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=False)
