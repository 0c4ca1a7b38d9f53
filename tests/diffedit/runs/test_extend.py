"""A finished run is extended by strengths and by requests: what is done stays, and the rest is as if asked at once."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from helpers import Pictures, read_run

from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes
from diffedit.mask import ContrastMask
from diffedit.runs.directory import ConfigChangedError
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.runs.plan import plan_benchmark
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import BaseEditor
from eval.reporting.load_run import load_run

NOISES = 3


@dataclass(frozen=True)
class Growing(Pictures):
    """Says that a larger count only adds requests."""

    size_keys = frozenset({"count"})


@pytest.fixture
def edit(analytic, tmp_path):
    """Edits into `root` with these strengths and so many pictures; returns the manifest."""
    pipelines = {
        samples: EditPipeline(DiffEdit(mask=ContrastMask(num_noises=NOISES)), rank=Brightest(), samples=samples)
        for samples in (1, 2)
    }

    def run(name, ratios, count=3, samples=1, seed=0, benchmark=None):
        sizes = BatchSizes(predict=4, encode=1, decode=2, embed=1)
        settings = RunSettings(ratios=ratios, steps=10, seed=seed, batch=sizes, progress=False)
        benchmark = benchmark or Growing(count)
        return run_benchmark(benchmark, pipelines[samples], analytic, tmp_path / name, settings)

    return run


@dataclass(frozen=True)
class Brightest:
    """Ranks samples, differently at different strengths."""

    networks = ()
    needs_mask = False

    def __call__(self, request, images, masks):
        return [float(image.mean()) for image in images]


def read_all(root: Path) -> dict[str, object]:
    """Every file of a run by its name; of records and of the manifest all but seconds."""
    files: dict[str, object] = dict(read_run(root))
    return files | {"table": load_run(root).table.drop(columns="seconds").to_dict("list")}


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (((0.5,), 3), ((0.3, 0.5, 1.0), 3)),
        (((0.5, 1.0), 3), ((0.5, 0.7, 1.0), 3)),
        (((0.5, 1.0), 2), ((0.5, 1.0), 4)),
        (((1.0, 0.4), 2), ((0.8, 0.4, 1.0), 3)),
    ],
)
def test_equal_to_the_bit_to_a_run_that_had_all_from_the_start(edit, tmp_path, first, then, samples):
    before = edit("extended", *first, samples=samples)
    after = edit("extended", *then, samples=samples)
    edit("whole", *then, samples=samples)
    assert len(after) > len(before)
    assert read_all(tmp_path / "extended") == read_all(tmp_path / "whole")


def test_what_is_done_is_not_made_again(edit, tmp_path, caplog):
    edit("run", (0.5, 1.0))
    pictures = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/images").rglob("*.png")}
    caplog.set_level(logging.INFO, "run")
    caplog.set_level(logging.INFO, "diffedit.runs.directory")
    edit("run", (0.3, 0.5, 1.0))
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures
    assert f"made: {3 * 2 * 3} decoding, {3 * 3} inversion, {3 * 2 * NOISES} mask" in caplog.text
    assert "is extended: ratios: [0.5, 1.0] -> [0.3, 0.5, 1.0]" in caplog.text


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ratios": (0.5,)}, "ratios: "),
        ({"ratios": (0.5, 0.7)}, "ratios: "),
        ({"ratios": (0.5, 0.7, 1.0), "seed": 1}, "seed: 0 -> 1"),
        ({"ratios": (0.5, 1.0), "count": 2}, "benchmark.count: 3 -> 2"),
        ({"ratios": (0.5, 1.0), "benchmark": Pictures(4)}, "benchmark"),
        ({"ratios": (0.5, 1.0), "benchmark": Growing(4, names=("9", "8", "7", "6"))}, "benchmark"),
    ],
)
def test_what_is_not_more_of_the_same_is_refused(edit, tmp_path, asked, words):
    edit("run", (0.5, 1.0))
    before = read_all(tmp_path / "run")
    with pytest.raises(ConfigChangedError, match=words):
        edit("run", **asked)
    assert read_all(tmp_path / "run") == before


@dataclass(frozen=True)
class Moving(Growing):
    """Says that a larger count only adds requests, and takes others."""

    def requests(self, resolution):
        for request in super().requests(resolution):
            yield replace(request, id=f"{request.id} of {self.count}")


def test_a_larger_benchmark_that_lost_requests_is_refused(edit, tmp_path):
    """Whatever its settings promise."""
    edit("run", (0.5,), benchmark=Moving(2))
    before = read_all(tmp_path / "run")
    with pytest.raises(ConfigChangedError, match="leaves out 2 requests that are done, as 0 of 2"):
        edit("run", (0.5,), benchmark=Moving(3))
    assert read_all(tmp_path / "run") == before


@pytest.mark.parametrize("calls", [2, 12, 22])
def test_one_that_is_killed_goes_on(edit, analytic, tmp_path, monkeypatch, calls):
    edit("run", (0.5,))
    left, predict = iter(range(calls)), analytic.predict

    def fail(*args):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return predict(*args)

    with monkeypatch.context() as patch:
        patch.setattr(type(analytic), "predict", lambda self, *args: fail(*args))
        with pytest.raises(KeyboardInterrupt):
            edit("run", (0.5, 0.7), 4)
    with pytest.raises(ConfigChangedError, match="ratios"):
        edit("run", (0.5,))  # it has more now
    edit("run", (0.5, 0.7), 4)
    edit("whole", (0.5, 0.7), 4)
    assert read_all(tmp_path / "run") == read_all(tmp_path / "whole")


def test_a_damaged_request_is_edited_whole(edit, tmp_path):
    edit("run", (0.5,))
    (tmp_path / "run/images/0.5/1.png").write_bytes(b"cut")
    edit("run", (0.5, 1.0))
    edit("whole", (0.5, 1.0))
    assert read_all(tmp_path / "run") == read_all(tmp_path / "whole")


def test_a_plan_counts_what_is_missing_and_changes_nothing(edit, analytic, tmp_path):
    edit("run", (0.5,))
    before = read_all(tmp_path / "run")
    pipeline = EditPipeline(DiffEdit(mask=ContrastMask(num_noises=NOISES)), rank=Brightest())
    settings = RunSettings(ratios=(0.5, 1.0), steps=10, batch=BatchSizes(4, 1, 2, 1), progress=False)
    from diffedit.runs.describe import describe_run

    config = describe_run(Growing(4), pipeline, analytic, settings)
    plan = plan_benchmark(Growing(4), pipeline, analytic, tmp_path / "run", settings, config)
    assert plan.made["decoding"] == 3 * 20 + 1 * (20 + 10)
    assert read_all(tmp_path / "run") == before


def test_editors_without_a_mask(tmp_path, analytic):
    """Nothing of a mask is joined where there is none."""
    from baselines.sdedit import SDEdit

    assert issubclass(SDEdit, BaseEditor)
    for name, ratios in (("run", (0.5,)), ("run", (0.5, 1.0)), ("whole", (0.5, 1.0))):
        settings = RunSettings(ratios=ratios, steps=10, batch=BatchSizes(4, 1, 2, 1), progress=False)
        run_benchmark(Growing(2), EditPipeline(SDEdit()), analytic, tmp_path / name, settings)
    assert read_all(tmp_path / "run") == read_all(tmp_path / "whole")
