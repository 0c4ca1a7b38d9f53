"""Tables of the page from files of values: one row a number there, `|` and `---` here."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from figure_parts.recipe import Column, Recipe, Table

NONE = "–"  # where there is no number
UNKNOWN = re.compile(rf" ± {NONE}| \[{NONE}, {NONE}\]|, p {NONE}")  # an interval that nobody knows is left out


class Number(float):
    """A number that is written with a minus, and nothing for NaN."""

    def __format__(self, form: str) -> str:
        return NONE if np.isnan(self) else format(float(self), form).replace("-", "−")


class Values:
    """What a file says of one metric in one cell; its columns by name, and `half` of its interval."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row

    def __getattr__(self, name: str) -> Any:
        if name == "half":
            return Number((self.row["high"] - self.row["low"]) / 2)
        if name.startswith("_") or name not in self.row:
            raise AttributeError(f"no column {name}; there are {', '.join(map(str, self.row))} and half")
        value = self.row[name]
        return Number(value) if isinstance(value, int | float) else value

    def __format__(self, form: str) -> str:
        return format(self.value, form)


def read_values(recipe: Recipe, table: Table) -> pd.DataFrame:
    """The rows of its files that count; a ValueError names the file that has no such column."""
    parts = []
    for file in [table.file] if isinstance(table.file, str) else table.file:
        path = recipe.folder / file
        part = pd.read_csv(path)
        for column, wanted in table.where.items():
            if column not in part:
                raise ValueError(f"{path}: where: no column {column}; there are {', '.join(part)}")
            part = part[part[column].isin(wanted if isinstance(wanted, list) else [wanted])]
        parts.append(part)
    values = merge_bounds(pd.concat(parts, ignore_index=True))
    if values.empty:
        raise ValueError(f"{recipe.folder}: {table.file}: no row with {table.where}")
    return values if "metric" in values else values.assign(metric="value")


def merge_bounds(values: pd.DataFrame) -> pd.DataFrame:
    """Floor and ceiling, which are the same at each strength, once and without one."""
    if "is_bound" not in values:
        return values
    bounds = (
        values[values.is_bound].assign(strength=np.nan).drop_duplicates(["benchmark", "backbone", "editor", "metric"])
    )
    return pd.concat([values[~values.is_bound], bounds], ignore_index=True)


def name_values(column: Column, values: pd.Series) -> pd.Series:
    """What its values are called, as an ordered category; missing where a row is left out."""
    if column.find is not None:
        values = values.astype(str).str.extract(column.find, flags=re.ASCII)[0].fillna("")
    if column.names is None:
        known = [value for value in dict.fromkeys(values) if pd.notna(value) and value != ""]
        labels = {value: column.form.format(value) for value in known}
    else:
        labels = column.names
    return values.map(labels).astype(pd.CategoricalDtype(list(dict.fromkeys(labels.values())), ordered=True))


def fill(template: str, rows: pd.DataFrame) -> str:
    """A cell: the template with the metrics that its rows have (`any`: the only one); empty where one is missing."""
    metrics = {row["metric"]: Values(row) for row in rows.to_dict("records")}
    if len(metrics) == 1:
        metrics["any"] = next(iter(metrics.values()))
    if len(metrics) - ("any" in metrics) < len(rows):
        raise ValueError(
            f"{template}: several rows have one metric: {rows.to_dict('records')[:2]}; take more of `rows`"
        )
    try:
        return UNKNOWN.sub("", template.format(**metrics))
    except KeyError:
        return ""


def render_table(recipe: Recipe, table: Table) -> str:
    """The table in Markdown."""
    values = read_values(recipe, table)
    keys = [name_values(column, values[column.column]).rename(head) for head, column in table.rows.items()]
    if table.across is not None:
        keys.append(name_values(table.across, values[table.across.column]).rename("across"))
    grid = pd.concat([*keys, values.drop(columns=[key.name for key in keys], errors="ignore")], axis=1)
    grid = grid.dropna(subset=[key.name for key in keys])
    heads = list(table.rows)
    if table.across is None:
        columns = list(table.cells)
        cells = {label: {c: fill(t, part) for c, t in table.cells.items()} for label, part in group(grid, heads)}
    else:
        columns = list(keys[-1].dtype.categories)
        (template,) = table.cells.values()
        cells = {
            label: {across[0]: fill(template, rows) for across, rows in group(part, ["across"])}
            for label, part in group(grid, heads)
        }
    columns = [column for column in columns if any(found.get(column) for found in cells.values())]
    rows = [(*label, *(found.get(column, "") for column in columns)) for label, found in cells.items()]
    rows = [row for row in rows if any(row[len(heads) :])]
    lines = [(*heads, *columns), *blank_repeats(rows, len(heads))]
    return write_markdown(list(zip(*lines, strict=True)) if table.transpose else lines)


def group(grid: pd.DataFrame, columns: Sequence[str]) -> Iterable[tuple[tuple[str, ...], pd.DataFrame]]:
    """The rows of each combination of labels that there is, in the order of the labels."""
    return grid.groupby(list(columns), observed=True, sort=True)


def blank_repeats(rows: Sequence[tuple[str, ...]], heads: int) -> list[tuple[str, ...]]:
    """The rows, with the first of several labels left out where it stands right above."""
    if heads < 2:
        return list(rows)
    above = [("",) * (heads - 1), *(row[: heads - 1] for row in rows)]
    return [
        ("",) * (heads - 1) + row[heads - 1 :] if row[: heads - 1] == before else row
        for row, before in zip(rows, above, strict=False)
    ]


def write_markdown(lines: Sequence[Sequence[str]]) -> str:
    """Heads, a rule, rows."""
    head, *rows = lines
    rule = ["---"] * len(head)
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rows))
