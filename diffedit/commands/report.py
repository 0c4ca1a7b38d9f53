"""`diffedit report`: a page on runs, to look at: curves, tables, and every request with what became of it."""

import logging
import os
import shlex
import socket
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from diffedit.commands.launch import launch

log = logging.getLogger("report")

SETTINGS = ("x", "method", "thumbs", "count", "copy", "single_file", "limit", "threads", "resamples", "seed")
REMOTE = ("SSH_CONNECTION", "SLURM_JOB_ID", "SLURM_SUBMIT_HOST")  # set where the screen is elsewhere


class ReportFailedError(RuntimeError):
    """Some run could not be shown."""

    exit_code = 1


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return launch("report", report, argv)


def report(cfg: DictConfig) -> None:
    """Write the page, log it, and say where it is."""
    from hydra.utils import instantiate

    from diffedit.io.files import resolve_path
    from diffedit.runs.archive import leave_out_tars
    from eval.reporting.loggers import PageLogger
    from eval.reporting.report.site import PageSettings, write_report
    from eval.reporting.tables import read_published
    from eval.scoring.score import find_runs

    logger = instantiate(cfg.logger, _convert_="all")
    if not isinstance(logger, PageLogger):
        raise ValueError(f"logger = {type(logger).__name__}: it shows no pages; use logger=wandb or logger=none")
    y = [cfg.y] if isinstance(cfg.y, str) else list(cfg.y)
    settings = PageSettings(y=y, **{key: cfg[key] for key in SETTINGS})
    published = read_published(resolve_path(cfg.published)) if cfg.published else None
    patterns = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    groups = [leave_out_tars(find_runs(pattern)) for pattern in patterns]
    roots = list(dict.fromkeys(root for group in groups for root in group))
    sides = name_sides(groups) if cfg.paired else None
    refuse_foreign(Path(cfg.out))
    path, problems, _ = write_report(Path(cfg.out), roots, settings, published, sides=sides)
    log.info("%s", path)
    for folder in logger.log_page(path, roots, {key: getattr(settings, key) for key in ("y", *SETTINGS)}):
        log.info("logged: %s", folder)
    if cfg.open:
        show(path)
    if problems:
        raise ReportFailedError(
            f"{len(problems)} things could not be shown; the page lists them, the first: {problems[0]}"
        )


def name_sides(groups: Sequence[Sequence[Path]]) -> dict[str, str]:
    """Of each run the report that it is of, A or B; a ValueError where there are not two, or a run is of both."""
    if len(groups) != 2:
        raise ValueError(f"paired = true: runs = {len(groups)} globs; two are compared: runs=[A,B]")
    if both := {*groups[0]} & {*groups[1]}:
        raise ValueError(f"paired = true: {min(both)} is in both globs of runs=[A,B]")
    return {str(root): side for side, group in zip("AB", groups, strict=True) for root in group}


def refuse_foreign(out: Path) -> None:
    """Refuse a folder whose index.html is none of ours: a ValueError."""
    if (out / "index.html").exists() and not (out / "page" / "files.txt").exists():
        raise ValueError(f"out = {out}: diffedit report did not write the index.html there; choose another folder")


def show(path: Path) -> None:
    """Open the page; where no screen is at hand, print what brings it to one."""
    if any(os.environ.get(name) for name in REMOTE):
        print(f"on your own machine:\n  {name_copy(path, os.environ)}")
    elif not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser was found here: open {path.resolve()}")


def name_copy(path: Path, environment: Mapping[str, str]) -> str:
    """The line that copies a page, with its folder, from this host: to be typed on another."""
    folder = path.resolve() if path.name != "index.html" else path.resolve().parent
    user = environment.get("USER") or environment.get("LOGNAME")
    host = environment.get("SLURM_SUBMIT_HOST") or socket.getfqdn()  # a node of a cluster is often not reached directly
    place = f"{user}@{host}" if user else host
    return f"scp -r {shlex.quote(f'{place}:{folder}')} ."
