"""Methods at equal values of a metric: what is compared at the same edit strength, or the same fidelity."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from eval.reporting.collect import check_comparable
from eval.reporting.tables import MISSING, WIDTH, FittedTable, fold, make_table, name_methods, shorten_names
from eval.scoring.bootstrap import Bootstrap, compare_at
from eval.scoring.per_image import read_pseudo_values

log = logging.getLogger(__name__)

COLUMNS = ["other", "at", "first", "second", "difference", "low", "high", "p", "reached", "range", "other_range", "n"]
LONGEST_HEAD = 20  # characters of a method's name above its column


def compare_at_equal(
    scores: pd.DataFrame,
    method: str,
    match: str,
    match_at: Sequence[float],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """A metric of one method and of each other one where both have the same value of a matched metric.

    Args:
        scores: as `eval.reporting.collect.collect` returns them, of one benchmark and backbone; what was measured on
            each image is read from the runs that they name.
        method: the one, as `eval.reporting.tables.name_methods` calls it.
        match: the matched metric.
        match_at: its values.
        metric: the compared one.
        resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Returns:
        A row for each other method and value: other, at (the value), first and second (the compared metric of the
        method and of the other one), difference (first - second) with its interval (low, high) and p, reached (share
        of resamples in which both methods reach the value), range and other_range (values of the matched metric that
        the method and the other one have, from its smallest strength on), n (images). No rows, and why in the log,
        where nothing is comparable.

    Raises:
        NotComparableError: the runs are of different requests, or measured in different ways.
    """
    scores = check_comparable(scores[scores.metric.isin((match, metric)) & (scores.run != "")])
    methods = dict(read_methods(scores[~scores.is_bound], (match, metric)))
    if method not in methods:
        log.info("nothing to compare: method=%s is none of %s", method, ", ".join(methods) or "those that were scored")
        return pd.DataFrame(columns=COLUMNS)
    first = methods.pop(method)
    index = first[0].index
    bootstrap = Bootstrap.of_labels(list(index.get_level_values("label")), resamples, seed)
    rows = []
    for name, second in methods.items():
        pair = [tuple(table.reindex(index).to_numpy() for table in tables) for tables in (first, second)]
        for value in match_at:
            matched = compare_at(*pair, value, bootstrap)
            numbers = matched.first, matched.second, *matched.difference, matched.p, matched.reached
            rows.append((name, value, *numbers, *(find_range(matched) for matched, _ in pair), len(index)))
    return pd.DataFrame(rows, columns=COLUMNS)


def read_methods(
    scores: pd.DataFrame, metrics: tuple[str, str]
) -> Iterator[tuple[str, tuple[pd.DataFrame, pd.DataFrame]]]:
    """(method, each image's pseudo-values in both metrics) of each method that has them; the log names the others."""
    for method, root in dict(zip(name_methods(scores), scores.run, strict=True)).items():
        try:
            yield method, tuple(read_pseudo_values(Path(root), metric) for metric in metrics)
        except KeyError as error:
            log.info("not compared: %s", error)


def find_range(matched: Float[ndarray, "n strengths"]) -> tuple[float, float]:
    """The mean at the smallest strength, and what lies farthest from it."""
    means = matched.mean(0)
    return float(means[0]), float(max(means, key=lambda mean: abs(mean - means[0])))


def build_comparison_table(
    comparison: pd.DataFrame, method: str, match: str, metric: str, width: int = WIDTH, title: str = ""
) -> FittedTable:
    """What `compare_at_equal` returned, for a terminal; what cannot be compared is said below, and is no row."""
    labels = shorten_names(comparison.other)
    notes = [f"{label}: {name}" for name, label in labels.items() if label != name]
    notes += explain_gaps(comparison, method, match)
    rows = [
        (labels[row.other], f"{row.at:g}", f"{row.first:.3f}", f"{row.second:.3f}", *format_difference(row))
        for row in comparison.itertuples()
        if pd.notna(row.difference)
    ]
    name = method if len(method) <= LONGEST_HEAD else "method"
    what = f"{metric} at equal {match}: {method} minus the other (95 % paired bootstrap)"
    title = f"{title}: {what}" if title else what
    heads = ("other", match, name, "other's", "difference", "interval", "p")
    table = make_table(heads, rows) if rows else None
    return FittedTable(fold(title, width), table, [fold(note, width) for note in notes])


def format_difference(row: Any) -> tuple[str, str, str]:
    """Difference, interval and p of a row of `compare_at_equal`."""
    if pd.isna(row.low):
        return f"{row.difference:+.3f}", MISSING, MISSING
    return f"{row.difference:+.3f}", f"[{row.low:+.3f}, {row.high:+.3f}]", f"{row.p:.3f}"


def explain_gaps(comparison: pd.DataFrame, method: str, match: str) -> list[str]:
    """Why there is no difference, or no interval of it, at some values; a sentence for each other method."""
    sentences = []
    for other, part in comparison.groupby("other", sort=False):
        if not (gaps := part[part.difference.isna()]).empty:
            (low, high), (other_low, other_high) = gaps.iloc[0][["range", "other_range"]]
            sentences.append(
                f"{other}: nothing to compare at {match} {list_values(gaps['at'])}: over the strengths of these runs "
                f"{method} goes from {low:.2g} to {high:.2g}, {other} from {other_low:.2g} to {other_high:.2g}"
            )
        if not (gaps := part[part.difference.notna() & part.low.isna()]).empty:
            sentences.append(
                f"{other}: no interval at {match} {list_values(gaps['at'])}: {gaps.reached.min():.0%} of the resamples "
                f"reach it for both, and {Bootstrap.level:.0%} are needed (more pictures, or strengths farther out)"
            )
    return sentences


def list_values(values: Iterable[float]) -> str:
    """Numbers, with commas."""
    return ", ".join(f"{value:g}" for value in values)


def describe_difference(row: Any, method: str, match: str, phrase: tuple[str, str], unit: str = "") -> str:
    """One row of `compare_at_equal` in a sentence that follows from its interval.

    Args:
        row: of `DataFrame.itertuples`.
        method: the one that others are compared with.
        match: the matched metric in words, as "an accuracy".
        phrase: what it says that the metric is smaller, and that it is larger, with `{method}`, `{other}` and `{by}`.
        unit: of the difference, behind the number.
    """
    start, pair = f"At {match} of {row.at:g} ", f"{method} and {row.other}"
    if pd.isna(row.difference):
        return f"{start}there is nothing to compare: not both of {pair} have it."
    if pd.isna(row.low):
        return f"{start}nothing can be said of {pair}: n = {row.n} is too few for an interval."
    if row.low <= 0 <= row.high:
        between = f"[{row.low:+.2f}, {row.high:+.2f}]{unit}"
        return f"{start}no difference can be seen between {pair} at n = {row.n}: it lies in {between}."
    low, high = sorted((abs(row.low), abs(row.high)))
    digits = 2 if low >= 0.01 else 4  # an interval that ends above 0 should not be printed as if it held 0
    by = f"{abs(row.difference):.{digits}f}{unit} [{low:.{digits}f}, {high:.{digits}f}], n = {row.n}"
    return start + phrase[row.difference > 0].format(method=method, other=row.other, by=by) + "."
