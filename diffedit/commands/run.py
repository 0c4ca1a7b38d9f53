"""`diffedit run`: edit every request of a benchmark at every ratio; go on where a killed run stopped."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from diffedit.commands.launch import launch, tell
from diffedit.commands.refine import check_refine, keep_ratios, refine_run
from diffedit.commands.sweep import Job, Tell, edit_jobs, make_job, may_wait, print_plan
from diffedit.io.files import remove_empty, resolve_path
from diffedit.runs.names import register_resolvers
from diffedit.runs.stop import obey_signals

if TYPE_CHECKING:
    from diffedit.commands.launchers import Launcher
    from diffedit.runs.held import AskedRun
    from diffedit.runs.loop import RunSettings


def main(argv: Sequence[str], program: str = "diffedit run") -> int:
    """The command; returns its exit code.

    Args:
        argv: what stands behind the command's name.
        program: as it was typed.
    """
    register_resolvers()
    try:
        words = sweep_seeds(argv)
    except ValueError as error:
        return tell(error, program)
    sweep = Sweep(words)
    with obey_signals():
        return launch("run", sweep.run, words, finish=sweep.finish, program=program)


def sweep_seeds(argv: Sequence[str]) -> list[str]:
    """The words of a command line, `seeds=[0,1,2]` as the sweep `--multirun seed=0,1,2`: a run for each."""
    given = [word for word in argv if word.startswith("seeds=")]
    if not given:
        return list(argv)
    numbers = given[-1].removeprefix("seeds=").strip("[]").replace(" ", "").split(",")
    if not all(map(str.isdecimal, numbers)) or len(set(numbers)) < len(numbers):
        raise ValueError(f"{given[-1]}: different whole numbers are wanted, as seeds=[0,1,2]")
    if both := [word for word in argv if word.startswith("seed=")]:
        raise ValueError(f"{given[-1]} and {both[-1]}: one of them is wanted")
    flag = [] if {"--multirun", "-m"} & set(argv) else ["--multirun"]
    return [*flag, *(word for word in argv if word not in given), f"seed={','.join(numbers)}"]


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """A run that other processes are to edit.

    Attributes:
        launcher: starts them.
        run: what is to be edited.
        folder: where run directories lie.
    """

    launcher: "Launcher"
    run: "AskedRun"
    folder: Path


def hand_over(jobs: Sequence[Elsewhere], words: Sequence[str]) -> None:
    """Start what edits these runs, of one command; a ValueError where they ask for several launchers."""
    from diffedit.commands.launchers import RunWork

    if len({repr(job.launcher) for job in jobs}) > 1:
        raise ValueError("launcher: one for all runs of a command is wanted")
    requests = sum(len(job.run.benchmark) for job in jobs)
    jobs[0].launcher.start(RunWork(words, [job.run.root for job in jobs], requests, jobs[0].folder))


class Sweep:
    """What the jobs of one command have in common: one without `--multirun` is the only one."""

    def __init__(self, words: Sequence[str] = ()) -> None:
        self.words = words
        self.benchmarks: dict[str, Any] = {}

    def finish(self, jobs: Sequence[tuple[Any, Tell]]) -> None:
        """Edit the jobs that wait; those that others are to edit are handed over at once."""
        here = [(job, tell) for job, tell in jobs if isinstance(job, Job)]
        if here:
            edit_jobs(here)
        elsewhere = [(job, tell) for job, tell in jobs if not isinstance(job, Job)]
        if elsewhere:
            try:
                hand_over([job for job, _ in elsewhere], self.words)
            except Exception as error:
                elsewhere[0][1](error)

    def run(self, cfg: DictConfig) -> "Job | Elsewhere | None":
        """One run: benchmark x backbone x editor, or the job that may be edited later. What costs least comes first."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.utils import instantiate

        from diffedit.commands.launchers import Here
        from diffedit.runs.archive import refuse_archived
        from diffedit.runs.held import AskedRun
        from diffedit.runs.loop import run_benchmark
        from diffedit.runs.plan import plan_benchmark
        from diffedit.stages.pipeline import build_pipeline

        root = Path(HydraConfig.get().runtime.output_dir)
        if cfg.plan:
            keep_no_file()
        try:
            check_refine(cfg)
            refuse_archived(root)
            config, settings = read_settings(cfg)
            asked = AskedRun(self.make_benchmark(cfg, config), build_pipeline(cfg), root, settings, config)
            if cfg.refine is not None:
                asked = keep_ratios(asked)
            launcher = instantiate(cfg.launcher, _convert_="all")
            check_scoring(launcher)
            if not isinstance(launcher, Here) and cfg.refine is not None:
                raise ValueError("refine: with launcher=here alone, once the other ratios are done")
            if not isinstance(launcher, Here) and not cfg.plan:
                return Elsewhere(launcher, asked, Path(cfg.runs))
            if cfg.together and may_wait():
                return make_job(cfg, asked)
            backbone = instantiate(cfg.backbone, _convert_="all")
            what = asked.benchmark, asked.pipeline, backbone, root, asked.settings, asked.config
            if cfg.plan:
                print_plan(plan_benchmark(*what, launcher.count_tasks()))
                return None
            run_benchmark(*what)
            if cfg.refine is not None:
                refine_run(cfg, asked, backbone)
        finally:
            remove_empty(root, Path(cfg.runs))
        return None

    def make_benchmark(self, cfg: DictConfig, config: Mapping[str, Any]) -> Any:
        """The benchmark of a job; equal ones are one, so that runs which are edited together open a picture once."""
        from hydra.utils import instantiate

        key = json.dumps(config["benchmark"], sort_keys=True, default=str)
        if key not in self.benchmarks:
            self.benchmarks[key] = instantiate(cfg.benchmark, _convert_="all")
        return self.benchmarks[key]


def check_scoring(launcher: "Launcher") -> None:
    """Refuse, before anything is handed in, words of the job after all tasks that `diffedit score` would refuse."""
    words = list(getattr(launcher, "score", None) or ())
    if not words:
        return

    from diffedit.commands.launch import describe, find_nearer
    from diffedit.commands.schemas import check_command
    from diffedit.io.compose import compose

    try:
        check_command(compose("score", words), "score")
    except Exception as error:
        raise ValueError(f"launcher.score: {describe(find_nearer(error, 'score', words))}") from None


def keep_no_file() -> None:
    """Let no warning of a plan begin the log file of its run: a plan writes nothing, not where it could not."""
    log = logging.getLogger()
    for handler in [handler for handler in log.handlers if isinstance(handler, logging.FileHandler)]:
        log.removeHandler(handler)


def read_settings(cfg: DictConfig) -> "tuple[dict[str, Any], RunSettings]":
    """The config of a run as plain containers, and what it says of how the run goes."""
    from diffedit.engine.sizes import AskedSizes
    from diffedit.runs.cut import Share
    from diffedit.runs.loop import RunSettings
    from diffedit.sampling.schedule import read_ratios

    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    engine = dict(read_section(config, "engine"))
    batch = AskedSizes.read(engine["batch"])
    keys = "verify", "wait", "cache_gigabytes", "cache_edits"
    cache = None if cfg.cache is None else resolve_path(str(cfg.cache))
    options = engine | {"batch": batch, "cache": cache} | {key: cfg[key] for key in keys}
    options |= {"share": Share.read(cfg.shard), "shard_size": cfg.shards.size, "claim_timeout": cfg.claims.timeout}
    return config, RunSettings(read_ratios(cfg.ratios), cfg.steps, cfg.seed, cfg.on_error, **options)


def read_section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings below a name; a ValueError where somebody put a value there."""
    if not isinstance(config[name], Mapping):
        raise ValueError(f"{name} = {config[name]}: it has settings of its own, such as {name}.KEY=VALUE")
    return config[name]
