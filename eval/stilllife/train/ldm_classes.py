"""The class-conditional twin of Still Life's latent diffusion model: a kind of fruit in place of a caption."""

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from diffedit.backbones.classes import ClassList
from diffedit.backbones.latent_diffusion import CLASSES, EMBEDDING, LatentDiffusion
from diffedit.engine.queries import run_alone
from diffedit.io.files import write
from diffedit.io.images import to_pil
from diffedit.sampling.ddim import ddim_sample
from diffedit.sampling.noise import RequestNoise
from eval.reporting.contact_sheet import draw_sheet
from eval.stilllife.scene import FRUITS, Scene
from eval.stilllife.train.latents import Latents, hash_weights
from eval.stilllife.train.loop import Part, TrainingSchedule, chunk, render_scenes, sample_split

TRAINED = 1000  # noise levels
BETAS = 0.0015, 0.0195  # of CompVis' models of classes, over all of them
NAMES = {number: f"{plural}, {kind}" for number, (kind, plural) in enumerate(FRUITS.items())}
STEPS, GUIDANCE = 25, 5.0  # of the pictures to look at


class LdmClassesPart(Part):
    """Trains epsilon-prediction on latents of the autoencoder, as CompVis' models of ImageNet are trained.

    Args:
        vae: folder of the trained autoencoder.
        channels: of the UNet's stages; cross-attention in all but the first.
        width: of the class embedding.
        dropped: share of classes replaced by the null class.
        levels: how many of the 1,000 noise levels the exported model has: the first ones. Beyond 800 the noise hides
            what the network would have to tell from it, and colours that go wrong there stay wrong.
        pictures: training renders of one kind of fruit each; their latents are made once and kept.
        validation: scenes to validate the loss on.
        seed: of the weights.
    """

    def __init__(
        self,
        vae: str,
        channels: Sequence[int],
        width: int,
        dropped: float,
        levels: int,
        pictures: int,
        validation: int,
        seed: int,
    ) -> None:
        torch.manual_seed(seed)
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
        self.module = nn.ModuleDict({"unet": unet, "classes": nn.Embedding(len(FRUITS) + 1, width)})
        self.scheduler, self.exported = make_scheduler(TRAINED), make_scheduler(levels)
        self.dropped, self.pictures, self.validation = dropped, pictures, validation

    def batches(self, schedule: TrainingSchedule, begin: int, out: Path) -> Iterator[tuple[Tensor, list[Scene]]]:
        """Latents of the training renders, in another order each time through."""
        folder = out / "latents" / hash_weights(self.vae, self.vae.config.scaling_factor)
        return Latents(folder, self.encode, self.pictures, two_kinds=0).batches(schedule, begin)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents of pictures in [0, 1]."""
        vae = self.vae.to(self.device)
        return vae.encode(images.to(vae.device) * 2 - 1).latent_dist.mode() * vae.config.scaling_factor

    def error(self, latents: Tensor, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Squared error of the noise estimate at random times."""
        noise = torch.randn(latents.shape, generator=rng).to(latents)
        times = torch.randint(0, TRAINED, (len(latents),), generator=rng).to(latents.device)
        noisy = self.scheduler.add_noise(latents, noise, times)
        tokens = self.module["classes"](classes.to(latents.device))[:, None]
        out = self.module["unet"](noisy, times, encoder_hidden_states=tokens).sample
        return F.mse_loss(out.float(), noise.float())

    def loss(self, inputs: Tensor, scenes: Sequence[Scene], rng: torch.Generator) -> Tensor:
        """With some classes dropped."""
        classes = number_kinds(scenes)
        is_dropped = torch.rand(len(classes), generator=rng) < self.dropped
        return self.error(inputs, torch.where(is_dropped, len(FRUITS), classes), rng)

    def backbone(self) -> LatentDiffusion:
        """The whole model as runs have it."""
        classes = ClassList(len(FRUITS), NAMES, {}, "Still Life")
        parts = self.module["unet"], self.vae.to(self.device), self.module["classes"], self.exported
        return LatentDiffusion(*parts, classes, len(FRUITS), name="Still Life's classes")

    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """The loss on fixed scenes, times and noises; and a sample of each class, and of none."""
        scenes, errors = sample_split("validation", 0, self.validation, two_kinds=0), []
        for i, part in enumerate(chunk(scenes, 64)):
            latents = self.encode(render_scenes(part).float() / 255)
            errors.append(self.error(latents, number_kinds(part), torch.Generator().manual_seed(64 * i)))
        backbone = self.backbone()
        schedule = backbone.schedule(STEPS)
        cells = []
        for name in (*FRUITS, ""):
            cond, null = backbone.embed([name, ""])
            noise = RequestNoise(0, name).randn_like(torch.zeros(1, 4, 16, 16), "start").to(self.device)
            program = ddim_sample({STEPS: noise}, schedule, cond, null, GUIDANCE)
            latent = run_alone(program, backbone)[STEPS]
            cells.append((name or "no class", to_pil(backbone.decode(latent)[0].cpu())))
        return {"loss": torch.stack(errors).mean().item()}, draw_sheet(chunk(cells))

    def export(self, folder: Path) -> None:
        """The folder that `LatentDiffusion.from_pretrained` reads, in half precision, without its autoencoder."""
        deepcopy(self.module["unet"]).half().save_pretrained(folder / "unet")
        self.exported.save_pretrained(folder / "scheduler")
        weight = self.module["classes"].weight.detach().half().cpu()
        write(folder / EMBEDDING, safetensors.torch.save({"weight": weight}))
        index = {"_class_name": "LatentDiffusion", "null_class": len(FRUITS)}
        write(folder / "model_index.json", json.dumps(index, indent=2).encode())
        write(folder / CLASSES, json.dumps(NAMES, indent=2).encode())


def make_scheduler(levels: int) -> DDIMScheduler:
    """The first noise levels of CompVis' scaled-linear betas: their roots rise by equal steps."""
    first, last = (beta**0.5 for beta in BETAS)
    end = first + (last - first) * (levels - 1) / (TRAINED - 1)
    return DDIMScheduler(
        levels,
        beta_start=BETAS[0],
        beta_end=end**2,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def number_kinds(scenes: Sequence[Scene]) -> Tensor:
    """The class of each scene of one kind of fruit."""
    return torch.tensor([tuple(FRUITS).index(scene.fruits[0]) for scene in scenes])
