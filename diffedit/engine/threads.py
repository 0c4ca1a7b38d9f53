"""How many cores this process may use, and whether others use them too."""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import torch

log = logging.getLogger("run")  # as the loop, whose word it is

ROOT = Path("/")
WINDOW = 20.0  # seconds of network calls that a rate is taken over
SLOW = 0.5  # of the best rate so far


# --------------------------------------------------------------------------------------------------------------- cores


def count_cores(root: Path = ROOT, environ: Mapping[str, str] = os.environ, siblings: int | None = None) -> int:
    """Cores for this process: what it may run on, what its containers are given, shared with its siblings; at least 1.

    Args:
        root: where /proc and /sys lie.
        environ: what Slurm and torchrun say: cores of a task, tasks and processes on this machine.
        siblings: processes that share the cores, this one included; None for what `environ` says.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min([bound, *read_quotas(root)])
    if own := read_number(environ, "SLURM_CPUS_PER_TASK"):
        cores = min(cores, own)
    elif siblings is None and bound >= (read_number(environ, "SLURM_CPUS_ON_NODE") or bound):
        cores /= count_tasks(environ)  # where Slurm has not bound each to cores of its own
    cores /= siblings or read_number(environ, "LOCAL_WORLD_SIZE") or 1
    return max(int(cores), 1)


def read_number(environ: Mapping[str, str], name: str) -> int | None:
    """The number that a variable begins with; None where it is not set, or no number above 0."""
    found = re.match(r"\d+", environ.get(name, ""))
    return int(found[0]) or None if found else None


def count_tasks(environ: Mapping[str, str]) -> int:
    """Tasks of this job step on a machine: `4(x2),3` is 4. A batch script is alone, whatever steps it will start."""
    in_step = read_number(environ, "SLURM_STEP_TASKS_PER_NODE")
    asked = read_number(environ, "SLURM_NTASKS_PER_NODE") if "SLURM_STEP_ID" in environ else None
    return in_step or asked or 1


def read_quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that control groups allow, versions 1 and 2: of the process's own and all above it."""
    base = root / "sys/fs/cgroup"
    for controllers, group in read_groups(root):
        if not controllers:
            yield from (quota for folder in climb(base, group) if (quota := read_quota(folder / "cpu.max")))
        elif "cpu" in controllers.split(","):
            for name in (controllers, "cpu"):
                for folder in climb(base / name, group):
                    files = (folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
                    if quota := read_quota(*files):
                        yield quota


def read_groups(root: Path) -> list[tuple[str, str]]:
    """(controllers, path) of each control group of this process; version 2 names no controllers."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in lines]
    return [(part[1], part[2]) for part in parts if len(part) == 3]


def climb(base: Path, group: str) -> list[Path]:
    """The folder of a group and those above it. In a container its path may not be there; the top is what it sees."""
    names = [name for name in group.split("/") if name not in ("", "..")]
    return [base.joinpath(*names[:depth]) for depth in range(len(names), -1, -1)]


def read_quota(*paths: Path) -> float | None:
    """Quota over period, in one file or two; None for no limit, or none that can be read."""
    try:
        quota, period = " ".join(path.read_text() for path in paths).split()
        return float(quota) / float(period) if float(quota) > 0 else None  # "max" is no number, -1 no limit
    except (OSError, ValueError, ZeroDivisionError):
        return None


# ------------------------------------------------------------------------------------------------------------- threads


def set_threads(asked: int | None, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> int:
    """Set torch's threads; returns how many they are. Results are equal to the bit only at equal numbers.

    Args:
        asked: None leaves torch's own number, but where it is more than the cores that this process may use (torch
            does not see what a container is given) and nobody has set it by OMP_NUM_THREADS or MKL_NUM_THREADS.
        root: as in `count_cores`.
        environ: as in `count_cores`.

    Raises:
        ValueError: `asked` is no number above 0; the message names the setting.
    """
    if asked is not None and (type(asked) is not int or asked < 1):
        raise ValueError(f"cpu_threads = {asked}: a whole number from 1 is wanted, or null")
    threads = torch.get_num_threads()
    if asked is None:
        cores = count_cores(root, environ)
        if threads <= cores or {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & set(environ):
            return threads
        asked = 1 << cores.bit_length() - 1  # a power of two, so that all places of a batch are alike
        log.warning("%d threads on %d cores that this process may use: it takes %d", threads, cores, asked)
    if asked != threads:
        torch.set_num_threads(asked)
    return asked


# ---------------------------------------------------------------------------------------------------------------- load


def warn_of_load(root: Path = ROOT, environ: Mapping[str, str] = os.environ, cores: int | None = None) -> None:
    """Say so where others keep cores busy that this process's threads would use.

    Args:
        root: as in `count_cores`.
        environ: where OpenMP is told how to wait.
        cores: of the machine; None for what it has.
    """
    threads, cores = torch.get_num_threads(), cores or os.cpu_count() or 1
    if (others := measure_others(root, threads)) is None or others + threads <= cores + 0.5:
        return
    others = min(others, sample_others(), cores)  # the last minute may be that of a run that has ended
    if others + threads > cores + 0.5:
        log.warning(
            "others keep about %.1f of the %d cores busy, and this run would use %d: %s",
            *(others, cores, threads, name_remedies(environ)),
        )


def measure_others(root: Path, threads: int) -> float | None:
    """Processes of others that ran in the last minute, on average; None where the system does not say."""
    try:
        load = float((root / "proc/loadavg").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    spent = psutil.Process().cpu_times()
    return max(load - min((spent.user + spent.system) / 60, threads), 0.0)


def sample_others(seconds: float = 0.3) -> float:
    """Cores that other processes keep busy now, on average over a moment."""
    before = measure_busy()
    time.sleep(seconds)
    return max((measure_busy() - before) / seconds, 0.0)


def measure_busy() -> float:
    """Seconds that all cores have worked, but for this process."""
    everybody, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return everybody.user + everybody.system - own.user - own.system


def name_remedies(environ: Mapping[str, str] = os.environ) -> str:
    """What helps on a busy machine."""
    if torch.get_num_threads() == 1:
        return "`nice` for the others helps"
    passive = "" if environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE" else "OMP_WAIT_POLICY=PASSIVE before it, "
    return (
        f"threads that wait for each other spin, and lose more than their share; {passive}fewer threads "
        "(engine.cpu_threads, which last bits depend on) or `nice` for the others helps"
    )


class RateWatch:
    """Says, once, when network calls take more than twice as long as they did."""

    def __init__(self) -> None:
        self.best: dict[int, float] = {}
        self.windows: dict[int, tuple[int, float]] = {}  # rows and seconds of calls of a size, not judged yet
        self.has_said = False

    def note(self, rows: int, seconds: float) -> None:
        """One call, of so many rows."""
        done, spent = self.windows.get(rows, (0, 0.0))
        done, spent = done + rows, spent + seconds
        if spent < WINDOW:
            self.windows[rows] = done, spent
            return
        self.windows[rows] = 0, 0.0
        rate = done / spent
        best = self.best[rows] = max(rate, self.best.get(rows, 0.0))
        if rate < SLOW * best and not self.has_said:
            self.has_said = True
            log.warning(
                "%.3g evaluations a second, and %.3g before: does something else run here? %s",
                *(rate, best, name_remedies()),
            )
