"""`diffedit plot`: the trade-off of scored runs, and methods compared at equal values of a metric; Proposition 1."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from omegaconf import DictConfig, ListConfig

from diffedit.commands.launch import launch
from diffedit.io.checks import check_literal

if TYPE_CHECKING:
    import pandas as pd

    from eval.reporting.figures import FigureSettings

    Parts: TypeAlias = Sequence[tuple[Sequence[str], pd.DataFrame]]

log = logging.getLogger("plot")

DEFAULTS = {"accuracy", "clip_score", "csfid", "fid"}  # of y: left out where a benchmark does not have them


class PlotFailedError(RuntimeError):
    """The scores of some run could not be read."""

    exit_code = 1


def as_list(names: str | ListConfig) -> list[str]:
    """One name or more."""
    return [names] if isinstance(names, str) else list(names)


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return launch("plot", plot, argv)


def plot(cfg: DictConfig) -> None:
    """What `draw` says."""
    check_literal("draw", cfg.draw, list(DRAWN))
    DRAWN[cfg.draw](cfg)


def plot_tradeoff(cfg: DictConfig) -> None:
    """A plot for each benchmark and pair of metrics, a comparison for each benchmark and compared metric."""
    from eval.scoring.score import find_runs

    check_literal("panels", cfg.panels, list(PANELS))
    settings = read_figure_settings(cfg)
    x, y = as_list(cfg.x), as_list(cfg.y)
    roots = find_runs(cfg.runs)
    scores, left_out = read_runs(cfg, roots)
    published = read_all_published(cfg, list(dict.fromkeys(scores.benchmark)))
    if unknown := {*x, *y, *list_compared(cfg)} - DEFAULTS - (scored := set(scores.metric)):
        raise ValueError(f"{', '.join(sorted(unknown))}: not scored; there are {', '.join(sorted(scored))}")
    sets = scores.groupby(["benchmark", "backbone"]).set.transform("nunique")
    scores["of"] = scores.benchmark
    scores["benchmark"] = scores.benchmark.where(sets == 1, scores.benchmark + "-" + scores.set)
    parts = list(scores.groupby(["benchmark", "backbone"], sort=False))
    for path in PANELS[cfg.panels](parts, Drawn(x, y, Path(cfg.out), published, settings)):
        log.info("%s", path)
    print_comparisons(cfg, parts)
    for names, part in parts:
        for metric in cfg.by_area:
            show_by_area(part, metric, names, cfg, settings)
    if left_out:
        raise PlotFailedError(f"{left_out} of {len(roots)} runs were left out; see above")


def read_figure_settings(cfg: DictConfig) -> "FigureSettings":
    """Width, height, formats, title and names of all figures."""
    from eval.reporting.figures import FigureSettings

    names = {str(name): str(shown) for name, shown in (cfg.names or {}).items()}
    return FigureSettings(cfg.width, cfg.height, tuple(as_list(cfg.formats)), cfg.title, names)


def read_all_published(cfg: DictConfig, benchmarks: Sequence[str]) -> "dict[str, pd.DataFrame]":
    """Published values by benchmark; one file is of all, where each has a figure of its own."""
    from diffedit.io.files import resolve_path
    from eval.reporting.tables import read_published

    given = cfg.published or {}
    if not isinstance(given, Mapping):
        if cfg.panels is not None and len(benchmarks) > 1:
            of = f"published={{{benchmarks[0]}: {given}}}"
            raise ValueError(f"published = {given}: there are panels of {', '.join(benchmarks)}: say of which, as {of}")
        given = dict.fromkeys(benchmarks, given)
    elif unknown := set(given) - set(benchmarks):
        there = ", ".join(benchmarks)
        raise ValueError(f"published: {', '.join(sorted(unknown))}: no such benchmark; there are {there}")
    tables = {file: read_published(resolve_path(file)) for file in dict.fromkeys(given.values())}
    return {benchmark: tables[file] for benchmark, file in given.items()}


class Drawn(NamedTuple):
    """What is drawn of each part, and how."""

    x: list[str]
    y: list[str]
    out: Path
    published: "Mapping[str, pd.DataFrame]"
    settings: "FigureSettings"


def plot_each(parts: "Parts", drawn: Drawn) -> Iterator[Path]:
    """A figure for each benchmark, backbone and pair of metrics."""
    from eval.reporting.curves import plot_pairs

    for names, part in parts:
        published = drawn.published.get(part.of.iloc[0])
        yield from plot_pairs(part, drawn.x, drawn.y, names, drawn.out, published, drawn.settings)


def plot_side_by_side(parts: "Parts", drawn: Drawn) -> Iterator[Path]:
    """A figure for each pair of metrics, with a panel for each benchmark and backbone."""
    from eval.reporting.panels import plot_panels

    write = drawn.settings.write_name
    backbones = {backbone for (_, backbone), _ in parts}
    panels = {
        write(benchmark) if len(backbones) == 1 else f"{write(benchmark)}, {backbone}": part
        for (benchmark, backbone), part in parts
    }
    published = drawn.published
    own = {title: published[part.of.iloc[0]] for title, part in panels.items() if part.of.iloc[0] in published}
    yield from plot_panels(panels, drawn.x, drawn.y, drawn.out, own, drawn.settings)


def list_compared(cfg: DictConfig) -> list[str]:
    """The metrics that are compared; none without a value to match at."""
    return list(cfg.compare) if cfg.match_at else []


def read_runs(cfg: DictConfig, roots: Sequence[Path]) -> "tuple[pd.DataFrame, int]":
    """(scores, those of runs that differ in their seed alone merged; how many runs cannot be read)."""
    from eval.reporting.collect import collect, find_readable
    from eval.reporting.seeds import merge_seeds

    readable = find_readable(roots)
    left_out = len(roots) - len(readable)
    scores = collect(readable)
    if scores.empty and left_out:
        raise PlotFailedError(f"{left_out} of {len(roots)} runs were left out, no other is scored")
    if scores.empty:
        raise FileNotFoundError(f"runs = {cfg.runs}: none of them is scored; do it by diffedit score")
    return merge_seeds(scores, cfg.resamples, cfg.seed), left_out


def print_comparisons(cfg: DictConfig, parts: "Parts") -> None:
    """Compare methods within each part, and print a table for each compared metric; p corrected over all of them.

    All of it, with what a terminal has no room for, is written to comparisons.csv in `out`.
    """
    from eval.reporting.compare import build_comparison_table, compare_at_equal, correct_together
    from eval.reporting.tables import make_console

    shared = cfg.match, list(cfg.match_at or [])
    comparisons = {
        (", ".join(names), metric): compare_at_equal(part, cfg.method, *shared, metric, cfg.resamples, cfg.seed)
        for names, part in parts
        for metric in list_compared(cfg)
    }
    comparisons = {key: comparison for key, comparison in comparisons.items() if not comparison.empty}
    corrected = dict(zip(comparisons, correct_together(list(comparisons.values())), strict=True))
    write_comparisons(cfg, corrected)
    console = make_console()
    for (title, metric), comparison in corrected.items():
        table = build_comparison_table(
            comparison, cfg.method, cfg.match, metric, console.width, title, resamples=cfg.resamples
        )
        console.print("", table)


def write_comparisons(cfg: DictConfig, comparisons: "Mapping[tuple[str, str], pd.DataFrame]") -> None:
    """A row for each comparison, the columns of `eval.reporting.compare.compare_at_equal` behind what it is of."""
    import pandas as pd

    from diffedit.io.files import write

    if not comparisons:
        return
    tables = []
    for (title, metric), comparison in comparisons.items():
        what = {"of": title, "metric": metric, "match": cfg.match, "method": cfg.method}
        tables.append(pd.DataFrame([what] * len(comparison), comparison.index).join(comparison))
    path = Path(cfg.out) / "comparisons.csv"
    write(path, pd.concat(tables).to_csv(index=False).encode())
    log.info("%s", path)


def show_by_area(
    scores: "pd.DataFrame", metric: str, names: Sequence[str], cfg: DictConfig, settings: "FigureSettings"
) -> None:
    """A metric by the area that is to be edited, where it was scored: a table and a plot."""
    from diffedit.io.files import write
    from eval.reporting.by_area import average_by_area, build_area_table, draw_by_area
    from eval.reporting.figures import save_figure
    from eval.reporting.tables import make_console

    ranges = average_by_area(scores, metric, list(cfg.areas), cfg.resamples, cfg.seed)
    if ranges.empty:
        log.info("%s: no %s by area: metric=[%s,mask_ceiling] of diffedit score", ", ".join(names), metric, metric)
        return
    console, title = make_console(), ", ".join(names)
    console.print("", build_area_table(ranges, metric, title, console.width))
    stem = Path(cfg.out) / "_".join([*names, metric, "by_area"])
    table = stem.with_name(f"{stem.name}.csv")
    write(table, ranges.to_csv(index=False).encode())
    figure = draw_by_area(ranges, metric, title, settings)
    for path in (*save_figure(figure, stem, settings.formats), table):
        log.info("%s", path)


def plot_proposition1(cfg: DictConfig) -> None:
    """Figure, table and result of each run of experiment=proposition1; none has to be scored."""
    from diffedit.io.files import write
    from eval.reporting.draw_proposition1 import build_proposition_table, draw_proposition1
    from eval.reporting.figures import save_figure
    from eval.reporting.proposition1 import read_measured, summarise
    from eval.reporting.tables import make_console
    from eval.scoring.score import EXPLAINED, find_runs

    settings = read_figure_settings(cfg)
    roots, left_out, console = find_runs(cfg.runs), 0, make_console()
    for root in roots:
        try:
            measured = read_measured(root)
        except EXPLAINED as error:
            log.error("%s: left out: %s", root, error)
            left_out += 1
            continue
        result = summarise(measured, cfg.resamples, cfg.seed)
        place = "_".join(root.parts[-4:-2])
        is_alone = sum(other.parts[-4:-2] == root.parts[-4:-2] for other in roots) == 1
        stem = Path(cfg.out) / (place if is_alone else f"{place}_{root.name}")
        for path in save_figure(draw_proposition1(measured, result), stem, settings.formats):
            log.info("%s", path)
        strict = json.loads(json.dumps(result), parse_constant=lambda _: None)  # JSON has no NaN and no infinity
        write(stem.with_name(f"{stem.name}.json"), json.dumps(strict, indent=1).encode())
        for guidance in result["panels"]:
            console.print("", build_proposition_table(result, guidance, console.width))
    if left_out:
        raise PlotFailedError(f"{left_out} of {len(roots)} runs were left out; see above")


PANELS = {None: plot_each, "benchmark": plot_side_by_side}
"""How each value of `panels` is drawn."""
DRAWN = {"tradeoff": plot_tradeoff, "proposition1": plot_proposition1}
"""How each value of `draw` is drawn."""
