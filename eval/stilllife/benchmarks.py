"""Still Life as benchmarks: requests whose exact mask and true edit are known."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le, MinLen
from jaxtyping import Bool, Float
from numpy import ndarray
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage.morphology import skeletonize
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.io.images import to_tensor
from diffedit.types import ClassName, EditRequest
from eval.benchmarks.base import BaseBenchmark
from eval.stilllife.render import RESOLUTION, render
from eval.stilllife.scene import (
    ATTRIBUTES,
    CHOICES,
    FRUITS,
    SPLITS,
    Scene,
    change,
    find_siblings,
    make_generator,
    sample,
)

# Levels of 255 by which two renders differ where an edit changed something: soft edges alone stay below.
VISIBLE = 8

OTHERS = 2 * 10**7  # seeds between a scene and the one that is retrieved for it: no benchmark edits that one


@dataclass(frozen=True)
class GroundTruth:
    """What is known of one edit: its scenes, before and after, and which attribute differs."""

    before: Scene
    after: Scene
    attribute: str

    def mask(self) -> Bool[ndarray, "h w"]:
        """Where the two renders differ visibly."""
        before, after = (render(scene).image.astype(int) for scene in (self.before, self.after))
        return np.abs(before - after).max(2) > VISIBLE

    @property
    def area(self) -> float:
        """Share of the picture that the edit changes."""
        return float(self.mask().mean())

    @property
    def is_one_of_several(self) -> bool:
        """Whether the picture shows other kinds beside the one that is changed."""
        return self.attribute == "fruits" and len(self.before.fruits) > 1

    def judged_by(self, labels: Sequence[str]) -> bool:
        """Whether a classifier with these labels can tell."""
        return set(FRUITS) <= set(labels)

    def judge(self, logits: Float[Tensor, " classes"], labels: Sequence[str]) -> tuple[float, float]:
        """(whether the new value of the changed attribute is seen, share of the other attributes that are kept).

        For fruit: the new kind is seen, and the replaced kind no more; where there are several kinds, those that stay
        are one more thing to be kept. A label without a colon is a kind of fruit.
        """
        parts = [label.partition(":") for label in labels]
        seen = logits[[i for i, (_, colon, _) in enumerate(parts) if not colon]] > 0
        wanted = torch.tensor([kind in self.after.fruits for kind in FRUITS])
        changed = wanted != torch.tensor([kind in self.before.fruits for kind in FRUITS])
        is_right = seen == wanted
        right = {"fruits": is_right[changed if self.attribute == "fruits" else slice(None)].all()}
        for name in CHOICES:
            value = logits[[i for i, (group, _, _) in enumerate(parts) if group == name]].argmax()
            right[name] = value == ATTRIBUTES[name].index(getattr(self.after, name))
        kept = [bool(good) for name, good in right.items() if name != self.attribute]
        if self.is_one_of_several:
            kept.append(bool(is_right[~changed].all()))
        return float(right[self.attribute]), sum(kept) / len(kept)


class StillLifeBenchmark(BaseBenchmark):
    """Requests that are rendered, with their `GroundTruth`."""

    domain = "stilllife"
    has_reference = True

    @abstractmethod
    def ground_truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """(id, ground truth) in the order of the requests."""


@settings
class StillLifeScenes(StillLifeBenchmark):
    """Caption to caption with one phrase changed; mirrors COCO with BISON captions.

    The attributes take turns, so that each is changed equally often. Masks are given: exact.

    Attributes:
        size: number of requests.
        split: of the seeds.
        attributes: which are changed.
        two_kinds: share of scenes with two kinds of fruit.
        first: of the split's seeds.
    """

    size_keys: ClassVar = frozenset({"size"})

    size: Annotated[int, Ge(1)] = 256
    split: Literal["train", "validation", "test"] = "test"
    attributes: tuple[Literal["fruits", "vessel", "table", "wall"], ...] = tuple(ATTRIBUTES)
    two_kinds: Annotated[float, Ge(0), Le(1)] = 0.3
    first: Annotated[int, Ge(0)] = 0

    def __len__(self) -> int:
        return self.size

    def ground_truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """Each of a scene of its own."""
        for i in range(self.size):
            attribute = self.attributes[i % len(self.attributes)]
            scene = sample(SPLITS[self.split][self.first + i], self.two_kinds)
            rng = make_generator(scene.seed, "edit")
            index = int(rng.integers(len(scene.fruits)))
            present = scene.fruits if attribute == "fruits" else (getattr(scene, attribute),)
            value = str(rng.choice([value for value in ATTRIBUTES[attribute] if value not in present]))
            yield f"{i:05d}-{attribute}", GroundTruth(scene, change(scene, attribute, value, index), attribute)

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """Source and target captions, and the exact mask."""
        for name, truth in self.ground_truths():
            fields = {"source": truth.before.caption()}
            if truth.attribute == "fruits" and not truth.is_one_of_several:
                fields |= name_classes(truth)
            yield make_request(name, truth, resolution, truth.after.caption(), **fields)

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 resolution resolution"]]]:
        """("", picture) of the distribution that edits should look like: other scenes of the same kind."""
        start = SPLITS["validation"][len(SPLITS["validation"]) // 2]  # apart from the scenes that are edited
        yield from (("", draw_picture(sample(start + i, self.two_kinds), resolution)) for i in range(size))


@settings
class StillLifeWide(StillLifeScenes):
    """The scenes of `StillLifeScenes`, wider or taller: with more of wall and table around the square of the others.

    What stands on the table is in that square, whose pixels are those of the square rendering: so the judges, who know
    squares, look at it alone. Masks, true edits and distances are of the whole picture.

    Attributes:
        width: in pixels at a resolution of 64, an even number.
        height: likewise.
    """

    width: Annotated[int, Ge(RESOLUTION)] = 96
    height: Annotated[int, Ge(RESOLUTION)] = 64

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if getattr(self, name) % 2:
                raise ValueError(f"benchmark.{name} = {getattr(self, name)}: an even number is wanted")

    @property
    def is_square(self) -> bool:
        """Without margins."""
        return self.width == self.height == RESOLUTION

    def fit(self, resolution: int, grain: int) -> "StillLifeWide":
        """Itself; a ValueError where a backbone does not take its sides."""
        for name in ("width", "height"):
            if (side := getattr(self, name) * resolution / RESOLUTION) % grain:
                raise ValueError(
                    f"benchmark.{name} = {getattr(self, name)}: {side:g} pixels at a resolution of {resolution}, "
                    f"and the backbone takes multiples of {grain}"
                )
        return self

    def find_resolution(self, size: tuple[int, int]) -> int:
        """By the width."""
        return size[0] * RESOLUTION // self.width

    def widen(self, scene: Scene) -> Scene:
        """The scene with the margins."""
        margins = (self.width - RESOLUTION) // 2, (self.height - RESOLUTION) // 2
        return replace(scene, framing=replace(scene.framing, margins=margins))

    def ground_truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """Those of the squares, with margins."""
        for name, truth in super().ground_truths():
            yield name, replace(truth, before=self.widen(truth.before), after=self.widen(truth.after))

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 H W"]]]:
        """("", picture) of other scenes of the same kind and shape."""
        start = SPLITS["validation"][len(SPLITS["validation"]) // 2]
        scenes = (sample(start + i, self.two_kinds) for i in range(size))
        yield from (("", draw_picture(self.widen(scene), resolution)) for scene in scenes)


@settings
class FruitBenchmark(StillLifeBenchmark):
    """Edits of the fruit, equally many for each of 12 target kinds.

    Attributes:
        per_class: requests for each of the target kinds.
        split: of the seeds.
    """

    size_keys: ClassVar = frozenset({"per_class"})

    per_class: Annotated[int, Ge(1)] = 16
    split: Literal["train", "validation", "test"] = "test"

    def __len__(self) -> int:
        return self.per_class * len(FRUITS)

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 resolution resolution"]]]:
        """(class, picture) for the statistics of each class, `size` pictures in all, of training seeds."""
        for i in range(size):
            target = tuple(FRUITS)[i % len(FRUITS)]
            yield target, draw_picture(change(sample(i, two_kinds=0), "fruits", target), resolution)


@settings
class StillLifeClasses(FruitBenchmark):
    """One kind of fruit to a look-alike; mirrors the FlexIT protocol on ImageNet.

    Every kind is the target equally often, each time from one of its look-alikes, drawn at random: debiased distances
    to a set take pictures for drawn at random within a class. A draw depends on the class and the request's own number,
    so that the requests of a smaller `per_class` are among those of a larger one. The query is the kind's name alone,
    and no source text is given, so the mask is contrasted against the empty text, as in the paper.
    """

    version = "2"  # look-alikes drawn at random; they took turns

    def ground_truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """Class by class."""
        start = SPLITS[self.split][len(SPLITS[self.split]) // 2]  # apart from the scenes of `StillLifeScenes`
        for c, target in enumerate(FRUITS):
            for i in range(self.per_class):
                scene = sample(start + c * 10_000 + i, two_kinds=0)
                source = str(make_generator(scene.seed, "source").choice(find_siblings(target)))
                before = change(scene, "fruits", source)
                yield f"{target}-{i:04d}", GroundTruth(before, change(before, "fruits", target), "fruits")

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The target kind's plural as the query."""
        for name, truth in self.ground_truths():
            (target,) = truth.after.fruits
            other = partial(draw_picture, retrieve_kind(target, truth.before.seed), resolution)
            fields = {"label": target, "retrieved": other} | name_classes(truth)
            yield make_request(name, truth, resolution, FRUITS[target], **fields)


@settings
class StillLifeClassesHard(FruitBenchmark):
    """One of two kinds of fruit in a pile to a look-alike, the other stays: harder than `StillLifeClasses`.

    The look-alike, the kind that stays (of another group) and their order in the pile are drawn at random for each
    request, by its own number. The query names both kinds and nothing else, and no source text is given. The label is
    the target's, and an edit is right where the new kind is seen and the replaced one no more.
    """

    def ground_truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """Class by class."""
        start = SPLITS[self.split][5 * len(SPLITS[self.split]) // 8]  # apart from the scenes of the other benchmarks
        for c, target in enumerate(FRUITS):
            for i in range(self.per_class):
                scene = sample(start + c * 10_000 + i, two_kinds=0)
                source = str(make_generator(scene.seed, "source").choice(find_siblings(target)))
                after = add_kind(scene, target)
                before = replace(after, fruits=tuple(source if kind == target else kind for kind in after.fruits))
                yield f"{target}-{i:04d}", GroundTruth(before, after, "fruits")

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The plurals of both kinds as the query."""
        for name, truth in self.ground_truths():
            target = name.partition("-")[0]
            query = " and ".join(FRUITS[kind] for kind in truth.after.fruits)
            scene = replace(sample(truth.before.seed + OTHERS), fruits=truth.after.fruits)
            other = partial(draw_picture, scene, resolution)
            yield make_request(name, truth, resolution, query, label=target, retrieved=other)

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 resolution resolution"]]]:
        """(class, picture of it beside another kind), `size` pictures in all, of training seeds."""
        for i in range(size):
            target = tuple(FRUITS)[i % len(FRUITS)]
            yield target, draw_picture(add_kind(sample(i, two_kinds=0), target), resolution)


@settings
class StillLifeStrokes(StillLifeClasses):
    """The edits of `StillLifeClasses` under thin strokes: masks thinner than the latent grid.

    A stroke is the centre line of the exact mask, 1, 2 or 3 pixels wide in turn, at the resolution of the renders. The
    true mask is the exact one.

    Attributes:
        widths: in pixels.
    """

    per_class: Annotated[int, Ge(1)] = 6
    widths: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1, 2, 3)

    def ground_truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """Class by class; the id says the width of the stroke."""
        for (name, truth), width in zip(super().ground_truths(), cycle(self.widths), strict=False):
            yield f"{name}-w{width}", truth

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The target kind's plural as the query, the stroke as the mask."""
        for request, width in zip(super().requests(resolution), cycle(self.widths), strict=False):
            yield replace(request, mask=partial(draw_stroke, request.ground_truth, width, resolution))


@settings
class StillLifeRandomMasks(FruitBenchmark):
    """A fruit wanted in some place: random scenes, random masks, a kind that is not there as the query.

    Mirrors the evaluation of Blended Latent Diffusion: random photographs and masks, ImageNet classes as prompts. A
    mask is an ellipse of 20 to 40 pixels in width and height, anywhere inside the frame. What stands there may have to
    go, so there is no true edit and no true mask.
    """

    per_class: Annotated[int, Ge(1)] = 4

    def ground_truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """Class by class; the scene after is the scene before with the new kind beside the old one."""
        start = SPLITS[self.split][3 * len(SPLITS[self.split]) // 4]  # apart from the scenes of the other benchmarks
        for c, target in enumerate(FRUITS):
            for i in range(self.per_class):
                scene = sample(start + c * 10_000 + i, two_kinds=0)
                if scene.fruits == (target,):
                    scene = change(scene, "fruits", find_siblings(target)[0])
                yield f"{target}-{i:04d}", GroundTruth(scene, replace(scene, fruits=(*scene.fruits, target)), "fruits")

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The target kind's plural as the query."""
        for name, truth in self.ground_truths():
            target = truth.after.fruits[-1]
            image = partial(draw_picture, truth.before, resolution)
            mask = partial(draw_ellipse, truth.before.seed, resolution)
            other = partial(draw_picture, retrieve_kind(target, truth.before.seed), resolution)
            fields = {"mask": mask, "label": target, "ground_truth": truth, "retrieved": other}
            yield EditRequest(name, image, FRUITS[target], target_class=name_kind(target), **fields)


def make_request(name: str, truth: GroundTruth, resolution: int, target: str, **fields: Any) -> EditRequest:
    """A request with its true edit, and with its exact mask as the given and the true one.

    What is retrieved for it, unless it is said, is what the target is of in another arrangement.
    """
    other = replace(truth.after, seed=truth.after.seed + OTHERS)
    scenes = {"true_edit": truth.after, "retrieved": other}
    fields = {key: partial(draw_picture, scene, resolution) for key, scene in scenes.items()} | fields
    before, mask = partial(draw_picture, truth.before, resolution), partial(draw_mask, truth, resolution)
    return EditRequest(name, before, target, mask=mask, true_mask=mask, ground_truth=truth, **fields)


def name_classes(truth: GroundTruth) -> dict[str, ClassName]:
    """The classes of an edit of the only kind of fruit."""
    (before,), (after,) = truth.before.fruits, truth.after.fruits
    return {"source_class": name_kind(before), "target_class": name_kind(after)}


def name_kind(kind: str) -> ClassName:
    """A kind of fruit as a class: by its plural, as texts have it."""
    return ClassName(FRUITS[kind], tuple(FRUITS).index(kind))


def add_kind(scene: Scene, target: str) -> Scene:
    """The scene with this kind of fruit and one of another group, both drawn by its seed: which, and in which order."""
    rng = make_generator(scene.seed, "kinds")
    other = str(rng.choice([kind for kind in FRUITS if kind not in (target, *find_siblings(target))]))
    return replace(scene, fruits=(target, other) if rng.integers(2) else (other, target))


def retrieve_kind(target: str, seed: int) -> Scene:
    """A scene of this kind of fruit alone, of which nothing else is like the scene of the seed but by chance."""
    return change(sample(seed + OTHERS, two_kinds=0), "fruits", target)


def draw_picture(scene: Scene, resolution: int) -> Float[Tensor, "3 H W"]:
    """The render at this resolution: 64 as it is, others resampled."""
    image = Image.fromarray(render(scene).image)
    if resolution != RESOLUTION:
        width, height = (side * resolution // RESOLUTION for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return to_tensor(image)


def draw_mask(truth: GroundTruth, resolution: int) -> Float[Tensor, "1 H W"]:
    """The exact mask at this resolution."""
    return resize_mask(truth.mask(), resolution)


def draw_stroke(truth: GroundTruth, width: int, resolution: int) -> Float[Tensor, "1 resolution resolution"]:
    """The centre line of the exact mask, so many pixels wide."""
    line = skeletonize(truth.mask())
    return resize_mask(binary_dilation(line, np.ones((width, width))) if width > 1 else line, resolution)


def draw_ellipse(seed: int, resolution: int) -> Float[Tensor, "1 resolution resolution"]:
    """A random mask."""
    rng = make_generator(seed, "mask")
    half = rng.uniform(10, 20, 2)
    centre = rng.uniform(half, RESOLUTION - half)
    y, x = np.mgrid[:RESOLUTION, :RESOLUTION] + 0.5
    inside = ((y - centre[0]) / half[0]) ** 2 + ((x - centre[1]) / half[1]) ** 2 <= 1
    return resize_mask(inside, resolution)


def resize_mask(mask: Bool[ndarray, "h w"], resolution: int) -> Float[Tensor, "1 H W"]:
    """A mask of the renders' size at this resolution."""
    pixels = torch.from_numpy(mask).float()[None, None]
    size = tuple(side * resolution // RESOLUTION for side in mask.shape)
    return torch.nn.functional.interpolate(pixels, size, mode="nearest-exact")[0]
