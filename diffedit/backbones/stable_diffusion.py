"""Stable Diffusion 1.x and 2.x, or anything saved in its layout: a local folder or a hub id."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from transformers import CLIPTextModel, CLIPTokenizer

from diffedit.backbones.base import BaseBackbone, read_output
from diffedit.backbones.loading import (
    find_folder,
    load_network,
    read_dtype,
    read_scheduler,
    read_tokenizer,
)
from diffedit.io.device import pick_device
from diffedit.sampling.schedule import NoiseSchedule
from diffedit.types import Level, Prediction

log = logging.getLogger(__name__)


class StableDiffusion(BaseBackbone):
    """A latent diffusion model under the `Backbone` protocol.

    Latents, noise levels and estimates are float32 outside the networks, whatever the networks run in. The
    autoencoder's posterior is not sampled: a latent is its mode times the scaling factor. Attention is PyTorch's
    scaled_dot_product_attention, the libraries' default. Weights are read from safetensors files only; a missing weight
    is an error, never a random one. The scheduler's own betas, spacing, offset, `set_alpha_to_one` and prediction type
    are read; its `clip_sample` and `thresholding`, which are meant for pixels, are not applied to latents.

    Args:
        path: folder or hub id, with unet/, vae/, text_encoder/, tokenizer/, scheduler/.
        revision: git revision on the hub.
        variant: weights variant, such as "fp16" for *.fp16.safetensors.
        dtype: of the UNet and the text encoder: "float32", "float16" or "bfloat16".
        vae_dtype: of the autoencoder; some overflow in float16.
        device: "auto" takes CUDA, else Apple's MPS, else the CPU.
        resolution: side of the images in pixels; None for the one the UNet was trained at.
        long_prompts: a prompt that the text encoder cannot take whole is an "error", or "truncate"d with a warning.
        memory_format: "contiguous" or "channels_last" (faster convolutions in half precision on a GPU).
        compile: a mode of `torch.compile` for the UNet ("default", "max-autotune", ...), or None.
    """

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        variant: str | None = None,
        dtype: str = "float32",
        vae_dtype: str = "float32",
        device: str = "auto",
        resolution: int | None = None,
        long_prompts: Literal["error", "truncate"] = "error",
        memory_format: Literal["contiguous", "channels_last"] = "contiguous",
        compile: str | None = None,
    ) -> None:
        path = find_folder(path)
        self.device = pick_device(device, mps=True)
        self.dtype, self.vae_dtype = read_dtype(dtype), read_dtype(vae_dtype)
        self.long_prompts = long_prompts
        self.hub = {"revision": revision}
        self.weights = self.hub | {"variant": variant, "use_safetensors": True}
        self.scheduler = read_scheduler(path, self.hub)
        self.unet = self.load(UNet2DConditionModel, path, "unet", self.dtype)
        self.vae = self.load(AutoencoderKL, path, "vae", self.vae_dtype)
        self.load_text_encoders(path)
        self.resolution = self.check_sizes(path, resolution)

        self.memory_format = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[
            memory_format
        ]
        self.unet = self.unet.to(memory_format=self.memory_format)
        self.denoiser = torch.compile(self.unet, mode=compile) if compile else self.unet

    def load(self, kind: Any, path: str, part: str, dtype: torch.dtype) -> Any:
        """One network of the folder, on the device."""
        return load_network(kind, path, part, dtype, self.weights).to(self.device)

    def load_text_encoders(self, path: str) -> None:
        """What `embed` needs; a family with other text encoders overrides both."""
        self.text_encoder = self.load(CLIPTextModel, path, "text_encoder", self.dtype)
        self.tokenizer = read_tokenizer(path, self.text_encoder.config, self.hub)

    def check_sizes(self, path: str, resolution: int | None) -> int:
        """The side of the images; a ValueError where the networks do not take it, or do not fit each other."""
        channels, taken = self.vae.config.latent_channels, self.unet.config.in_channels
        if taken != channels:
            raise ValueError(f"{path}: the UNet takes {taken} channels, latents have {channels} (an inpainting model?)")
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        resolution = resolution or self.unet.config.sample_size * factor
        grain = factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if resolution % grain:
            raise ValueError(f"backbone.resolution = {resolution} is not a multiple of {grain}, as {path} needs")
        return resolution

    @cached_property
    def fingerprint(self) -> str:
        """Tells these weights from others: a hash of a few tensors of every network, which any training changes."""
        probes = [self.unet.conv_in.weight, self.unet.conv_out.weight, self.vae.encoder.conv_in.weight]
        probes += [self.vae.decoder.conv_out.weight, next(self.text_encoder.parameters())]
        digest = hashlib.sha256()
        for probe in probes:
            digest.update(probe.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def schedule(self, steps: int) -> NoiseSchedule:
        """`steps` levels on the scheduler's own spacing; the clean one as its `set_alpha_to_one` says."""
        self.scheduler.set_timesteps(steps)
        clean = self.scheduler.final_alpha_cumprod.item()
        return NoiseSchedule.discrete(self.scheduler.alphas_cumprod, self.scheduler.timesteps, clean)

    def posterior(self, images: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Its mode and its standard deviation, both scaled."""
        pixels = (images * 2 - 1).to(self.device, self.vae_dtype)
        posterior = self.vae.encode(pixels).latent_dist
        mode, std = (part.float() * self.vae.config.scaling_factor for part in (posterior.mode(), posterior.std))
        return mode, std

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Images, clipped to [0, 1]; a NaN stays one."""
        pixels = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae_dtype)).sample
        return (pixels.float() * 0.5 + 0.5).clamp(0, 1)

    @property
    def decoder(self) -> nn.Module:
        """The network of `render`, in whatever dtype it is stored."""
        return self.vae.decoder

    def render(
        self, latents: Float[Tensor, "b c h w"], weights: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "b 3 H W"]:
        """What `decode` returns, not clipped, in float32, and differentiable; by other weights of the decoder."""
        weights = dict(self.decoder.named_parameters()) if weights is None else weights
        z = latents.float() / self.vae.config.scaling_factor
        if self.vae.post_quant_conv is not None:
            z = F.conv2d(z, *(weight.float() for weight in self.vae.post_quant_conv.parameters()))
        return (
            functional_call(self.decoder, {name: weight.float() for name, weight in weights.items()}, (z,)) * 0.5 + 0.5
        )

    def embed(self, texts: Sequence[str]) -> list[Any]:
        """Last hidden states of the text encoder, one a text, (tokens, width), padded to its limit.

        Raises:
            ValueError: a text of more tokens than the encoder takes, unless `long_prompts` is "truncate".
        """
        for text in texts:
            self.check_length(text)
        return list(self.encode_texts(self.tokenizer, self.text_encoder, texts)[0])

    def encode_texts(self, tokenizer: CLIPTokenizer, encoder: nn.Module, texts: Sequence[str], **options: Any) -> Any:
        """What a text encoder of transformers gives for some texts; `options` are its own."""
        tokens = tokenizer(list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True)
        ids = torch.tensor(tokens.input_ids, device=self.device)
        attended = None
        if encoder.config.to_dict().get("use_attention_mask"):  # Stable Diffusion's own encoders do not say
            attended = torch.tensor(tokens.attention_mask, device=self.device)
        return encoder(ids, attention_mask=attended, **options)

    def check_length(self, text: str) -> None:
        """Refuse a text that is too long, or warn that its end will be cut."""
        limit, count = self.tokenizer.model_max_length, len(self.tokenizer(text, verbose=False).input_ids)
        if count <= limit:
            return
        fault = f"the prompt has {count} tokens, start and end included, and the text encoder takes {limit}: {text!r}"
        if self.long_prompts == "error":
            raise ValueError(f"{fault} (shorten it, or set backbone.long_prompts=truncate)")
        log.warning("%s; the last %d are cut", fault, count - limit)

    def predict(self, x: Float[Tensor, "b c h w"], levels: Sequence[Level], conds: Sequence[Any]) -> Prediction:
        """One pass of the UNet; its output read as the scheduler's prediction type says."""
        timesteps = torch.tensor([level.timestep for level in levels], device=self.device)
        inputs = x.to(self.dtype, memory_format=self.memory_format)
        raw = self.denoiser(inputs, timesteps, **self.condition(conds)).sample
        out = raw.to(torch.float32, copy=True)  # CUDA graphs write the next answer over this one
        alpha, sigma = (self.column([level[k] for level in levels]) for k in (0, 1))
        return read_output(self.scheduler.config.prediction_type, x, out, alpha, sigma)

    def condition(self, conds: Sequence[Any]) -> dict[str, Any]:
        """What the UNet takes beside latents and timesteps, of conditions that `embed` gave."""
        return {"encoder_hidden_states": torch.stack(list(conds))}

    def column(self, values: list[float]) -> Float[Tensor, "b 1 1 1"]:
        """One number a row, ready to multiply latents."""
        return torch.tensor(values, dtype=torch.float32, device=self.device)[:, None, None, None]
