"""Scores of run directories: every metric once, kept beside the run; nothing is computed again that is there."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, partial
from glob import glob
from pathlib import Path
from typing import Any

import pandas as pd

from diffedit.io.files import resolve_path, sweep, write
from diffedit.io.images import get_path
from diffedit.io.tables import encode_table
from diffedit.runs.directory import identify_request
from diffedit.runs.environment import describe_environment
from diffedit.types import UNEDITED, Variant
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import SHARES, Bootstrap, Estimate
from eval.scoring.features import FeatureStore
from eval.scoring.files import (
    FORMAT,
    check_tables,
    explain_gaps,
    find_outdated,
    get_scores_path,
    get_values_path,
    read_scores,
    stamp_table,
    write_run_scores,
)
from eval.scoring.finished_run import FinishedRun, stamp_files
from eval.scoring.metric import Metric, MetricContext
from eval.scoring.parts import Parts, count_measured, remove_parts
from eval.scoring.per_image import Values, drop_features, make_table, measure_features, read_values
from eval.scoring.reference import Reference, References
from eval.scoring.run_features import RunFeatures

log = logging.getLogger("score")

EXPLAINED = (OSError, ValueError, RuntimeError)  # errors whose text says what is wrong


@dataclass(frozen=True)
class Settings:
    """How runs are scored.

    Attributes:
        cache: folder of features and reference statistics, shared by all runs.
        reference: folder of `diffedit reference-stats`; None takes the benchmark's own pictures.
        resamples: of the bootstrap.
        batch: images in a network call.
        threads: that decode.
        seed: of the bootstrap.
        resolution: to which pictures are brought before they are measured; None measures them as they are.
    """

    cache: Path
    reference: Path | None = None
    resamples: int = 1000
    batch: int = 64
    threads: int = 2
    seed: int = 0
    resolution: int | None = None

    def __post_init__(self) -> None:
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"resolution = {self.resolution}: pixels are wanted, or null for that of the edits")

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


def find_runs(pattern: str) -> list[Path]:
    """The run directories of a glob; a FileNotFoundError where there is none."""
    roots = [Path(path) for path in sorted(glob(pattern)) if os.path.lexists(Path(path) / "config.yaml")]
    if not roots:
        raise FileNotFoundError(f"runs = {pattern}: no run directory there; make one by diffedit run")
    return roots


def score_runs(roots: Sequence[Path], metrics: Mapping[str, Metric], settings: Settings) -> list[Path]:
    """Score run after run; returns those that are scored: one that cannot be is named in the log, and left out."""
    scored = []
    sweep(settings.cache)
    for root in roots:
        try:
            sweep(root / "scores")
            fresh = score(root, metrics, settings)
            if outdated := find_outdated(root):
                if not fresh:
                    log.info("%s: not what the scores say: written anew", ", ".join(map(str, outdated)))
                write_run_scores(root)
            scored.append(root)
            log.info("%s: %s", root, ", ".join(fresh) or "all there")
            for sentence in explain_gaps(root, list(metrics)):
                log.info("  %s", sentence)
        except Exception as error:  # of this run alone: the others are scored
            log.error("%s: not scored: %s", root, error if isinstance(error, EXPLAINED) else repr(error))
            log.debug("", exc_info=True)
    return scored


def score(root: Path, metrics: Mapping[str, Metric], settings: Settings) -> list[str]:
    """Score one run; returns the metrics that were computed now.

    Args:
        root: the run directory.
        metrics: by name.
        settings: how.

    Raises:
        IncompleteRunError: the run misses edits.
        ValueError: a value is NaN, or the run is not what its benchmark asks for; the message names the request.
    """
    run = FinishedRun(root, settings.resolution)
    run.check()
    if isinstance(run.config.get("weights"), str):
        log.info("%s: note: it was edited by a release that hashed a few of its weights only", root)
    keys = {name: hash_inputs(run, metric, settings) for name, metric in metrics.items()}
    past = {name: read_past_scores(root, name) for name in metrics}
    draws = [settings.resamples, settings.seed]
    to_measure = {name for name in metrics if past[name].get("key") != keys[name]}
    to_score = {name: metrics[name] for name in metrics if name in to_measure or past[name]["draws"] != draws}
    if not to_score:
        return []
    context, batches, reasons = prepare(run, to_score, settings)
    of_pictures = {
        name: metric for name, metric in to_score.items() if name in to_measure and metric.input_kind == "pictures"
    }
    parts = Parts(run, settings.batch, partial(hash_inputs, settings=settings))
    if count := count_measured(root):
        log.info("%s: %d of %d parts were measured ahead", root, count, len(parts))
    picture_reasons, values = parts.measure(of_pictures)
    reasons |= picture_reasons
    bootstrap = Bootstrap.of_labels([request.label for request in run.requests], settings.resamples, settings.seed)
    for name, metric in to_score.items():
        if metric.input_kind == "features":
            measured = () if reasons[name] else measure_features(run, metric, batches)
        elif name in to_measure:
            measured = values[name].items()
        else:
            measured = read_values(root, name, past[name]).items()
            reasons[name] = past[name]["undefined"]
        header = {"format": FORMAT, "key": keys[name], "draws": draws, "undefined": reasons[name]}
        write_scores(run, name, metric, measured, context, bootstrap, header)
    remove_parts(root, list(of_pictures))
    return list(to_score)


def prepare(
    run: FinishedRun, metrics: Mapping[str, Metric], settings: Settings
) -> tuple[MetricContext, dict[Variant, Batch], dict[str, str | None]]:
    """(context, batches without pictures, why a metric of features is not defined), before any work.

    Raises:
        FileNotFoundError: statistics are named by `reference`, and a metric that is defined has none among them.
    """
    references = make_references(run, settings)
    batches = RunFeatures(run, settings.store).batches(references)
    reasons: dict[str, str | None] = {}
    for name, metric in metrics.items():
        if metric.input_kind == "features":
            reasons[name] = metric.undefined_reason(batches[run.variants[0]])
        if metric.uses_reference and not reasons[name] and references.folder:
            for network in metric.networks:
                references.find_file(network)
            warn_of_inputs(run, metric.reference(MetricContext(run.requests, references)))
    return MetricContext(run.requests, references), batches, reasons


def make_references(run: FinishedRun, settings: Settings) -> References:
    """What gives the statistics of real pictures for a run."""
    return References(
        run.benchmark,
        name_benchmark(run),
        run.resolution,
        tuple(request.label for request in run.requests),
        settings.cache,
        settings.reference,
        settings.batch,
        settings.threads,
    )


def warn_of_inputs(run: FinishedRun, reference: Reference) -> None:
    """Say how many inputs of a run are among the pictures of the statistics that its edits are compared with."""
    paths = [path for request in run.requests if (path := get_path(request.image)) is not None and path.is_file()]
    if count := reference.count_inputs(dict.fromkeys(paths)):
        log.warning(
            "%s: %d inputs are among the pictures of %s, byte for byte, so that distances to it are too small: make it "
            "again by diffedit reference-stats without=, the folder of the inputs",
            *(run.root, count, reference.source),
        )


def write_scores(
    run: FinishedRun,
    name: str,
    metric: Metric,
    measured: Iterable[tuple[Variant, Values]],
    context: MetricContext,
    bootstrap: Bootstrap,
    header: Mapping[str, Any],
) -> None:
    """Write the scores of one metric below what identifies them, and what they are made of."""
    values, scores, class_tables = {}, {}, []
    for variant, columns in measured:
        values[variant] = drop_features(columns)
        scores[variant] = metric.aggregate(columns, context)
        if variant != UNEDITED and (table := metric.class_table(columns, context)) is not None:
            class_tables.append(table.assign(variant=str(variant), strength=variant.strength))
    real, real_missing = score_real_images(metric, context) if values else ({}, None)
    rows = {variant: make_rows(variant, estimates, bootstrap) for variant, estimates in scores.items()}
    content = {
        **header,
        "higher_is_better": dict(metric.higher_is_better),
        "copy": rows.pop(UNEDITED, []),
        "rows": [row for of_variant in rows.values() for row in of_variant],
        "real": make_rows(UNEDITED, real, bootstrap),
        "real_missing": real_missing,
        "notes": metric.notes(context) if values else {},
        "made_by": name_maker(metric, context, run) if values else metric.fingerprint(),
        "parts": list_parts(metric),
        "benchmark": name_requests(run),
        "version": run.benchmark.version,
        "n": len(run.requests),
        "environment": describe_environment(),
    }
    path = get_values_path(run.root, name)
    tables = {path: make_table(run, values, scores)}
    if class_tables:
        tables[path.with_name(f"{name}_classes.parquet")] = pd.concat(class_tables)
    encoded = {path: encode_table(table) for path, table in tables.items()}
    content["files"] = {path.name: stamp_table(data) for path, data in encoded.items()}
    for path, data in encoded.items():
        write(path, data)
    write(get_scores_path(run.root, name), json.dumps(content, indent=1).encode())


def make_rows(variant: Variant, scores: Mapping[str, Estimate], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Scores with their intervals; None for what is not defined."""
    rows = []
    for name, estimate in scores.items():
        numbers = bootstrap.interval(estimate, name in SHARES)._asdict()
        numbers = {key: None if math.isnan(number) else number for key, number in numbers.items()}
        rows.append({"variant": str(variant), "metric": name, **numbers, "n": bootstrap.n})
    return rows


def score_real_images(metric: Metric, context: MetricContext) -> tuple[Mapping[str, Estimate], str | None]:
    """The scores of real pictures, for a distance to a set; or why there are none."""
    values, reason = metric.real_images(context)
    return ({}, reason) if values is None else (metric.aggregate(values, context), None)


def read_past_scores(root: Path, name: str) -> dict[str, Any]:
    """What was written of a metric; empty where it was not scored, or, with a warning, where its files are damaged."""
    path = get_scores_path(root, name)
    if not path.exists():
        return {}
    try:
        scores = read_scores(path)
        if scores:
            check_tables(root, name, scores)
    except OSError as error:
        log.warning("%s: %s is computed again", error, name)
        return {}
    return scores


# ------------------------------------------------------------------------------------------------------------ identity


def name_maker(metric: Metric, context: MetricContext, run: FinishedRun) -> str:
    """Names what decides a score beside the edits: network, settings, resolution, reference."""
    name = f"{metric.fingerprint()}-side{run.resolution}"
    if not metric.uses_reference:
        return name
    if context.references.folder:
        return f"{name}-{metric.reference(context).hash}"
    version = run.benchmark.reference_version
    return f"{name}-own" if version == "1" else f"{name}-own-{version}"


def list_parts(metric: Metric) -> list[dict[str, str]]:
    """The metric, its distance and its networks, as a config names them: class, and settings that are texts.

    By these `diffedit cite` knows whose work a score is.
    """
    parts = []
    for part in filter(None, [metric, getattr(metric, "distance", None), *metric.networks]):
        names = [field.name for field in fields(part)] if is_dataclass(part) else []
        texts = {name: value for name in names if isinstance(value := getattr(part, name), str)}
        parts.append({"_target_": f"{type(part).__module__}.{type(part).__qualname__}"} | texts)
    return parts


def name_benchmark(run: FinishedRun) -> str:
    """Names the benchmark with its settings, whatever it asks for."""
    return hash_json([pick_settings(run), run.benchmark.version])[:8]


def name_requests(run: FinishedRun) -> str:
    """Names the set of requests: the benchmark with its settings, and what it asks for."""
    requests = [[request.id, identify_request(request), request.label] for request in run.requests]
    return hash_json([pick_settings(run), run.benchmark.version, requests])[:8]


def pick_settings(run: FinishedRun) -> dict[str, Any]:
    """Of the benchmark, as far as set: one that came later, and is not, makes no other set of requests."""
    settings = {name: value for name, value in run.config["benchmark"].items() if value is not None}
    if isinstance(resize := settings.get("resize"), Mapping):
        settings["resize"] = {name: value for name, value in resize.items() if value is not None}
    return settings


def hash_inputs(run: FinishedRun, metric: Metric, settings: Settings) -> str:
    """Names everything that decides the values: metric, weights, reference, requests, and the content of the edits."""
    identity = [metric.fingerprint(), name_requests(run), list(map(str, run.variants)), run.resolution]
    if metric.uses_reference:
        identity += [settings.reference_hash]
        identity += [run.benchmark.reference_version] if run.benchmark.reference_version != "1" else []
    identity += [stamp_files(request) for request in run.requests]
    identity += [run.hashes(variant) for variant in run.variants] + [run.other_hash]
    return hash_json(identity)


def hash_json(value: Any) -> str:
    """Names a value of plain containers."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
