"""What looking after identity and wholeness costs."""

import json
import time

import pytest
from helpers import Pictures
from omegaconf import OmegaConf

from baselines.bounds import Copy
from diffedit.runs.directory import RunDirectory
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline

REQUESTS, RATIOS = 2000, (0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 1.0)


@pytest.fixture(scope="module")
def large(analytic, tmp_path_factory):
    """A finished run of many requests: the files of one, under the names of all."""
    root = tmp_path_factory.mktemp("large")
    settings = RunSettings(ratios=RATIOS, steps=10, progress=False)
    run_benchmark(Pictures(1), EditPipeline(Copy()), analytic, root, settings)
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
    assert len(run.ids) == REQUESTS
