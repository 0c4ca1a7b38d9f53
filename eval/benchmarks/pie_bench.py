"""PIE-Bench: 700 pictures with a source prompt, a target prompt and a mask each, of ten types of edit.

The format is that of the published mapping_file.json and annotation_images/ (cure-lab/PnPInversion).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from PIL import Image
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.io.images import ImageFile, Resize, open_image, to_tensor
from diffedit.types import EditRequest
from eval.benchmarks.base import FileBenchmark
from eval.benchmarks.files import read_json

RESOLUTION = 512
PIXELS = RESOLUTION * RESOLUTION
TEXTS = ("image_path", "original_prompt", "editing_prompt", "editing_type_id")


class Entry(NamedTuple):
    """One edit of the table, checked; the mask as (start, length) runs over the pixels row by row."""

    image: str
    source: str
    target: str
    type: str
    runs: list[int]


@dataclass(frozen=True)
class PieMask:
    """An entry's mask, drawn when called: (1, resolution, resolution) in [0, 1], white = edit.

    It goes through its picture's resize.
    """

    runs: list[int]
    picture: Path
    resolution: int
    resize: Resize = Resize()

    @property
    def path(self) -> Path:
        """Of the picture: the only file that it opens."""
        return self.picture

    def __call__(self) -> Float[Tensor, "1 resolution resolution"]:
        with open_image(self.picture) as picture:
            width, height = picture.size
        if width != height:  # of another size but square, it is the same crop: the whole
            raise ValueError(f"{self.picture}: {width} x {height}, but PIE-Bench's masks are for square pictures")
        mask = Image.fromarray(decode_runs(self.runs).astype(np.uint8) * 255)
        return to_tensor(self.resize(mask, self.resolution))


@settings
class PieBench(FileBenchmark):
    """The edits of a mapping_file.json.

    The source text is the original prompt, the target the editing prompt, both without the brackets that mark words;
    the mask is given. A request's id is its key in the file. The whole table is checked at once; pictures are opened
    when their turn comes, so an absent one fails its own edit.

    Attributes:
        path: folder with the table and `annotation_images`.
        mapping: the table's file in it.
        edit_types: which of the ids "0" to "9" to take; None takes all.
    """

    path: str
    mapping: str = "mapping_file.json"
    edit_types: list[str | int] | None = None
    entries: dict[str, Entry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.check_square("PIE-Bench")
        table = read_mapping(Path(self.path).expanduser() / self.mapping)
        names = self.choose(select_types(table, self.edit_types))
        object.__setattr__(self, "entries", {name: table[name] for name in names})

    def __len__(self) -> int:
        return len(self.entries)

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """In the order of the table, or of the permutation."""
        base = Path(self.path).expanduser() / "annotation_images"
        for name, entry in self.entries.items():
            picture = base / entry.image
            runs = hashlib.sha256(json.dumps(entry.runs).encode()).hexdigest()[:12]
            yield EditRequest(
                id=name,
                image=ImageFile(picture, resolution, self.resize),
                target=entry.target,
                source=entry.source or None,
                mask=PieMask(entry.runs, picture, resolution, self.resize),
                origin=f"{entry.image} mask {runs}",
            )


def decode_runs(runs: Sequence[int]) -> Bool[ndarray, "512 512"]:
    """The mask of (start, length) runs over the pixels row by row; a run may go on in the next row.

    The frame, one pixel wide, is always part of it, as in the published code.
    """
    mask = np.zeros(PIXELS, dtype=bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        mask[start : start + length] = True
    mask = mask.reshape(RESOLUTION, RESOLUTION)
    mask[[0, -1]] = True
    mask[:, [0, -1]] = True
    return mask


def strip_brackets(prompt: str) -> str:
    """A prompt without the brackets around the words that change, and with single spaces."""
    return " ".join(prompt.replace("[", "").replace("]", "").split())


def read_mapping(path: Path) -> dict[str, Entry]:
    """The entries of the table by their keys, complete and checked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON, a missing key, a mask that cannot be; the message names the file and the entry.
    """
    table = read_json("benchmark.path/mapping", path)
    if not isinstance(table, dict) or not table:
        raise ValueError(f"{path}: an object of entries is wanted, {{'000000000000': {{'image_path': ...}}, ...}}")
    return {name: read_entry(f"{path}, entry {name!r}", entry) for name, entry in table.items()}


def read_entry(where: str, entry: Any) -> Entry:
    """One entry of the table, checked."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: an object with {', '.join(TEXTS)} and mask is wanted")
    missing = [key for key in (*TEXTS, "mask") if key not in entry]
    if missing:
        raise ValueError(
            f"{where}: no {', '.join(map(repr, missing))}; the table of PIE-Bench (mapping_file.json of v1) is wanted"
        )
    image, source, target, edit_type = (str(entry[key]) for key in TEXTS)
    image, source, target = image.strip(), strip_brackets(source), strip_brackets(target)
    if not image or not target:
        raise ValueError(f"{where}: {'image_path' if target else 'editing_prompt'} is empty")
    check_runs(where, entry["mask"])
    return Entry(image, source, target, edit_type, entry["mask"])


def check_runs(where: str, runs: Any) -> None:
    """Refuse a mask whose runs are not pairs of whole numbers within the picture."""
    if not isinstance(runs, list) or not all(type(number) is int for number in runs):
        raise ValueError(f"{where}: mask: a flat list of whole numbers is wanted: start, length, start, length, ...")
    if len(runs) % 2:
        raise ValueError(f"{where}: mask: {len(runs)} numbers, but they come in pairs of start and length")
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if start < 0 or length < 0 or start + length > PIXELS:
            raise ValueError(
                f"{where}: mask: the run of {length} pixels from {start} leaves the {PIXELS} "
                f"of {RESOLUTION} x {RESOLUTION}"
            )


def select_types(table: Mapping[str, Entry], types: Sequence[str | int] | None) -> list[str]:
    """The keys of the entries of these types, in the table's order."""
    if types is None:
        return list(table)
    wanted = {str(edit_type) for edit_type in types}
    present = {entry.type for entry in table.values()}
    if not wanted or wanted - present:
        raise ValueError(
            f"benchmark.edit_types = {list(types)}: {', '.join(sorted(wanted - present)) or 'none given'}; "
            f"the table has the types {', '.join(sorted(present))}"
        )
    return [name for name, entry in table.items() if entry.type in wanted]
