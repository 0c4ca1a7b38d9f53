"""Stable Diffusion 1.x and 2.x, or anything in its layout: a loaded pipeline, a local folder or a hub id."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from diffedit.backbones.latent import LatentBackbone
from diffedit.backbones.loading import Compile, Dtype, ModelFolder
from diffedit.backbones.recognise import check_added
from diffedit.io.checks import Count, check_literal
from diffedit.sampling.schedule import Spacing

log = logging.getLogger(__name__)

LONG_PROMPTS = ("error", "truncate")


class StableDiffusion(LatentBackbone):
    """A latent diffusion model under the `Backbone` protocol, made of networks that are loaded already.

    `from_pipeline` takes those of a diffusers pipeline, `from_pretrained` loads a folder or a hub id.

    Latents, noise levels and estimates are float32 outside the networks, whatever the networks run in. The
    autoencoder's posterior is not sampled: a latent is its mode times the scaling factor. Attention is PyTorch's
    scaled_dot_product_attention, the libraries' default. The scheduler's own betas, spacing, offset,
    `set_alpha_to_one` and prediction type are read; its `clip_sample` and `thresholding`, which are meant for pixels,
    are not applied to latents.

    Args:
        unet: the denoiser, a UNet2DConditionModel.
        vae: the autoencoder, an AutoencoderKL.
        text_encoder: a CLIPTextModel.
        tokenizer: its CLIPTokenizer.
        scheduler: any of diffusers' schedulers with DDPM's betas. Its config is read; it is never set or stepped.
        resolution: side of the images in pixels; None for the one the UNet was trained at.
        long_prompts: a prompt that the text encoder cannot take whole is an "error", or "truncate"d with a warning.
        device: where the networks run; None for where the UNet lies.
        name: of the model in messages.
        more: the parts that a family has beside these, kept as attributes.
    """

    parts: ClassVar = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    """What `__init__` takes and a pipeline has, by its name in both."""

    def __init__(
        self,
        unet: nn.Module,
        vae: nn.Module,
        text_encoder: nn.Module,
        tokenizer: Any,
        scheduler: Any,
        resolution: Count | None = None,
        long_prompts: Literal["error", "truncate"] = "error",
        device: torch.device | None = None,
        name: str = "the pipeline",
        **more: Any,
    ) -> None:
        check_literal("backbone.long_prompts", long_prompts, LONG_PROMPTS)
        if wrong := more.keys() ^ set(self.parts[5:]):
            raise TypeError(
                f"{type(self).__name__} takes the parts {', '.join(self.parts)}: {', '.join(sorted(wrong))}?"
            )
        vars(self).update(more)
        self.unet, self.text_encoder, self.tokenizer = unet, text_encoder, tokenizer
        self.set_up(unet, vae, scheduler, device, name)
        self.long_prompts = long_prompts
        self.resolution = self.check_sizes(name, resolution, 2 ** (len(unet.config.block_out_channels) - 1))

    @classmethod
    def from_pipeline(
        cls,
        pipe: Any,
        resolution: Count | None = None,
        long_prompts: Literal["error", "truncate"] = "error",
    ) -> "StableDiffusion":
        """The networks of a loaded diffusers pipeline: shared, not copied, on its device and in its dtypes.

        LoRAs, textual inversions (of several vectors too), offloading, slicing and compiled networks stay as they were
        set on the pipeline. Its scheduler is read and never touched; its safety checker is not asked.

        Args:
            pipe: a StableDiffusionPipeline, or any other of diffusers with the same parts.
            resolution: as in the class.
            long_prompts: as in the class.

        Raises:
            ValueError: the pipeline lacks a part, or its UNet wants more than a text; the message names it.
        """
        kind = type(pipe).__name__
        if missing := [part for part in cls.parts if getattr(pipe, part, None) is None]:
            raise ValueError(f"{kind} has no {', '.join(missing)}: a pipeline in Stable Diffusion's layout is wanted")
        check_added(pipe.unet.config, kind, cls.takes_added())
        device = getattr(pipe, "_execution_device", pipe.device)  # where an offloaded network comes to
        networks = {part: getattr(pipe, part) for part in cls.parts}
        return cls(**networks, resolution=resolution, long_prompts=long_prompts, device=device, name=kind)

    @classmethod
    def takes_added(cls) -> bool:
        """Of a family that says itself what its UNet is given."""
        return cls.condition is not StableDiffusion.condition

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        revision: str | None = None,
        variant: str | None = None,
        dtype: Dtype = "float32",
        vae_dtype: Dtype = "float32",
        device: str = "auto",
        resolution: Count | None = None,
        long_prompts: Literal["error", "truncate"] = "error",
        memory_format: Literal["contiguous", "channels_last"] = "contiguous",
        compile: Compile | None = None,
        timestep_spacing: Spacing | None = None,
    ) -> "StableDiffusion":
        """A folder or hub id with unet/, vae/, text_encoder/, tokenizer/, scheduler/.

        Weights are read from safetensors files only; a missing weight is an error, never a random one.

        Args:
            path: of the folder, or the id.
            revision: git revision on the hub.
            variant: weights variant, such as "fp16" for *.fp16.safetensors.
            dtype: of the UNet and the text encoder: "float32", "float16" or "bfloat16".
            vae_dtype: of the autoencoder; some overflow in float16.
            device: "auto" takes CUDA, else Apple's MPS, else the CPU.
            resolution: as in the class.
            long_prompts: as in the class.
            memory_format: "contiguous" or "channels_last" (faster convolutions in half precision on a GPU).
            compile: a mode of `torch.compile` for the UNet ("default", "max-autotune", ...), or None.
            timestep_spacing: of the times that are visited: "leading", "trailing" or "linspace", as diffusers has them;
                None for the folder's own.
        """
        check_literal("backbone.long_prompts", long_prompts, LONG_PROMPTS)
        options = {"resolution": resolution, "long_prompts": long_prompts, "timestep_spacing": timestep_spacing}
        return cls.load(path, revision, variant, dtype, vae_dtype, device, memory_format, compile, **options)

    @classmethod
    def load_parts(cls, folder: ModelFolder, vae_dtype: torch.dtype) -> dict[str, Any]:
        """What `__init__` takes, by name; a family with more parts adds them."""
        scheduler = folder.load_scheduler()  # first: a path that names nothing is told by it

        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel

        text_encoder = folder.load(CLIPTextModel, "text_encoder")
        return {
            "unet": folder.load(UNet2DConditionModel, "unet"),
            "vae": folder.load(AutoencoderKL, "vae", vae_dtype),
            "text_encoder": text_encoder,
            "tokenizer": folder.load_tokenizer(text_encoder.config),
            "scheduler": scheduler,
        }

    def embed(self, texts: Sequence[str]) -> list[Any]:
        """Last hidden states of the text encoder, one a text, (tokens, width), padded to its limit.

        Raises:
            ValueError: a text of more tokens than the encoder takes, unless `long_prompts` is "truncate".
        """
        texts = [expand_tokens(text, self.tokenizer) for text in texts]
        for text in texts:
            self.check_length(text)
        return list(self.encode_texts(self.tokenizer, self.text_encoder, texts)[0])

    def encode_texts(self, tokenizer: Any, encoder: nn.Module, texts: Sequence[str], **options: Any) -> Any:
        """What a text encoder of transformers gives for some texts; `options` are its own."""
        limit = find_token_limit(tokenizer, encoder)
        tokens = tokenizer(list(texts), padding="max_length", max_length=limit, truncation=True)
        ids = torch.tensor(tokens.input_ids, device=self.device)
        attended = None
        if encoder.config.to_dict().get("use_attention_mask"):  # Stable Diffusion's own encoders do not say
            attended = torch.tensor(tokens.attention_mask, device=self.device)
        return encoder(ids, attention_mask=attended, **options)

    def check_length(self, text: str) -> None:
        """Refuse a text that is too long, or warn that its end will be cut."""
        limit = find_token_limit(self.tokenizer, self.text_encoder)
        count = len(self.tokenizer(text, verbose=False).input_ids)
        if count <= limit:
            return
        fault = f"the prompt has {count} tokens, start and end included, and the text encoder takes {limit}: {text!r}"
        if self.long_prompts == "error":
            raise ValueError(f"{fault} (shorten it, or set backbone.long_prompts=truncate)")
        log.warning("%s; the last %d are cut", fault, count - limit)

    def condition(self, conds: Sequence[Any]) -> dict[str, Any]:
        """What the UNet takes beside latents and timesteps, of conditions that `embed` gave."""
        return {"encoder_hidden_states": torch.stack(list(conds)).to(self.dtype)}


def find_token_limit(tokenizer: Any, encoder: nn.Module) -> int:
    """How many tokens a text may have, start and end included."""
    return min(tokenizer.model_max_length, encoder.config.max_position_embeddings)


def expand_tokens(text: str, tokenizer: Any) -> str:
    """A text in which each token of a textual inversion stands for all its vectors: `<cat>` as `<cat> <cat>_1 ...`.

    A tokenizer has one token a vector, and a text names the first: as diffusers' `maybe_convert_prompt` has it.
    """
    added = tokenizer.added_tokens_encoder
    if not any(f"{token}_1" in added for token in added):
        return text
    for token in dict.fromkeys(tokenizer.tokenize(text)):
        vectors = [token] if token in added else []
        while vectors and f"{token}_{len(vectors)}" in added:
            vectors.append(f"{token}_{len(vectors)}")
        if len(vectors) > 1:
            text = text.replace(token, " ".join(vectors))
    return text
