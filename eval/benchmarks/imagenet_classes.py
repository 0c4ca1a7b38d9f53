"""What is known of ImageNet's classes and pictures: class index, WordNet siblings, ground truth.

A class is its wnid. Names are not: `crane` is a bird and a machine, `maillot` occurs twice, `cardigan` is a garment and
`Cardigan` a dog.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from scipy.io import loadmat

from diffedit.types import ClassName
from eval.benchmarks.files import read_csv, read_json, read_text

WNID = re.compile(r"n\d{8}")
FORMATS = '{"0": ["n01440764", "tench"], ...} as JSON, or lines "n01440764 tench, Tinca tinca"'


def check_columns(wanted: Mapping[str, str], where: str, columns: Sequence[str]) -> None:
    """Refuse a table that lacks a column; `wanted` says what messages call each."""
    missing = [title for name, title in wanted.items() if name not in columns]
    if missing:
        raise ValueError(f"{where}: no column {', '.join(missing)}; wanted are {', '.join(wanted.values())}")


class Classes:
    """A class index: the classes by wnid, in the order of their numbers.

    Args:
        path: of imagenet_class_index.json, or of a text of one class a line (LOC_synset_mapping.txt, synset_words.txt),
            whose lines are counted from 0.

    Attributes:
        by_wnid: the classes, each by its first name.
        by_number: the same.
        synonyms: all names of each, with commas between them, by number.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another format, or a class or a number twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_wnid: dict[str, ClassName] = {}
        self.by_number: dict[int, ClassName] = {}
        self.synonyms: dict[int, str] = {}
        index = read_json_index(path) if path.suffix == ".json" else read_text_index(path)
        for entry, names in sorted(index, key=lambda pair: pair[0].number):
            if entry.wnid in self.by_wnid or entry.number in self.by_number:
                raise ValueError(f"benchmark.classes = {path}: {entry.wnid} or number {entry.number} occurs twice")
            self.by_wnid[entry.wnid] = self.by_number[entry.number] = entry
            self.synonyms[entry.number] = names
        if not self.by_wnid:
            raise ValueError(f"benchmark.classes = {path}: no classes there; wanted: {FORMATS}")

    def find(self, key: str) -> ClassName | None:
        """The class of a wnid or of a number written out; None where there is none."""
        return self.by_number.get(int(key)) if key.isascii() and key.isdigit() else self.by_wnid.get(key)


def read_json_index(path: Path) -> Iterator[tuple[ClassName, str]]:
    """The classes of {"number": [wnid, name]}, each with all its names."""
    index = read_json("benchmark.classes", path)
    try:
        for number, (wnid, name) in index.items():
            yield make_class(wnid, int(number), name)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"benchmark.classes = {path}: not a class index ({error}); wanted: {FORMATS}") from error


def read_text_index(path: Path) -> Iterator[tuple[ClassName, str]]:
    """The classes of lines "wnid name, name", each with all its names; Kaggle's file also exists with " : " between."""
    lines = [line.strip() for line in read_text("benchmark.classes", path).splitlines() if line.strip()]
    for number, line in enumerate(lines):
        wnid, _, names = line.partition(" ")
        try:
            yield make_class(wnid, number, names.strip().removeprefix(":"))
        except ValueError as error:
            raise ValueError(f"benchmark.classes = {path}: {line!r}: {error}; wanted: {FORMATS}") from error


def make_class(wnid: str, number: int, names: str) -> tuple[ClassName, str]:
    """A class by its first name, checked; and all its names."""
    name = names.split(",")[0].replace("_", " ").strip()
    if not WNID.fullmatch(wnid) or not name:
        raise ValueError(f"{wnid!r} and {names!r} are not a wnid and a name")
    return ClassName(name, number, wnid), names.strip()


def read_siblings(path: Path, classes: Classes) -> dict[str, list[str]]:
    """For each class, by number, the classes that share a parent with it; none for a class that has no sibling.

    Args:
        path: lines "parent child" of ids: WordNet's is-a relation, in which a class may have several parents.
        classes: those that count; the other lines only connect them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not two ids, or no two of the classes share a parent.
    """
    children: dict[str, set[str]] = {}
    for number, line in enumerate(read_text("benchmark.hierarchy", path).splitlines(), 1):
        pair = line.split()
        if pair and len(pair) != 2:
            raise ValueError(f"benchmark.hierarchy = {path}, line {number}: {line!r} is not 'parent child'")
        if pair and pair[1] in classes.by_wnid:
            children.setdefault(pair[0], set()).add(pair[1])
    related: dict[str, set[str]] = {}
    for family in children.values():
        for wnid in family:
            related.setdefault(wnid, set()).update(family - {wnid})
    siblings = {wnid: sorted(related[wnid]) for wnid in classes.by_wnid if related.get(wnid)}
    if not siblings:
        raise ValueError(f"benchmark.hierarchy = {path}: no two classes of {classes.path} share a parent there")
    return siblings


def read_truth(path: Path, classes: Classes) -> dict[str, str]:
    """The wnid of each validation picture, by its name without ending.

    Args:
        path: ILSVRC2012_validation_ground_truth.txt of the devkit, with meta.mat beside it (the numbers are the
            devkit's own, not those of the class index); or Kaggle's LOC_val_solution.csv.
        classes: those known.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another format, or names an unknown class.
    """
    if path.suffix == ".csv":
        check = partial(check_columns, {name: repr(name) for name in ("ImageId", "PredictionString")})
        rows = read_csv("benchmark.truth", path, check)
        truth = {row["ImageId"]: row["PredictionString"].partition(" ")[0] for _, row in rows}
    else:
        truth = read_devkit_truth(path)
    for picture, wnid in truth.items():
        if wnid not in classes.by_wnid:
            raise ValueError(f"benchmark.truth = {path}: {picture} is of {wnid!r}, a class not in {classes.path}")
    return truth


def read_devkit_truth(path: Path) -> dict[str, str]:
    """As `read_truth`, of the devkit's text of one number a line."""
    lines = read_text("benchmark.truth", path).split()
    meta = path.with_name("meta.mat")
    if not meta.is_file():
        raise FileNotFoundError(
            f"{meta}: no such file; the devkit has it beside {path.name}, whose numbers it translates"
        )
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        wnids = {
            str(int(number)): str(wnid) for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        }
    except (KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{meta}: not the devkit's meta.mat ({error})") from error
    truth = {}
    for i, number in enumerate(lines, 1):
        if number not in wnids:
            raise ValueError(f"benchmark.truth = {path}, line {i}: {number!r} is no ILSVRC2012_ID of {meta.name}")
        truth[f"ILSVRC2012_val_{i:08d}"] = wnids[number]
    return truth
