"""The demo, in small: one process, nothing twice, a page at the end; and how its threads wait."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, find_record, unpack_records

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.commands.demo import EDITORS, LEAST_STEPS, NEXT, RATIOS, ROW_COST, Plan, choose_threads, is_done, main
from diffedit.commands.edit import compose_config, make_parser, read_options
from diffedit.io.compose import compose
from diffedit.sampling.schedule import check_ratios

PICTURES, STEPS = 2, 6
SMALL = ["--pictures", str(PICTURES), "--steps", str(STEPS)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder of a small demo; one with a space and a quote, which no grammar of settings is to see."""
    out = tmp_path_factory.mktemp("demo") / "my cat's demo"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "TQDM_DISABLE"):
            patch.setenv(name, os.environ.get(name, "1"))
        assert main(["--out", str(out), *SMALL]) == 0
    return out


@pytest.fixture
def plan(out):
    return Plan(out, PICTURES, STEPS)


def read_times(folder, pattern="*"):
    return {path: path.stat().st_mtime_ns for path in folder.rglob(pattern) if path.is_file()}


def test_it_ends_with_runs_scores_and_a_page(out, plan):
    assert (out / "index.html").is_file()
    page = (out / "data/index.js").read_text()
    assert f'"n":{PICTURES}' in page
    assert all(command.split()[1] in page for _, command in NEXT)
    scores = pd.read_csv(out / "scores.csv")
    assert {"accuracy", "kept", "both", "lpips", "cf_lpips", "mask_iou"} <= set(scores.metric)
    for editor in EDITORS:
        assert plan.find_root(editor).is_dir()
        assert str(plan.find_root(editor).relative_to(out)) in page
    assert set(scores.run[scores.run.notna()]) == {str(plan.find_root(editor)) for editor in EDITORS}


@pytest.mark.parametrize("editor", EDITORS)
def test_the_time_left_is_reckoned_with_the_evaluations_that_are_made(plan, editor):
    table = pd.read_parquet(plan.find_root(editor) / "manifest.parquet")
    assert len(table) == PICTURES * len(RATIOS)
    shared = table.drop_duplicates("id").shared_evaluations.sum()
    assert table.evaluations.sum() + shared == PICTURES * plan.count_evaluations(editor, noises=10)


def test_a_second_call_computes_nothing(out, plan, monkeypatch, capsys):
    def refuse(*_, **__):
        raise AssertionError("the networks are loaded again")

    before = read_times(out / "runs") | read_times(out / "cache")
    monkeypatch.setattr(StableDiffusion, "from_pretrained", refuse)
    assert main(["--out", str(out), *SMALL]) == 0
    assert read_times(out / "runs") | read_times(out / "cache") == before
    printed = capsys.readouterr()
    assert f"Look at {out / 'index.html'}" in printed.out
    assert max(map(len, printed.out.splitlines()[:-1])) <= 100
    assert "editing by" not in printed.err


def test_what_is_missing_is_made_alone(out, plan, capsys):
    """One picture of one run is lost: its record and files come back, and no other is touched."""
    root = plan.find_root("sdedit")
    unpack_records(root)
    (lost,) = root.glob("records/00001*.json")
    lost.unlink()
    (root / "manifest.parquet").unlink()
    before = read_times(out / "runs", "*.png")
    assert main(["--out", str(out), *SMALL]) == 0
    changed = {path for path, time in read_times(out / "runs", "*.png").items() if before[path] != time}
    assert find_record(root, lost.stem)["status"] == "done"
    assert {path.stem for path in changed} == {lost.stem}
    assert {path.is_relative_to(root) for path in changed} == {True}
    assert "3/5 editing by sdedit" in capsys.readouterr().err


BROKEN = {
    "a picture gone": lambda root: next(root.glob("images/*/*.png")).unlink(),
    "a picture with another content": lambda root: swap(*sorted(root.glob("images/0.5/*.png"))[:2]),
    "a manifest cut": lambda root: (root / "manifest.parquet").write_bytes(b"PAR1"),
    "scores and values cut": lambda root: cut_scores(root / "scores/lpips.json", root / "scores/accuracy.parquet"),
}


def cut_scores(scores, values):
    assert scores.is_file()
    assert values.is_file()
    scores.write_text("[")
    values.write_bytes(b"PAR1")


def swap(one, other):
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_mended(out, plan, name):
    root = plan.find_root("sdedit")
    before = {path: path.read_bytes() for path in root.rglob("*.png")}
    BROKEN[name](root)
    assert main(["--out", str(out), *SMALL]) == 0
    assert {path: path.read_bytes() for path in root.rglob("*.png")} == before
    assert is_done(root, plan.pictures)


def test_the_least_steps_give_each_ratio_a_level():
    check_ratios(RATIOS, LEAST_STEPS)
    with pytest.raises(ValueError, match="the same edit twice"):
        check_ratios(RATIOS, LEAST_STEPS - 1)


def test_the_commands_of_the_page_parse():
    seen = []
    for _, commands in NEXT:
        for line in commands.splitlines():
            program, name, *words = shlex.split(line)
            assert program == "diffedit"
            if name == "edit":
                assert compose_config(read_options(make_parser(), words)).steps
            else:
                overrides = [word.partition(",")[0] for word in words if word != "--multirun"]
                assert compose(name, overrides)
            seen.append(name)
    assert {"edit", "run", "score", "plot"} <= set(seen)


@pytest.mark.parametrize(("argv", "words"), [(["--pictures", "1"], "at least 2"), (["--steps", "4"], "at least 6")])
def test_what_cannot_be_is_refused(argv, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["--out", str(tmp_path / "demo"), *argv])
    assert refusal.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("load", "policy", "cores", "threads"), [(100.0, "PASSIVE", 6, "4"), (2.0, None, 6, "4"), (2.0, None, 3, "2")]
)
def test_threads_wait_as_the_machine_is_busy(load, policy, cores, threads, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("psutil.cpu_percent", lambda _: load)
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 6)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {*range(cores)}, raising=False)
    choose_threads()
    assert os.environ.get("OMP_WAIT_POLICY") == policy
    assert os.environ["OMP_NUM_THREADS"] == threads  # a power of two, of the cores that it may use
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    choose_threads()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"  # who has said so himself is right


def test_threads_are_told_before_they_are_made():
    code = "import sys, diffedit.commands.demo; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_batches_are_smaller_where_little_is_to_be_done():
    plan = Plan(Path("demo"), 192, 20)
    sizes = [plan.choose_batch(evaluations) for evaluations in (200, 2000, 20_000, 2_000_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] == min(ROW_COST)
    assert sizes[-1] in (32, 64)
