"""What is measured on each image: in one pass over the pictures, or from kept features; and the table of it."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from diffedit.io.files import write
from diffedit.io.tables import table_bytes
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate
from eval.scoring.finished_run import FinishedRun
from eval.scoring.metric import Metric

Facts = dict[float | None, dict[str, np.ndarray]]  # by ratio (None: of the unedited inputs) and name
PSEUDO = "pseudo:"  # before a figure's name: each picture's share in it, where that is not what was measured on it
WIDEST = 16  # numbers of a fact that is kept with the scores; longer ones are features, which the store keeps


@torch.no_grad()
def measure(
    gallery: FinishedRun, metrics: Mapping[str, Metric], size: int
) -> tuple[dict[str, str | None], dict[str, Facts]]:
    """(why a metric is not defined here, facts by metric, ratio and name), in one pass over the pictures."""
    reasons: dict[str, str | None] = dict.fromkeys(metrics)
    parts: dict[str, Any] = {name: defaultdict(lambda: defaultdict(list)) for name in metrics}
    if not metrics:
        return {}, {}
    with tqdm(total=len(gallery.requests), desc=str(gallery.root), unit="picture", leave=False) as bar:
        for batches in gallery.batches(size, copies=True):
            for ratio, batch in batches.items():
                for name, metric in metrics.items():
                    reason = metric.undefined_reason(batch)
                    if ratio is not None:
                        reasons[name] = reasons[name] or reason
                    if reason or reasons[name]:
                        continue
                    for fact, values in metric.per_image(batch).items():
                        check(values, gallery.root, batch, fact)
                        parts[name][ratio][fact].append(values.numpy())
            bar.update(len(batch.requests))
    whole = {
        name: {ratio: {fact: np.concatenate(each) for fact, each in found.items()} for ratio, found in by_ratio.items()}
        for name, by_ratio in parts.items()
    }
    return reasons, {name: {} if reasons[name] else found for name, found in whole.items()}


@torch.no_grad()
def kept_facts(
    gallery: FinishedRun, metric: Metric, batches: Mapping[float | None, Batch]
) -> Iterator[tuple[Any, dict]]:
    """(ratio, facts) of a metric that reads features alone, a ratio at a time: they are kept, and may be many."""
    for ratio, batch in batches.items():
        values = metric.per_image(batch)
        for fact, each in values.items():
            check(each, gallery.root, batch, fact)
        yield ratio, {fact: each.numpy() for fact, each in values.items()}


def check(values: torch.Tensor, root: Path, batch: Batch, fact: str) -> None:
    """Refuse a NaN by the name of its request."""
    bad = [request.id for request, row in zip(batch.requests, values, strict=True) if row.isnan().any()]
    if bad:
        raise ValueError(f"{root}: {fact} is NaN at ratio {batch.ratio:g} for {', '.join(bad[:10])}")


def image_table(gallery: FinishedRun, facts: Facts, shares: Mapping[Any, Mapping[str, Estimate]], path: Path) -> None:
    """One row per request and ratio (NaN: unedited): what was measured on an image, and its shares in figures."""
    shared = {"id": [each.id for each in gallery.requests], "label": [each.label for each in gallery.requests]}
    parts = [pd.DataFrame(shared | {"ratio": float("nan")})[:0]]
    for ratio, found in facts.items():
        columns = {name: list(each) if each.ndim > 1 else each for name, each in found.items()}
        for name, each in shares[ratio].items():
            if each.images is not None and not np.array_equal(each.images, found.get(name, ())):
                columns[f"{PSEUDO}{name}"] = each.images
        parts.append(pd.DataFrame(shared | {"ratio": float("nan") if ratio is None else ratio} | columns))
    write_table(pd.concat(parts), path)


def slim(facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The facts that are kept with the scores."""
    return {name: each for name, each in facts.items() if np.prod(each.shape[1:]) <= WIDEST}


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Whole or not at all."""
    write(path, table_bytes(table))


def read_facts(path: Path) -> Facts:
    """The facts of an image table."""
    found: Facts = {}
    table = pd.read_parquet(path)
    for ratio, part in table.groupby("ratio", dropna=False, sort=False):
        kept = [name for name in part if name not in ("id", "label", "ratio") and not name.startswith(PSEUDO)]
        columns = part[kept].dropna(axis=1, how="all")
        values = {
            name: np.stack(column) if column.dtype == object else column.to_numpy() for name, column in columns.items()
        }
        found[None if math.isnan(ratio) else ratio] = values
    return found
