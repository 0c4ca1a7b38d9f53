"""The files of COCO and BISON as they are published: entries, captions and their words, instances and their pixels."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from pycocotools import mask as rle

from eval.benchmarks.files import read_json
from eval.benchmarks.subset import draw

WORD = re.compile(r"\w+(?:['’-]\w+)*")


class Picture(NamedTuple):
    """A candidate of BISON."""

    id: int
    file: str


class Entry(NamedTuple):
    """An entry of BISON: `true` is the picture that the caption describes, `input` the one to edit."""

    id: int
    caption: int
    true: Picture
    input: Picture


class Triple(NamedTuple):
    """An edit: the entry with its texts."""

    entry: Entry
    source: str
    query: str


def read_bison(path: str | Path) -> list[Entry]:
    """The entries of BISON's annotation, in its order; the order of an entry's candidates means nothing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON, or not of this format; the message names the file and the entry.
    """
    table = read_json("benchmark.bison", path)
    rows = table.get("data") if isinstance(table, dict) else None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: an object with a list `data` is wanted, BISON's bison_annotations.cocoval2014.json")
    entries: dict[int, Entry] = {}
    for i, row in enumerate(rows):
        try:
            name, true = row["bison_id"], row["true_image_id"]
            files = {candidate["image_id"]: candidate["image_filename"] for candidate in row["image_candidates"]}
            entry = Entry(name, row["caption_id"], *order_candidates(files, true))
        except KeyError as error:
            raise ValueError(f"{path}: data[{i}]: no {error}") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: data[{i}]: {error}") from error
        if name in entries:
            raise ValueError(f"{path}: data[{i}]: bison_id {name} is there twice")
        entries[name] = entry
    return list(entries.values())


def order_candidates(files: dict[int, str], true: int) -> list[Picture]:
    """The true candidate, then the other one."""
    if len(files) != 2 or true not in files:
        raise ValueError(f"true_image_id {true} and another are wanted as image_candidates, not {list(files)}")
    return sorted((Picture(*item) for item in files.items()), key=lambda picture: picture.id != true)


def split_words(text: str) -> list[str]:
    """What is between blanks and punctuation, in lower case; `it's` and `black-and-white` are one word each."""
    return WORD.findall(text.lower())


def word_edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words have to be inserted, deleted or replaced to make one text the other.

    Myers' algorithm in Hyyrö's form: a column of the table of distances is two integers, the bits of which say where
    it rises and where it falls. Ten times as fast as cell by cell, which counts for 54,253 queries of 5 captions.
    """
    if not one:
        return len(other)
    positions: dict[str, int] = {}
    for i, word in enumerate(one):
        positions[word] = positions.get(word, 0) | 1 << i
    full, last = (1 << len(one)) - 1, 1 << len(one) - 1
    rises, falls, distance = full, 0, len(one)
    for word in other:
        same = positions.get(word, 0)
        diagonal = (((same & rises) + rises) ^ rises) | same | falls
        right_rises, right_falls = falls | ~(diagonal | rises), rises & diagonal
        distance += bool(right_rises & last) - bool(right_falls & last)
        right_rises, right_falls = right_rises << 1 | 1, right_falls << 1
        rises, falls = (right_falls | ~(diagonal | right_rises)) & full, right_rises & diagonal & full
    return distance


def measure_change(source: str, query: str) -> float:
    """The share of changed words: the word edit distance over the words of the longer text."""
    one, other = split_words(source), split_words(query)
    return word_edit_distance(one, other) / max(len(one), len(other), 1)


@dataclass(frozen=True)
class Captions:
    """A captions file of COCO, indexed.

    Attributes:
        path: for messages.
        text: by caption id; white space is single blanks.
        image: image id by caption id.
        by_image: caption ids by image id, ascending.
    """

    path: str
    text: dict[int, str] = field(default_factory=dict)
    image: dict[int, int] = field(default_factory=dict)
    by_image: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> "Captions":
        """Index the file; empty captions are left out."""
        table, captions = read_json("benchmark.captions", path), cls(path)
        rows = table.get("annotations") if isinstance(table, dict) else None
        if not isinstance(rows, list):
            raise ValueError(f"{path}: an object with a list `annotations` is wanted, COCO's captions_val2014.json")
        for i, row in enumerate(rows):
            try:
                name, image, text = row["id"], row["image_id"], " ".join(row["caption"].split())
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}: annotations[{i}]: id, image_id and caption are wanted, not {row}") from error
            if name in captions.text:
                raise ValueError(f"{path}: annotations[{i}]: the caption id {name} is there twice")
            if text:
                captions.text[name] = text
                captions.image[name] = image
                captions.by_image.setdefault(image, []).append(name)
        for names in captions.by_image.values():
            names.sort()
        return captions

    def check(self, entries: Sequence[Entry]) -> None:
        """A ValueError where the captions are not those of the entries; it names the first one."""
        faults = [
            (entry.id, fault)
            for entry in entries
            for fault in (
                entry.caption not in self.text and f"no caption {entry.caption}, its query",
                self.image.get(entry.caption, entry.true.id) != entry.true.id
                and f"caption {entry.caption}, its query, is of another image than {entry.true.id}",
                entry.input.id not in self.by_image and f"no caption of image {entry.input.id}, the one to edit",
            )
            if fault
        ]
        if faults:
            name, fault = faults[0]
            bad = len({name for name, _ in faults})
            raise ValueError(
                f"benchmark.captions = {self.path}: bison_id {name}: {fault}; so with {bad} of {len(entries)} entries. "
                "BISON's annotation of COCO val2014 needs captions_val2014.json"
            )

    def make_triple(self, entry: Entry, source: str, seed: int) -> Triple:
        """The entry's texts; which caption is the source is `CocoBison.source`."""
        names = self.by_image[entry.input.id]
        if source == "closest":
            query = split_words(self.text[entry.caption])
            name = min(names, key=lambda name: (word_edit_distance(query, split_words(self.text[name])), name))
        elif source == "first":
            name = names[0]
        else:
            name = min(names, key=lambda name: draw(seed, "source", entry.id, name))
        return Triple(entry, self.text[name], self.text[entry.caption])


class Instance(NamedTuple):
    """One annotation of an instances file: a list of polygons, or a run length encoding."""

    id: int
    category: str
    segmentation: Any


@dataclass(frozen=True)
class Instances:
    """An instances file of COCO, indexed.

    Attributes:
        path: for messages.
        sizes: (width, height) by image id.
        by_image: instances by image id.
        forms: the category that some words name.
    """

    path: str
    sizes: dict[int, tuple[int, int]]
    by_image: dict[int, list[Instance]]
    forms: dict[tuple[str, ...], str]

    @classmethod
    def read(cls, path: str, images: Iterable[int]) -> "Instances":
        """Index the instances of these images."""
        table, images = read_json("benchmark.instances", path), set(images)
        try:
            names = {row["id"]: row["name"] for row in table["categories"]}
            instances = cls(path, {}, {}, {form: name for name in names.values() for form in word_forms(name)})
            for row in table["images"]:
                if row["id"] in images:
                    instances.sizes[row["id"]] = row["width"], row["height"]
            for row in table["annotations"]:
                if row["image_id"] in images:
                    instance = Instance(row["id"], names[row["category_id"]], row["segmentation"])
                    instances.by_image.setdefault(row["image_id"], []).append(instance)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"benchmark.instances = {path}: {error} is missing or not as in COCO's instances_val2014.json"
            ) from error
        if unknown := set(instances.by_image) - set(instances.sizes):
            raise ValueError(
                f"benchmark.instances = {path}: image {min(unknown)} has annotations, but is not in images"
            )
        return instances

    def find_categories(self, text: str) -> dict[tuple[str, ...], str]:
        """The categories that a text names, by the words that do; where several fit, the one of most words."""
        words, categories, i = split_words(text), {}, 0
        longest = max(map(len, self.forms), default=0)
        while i < len(words):
            tries = (tuple(words[i : i + k]) for k in range(min(longest, len(words) - i), 0, -1))
            form = next((form for form in tries if form in self.forms), None)
            if form:
                categories[form] = self.forms[form]
            i += len(form or "_")
        return categories

    def find_removed(self, image: int, source: str, query: str) -> list[Instance]:
        """The image's instances of the categories that the source names in words that the query has not."""
        kept = self.find_categories(query)
        removed = {name for form, name in self.find_categories(source).items() if form not in kept}
        return [instance for instance in self.by_image.get(image, ()) if instance.category in removed]


PLURALS = {"person": "people", "knife": "knives", "mouse": "mice"}  # of COCO's categories, the irregular ones


def word_forms(category: str) -> Iterable[tuple[str, ...]]:
    """The words of a category's name, and of its plurals: -s, or -es after s, x, z, ch and sh, and an irregular one."""
    name = split_words(category)
    yield tuple(name)
    ending = "es" if name[-1].endswith(("s", "x", "z", "ch", "sh")) else "s"
    yield (*name[:-1], name[-1] + ending)
    if name[-1] in PLURALS:
        yield (*name[:-1], PLURALS[name[-1]])


def rasterize(path: str, instance: Instance, size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
    """An instance's pixels as 0 and 1, as pycocotools' annToMask gives them.

    Args:
        path: of the file, for messages.
        instance: polygons, or runs down the columns as a list (crowds) or compressed.
        size: width and height of its picture.

    Raises:
        ValueError: it is none of these, or runs of another size; the message names the annotation.
    """
    width, height = size
    segmentation = instance.segmentation
    where = f"{path}: annotation {instance.id}: segmentation"
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if list(segmentation.get("size", ())) != [height, width]:
            raise ValueError(
                f"{where}: runs of size {segmentation.get('size')} for a picture of {[height, width]}, [h, w]"
            )
        if isinstance(counts, list) and (sum(counts) != height * width or min(counts) < 0):
            raise ValueError(f"{where}: the runs are of {sum(counts)} pixels, the picture has {height * width}")
    try:
        if isinstance(segmentation, list):
            return rle.decode(rle.merge(rle.frPyObjects(segmentation, height, width)))
        return rle.decode(
            rle.frPyObjects(segmentation, height, width) if isinstance(segmentation["counts"], list) else segmentation
        )
    except Exception as error:  # pycocotools raises whatever Cython and NumPy do
        raise ValueError(f"{where}: not polygons nor runs that pycocotools knows ({error})") from error


def rasterize_union(path: str, instances: Sequence[Instance], size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
    """The pixels of any of them."""
    return np.maximum.reduce([rasterize(path, instance, size) for instance in instances])
