"""The unconditional pixel-space diffusion model of Still Life: what Blended Diffusion is guided through."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from torch import Tensor

from diffedit.io.images import to_pil
from eval.reporting.contact_sheet import draw_sheet
from eval.stilllife.scene import Scene, make_generator
from eval.stilllife.train.loop import Part, chunk, render_scenes, sample_split


class PixelPart(Part):
    """Trains v-prediction on pixels in [-1, 1], with guided-diffusion's linear schedule.

    Not epsilon: where little of the picture is left, a small error of the noise is a large one of the predicted
    picture, which is what CLIP looks at. 2,000 steps of epsilon-prediction gave pictures in saturated colours.

    Args:
        channels: of the UNet's stages; the side halves after each but the last, which has attention.
        validation: scenes to validate the loss on.
        seed: of the weights.
    """

    def __init__(self, channels: Sequence[int], validation: int, seed: int) -> None:
        torch.manual_seed(seed)
        stages = len(channels)
        self.module = UNet2DModel(
            sample_size=64,
            in_channels=3,
            out_channels=3,
            block_out_channels=tuple(channels),
            layers_per_block=1,
            down_block_types=("DownBlock2D",) * (stages - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (stages - 1),
            norm_num_groups=8,
            attention_head_dim=16,
        )
        self.scheduler = DDPMScheduler(beta_schedule="linear", clip_sample=False, prediction_type="v_prediction")
        self.validation = validation

    def loss(self, inputs: Tensor, scenes: Sequence[Scene], rng: torch.Generator) -> Tensor:
        """Squared error of the velocity at random times."""
        x = inputs * 2 - 1
        noise = torch.randn(x.shape, generator=rng).to(x)
        times = torch.randint(0, 1000, (len(x),), generator=rng).to(x.device)
        out = self.module(self.scheduler.add_noise(x, noise, times), times).sample
        return F.mse_loss(out.float(), self.scheduler.get_velocity(x, noise, times))

    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """The loss on fixed scenes, times and noises; and 16 samples by 50 steps of DDIM."""
        scenes, errors = sample_split("validation", 0, self.validation), []
        for i in range(0, len(scenes), 64):
            part = scenes[i : i + 64]
            images = render_scenes(part).float().to(self.device) / 255
            errors.append(self.loss(images, part, torch.Generator().manual_seed(i)))
        x = torch.from_numpy(make_generator(0, "samples").standard_normal((16, 3, 64, 64))).float().to(self.device)
        ddim = DDIMScheduler.from_config(self.scheduler.config)
        ddim.set_timesteps(50)
        for time in ddim.timesteps:
            x = ddim.step(self.module(x, time).sample, time, x).prev_sample
        pictures = [("", to_pil(image)) for image in (x.clamp(-1, 1) + 1) / 2]
        return {"loss": torch.stack(errors).mean().item()}, draw_sheet(chunk(pictures))

    def export(self, folder: Path) -> None:
        """The layout of diffusers' DDPMPipeline, in half precision."""
        DDPMPipeline(deepcopy(self.module).half(), self.scheduler).save_pretrained(folder, safe_serialization=True)
