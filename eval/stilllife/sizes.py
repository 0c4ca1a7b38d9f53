"""Still Life's edits of every size: from one small fruit to the whole table."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Annotated, Literal

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.types import EditRequest
from eval.stilllife.benchmarks import GroundTruth, StillLifeBenchmark, draw_picture, make_request
from eval.stilllife.scene import ATTRIBUTES, SPLITS, Framing, change, make_generator, sample

# What is changed (one fruit of several, all fruit, what they lie in, wall or table) and how large all of it is drawn,
# for each range of the edited share of the picture.
Recipe = tuple[Literal["one", "fruits", "vessel", "ground"], tuple[float, float]]
RECIPES: dict[tuple[float, float], tuple[Recipe, ...]] = {
    (0.01, 0.02): (("one", (0.45, 0.75)),),
    (0.02, 0.05): (("one", (0.65, 1.0)), ("fruits", (0.4, 0.55)), ("vessel", (0.4, 0.5))),
    (0.05, 0.1): (("fruits", (0.5, 0.75)), ("vessel", (0.45, 0.7))),
    (0.1, 0.2): (("fruits", (0.75, 1.0)), ("vessel", (0.65, 1.0))),
    (0.2, 0.4): (("fruits", (0.95, 1.1)), ("vessel", (0.9, 1.1)), ("ground", (0.8, 1.0))),
    (0.4, 0.6): (("ground", (0.5, 0.8)),),
}
AREAS = tuple(RECIPES)
TRIES = 1000  # seeds for each request


@settings
class StillLifeSizes(StillLifeBenchmark):
    """Caption to caption with one phrase changed, in equal numbers for each range of the area that is edited.

    The ranges take turns: 1 to 2, 5, 10, 20, 40 and 60 % of the picture, by the exact mask. A small edit is one fruit
    of several in a small pile, a large one the wall or the table. Masks are given: exact.

    Attributes:
        size: number of requests.
        split: of the seeds.
    """

    size: Annotated[int, Ge(1)] = 192
    split: Literal["train", "validation", "test"] = "test"

    def __len__(self) -> int:
        return self.size

    def ground_truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """Each of a scene of its own."""
        for i in range(self.size):
            truth = find_edit(SPLITS[self.split], i)
            yield f"{i:05d}-{truth.attribute}", truth

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """Source and target captions, and the exact mask."""
        for name, truth in self.ground_truths():
            yield make_request(name, truth, resolution, truth.after.caption(), source=truth.before.caption())

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 resolution resolution"]]]:
        """("", picture) of the distribution that edits should look like: other edits of training seeds."""
        yield from (("", draw_picture(find_edit(SPLITS["train"], i).after, resolution)) for i in range(size))


@lru_cache(4096)  # requests are listed several times, and an edit is found by rendering
def find_edit(seeds: range, index: int) -> GroundTruth:
    """The first edit of this number's seeds whose area is in its range."""
    low, high = AREAS[index % len(AREAS)]
    start = seeds[7 * len(seeds) // 8] + index * TRIES  # apart from the scenes of the other benchmarks
    for seed in count(start):
        truth = draw_edit(seed, RECIPES[low, high])
        if low <= truth.area < high:
            return truth
        if seed == start + TRIES - 1:
            raise RuntimeError(f"no edit of {low:.0%} to {high:.0%} of the picture in seeds {start} to {seed}")
    raise AssertionError("count has no end")


def draw_edit(seed: int, recipes: tuple[Recipe, ...]) -> GroundTruth:
    """An edit by one of the recipes, all else at random."""
    rng = make_generator(seed, "size")
    what, scales = recipes[rng.integers(len(recipes))]
    horizon = int(rng.integers(80, 156)) if what == "ground" else None
    framing = Framing(round(float(rng.uniform(*scales)), 3), horizon, once=what == "one")
    before = replace(sample(seed, two_kinds=float(what == "one")), framing=framing)
    attribute = {"one": "fruits", "ground": ("wall", "table")[rng.integers(2)]}.get(what, what)
    present = before.fruits if attribute == "fruits" else (getattr(before, attribute),)
    value = str(rng.choice([value for value in ATTRIBUTES[attribute] if value not in present]))
    return GroundTruth(before, change(before, attribute, value, index=len(before.fruits) - 1), attribute)
