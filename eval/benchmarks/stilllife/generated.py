"""Pictures that the model under test drew itself from a scene's caption; one phrase of it is then changed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from diffedit.types import EditRequest
from eval.benchmarks.generated import Drawn, Sampler, keep, missing
from eval.benchmarks.stilllife.benchmarks import StillLifeScenes, Truth
from eval.benchmarks.stilllife.scene import ATTRIBUTES, FRUITS, TABLES, Scene

CAPTION = re.compile(r"(?:a (?P<vessel>\w+) of )?(?P<fruits>.+) on (?P<table>.+), (?P<wall>\w+) wall")
FIRST = 10**6  # of its split: apart from the scenes of the other benchmarks


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
        texts = {name: truth.before.caption() for name, truth in self.truths()}
        if self.draw_missing and (todo := missing(folder, texts)):
            keep(folder, self.sampler(todo))
        for name, truth in self.truths():
            image, origin = Drawn(folder / f"{name}.png", resolution), f"{drawn_by}/{name}.png"
            yield EditRequest(name, image, truth.after.caption(), truth.before.caption(), origin=origin)

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """("", picture): renders like those that the prompts describe."""
        return self.scenes().reference(size, resolution)


def truth(source: str, target: str) -> Truth:
    """What two captions say that differ in one attribute: `benchmark.grammar.truth` of a grammar of captions.

    Raises:
        ValueError: one is no caption, or they differ in something else.
    """
    before, after = described(source), described(target)
    differing = [name for name in ATTRIBUTES if getattr(before, name) != getattr(after, name)]
    if len(differing) != 1:
        raise ValueError(f"benchmark.grammar.truth: {source!r} and {target!r} differ in {differing}, not in one thing")
    return Truth(before, after, differing[0])


def described(caption: str) -> Scene:
    """The scene of a caption (`Scene.caption`), of no layout in particular: seed 0."""
    kinds, tables = ({said: name for name, said in words.items()} for words in (FRUITS, TABLES))
    try:
        said = CAPTION.fullmatch(caption).groupdict()
        fruits = tuple(kinds[each] for each in said["fruits"].split(" and "))
        return Scene(fruits, said["vessel"] or "none", tables[said["table"]], said["wall"], 0)
    except (AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"benchmark.grammar.truth: {caption!r} is no caption of Still Life") from error
