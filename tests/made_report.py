"""Scored runs with pictures that can be looked at, made up without a network: what a page is made of."""

import hashlib
import io
import json
import os

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from diffedit.io.files import quote_file_name
from diffedit.runs.cut import Cut, get_shard_path, write_cut
from diffedit.runs.shards import encode_shard
from diffedit.types import UNEDITED, Variant
from eval.scoring.files import write_run_scores

METRICS = {"lpips": False, "accuracy": True}
WORDS = ("apples", "pears", "plums", "lemons", "grapes")
GREY = 60  # of a picture's upper half; below is what tells an edit apart


def encode(pixels, format="PNG"):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format)
    return data.getvalue()


def paint(side, colour, size=0.6):
    """A square of a colour before two greys."""
    pixels = np.full((side, side, 3), GREY, np.uint8)
    pixels[side // 2 :] = 180
    low, high = int(side * (1 - size) / 2), int(side * (1 + size) / 2)
    pixels[low:high, low:high] = colour
    return pixels


def make_benchmark(folder, count, side=16, ids=None, targets=None, sources=None):
    """A table of pictures; returns the requests' ids."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = ids or [f"r{i:04}" for i in range(count)]
    targets = targets or [f"a bowl of {WORDS[(i + 1) % len(WORDS)]} on a table" for i in range(count)]
    sources = sources or [f"a bowl of {WORDS[i % len(WORDS)]} on a table" for i in range(count)]
    names = []
    for i in range(min(count, 40)):
        names.append(folder / f"{i}.png")
        names[-1].write_bytes(encode(paint(side, (200, 40 + 5 * i, 30))))
    rows = {"image": [names[i % len(names)].name for i in range(count)], "target": targets, "source": sources}
    pd.DataFrame(rows | {"id": ids}).to_csv(folder / "edits.csv", index=False)
    return ids


def make_run(
    root, benchmark, ids, ratios, seed=0, side=16, errors=None, flags=None, masks=False, scores=METRICS, **more
):
    """A finished run of a benchmark that `make_benchmark` made; returns its directory.

    Args:
        root: of the run; its last folders name benchmark, backbone, editor and the run itself.
        benchmark: folder of that benchmark.
        ids: of its requests.
        ratios: of the run.
        seed: of its made-up scores and colours.
        side: of its pictures.
        errors: why requests failed, by place.
        flags: of masks, by place.
        masks: whether it has masks and maps.
        scores: metrics, and whether higher is better; none for a run that is not scored.
        more: of its config.
    """
    errors, flags, variants = errors or {}, flags or {}, [Variant(ratio) for ratio in ratios]
    (root / "records").mkdir(parents=True)
    target = {"_target_": "eval.benchmarks.folder.FolderBenchmark", "path": str(benchmark / "edits.csv")}
    config = {"benchmark": target, "editor": {"_target_": "baselines.sdedit.SDEdit"}, "ratios": list(ratios)}
    config |= {"steps": 10, "seed": 0, "benchmark_version": "1", "is_bound": False, "strength_name": "ratio"}
    config |= {"format": 5, "weights": {"unet": "abc"}} | more
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    (root / "environment.json").write_text(json.dumps({"git": "f00", "packages": {"torch": "2"}}))
    pool = [Pool(root, i, side, seed, variants, masks) for i in range(min(len(ids), 20))]
    records = [pool[i % len(pool)].record(name, i, errors.get(i), flags.get(i, "")) for i, name in enumerate(ids)]
    size = 200
    write_cut(root, Cut.of(ids, size))
    note = {"host": "x", "node": "x", "process": 1, "began": 1.0, "since": 1.0, "ended": 2.0}
    for number, start in enumerate(range(0, len(ids), size)):
        data = encode_shard(records[start : start + size], variants, 0, note | {"shard": number})
        get_shard_path(root, number).write_bytes(data)
    if scores:
        write_scores(root, ids, variants, scores, seed)
    return root


class Pool:
    """Some pictures, which many requests have: files that are linked cost no time."""

    def __init__(self, root, number, side, seed, variants, masks):
        self.root, self.variants = root, variants
        mask = np.zeros((side, side), np.uint8)
        mask[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 255
        shades = {v: (40 + seed * 30 % 200, int(60 + 150 * (v.strength or 0)), 90 + number * 7 % 160) for v in variants}
        contents = {f"images/{v.folder}": (encode(paint(side, shade)), ".png") for v, shade in shades.items()}
        if masks:
            contents["masks"] = encode(mask), ".png"
            data = io.BytesIO()
            np.save(data, np.random.default_rng(number).random((8, 8)).astype(np.float32))
            contents["maps"] = data.getvalue(), ".npy"
        self.contents = {
            folder: (data, ending, hashlib.sha256(data).hexdigest()) for folder, (data, ending) in contents.items()
        }
        self.first = {}

    def put(self, folder, name):
        """A file of this folder for a request; returns its name in the run."""
        data, ending, _ = self.contents[folder]
        path = self.root / folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder in self.first:
            os.link(self.first[folder], path)
        else:
            path.write_bytes(data)
            self.first[folder] = path
        return path.relative_to(self.root).as_posix()

    def record(self, request, i, error, flag):
        """What the run says of a request."""
        name = quote_file_name(request)
        record = {"id": request, "status": "failed" if error else "done", "source": None, "target": "", "origin": ""}
        record |= {"error": error, "seconds": 0.5, "shared_evaluations": 2, "edits": [], "mask": None, "map": None}
        record |= {"metadata": {}, "files": {}, "sources": {}}
        if error:
            return record
        for variant in self.variants:
            file, sha256 = self.put(f"images/{variant.folder}", name), self.contents[f"images/{variant.folder}"][2]
            edit = {"variant": str(variant), "level": 2, "evaluations": 3, "file": file, "sha256": sha256}
            record["edits"].append(edit)
        if "masks" in self.contents:
            record["mask"], record["map"] = self.put("masks", name), self.put("maps", name)
            record["metadata"] = {"mask_area": 0.25, "mask_flag": flag}
        return record


def write_scores(root, ids, variants, metrics, seed, n=None):
    """Scores of a run as `diffedit score` writes them."""
    (root / "scores").mkdir(exist_ok=True)
    draw = np.random.default_rng(seed)
    for metric, higher in metrics.items():
        rows, parts = [], []
        for variant in (*variants, UNEDITED):
            strength = variant.strength or 0.0
            values = np.clip(strength * 0.6 + draw.normal(0, 0.15, len(ids)) + 0.02 * seed, 0, 1)
            values = np.round(values) if metric == "accuracy" else values
            parts.append(pd.DataFrame({"id": ids, "label": "", "variant": str(variant), metric: values}))
            value, half = float(values.mean()), float(2 * values.std() / len(ids) ** 0.5)
            row = {"variant": str(variant), "metric": metric, "value": value, "low": value - half, "high": value + half}
            rows.append(row | {"n": n or len(ids)})
        pd.concat(parts).to_parquet(root / "scores" / f"{metric}.parquet", index=False)
        copies = [row | {"value": 0.0, "low": 0.0, "high": 0.0} for row in rows[-1:]]
        told = {"format": 3, "key": "k", "made_by": f"{metric}-1", "benchmark": "s", "version": "1", "draws": []}
        told |= {"rows": rows[:-1], "copy": copies, "real": [], "higher_is_better": {metric: higher}, "notes": {}}
        told |= {"environment": {}, "n": n or len(ids), "undefined": None, "real_missing": None}
        (root / "scores" / f"{metric}.json").write_text(json.dumps(told))
    write_run_scores(root)
