"""Methods at equal values of a metric: what is compared at the same edit strength, or the same fidelity."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.table import Table

from eval.reporting.collect import check_comparable
from eval.reporting.tables import name_methods
from eval.scoring.bootstrap import Bootstrap, compare_at
from eval.scoring.per_image import read_pseudo_values

log = logging.getLogger(__name__)

COLUMNS = ["other", "at", "first", "second", "difference", "low", "high", "p", "reached"]


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
        of resamples in which both methods reach the value). No rows, and why in the log, where nothing is comparable.

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
            rows.append((name, value, matched.first, matched.second, *matched.difference, matched.p, matched.reached))
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


def build_comparison_table(comparison: pd.DataFrame, method: str, match: str, metric: str) -> Table:
    """What `compare_at_equal` returned, for a terminal."""
    title = f"{metric} at equal {match}: {method} - other (95 % paired bootstrap)"
    table = Table(title=title, title_justify="left")
    for column in ("other", match, method, "other's", "difference", "low", "high", "p", "resamples that reach it"):
        table.add_column(column, justify="left" if column == "other" else "right")
    for other, at, *numbers, reached in comparison.itertuples(index=False):
        table.add_row(other, f"{at:g}", *(f"{number:.4f}" for number in numbers), f"{reached:.0%}")
    return table
