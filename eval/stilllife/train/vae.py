"""The autoencoder of Still Life: 64 x 64 pixels to 4 x 16 x 16 latents."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from eval.stilllife.scene import Scene
from eval.stilllife.train.loop import Part, render_scenes, sample_split


def take_slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbours, across and down."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


class VaePart(Part):
    """Trains an AutoencoderKL with L1 on pixels, L1 on their slopes (edges), and a weak KL.

    Args:
        channels: of the stages; the side halves after each but the last.
        layers: residual blocks a stage.
        edges: weight of the slopes.
        kl: weight of the KL divergence, per latent value.
        validation: images to validate on.
        seed: of the weights.
    """

    def __init__(
        self, channels: Sequence[int], layers: int, edges: float, kl: float, validation: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        stages = len(channels)
        self.module = AutoencoderKL(
            block_out_channels=tuple(channels),
            down_block_types=("DownEncoderBlock2D",) * stages,
            up_block_types=("UpDecoderBlock2D",) * stages,
            layers_per_block=layers,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=64,
        )
        self.edges, self.kl, self.validation = edges, kl, validation

    def loss(self, inputs: Tensor, scenes: Sequence[Scene], rng: torch.Generator) -> Tensor:
        """L1 + edges * L1 of the slopes + kl * KL."""
        x = inputs * 2 - 1
        posterior = self.module.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng).to(posterior.mean)
        out = self.module.decode(posterior.mean + posterior.std * noise).sample
        edge = sum(F.l1_loss(a, b) for a, b in zip(take_slopes(out), take_slopes(x), strict=True))
        divergence = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        return F.l1_loss(out, x) + self.edges * edge + self.kl * divergence

    def images(self) -> Tensor:
        """The validation pictures, in [-1, 1], on the network's device."""
        scenes = sample_split("validation", 0, self.validation)
        return (render_scenes(scenes).float() / 127.5 - 1).to(self.device)

    def round_trip(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(latents, pictures) of the posterior's mode."""
        latents = torch.cat([self.module.encode(part).latent_dist.mode() for part in x.split(64)])
        return latents, torch.cat([self.module.decode(part).sample for part in latents.split(64)]).clamp(-1, 1)

    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """Mean PSNR over pictures in dB (of 8-bit values), and the latents' standard deviation."""
        x = self.images()
        latents, out = self.round_trip(x)
        bytes_in, bytes_out = (((images + 1) * 127.5).round() for images in (x, out))
        error = (bytes_in - bytes_out).square().mean((1, 2, 3)).clamp(min=1e-9)
        psnr = 10 * torch.log10(255**2 / error)
        rows = torch.stack([bytes_in[:12], bytes_out[:12]]).permute(0, 3, 1, 4, 2).reshape(128, -1, 3)
        sheet = Image.fromarray(rows.cpu().numpy().astype(np.uint8))
        return {"psnr": psnr.mean().item(), "latent_std": latents.std().item()}, sheet

    def export(self, folder: Path) -> None:
        """Diffusers' layout, in half precision, the scaling factor such that latents have unit variance."""
        factor = 1 / self.round_trip(self.images())[0].std().item()
        # Set at construction: from_config forgets a value that was only registered.
        copy = AutoencoderKL.from_config(self.module.config, scaling_factor=round(factor, 4)).half()
        copy.load_state_dict(self.half_state())
        copy.save_pretrained(folder)
