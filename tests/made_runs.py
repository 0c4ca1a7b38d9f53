"""Run directories as `diffedit run` leaves them, made up without a network."""

import hashlib
import json
import math
import os
import time

import pandas as pd
import yaml

from diffedit.io.tables import encode_table
from diffedit.runs.cut import Cut, get_shard_path, write_cut
from diffedit.runs.shards import encode_shard
from diffedit.types import UNEDITED, Variant
from eval.scoring.bootstrap import SHARES, Bootstrap, estimate_mean
from eval.scoring.files import FORMAT, get_scores_path, get_values_path, stamp_table

RATIOS = [0.5, 1.0]


def read_files(root):
    """Every file below a folder, by its name there, with its content."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def write_record(root, name, error=None, size=100):
    """The pictures of a request, whose bytes are made up, in a run directory; returns its record."""
    record = {"id": name, "status": "failed" if error else "done", "source": "apple", "target": "pear", "origin": name}
    record |= {"error": error, "seconds": 0.5, "shared_evaluations": 2, "edits": [], "mask": None, "map": None}
    record |= {"metadata": {}, "files": {}, "sources": {}}
    if error:
        return record
    variants = [Variant(ratio) for ratio in RATIOS]
    record["mask"], record["map"] = f"masks/{name}.png", f"maps/{name}.npy"
    for file in (*(f"images/{variant.folder}/{name}.png" for variant in variants), record["mask"], record["map"]):
        data = hashlib.shake_256(file.encode()).digest(size)
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(data)
        record["files"][file] = {"size": size, "sha256": hashlib.sha256(data).hexdigest()}
    for variant in variants:
        file = f"images/{variant.folder}/{name}.png"
        edit = {"variant": str(variant), "level": 2, "evaluations": 3, "file": file}
        record["edits"].append(edit | {"sha256": record["files"][file]["sha256"]})
    return record


def write_run(root, requests=6, size=2, packed=3, loose=0, errors=None, **note):
    """A run directory as `run` leaves it, without a network: shards whose file is there, then records beside them.

    `errors` has those of the requests that failed, by number; `note` is what the shards say of who edited them.
    """
    config = {"ratios": RATIOS, "seed": 0, "benchmark": {"_target_": "x"}, "benchmark_version": "1", "format": 5}
    (root / "records").mkdir(parents=True)
    (root / "config.yaml").write_text(yaml.safe_dump(config | {"strength_name": "ratio", "is_bound": False}))
    (root / "environment.json").write_text("{}")
    names = [f"r{i}" for i in range(requests)]
    write_cut(root, Cut.of(names, size))
    errors = {f"r{i}": error for i, error in (errors or {}).items()}
    for number in range(packed):
        records = [write_record(root, name, errors.get(name)) for name in names[number * size :][:size]]
        who = {"host": "far", "node": "node1", "process": 7, "began": 1.0, "shard": number}
        when = {"since": 1000.0 + 60 * number, "ended": 1060.0 + 60 * number}
        variants = [Variant(ratio) for ratio in RATIOS]
        get_shard_path(root, number).write_bytes(encode_shard(records, variants, 0, who | when | note))
    for name in names[packed * size :][:loose]:
        (root / f"records/{name}.json").write_text(json.dumps(write_record(root, name, errors.get(name))))
    return root


def write_claim(path, age=0.0, **fields):
    """The claim of a process of another host, which touched it so many seconds ago."""
    holder = {"host": "far", "node": "node1", "process": 7, "began": 1.0, "since": 1000.0, "token": "x"} | fields
    path.write_text(json.dumps(holder))
    then = time.time() - age
    os.utime(path, (then, then))


def write_scored_run(root, scores, is_bound=False, requests="s1", seed=0, made_by="-0123456789abcdef-side64", n=None):
    """A run directory whose scores say what they are given, without a picture.

    Args:
        root: .../benchmark/backbone/editor/name.
        scores: of a metric: (whether more is better, what was measured on each image by strength); an array without a
            strength is that of the unedited inputs.
        is_bound: whether it is a floor or a ceiling.
        requests: names their set.
        seed: of the run.
        made_by: behind the metric's name.
        n: as the scores have it, where that is another number than of images.
    """
    (root / "scores").mkdir(parents=True)
    strengths = [s for _, measured in scores.values() for s in measured if s is not None]
    config = {"seed": seed, "is_bound": is_bound, "benchmark": {"_target_": "x"}, "benchmark_version": "1", "format": 5}
    config |= {"ratios": sorted(set(strengths)), "strength_name": "ratio"}
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    for metric, (is_higher, measured) in scores.items():
        bootstrap = Bootstrap(len(next(iter(measured.values()))), resamples=200)
        tables, rows = [], {"rows": [], "copy": []}
        for strength, values in measured.items():
            variant = UNEDITED if strength is None else Variant(strength)
            interval = bootstrap.interval(estimate_mean(values), metric in SHARES)._asdict()
            numbers = {key: None if math.isnan(number) else number for key, number in interval.items()}
            row = {"variant": str(variant), "metric": metric, "n": n or len(values)}
            rows["rows" if strength is not None else "copy"].append(row | numbers)
            ids = {"id": [f"r{i}" for i in range(len(values))], "label": "", "variant": str(variant)}
            tables.append(pd.DataFrame(ids | {metric: values}))
        table = encode_table(pd.concat(tables))
        get_values_path(root, metric).write_bytes(table)
        content = {"format": FORMAT, "key": "k", "made_by": metric + made_by, "benchmark": requests, "version": "1"}
        content |= {"draws": [], "real": [], "higher_is_better": {metric: is_higher}, "environment": {}}
        content |= {"n": n or bootstrap.n, "undefined": None, "real_missing": None}
        content |= {"files": {f"{metric}.parquet": stamp_table(table)}}
        get_scores_path(root, metric).write_text(json.dumps(content | rows))
    return root
