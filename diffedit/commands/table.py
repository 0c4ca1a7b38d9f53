"""`diffedit table`: scores as a table for a paper, in Markdown, LaTeX, HTML or CSV."""

import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffedit.commands.launch import launch
from diffedit.commands.plot import as_list

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("table")


class TableFailedError(RuntimeError):
    """The scores of some run could not be read."""

    exit_code = 1


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return launch("table", partial(table, words=argv), argv, config="paper_table", program="diffedit table")


def table(cfg: DictConfig, words: Sequence[str] = ()) -> None:
    """Read scores, compare methods, write or print the table.

    Args:
        cfg: the config.
        words: of the command line, for a comment that says what makes the table again.
    """
    from eval.reporting.paper_table.build import TableSettings, build_paper_table
    from eval.reporting.paper_table.formats import find_format, render
    from eval.scoring.score import find_runs

    keys = ("rows", "at", "match", "interval", "resamples", "seed")
    settings = TableSettings(
        columns=None if cfg.columns is None else as_list(cfg.columns),
        group=as_list(cfg.group),
        match_at=list(cfg.match_at) if isinstance(cfg.match_at, Sequence) else [cfg.match_at],
        names=dict(cfg.names or {}),
        title=cfg.title or "",
        **{key: cfg[key] for key in keys},
    )
    files = [Path(name).expanduser() for name in as_list(cfg.out)] if cfg.out else [None]
    formats = {file: find_format(cfg.format, file) for file in files}
    roots = list(dict.fromkeys(root for pattern in as_list(cfg.runs) for root in find_runs(pattern)))
    scores, left_out = read_scores(roots, cfg)
    published = dict(read_all_published(cfg, scores))
    made = build_paper_table(scores, settings, published, shlex.join(["diffedit", "table", *words]))
    for file, format in formats.items():
        write_table(render(made, format, cfg.label or "", cfg.float), file)
    if left_out:
        raise TableFailedError(f"{left_out} of {len(roots)} runs were left out; see above")


def write_table(text: str, file: Path | None) -> None:
    """To a file, or to the screen."""
    from diffedit.io.files import write

    if file is None:
        print(text, end="")
        return
    write(file, text.encode())
    log.info("%s", file)


def read_scores(roots: Sequence[Path], cfg: DictConfig) -> "tuple[pd.DataFrame, int]":
    """(scores, those of runs that differ in their seed alone merged; how many runs cannot be read)."""
    from diffedit.commands.plot import read_runs

    return read_runs(cfg, roots)


def read_all_published(cfg: DictConfig, scores: "pd.DataFrame") -> "Iterator[tuple[str, pd.DataFrame]]":
    """(benchmark, published values); a file alone is of the only benchmark that there is."""
    from diffedit.io.files import resolve_path
    from eval.reporting.tables import read_published

    given = cfg.published or {}
    if not isinstance(given, Mapping):
        benchmarks = list(dict.fromkeys(scores.benchmark))
        if len(benchmarks) > 1:
            of = f"published={{{benchmarks[0]}: {given}}}"
            raise ValueError(f"published = {given}: there are {', '.join(benchmarks)}: say of which, as {of}")
        given = {benchmarks[0]: given}
    for benchmark, file in given.items():
        yield benchmark, read_published(resolve_path(file))
