"""Scores of run directories: every metric once, kept beside the run; nothing is computed again that is there.

scores/<metric>.json           figures, intervals, n, what they were made with; of the edits, of the unedited inputs
                               (`copy`) and of as many real pictures (`real`: the floor of a distance to a set)
scores/<metric>.parquet        a row per request and ratio: what was measured, and each image's share in the figures
scores/<metric>_classes.parquet  a row per ratio and class, where the metric is class by class
metrics.json, scores.parquet   all figures, one a row (`eval.report`)
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any

import pandas as pd

from diffedit.environment import environment
from diffedit.files import located, write
from diffedit.runs import request_facts
from eval.facts import Facts, image_table, measure, read_facts, whole, write_table
from eval.features import FeatureStore
from eval.gallery import Gallery
from eval.metrics import Metric, Scope
from eval.reference import References
from eval.statistics import Draws, Shares


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
    """

    cache: Path
    reference: Path | None = None
    resamples: int = 1000
    batch: int = 64
    threads: int = 2
    seed: int = 0

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
        for path in sorted(located(self.reference).glob("*.safetensors")):
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
    gallery = Gallery(root, settings.store)
    gallery.check()
    keys = {name: key(gallery, metric, settings) for name, metric in metrics.items()}
    kept = {name: said(root, name) for name in metrics}
    figures_key = [settings.resamples, settings.seed]
    todo = {n: m for n, m in metrics.items() if kept[n].get("key") != keys[n] or kept[n]["draws"] != figures_key}
    if not todo:
        return []
    labels = [request.label for request in gallery.requests]
    about = (gallery.benchmark, name_of(gallery), gallery.resolution, tuple(labels), settings.cache, settings.reference)
    references = References(*about, settings.batch, settings.threads)
    scope, draws = Scope(gallery.requests, references), draws_for(labels, settings)
    fresh = {n: m for n, m in todo.items() if kept[n].get("key") != keys[n]}
    reasons, facts = measure(gallery, {n: m for n, m in fresh.items() if m.reads == "pictures"}, settings.batch)
    for name, metric in todo.items():
        if metric.reads == "features":
            reasons[name], facts[name] = whole(gallery, metric, scope.references)
        elif name not in fresh:
            reasons[name], facts[name] = kept[name]["undefined"], read_facts(root / "scores" / f"{name}.parquet")
        write_scores(gallery, name, metric, facts[name], reasons.get(name), scope, draws, keys[name], figures_key)
    return list(todo)


def draws_for(labels: Sequence[str], settings: Settings) -> Draws:
    """The resamples of a set: class by class where it has classes."""
    return Draws(len(labels), list(labels) if all(labels) else None, settings.resamples, settings.seed)


def write_scores(
    gallery: Gallery, name: str, metric: Metric, facts: Facts, reason: str | None, scope: Scope, draws: Draws,
    key: str, figures_key: list[int],
) -> None:  # fmt: skip
    """The figures of one metric, and what they are made of."""
    folder, shares = gallery.root / "scores", {ratio: metric.figures(found, scope) for ratio, found in facts.items()}
    real, absent = floor(metric, facts, scope)
    told = {"key": key, "draws": figures_key, "undefined": reason, "better": dict(metric.better)}
    told["rows"] = [row for ratio in facts if ratio is not None for row in rows(ratio, shares[ratio], draws)]
    told["copy"] = rows(None, shares[None], draws) if None in facts else []
    told |= {"real": rows(None, real, draws), "real_missing": absent}
    told |= {"made_by": made_by(metric, scope), "benchmark": name_of(gallery), "version": gallery.benchmark.version}
    told |= {"n": len(gallery.requests), "environment": environment()}
    image_table(gallery, facts, shares, folder / f"{name}.parquet")
    if hasattr(metric, "table"):
        parts = {ratio: metric.table(found, scope) for ratio, found in facts.items() if ratio is not None}
        if parts := [part.assign(ratio=ratio) for ratio, part in parts.items() if part is not None]:
            write_table(pd.concat(parts), folder / f"{name}_classes.parquet")
    write(folder / f"{name}.json", json.dumps(told, indent=1).encode())


def rows(ratio: float | None, shares: Mapping[str, Shares], draws: Draws) -> list[dict[str, Any]]:
    """Figures with their intervals; None for what is not defined."""
    found = []
    for name, each in shares.items():
        numbers = draws.figure(each)._asdict()
        numbers = {key: None if math.isnan(number) else number for key, number in numbers.items()}
        found.append({"ratio": ratio, "metric": name, **numbers, "n": draws.n})
    return found


def floor(metric: Metric, facts: Facts, scope: Scope) -> tuple[dict[str, Shares], str | None]:
    """The figures of real pictures, for a distance to a set; or why there are none."""
    if not hasattr(metric, "floor") or not facts:
        return {}, None
    found, reason = metric.floor(scope)
    return ({}, reason) if found is None else (metric.figures(found, scope), None)


def made_by(metric: Metric, scope: Scope) -> str:
    """Names what decides a figure beside the edits: network, settings, reference."""
    if not hasattr(metric, "reference") or scope.references.missing():
        return metric.fingerprint()
    folder = scope.references.folder
    return f"{metric.fingerprint()}-{metric.reference(scope).hash if folder else 'own'}"


def name_of(gallery: Gallery) -> str:
    """Names the set of requests: the benchmark with its settings."""
    told = json.dumps([gallery.config["benchmark"], gallery.benchmark.version], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def key(gallery: Gallery, metric: Metric, settings: Settings) -> str:
    """Names everything that decides the facts: metric, weights, reference, requests, and the content of the edits."""
    told = [metric.fingerprint(), name_of(gallery), gallery.ratios]
    told += [settings.reference_hash] if hasattr(metric, "reference") else []
    told += [[request.id, request_facts(request), request.label] for request in gallery.requests]
    told += [gallery.hashes(ratio) for ratio in gallery.ratios]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def said(root: Path, name: str) -> dict[str, Any]:
    """What was written of a metric; nothing where it was not scored."""
    path = root / "scores" / f"{name}.json"
    return json.loads(path.read_bytes()) if path.is_file() else {}


# -------------------------------------------------------------------------------------------------------------- runs


def find(pattern: str) -> list[Path]:
    """The run directories of a glob; a FileNotFoundError where there is none."""
    roots = [Path(path) for path in sorted(glob(pattern)) if (Path(path) / "config.yaml").is_file()]
    if not roots:
        raise FileNotFoundError(f"runs = {pattern}: no run directory there; make one by scripts/run.py")
    return roots


def names(root: Path) -> dict[str, str]:
    """What the place of a run says of it: benchmark, backbone, editor, and what was overridden."""
    return dict(zip(("benchmark", "backbone", "editor", "name"), root.resolve().parts[-4:], strict=True))


def per_image(root: Path, figure: str) -> pd.DataFrame:
    """One figure of a run: a row for each request (indexed by id and label), a column for each ratio, in order.

    Raises:
        KeyError: no metric of this run has it.
    """
    for path in sorted((root / "scores").glob("*.json")):
        if figure in json.loads(path.read_bytes()).get("better", ()):
            whole = pd.read_parquet(path.with_suffix(".parquet")).dropna(subset="ratio")
            if figure in whole:
                return (
                    whole.pivot(index=["id", "label"], columns="ratio", values=figure).sort_index().sort_index(axis=1)
                )
    raise KeyError(f"{root}: nothing measured {figure} on each image (scripts/score.py)")
