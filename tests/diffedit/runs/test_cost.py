"""What looking after identity and wholeness costs."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import Pictures, unpack_records
from omegaconf import OmegaConf
from PIL import Image

from baselines.bounds import Copy
from diffedit.runs.directory import RunDirectory
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline

SHARE = """
import hashlib, sys, time
from pathlib import Path
import torch
from diffedit.backbones import latent, stable_diffusion
from diffedit.diffedit import DiffEdit
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline
from eval.benchmarks.folder import FolderBenchmark

torch.set_num_threads(1)
spent = []

def watch(owner, name):
    function = getattr(owner, name)
    def watched(*args, **options):
        began = time.thread_time()
        try:
            return function(*args, **options)
        finally:
            spent.append(time.thread_time() - began)
    setattr(owner, name, watched)

watch(hashlib, "file_digest")
watch(hashlib, "sha256")
for name in ("hash_module", "hash_tokenizer", "hash_config", "hash_network_config"):
    watch(latent, name)
began = time.process_time()
backbone = stable_diffusion.StableDiffusion.from_pretrained(sys.argv[1], device="cpu")
settings = RunSettings(ratios=(0.5, 1.0), steps=50, progress=False)
table = Path(sys.argv[2])
run_benchmark(FolderBenchmark(path=str(table)), EditPipeline(DiffEdit()), backbone, table.parent / "run", settings)
print(len(spent), sum(spent), time.process_time() - began)
"""

REQUESTS, RATIOS = 2000, (0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 1.0)


@pytest.fixture(scope="module")
def large(analytic, tmp_path_factory):
    """A finished run of many requests: the files of one, under the names of all."""
    root = tmp_path_factory.mktemp("large")
    settings = RunSettings(ratios=RATIOS, steps=10, progress=False)
    run_benchmark(Pictures(1), EditPipeline(Copy()), analytic, root, settings)
    unpack_records(root)
    record = json.loads((root / "records/0.json").read_text())
    contents = {edit["file"]: (root / edit["file"]).read_bytes() for edit in record["edits"]}
    for i in range(1, REQUESTS):
        text = json.dumps(record).replace("/0.png", f"/{i}.png").replace('"id": "0"', f'"id": "{i}"')
        (root / f"records/{i}.json").write_text(text)
        for file, content in contents.items():
            (root / file.replace("/0.png", f"/{i}.png")).write_bytes(content)
    return root


def test_a_large_run_is_looked_at_in_seconds(analytic, large):
    """2,000 done requests at 7 ratios: every record read, every file's size compared; 5 s at most, of CPU time."""
    config = OmegaConf.to_container(OmegaConf.load(large / "config.yaml"))
    marks = [config.pop(key) for key in ("benchmark_version", "is_bound", "strength_name")]
    run = RunDirectory(large, config, *marks, verify="size")
    began = time.process_time()
    assert list(run.find_pending(Pictures(REQUESTS).requests(16))) == []
    assert time.process_time() - began < 5
    assert len(run.shards) == REQUESTS


@pytest.fixture
def table(tmp_path):
    """Four pictures of 512 x 512 on disk, as many bytes as such photographs have."""
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((512, 512)).save(tmp_path / f"{i}.png")
        assert (tmp_path / f"{i}.png").stat().st_size > 200_000
    lines = [f"{i}.png,a pear,an apple,{i}" for i in range(4)]
    (tmp_path / "edits.csv").write_text("\n".join(["image,target,source,id", *lines]))
    return tmp_path / "edits.csv"


def test_hashing_costs_a_hundredth_of_a_run(table, tiny_folder):
    """Of weights, pictures, edits, masks and maps; in CPU time of one run, loading the model included.

    The model is a tiny one; networks of a real size take a larger part of the time, and leave a smaller one. In a
    process of its own: the types that are checked in tests look at a backbone's fingerprint with every call.
    """
    command = [sys.executable, "-c", SHARE, str(tiny_folder), str(table)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, spent, total = map(float, done.stdout.split())
    assert count >= 4 * (1 + 4) + 4  # a source, two edits, a mask and a map of each; the parts of the model
    assert 0 < spent < 0.01 * total
