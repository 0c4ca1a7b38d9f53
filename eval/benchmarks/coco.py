"""BISON on COCO: a picture, a caption of another picture that is like it as the query, one of its own as the source.

BISON (facebookresearch/binary-image-selection) pairs a caption of COCO with the picture that it describes and a similar
one that it does not. The edit starts from the one that it does not describe.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.io.contents import Contents
from diffedit.io.hashing import hash_text
from diffedit.io.images import ImageFile, Resize, open_image, to_tensor
from diffedit.io.spelling import find_spelling
from diffedit.types import EditRequest
from eval.benchmarks.base import FileBenchmark
from eval.benchmarks.coco_annotations import (
    Captions,
    Entry,
    Instance,
    Instances,
    Picture,
    Triple,
    measure_change,
    rasterize_union,
    read_bison,
)

log = logging.getLogger("coco")


@dataclass(frozen=True)
class CocoFile:
    """A picture of COCO, loaded when called; where the file of that name is absent, the one that val2017 names."""

    folder: Path
    picture: Picture
    resolution: int
    resize: Resize = Resize()

    @property
    def path(self) -> Path:
        """Where it lies; where it should, if under neither name."""
        path = find_spelling(self.folder / self.picture.file)
        alternative = self.folder / f"{self.picture.id:012d}.jpg"
        return alternative if alternative.is_file() and not path.is_file() else path

    def __call__(self) -> Float[Tensor, "3 resolution resolution"]:
        return ImageFile(self.find_file(), self.resolution, self.resize)()

    def find_file(self) -> Path:
        """Its path; a FileNotFoundError with both names where there is no file."""
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file, nor {self.picture.id:012d}.jpg beside it")
        return self.path


@dataclass(frozen=True)
class CocoMask:
    """The union of instances, drawn when called: (1, resolution, resolution) in [0, 1], white = edit.

    Attributes:
        annotation: the instances file, for messages.
        instances: at least one.
        size: width and height of the picture, as annotated.
        picture: its file; the mask goes through the same resize.
    """

    annotation: str
    instances: list[Instance]
    size: tuple[int, int]
    picture: CocoFile

    @property
    def path(self) -> Path:
        """Of the picture: the only file that it opens."""
        return self.picture.path

    def __call__(self) -> Float[Tensor, "1 resolution resolution"]:
        path = self.picture.find_file()
        with open_image(path) as picture:
            if picture.size != self.size:
                actual, annotated = (f"{width} x {height}" for width, height in (picture.size, self.size))
                raise ValueError(
                    f"{path}: {actual}, but {self.annotation} has it as {annotated}: use COCO's own picture"
                )
        pixels = Image.fromarray(rasterize_union(self.annotation, self.instances, self.size) * 255)
        return to_tensor(self.picture.resize(pixels, self.picture.resolution))


@settings
class CocoBison(FileBenchmark):
    """The edits of BISON's annotation, in its order or, limited, in that of the permutation.

    The words of a text are what is between blanks and punctuation, in lower case; `it's` and `black-and-white` are one
    word each. The word edit distance counts the insertions, deletions and replacements of a word that make one text the
    other. The share of changed words is this distance over the words of the longer text.

    A request's id is its bison_id. White space in captions, line ends too, becomes single blanks. The annotation and
    the captions are checked at once; pictures are opened when their turn comes, so an absent one fails its own edit.

    Attributes:
        bison: annotation file, bison_annotations.cocoval2014.json.
        captions: captions_val2014.json, or another that has the captions of all pictures of the annotation.
        images: folder of the pictures, under the annotation's names (COCO_val2014_*.jpg) or val2017's (the id alone).
        instances: instances_val2014.json, for masks.
        source: which caption of the picture is its source text: the `closest` to the query by word edit distance (of
            several the lowest caption id's), the `first` by caption id, or a `seeded` one, drawn by seed and bison_id.
        max_changed: takes only the edits whose share of changed words, from source to query, is at most this; 0.25 is
            the paper's subset; None takes all.
        mask_from: `changed_words` gives a mask where the source names a category of COCO in words that the query has
            not: all the picture's instances of such categories. The words are its name or plural, the longest where
            several fit (a teddy bear is no bear). The other edits, and all with `none`, have no mask.
    """

    bison: str
    captions: str
    images: str
    instances: str | None = None
    source: Literal["closest", "first", "seeded"] = "closest"
    max_changed: Annotated[float, Ge(0), Le(1)] | None = None
    mask_from: Literal["none", "changed_words"] = "none"
    entries: list[Entry] = field(init=False, repr=False, compare=False)
    triples: list[Triple] = field(init=False, repr=False, compare=False)

    version = "2"  # masks of irregular plurals
    path_keys = frozenset({"bison", "captions", "images", "instances"})
    has_reference = True
    reference_version = "2"  # without the inputs

    def __post_init__(self) -> None:
        self.check_square("the protocol on COCO")
        if self.mask_from != "none" and self.instances is None:
            raise ValueError(
                f"benchmark.mask_from = {self.mask_from} needs benchmark.instances, instances_val2014.json"
            )
        object.__setattr__(self, "entries", read_bison(self.bison))
        captions = Captions.read(self.captions)
        captions.check(self.entries)
        object.__setattr__(self, "triples", self.choose_triples(captions))
        if self.mask_from != "none":
            _ = self.annotations  # a bad file is refused now

    def choose_triples(self, captions: Captions) -> list[Triple]:
        """The edits that are left after filter and limit."""
        entries = {str(entry.id): entry for entry in self.entries}
        if self.max_changed is None:
            return [captions.make_triple(entries[name], self.source, self.seed) for name in self.choose(entries)]
        triples = {name: captions.make_triple(entry, self.source, self.seed) for name, entry in entries.items()}
        close = [
            name for name, triple in triples.items() if measure_change(triple.source, triple.query) <= self.max_changed
        ]
        if not close:
            raise ValueError(f"benchmark.max_changed = {self.max_changed}: none of {len(entries)} edits changes so few")
        return [triples[name] for name in self.choose(close)]

    def __len__(self) -> int:
        return len(self.triples)

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """One for each triple."""
        for entry, source, query in self.triples:
            picture = self.make_loader(entry.input, resolution)
            mask, origin = None, entry.input.file
            if self.mask_from != "none":
                instances = self.annotations.find_removed(entry.input.id, source, query)
                if instances:
                    mask = CocoMask(self.annotations.path, instances, self.annotations.sizes[entry.input.id], picture)
                    shapes = hash_text(json.dumps([instance.segmentation for instance in instances]))
                    origin += f" mask {' '.join(str(instance.id) for instance in instances)} {shapes}"
            true = self.make_loader(entry.true, resolution)  # the picture that the query describes
            yield EditRequest(str(entry.id), picture, query, source, mask, origin=origin, retrieved=true)

    def make_loader(self, picture: Picture, resolution: int) -> CocoFile:
        """Of one of the pictures."""
        return CocoFile(Path(self.images).expanduser(), picture, resolution, self.resize)

    @cached_property
    def annotations(self) -> Instances:
        """The instances of the pictures to edit, for masks."""
        return Instances.read(self.instances or "", {triple.entry.input.id for triple in self.triples})

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 resolution resolution"]]]:
        """("", picture): the true pictures of the queries, each once, then those of the annotation's other entries.

        These are the pictures that the queries describe, but for those that are inputs too: what a query describes is
        often another query's input, and edits compared with their own inputs look better than they are. Files are
        compared by their bytes, and the log counts what is left out. There may be fewer than `size` of them.
        """
        entries = [*(triple.entry for triple in self.triples), *self.entries]
        inputs = Contents(self.make_loader(triple.entry.input, resolution).path for triple in self.triples)
        taken = left_out = 0
        try:
            for picture in dict.fromkeys(entry.true for entry in entries):
                if taken == size:
                    return
                load = self.make_loader(picture, resolution)
                if load.find_file() in inputs:
                    left_out += 1
                else:
                    taken += 1
                    yield "", load()
        finally:
            if left_out:
                log.info("%d pictures left out of the reference: they are inputs; %d taken", left_out, taken)
