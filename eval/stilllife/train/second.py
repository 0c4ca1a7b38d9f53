"""The second judge of Still Life: what fools the first one should not fool it, too.

It shares nothing with the first but the labels: another architecture, other pictures, and other disturbances of them.
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from diffedit.io.images import to_pil, to_tensor
from eval.stilllife.modules import FeatureModule, PlainFeatures
from eval.stilllife.scene import SPLITS, Scene
from eval.stilllife.train.features import FeaturesPart
from eval.stilllife.train.loop import TrainingSchedule, render_batches, sample_split

FIRST = len(SPLITS["train"]) // 4 * 3  # its pictures lie apart from those of all other networks
FIRST_VALIDATION = len(SPLITS["validation"]) // 8 * 7  # ... and from what the benchmarks and their references take

TURN = math.radians(8)  # largest
SHIFT = 0.125  # of half the side: 4 pixels
SCALE = 0.08
JITTER = 0.12  # of brightness, contrast and saturation
CAST = 0.04  # of each channel
QUALITY = (25, 95)  # of JPEG
HOLE = (4, 14)  # pixels of its sides


class SecondPart(FeaturesPart):
    """The same task as the first judge's.

    Pictures are turned, shifted, scaled, in other colours, compressed as JPEG, and have a hole: none of it is done to
    those of the first, which are blurred and noisy.
    """

    kind: ClassVar[type[FeatureModule]] = PlainFeatures
    first: ClassVar[int] = FIRST
    first_validation: ClassVar[int] = FIRST_VALIDATION

    def batches(self, schedule: TrainingSchedule, begin: int, out: Path) -> Iterator[tuple[Tensor, list[Scene]]]:
        """New renders of seeds that no other network was trained on."""
        return render_batches(schedule, begin, sample_step)

    def augment(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """All are moved and have a hole, most have other colours, half are compressed."""
        return cut(compress(tint(move(images, rng), rng), rng), rng)


def sample_step(schedule: TrainingSchedule, step: int) -> list[Scene]:
    """Scenes that no other step and no other network has."""
    return sample_split("train", FIRST + step * schedule.batch, schedule.batch)


def move(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each turned, shifted and scaled a little; what comes in from outside is the mirrored picture."""
    turn, scale, right, down = (2 * torch.rand(4, len(images), generator=rng) - 1).unbind()
    turn, scale = turn * TURN, 1 + scale * SCALE
    first = torch.stack([turn.cos() * scale, -turn.sin() * scale, right * SHIFT], 1)
    second = torch.stack([turn.sin() * scale, turn.cos() * scale, down * SHIFT], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images), padding_mode="reflection", align_corners=False)


def tint(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each of another brightness, contrast, saturation and cast."""
    brightness, contrast, saturation = (1 + JITTER * draw(images, rng, 1) for _ in range(3))
    out = images * brightness * (1 + CAST * draw(images, rng, 3))
    grey = rgb_to_grayscale(out)
    out = grey + (out - grey) * saturation
    level = grey.mean((2, 3), keepdim=True)
    return (level + (out - level) * contrast).clamp(0, 1)


def draw(images: Tensor, rng: torch.Generator, channels: int) -> Tensor:
    """Uniform numbers in [-1, 1) for each picture, (b, channels, 1, 1)."""
    return (2 * torch.rand(len(images), channels, 1, 1, generator=rng) - 1).to(images)


def compress(images: Tensor, rng: torch.Generator) -> Tensor:
    """Half of them as JPEG has them, at any quality from bad to good."""
    qualities = torch.randint(*QUALITY, (len(images),), generator=rng).tolist()
    chosen = (torch.rand(len(images), generator=rng) < 0.5).tolist()
    triples = zip(images, qualities, chosen, strict=True)
    return torch.stack([through_jpeg(image, quality) if is_chosen else image for image, quality, is_chosen in triples])


def through_jpeg(image: Tensor, quality: int) -> Tensor:
    """A picture after it was written and read."""
    data = io.BytesIO()
    to_pil(image).save(data, "JPEG", quality=quality)
    return to_tensor(Image.open(data)).to(image)


def cut(images: Tensor, rng: torch.Generator) -> Tensor:
    """A rectangle of each in one colour (cutout)."""
    side = images.shape[-1]
    sizes = torch.randint(*HOLE, (2, len(images), 1), generator=rng)
    starts = (torch.rand(2, len(images), 1, generator=rng) * (side - sizes)).long()
    places = torch.arange(side)
    rows, columns = ((starts <= places) & (places < starts + sizes)).unbind()
    hole = (rows[:, None, :, None] & columns[:, None, None, :]).to(images.device)
    colours = torch.rand(len(images), 3, 1, 1, generator=rng).to(images)
    return torch.where(hole, colours, images)
