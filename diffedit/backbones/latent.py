"""What families of latent diffusion in diffusers' layout share: a denoiser, an autoencoder and noise levels."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from diffedit.backbones.base import BaseBackbone, as_column, read_output, send
from diffedit.backbones.loading import SPACING, Compile, ModelFolder, make_schedule, make_scheduler, read_dtype, respace
from diffedit.backbones.recognise import Layout, check_channels, find_model
from diffedit.io.checks import check_literal
from diffedit.io.device import pick_device
from diffedit.io.hashing import hash_config, hash_module, hash_network_config, hash_tokenizer
from diffedit.sampling.schedule import SPACINGS, NoiseSchedule, Spacing
from diffedit.types import Level, Prediction

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class LatentBackbone(BaseBackbone):
    """A denoiser over the latents of an autoencoder, with a discrete DDPM schedule.

    A family says of which `parts` it is made, and what its denoiser is given beside latents and timesteps
    (`condition`). Latents, noise levels and estimates are float32 outside the networks, whatever these run in.
    """

    parts: ClassVar[tuple[str, ...]]
    """What `__init__` takes and a pipeline has, by its name in both."""
    denoiser_part: ClassVar = "unet"
    """Which of them is the denoiser."""
    takes_shapes: ClassVar = True
    """Whether it takes images of other shapes than it was trained on: convolutions do, and attention without places."""

    @classmethod
    def load(
        cls,
        path: str,
        revision: str | None,
        variant: str | None,
        dtype: str,
        vae_dtype: str,
        device: str,
        memory_format: str,
        compile: Compile | None,
        autoencoder: str | None = None,
        timestep_spacing: Spacing | None = None,
        **options: Any,
    ) -> Any:
        """A folder or hub id, as `from_pretrained` of each family has it.

        Args:
            path: as all but the last two, of `StableDiffusion.from_pretrained`.
            revision: of the hub.
            variant: of the weights.
            dtype: of the denoiser.
            vae_dtype: of the autoencoder.
            device: where the networks run.
            memory_format: of the denoiser.
            compile: a mode of `torch.compile`.
            autoencoder: folder of another, for a family that takes one.
            timestep_spacing: of the times that are visited; None for the folder's own.
            options: of the family's `__init__`.
        """
        check_literal("backbone.memory_format", memory_format, list(MEMORY_FORMATS))
        check_literal(SPACING, timestep_spacing, (None, *SPACINGS))
        dtypes = {"dtype": read_dtype(dtype), "vae_dtype": read_dtype(vae_dtype)}
        place = find_model(path, Layout(cls.denoiser_part, cls.parts, takes_added=cls.takes_added()), revision, variant)
        folder = ModelFolder(place, dtypes["dtype"], pick_device(device, mps=True), revision, variant)
        other = () if autoencoder is None else (autoencoder,)
        parts = cls.load_parts(folder, dtypes["vae_dtype"], *other)
        parts["scheduler"] = respace(parts["scheduler"], timestep_spacing)
        backbone = cls(**parts, **options, name=folder.path)
        backbone.memory_format = MEMORY_FORMATS[memory_format]
        network = getattr(backbone, cls.denoiser_part).to(memory_format=backbone.memory_format)
        if compile:
            backbone.denoiser = torch.compile(network, mode=compile, dynamic=False)  # calls have few shapes
        return backbone

    @classmethod
    def load_parts(cls, folder: ModelFolder, vae_dtype: torch.dtype) -> dict[str, Any]:
        """What `__init__` takes, by name."""
        raise TypeError(f"{cls.__name__} has to say how its parts are loaded: load_parts()")

    @classmethod
    def takes_added(cls) -> bool:
        """Whether the denoiser is given more than a latent, a time and texts or classes."""
        return False

    def condition(self, conds: Sequence[Any]) -> dict[str, Any]:
        """What the denoiser takes beside latents and timesteps, of conditions that `embed` gave."""
        raise TypeError(f"{type(self).__name__} has to say what its denoiser is given: condition()")

    def set_up(
        self, denoiser: nn.Module, vae: nn.Module, scheduler: Any, device: torch.device | None, name: str
    ) -> None:
        """Take these networks for use.

        Args:
            denoiser: the network of `predict`, not compiled yet.
            vae: the autoencoder, an AutoencoderKL or a VQModel.
            scheduler: any of diffusers' schedulers with DDPM's betas. Its config is read; it is never set or stepped.
            device: where the networks run; None for where the denoiser lies.
            name: of the model in messages.
        """
        self.denoiser, self.vae = denoiser, vae
        self.scheduler = make_scheduler(scheduler.config, f"{name}: scheduler")
        self.device = denoiser.device if device is None else device
        self.dtype, self.vae_dtype = denoiser.dtype, vae.dtype
        self.memory_format = torch.contiguous_format

    def check_sizes(self, name: str, resolution: int | None, grain: int) -> int:
        """The side of the images; a ValueError where the networks do not take it, or do not fit each other.

        Sets the grain of images of other shapes, where there may be some.

        Args:
            name: of the model.
            resolution: asked for; None for the one that the denoiser was trained at.
            grain: of what number the side of a latent has to be a multiple.
        """
        network, autoencoder = self.denoiser.config, self.vae.config
        # Of a VQModel, whose latents are quantised, the codes are as wide as latents.
        channels, taken = autoencoder.get("vq_embed_dim") or autoencoder.latent_channels, network.in_channels
        check_channels(taken, channels, name, self.denoiser_part)
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        resolution = resolution or network.sample_size * factor
        if resolution % (factor * grain):
            raise ValueError(
                f"backbone.resolution = {resolution} is not a multiple of {factor * grain}, as {name} needs"
            )
        if self.takes_shapes:
            self.grain = factor * grain
        return resolution

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """A hash of each part: all weights, the configs of networks and scheduler, the vocabulary.

        Each run takes it anew: the networks are their owner's, who may have changed them since.
        """
        parts = {name: getattr(self, name) for name in self.parts if name != "scheduler"}
        networks = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        hashes = {name: hash_tokenizer(part) for name, part in parts.items() if name not in networks}
        hashes |= {name: hash_module(network) for name, network in networks.items()}
        hashes |= {f"{name}_config": hash_network_config(network) for name, network in networks.items()}
        return hashes | {"scheduler": hash_config(self.scheduler.config)}

    @property
    def numerics(self) -> dict[str, str]:
        """Dtypes, memory format, compilation."""
        compiled = "" if self.denoiser is getattr(self, self.denoiser_part) else "compiled"
        return {self.denoiser_part: f"{self.dtype} {self.memory_format} {compiled}", "vae": str(self.vae_dtype)}

    def schedule(self, steps: int) -> NoiseSchedule:
        """`steps` levels on the scheduler's spacing; the clean one as its `set_alpha_to_one` says."""
        return make_schedule(self.scheduler, steps, self.scheduler.final_alpha_cumprod.item())

    @property
    def quantises(self) -> bool:
        """Whether the autoencoder is a VQModel, whose latents are quantised when they are decoded."""
        return hasattr(self.vae, "quantize")

    def posterior(self, images: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Its mode and its standard deviation, both scaled; what is to be quantised has none, and is not yet."""
        encoded = self.vae.encode((images * 2 - 1).to(self.device, self.vae_dtype))
        if self.quantises:
            latents = encoded.latents.float() * self.vae.config.scaling_factor
            return latents, torch.zeros_like(latents)
        posterior = encoded.latent_dist
        mode, std = (part.float() * self.vae.config.scaling_factor for part in (posterior.mode(), posterior.std))
        return mode, std

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Images, clipped to [0, 1]; a NaN stays one. A VQModel quantises first."""
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
        if self.quantises:  # its gradient passes straight through
            z = self.vae.quantize(z.to(self.vae_dtype))[0].float()
        if self.vae.post_quant_conv is not None:
            z = F.conv2d(z, *(weight.float() for weight in self.vae.post_quant_conv.parameters()))
        return (
            functional_call(self.decoder, {name: weight.float() for name, weight in weights.items()}, (z,)) * 0.5 + 0.5
        )

    def predict(self, x: Float[Tensor, "b c h w"], levels: Sequence[Level], conds: Sequence[Any]) -> Prediction:
        """One pass of the denoiser; its output read as the scheduler's prediction type says, a variance dropped."""
        alpha, sigma, timesteps = send(levels, self.device)
        inputs = x.to(self.dtype, memory_format=self.memory_format)
        raw = self.denoiser(inputs, timesteps, **self.condition(conds)).sample[:, : x.shape[1]]
        out = raw.to(torch.float32, copy=True)  # CUDA graphs write the next answer over this one
        return read_output(self.scheduler.config.prediction_type, x, out, as_column(alpha), as_column(sigma))
