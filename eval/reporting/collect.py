"""The scores of many runs as one table; what may stand in it together."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from eval.scoring.files import COLUMNS, PLACE, check_tables, iterate_scores, read_run_scores

log = logging.getLogger(__name__)


class NotComparableError(ValueError):
    """Scores of different requests, or by different networks, are not to be compared."""


def collect(roots: Iterable[Path], metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The scores of many runs, one a row, as `eval.scoring.files.read_run_scores` has them.

    Those of unedited inputs (editor `copy`) and of real pictures (`real`) stand there once for each set of requests. A
    run of editor `copy` stands for the copies that other runs computed of their inputs.
    """
    table = pd.concat([read_run_scores(root, metrics) for root in roots] or [pd.DataFrame(columns=COLUMNS)])
    table = table.drop_duplicates([*PLACE, "run", "set", "variant", "metric", "made_by"])
    keys = pd.MultiIndex.from_frame(table[["benchmark", "backbone", "set", "metric"]])
    is_copy, is_run = table.editor == "copy", table.run != ""
    is_replaced = is_copy & ~is_run & keys.isin(keys[is_copy & is_run])
    table = table[~is_replaced].reset_index(drop=True)
    return table.astype({"is_bound": bool, "higher_is_better": bool})


def find_readable(roots: Iterable[Path]) -> list[Path]:
    """The runs whose scores can be read, with what was measured on each image; the log names what is damaged."""
    whole = []
    for root in roots:
        try:
            for name, scores in iterate_scores(root):
                check_tables(root, name, scores)
            read_run_scores(root)
            whole.append(root)
        except Exception as error:  # of this run alone: the others are shown
            log.error("%s: left out: %s", root, error if isinstance(error, OSError | ValueError) else repr(error))
            log.debug("", exc_info=True)
    return whole


def check_comparable(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores themselves, where they may stand in one table or plot.

    Raises:
        NotComparableError: they are of different requests (another n, benchmark version or settings), or a metric was
            measured by different networks, settings or references; the message names runs of each.
    """
    for column, what in (("version", "versions of the benchmark"), ("n", "n"), ("set", "settings of the benchmark")):
        for benchmark, part in scores.groupby("benchmark"):
            fault = f"{benchmark}: runs of different {what} are not compared"
            refuse_several(part, column, fault, "choose among them by runs=")
    for metric, part in scores.groupby("metric"):
        fault = f"{metric} was measured in different ways"
        refuse_several(part, "made_by", fault, "score these runs again by one of them")
    return scores


def refuse_several(scores: pd.DataFrame, column: str, fault: str, remedy: str) -> None:
    """Refuse more than one value of a column."""
    if scores[column].nunique() < 2:
        return
    lines = []
    for value, part in scores.groupby(column):
        runs = dict.fromkeys(filter(None, part.run))
        lines.append(f"{value}: {', '.join(list(runs)[:3])}")
    raise NotComparableError(f"{fault}; {remedy}:\n  " + "\n  ".join(lines))
