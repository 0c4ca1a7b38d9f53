"""What is measured on each image: in one pass over the pictures, or from kept features; and the table of it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from tqdm.auto import tqdm

from diffedit.io.cache import forget_batches
from diffedit.types import UNEDITED, EditRequest, Variant
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate
from eval.scoring.files import get_values_path, iterate_scores, read_table
from eval.scoring.finished_run import FinishedRun
from eval.scoring.metric import Metric

Values = dict[str, ndarray]  # of all images, by name
PSEUDO = "pseudo:"  # before a score's name: each image's pseudo-value, where that is not what was measured on it
NUMBERS = {"strength": float, "value": float}
KEYS = ["id", "label", "variant"]  # columns of the tables of what was measured that hold no values
WIDEST = 16  # numbers of a value that is kept with the scores; longer ones are features, which the store keeps


@runtime_checkable
class Measurable(Protocol):
    """What is measured: a finished run, or two plain folders."""

    root: Path
    requests: list[EditRequest]

    def batches(self, size: int, unedited: bool = False) -> Iterator[Mapping[Variant, Batch]]:
        """All requests, `size` at a time: a batch for each variant, with the same inputs, which are of one shape."""


@torch.no_grad()
def measure(
    run: Measurable, metrics: Mapping[str, Metric], size: int, bar: tqdm | None = None
) -> tuple[dict[str, str | None], dict[str, dict[Variant, Values]]]:
    """(why a metric is not defined here, values by metric, variant and name), in one pass over the pictures.

    Args:
        run: what is measured.
        metrics: by name.
        size: requests in a batch.
        bar: of somebody who measures several in turn; None shows an own one.
    """
    if not metrics:
        return {}, {}
    reasons: dict[str, str | None] = dict.fromkeys(metrics)
    parts, measured = ValuesInParts(), []
    with nullcontext(bar) if bar is not None else show_progress(run) as bar:
        for batches in run.batches(size, unedited=True):
            measured += [request.id for request in next(iter(batches.values())).requests]
            for variant, batch in batches.items():
                for name, metric in metrics.items():
                    reason = metric.undefined_reason(batch)
                    if variant != UNEDITED:
                        reasons[name] = reasons[name] or reason
                    if reason or reasons[name]:
                        continue
                    for key, column in metric.per_image(batch).items():
                        check_values(column, run.root, batch, key)
                        parts.add(name, variant, key, column.numpy())
            bar.update(len(batch.requests))
            forget_batches()
    places = {name: i for i, name in enumerate(measured)}
    return reasons, parts.join(reasons, [places[request.id] for request in run.requests])


class ValuesInParts:
    """What is measured on some images after the others, until it is of all."""

    def __init__(self) -> None:
        self.columns: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))

    def add(self, metric: str, variant: Variant, name: str, column: ndarray) -> None:
        """The values of the next images."""
        self.columns[metric][variant][name].append(column)

    def join(
        self, reasons: Mapping[str, str | None], order: Sequence[int] | None = None
    ) -> dict[str, dict[Variant, Values]]:
        """Of each metric by variant and name; of one that is not defined, for the reason that is given, none.

        Args:
            reasons: why a metric is not defined, by name.
            order: the places at which the images came, in the order that is wanted; None: as they came.
        """
        return {
            metric: {}
            if reason
            else {
                variant: {name: sort(np.concatenate(columns), order) for name, columns in by_name.items()}
                for variant, by_name in self.columns[metric].items()
            }
            for metric, reason in reasons.items()
        }


def sort(column: ndarray, order: Sequence[int] | None) -> ndarray:
    """The values of images in another order."""
    return column if order is None or list(order) == list(range(len(column))) else column[list(order)]


def show_progress(run: Measurable) -> tqdm:
    """A bar over the requests."""
    return tqdm(total=len(run.requests), desc=str(run.root), unit="picture", leave=False)


@torch.no_grad()
def measure_features(
    run: Measurable, metric: Metric, batches: Mapping[Variant, Batch]
) -> Iterator[tuple[Variant, Values]]:
    """(variant, values) of a metric that reads features alone, a variant at a time: they may be many numbers."""
    for variant, batch in batches.items():
        columns = metric.per_image(batch)
        for key, column in columns.items():
            check_values(column, run.root, batch, key)
        yield variant, {key: column.numpy() for key, column in columns.items()}


def check_values(values: torch.Tensor, root: Path, batch: Batch, key: str) -> None:
    """Refuse a NaN by the name of its request."""
    bad = [request.id for request, row in zip(batch.requests, values, strict=True) if row.isnan().any()]
    if bad:
        raise ValueError(f"{root}: {key} is NaN at {batch.variant} for {', '.join(bad[:10])}")


def make_table(
    run: FinishedRun, values: Mapping[Variant, Values], scores: Mapping[Variant, Mapping[str, Estimate]]
) -> pd.DataFrame:
    """One row per request and variant: what was measured on an image, and its pseudo-values of scores."""
    shared = {
        "id": [request.id for request in run.requests],
        "label": [request.label for request in run.requests],
    }
    parts = [pd.DataFrame(shared | {"variant": ""})[:0]]
    for variant, measured in values.items():
        columns = {name: list(column) if column.ndim > 1 else column for name, column in measured.items()}
        for name, (_, pseudo_values) in scores[variant].items():
            if pseudo_values is not None and not np.array_equal(pseudo_values, measured.get(name, ())):
                columns[f"{PSEUDO}{name}"] = pseudo_values
        parts.append(pd.DataFrame(shared | {"variant": str(variant)} | columns))
    return pd.concat(parts)


def drop_features(values: Mapping[str, ndarray]) -> Values:
    """The values that are kept with the scores."""
    return {name: column for name, column in values.items() if np.prod(column.shape[1:]) <= WIDEST}


def read_values(root: Path, name: str, scores: Mapping[str, Any]) -> dict[Variant, Values]:
    """What a metric measured on each image, by variant and name, from the table beside its scores."""
    return split_values(read_table(get_values_path(root, name), scores))


def split_values(table: pd.DataFrame) -> dict[Variant, Values]:
    """What was measured on each image, by variant and name, of a table of all variants."""
    values = {}
    for variant, part in table.groupby("variant", sort=False):
        columns = part[list_measured(part)].dropna(axis=1, how="all")
        values[Variant.parse(variant)] = {
            name: np.stack(column) if column.dtype == object else column.to_numpy() for name, column in columns.items()
        }
    return values


def list_measured(table: pd.DataFrame) -> list[str]:
    """The columns of what was measured on an image."""
    return [name for name in table if name not in KEYS and not name.startswith(PSEUDO)]


def read_all_values(root: Path) -> pd.DataFrame:
    """What every metric of a run measured on each image, a number a row; no rows where nothing is measured.

    Columns: id, label, variant, strength (NaN: none, of unedited inputs), metric, name, value. Vectors are left out.
    """
    parts = [pd.DataFrame(columns=[*KEYS, "strength", "metric", "name", "value"]).astype(NUMBERS)]
    for metric, scores in iterate_scores(root):
        if (path := get_values_path(root, metric)).exists():
            table = read_table(path, scores)
            names = [name for name in list_measured(table) if table[name].dtype != object]
            strengths = {text: Variant.parse(text).strength for text in table.variant.unique()}
            long = table.melt(KEYS, names, "name", "value").dropna(subset="value")
            parts.append(long.assign(strength=long.variant.map(strengths), metric=metric).astype(NUMBERS))
    return pd.concat(parts, ignore_index=True)


def read_pseudo_values(root: Path, name: str) -> pd.DataFrame:
    """Each image's pseudo-values in a score of a run.

    Returns:
        A row for each request (index: id, label), in order; a column for each strength.

    Raises:
        KeyError: no metric of this run has this score.
    """
    for metric, scores in iterate_scores(root):
        if name in scores["higher_is_better"]:
            table = read_table(get_values_path(root, metric), scores)
            column = next((column for column in (f"{PSEUDO}{name}", name) if column in table), None)
            if column:
                table = table[table.variant != str(UNEDITED)]
                table = table.assign(strength=[Variant.parse(text).strength for text in table.variant])
                order = table[["id", "label"]].drop_duplicates()
                pivoted = table.pivot(index=["id", "label"], columns="strength", values=column).sort_index(axis=1)
                return pivoted.loc[pd.MultiIndex.from_frame(order)]
            if note := scores.get("notes", {}).get(name):
                raise KeyError(f"{root}: {name} has {note}")
    raise KeyError(f"{root}: nothing measured {name} on each image (diffedit score)")
