"""What commands do, called as scripts: in this process, but for what is killed."""

import csv
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, call, said
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from diffedit.commands import COMMANDS, plan
from diffedit.commands.complete import COMPOSED, CONFIGS
from diffedit.commands.help import describe_command
from diffedit.io.checks import RENAMED, refuse_renamed
from diffedit.runs.cut import count_records, list_shards

ANALYTIC = ["backbone=analytic", "steps=10", "ratios=[0.5,0.8]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures that the exact model can edit, a mask, and a table with one picture that is not there."""
    folder = tmp_path_factory.mktemp("folder")
    draw = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(draw.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    Image.new("L", (32, 24), 255).save(folder / "mask.png")
    with (folder / "edits.csv").open("w", newline="") as file:
        rows = [("a.png", "apple", "pear"), ("b.png", "", "plum"), ("none.png", "", "plum"), ("c.png", "plum", "plum")]
        csv.writer(file).writerows([("image", "source", "target"), *rows])
    return folder


def test_run_resumes_reports_and_refuses(folder, tmp_path):
    table = folder / "edits.csv"
    args = [*ANALYTIC, "benchmark=folder", f"benchmark.path={table}", f"runs={tmp_path}"]
    first = call("run.py", *args)
    assert first.returncode == 1
    assert "3 of 4 requests done, 6 edits" in said(first)
    assert "none.png: no such file" in said(first)
    assert "masks: 1 empty (nothing is edited): c-" in said(first)  # where source and target are the same
    assert "1 of 4 requests failed" in said(first)
    (root,) = (path.parent for path in tmp_path.rglob("config.yaml"))
    assert root.relative_to(tmp_path).parts[:3] == ("folder", "analytic", "diffedit")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    assert len(before) == 3 * 3
    assert list(pd.read_parquet(root / "manifest.parquet").groupby("id").status.first()).count("done") == 3

    Image.new("RGB", (16, 16)).save(folder / "none.png")
    try:
        second = call("run.py", *args)
    finally:
        (folder / "none.png").unlink()
    assert second.returncode == 0, said(second)
    assert "3 of 4 requests are done already" in said(second)
    assert before == {path: before.get(path) and path.stat().st_mtime_ns for path in before}

    refused = call("run.py", *args, "seed=1", f"name='{root.name}'")
    assert refused.returncode == 2
    assert "seed: 0 -> 1" in said(refused)


def test_run_stops_at_the_first_error_where_asked(folder, tmp_path):
    batch = "engine.batch={predict: 4, encode: 1, decode: 1, embed: 1}"
    done = call(
        "run.py",
        *ANALYTIC,
        "benchmark=folder",
        f"benchmark.path={folder}/edits.csv",
        f"runs={tmp_path}",
        "on_error=stop",
        batch,
    )
    assert done.returncode == 1
    assert "on_error=stop" in said(done)
    assert "none.png" in said(done)


def test_a_killed_command_goes_on_and_ends_with_the_same_pictures(folder, tmp_path):
    """SIGKILL of the command itself, while results are being written, and some shards are done."""
    count, small = 100, ["backbone=analytic", "steps=6", "ratios=[0.5]", "editor.mask.num_noises=2"]
    with (tmp_path / "many.csv").open("w", newline="") as file:
        rows = [(f"{folder}/{'abc'[i % 3]}.png", "apple", "pear", f"r{i}") for i in range(count)]
        csv.writer(file).writerows([("image", "source", "target", "id"), *rows])
    args = [*small, "benchmark=folder", f"benchmark.path={tmp_path}/many.csv", "name=x"]
    killed = [sys.executable, str(ROOT / "scripts/run.py"), *args, f"runs={tmp_path}/killed", "shards.size=8"]
    root = tmp_path / "killed/folder/analytic/diffedit/x"
    with subprocess.Popen(killed, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "2"}) as process:
        while process.poll() is None and not list_shards(root):
            time.sleep(0.01)
        process.kill()
    assert list_shards(root)
    assert count_records(root) < count
    assert call("run.py", *args, f"runs={tmp_path}/killed").returncode == 0
    assert call("run.py", *args, f"runs={tmp_path}/whole").returncode == 0
    one, other = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in sorted((tmp_path / name).rglob("*.[pn][np][gy]"))
        }
        for name in ("killed", "whole")
    )
    assert len(one) == count * 3
    assert one == other


def test_samples_ranked_and_reconstructed(folder, tmp_path):
    """Four samples under masks, ranked by CLIP, pasted: all in the record, and the second start does none of it."""
    with (folder / "masked.csv").open("w", newline="") as file:
        rows = [("a.png", "pear", "half.png"), ("b.png", "plum", "line.png"), ("c.png", "plum", "none.png")]
        csv.writer(file).writerows([("image", "target", "mask"), *rows])
    half, line = np.zeros((24, 32), np.uint8), np.zeros((24, 32), np.uint8)
    half[:, :16], line[6] = 255, 255
    Image.fromarray(half).save(folder / "half.png")
    Image.fromarray(line).save(folder / "line.png")
    args = [*ANALYTIC, "benchmark=folder", f"benchmark.path={folder}/masked.csv", f"runs={tmp_path}"]
    args += ["editor=blended_latent", "samples=4", "rank=clip", "reconstruct=pixel_paste"]
    done = call("run.py", *args)
    assert done.returncode == 1
    assert "none.png: no such file" in said(done)
    (root,) = (path.parent for path in tmp_path.rglob("config.yaml"))
    table = pd.read_parquet(root / "manifest.parquet")
    table = table[table.status == "done"]
    assert len(table) == 4
    assert table["sample"].between(0, 3).all()
    assert table.score.between(-1, 1).all()
    assert (table.reconstruct_steps == 0).all()
    assert len(list(root.glob("samples/*/images/*/*.png"))) == 4 * 4
    for row in table.itertuples():
        kept = np.asarray(Image.open(root / row.file))
        best = root / "samples" / str(int(row.sample)) / "images" / f"{row.strength:g}" / Path(row.file).name
        assert np.array_equal(kept, np.asarray(Image.open(best)))
    again = call("run.py", *args)
    assert "2 of 3 requests are done already" in said(again)
    changed = call("run.py", *args, "rank=none", f"name='{root.name}'")
    assert "rank._target_: diffedit.stages.rank.ClipRank -> diffedit.stages.rank.KeepFirst" in said(changed)


@pytest.mark.slow
def test_the_table_of_blended_latent_diffusion(tmp_path):
    """The experiment, shrunk, with two of its editors; then its table: the runs, and the published rows below."""
    small = ["benchmark.per_class=1", "steps=4", "samples=2", f"runs={tmp_path}", "editor=blended_latent,sdedit_given"]
    done = call("run.py", "experiment=bld_table", *small)
    assert done.returncode == 0, said(done)
    roots = [path.parent for path in tmp_path.rglob("manifest.parquet")]
    assert {root.parts[-2] for root in roots} == {"blended_latent", "sdedit_given"}
    assert all(len(list(root.glob("samples/*/images/0.75/*.png"))) == 24 for root in roots)
    scored = call("score.py", "table=bld", f"runs={tmp_path}/*/*/*/*", "resamples=50", f"out={tmp_path}/table.csv")
    assert scored.returncode == 0, said(scored)
    for words in ("precision_best", "blended_latent", "sdedit_given", "Blended Diffusion (published)", "0.287"):
        assert words in said(scored)
    table = pd.read_csv(tmp_path / "table.csv")
    assert set(table.metric) == {
        *("precision", "precision_best", "diversity", "mse_outside", "mse_inside"),
        *("psnr_outside", "ssim_outside", "lpips_outside", "has_outside", "seconds", "evaluations"),
    }
    assert (table[table.metric == "evaluations"].value == 2 * 3).all()  # guidance, steps
    assert (table[table.metric == "precision"].n == 12).all()


def test_sweeps_run_every_job(folder, tmp_path):
    """The first job fails a request (exit code 1 at the end); the second runs all the same."""
    table = ["benchmark=folder", f"benchmark.path={folder}/edits.csv", f"runs={tmp_path}"]
    done = call("run.py", "--multirun", "editor=sdedit,encode_decode", *ANALYTIC, *table)
    assert done.returncode == 1
    assert {path.parents[1].name for path in tmp_path.rglob("manifest.parquet")} == {"sdedit", "encode_decode"}


def test_edit_writes_every_picture(folder, tmp_path):
    args = [f"{folder}/a.png", "--source", "apple", "--target", "pear", "backbone=analytic", "steps=10"]
    done = call("edit.py", *args, "--ratio", "0.5", "0.8", "--out", f"{tmp_path}/out")
    assert done.returncode == 0, said(done)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"a_{kind}.png" for kind in ("r0.5", "r0.8", "mask", "map", "overlay", "sheet")}
    for name in names - {"a_sheet.png"}:
        assert Image.open(tmp_path / "out" / name).size == (16, 16)
    assert "network evaluations" in said(done)

    mask = ["--mask", f"{folder}/mask.png", "ratios=[0.5,0.8]"]
    given = call("edit.py", *args, *mask, "--out", f"{tmp_path}/given")
    assert given.returncode == 0, said(given)
    assert np.asarray(Image.open(tmp_path / "given/a_mask.png")).min() == 255
    assert "the mask is full" in said(given)

    stages = ["--editor", "blended_latent", "samples=3", "rank=clip", "reconstruct=poisson"]
    several = call("edit.py", *args, *mask, "--out", f"{tmp_path}/several", *stages)
    assert several.returncode == 0, said(several)
    names = {path.name for path in (tmp_path / "several").iterdir()}
    assert {f"a_r{ratio}_sample{k}.png" for ratio in ("0.5", "0.8") for k in range(3)} < names
    assert Image.open(tmp_path / "several/a_sheet.png").height > Image.open(tmp_path / "given/a_sheet.png").height


def documented_commands():
    """(config, words) of every `diffedit ...` line of the helps and of the comments in conf/."""
    texts = [describe_command(f"diffedit {name}", name.replace("-", "_")) for name in {*COMPOSED} - {*CONFIGS}]
    texts.append(plan.HELP)
    texts += [path.read_text() for path in sorted((ROOT / "conf").rglob("*.yaml"))]
    for text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            found = re.match(r"[ #]*(?:Then: |and |The plot: |The table: )?diffedit ([a-z-]+) (.*)", line)
            if found and found[1] in COMPOSED:
                yield CONFIGS.get(found[1], found[1].replace("-", "_")), shlex.split(found[2], comments=True)


def test_documented_commands_parse():
    """With Hydra's own parser, and against the configs: each override names a setting that there is."""
    commands = list(documented_commands())
    assert len(commands) >= 30
    for config, words in commands:
        overrides = [word for word in words if not word.startswith("--") and "=" in word]
        swept = [word.split(",")[0] if word.startswith("editor=") else word for word in overrides]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            assert compose(config, swept)


@pytest.mark.parametrize("command", ["score", "plot", "reference_stats"])
def test_names_of_before_are_refused_and_the_new_ones_are_there(command):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(command)
    for old, new in RENAMED[command].items():
        assert OmegaConf.select(cfg, old) is None
        assert new.startswith("networks") or new in cfg  # their keys depend on the choice
        with pytest.raises(ValueError, match=f"^{re.escape(old)}.* is called {re.escape(new)} now$"):
            refuse_renamed(command, [old if "=" in old else f"{old}=1"])


SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_help_with_an_example(script):
    done = call(f"{script}.py", "--help")
    assert done.returncode == 0, said(done)
    name = script.replace("_", "-")
    if name in COMMANDS:
        assert f"diffedit {name}" in done.stdout
        assert len((ROOT / "scripts" / f"{script}.py").read_text().splitlines()) <= 10
    else:
        assert f"python scripts/{script}.py" in done.stdout
