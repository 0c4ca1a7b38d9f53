"""A table for a paper, made from scores."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge, MinLen

from diffedit.io.checks import settings
from diffedit.types import Variant
from eval.reporting.collect import check_comparable
from eval.reporting.paper_table.best import Verdict, judge
from eval.reporting.paper_table.caption import explain_resamples, find_counts, note_parts, write_caption
from eval.reporting.paper_table.collect_cells import (
    Key,
    Part,
    Parts,
    collect_at_equal,
    collect_at_strengths,
    describe_setting,
    prepare,
)
from eval.reporting.paper_table.description import Cell, Column, ColumnGroup, PaperTable, Row, clean, find_digits
from eval.reporting.paper_table.naming import make_writer, write_name
from eval.reporting.tables import MISSING, list_names, pivot_published

log = logging.getLogger(__name__)

PLACES = ("benchmark", "backbone")  # what tells groups of columns apart
MARKS = ("†", "‡", "§", "¶")  # of published rows, by source


@settings
class TableSettings:
    """What a table shows.

    Attributes:
        rows: every strength of each method (all), one strength (ratio), or equal values of a metric (equal).
        at: of rows=ratio: the strength; None for the only one that there is.
        match: of rows=equal: the metric that is made equal.
        match_at: of rows=equal: its values.
        columns: metrics, a column each in every group as far as it was scored there; None for all.
        group: what a group of columns has in common.
        interval: `half` (± the larger half), `range` or `none`.
        names: how methods, metrics and benchmarks are written, by what they are called here.
        title: begins the caption, instead of a sentence on what the rows are.
        resamples: of the bootstrap over images, for comparisons and for intervals at equal values.
        seed: of the bootstrap.
    """

    rows: Literal["all", "ratio", "equal"] = "all"
    at: float | None = None
    match: str | None = None
    match_at: tuple[float, ...] = ()
    columns: tuple[str, ...] | None = None
    group: Annotated[tuple[Literal["benchmark", "backbone"], ...], MinLen(1)] = ("benchmark", "backbone")
    interval: Literal["half", "range", "none"] = "half"
    names: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    resamples: Annotated[int, Ge(1)] = 5000
    seed: Annotated[int, Ge(0)] = 0


def build_paper_table(
    scores: pd.DataFrame,
    settings: TableSettings,
    published: Mapping[str, pd.DataFrame] | None = None,
    command: str = "",
) -> PaperTable:
    """The table; bold is what a paired comparison, corrected over all of the table, tells apart from others.

    Args:
        scores: as `eval.reporting.collect.collect` or `eval.reporting.seeds.merge_seeds` returns them.
        settings: what it shows.
        published: as `eval.reporting.tables.read_published` returns them, by benchmark.
        command: what makes the table again, for a comment.

    Raises:
        NotComparableError: runs of one group are of different requests, or measured in different ways.
        ValueError: a metric, a strength or a value that nothing has; the message says what there is.
    """
    settings = complete_settings(settings, scores)
    parts = dict(collect_parts(scores, settings))
    refuse_empty(parts, settings, scores)
    verdicts, count = judge([contest for part in parts.values() for *_, contest in part.contests])
    mark_best(parts, verdicts)
    notes = [*note_parts(parts, settings.names), *explain_resamples(count, settings.resamples)]
    if published and settings.rows == "equal":
        notes.append("published values are left out: what they have at equal values is not known")
    else:
        add_published(parts, published or {}, settings)
    sources = mark_sources(parts)
    groups = make_groups(parts, scores, settings)
    rows = list(make_rows(parts, groups, settings.names, sources))
    if any(np.isnan(cell.value) for row in rows for cell in row.cells):
        notes.append(f"{MISSING}: not defined for this method, or not known")
    notes = [*((mark, clean(source)) for source, mark in sources.items()), *(("", clean(note)) for note in notes)]
    setting = name_setting(parts, settings)
    table = PaperTable(groups, rows, setting, [], notes, settings.interval, clean(command))
    return table._replace(caption=write_caption(table, parts, settings, scores, count))


def collect_parts(scores: pd.DataFrame, settings: TableSettings) -> Iterator[tuple[tuple[str, str, str], Part]]:
    """The cells of each group of columns; other requests of the same benchmark are a group of their own."""
    for _, part in scores.groupby([*settings.group, "set"], sort=False):
        first = check_comparable(part).iloc[0]
        prepared, measured = prepare(part, settings.resamples, settings.seed)
        asked = [name for name in settings.columns if name in set(part.metric)]
        write = make_writer(dict(zip(prepared.method, prepared.editor, strict=True)), settings.names)
        if settings.rows == "equal":
            values = list(dict.fromkeys(settings.match_at))
            found = collect_at_equal(prepared, settings.match, values, asked, measured, write)
        else:
            found = collect_at_strengths(prepared, settings.at, asked, measured, write)
        yield (first.benchmark, first.backbone, first.set), found
    counts = scores.groupby(list(settings.group)).set.nunique()
    for place, number in counts[counts > 1].items():
        title = ", ".join(place) if isinstance(place, tuple) else place
        log.warning("%s: %d sets of requests (other n, settings or version), not compared: columns each", title, number)


# --------------------------------------------------------------------------------------------------------------- checks


def complete_settings(settings: TableSettings, scores: pd.DataFrame) -> TableSettings:
    """The settings with what is left to the scores; a ValueError where these have not what is asked for."""
    scored = list(dict.fromkeys(scores.metric))
    listed, at = ", ".join(sorted(scored)), settings.at
    if settings.rows == "equal":
        if settings.match not in scored:
            match = "null" if settings.match is None else settings.match
            raise ValueError(f"match = {match}: rows=equal needs a metric that was scored: {listed}")
        if not settings.match_at:
            raise ValueError(f"match_at = []: rows=equal needs values of {settings.match}, as match_at=[0.1,0.2]")
    if settings.rows == "ratio":
        at = choose_strength(at, sorted(set(scores[~scores.is_bound].strength.dropna())))
    elif at is not None:
        raise ValueError(f"at = {at:g}: of rows=ratio; rows = {settings.rows}")
    columns = [name for name in scored if settings.rows != "equal" or name != settings.match]
    columns = columns if settings.columns is None else list(dict.fromkeys(settings.columns))
    if unknown := [name for name in columns if name not in scored]:
        raise ValueError(f"columns = {', '.join(unknown)}: not scored; there are {listed}")
    if not columns:
        raise ValueError(f"columns = []: a table needs one metric at least, of {listed}")
    return replace(settings, at=at, columns=tuple(columns))


def choose_strength(at: float | None, there: Sequence[float]) -> float:
    """The strength of rows=ratio, of those that methods were run at."""
    listed = ", ".join(f"{strength:g}" for strength in there) or "none"
    if at is None and len(there) != 1:
        raise ValueError(f"at = null: rows=ratio needs one of the strengths that were run: {listed}")
    at = there[0] if at is None else at
    if not np.isclose(there, at, rtol=0, atol=1e-9).any():
        raise ValueError(f"at = {at:g}: no method was run there; there is {listed}")
    return at


def refuse_empty(parts: Parts, settings: TableSettings, scores: pd.DataFrame) -> None:
    """Refuse a table without a method."""
    if any(key.kind == "method" for part in parts.values() for key in part.cells):
        return
    if settings.rows == "equal":
        reasons = [note for part in parts.values() for note in part.notes if note.startswith("not reached")]
        values = ", ".join(f"{at:g}" for at in settings.match_at)
        raise ValueError(f"match_at = {values}: no method has these values of {settings.match}; {'; '.join(reasons)}")
    raise ValueError(f"there is no method among {list_names(sorted(set(scores.editor)))}: bounds alone make no table")


# ----------------------------------------------------------------------------------------------------------------- rows


def mark_best(parts: Parts, verdicts: Iterable[Verdict]) -> None:
    """Flag the cells that are the best, or not told apart from it."""
    verdicts = iter(verdicts)
    for part in parts.values():
        for setting, metric, _ in part.contests:
            verdict = next(verdicts)
            for method in filter(None, [verdict.best, *verdict.tied]):
                cells = part.cells[Key("method", method, setting)]
                flag = {"is_best": True} if method == verdict.best else {"is_tied": True}
                cells[metric] = cells[metric]._replace(**flag)


def add_published(
    parts: Parts,
    published: Mapping[str, pd.DataFrame],
    settings: TableSettings,
) -> None:
    """Put published values below the methods of their benchmark."""
    heads = list(dict.fromkeys(head for part in parts.values() for head in part.heads))
    for benchmark, values in published.items():
        places = [part for key, part in parts.items() if key[0] == benchmark]
        if not places:
            there = ", ".join(dict.fromkeys(key[0] for key in parts))
            raise ValueError(f"published.{benchmark}: there is no such benchmark among the runs; there is {there}")
        sources = {name: "; ".join(dict.fromkeys(part.source)) for name, part in values.groupby("method")}
        for i, row in enumerate(pivot_published(values).to_dict("records")):
            has_ratio = np.isfinite(row["ratio"])
            is_elsewhere = settings.rows == "ratio" and has_ratio and abs(row["ratio"] - settings.at) > 1e-9
            if is_elsewhere:
                continue
            setting = (
                describe_setting(str(Variant(row["ratio"])), heads) if settings.rows == "all" and has_ratio else ""
            )
            found = {name: row[name] for name in settings.columns if np.isfinite(row.get(name, np.nan))}
            for part in places if found else ():
                key = Key("published", row["method"], setting, i)
                part.cells[key] = {name: Cell(value, is_published=True) for name, value in found.items()}
                part.sources[key] = sources[row["method"]]


def mark_sources(parts: Parts) -> dict[str, str]:
    """The mark of each source of published rows."""
    sources = dict.fromkeys(source for part in parts.values() for source in part.sources.values())
    return {source: make_mark(i) for i, source in enumerate(sources)}


def make_mark(number: int) -> str:
    """The mark of a source; each but the last ones alone."""
    return MARKS[number % len(MARKS)] * (1 + number // len(MARKS))


def make_groups(parts: Parts, scores: pd.DataFrame, settings: TableSettings) -> list[ColumnGroup]:
    """The columns of each part: metrics in the order asked for, those without any value left out."""
    names = settings.names
    is_higher = dict(zip(scores.metric, scores.higher_is_better.astype(bool), strict=True))
    places = [dict(zip(PLACES, key, strict=False)) for key in parts]
    titles = [
        ", ".join(write_name(place[name], names) for name in PLACES if name in settings.group) for place in places
    ]
    groups = []
    for (key, part), title in zip(parts.items(), titles, strict=True):
        columns = []
        for metric in settings.columns:
            cells = [cells[metric] for cells in part.cells.values() if metric in cells]
            if cells:
                digits = max(0, *(find_digits(cell) for cell in cells))
                columns.append(Column(metric, write_name(metric, names), is_higher.get(metric), digits))
        if titles.count(title) > 1:  # other requests of the same benchmark
            title += f" ({key[2]}, n = {find_counts(part)})"
        groups.append(ColumnGroup(title, key, columns))
    return [group for group in groups if group.columns]


def make_rows(
    parts: Parts,
    groups: Sequence[ColumnGroup],
    names: Mapping[str, str],
    sources: Mapping[str, str],
) -> Iterator[Row]:
    """Floor and ceiling, methods setting by setting, published values; each in the order of the first that has it."""
    keys = list(dict.fromkeys(key for part in parts.values() for key in part.cells))
    settings = list(dict.fromkeys(key.setting for key in sorted(keys, key=rank_setting)))
    kinds = ("bound", "method", "published")
    keys.sort(key=lambda key: (kinds.index(key.kind), settings.index(key.setting) if key.kind == "method" else 0))
    write = make_writer({name: editor for part in parts.values() for name, editor in part.editors.items()}, names)
    marks = {key: sources[source] for part in parts.values() for key, source in part.sources.items()}
    for key in keys:
        cells = [
            parts[group.key].cells.get(key, {}).get(column.metric, Cell())
            for group in groups
            for column in group.columns
        ]
        if not any(np.isfinite(cell.value) for cell in cells):
            continue
        counts = [len(part.seeds[key.method]) for part in parts.values() if part.seeds.get(key.method)]
        label = clean(key.method) if key.kind == "published" else write(key.method)
        yield Row(key.method, label, key.kind, key.setting, cells, marks.get(key, ""), min(counts, default=None))


def rank_setting(key: Key) -> tuple[str, float]:
    """Settings by rising number, those of one kind of strength side by side."""
    kind, _, number = key.setting.rpartition("=")
    return kind, float(number) if number else -np.inf


def name_setting(parts: Parts, settings: TableSettings) -> str:
    """The head of the column of settings; "" where they are no column."""
    found = {key.setting for part in parts.values() for key in part.cells if key.kind == "method"}
    if settings.rows == "equal":
        return write_name(settings.match, settings.names) if len(found) > 1 else ""
    heads = list(dict.fromkeys(head for part in parts.values() for head in part.heads))
    if settings.rows == "ratio" or found == {""}:
        return ""
    return heads[0] if len(heads) == 1 else "strength"
