"""Your own pictures: a table of edits beside a folder of images."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from diffedit.io.images import ImageFile, MaskFile, Resize
from diffedit.types import EditRequest
from eval.benchmarks.subset import subset

REQUIRED, OPTIONAL = ("image", "target"), ("source", "mask", "id")


@dataclass(frozen=True)
class FolderBenchmark:
    """Edits listed in a CSV (with a header) or JSONL file.

    Columns: `image` and `target`; `source`, `mask` and `id` where you have them. Paths are relative to `images`. An id
    that is not given is the image's name and a short hash of the row, so that it (and with it the noise) does not
    depend on the order of the table. The whole table is checked at once; pictures are opened when their turn comes, so
    a bad one fails its own edit.

    Attributes:
        path: the table.
        images: folder of the images and masks; the table's own folder by default.
        limit: how many edits, the first of a seeded permutation; None takes all in the table's order.
        range: (first, last + 1) of that permutation, instead of a limit.
        seed: of that permutation.
        resize: how pictures become square.
    """

    path: str
    images: str | None = None
    limit: int | None = None
    range: tuple[int, int] | list[int] | None = None
    seed: int = 0
    resize: Resize = Resize()
    rows: list[dict[str, str]] = field(init=False, repr=False, compare=False)

    version = "1"

    def __post_init__(self) -> None:
        rows = {row["id"]: row for row in read_table(Path(self.path).expanduser())}
        chosen = subset(rows, self.limit, self.seed, self.range)
        object.__setattr__(self, "rows", [rows[name] for name in chosen])

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
    if not path.is_file():
        raise FileNotFoundError(f"benchmark.path = {path}: no such file (a CSV or JSONL table of edits)")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); save the table as UTF-8") from error
    lines = json_lines(path, text) if path.suffix == ".jsonl" else csv_lines(path, text)
    rows = [complete(path, number, row) for number, row in lines]
    if not rows:
        raise ValueError(f"{path}: the table has no rows")
    first: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if row["id"] in first:
            raise ValueError(f"{path}: rows {first[row['id']]} and {number} have the same id {row['id']!r}")
        first[row["id"]] = number
    return rows


def csv_lines(path: Path, text: str) -> Iterator[tuple[int, dict]]:
    """(line number, row) of a CSV."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        check_columns(path, 1, reader.fieldnames or [])
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{path}, line {reader.line_num}: not as many cells as the header has columns")
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV ({error})") from error


def json_lines(path: Path, text: str) -> Iterator[tuple[int, dict]]:
    """(line number, row) of a JSONL file; blank lines are passed over."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: a JSON object is wanted, such as {{'image': ..., 'target': ...}}")
        check_columns(path, number, row)
        yield number, row


def check_columns(path: Path, number: int, columns) -> None:
    """Refuse a missing column, and an unknown one: it may be a misspelt optional one."""
    columns = list(columns)
    twice = sorted({name for name in columns if columns.count(name) > 1})
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in REQUIRED + OPTIONAL]
    if missing or unknown or twice:
        faults = (("no", missing), ("unknown", unknown), ("more than one", twice))
        said = [f"{word} {', '.join(map(repr, names))}" for word, names in faults if names]
        known = f"{', '.join(REQUIRED)} and, where you have them, {', '.join(OPTIONAL)}"
        raise ValueError(f"{path}, line {number}: columns: {'; '.join(said)}. Known are {known}")


def complete(path: Path, number: int, row: dict) -> dict[str, str]:
    """One row with every column, stripped, and an id."""
    full = {name: "" if row.get(name) is None else str(row[name]).strip() for name in REQUIRED + OPTIONAL}
    for name in REQUIRED:
        if not full[name]:
            raise ValueError(f"{path}, line {number}: the cell {name!r} is empty")
    key = json.dumps([full[name] for name in ("image", "source", "target", "mask")])
    full["id"] = full["id"] or f"{Path(full['image']).stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    return full
