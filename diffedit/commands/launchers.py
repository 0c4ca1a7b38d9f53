"""Who does what `diffedit run` or `diffedit score` was asked for: this process, several here, or a Slurm job array.

Each starts the same command with the same words and its own shard=k/N. What a process edits is decided by claims on
disk, so N may change from one start to the next, and a process that dies leaves its work to the others; what a process
measures is kept, and whoever computes the scores measures what is not there.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

from annotated_types import Ge

from diffedit.io.checks import settings
from diffedit.runs.cut import ONE, Tasks, count_records

GRACE = 30.0  # seconds in which a process that is asked to stop has ended
LOOK = 2.0  # seconds between two looks at what is done
POLL = 10.0  # seconds between two questions to Slurm
LAST_LINES = 15  # of the log of a process that failed


class WorkersFailedError(RuntimeError):
    """Some process ended before its work was done."""

    exit_code = 1


OWN_WORDS = ("launcher=", "launcher.", "shard=", "wait=", "engine.progress=")  # not for those that are started


@runtime_checkable
class Work(Protocol):
    """What is to be done.

    Attributes:
        folder: where logs lie.
        unit: what is counted.
        hint: a command that shows how far it is, with a word on it; "" for none.
    """

    folder: Path
    unit: str
    hint: str

    def make_words(self, k: int, of: int) -> list[str]:
        """Of the command of one of several processes."""

    def make_last_words(self, score: Sequence[str] | None) -> list[str] | None:
        """Of a command after all of them; None for none. `score` is `launcher.score`."""

    def count_all(self) -> int:
        """How much there is to do."""

    def count_done(self) -> int:
        """How much of it is done by now."""


@dataclass(frozen=True)
class RunWork:
    """Runs that are to be edited.

    Attributes:
        words: of the command line, behind `diffedit run`.
        runs: the run directories.
        requests: of all runs, done or not.
        folder: where run directories lie.
    """

    words: Sequence[str]
    runs: Sequence[Path]
    requests: int
    folder: Path
    unit: str = "request"

    @property
    def hint(self) -> str:
        """Of the runs."""
        return f"diffedit status {shlex.quote(str(self.folder))}   shows how far they are"

    def make_words(self, k: int, of: int) -> list[str]:
        """As asked for; the last ones wait for what others are still at."""
        kept = [word for word in self.words if not word.startswith(OWN_WORDS)]
        return ["run", *kept, "launcher=here", "wait=true", "engine.progress=false", f"shard={k}/{of}"]

    def make_last_words(self, score: Sequence[str] | None) -> list[str] | None:
        """What scores the runs, and what else lies in their folder."""
        return None if score is None else ["score", f"runs={quote_value(self.folder / '*/*/*/*')}", *score]

    def count_all(self) -> int:
        """The requests."""
        return self.requests

    def count_done(self) -> int:
        """Those that have an outcome."""
        return sum(map(count_records, self.runs))


@dataclass(frozen=True)
class ScoreWork:
    """Runs that are to be measured, before they are scored.

    Attributes:
        words: of the command line, behind `diffedit score`.
        runs: the run directories.
        folder: where logs lie.
        parts: of all runs.
    """

    words: Sequence[str]
    runs: Sequence[Path]
    folder: Path
    parts: int
    unit: str = "part"
    hint: str = ""

    def make_words(self, k: int, of: int) -> list[str]:
        """As asked for."""
        kept = [word for word in self.words if not word.startswith(OWN_WORDS)]
        return ["score", *kept, "launcher=here", f"shard={k}/{of}"]

    def make_last_words(self, score: Sequence[str] | None) -> list[str] | None:
        """What computes the scores of all that was measured, and measures what was not."""
        if score is not None:
            raise ValueError("launcher.score: of diffedit run; diffedit score has its settings beside it")
        return ["score", *(word for word in self.words if not word.startswith(OWN_WORDS)), "launcher=here"]

    def count_all(self) -> int:
        """The parts."""
        return self.parts

    def count_done(self) -> int:
        """Those that were measured."""
        from eval.scoring.parts import count_measured

        return sum(map(count_measured, self.runs))


def quote_value(path: Path) -> str:
    """A path as a value of an override."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


class Launcher(Protocol):
    """Starts who does some work."""

    def start(self, work: Work) -> None:
        """Return when it was handed in, or has ended."""

    def count_tasks(self) -> Tasks:
        """How many processes it starts, for a plan."""


@settings
class Here:
    """This process does it."""

    def count_tasks(self) -> Tasks:
        """One."""
        return ONE


# --------------------------------------------------------------------------------------------------------- one machine


@settings
class Local:
    """Processes on this machine, each with its own GPU or its own part of the cores.

    Attributes:
        processes: None for one for each visible GPU, one where there is none.
    """

    processes: Annotated[int, Ge(1)] | None = None

    def count_tasks(self) -> Tasks:
        """As many as are asked for, or one a GPU."""
        return Tasks(self.processes or max(len(list_devices()), 1))

    def start(self, work: Work) -> None:
        """Start them, wait for them, and show how far they are; a WorkersFailedError where one did not end well."""
        devices = list_devices()
        count = self.count_tasks().count
        logs = make_folder(work.folder / ".local")
        print(f"{count} processes; their logs: {logs}", file=sys.stderr)
        with start_all(count, work, devices, logs) as workers:
            watch(workers, work)
        failed = {k: worker.returncode for k, worker in enumerate(workers) if worker.returncode}
        if failed:
            told = [f"process {k} ended with {code}:\n{read_tail(logs / f'{k}.log')}" for k, code in failed.items()]
            raise WorkersFailedError("\n".join([*told, "what is done is saved; the same command goes on"]))


def list_devices(environ: Any = os.environ) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


@contextmanager
def start_all(count: int, work: Work, devices: Sequence[str], logs: Path) -> Iterator[list[subprocess.Popen]]:
    """Processes that share the work; those that still go on at the end of the block are stopped."""
    workers = []
    try:
        for k in range(count):
            with (logs / f"{k}.log").open("wb") as log:
                command = [sys.executable, "-m", "diffedit", *work.make_words(k, count)]
                environ = make_environment(k, count, devices)
                workers.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environ))
        yield workers
    finally:
        stop_all(workers)


def make_environment(k: int, count: int, devices: Sequence[str]) -> dict[str, str]:
    """The environment of one of several processes: a GPU, or cores that no other one spins on."""
    from diffedit.engine.threads import count_cores

    environ = dict(os.environ)
    if devices:
        environ["CUDA_VISIBLE_DEVICES"] = devices[k % len(devices)]
    threads = str(max(count_cores() // count, 1))
    for name, value in (("OMP_NUM_THREADS", threads), ("MKL_NUM_THREADS", threads), ("OMP_WAIT_POLICY", "PASSIVE")):
        environ.setdefault(name, value)
    return environ


def watch(workers: Sequence[subprocess.Popen], work: Work) -> None:
    """Wait for processes; shows how much is done."""
    from tqdm.auto import tqdm

    begun, interval = work.count_done(), 0.1 if sys.stderr.isatty() else 10
    with tqdm(total=work.count_all(), initial=begun, unit=work.unit, mininterval=interval) as bar:
        while any(worker.poll() is None for worker in workers):
            time.sleep(LOOK)
            bar.update(max(work.count_done() - bar.n, 0))
        bar.update(max(work.count_done() - bar.n, 0))


def stop_all(workers: Sequence[subprocess.Popen]) -> None:
    """Ask processes to stop, and end those that do not."""
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for worker in workers:
        try:
            worker.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def make_folder(above: Path) -> Path:
    """A new folder, named by the time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for name in (stamp, *(f"{stamp}-{i}" for i in range(1, 1000))):
        with suppress(FileExistsError):
            (above / name).mkdir(parents=True)
            return above / name
    raise FileExistsError(f"{above / stamp}: a thousand starts within a second")


def read_tail(path: Path) -> str:
    """The last lines of a log."""
    with suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-LAST_LINES:])
    return ""


# --------------------------------------------------------------------------------------------------------------- Slurm


@settings
class Slurm:
    """A job array whose tasks share the work; conf/launcher/slurm.yaml says what each setting is."""

    tasks: Annotated[int, Ge(1)] = 8
    array_parallelism: Annotated[int, Ge(1)] | None = None
    partition: str | None = None
    time: Annotated[int, Ge(1)] = 240
    gres: str | None = "gpu:1"
    cpus: Annotated[int, Ge(1)] = 4
    memory: str | None = "16G"
    account: str | None = None
    constraint: str | None = None
    qos: str | None = None
    signal: Annotated[int, Ge(1)] = 120
    requeues: Annotated[int, Ge(0)] = 20
    setup: tuple[str, ...] = ()
    folder: str | None = None
    name: str = "diffedit"
    score: tuple[str, ...] | None = None
    wait: bool = False

    def count_tasks(self) -> Tasks:
        """Those of the array, elsewhere."""
        return Tasks(self.tasks, self.array_parallelism, is_here=False)

    def start(self, work: Work) -> None:
        """Hand in the array, and the job after it; with `wait`, a WorkersFailedError where one did not end well.

        Raises:
            ImportError: submitit is not installed.
            ValueError: there is no Slurm on this machine.
        """
        words = [tuple(work.make_words(k, self.tasks)) for k in range(self.tasks)]
        last = work.make_last_words(self.score)
        folder = Path(self.folder or work.folder / ".slurm")
        jobs = self.make_executor(folder, self.tasks).map_array(CommandTask(), words)
        array = jobs[0].job_id.partition("_")[0]
        print(f"job {array}: {self.tasks} tasks; their logs: {folder}")
        if last is not None:
            after = self.make_executor(folder, 1, dependency=f"afterany:{array}", kill_on_invalid_dep="no")
            jobs.append(after.submit(CommandTask(), tuple(last)))
            print(f"job {jobs[-1].job_id}: scores, after all tasks")
        if work.hint:
            print(work.hint)
        if self.wait:
            wait_for_jobs(jobs, work)

    def make_executor(self, folder: Path, tasks: int, **more: str) -> Any:
        """Submitit's, with these settings; its logs lie in the folder."""
        try:
            import submitit
        except ImportError as error:
            raise ImportError('launcher=slurm: needs submitit: pip install "diffedit[slurm]"') from error
        if submitit.SlurmExecutor.affinity() < 0:
            raise ValueError("launcher=slurm: no srun here: start it where jobs are handed in, or take launcher=print")
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=self.requeues)
        given = {
            "slurm_partition": self.partition,
            "slurm_gres": self.gres,
            "slurm_mem": self.memory,
            "slurm_account": self.account,
            "slurm_constraint": self.constraint,
            "slurm_qos": self.qos,
            "slurm_array_parallelism": min(self.array_parallelism or tasks, tasks),
        }
        executor.update_parameters(
            name=self.name,
            timeout_min=self.time,
            cpus_per_task=self.cpus,
            slurm_setup=list(self.setup),
            slurm_signal_delay_s=self.signal,
            slurm_additional_parameters={"requeue": True, **more},
            **{key: value for key, value in given.items() if value is not None},
        )
        return executor


@settings
class Print(Slurm):
    """Prints a script that does the same without submitit."""

    def start(self, work: Work) -> None:
        """Print it."""
        print(self.make_script(work))

    def make_script(self, work: Work) -> str:
        """For sbatch; a task that was asked to stop is requeued. What is to follow stands in a comment."""
        limit = f"%{self.array_parallelism}" if self.array_parallelism else ""
        options = {
            "job-name": self.name,
            "array": f"0-{self.tasks - 1}{limit}",
            **self.make_options(),
            "signal": f"USR1@{self.signal}",
            "open-mode": "append",
            "output": f"{self.name}-%A_%a.log",  # where sbatch is called: Slurm makes no folder, and says nothing
        }
        lines = ["#!/bin/bash", *(f"#SBATCH --{key}={value}" for key, value in options.items())]
        lines += ["#SBATCH --requeue", *self.make_comment(work), *self.setup]
        words = [word for word in work.make_words(0, 1) if not word.startswith("shard=")]
        task = '"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"'
        lines += [f'srun {make_command(words)} "shard=$SLURM_ARRAY_TASK_ID/{self.tasks}"', "code=$?"]
        lines += [f"if [ $code = 3 ]; then scontrol requeue {task}; fi", "exit $code"]
        return "\n".join(lines)

    def make_options(self) -> dict[str, Any]:
        """Of any of its jobs."""
        options = {
            "time": self.time,
            "cpus-per-task": self.cpus,
            "gres": self.gres,
            "mem": self.memory,
            "partition": self.partition,
            "account": self.account,
            "constraint": self.constraint,
            "qos": self.qos,
        }
        return {key: value for key, value in options.items() if value is not None}

    def make_comment(self, work: Work) -> list[str]:
        """How the job after the array is handed in."""
        last = work.make_last_words(self.score)
        if last is None:
            return []
        options = shlex.join(f"--{key}={value}" for key, value in self.make_options().items())
        command = shlex.quote("; ".join([*self.setup, make_command(last)]))
        return ["# and then, with its number:", f"# sbatch --dependency=afterany:NUMBER {options} --wrap {command}"]


def make_command(words: Sequence[str]) -> str:
    """Of a shell."""
    return shlex.join([sys.executable, "-m", "diffedit", *words])


class CommandTask:
    """What a task of an array calls: a command of diffedit, from its start as often as the task is requeued."""

    def __call__(self, words: Sequence[str]) -> int:
        """Run it; an error where it did not end well, so that the job counts as failed."""
        from diffedit.commands import run_command
        from diffedit.runs.stop import StopRequested

        handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
        try:
            code = run_command(words)
        except StopRequested as stopped:
            handler = handlers.get(stopped.number)
            if callable(handler):  # submitit's: it requeues the job, and ends this process
                handler(stopped.number, None)
            raise SystemExit(stopped.exit_code) from None
        if code:
            raise WorkersFailedError(f"diffedit {shlex.join(words)}: exit code {code}")
        return code

    def checkpoint(self, words: Sequence[str]) -> Any:
        """What submitit hands in again after a preemption or at the end of the time: the same, which goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, words)


def wait_for_jobs(jobs: Sequence[Any], work: Work) -> None:
    """Until all jobs have ended, by what Slurm's queue says; shows how much is done."""
    from tqdm.auto import tqdm

    with tqdm(total=work.count_all(), initial=work.count_done(), unit=work.unit, mininterval=10) as bar:
        while is_queued({job.job_id.partition("_")[0] for job in jobs}):
            time.sleep(POLL)
            bar.update(max(work.count_done() - bar.n, 0))
    failed = [job.job_id for job in jobs if not job.paths.result_pickle.exists() or job.exception() is not None]
    if failed:
        raise WorkersFailedError(f"{', '.join(failed)} did not end well; their logs: {jobs[0].paths.folder}")


def is_queued(ids: Iterable[str]) -> bool:
    """Whether the queue has jobs of these numbers; accounts, which not every cluster keeps, are not asked."""
    command = ["squeue", "--noheader", "--format=%i", f"--jobs={','.join(sorted(ids))}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return bool(done.stdout.strip())  # what it does not know any more is no longer queued
