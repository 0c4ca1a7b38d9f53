"""Pictures that the model under test drew itself from a structured prompt; one slot of the prompt is then changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.files import write
from diffedit.runs import png
from diffedit.types import EditRequest
from eval.benchmarks.stilllife.benchmarks import StillLifeScenes, Truth
from eval.benchmarks.stilllife.scene import ATTRIBUTES
from eval.images import opened, to_tensor

FIRST = 10**6  # of its split: apart from the scenes of the other benchmarks


@runtime_checkable
class Sampler(Protocol):
    """Draws pictures from texts (`diffedit.sampler.Sampler`)."""

    fingerprint: str  # names everything that decides what is drawn

    def __call__(self, texts: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
        """(id, picture in [0, 1]) for {id: text}."""


@dataclass(frozen=True)
class StillLifeGenerated:
    """Captions of scenes, pictures sampled from them; mirrors the Imagen images of the paper.

    There is no exact mask or counterfactual: the picture is the model's. It is drawn at the first use, kept under
    `cache` in a folder named by a hash of the sampler and its weights, and read from there afterwards.

    Attributes:
        sampler: draws the pictures.
        size: number of requests.
        split: of the seeds.
        attributes: the slots that are changed, in turn.
        cache: folder of the drawn pictures.
        draw_missing: draw what the cache does not hold; else its absence is an error when the picture is read.
    """

    sampler: Sampler
    size: int = 256
    split: Literal["train", "validation", "test"] = "test"
    attributes: tuple[str, ...] | list[str] = tuple(ATTRIBUTES)
    cache: str = "runs/generated"
    draw_missing: bool = True

    version = "1"

    def __len__(self) -> int:
        return self.size

    def scenes(self) -> StillLifeScenes:
        """Where prompts and edits come from: other scenes than those of the rendered benchmark."""
        return StillLifeScenes(self.size, self.split, self.attributes, first=FIRST)

    def truths(self) -> Iterator[tuple[str, Truth]]:
        """(id, what the prompt said before and after), in order."""
        return self.scenes().truths()

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """Prompt to prompt; draws what the cache does not hold yet."""
        drawn_by = self.sampler.fingerprint
        folder = Path(self.cache) / drawn_by
        if self.draw_missing:
            self.draw(folder)
        for name, truth in self.truths():
            image, origin = partial(load, folder / f"{name}.png", resolution), f"{drawn_by}/{name}.png"
            yield EditRequest(name, image, truth.after.caption(), truth.before.caption(), origin=origin)

    def draw(self, folder: Path) -> None:
        """Draw what is missing, each picture whole or absent."""
        texts = {name: truth.before.caption() for name, truth in self.truths()}
        texts = {name: text for name, text in texts.items() if not (folder / f"{name}.png").exists()}
        if texts:
            for name, image in self.sampler(texts):
                write(folder / f"{name}.png", png(image))

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """("", picture): renders like those that the prompts describe."""
        return self.scenes().reference(size, resolution)


def load(path: Path, resolution: int) -> Float[Tensor, "3 side side"]:
    """One drawn picture at this resolution."""
    with opened(path) as picture:
        image = to_tensor(picture.convert("RGB"))
    if image.shape[-1] != resolution:
        image = torch.nn.functional.interpolate(image[None], (resolution, resolution), mode="bicubic", antialias=True)[
            0
        ]
    return image.clamp(0, 1)
