"""What a table for a paper says, whatever it is written in: rows of methods, columns of metrics under benchmarks."""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import pandas as pd

from eval.reporting.tables import MISSING, MOST_DIGITS

NAN = float("nan")
ARROWS = {True: "↑", False: "↓", None: ""}
IntervalStyle = Literal["half", "range", "none"]
INTERVALS: tuple[IntervalStyle, ...] = ("half", "range", "none")
Kind = Literal["bound", "method", "published"]


class Cell(NamedTuple):
    """A score.

    Attributes:
        value: NaN where there is none.
        low: of its interval; NaN where none is known.
        high: of its interval.
        n: pictures; None where that is not known.
        is_best: has the best value of what it is compared with, and is told apart from another method at least.
        is_tied: is not told apart from the best, while another method is.
        is_published: printed elsewhere, so measured on other pictures, and compared with nothing.
        note: why there is no value or no interval; "": nothing to say.
    """

    value: float = NAN
    low: float = NAN
    high: float = NAN
    n: int | None = None
    is_best: bool = False
    is_tied: bool = False
    is_published: bool = False
    note: str = ""

    @property
    def is_bold(self) -> bool:
        return self.is_best or self.is_tied


class Column(NamedTuple):
    """A metric; which way it is better (None: not known), and the most digits behind the point in it."""

    metric: str
    label: str
    higher_is_better: bool | None
    digits: int

    @property
    def head(self) -> str:
        return f"{self.label} {ARROWS[self.higher_is_better]}".rstrip()


class ColumnGroup(NamedTuple):
    """The columns of one benchmark: `key` names it (benchmark, backbone, set of requests), `title` stands above."""

    title: str
    key: tuple[str, str, str]
    columns: Sequence[Column]


class Row(NamedTuple):
    """A method.

    Attributes:
        method: what tables of scores call it.
        label: what it is called here.
        kind: a bound is a floor or a ceiling, which nothing competes with.
        setting: where it is measured, as "0.7"; "" where it is the same everywhere.
        cells: one for each column of all groups.
        mark: of a note of the table; "": none.
        seeds: how many its values are means over, the least of all groups; None where that is not known.
    """

    method: str
    label: str
    kind: Kind
    setting: str
    cells: Sequence[Cell]
    mark: str = ""
    seeds: int | None = None


class PaperTable(NamedTuple):
    """A table for a paper.

    Attributes:
        groups: of columns.
        rows: floor and ceiling first, then setting by setting, what is published last.
        setting: what the settings are of, as "ratio"; "": all are the same, so they are no column.
        caption: sentences.
        notes: (mark, text); "" marks what is said of the table as a whole.
        interval: how intervals are written.
        command: what makes it again.
    """

    groups: Sequence[ColumnGroup]
    rows: Sequence[Row]
    setting: str
    caption: Sequence[str]
    notes: Sequence[tuple[str, str]]
    interval: IntervalStyle = "half"
    command: str = ""

    @property
    def columns(self) -> list[Column]:
        return [column for group in self.groups for column in group.columns]

    @property
    def column_groups(self) -> list[ColumnGroup]:
        """The group of each column."""
        return [group for group in self.groups for _ in group.columns]

    def blocks(self) -> Iterator[list[Row]]:
        """The rows that a rule sets apart from others."""
        for _, rows in groupby(self.rows, key=lambda row: (row.kind, row.setting if row.kind == "method" else "")):
            yield list(rows)


# -------------------------------------------------------------------------------------------------------------- numbers


def count_digits(half: float) -> int:
    """Digits behind the point that a value is known to: of half its interval two are shown; less than 0: of tens."""
    digits = 1 - math.floor(math.log10(half))
    rounded = round(half, digits)
    return min(digits - int(rounded >= 10.0 ** (2 - digits)), MOST_DIGITS)  # 0.0996 is 0.10 then, and not 0.100


def find_half(cell: Cell) -> float:
    """The larger half of the interval; NaN without one."""
    return max(cell.high - cell.value, cell.value - cell.low) if pd.notna(cell.low) and pd.notna(cell.high) else NAN


def find_digits(cell: Cell) -> int:
    """Digits behind the point of a value: as its interval says; without one as many as printed, or three."""
    half = find_half(cell)
    if pd.notna(half) and half >= 10.0**-MOST_DIGITS:
        return count_digits(half)
    if cell.is_published:
        return min(len(f"{cell.value:.10g}".partition(".")[2]), MOST_DIGITS)
    return 3 if abs(cell.value) < 10 else 1


def format_number(number: float, digits: int) -> str:
    """A number with so many digits behind the point, never as -0."""
    return f"{round(number, digits) + 0.0:.{max(digits, 0)}f}"


def format_cell(cell: Cell, interval: IntervalStyle) -> tuple[str, str]:
    """(value, interval) as texts; "" for an interval that is not known or not wanted."""
    if not math.isfinite(cell.value):
        return MISSING, ""
    digits, half = find_digits(cell), find_half(cell)
    value = format_number(cell.value, digits)
    if interval == "none" or pd.isna(half):
        return value, ""
    if interval == "range":
        return value, f"[{format_number(cell.low, digits)}, {format_number(cell.high, digits)}]"
    return value, "±0" if half < 10.0**-MOST_DIGITS else f"±{format_number(half, digits)}"


def clean(text: str) -> str:
    """A text in one line: whatever a name holds, no control character stands in a table."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cf") else c for c in text).split())
