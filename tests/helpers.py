"""What several tests need."""

import contextlib
import copy
import io
import json
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from rich.console import Console

from diffedit.io.files import quote_file_name
from diffedit.types import EditRequest

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


class GivenNoise:
    """A `Noise` that hands out noise from elsewhere, by purpose; for parity with other code."""

    def __init__(self, **draws: torch.Tensor):
        self.draws = draws

    def randn_like(self, x: torch.Tensor, purpose: str, count: int = 1) -> torch.Tensor:
        """The noise given for this purpose."""
        noise = self.draws[purpose.replace(" ", "_")]
        assert noise.shape == (count, *x.shape[1:])
        return noise


def make_request(backbone, name="a", target="pear", source="apple", mask=None, seed=0) -> EditRequest:
    """A request whose picture is noise of its own."""
    image = torch.rand(3, backbone.resolution, backbone.resolution, generator=torch.Generator().manual_seed(seed))
    return EditRequest(name, lambda: image, target, source, mask)


def same(one: Sequence, other: Sequence) -> bool:
    """Whether two lists of edits are equal to the bit."""
    return len(one) == len(other) and all(
        (a.variant, a.level) == (b.variant, b.level) and torch.equal(a.image, b.image)
        for a, b in zip(one, other, strict=True)
    )


def call(script, *args, cwd="."):
    """What `python scripts/SCRIPT ARGS...` does, in this process: imports of a new one take seconds each time."""
    path, out, err = ROOT / "scripts" / script, io.StringIO(), io.StringIO()
    places, threads = sys.path[:], torch.get_num_threads()
    with ExitStack() as stack:
        for context in (contextlib.chdir(cwd), redirect_stdout(out), redirect_stderr(err), kept_log()):
            stack.enter_context(context)
        stack.enter_context(patch.dict(os.environ))  # --include adds to PYTHONPATH
        stack.enter_context(patch.object(sys, "argv", [str(path), *map(str, args)]))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        sys.path.insert(0, str(path.parent))  # as `python FILE` does
        code = run_script(path)
    sys.path[:] = places
    torch.set_num_threads(threads)
    return subprocess.CompletedProcess([str(path), *args], code, out.getvalue(), err.getvalue())


def run_script(path):
    """Run a file as a program; returns its exit code."""
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def call_process(script, *args, **settings):
    """The same in a process of its own, where that is what is tested."""
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, args)]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the second call need not compile all packages again
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, **settings)


def said(done):
    return done.stdout + done.stderr


@contextmanager
def kept_log(*names):
    """Handlers and levels of the root's log, and of those of these names, are afterwards what they were."""
    root, logs = logging.getLogger(), [logging.getLogger(name) for name in ("", *names)]
    handlers, levels = root.handlers[:], [log.level for log in logs]
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def watch(program, note):
    """The program, each of its queries shown to `note` before it is answered."""
    answer = None
    while True:
        try:
            query = program.send(answer)
        except StopIteration as stop:
            return stop.value
        note(query)
        answer = yield query


def names(group):
    stems = sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))
    assert stems
    return stems


def composed(*overrides, name="run", backbone=True):
    """A config of one's own: what is asked for again is copied, for Hydra takes its time."""
    return copy.deepcopy(compose_once(name, (*["backbone=analytic"] * backbone, *overrides)))


@cache
def compose_once(name, overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, [*overrides])


def config(folder, **settings):
    return {
        "_target_": "diffedit.backbones.stable_diffusion.StableDiffusion.from_pretrained",
        "path": str(folder),
        "device": "cpu",
    }


@dataclass(frozen=True)
class Pictures:
    """Requests whose pictures are noise; one of them is broken where asked."""

    count: int = 3
    broken: int | None = None
    names: tuple[str, ...] = ()  # instead of numbers
    version = "1"
    domain = None
    path_keys = frozenset()
    fingerprint = ""

    def requests(self, resolution):
        for i, name in enumerate(self.names or map(str, range(self.count))):
            yield EditRequest(name, lambda i=i: self.load(i, resolution), "pear", "apple")

    def load(self, i, resolution):
        if i == self.broken:
            raise OSError("broken")
        return torch.rand(3, resolution, resolution, generator=torch.Generator().manual_seed(i))

    def __len__(self):
        return len(self.names) or self.count


def edit_small_run(root, count, batch=4, table=None, verify="size", **settings):
    """A whole small run on the exact model, as `diffedit run` does it; a process of its own can be given this.

    Its pictures are noise, or those of a table on disk.
    """
    from diffedit.backbones.analytic import AnalyticBackbone
    from diffedit.diffedit import DiffEdit
    from diffedit.engine.engine import BatchSizes
    from diffedit.mask import ContrastMask
    from diffedit.runs.loop import RunSettings, run_benchmark
    from diffedit.stages.pipeline import EditPipeline
    from eval.benchmarks.folder import FolderBenchmark

    torch.set_num_threads(1)
    batches = BatchSizes(predict=batch, encode=1, decode=2, embed=1)
    settings = RunSettings(ratios=(0.5, 1.0), steps=10, batch=batches, progress=False, verify=verify, **settings)
    pipeline = EditPipeline(DiffEdit(mask=ContrastMask(num_noises=3)))
    benchmark = Pictures(count) if table is None else FolderBenchmark(path=str(table))
    run_benchmark(benchmark, pipeline, AnalyticBackbone(), Path(root), settings)


def edit_on_host(host, errors, root, count, **settings):
    """The same in a process that takes itself for one of another machine; what it raises is put into a queue."""
    from diffedit.runs import claim

    claim.HOST = host
    try:
        edit_small_run(root, count, **settings)
    except Exception as error:
        errors.put((type(error).__name__, str(error), getattr(error, "errno", None)))


def make_scores(*rows):
    """A table of scores, as `collect` returns it, of (editor, variant, metric, value) and other columns of the row."""
    shared = {"benchmark": "b", "backbone": "m", "name": "n", "set": "s", "version": "1", "n": 4, "made_by": "x"}
    shared |= {"note": "", "is_bound": False, "low": 0.5, "high": 1.2, "higher_is_better": True}
    records = []
    for editor, variant, metric, value, *more in rows:
        record = {"editor": editor, "run": f"r/{editor}", "variant": str(variant), "strength": variant.strength}
        records.append(shared | record | {"metric": metric, "value": value} | (more[0] if more else {}))
    return pd.DataFrame(records).astype({"strength": float})


def render(table):
    """What a table of rich looks like in a wide terminal."""
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def edit_benchmark(root, benchmark, editor, backbone, ratios, steps):
    """A finished run of a benchmark."""
    from diffedit.runs.loop import RunSettings, run_benchmark
    from diffedit.stages.pipeline import EditPipeline

    settings = RunSettings(ratios=ratios, steps=steps, progress=False)
    run_benchmark(benchmark, EditPipeline(editor), backbone, Path(root), settings)
    return root


def edit_counted(root, pipeline, benchmark, backbone, settings):
    """A run; returns the evaluations that it made and those that it did not, by purpose, as its log says."""
    from diffedit.runs.loop import run_benchmark
    from diffedit.stages.pipeline import EditPipeline

    lines, log, handler = [], logging.getLogger("run"), logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        pipeline = pipeline if isinstance(pipeline, EditPipeline) else EditPipeline(pipeline)
        run_benchmark(benchmark, pipeline, backbone, Path(root), settings)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return read_counts(lines, "evaluations made: "), read_counts(lines, "evaluations not made again: ")


def read_counts(lines, words):
    """What such a line of a log counts, by purpose; nothing where there is none."""
    parts = [line.removeprefix(words).rpartition(" (")[0] for line in lines if line.startswith(words)]
    pairs = [part.split(" ", 1) for part in ", ".join(parts).split(", ") if part]
    return {purpose: int(count.replace(",", "")) for count, purpose in pairs}


def edit_few_scenes(folder, editor):
    """The directory of a finished run: two scenes of Still Life, by random weights."""
    from diffedit.backbones.stable_diffusion import StableDiffusion
    from diffedit.testing import TinyPipeline
    from eval.stilllife.benchmarks import StillLifeScenes

    weights = TinyPipeline(latent=16, tokens=77).write(folder / "tiny")
    backbone = StableDiffusion.from_pretrained(str(weights), device="cpu")
    root = folder / "runs/stilllife_scenes/tiny/editor/default"
    return edit_benchmark(root, StillLifeScenes(size=2), editor, backbone, [0.5], 4)


def write_pictures(folder, count):
    """A table of pictures of noise on disk, for the exact model; returns the words that name both."""
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    lines = [f"{i}.png,pear,apple,{i}" for i in range(count)]
    (folder / "edits.csv").write_text("\n".join(["image,target,source,id", *lines]))
    return ["backbone=analytic", "benchmark=folder", f"benchmark.path={folder / 'edits.csv'}"]


def read_run(root):
    """What a run is, by file: bytes, but for what holds times; of records, wherever they lie, all but seconds."""
    from diffedit.runs.shards import read_shard

    root, files = Path(root), {}
    records = [json.loads(path.read_text()) for path in root.glob("records/*.json")]
    records += [json.loads(text) for path in root.glob("shards/*.parquet") for text in read_shard(path).values()]
    for record in records:
        name = f"record of {record['id']}"
        assert name not in files, f"{name}: twice"
        files[name] = record | {"seconds": 0}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        is_told = name in ("manifest.parquet", "environment.json") or name.startswith(("records/", "shards/"))
        if path.is_file() and not is_told:
            files[name] = path.read_bytes()
    return files


def find_record(root, request):
    """The record of a request, wherever it lies."""
    return read_run(root)[f"record of {request}"]


def unpack_records(root):
    """Put the records of a finished run into files of their own, as they lie before its shards end."""
    from diffedit.runs.cut import list_shards
    from diffedit.runs.shards import read_shard

    (root / "records").mkdir(exist_ok=True)
    for path in list_shards(root):
        for name, text in read_shard(path).items():
            (root / "records" / f"{quote_file_name(name)}.json").write_text(json.dumps(json.loads(text), indent=1))
        path.unlink()


def lose_record(root, request):
    """Remove what is known of a request of a finished run: its shard is under way again."""
    unpack_records(root)
    (Path(root) / "records" / f"{quote_file_name(request)}.json").unlink()


def edit_and_tell(root, table, errors):
    """A small run of a table as a command ends: 0, 1, 3 where another is at it, 2 where it is refused; words in a file.

    It looks at the content of what is done.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        edit_small_run(root, None, table=table, verify="content", shard_size=7)
    except KeyboardInterrupt:
        os._exit(130)
    except Exception as error:
        Path(errors).write_text(f"{error}\n{traceback.format_exc()}")
        os._exit(getattr(error, "exit_code", 2))


@contextmanager
def mount_disk(folder, size):
    """A disk of its own, in memory; without the right to mount one the test is skipped."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk of its own")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
