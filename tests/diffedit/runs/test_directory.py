import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import edit_small_run, make_request, read_run
from PIL import Image

from diffedit.engine.queries import Outcome
from diffedit.io.files import HOST, Writer, quote_file_name, write
from diffedit.runs.cut import count_records
from diffedit.runs.directory import ConfigChangedError, RunDirectory
from diffedit.types import Edit, EditResult, Variant

CONFIG = {
    "ratios": [0.5, 1.0],
    "seed": 0,
    "editor": {"guidance": 7.5},
    "engine": {"max_live": None},
    "on_error": "skip",
}
COUNT = 400


def outcome(name="a", error=None, side=8):
    image = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))
    mask, contrast = torch.eye(4, dtype=torch.bool)[None, None], torch.arange(16.0).reshape(4, 4)
    edits = [Edit(Variant(0.5), 5, image), Edit(Variant(1.0), 10, 1 - image)]
    result = None if error else EditResult(edits, mask, contrast, metadata={"mask_area": 0.25, "mask_flag": ""})
    return Outcome(name, result, error, Counter({None: 30, 5: 10, 10: 20}), 1.5)


def test_the_layout_and_what_lies_in_it(tmp_path, analytic):
    run = RunDirectory(tmp_path / "run", CONFIG, "1")
    list(run.find_pending([make_request(analytic, "a"), make_request(analytic, "b")]))
    run.write_outcome(make_request(analytic, "a"), outcome())
    run.write_outcome(make_request(analytic, "b", source=None), outcome("b", OSError("cut short")))
    table = run.close()
    files = {path.relative_to(run.root).as_posix() for path in run.root.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml",
        "environment.json",
        "images/0.5/a.png",
        "images/1/a.png",
        "maps/a.npy",
        "masks/a.png",
        "records/a.json",
        "records/b.json",
        "manifest.parquet",
    }
    stored = np.asarray(Image.open(run.root / "images/0.5/a.png"))
    expected = (outcome().result.edits[0].image * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(stored, expected)
    assert np.array_equal(np.load(run.root / "maps/a.npy"), np.arange(16, dtype=np.float32).reshape(4, 4))
    mask = np.asarray(Image.open(run.root / "masks/a.png"))
    assert np.array_equal(mask, np.kron(np.eye(4), np.ones((2, 2))) * 255)

    assert table.equals(pd.read_parquet(run.root / "manifest.parquet").astype(table.dtypes))
    assert list(table.id) == ["a", "a", "b", "b"]
    assert list(table.strength) == [0.5, 1.0] * 2
    assert list(table.status) == ["done"] * 2 + ["failed"] * 2
    assert list(table.level[:2]) == [5, 10]
    assert list(table.evaluations[:2]) == [10, 20]
    assert set(table.shared_evaluations) == {30}
    assert table.error[2] == "OSError: cut short"
    assert (table.seed == 0).all()


def test_resume_skips_what_is_done_and_tries_again_what_failed_or_lost_a_file(tmp_path, analytic):
    run = RunDirectory(tmp_path, CONFIG)
    requests = [make_request(analytic, name) for name in "abcd"]
    for request in requests[:2]:
        run.write_outcome(request, outcome(request.id))
    run.write_outcome(requests[2], outcome("c", ValueError("no")))
    run.close()
    again = RunDirectory(tmp_path, CONFIG)
    assert [request.id for request in again.find_pending(requests)] == ["c", "d"]
    (tmp_path / "images/1/a.png").unlink()
    assert [request.id for request in again.find_pending(requests)] == ["a", "c", "d"]


def test_other_settings_are_refused_by_name(tmp_path):
    RunDirectory(tmp_path, CONFIG, "1")
    RunDirectory(tmp_path, CONFIG | {"on_error": "stop", "engine": {"max_live": 3}}, "1")
    changed = CONFIG | {"editor": {"guidance": 5.0, "start": "noise"}, "seed": 1}
    with pytest.raises(ConfigChangedError) as refused:
        RunDirectory(tmp_path, changed, "2")
    lines = str(refused.value).splitlines()
    assert [line.strip() for line in lines[1:-1]] == [
        "benchmark_version: 1 -> 2",
        "editor.guidance: 7.5 -> 5.0",
        "editor.start: absent -> noise",
        "seed: 0 -> 1",
    ]
    assert str(tmp_path) in lines[0]


def test_another_environment_is_warned_about(tmp_path, caplog):
    RunDirectory(tmp_path, CONFIG)
    before = json.loads((tmp_path / "environment.json").read_text())
    assert {"git", "python", "packages", "device", "threads"} == set(before)
    RunDirectory(tmp_path, CONFIG)
    assert not caplog.records
    before["packages"]["torch"] = "1.0"
    (tmp_path / "environment.json").write_text(json.dumps(before))
    RunDirectory(tmp_path, CONFIG)
    assert f"packages.torch: 1.0 -> {torch.__version__.split('+')[0]}" in caplog.text


def test_other_texts_under_a_done_id_are_refused(tmp_path, analytic):
    run = RunDirectory(tmp_path, CONFIG)
    run.write_outcome(make_request(analytic, "a"), outcome())
    run.close()
    with pytest.raises(ConfigChangedError, match=r"request a is done, and .*: target: pear -> plum"):
        list(run.find_pending([make_request(analytic, "a", target="plum")]))
    with pytest.raises(ConfigChangedError, match=r"origin:  -> other\.png mask\.png"):
        list(run.find_pending([replace(make_request(analytic, "a"), origin="other.png mask.png")]))
    assert list(run.find_pending([make_request(analytic, "a")])) == []


def test_the_manifest_holds_the_requests_of_this_benchmark_only(tmp_path, analytic):
    run = RunDirectory(tmp_path, CONFIG)
    requests = [make_request(analytic, name) for name in "ab"]
    list(run.find_pending(requests))
    for request in requests:
        run.write_outcome(request, outcome(request.id, ValueError("no") if request.id == "a" else None))
    assert list(run.close().id.unique()) == ["a", "b"]
    again = RunDirectory(tmp_path, CONFIG)
    list(again.find_pending(requests[1:]))
    assert list(again.close().id.unique()) == ["b"]
    assert again.record("a")["status"] == "failed"


def test_a_start_that_fails_early_leaves_the_manifest(tmp_path, analytic):
    """Before the requests are listed, or while they are: the view of what is done stays as it was."""
    run, requests = RunDirectory(tmp_path, CONFIG), [make_request(analytic, name) for name in "ab"]
    list(run.find_pending(requests))
    for request in requests:
        run.write_outcome(request, outcome(request.id))
    run.close()
    before = (tmp_path / "manifest.parquet").read_bytes()
    assert RunDirectory(tmp_path, CONFIG).close() is None
    halfway = RunDirectory(tmp_path, CONFIG)
    with pytest.raises(ConfigChangedError):
        list(halfway.find_pending([requests[0], replace(requests[1], target="plum")]))
    assert halfway.close() is None
    assert (tmp_path / "manifest.parquet").read_bytes() == before


def test_ids_become_file_names():
    assert quote_file_name("n04254120/jack-o'-lantern") == "n04254120%2Fjack-o'-lantern"
    assert quote_file_name("naïve") == "na%C3%AFve"
    odd = ["", "..", ".hidden", "x" * 300, "x" * 300 + "y", "ж" * 60, "猫" * 40]
    names = [quote_file_name(text) for text in odd]
    assert len(set(names)) == len(odd)
    assert all(1 <= len(name) <= 140 and not name.startswith(".") for name in names)
    assert quote_file_name("猫" * 10).startswith("%E7%8C%AB")


def test_a_write_leaves_no_half_file(tmp_path, monkeypatch):
    write(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_temporary_files_of_killed_processes_are_swept_away(tmp_path):
    (tmp_path / "images").mkdir()
    dead, alive = (tmp_path / "images" / f".a.png.{HOST}.{pid}.tmp" for pid in (2**22 + 1, os.getpid()))
    dead.touch()
    alive.touch()
    RunDirectory(tmp_path, CONFIG)
    assert alive.exists()
    assert not dead.exists()


def test_a_failed_write_is_not_lost():
    writer = Writer()
    writer.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer.close()


# ------------------------------------------------------------------------------------------------- kill and resume


def test_killed_twenty_times_and_resumed_ends_with_the_same_bytes(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "diffedit.backbones.analytic",
            "diffedit.diffedit",
            "diffedit.engine.engine",
            "diffedit.runs.directory",
            "helpers",
        ]
    )

    def start(root):
        process = context.Process(target=edit_small_run, args=(str(root), COUNT), kwargs={"shard_size": 7})
        process.start()
        return process

    whole = start(tmp_path / "whole")
    whole.join()
    assert whole.exitcode == 0
    expected = read_run(tmp_path / "whole")
    assert len(expected) == 1 + COUNT * 5

    draw, root, progress = random.Random(0), tmp_path / "killed", []
    for _ in range(20):
        process = start(root)
        before = progress[-1] if progress else 0
        if draw.random() < 0.3:  # at any moment, the start included
            time.sleep(draw.random() * 0.5)
        else:  # while results are being written
            while process.is_alive() and count_records(root) <= before:
                time.sleep(0.001)
            time.sleep(draw.random() * 0.03)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        progress.append(count_records(root))
    assert 0 < progress[0] < progress[-1] < COUNT, "it finished before the last kill: make the run longer"
    last = start(root)
    last.join()
    assert last.exitcode == 0
    assert read_run(root) == expected
    one, other = (pd.read_parquet(tmp_path / name / "manifest.parquet") for name in ("whole", "killed"))
    assert one.drop(columns="seconds").equals(other.drop(columns="seconds"))
