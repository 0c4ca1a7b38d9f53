"""Scores of run directories: every metric once, kept beside the run; nothing is computed again that is there."""

import hashlib
import io
import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from diffedit.environment import environment
from diffedit.files import write
from diffedit.runs import request_facts
from eval.features import HasReference, ReferenceSet
from eval.gallery import Batch, Gallery
from eval.metrics import Metric, Scope
from eval.statistics import Draws

log = logging.getLogger(__name__)


def score(root: Path, metrics: Mapping[str, Metric], cache: Path, resamples: int = 1000, batch: int = 64) -> list[str]:
    """Score one run; returns the metrics that were computed now.

    Each metric writes `scores/<name>.json` (figures with their intervals, n, and what they were made with) and
    `scores/<name>.parquet` (what was measured on each image).

    Args:
        root: the run directory.
        metrics: by name.
        cache: folder for reference sets.
        resamples: of the bootstrap.
        batch: images in a network call.

    Raises:
        IncompleteRunError: the run misses edits.
    """
    gallery = Gallery(root)
    gallery.check()
    keys = {name: key(gallery, metric, resamples) for name, metric in metrics.items()}
    todo = {name: metric for name, metric in metrics.items() if kept(root, name) != keys[name]}
    if not todo:
        return []
    reasons, facts = measure(gallery, todo, batch)
    labels = [request.label for request in gallery.requests]
    draws = Draws(len(labels), labels if all(labels) else None, resamples)
    scope = Scope(gallery.requests, draws, reference(gallery, cache))
    for name, metric in todo.items():
        rows = []
        for ratio in gallery.ratios if name not in reasons else []:
            for figure, value in metric.figures(facts[name][ratio], scope).items():
                numbers = {key: None if math.isnan(each) else each for key, each in value._asdict().items()}
                rows.append({"ratio": ratio, "metric": figure, **numbers, "n": len(labels)})
        table(gallery, facts[name], root / "scores" / f"{name}.parquet")
        said = {"key": keys[name], "undefined": reasons.get(name), "better": dict(metric.better), "rows": rows}
        said |= {"made_by": metric.fingerprint(), "benchmark": name_of(gallery), "environment": environment()}
        write(root / "scores" / f"{name}.json", json.dumps(said, indent=1).encode())
    return list(todo)


def reference(gallery: Gallery, cache: Path) -> ReferenceSet | None:
    """The benchmark's reference pictures, where it has some."""
    if not isinstance(gallery.benchmark, HasReference):
        return None
    return ReferenceSet(gallery.benchmark, name_of(gallery), gallery.resolution, cache)


def name_of(gallery: Gallery) -> str:
    """Names the set of requests: the benchmark with its settings."""
    told = json.dumps([gallery.config["benchmark"], gallery.benchmark.version], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def key(gallery: Gallery, metric: Metric, resamples: int) -> str:
    """Names everything that decides a figure: metric, weights, requests, resampling, and the content of the edits."""
    told = [metric.fingerprint(), resamples, name_of(gallery), gallery.ratios]
    told += [[request.id, request_facts(request), request.label] for request in gallery.requests]
    told += [gallery.hashes(ratio) for ratio in gallery.ratios]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def kept(root: Path, name: str) -> str | None:
    """The key of the figures that are there."""
    path = root / "scores" / f"{name}.json"
    return json.loads(path.read_bytes())["key"] if path.is_file() else None


@torch.no_grad()
def measure(
    gallery: Gallery, metrics: Mapping[str, Metric], size: int
) -> tuple[dict[str, str], dict[str, dict[float, dict[str, np.ndarray]]]]:
    """(why a metric is not defined here, facts by metric, ratio and name), in one pass over the pictures."""
    reasons: dict[str, str] = {}
    parts: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    with tqdm(total=len(gallery.requests), desc=str(gallery.root), unit="picture", leave=False) as bar:
        for batches in gallery.batches(size):
            for ratio, batch in batches.items():
                for name, metric in metrics.items():
                    if name in reasons:
                        continue
                    if reason := metric.missing(batch):
                        reasons[name] = reason
                        continue
                    for fact, values in metric.facts(batch).items():
                        check(values, gallery.root, batch, ratio, fact)
                        parts[name][ratio][fact].append(values.numpy())
            bar.update(len(batch.requests))
    whole = {
        name: {ratio: {fact: np.concatenate(each) for fact, each in found.items()} for ratio, found in by_ratio.items()}
        for name, by_ratio in parts.items()
        if name not in reasons
    }
    return reasons, defaultdict(dict, whole)


def check(values: torch.Tensor, root: Path, batch: Batch, ratio: float, fact: str) -> None:
    """Refuse a NaN by the name of its request."""
    bad = [request.id for request, row in zip(batch.requests, values, strict=True) if row.isnan().any()]
    if bad:
        raise ValueError(f"{root}: {fact} is NaN at ratio {ratio:g} for {', '.join(bad[:10])}")


def table(gallery: Gallery, facts: Mapping[float, Mapping[str, np.ndarray]], path: Path) -> None:
    """One row per request and ratio, a column for each number measured on an image."""
    shared = {"id": [each.id for each in gallery.requests], "label": [each.label for each in gallery.requests]}
    parts = [
        pd.DataFrame(shared | {"ratio": ratio} | {name: each for name, each in found.items() if each.ndim == 1})
        for ratio, found in facts.items()
    ]
    data = io.BytesIO()
    (pd.concat(parts) if parts else pd.DataFrame(shared)).to_parquet(data, index=False)
    write(path, data.getvalue())


def find(pattern: str) -> list[Path]:
    """The run directories of a glob; a FileNotFoundError where there is none."""
    roots = [Path(path) for path in sorted(glob(pattern)) if (Path(path) / "config.yaml").is_file()]
    if not roots:
        raise FileNotFoundError(f"runs = {pattern}: no run directory there; make one by scripts/run.py")
    return roots


def names(root: Path) -> dict[str, str]:
    """What the place of a run says of it: benchmark, backbone, editor, and what was overridden."""
    return dict(zip(("benchmark", "backbone", "editor", "name"), root.resolve().parts[-4:], strict=True))


def collect(roots: Iterable[Path], metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The figures of many runs, one a row.

    Columns: benchmark, backbone, editor, name and run (its place), set (requests: runs of another set are not to be
    compared), ratio, metric, value, low, high, n, better.
    """
    rows, makers = [], defaultdict(set)
    for root in roots:
        for path in sorted((root / "scores").glob("*.json")):
            if metrics is not None and path.stem not in metrics:
                continue
            said = json.loads(path.read_bytes())
            makers[path.stem].add(said["made_by"])
            shared = names(root) | {"run": str(root), "set": said["benchmark"]}
            rows += [shared | row | {"better": said["better"][row["metric"]]} for row in said["rows"]]
    for name, made_by in makers.items():
        if len(made_by) > 1:
            log.warning("%s was measured by %s: not comparable, score again", name, " and ".join(sorted(made_by)))
    columns = ["benchmark", "backbone", "editor", "name", "run", "set"]
    table = pd.DataFrame(rows, columns=[*columns, "ratio", "metric", "value", "low", "high", "n", "better"])
    return table.astype(dict.fromkeys(("ratio", "value", "low", "high"), float))


def per_image(root: Path, fact: str) -> pd.DataFrame:
    """One fact of a run: a row for each request (indexed by id and label), a column for each ratio, in order.

    Raises:
        KeyError: no metric of this run measured it on each image.
    """
    for path in sorted((root / "scores").glob("*.parquet")):
        whole = pd.read_parquet(path)
        if fact in whole:
            return whole.pivot(index=["id", "label"], columns="ratio", values=fact).sort_index().sort_index(axis=1)
    raise KeyError(f"{root}: nothing measured {fact} on each image (scripts/score.py)")
