"""The model under examination, with the pictures that it is shown and what it makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.commands.checkup.pictures import Sample, choose_pictures
from diffedit.engine.queries import run_alone, run_together
from diffedit.io.checks import check_finite
from diffedit.io.device import find_device
from diffedit.sampling.ddim import add_noise
from diffedit.sampling.noise import RequestNoise
from diffedit.types import Backbone, Cond, Level, Prediction, Program

STEPS = 50  # of the schedule that levels are taken from where the number of steps does not matter


@dataclass(frozen=True)
class Patient:
    """A model and what it is shown.

    Attributes:
        backbone: the model.
        samples: the pictures.
        cfg: the settings of the command.
    """

    backbone: Backbone
    samples: Sequence[Sample]
    cfg: Any

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        return find_device(self.backbone)

    @property
    def place(self) -> str:
        """Where its files lie, for advice."""
        return str(self.cfg.backbone.get("path") or "the model's folder")

    @property
    def autoencoder(self) -> str:
        """Where that of the autoencoder lie."""
        part = "vqvae" if hasattr(self.backbone, "vqvae") else "vae"
        return str(self.cfg.backbone.get("autoencoder") or f"{self.place}/{part}")

    @property
    def kind(self) -> str:
        """Which pictures: `scenes`, `photographs`, or a folder."""
        return choose_pictures(str(self.cfg.pictures), self.backbone.resolution)

    def describe_pictures(self) -> str:
        """In words."""
        words = {"scenes": "rendered still lifes", "photographs": "photographs of scikit-image"}
        kind = words.get(self.kind, f"pictures of {self.kind}")
        return f"{len(self.samples)} {kind}"

    @cached_property
    def latents(self) -> Float[Tensor, "k c h w"]:
        """Of the pictures; a FloatingPointError where they are not finite."""
        images = torch.stack([sample.image for sample in self.samples])
        with torch.no_grad():
            return check_finite(self.backbone.encode(images), "the encoded latent")

    @property
    def sources(self) -> list[Cond]:
        """What the pictures show."""
        return self.backbone.embed([sample.source for sample in self.samples])

    @property
    def targets(self) -> list[Cond]:
        """What is contrasted with that."""
        if missing := [sample.id for sample in self.samples if sample.target is None]:
            raise ValueError(f"{missing[0]}: the model takes none of the words that were tried: say target=...")
        return self.backbone.embed([sample.target or "" for sample in self.samples])

    @cached_property
    def noises(self) -> Float[Tensor, "k c h w"]:
        """One a picture."""
        draws = [RequestNoise(self.cfg.seed, sample.id).randn_like(self.latents, "doctor") for sample in self.samples]
        return torch.cat(draws)

    def find_level(self, ratio: float) -> Level:
        """The level of a ratio of `STEPS` steps."""
        schedule = self.backbone.schedule(STEPS)
        return schedule[schedule.find_level(ratio)]

    @torch.no_grad()
    def estimate(self, level: Level, conds: Sequence[Cond]) -> Prediction:
        """What the model makes of the pictures noised to a level, one condition a picture."""
        return self.backbone.predict(self.noised(level), [level] * len(conds), conds)

    def noised(self, level: Level) -> Float[Tensor, "k c h w"]:
        """The pictures at a level, whatever timestep it names."""
        return add_noise(self.latents, self.noises, level)

    def run(self, make: Callable[[int], Program[Any]]) -> list[Any]:
        """The results of one program a picture, which share network calls."""
        return run_alone(run_together([make(k) for k in range(len(self.samples))]), self.backbone)
