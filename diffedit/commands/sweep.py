"""`diffedit run --multirun` in one process: jobs that wait for the last of them, and are edited together then."""

import gc
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffedit.commands.launch import set_limits
from diffedit.commands.refine import refine_run
from diffedit.io.files import remove_empty

if TYPE_CHECKING:
    from diffedit.runs.held import AskedRun
    from diffedit.runs.plan import Plan

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

Tell = Callable[[Exception], None]
"""Says what went wrong with one job, and notes its exit code."""


@dataclass(frozen=True, eq=False)
class Job:
    """A job of a sweep, checked as far as that goes without networks.

    Attributes:
        cfg: what Hydra composed.
        run: what is to be edited.
        consoles: handlers of the log that all jobs share.
        level: of the log.
    """

    cfg: Any
    run: "AskedRun"
    consoles: Sequence[logging.Handler]
    level: int

    @property
    def networks(self) -> str:
        """What jobs have to have in common to be edited by one set of networks."""
        from omegaconf import OmegaConf

        return json.dumps([OmegaConf.to_container(self.cfg.backbone, resolve=True), self.cfg.max_pixels, self.cfg.plan])


def may_wait() -> bool:
    """Whether Hydra's job may be done after it: in a sweep in this process, around whose jobs Hydra does nothing."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    is_here = hydra.mode == RunMode.MULTIRUN and hydra.launcher.get("_target_") == BASIC
    return is_here and not hydra.job.chdir and not hydra.job.env_set and not hydra.callbacks


def make_job(cfg: Any, asked: "AskedRun") -> Job:
    """The job that Hydra is at, with the handlers that it has set up for the job's log."""
    from omegaconf import OmegaConf

    from diffedit.runs.log import RunLog

    OmegaConf.resolve(cfg.backbone)  # while Hydra knows of this job
    log = logging.getLogger()
    files = [copy_handler(handler) for handler in log.handlers if isinstance(handler, logging.FileHandler)]
    consoles = [handler for handler in log.handlers if not isinstance(handler, logging.FileHandler)]
    return Job(cfg, replace(asked, log=RunLog(files)), consoles, log.level)


def copy_handler(handler: logging.FileHandler) -> logging.FileHandler:
    """A handler of the same file: Hydra closes its own after each job."""
    copy = logging.FileHandler(handler.baseFilename, "a", handler.encoding, delay=True)
    copy.setFormatter(handler.formatter)
    copy.setLevel(handler.level)
    return copy


def edit_jobs(jobs: Sequence[tuple[Job, Tell]]) -> None:
    """Edit the jobs of a sweep; those of other networks after each other."""
    from diffedit.runs.together import group_by

    with log_of_jobs([job for job, _ in jobs]):
        for group in group_by(jobs, lambda entry: entry[0].networks):
            try:
                edit_group(group)
            finally:
                for job, _ in group:
                    remove_empty(job.run.root, Path(job.cfg.runs))
            free_networks()


def edit_group(jobs: Sequence[tuple[Job, Tell]]) -> None:
    """Edit jobs of the same networks; where these cannot be had, each is told."""
    from hydra.utils import instantiate

    from diffedit.runs.plan import plan_together
    from diffedit.runs.together import edit_together

    tells = {job.run: tell for job, tell in jobs}
    cfg = jobs[0][0].cfg
    try:
        set_limits(cfg)
        backbone = instantiate(cfg.backbone, _convert_="all")
    except Exception as error:
        for one in tells.values():
            one(error)
        return

    failed = set()

    def tell(run: "AskedRun", error: Exception) -> None:
        failed.add(run)
        tells[run](error)

    if cfg.plan:
        tasks = instantiate(cfg.launcher, _convert_="all").count_tasks()
        for plan in plan_together(list(tells), backbone, tell, tasks):
            print_plan(plan)
    else:
        edit_together(list(tells), backbone, tell)
        refine_jobs([job for job, _ in jobs if job.run not in failed], backbone, tell)


def refine_jobs(jobs: Sequence[Job], backbone: Any, tell: Callable[["AskedRun", Exception], None]) -> None:
    """Extend the runs that are done by the ratios that `refine` asks for, one run after the other."""
    for job in jobs:
        if job.cfg.refine is not None:
            try:
                with job.run.log.own():
                    refine_run(job.cfg, job.run, backbone)
            except Exception as error:
                tell(job.run, error)


def print_plan(plan: "Plan") -> None:
    """As a table."""
    from eval.reporting.tables import make_console

    make_console().print("", plan.table())


def free_networks() -> None:
    """Give back the memory of networks that nobody holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def log_of_jobs(jobs: Sequence[Job]) -> Iterator[None]:
    """What is logged goes where the jobs' lines go: Hydra has its own log again after the last of them."""
    log = logging.getLogger()
    kept, files = log.handlers[:], [handler for job in jobs for handler in job.run.log.handlers]
    log.handlers[:] = [*jobs[0].consoles, *files]
    log.setLevel(jobs[0].level)
    try:
        yield
    finally:
        log.handlers[:] = kept
        for handler in files:
            handler.close()
