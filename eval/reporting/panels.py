"""Small multiples: the same two metrics in a panel for each benchmark, with one legend."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from eval.reporting.collect import NotComparableError
from eval.reporting.curves import (
    DEFAULT,
    NoPointsError,
    Panel,
    choose_published,
    draw_panel,
    name_axis,
    needs_two_panels,
    read_panel,
)
from eval.reporting.figures import SMALL, FigureSettings, add_legend, fold_title, make_figure, save_figure, use_style
from eval.reporting.looks import assign_looks
from eval.reporting.point_labels import place_labels

log = logging.getLogger(__name__)

LEAST = 1.5  # inches of a panel
MOST = 4  # panels side by side


def plot_panels(
    parts: Mapping[str, pd.DataFrame],
    x: Sequence[str],
    y: Sequence[str],
    folder: Path,
    published: Mapping[str, pd.DataFrame] | None = None,
    settings: FigureSettings = DEFAULT,
) -> list[Path]:
    """Save a figure of each pair of metrics, with a panel for each part that has both.

    Args:
        parts: the scores of each panel, as `eval.reporting.collect.collect` returns them, by what stands above it.
        x: metrics of fidelity to the input.
        y: metrics of the edit.
        folder: to write to.
        published: values that are published, by the names of the panels that they belong to.
        settings: of the figures.
    """
    paths = []
    for one, other in [(one, other) for one in x for other in y]:
        if not any({one, other} <= set(part.metric) for part in parts.values()):
            continue
        panels = dict(read_panels(parts, one, other, published or {}))
        if not panels:
            log.warning("no figure of %s over %s: no panel has points", other, one)
            continue
        figure = draw_panels(panels, one, other, settings)
        caption = f"{other} over {one}: {'; '.join(panels)}"
        paths += save_figure(figure, folder / "_".join(["panels", other, "over", one]), settings.formats, caption)
    if not paths:
        log.warning("no figure: nothing was scored by any of %s and any of %s", ", ".join(x), ", ".join(y))
    return paths


def read_panels(
    parts: Mapping[str, pd.DataFrame], x: str, y: str, published: Mapping[str, pd.DataFrame]
) -> Iterator[tuple[str, Panel]]:
    """(what stands above it, what is in it) of each panel; the log says which there is not, and why.

    Scores are compared within a panel only, so that it alone has to be of the same requests and networks.
    """
    for name, part in parts.items():
        if lacking := [metric for metric in dict.fromkeys((x, y)) if metric not in set(part.metric)]:
            log.info("%s: no panel of %s over %s: %s was not scored", name, y, x, " and ".join(lacking))
            continue
        try:
            panel = read_panel(part, x, y, choose_published(published.get(name), x, y))
        except NotComparableError as error:
            raise NotComparableError(f"the panel of {name}: {error}") from error
        except NoPointsError as error:
            log.warning("%s: no panel of %s over %s: %s", name, y, x, error)
            continue
        if panel.points is not None and needs_two_panels([panel.frame[~panel.frame.is_bound], panel.points], x, y):
            log.warning("%s: published points are left out, their scale is another one; panels=null has them", name)
            panel = panel._replace(points=None)
        yield name, panel


def draw_panels(panels: Mapping[str, Panel], x: str, y: str, settings: FigureSettings = DEFAULT) -> Figure:
    """A panel each; a method looks the same in all, and stands once in the legend.

    Args:
        panels: by what stands above each.
        x: metric of fidelity to the input.
        y: metric of the edit.
        settings: of the figure.
    """
    columns = max(1, min(len(panels), MOST, int(settings.inches / LEAST)))
    rows = math.ceil(len(panels) / columns)
    looks = assign_looks(method for panel in panels.values() for method in panel.methods)
    with use_style():
        figure = make_figure(settings, columns, rows, 0.85)
        grid = figure.subplots(rows, columns, squeeze=False)
        labels = []
        for axes, (name, panel) in zip(grid.flat, panels.items(), strict=False):
            labels += draw_panel(axes, panel, x, y, looks, settings, is_brief=True)
            axes.set_title(fold_title(name, settings.inches / columns), fontsize=SMALL)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        scores = next(iter(panels.values())).scores
        figure.supxlabel(name_axis(scores, x, settings), fontsize=SMALL + 1)
        figure.supylabel(name_axis(scores, y, settings), fontsize=SMALL + 1)
        add_legend(figure, settings, "outside upper center", settings.title or "")  # the names of the axes are below
        place_labels(figure, labels)
    return figure
