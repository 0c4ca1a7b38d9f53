"""How figures are made for papers: widths, fonts, and files that hold all that they need."""

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, Literal

import matplotlib
from annotated_types import Gt, Le
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from diffedit.io.checks import settings
from diffedit.io.files import write

WIDTHS = {"column": 3.25, "text": 6.75, "iclr": 5.5, "neurips": 5.5}  # inches; the first two as ICML has them
NARROWEST, WIDEST = 1.5, 40.0  # inches
FORMATS = ("png", "pdf", "svg")
DPI = 300  # of a PNG
MOST_COLUMNS = 5  # of a legend
SMALL = 7  # points, of all texts but the names of axes

# Both fonts come with matplotlib: nothing has to be installed, and a figure is the same everywhere.
FONTS = ("STIXGeneral", "DejaVu Sans")  # the second for what the first lacks
FILES = {
    "pdf.fonttype": 42,  # TrueType, embedded; matplotlib's own Type 3 is refused by the checks of publishers
    "ps.fonttype": 42,
    # Outlines of the letters: a browser or an editor does not have our font, SVG cannot embed it, and the texts would
    # stand in another one, wider or narrower than the room that was left for them. A PDF has them as texts.
    "svg.fonttype": "path",
    "svg.hashsalt": "diffedit",  # the same figure gives the same file
    "image.composite_image": False,  # each picture is embedded by itself, at its own size
}
STYLE = FILES | {
    "font.family": list(FONTS),
    "font.size": SMALL + 1,
    "text.parse_math": False,  # a $ in a prompt or in a setting is a $
    "text.usetex": False,
    "axes.labelsize": SMALL + 1,
    "axes.titlesize": SMALL + 1,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "0.92",
    "grid.linewidth": 0.6,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.3,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.8,
    "lines.markeredgewidth": 0.6,
    "lines.scale_dashes": True,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    "savefig.bbox": "standard",  # "tight" would change the width
    "savefig.facecolor": "white",
}


@settings
class FigureSettings:
    """How wide a figure is, and what it is written as.

    Attributes:
        width: a name of `WIDTHS`, or inches.
        height: inches; None: as its panels and its legend need.
        formats: of its files.
        title: above it; None: what the runs have in common.
        names: what methods and metrics are called in it, by what they are called here.
    """

    width: str | float = "column"
    height: Annotated[float, Gt(0.5), Le(WIDEST)] | None = None
    formats: tuple[Literal["png", "pdf", "svg"], ...] = FORMATS
    title: str | None = None
    names: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        find_width(self.width)
        if not self.formats:
            raise ValueError(f"formats = []: at least one of {', '.join(FORMATS)}")

    @property
    def inches(self) -> float:
        return find_width(self.width)

    def write_name(self, name: str) -> str:
        """What a method or a metric is called: a method by its editor's name there, and by its setting."""
        names = self.names or {}
        editor, bracket, setting = name.partition(" (")
        return names[name] if name in names else names.get(editor, editor) + bracket + setting


def find_width(width: str | float) -> float:
    """Inches of a width; a ValueError where it is no width."""
    if width in WIDTHS:
        return WIDTHS[str(width)]
    try:
        inches = float(width)
    except ValueError:
        inches = float("nan")
    if not NARROWEST <= inches <= WIDEST:
        known = ", ".join(f"{name} ({inches:g})" for name, inches in WIDTHS.items())
        raise ValueError(f"width = {width}: {known}, or inches from {NARROWEST:g} to {WIDEST:g}")
    return inches


@contextmanager
def use_style() -> Iterator[None]:
    """Figures that are drawn within it are in the style of papers; others keep theirs."""
    with matplotlib.rc_context(STYLE):
        yield


def make_figure(chosen: FigureSettings, columns: int = 1, rows: int = 1, aspect: float = 0.72) -> Figure:
    """An empty figure for so many panels; each this high for its width, where no height was chosen."""
    height = chosen.height or rows * aspect * chosen.inches / columns
    return Figure(figsize=(chosen.inches, height), layout="constrained")


def add_legend(figure: Figure, chosen: FigureSettings, place: str = "outside lower center", title: str = "") -> None:
    """One legend for all panels, in as many columns as fit; the figure grows by it where no height was chosen."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    room, letter = 72 * chosen.inches, 0.5 * SMALL  # points
    labels = [fill(label, int(room / letter) - 12) for label in entries]
    for columns in range(min(MOST_COLUMNS, len(labels)), 0, -1):
        legend = figure.legend(list(entries.values()), labels, loc=place, ncols=columns, title=title or None)
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    if chosen.height is None:
        figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def fold_title(text: str, inches: float) -> str:
    """A title in lines that fit a panel of this width."""
    return "\n".join(fill(line, int(72 * inches * 0.85 / (0.47 * SMALL))) for line in text.split("\n"))


def save_figure(
    figure: Figure, stem: Path, formats: Sequence[str] = FORMATS, caption: str = "", style: Mapping[str, Any] = FILES
) -> list[Path]:
    """Write a figure as each of these formats; the same figure gives the same bytes.

    Args:
        figure: of matplotlib.
        stem: of the files, without an ending.
        formats: their endings.
        caption: what the figure shows, for the metadata of the files.
        style: settings of matplotlib that are read when it is written.
    """
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in formats]
    with matplotlib.rc_context(style), quiet("fontTools"):  # which tells of every glyph that it embeds
        for path in paths:
            data, ending = io.BytesIO(), path.suffix[1:]
            figure.savefig(data, dpi=DPI, format=ending, metadata=make_metadata(ending, caption))
            write(path, data.getvalue())
    return paths


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """A logger says no more than its warnings within it."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def make_metadata(ending: str, caption: str) -> dict[str, str | datetime | None]:
    """What a file says of itself: no date, so that it stays the same, and the caption where there is one."""
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending, {})
    key = {"svg": "Description", "pdf": "Subject", "png": "Description"}.get(ending)
    return dates | ({key: caption} if caption and key else {})
