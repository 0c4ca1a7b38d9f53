"""Scores of run directories: every metric once, kept beside the run; nothing is computed again that is there.

scores/<metric>.json           figures, intervals, n, what they were made with; of the edits, of the unedited inputs
                               (`copy`) and of as many real pictures (`real`: the floor of a distance to a set)
scores/<metric>.parquet        a row per request and ratio: what was measured, and each image's share in the figures
scores/<metric>_classes.parquet  a row per ratio and class, where the metric is class by class
metrics.json, scores.parquet   all figures, one a row (`eval.reporting.collect`)
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any

import pandas as pd

from diffedit.io.files import resolve_path, write
from diffedit.runs.directory import request_identity
from diffedit.runs.environment import environment
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Bootstrap, Estimate
from eval.scoring.features import FeatureStore
from eval.scoring.finished_run import FinishedRun, stamp
from eval.scoring.metric import Metric, MetricContext
from eval.scoring.per_image import PSEUDO, image_table, kept_facts, measure, read_facts, slim, write_table
from eval.scoring.reference import References


@dataclass(frozen=True)
class Settings:
    """How runs are scored.

    Attributes:
        cache: folder of features and reference statistics, shared by all runs.
        reference: folder of `scripts/reference_stats.py`; None takes the benchmark's own pictures.
        resamples: of the bootstrap.
        batch: images in a network call.
        threads: that decode.
        seed: of the bootstrap.
        side: to which pictures are brought before they are measured; None measures them as they are.
    """

    cache: Path
    reference: Path | None = None
    resamples: int = 1000
    batch: int = 64
    threads: int = 2
    seed: int = 0
    side: int | None = None

    def __post_init__(self) -> None:
        if self.side is not None and self.side < 1:
            raise ValueError(f"side = {self.side}: pixels are wanted, or null for that of the edits")

    @cached_property
    def store(self) -> FeatureStore:
        """The features on disk."""
        return FeatureStore(self.cache / "features", self.batch, self.threads)

    @cached_property
    def reference_hash(self) -> str | None:
        """Names the statistics of the reference folder."""
        if self.reference is None:
            return None
        digest = hashlib.sha256()
        for path in sorted(resolve_path(self.reference).glob("*.safetensors")):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:16]


def score(root: Path, metrics: Mapping[str, Metric], settings: Settings) -> list[str]:
    """Score one run; returns the metrics that were computed now.

    Args:
        root: the run directory.
        metrics: by name.
        settings: how.

    Raises:
        IncompleteRunError: the run misses edits.
        ValueError: a fact is NaN, or the run is not what its benchmark asks for; the message names the request.
    """
    gallery = FinishedRun(root, settings.store, settings.side)
    gallery.check()
    keys = {name: key(gallery, metric, settings) for name, metric in metrics.items()}
    kept, drawn = {name: said(root, name) for name in metrics}, [settings.resamples, settings.seed]
    fresh = {name for name in metrics if kept[name].get("key") != keys[name]}
    todo = {name: metric for name, metric in metrics.items() if name in fresh or kept[name]["draws"] != drawn}
    if not todo:
        return []
    context, batches, reasons = prepare_all(gallery, todo, settings)
    draws = draws_for([request.label for request in gallery.requests], settings)
    found, facts = measure(
        gallery, {name: todo[name] for name in fresh if todo[name].input_kind == "pictures"}, settings.batch
    )
    for name, metric in todo.items():
        if metric.input_kind == "features":
            measured = () if reasons[name] else kept_facts(gallery, metric, batches)
        elif name in fresh:
            measured, reasons[name] = facts[name].items(), found[name]
        else:
            measured, reasons[name] = read_facts(path_of(root, name)).items(), kept[name]["undefined"]
        told = {"key": keys[name], "draws": drawn, "undefined": reasons[name], "better": dict(metric.higher_is_better)}
        write_scores(gallery, name, metric, measured, context, draws, told)
    return list(todo)


def prepare_all(
    gallery: FinishedRun, metrics: Mapping[str, Metric], settings: Settings
) -> tuple[MetricContext, dict[float | None, Batch], dict[str, str | None]]:
    """(context, batches without pictures, why a metric of features is not defined); a FileNotFoundError before any work.

    That is raised where statistics are named by `reference`, and a metric that is defined has none among them.
    """
    labels = tuple(request.label for request in gallery.requests)
    about = (gallery.benchmark, source_of(gallery), gallery.side, labels, settings.cache, settings.reference)
    references = References(*about, settings.batch, settings.threads)
    batches, reasons = gallery.whole(references), {}
    for name, metric in metrics.items():
        if metric.input_kind == "features":
            reasons[name] = metric.undefined_reason(batches[gallery.ratios[0]])
        if hasattr(metric, "reference") and not reasons[name] and references.folder:
            references.file(metric.extractor)
    return MetricContext(gallery.requests, references), batches, reasons


def draws_for(labels: Sequence[str], settings: Settings) -> Bootstrap:
    """The resamples of a set: class by class where it has classes."""
    return Bootstrap(len(labels), list(labels) if all(labels) else None, settings.resamples, settings.seed)


def write_scores(
    gallery: FinishedRun, name: str, metric: Metric, measured: Iterable[tuple[float | None, dict]], context: MetricContext,
    draws: Bootstrap, told: dict[str, Any],
) -> None:  # fmt: skip
    """The figures of one metric, and what they are made of."""
    facts, shares, classes = {}, {}, []
    for ratio, found in measured:
        facts[ratio], shares[ratio] = slim(found), metric.aggregate(found, context)
        if ratio is not None and hasattr(metric, "table") and (table := metric.table(found, context)) is not None:
            classes.append(table.assign(ratio=ratio))
    real, absent = floor(metric, context) if facts else ({}, None)
    told["rows"] = [row for ratio in facts if ratio is not None for row in rows(ratio, shares[ratio], draws)]
    told["copy"] = rows(None, shares[None], draws) if None in facts else []
    told |= {"real": rows(None, real, draws), "real_missing": absent}
    told |= {
        "made_by": made_by(metric, context, gallery) if facts else metric.fingerprint(),
        "benchmark": name_of(gallery),
    }
    told |= {"version": gallery.benchmark.version, "n": len(gallery.requests), "environment": environment()}
    path = path_of(gallery.root, name)
    image_table(gallery, facts, shares, path)
    if classes:
        write_table(pd.concat(classes), path.with_name(f"{name}_classes.parquet"))
    write(path.with_suffix(".json"), json.dumps(told, indent=1).encode())


def path_of(root: Path, name: str) -> Path:
    """Where what a metric measured on each image lies."""
    return root / "scores" / f"{name}.parquet"


def rows(ratio: float | None, shares: Mapping[str, Estimate], draws: Bootstrap) -> list[dict[str, Any]]:
    """Figures with their intervals; None for what is not defined."""
    found = []
    for name, each in shares.items():
        numbers = draws.figure(each)._asdict()
        numbers = {key: None if math.isnan(number) else number for key, number in numbers.items()}
        found.append({"ratio": ratio, "metric": name, **numbers, "n": draws.n})
    return found


def floor(metric: Metric, context: MetricContext) -> tuple[dict[str, Estimate], str | None]:
    """The figures of real pictures, for a distance to a set; or why there are none."""
    if not hasattr(metric, "floor"):
        return {}, None
    found, reason = metric.floor(context)
    return ({}, reason) if found is None else (metric.aggregate(found, context), None)


def made_by(metric: Metric, context: MetricContext, gallery: FinishedRun) -> str:
    """Names what decides a figure beside the edits: network, settings, side, reference."""
    found = f"{metric.fingerprint()}-side{gallery.side}"
    if not hasattr(metric, "reference"):
        return found
    return f"{found}-{metric.reference(context).hash if context.references.folder else 'own'}"


def source_of(gallery: FinishedRun) -> str:
    """Names the benchmark with its settings, whatever it asks for."""
    told = json.dumps([settings_of(gallery), gallery.benchmark.version], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def name_of(gallery: FinishedRun) -> str:
    """Names the set of requests: the benchmark with its settings, and what it asks for."""
    asked = [[request.id, request_identity(request), request.label] for request in gallery.requests]
    told = json.dumps([settings_of(gallery), gallery.benchmark.version, asked], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def settings_of(gallery: FinishedRun) -> dict[str, Any]:
    """Of the benchmark, as far as set: one that came later, and is not, makes no other set of requests."""
    return {name: value for name, value in gallery.config["benchmark"].items() if value is not None}


def key(gallery: FinishedRun, metric: Metric, settings: Settings) -> str:
    """Names everything that decides the facts: metric, weights, reference, requests, and the content of the edits."""
    told = [metric.fingerprint(), name_of(gallery), gallery.ratios, gallery.side]
    told += [settings.reference_hash] if hasattr(metric, "reference") else []
    told += [stamp(request) for request in gallery.requests]
    told += [gallery.hashes(ratio) for ratio in gallery.ratios] + [gallery.others]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def said(root: Path, name: str) -> dict[str, Any]:
    """What was written of a metric; nothing where it was not scored, or its files are damaged."""
    path = path_of(root, name)
    try:
        return json.loads(path.with_suffix(".json").read_bytes()) if path.is_file() else {}
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


# -------------------------------------------------------------------------------------------------------------- runs


def find(pattern: str) -> list[Path]:
    """The run directories of a glob; a FileNotFoundError where there is none."""
    roots = [Path(path) for path in sorted(glob(pattern)) if (Path(path) / "config.yaml").is_file()]
    if not roots:
        raise FileNotFoundError(f"runs = {pattern}: no run directory there; make one by scripts/run.py")
    return roots


def per_image(root: Path, figure: str) -> pd.DataFrame:
    """Estimate in a figure of a run: a row for each request (index: id, label), in order, a column for each ratio.

    Raises:
        KeyError: no metric of this run has it.
    """
    for path in sorted((root / "scores").glob("*.json")):
        if figure in json.loads(path.read_bytes()).get("better", ()):
            whole = pd.read_parquet(path.with_suffix(".parquet")).dropna(subset="ratio")
            column = next((name for name in (f"{PSEUDO}{figure}", figure) if name in whole), None)
            if column:
                order = whole[["id", "label"]].drop_duplicates()
                table = whole.pivot(index=["id", "label"], columns="ratio", values=column).sort_index(axis=1)
                return table.loc[pd.MultiIndex.from_frame(order)]
    raise KeyError(f"{root}: nothing measured {figure} on each image (scripts/score.py)")
