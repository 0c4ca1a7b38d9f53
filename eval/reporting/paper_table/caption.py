"""What is said above and below a table: n, seeds, what intervals and bold mean, what is missing and why."""

import logging
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from eval.reporting.compare import SIGNIFICANT, round_up
from eval.reporting.paper_table.collect_cells import Part, Parts
from eval.reporting.paper_table.description import PaperTable, clean
from eval.reporting.paper_table.naming import make_writer, write_name
from eval.reporting.tables import list_names

if TYPE_CHECKING:
    from eval.reporting.paper_table.build import TableSettings

log = logging.getLogger(__name__)

SIDE = re.compile(r"-side(\d+)")  # in what made a score: the side of the pictures that were measured
HASH = re.compile(r"(?<![\w])[0-9a-f]{12,}(?![\w])")  # of a network


def find_counts(part: Part) -> str:
    """How many pictures the scores of a part are of."""
    counts = sorted({cell.n for cells in part.cells.values() for cell in cells.values() if cell.n is not None})
    return " or ".join(map(str, counts))


def note_parts(parts: Parts, names: Mapping[str, str]) -> Iterator[str]:
    """What is to be said of the cells, with the benchmark's name in front where there are several."""
    for key, part in parts.items():
        start = f"{write_name(key[0], names)}: " if len(parts) > 1 else ""
        write, unknown = make_writer(part.editors, names), {}
        for _, metric, contest in part.contests:
            for method in contest.values:
                if not contest.is_testable(method):
                    unknown.setdefault(write(metric), []).append(write(method))
        notes = part.notes + [
            f"{metric}: not compared, as nothing was measured on each picture: {list_names([*dict.fromkeys(methods)])}"
            for metric, methods in unknown.items()
        ]
        yield from (f"{start}{note}" for note in notes)


def explain_resamples(count: int, resamples: int) -> list[str]:
    """That resamples are too few for so many comparisons; nothing where they are not."""
    if not count or count / (1 + resamples) <= SIGNIFICANT:
        return []
    needed = round_up(count / SIGNIFICANT)
    text = f"{resamples} resamples cannot tell any two methods apart after {count} comparisons"
    log.warning("%s: resamples=%d, or fewer columns or methods", text, needed)
    return [f"{text}: resamples={needed} would"]


def write_caption(
    table: PaperTable,
    parts: Parts,
    settings: "TableSettings",
    scores: pd.DataFrame,
    count: int,
) -> list[str]:
    """Sentences: what the rows are, n and seeds, what an interval is, what bold says, what else stands there."""
    kinds = {row.kind for row in table.rows}
    sentences = [settings.title.strip() or describe_rows(table, parts, settings), describe_n(table, parts)]
    sentences += [describe_interval(table), describe_bold(table, settings, count)]
    if "bound" in kinds:
        sentences.append("In italics: floor and ceiling, which are compared with nothing")
    if "published" in kinds:
        marks = ", ".join(mark for mark, _ in table.notes if mark)
        sentences.append(f"{marks}: published, so of other pictures or networks, and compared with nothing")
    sentences.append(describe_makers(table, scores))
    return [clean(text if text.endswith((".", "!", "?")) else f"{text}.") for text in filter(None, sentences)]


def describe_rows(table: PaperTable, parts: Parts, settings: "TableSettings") -> str:
    """What the rows are, and of which benchmark."""
    heads = " or ".join(dict.fromkeys(head for part in parts.values() for head in part.heads))
    where = f" on {table.groups[0].title}" if len(table.groups) == 1 else ""
    if settings.rows == "equal":
        values = " or ".join(f"{at:g}" for at in settings.match_at)
        return f"Methods where {write_name(settings.match, settings.names)} is {values}{where}"
    if settings.rows == "ratio":
        return f"Methods at {heads} {settings.at:g}{where}"
    return f"Methods at every {heads}{where}" if table.setting else f"Methods{where}"


def describe_n(table: PaperTable, parts: Parts) -> str:
    """Pictures and seeds."""
    counts = {group.title: find_counts(parts[group.key]) for group in table.groups}
    if len(set(counts.values())) == 1:
        text = f"n = {next(iter(counts.values()))} pictures"
    else:
        text = f"n = {', '.join(f'{n} ({title})' for title, n in counts.items())} pictures"
    seeds = {row.label: row.seeds for row in table.rows if row.kind == "method" and row.seeds}
    by_count = {count: [name for name in seeds if seeds[name] == count] for count in sorted(set(seeds.values()))}
    if len(by_count) == 1:
        return f"{text}, {describe_count(*by_count)}"
    return text + "".join(f"; {describe_count(count)}: {list_names(by_count[count])}" for count in by_count)


def describe_count(seeds: int) -> str:
    """How many seeds."""
    return "one seed" if seeds == 1 else f"means over {seeds} seeds"


def describe_interval(table: PaperTable) -> str:
    """What an interval is; "" where none is shown."""
    has_any = any(np.isfinite(cell.low) for row in table.rows for cell in row.cells)
    if table.interval == "none" or not has_any:
        return ""
    seeds = [row.seeds or 1 for row in table.rows if row.kind == "method"]
    over = "pictures" + (" and seeds" if max(seeds, default=1) > 1 else "")
    kind = f"95 % bootstrap interval over {over}"
    return f"In brackets: the {kind}" if table.interval == "range" else f"±: the larger half of the {kind}"


def describe_bold(table: PaperTable, settings: "TableSettings", count: int) -> str:
    """What bold says, and how that was found."""
    if count == 0:
        return "Nothing is bold, as no two methods could be compared"
    where = "" if not table.setting else " at equal values" if settings.rows == "equal" else f" at each {table.setting}"
    how = f"paired bootstrap over pictures, p ≤ {SIGNIFICANT:g}"
    how += f" after Holm's correction over the {count} pairs that were compared" if count > 1 else ""
    if not any(cell.is_bold for row in table.rows for cell in row.cells):
        return f"Nothing is bold, as no method is told apart from the best of a column{where} ({how})"
    text = f"Bold: the best of a column{where}, where it is told apart from another method ({how})"
    return f"{text}, and every method that is not told apart from it"


def describe_makers(table: PaperTable, scores: pd.DataFrame) -> str:
    """The side of the pictures that were measured, and the networks' hashes; "" where they are not known."""
    shown = [column.metric for column in table.columns]
    makers = scores[scores.metric.isin(shown)].drop_duplicates(["metric", "made_by"])
    sides = sorted({int(side) for text in makers.made_by for side in SIDE.findall(text)})
    labels = {column.metric: column.label for column in table.columns}
    hashes: dict[str, list[str]] = {}
    for row in makers.itertuples():
        for network in HASH.findall(row.made_by):
            hashes.setdefault(network[:8], []).append(labels[row.metric])
    parts = [f"at {' or '.join(map(str, sides))} pixels"] if sides else []
    if len(hashes) == 1:
        parts.append(f"by {next(iter(hashes))}")
    elif hashes:
        parts.append("by " + "; ".join(f"{it} ({', '.join(dict.fromkeys(names))})" for it, names in hashes.items()))
    return f"Measured {' '.join(parts)}{' (hash of the network or reference)' * bool(hashes)}" if parts else ""
