"""Class-conditional backbones: what a text is to them, a class of their own list."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from diffedit.backbones.base import BaseBackbone
from diffedit.io.hashing import hash_text
from diffedit.types import ClassName

ClassCond = Int64[Tensor, ""]

WNID = re.compile(r"n\d{8}")
NEAREST = 3  # classes that a message offers for one that is not known
NO_CLASS = -1  # stands for the null class where there is none: refused when it is used
FORMAT = '{"0": ["n01440764", "tench"], ...}, or {"0": "tench, Tinca tinca", ...}'


class ClassList:
    """The classes of a model by number, as far as their names are known.

    Args:
        count: of classes.
        names: of each: its names with commas between them, by number.
        wnids: of each.
        where: the names come from, for messages.

    Raises:
        ValueError: a number is none of the model's.
    """

    def __init__(self, count: int, names: Mapping[int, str], wnids: Mapping[int, str], where: str) -> None:
        self.count, self.where = count, where
        self.names = {number: split_names(text) for number, text in names.items()}
        self.wnids = dict(wnids)
        self.by_wnid = {wnid: number for number, wnid in wnids.items()}
        self.by_name: dict[str, list[int]] = {}
        for number, synonyms in self.names.items():
            for name in dict.fromkeys(map(fold, synonyms)):
                self.by_name.setdefault(name, []).append(number)
        if wrong := sorted(number for number in {*names, *wnids} if not 0 <= number < count):
            raise ValueError(f"{where}: the classes are 0 to {count - 1}, and number {wrong[0]} has a name")

    @classmethod
    def read(cls, path: Path, count: int) -> "ClassList":
        """A class index: {"number": [wnid, name]} or {"number": name}; an empty list where there is no such file.

        Raises:
            ValueError: it has another format, or a number that is none of the model's.
        """
        names, wnids = {}, {}
        try:
            for key, entry in (json.loads(path.read_bytes()) if path.exists() else {}).items():
                *wnid, name = [entry] if isinstance(entry, str) else entry
                names[int(key)] = name
                wnids |= {int(key): one for one in wnid}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not a class index ({error}); wanted: {FORMAT}") from error
        return cls(count, names, wnids, str(path))

    def find(self, text: str) -> int:
        """The number of a class by its number, wnid or one of its names.

        Raises:
            ValueError: there is none, or the name is that of several.
        """
        key = text.strip()
        if key.isascii() and key.isdigit():
            if int(key) < self.count:
                return int(key)
            raise ValueError(f"class {key}: the model's classes are 0 to {self.count - 1}")
        if key in self.by_wnid:
            return self.by_wnid[key]
        found = self.by_name.get(fold(key), [])
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(map(self.describe, found))
            raise ValueError(f"class {text!r} is the name of several: {several}; say which by its number")
        raise ValueError(f"class {text!r} is none of the model's{self.suggest(key)}")

    def suggest(self, text: str) -> str:
        """What may have been meant, for a message."""
        if not self.names:
            return f" by number, and there are no names at {self.where} (put a class index there: {FORMAT})"
        known, key = self.by_name, fold(text)
        if WNID.fullmatch(text) and self.by_wnid:
            known, key = {wnid: [number] for wnid, number in self.by_wnid.items()}, text
        near = difflib.get_close_matches(key, list(known), len(known), cutoff=0)
        # A class has several names, and a name several classes.
        nearest = list(dict.fromkeys(number for name in near for number in known[name]))[:NEAREST]
        return ": is it " + " or ".join(map(self.describe, nearest)) + "?"

    def describe(self, number: int) -> str:
        """A class in a message."""
        name = self.names.get(number, ["class"])[0]
        return f"{name} ({', '.join(filter(None, [str(number), self.wnids.get(number)]))})"

    def match(self, one: ClassName) -> int:
        """The number of a benchmark's class: by wnid, by name, or by number where nothing speaks against it.

        Raises:
            ValueError: it is not there; or the class of that number is called something else here.
        """
        if one.wnid and self.wnids:
            return self.find(one.wnid)
        if one.number is None or one.number >= self.count:
            return self.find(one.name)
        known = self.names.get(one.number)
        if known is not None and not {fold(name) for name in split_names(one.name)} & set(map(fold, known)):
            raise ValueError(
                f"class {one.number} is {one.name!r} in the benchmark and {known[0]!r} at {self.where}: are they in "
                "another order?"
            )
        return one.number


def split_names(text: str) -> list[str]:
    """The names of a class: those between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def fold(name: str) -> str:
    """A name as it is looked up: case and underscores do not matter."""
    return " ".join(name.replace("_", " ").casefold().split())


class ClassBackbone(BaseBackbone):
    """A backbone whose conditions are classes: numbers, as its networks count them.

    Attributes:
        classes: those that it knows.
        null_class: what stands for no class, the empty text; None where the model was trained without one.
    """

    conditions: Literal["text", "class"] = "class"
    classes: ClassList
    null_class: int | None
    remedy: ClassVar = (
        "the model has no null class, so that it has no empty reference and no guidance away from it: "
        "editor.inversion.condition=source_class editor.reference=source_class, and editor.guidance=1 or "
        "editor.negative=source_class (source in their place, where requests have texts and no classes)"
    )

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """Of the parts, and of which class a text is, in whatever order the names come."""
        names = sorted((name, sorted(numbers)) for name, numbers in self.classes.by_name.items())
        known = repr((names, sorted(self.classes.by_wnid.items()), self.null_class))
        return {**super().fingerprint, "classes": hash_text(known)}

    def embed(self, texts: Sequence[str]) -> list[ClassCond]:
        """The number of each class; "" is the null class.

        Raises:
            ValueError: a text that is no class.
        """
        empty = NO_CLASS if self.null_class is None else self.null_class
        return [torch.tensor(self.classes.find(text) if text.strip() else empty) for text in texts]

    def name_class(self, one: ClassName) -> str:
        """What `embed` is told for a benchmark's class; a ValueError where it is none of the model's."""
        return str(self.classes.match(one))

    def stack_classes(self, conds: Sequence[ClassCond], device: torch.device) -> Int64[Tensor, " b"]:
        """The numbers of a batch; a ValueError where a null class is wanted that is not there."""
        numbers = torch.stack(list(conds))
        if self.null_class is None and bool((numbers == NO_CLASS).any()):
            raise ValueError(self.remedy)
        return numbers.to(device)
