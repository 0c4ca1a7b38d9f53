"""What was measured on each picture, as a page reads it: a number for each run, strength and request."""

import base64
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from diffedit.types import UNEDITED, Variant
from eval.reporting.report.sets import RunSet, find_facts
from eval.scoring.files import get_values_path, iterate_scores, read_table
from eval.scoring.finished_run import FinishedRun
from eval.scoring.per_image import list_measured

log = logging.getLogger(__name__)

OF_RECORDS = {"mask_area": None, "evaluations": False, "seconds": False}  # known without a score: which way is better


class Measured(NamedTuple):
    """A number of every picture.

    Attributes:
        higher_is_better: None where neither is.
        values: a row for each strength of each run, and a last one for the unedited inputs; NaN where there is none.
    """

    higher_is_better: bool | None
    values: Float[ndarray, "rows n"]

    def encode(self) -> str:
        """The numbers as a page decodes them: float32, little-endian, in base 64."""
        return base64.b64encode(self.values.astype("<f4").tobytes()).decode()


def measure_set(shown: RunSet) -> tuple[dict[str, Measured], list[str]]:
    """(what was measured, by name, with what the records say; what could not be read, in words)."""
    places = {request.id: i for i, request in enumerate(shown.requests)}
    rows = {strength: j for j, strength in enumerate(shown.strengths)}
    shape = (len(shown.runs) * len(rows) + 1, len(places))
    found: dict[str, Measured] = {}
    problems: list[str] = []

    def get(name: str, higher_is_better: bool | None) -> Float[ndarray, "rows n"]:
        if name not in found:
            found[name] = Measured(higher_is_better, np.full(shape, np.nan))
        return found[name].values

    for k, run in enumerate(shown.runs):
        for name, better, strength, part in read_measured(run, problems):
            row = shape[0] - 1 if strength is None else k * len(rows) + rows[strength]
            columns = part.index.map(places.get)
            known = columns.notna()
            if known.any():
                get(name, better)[row, columns[known].astype(int)] = part.to_numpy(float)[known]
        for name, strength, request, value in read_recorded(run, shown):
            get(name, OF_RECORDS[name])[k * len(rows) + rows[strength], places[request]] = value
    for name, measured in found.items():
        measured.values[~np.isfinite(measured.values)] = np.nan
        log.debug("%s: %d numbers", name, np.isfinite(measured.values).sum())
    return {name: measured for name, measured in found.items() if np.isfinite(measured.values).any()}, problems


def read_measured(run: FinishedRun, problems: list[str]) -> Iterator[tuple[str, bool | None, float | None, pd.Series]]:
    """(name, whether higher is better, strength, values by request) of each score of a run; faults are noted."""
    strengths = {variant.strength for variant in run.variants}
    for path in sorted((run.root / "scores").glob("*.json")):
        try:
            for metric, scores in iterate_scores(run.root, [path.stem]):
                if not get_values_path(run.root, metric).exists():
                    continue
                table = read_table(get_values_path(run.root, metric), scores)
                names = [name for name in list_measured(table) if table[name].dtype != object]
                for text, part in table.groupby("variant", sort=False):
                    strength = Variant.parse(text).strength
                    if strength in strengths or text == str(UNEDITED):
                        for name in names:
                            yield name, scores["higher_is_better"].get(name), strength, part.set_index("id")[name]
        except (OSError, ValueError, KeyError) as error:
            problems.append(str(error))


def read_recorded(run: FinishedRun, shown: RunSet) -> Iterator[tuple[str, float, str, Any]]:
    """(name, strength, request, value) of what the records say."""
    strengths = {str(variant): variant.strength for variant in run.variants}
    for request in shown.requests:
        record = run.records[request.id]
        area, edits = find_facts(record).get("mask_area"), record.get("edits") or ()
        for edit in edits:
            strength = strengths.get(edit["variant"])
            if strength is None:
                continue
            if isinstance(area, int | float):
                yield "mask_area", strength, request.id, area
            if isinstance(count := edit.get("evaluations"), int | float):
                yield "evaluations", strength, request.id, count + (record.get("shared_evaluations") or 0)
            if isinstance(seconds := record.get("seconds"), int | float):
                yield "seconds", strength, request.id, seconds / len(edits)
