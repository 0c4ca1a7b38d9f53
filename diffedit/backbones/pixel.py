"""Diffusion in pixels: an unconditional UNet2DModel, saved as diffusers' DDPMPipeline saves it (unet/, scheduler/)."""

from collections.abc import Sequence
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from diffedit.backbones.base import PixelBackbone, as_column, read_output, send
from diffedit.backbones.loading import SPACING, Dtype, ModelFolder, make_schedule, read_dtype, respace
from diffedit.backbones.recognise import Layout, find_model
from diffedit.io.checks import check_literal
from diffedit.io.device import pick_device
from diffedit.io.hashing import hash_config, hash_module, hash_network_config
from diffedit.sampling.schedule import SPACINGS, NoiseSchedule, Spacing
from diffedit.types import Level, Prediction

LAYOUT = Layout(unet="UNet2DModel")


class PixelDiffusion(PixelBackbone):
    """Images in [-1, 1] are their own latents; texts mean nothing to the network.

    A network that learnt its variance too (6 channels, guided-diffusion's layout) is read for its noise estimate only.

    Args:
        path: folder or hub id.
        revision: git revision on the hub.
        variant: weights variant.
        dtype: of the network: "float32", "float16" or "bfloat16".
        device: "auto" takes CUDA, else Apple's MPS, else the CPU.
        timestep_spacing: of the times that are visited: `linspace`, as guided-diffusion respaces them, or diffusers'
            `leading` and `trailing`.
    """

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        variant: str | None = None,
        dtype: Dtype = "float32",
        device: str = "auto",
        timestep_spacing: Spacing = "linspace",
    ) -> None:
        check_literal(SPACING, timestep_spacing, SPACINGS)
        self.device, self.dtype = pick_device(device, mps=True), read_dtype(dtype)
        folder = ModelFolder(find_model(path, LAYOUT, revision, variant), self.dtype, self.device, revision, variant)
        self.scheduler = respace(folder.load_scheduler(), timestep_spacing)

        from diffusers import UNet2DModel

        self.unet = folder.load(UNet2DModel, "unet")
        if self.unet.config.in_channels != 3:
            raise ValueError(f"{path}: the network takes {self.unet.config.in_channels} channels, pictures have 3")
        self.resolution: int = self.unet.config.sample_size
        self.grain = 2 ** (len(self.unet.config.block_out_channels) - 1)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """A hash of all weights, and of the configs of network and scheduler."""
        network = {"unet": hash_module(self.unet), "unet_config": hash_network_config(self.unet)}
        return network | {"scheduler": hash_config(self.scheduler.config)}

    @property
    def numerics(self) -> dict[str, str]:
        """The network's dtype."""
        return {"unet": str(self.dtype)}

    def schedule(self, steps: int) -> NoiseSchedule:
        """`steps` levels of the network's schedule, clean at level 0."""
        return make_schedule(self.scheduler, steps, clean=1.0)

    def posterior(self, images: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b 3 H W"], Float[Tensor, "b 3 H W"]]:
        """On the network's device."""
        return super().posterior(images.to(self.device))

    def embed(self, texts: Sequence[str]) -> list[None]:
        return [None] * len(texts)

    def predict(self, x: Float[Tensor, "b 3 H W"], levels: Sequence[Level], conds: Sequence[None]) -> Prediction:
        """One pass of the network; its output read as the scheduler's prediction type says."""
        alpha, sigma, timesteps = send(levels, self.device)
        out = self.unet(x.to(self.dtype), timesteps).sample[:, :3].float()
        return read_output(self.scheduler.config.prediction_type, x, out, as_column(alpha), as_column(sigma))
