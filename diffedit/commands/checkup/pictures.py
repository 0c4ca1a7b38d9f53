"""The pictures that a model is shown, what is said of them, and where a change of that belongs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffedit.backbones.classes import NO_CLASS
from diffedit.conditions import name_classes
from diffedit.io.images import ImageFile
from diffedit.io.pictures import GivenPicture
from diffedit.types import Backbone, ClassName, EditRequest

RENDERED = 64  # the size of Still Life's renders: a model of larger pictures is taken for one of photographs
Box = tuple[float, float, float, float]  # left, upper, right, lower, as shares of the square


@dataclass(frozen=True)
class Sample:
    """A picture with its two conditions.

    Attributes:
        id: names its noise.
        image: in [0, 1].
        source: what the picture shows, in the model's words.
        target: something else, to contrast with it; None where nothing else is known to the model.
        mask: where that belongs; None where it is not known.
        is_known: whether the model knows what the picture shows; else a stand-in is said.
    """

    id: str
    image: Float[Tensor, "3 H W"]
    source: str
    target: str | None
    mask: Bool[Tensor, "1 H W"] | None = None
    is_known: bool = True


@dataclass(frozen=True)
class Photograph:
    """One that scikit-image brings along, in words and as classes of ImageNet.

    Attributes:
        name: of its function in skimage.data.
        texts: what it shows, and something else.
        classes: the same; empty where ImageNet has no class for it.
        box: where the difference belongs.
    """

    name: str
    texts: tuple[str, str]
    classes: tuple[ClassName, ...] = ()
    box: Box | None = field(default=None)


PHOTOGRAPHS = (
    Photograph(
        "coffee",
        ("a photo of a cup of coffee on a saucer", "a photo of a bowl of soup on a saucer"),
        (ClassName("espresso", 967, "n07920052"), ClassName("consomme", 925, "n07584110")),
        (0.18, 0.04, 0.78, 0.80),  # the cup
    ),
    Photograph(
        "chelsea",
        ("a photo of a cat", "a photo of a dog"),
        (ClassName("tabby", 281, "n02123045"), ClassName("golden retriever", 207, "n02099601")),
    ),
    Photograph(
        "astronaut", ("a photo of an astronaut in an orange suit", "a photo of a fireman in an orange suit"), ()
    ),
)
SPARE_TARGETS = {"text": ("a bowl of pears", "pear"), "class": ("0",)}  # tried where nothing better is known
SPARE_SOURCES = {"text": ("",), "class": ("", "1", "0")}


def choose_pictures(choice: str, resolution: int) -> str:
    """What `pictures=auto` is for a model of this resolution; any other choice is itself."""
    if choice != "auto":
        return choice
    return "scenes" if resolution <= RENDERED else "photographs"


def find_samples(cfg: Any, backbone: Backbone) -> list[Sample]:
    """The samples of the settings `pictures`, `count`, `source` and `target`.

    Raises:
        ValueError: there are no such pictures.
    """
    choice = choose_pictures(cfg.pictures, backbone.resolution)
    if choice == "scenes":
        requests = find_scenes(backbone, cfg.count)
    else:
        requests = find_photographs(backbone) if choice == "photographs" else find_files(choice, backbone)
    chosen = [request for request, _ in zip(requests, range(cfg.count), strict=False)]
    if not chosen:
        raise ValueError(f"pictures = {choice}: there are none for this model; pictures=FOLDER takes your own")
    return [make_sample(backbone, request, cfg.source, cfg.target) for request in chosen]


def find_scenes(backbone: Backbone, count: int) -> Iterator[EditRequest]:
    """Rendered still lifes with another fruit as the target, whose place is known exactly."""
    from eval.stilllife.benchmarks import StillLifeClasses, StillLifeScenes

    if backbone.conditions == "text":
        return iter(StillLifeScenes(size=count, attributes=("fruits",), two_kinds=0).requests(backbone.resolution))
    requests = list(StillLifeClasses(per_class=-(-count // 12)).requests(backbone.resolution))
    return iter(requests[:: max(1, len(requests) // count)])


def find_photographs(backbone: Backbone) -> Iterator[EditRequest]:
    """Photographs of scikit-image; for a class model those that ImageNet has a class for."""
    from skimage import data

    side = backbone.resolution
    for photo in PHOTOGRAPHS:
        classes = dict(zip(("source_class", "target_class"), photo.classes, strict=False))
        if backbone.conditions == "class" and not classes:
            continue
        mask = None if photo.box is None else draw_box(photo.box, side)
        image = GivenPicture(getattr(data, photo.name)(), side)
        yield EditRequest(photo.name, image, photo.texts[1], photo.texts[0], true_mask=mask, **classes)


def draw_box(box: Box, side: int) -> Callable[[], Float[Tensor, "1 H W"]]:
    """What loads it as a mask."""
    left, upper, right, lower = (round(share * side) for share in box)

    def draw() -> Float[Tensor, "1 H W"]:
        mask = torch.zeros(1, side, side)
        mask[:, upper:lower, left:right] = 1
        return mask

    return draw


def find_files(choice: str, backbone: Backbone) -> Iterator[EditRequest]:
    """Pictures of a folder by name, of which nothing is known."""
    folder = Path(choice).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"pictures = {folder}: no such folder; it is auto, scenes, photographs or a folder")
    from eval.scoring.reference import find_pictures

    for _, path in find_pictures(folder, "pictures"):
        yield EditRequest(path.name, ImageFile(path, backbone.resolution), "", "")


def make_sample(backbone: Backbone, request: EditRequest, source: str | None, target: str | None) -> Sample:
    """A request in the first words that the model takes: those of the settings, else the request's, else spare ones."""
    if backbone.conditions == "class":
        request = name_known_classes(backbone, request)
    targets = [word for word in (target, request.target) if word]
    wanted = find_word(backbone, targets)
    other = find_word(backbone, SPARE_TARGETS[backbone.conditions]) if wanted is None else wanted
    sources = [word for word in (source, request.source) if word is not None]
    said = find_word(backbone, sources, other)
    spare = find_word(backbone, SPARE_SOURCES[backbone.conditions], other)
    load = request.true_mask
    return Sample(
        request.id,
        request.image(),
        (spare or "") if said is None else said,
        other,
        None if load is None else load() >= 0.5,
        is_known=bool(said) and wanted is not None,
    )


def name_known_classes(backbone: Backbone, request: EditRequest) -> EditRequest:
    """The request's classes in the model's words; without texts where it does not know them."""
    try:
        named = name_classes(backbone, replace(request, source=request.source or ""))
    except ValueError:
        return replace(request, source=None, target="")
    return named


def find_word(backbone: Backbone, words: Iterable[str], other: str | None = None) -> str | None:
    """The first that the model takes, of a class model one that is not the other and not a null class that it lacks."""
    for word in words:
        try:
            (cond,) = backbone.embed([word])
            if backbone.conditions == "class":
                is_other = other is not None and bool(cond == backbone.embed([other])[0])
                if is_other or int(cond) == NO_CLASS:
                    continue
        except ValueError:
            continue
        return word
    return None
