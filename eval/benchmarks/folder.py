"""Your own pictures: a table of edits beside a folder of images."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path

from diffedit.io.checks import settings
from diffedit.io.images import ImageFile, MaskFile
from diffedit.types import EditRequest
from eval.benchmarks.base import FileBenchmark
from eval.benchmarks.files import parse_json, read_csv, read_text

KEY = "benchmark.path"
REQUIRED, OPTIONAL = ("image", "target"), ("source", "mask", "id")


@settings
class FolderBenchmark(FileBenchmark):
    """Edits listed in a CSV (with a header) or JSONL file.

    Columns: `image` and `target`; `source`, `mask` and `id` where you have them. Paths are relative to `images`. An id
    that is not given is the image's name and a short hash of the row, so that it (and with it the noise) does not
    depend on the order of the table. The whole table is checked at once; pictures are opened when their turn comes, so
    a bad one fails its own edit.

    Attributes:
        path: the table.
        images: folder of the images and masks; the table's own folder by default.
    """

    path: str
    images: str | None = None
    rows: list[dict[str, str]] = field(init=False, repr=False, compare=False)

    path_keys = frozenset({"images"})  # not `path`: it tells runs of several tables apart

    def __post_init__(self) -> None:
        rows = {row["id"]: row for row in read_table(Path(self.path).expanduser())}
        object.__setattr__(self, "rows", [rows[name] for name in self.choose(rows)])

    def __len__(self) -> int:
        return len(self.rows)

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """In the order of the table, or of the permutation."""
        base = Path(self.images or Path(self.path).parent).expanduser()
        for row in self.rows:
            picture = base / row["image"]
            yield EditRequest(
                id=row["id"],
                image=ImageFile(picture, resolution, self.resize),
                target=row["target"],
                source=row["source"] or None,
                mask=MaskFile(base / row["mask"], picture, resolution, self.resize) if row["mask"] else None,
                origin=" ".join(name for name in (row["image"], row["mask"]) if name),
            )


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV or JSONL table, complete and checked.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: a missing or unknown column, an empty required cell, an id twice, a line that is not JSON; the
            message names the file, the line and what to do.
    """
    lines = read_jsonl(path) if path.suffix == ".jsonl" else read_csv(KEY, path, check_columns)
    rows = [complete_row(f"{KEY} = {path}, line {number}", row) for number, row in lines]
    if not rows:
        raise ValueError(f"{KEY} = {path}: the table has no rows")
    first: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if row["id"] in first:
            raise ValueError(f"{KEY} = {path}: rows {first[row['id']]} and {number} have the same id {row['id']!r}")
        first[row["id"]] = number
    return rows


def read_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    """(line number, row) of a JSONL file; blank lines are passed over."""
    for number, line in enumerate(read_text(KEY, path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{KEY} = {path}, line {number}"
        as_written = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), str)  # 1e3 is a text
        row = parse_json(where, line, **as_written, object_pairs_hook=make_row)
        if not isinstance(row, dict):
            raise ValueError(f"{where}: a JSON object is wanted, such as {{'image': ..., 'target': ...}}")
        check_columns(where, list(row))
        yield number, row


def make_row(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A row of JSONL; a JSONDecodeError where a name is there twice, of which JSON keeps the last without a word."""
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise json.JSONDecodeError(f"more than one {twice!r}", "", 0)
    return dict(pairs)


def check_columns(where: str, columns: Sequence[str]) -> None:
    """Refuse a missing column, and an unknown one: it may be a misspelt optional one."""
    twice = sorted({name for name in columns if columns.count(name) > 1})
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in REQUIRED + OPTIONAL]
    if missing or unknown or twice:
        faults = (("no", missing), ("unknown", unknown), ("more than one", twice))
        listed = [f"{fault} {', '.join(map(repr, names))}" for fault, names in faults if names]
        allowed = f"{', '.join(REQUIRED)} and, where you have them, {', '.join(OPTIONAL)}"
        raise ValueError(f"{where}: columns: {'; '.join(listed)}. Known are {allowed}")


def complete_row(where: str, row: dict) -> dict[str, str]:
    """One row with every column, stripped, and an id."""
    full = {name: "" if row.get(name) is None else row[name] for name in REQUIRED + OPTIONAL}
    for name, text in full.items():
        if not isinstance(text, str):
            raise ValueError(f"{where}: {name} = {json.dumps(text)}: a text is wanted, in quotes")
        full[name] = text.strip()
    for name in REQUIRED:
        if not full[name]:
            raise ValueError(f"{where}: the cell {name!r} is empty")
    key = json.dumps([full[name] for name in ("image", "source", "target", "mask")])
    full["id"] = full["id"] or f"{Path(full['image']).stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    return full
