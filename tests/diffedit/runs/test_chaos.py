"""Fifty seeded disasters: runs of pictures on disk killed by three signals, two at once, files damaged in between.

Each ends in the bytes of the run that nothing happened to, or in an error that names the file. A start looks at the
content of what is done, so that pictures, masks and maps may also be swapped for others of their size.
"""

import multiprocessing
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import edit_and_tell, read_run, write_pictures

from diffedit.runs.claim import NAME, SHARDS, STALE

COUNT, ROUNDS = 60, 50
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PRELOADED = [
    "diffedit.backbones.analytic",
    "diffedit.diffedit",
    "diffedit.engine.engine",
    "diffedit.runs.loop",
    "eval.benchmarks.folder",
    "helpers",
]
BUSY, REFUSED = 3, 2


def damage(root, draw):
    """Cut, empty, remove or swap a random file of a run; its claim often, where a kill left it. Returns its name."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    claims = [path for path in (root / NAME, *sorted(root.glob(SHARDS))) if path.is_file()]
    files = [path for path in files if path not in claims]
    if not files and not claims:
        return None
    path = draw.choice(claims if claims and (not files or draw.random() < 0.5) else files)
    content = path.read_bytes()
    kinds = ["cut", "empty", "remove"] + ["swap"] * (path in claims or path.suffix in (".png", ".npy"))
    match draw.choice(kinds if content else ["remove"]):
        case "remove":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[: draw.randrange(len(content))])
        case "swap":
            place = draw.randrange(len(content))
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    if path in claims and path.exists():  # whose it was cannot be told any more: after a minute without a touch it goes
        os.utime(path, (time.time() - STALE - 1,) * 2)
    return path.relative_to(root).as_posix()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(what starts a run, the bytes of one that nothing happened to, how long it takes)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    folder = tmp_path_factory.mktemp("chaos")
    write_pictures(folder, COUNT)

    def start(root):
        arguments = (str(root), str(folder / "edits.csv"), str(folder / "error.txt"))
        process = context.Process(target=edit_and_tell, args=arguments)
        process.start()
        return process

    start(folder / "warm").join()
    began = time.monotonic()
    whole = start(folder / "whole")
    whole.join()
    assert whole.exitcode == 0, (folder / "error.txt").read_text()
    return start, read_run(folder / "whole"), time.monotonic() - began, folder / "error.txt"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_disaster_is_survived_or_named(world, tmp_path, seed):
    start, expected, seconds, errors = world
    draw, root, damaged = random.Random(seed), tmp_path / "run", []
    for _ in range(draw.randint(1, 3)):
        processes = [start(root) for _ in range(draw.choice((1, 1, 2)))]
        time.sleep(draw.random() * seconds)
        for process in processes:
            with suppress(ProcessLookupError):  # it is done already, or found the other at it
                os.kill(process.pid, draw.choice(SIGNALS))
        for process in processes:
            process.join(60)
            assert process.exitcode is not None, "it did not end"
        if root.is_dir() and draw.random() < 0.6:
            damaged.append(damage(root, draw))
    last = start(root)
    last.join()
    if last.exitcode == REFUSED:
        assert damaged
        assert any(Path(name).name in errors.read_text() for name in filter(None, damaged)), errors.read_text()
        assert "config.yaml" in damaged, errors.read_text()  # all else can be made again
        shutil.rmtree(root)
        last = start(root)
        last.join()
    assert last.exitcode == 0, errors.read_text()
    assert read_run(root) == expected


def test_two_at_once_leave_one_run(world, tmp_path):
    """Started together: one edits, the other says that it is busy, or comes when all is done."""
    start, expected, *_ = world
    processes = [start(tmp_path / "run") for _ in range(2)]
    for process in processes:
        process.join()
    codes = sorted(process.exitcode for process in processes)
    assert codes in ([0, 0], [0, BUSY])
    assert read_run(tmp_path / "run") == expected
