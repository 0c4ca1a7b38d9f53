"""The latent diffusion model of Still Life: UNet and text encoder trained together, in the Stable Diffusion layout."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from diffedit.io.files import write
from eval.reporting.contact_sheet import draw_sheet
from eval.stilllife.scene import Scene, make_generator
from eval.stilllife.train.captions import LIMIT, shorten_caption, write_tokenizer
from eval.stilllife.train.latents import Latents, hash_weights
from eval.stilllife.train.loop import Part, TrainingSchedule, chunk, render_scenes, sample_split


class LdmPart(Part):
    """Trains epsilon-prediction on latents of the autoencoder.

    Args:
        vae: folder of the trained autoencoder.
        channels: of the UNet's stages; cross-attention in all but the first.
        width: of the text embedding.
        dropped: share of captions replaced by the empty text.
        pictures: training renders; their latents are made once and kept.
        validation: scenes to validate the loss on.
        seed: of the weights.
    """

    def __init__(
        self, vae: str, channels: Sequence[int], width: int, dropped: float, pictures: int, validation: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory() as folder:
            self.tokenizer = write_tokenizer(Path(folder))
        self.vae = AutoencoderKL.from_pretrained(vae).requires_grad_(False)
        stages = len(channels)
        unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            block_out_channels=tuple(channels),
            layers_per_block=1,
            down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (stages - 1)),
            up_block_types=(*("CrossAttnUpBlock2D",) * (stages - 1), "UpBlock2D"),
            cross_attention_dim=width,
            attention_head_dim=8,
        )
        self.module = nn.ModuleDict(
            {"unet": unet, "text": make_text_encoder(len(self.tokenizer), width, self.tokenizer.eos_token_id)}
        )
        self.scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        )
        self.dropped, self.pictures, self.validation = dropped, pictures, validation

    def embed(self, texts: Sequence[str], device: torch.device) -> Tensor:
        """Last hidden states, padded to the limit."""
        tokens = self.tokenizer(list(texts), padding="max_length", max_length=LIMIT, truncation=True)
        return self.module["text"](torch.tensor(tokens.input_ids, device=device))[0]

    def batches(self, schedule: TrainingSchedule, begin: int, out: Path) -> Iterator[tuple[Tensor, list[Scene]]]:
        """Latents of the training renders, in another order each time through."""
        folder = out / "latents" / hash_weights(self.vae, self.vae.config.scaling_factor)
        return Latents(folder, self.encode, self.pictures).batches(schedule, begin)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents of pictures in [0, 1]."""
        vae = self.vae.to(self.device)
        return vae.encode(images.to(vae.device) * 2 - 1).latent_dist.mode() * vae.config.scaling_factor

    def error(self, latents: Tensor, texts: Sequence[str], rng: torch.Generator) -> Tensor:
        """Squared error of the noise estimate at random times."""
        noise = torch.randn(latents.shape, generator=rng).to(latents)
        times = torch.randint(0, 1000, (len(latents),), generator=rng).to(latents.device)
        noisy = self.scheduler.add_noise(latents, noise, times)
        out = self.module["unet"](noisy, times, encoder_hidden_states=self.embed(texts, latents.device)).sample
        return F.mse_loss(out.float(), noise.float())

    def loss(self, inputs: Tensor, scenes: Sequence[Scene], rng: torch.Generator) -> Tensor:
        """With captions shortened at random, and some dropped."""
        words = np.random.default_rng(int(torch.randint(2**31, (1,), generator=rng)))
        texts = ["" if words.random() < self.dropped else shorten_caption(scene, words) for scene in scenes]
        return self.error(inputs, texts, rng)

    def pipeline(self) -> StableDiffusionPipeline:
        """The whole model as diffusers has it."""
        return StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.module["text"],
            tokenizer=self.tokenizer,
            unet=self.module["unet"],
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """The loss on fixed scenes, times and noises; and samples of 16 captions."""
        scenes, errors = sample_split("validation", 0, self.validation), []
        for i in range(0, len(scenes), 64):
            part = scenes[i : i + 64]
            latents = self.encode(render_scenes(part).float() / 255)
            captions = [scene.caption() for scene in part]
            errors.append(self.error(latents, captions, torch.Generator().manual_seed(i)))
        texts = [scene.caption() for scene in scenes[:16]]
        noise = torch.from_numpy(make_generator(0, "samples").standard_normal((len(texts), 4, 16, 16))).float()
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        pictures = pipeline(texts, latents=noise.to(self.device), num_inference_steps=25, guidance_scale=5.0).images
        page = draw_sheet(chunk(list(zip(texts, pictures, strict=True))))
        return {"loss": torch.stack(errors).mean().item()}, page

    def export(self, folder: Path) -> None:
        """The Stable Diffusion layout, in half precision; the networks in training are left as they are."""
        parts = self.pipeline().components
        halves = {name: deepcopy(part).half() if isinstance(part, nn.Module) else part for name, part in parts.items()}
        StableDiffusionPipeline(**halves, requires_safety_checker=False).save_pretrained(
            folder, safe_serialization=True
        )
        write_tokenizer(folder / "tokenizer")
        # transformers computes in the dtype that its config names, diffusers in float32: name the same.
        config = folder / "text_encoder" / "config.json"
        write(config, json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2).encode())


def make_text_encoder(vocabulary: int, width: int, end: int) -> CLIPTextModel:
    """Two layers of CLIP's text transformer."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LIMIT,
        projection_dim=width,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPTextModel(config)
