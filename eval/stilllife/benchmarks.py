"""Still Life as benchmarks: requests whose exact mask and exact true_edit are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.morphology import skeletonize
from torch import Tensor

from diffedit.io.checks import check_choices
from diffedit.io.images import to_tensor
from diffedit.types import EditRequest
from eval.stilllife.render import SIDE, render
from eval.stilllife.scene import ATTRIBUTES, CHOICES, FRUITS, SPLITS, Scene, change, generator, sample, siblings

# Schedule of 255 by which two renders differ where an edit changed something: soft edges alone stay below.
VISIBLE = 8


@dataclass(frozen=True)
class GroundTruth:
    """What is known of one edit: its scenes, before and after, and which attribute differs."""

    before: Scene
    after: Scene
    attribute: str

    def mask(self) -> np.ndarray:
        """Where the two renders differ visibly, bool, (64, 64)."""
        one, other = (render(scene).image.astype(int) for scene in (self.before, self.after))
        return np.abs(one - other).max(2) > VISIBLE

    def judged_by(self, labels: Sequence[str]) -> bool:
        """Whether a classifier with these labels can tell."""
        return set(FRUITS) <= set(labels)

    def judge(self, logits: Float[Tensor, " classes"], labels: Sequence[str]) -> tuple[float, float]:
        """(whether the new value of the changed attribute is seen, share of the other attributes that are kept).

        For fruit: the new kind is seen, and the replaced kind no more. A label without a colon is a kind of fruit.
        """
        parts = [label.partition(":") for label in labels]
        seen = logits[[i for i, (_, colon, _) in enumerate(parts) if not colon]] > 0
        wanted = torch.tensor([kind in self.after.fruits for kind in FRUITS])
        changed = wanted != torch.tensor([kind in self.before.fruits for kind in FRUITS])
        right = {"fruits": (seen == wanted)[changed if self.attribute == "fruits" else slice(None)].all()}
        for name in CHOICES:
            value = logits[[i for i, (group, _, _) in enumerate(parts) if group == name]].argmax()
            right[name] = value == ATTRIBUTES[name].index(getattr(self.after, name))
        kept = [bool(good) for name, good in right.items() if name != self.attribute]
        return float(right[self.attribute]), sum(kept) / len(kept)


@dataclass(frozen=True)
class StillLifeScenes:
    """Caption to caption with one phrase changed; mirrors COCO with BISON captions.

    The attributes take turns, so that each is changed equally often. Masks are given: exact.

    Attributes:
        size: number of requests.
        split: of the seeds.
        attributes: which are changed.
        two_kinds: share of scenes with two kinds of fruit.
        first: of the split's seeds.
    """

    size: int = 256
    split: Literal["train", "validation", "test"] = "test"
    attributes: tuple[str, ...] | list[str] = tuple(ATTRIBUTES)
    two_kinds: float = 0.3
    first: int = 0

    version = "1"

    def __post_init__(self) -> None:
        check_choices(self)
        for name in self.attributes:
            if name not in ATTRIBUTES:
                raise ValueError(f"benchmark.attributes: {name!r} is none of {', '.join(ATTRIBUTES)}")

    def __len__(self) -> int:
        return self.size

    def truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """(id, truth) in order."""
        for i in range(self.size):
            attribute = self.attributes[i % len(self.attributes)]
            scene = sample(SPLITS[self.split][self.first + i], self.two_kinds)
            draw = generator(scene.seed, "edit")
            place = int(draw.integers(len(scene.fruits)))
            taken = scene.fruits if attribute == "fruits" else (getattr(scene, attribute),)
            value = str(draw.choice([each for each in ATTRIBUTES[attribute] if each not in taken]))
            yield f"{i:05d}-{attribute}", GroundTruth(scene, change(scene, attribute, value, place), attribute)

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """Source and target captions, and the exact mask."""
        for name, truth in self.truths():
            yield request(name, truth, resolution, truth.after.caption(), truth.before.caption())

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """("", picture) of the distribution that edits should look like: other scenes of the same kind."""
        start = SPLITS["validation"][len(SPLITS["validation"]) // 2]  # apart from the scenes that are edited
        yield from (("", picture(sample(start + i, self.two_kinds), resolution)) for i in range(size))


@dataclass(frozen=True)
class StillLifeClasses:
    """One kind of fruit to a look-alike; mirrors the FlexIT protocol on ImageNet.

    Every kind is the target equally often, from each of its look-alikes in turn. The query is the kind's name alone,
    and no source text is given, so the mask is contrasted against the empty text, as in the paper.

    Attributes:
        per_class: requests for each of the target kinds.
        split: of the seeds.
    """

    per_class: int = 16
    split: Literal["train", "validation", "test"] = "test"

    version = "1"

    def __post_init__(self) -> None:
        check_choices(self)

    def __len__(self) -> int:
        return self.per_class * len(FRUITS)

    def truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """(id, truth), class by class."""
        start = SPLITS[self.split][len(SPLITS[self.split]) // 2]  # apart from the scenes of `StillLifeScenes`
        for c, target in enumerate(FRUITS):
            for i in range(self.per_class):
                scene = sample(start + c * 10_000 + i, two_kinds=0)
                before = change(scene, "fruits", siblings(target)[i % len(siblings(target))])
                yield f"{target}-{i:04d}", GroundTruth(before, change(before, "fruits", target), "fruits")

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The target kind's plural as the query."""
        for name, truth in self.truths():
            (target,) = truth.after.fruits
            yield replace(request(name, truth, resolution, FRUITS[target], None), label=target)

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """(class, picture) for the statistics of each class, `size` pictures in all, of training seeds."""
        for i in range(size):
            target = tuple(FRUITS)[i % len(FRUITS)]
            yield target, picture(change(sample(i, two_kinds=0), "fruits", target), resolution)


@dataclass(frozen=True)
class StillLifeStrokes:
    """The edits of `StillLifeClasses` under thin strokes: masks thinner than the latent grid.

    A stroke is the centre line of the exact mask, 1, 2 or 3 pixels wide in turn, at the resolution of the renders. The
    exact mask is the oracle's.

    Attributes:
        per_class: requests for each of the target kinds.
        widths: in pixels.
        split: of the seeds.
    """

    per_class: int = 6
    widths: tuple[int, ...] | list[int] = (1, 2, 3)
    split: Literal["train", "validation", "test"] = "test"

    version = "1"

    def __post_init__(self) -> None:
        check_choices(self)
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"benchmark.widths = {list(self.widths)}: at least one width of at least 1 is wanted")

    def __len__(self) -> int:
        return self.per_class * len(FRUITS)

    def named(self) -> Iterator[tuple[str, GroundTruth, int]]:
        """(id, truth, width of the stroke) in order."""
        for i, (name, truth) in enumerate(StillLifeClasses(self.per_class, self.split).truths()):
            width = self.widths[i % len(self.widths)]
            yield f"{name}-w{width}", truth, width

    def truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """(id, truth) in order."""
        yield from ((name, truth) for name, truth, _ in self.named())

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The target kind's plural as the query, the stroke as the mask."""
        for name, truth, width in self.named():
            (target,) = truth.after.fruits
            thin = partial(stroke, truth, width, resolution)
            yield replace(request(name, truth, resolution, FRUITS[target], None), label=target, mask=thin)

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """As `StillLifeClasses`."""
        yield from StillLifeClasses(self.per_class, self.split).reference(size, resolution)


@dataclass(frozen=True)
class StillLifeRandomMasks:
    """A fruit wanted in some place: random scenes, random masks, a kind that is not there as the query.

    Mirrors the evaluation of Blended Latent Diffusion: random photographs and masks, ImageNet classes as prompts. A
    mask is an ellipse of 20 to 40 pixels in width and height, anywhere inside the frame. What stands there may have to
    go, so there is no true_edit and no oracle.

    Attributes:
        per_class: requests for each of the target kinds.
        split: of the seeds.
    """

    per_class: int = 4
    split: Literal["train", "validation", "test"] = "test"

    version = "1"

    def __post_init__(self) -> None:
        check_choices(self)

    def __len__(self) -> int:
        return self.per_class * len(FRUITS)

    def truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """(id, truth), class by class; the scene after is the scene before with the new kind beside the old one."""
        start = SPLITS[self.split][3 * len(SPLITS[self.split]) // 4]  # apart from the scenes of the other benchmarks
        for c, target in enumerate(FRUITS):
            for i in range(self.per_class):
                scene = sample(start + c * 10_000 + i, two_kinds=0)
                if scene.fruits == (target,):
                    scene = change(scene, "fruits", siblings(target)[0])
                yield f"{target}-{i:04d}", GroundTruth(scene, replace(scene, fruits=(*scene.fruits, target)), "fruits")

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The target kind's plural as the query."""
        for name, truth in self.truths():
            target = truth.after.fruits[-1]
            place, before = partial(ellipse, truth.before.seed, resolution), partial(picture, truth.before, resolution)
            yield EditRequest(name, before, FRUITS[target], mask=place, label=target)

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """As `StillLifeClasses`."""
        yield from StillLifeClasses(self.per_class, self.split).reference(size, resolution)


def ellipse(seed: int, resolution: int) -> Float[Tensor, "1 side side"]:
    """A random mask."""
    draw = generator(seed, "mask")
    half = draw.uniform(10, 20, 2)
    centre = draw.uniform(half, SIDE - half)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    inside = ((y - centre[0]) / half[0]) ** 2 + ((x - centre[1]) / half[1]) ** 2 <= 1
    return resize_mask(inside, resolution)


def request(name: str, truth: GroundTruth, resolution: int, target: str, source: str | None) -> EditRequest:
    """A request with its exact mask, given and as the oracle's, and its true_edit."""
    before, after = (partial(picture, scene, resolution) for scene in (truth.before, truth.after))
    exact = partial(mask, truth, resolution)
    return EditRequest(name, before, target, source, exact, exact, true_edit=after)


def picture(scene: Scene, resolution: int) -> Float[Tensor, "3 side side"]:
    """The render at this resolution: 64 as it is, others resampled."""
    image = Image.fromarray(render(scene).image)
    if resolution != SIDE:
        image = image.resize((resolution, resolution), Image.Resampling.BICUBIC)
    return to_tensor(image)


def mask(truth: GroundTruth, resolution: int) -> Float[Tensor, "1 side side"]:
    """The exact mask at this resolution."""
    return resize_mask(truth.mask(), resolution)


def stroke(truth: GroundTruth, width: int, resolution: int) -> Float[Tensor, "1 side side"]:
    """The centre line of the exact mask, so many pixels wide."""
    line = skeletonize(truth.mask())
    return resize_mask(binary_dilation(line, np.ones((width, width))) if width > 1 else line, resolution)


def resize_mask(exact: np.ndarray, resolution: int) -> Float[Tensor, "1 side side"]:
    """A mask of the renders' size at this resolution."""
    whole = torch.from_numpy(exact).float()[None, None]
    return torch.nn.functional.interpolate(whole, (resolution, resolution), mode="nearest-exact")[0]
