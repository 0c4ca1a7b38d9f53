"""A strip of edits for a paper: inputs x methods x ratios; texts and outlines of masks are vectors over pictures."""

from collections import Counter
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnchoredOffsetbox, VPacker
from matplotlib.patheffects import withStroke
from numpy import ndarray

from eval.reporting.figure_texts import choose_fonts, clean, pack_words
from eval.reporting.figures import SMALL, FigureSettings, use_style
from eval.reporting.strip_content import Cell, Entry

WIDE = 0.45  # inches of a picture; where it would be smaller, methods stand below each other
LEAST = 0.3  # inches of a picture, below which nothing is seen in it
GAP, GROUP_GAP = 0.03, 0.09  # inches between pictures, and between methods
HEAD, SIDE, LINE = 0.14, 0.25, 0.125  # inches of a head, of a name on the left, of a line of text
LARGEST = 0.4  # of the width of the figure, for a picture
AROUND = 0.2  # of a line, above and below texts
MOST_LINES = 3  # of a method's name
LETTER = 0.52  # of the size of a font: the mean width of its letters
INPUT, TRUE = "input", "true edit"
MASK = {"colors": ["#E69F00"], "linewidths": 1.0, "linestyles": ["solid"]}
EXACT = {"colors": ["white"], "linewidths": 0.9, "linestyles": [(0, (1.5, 1.2))]}


class Column(NamedTuple):
    """A column of pictures: the method that it belongs to ("" for none), and what stands above it."""

    group: str
    head: str


class Row(NamedTuple):
    """A row of pictures by column; what stands above it (an entry whose words begin here), and left of it."""

    cells: dict[Column, Cell]
    entry: Entry | None
    name: str


class Grid(NamedTuple):
    """What is where: columns, rows, and the inches that a picture is wide and high."""

    columns: list[Column]
    rows: list[Row]
    inches: float
    height: float


def draw_strip(entries: Sequence[Entry], settings: FigureSettings, caption: str = "") -> Figure:
    """The figure.

    Args:
        entries: what there is to show.
        settings: of the figure; its height follows from the pictures.
        caption: a line below; "" for none.

    Raises:
        ValueError: there is too much to show for this width.
    """
    grid = arrange(entries, settings.inches)
    with use_style():
        families = choose_fonts(list_texts(entries, caption))
        figure = Figure(figsize=(settings.inches, 1))
        words = [pack(figure, row.entry.words if row.entry else [], SMALL, families) for row in grid.rows]
        below = pack(figure, [(caption, "")] if caption else [], SMALL - 1, families)
        key = HEAD * any(cell.mask is not None or cell.exact is not None for cell in list_cells(grid))
        rows = sum(grid.height + GAP + text.inches for text in words)
        figure.set_figheight(HEAD * (1 + count_head_lines(grid)) + rows + key + below.inches)
        top = figure.get_figheight() - draw_heads(figure, grid, families)
        for row, text in zip(grid.rows, words, strict=True):
            put(figure, text, top)
            draw_row(figure, grid, row, top - text.inches, families)
            top -= text.inches + grid.height + GAP
        if key:
            draw_key(figure, top)
        put(figure, below, top - key)
    return figure


def list_texts(entries: Sequence[Entry], caption: str) -> dict[str, str]:
    """What is written, by what it is of."""
    names = {group.name: clean(group.name) for entry in entries for group in entry.groups}
    texts = {entry.id: clean(" ".join(text for text, _ in entry.words)) for entry in entries}
    return names | texts | {"the caption": clean(caption)}


class Packed(NamedTuple):
    """Lines of text, and how high they are with the room around them; nothing of no words."""

    box: VPacker | None
    inches: float


def pack(figure: Figure, words: Sequence[tuple[str, str]], size: float, families: Sequence[str]) -> Packed:
    """Marked words in lines as wide as the figure."""
    if not words:
        return Packed(None, 0)
    box, lines = pack_words(figure, words, 72 * figure.get_figwidth() - 2, size, families)
    return Packed(box, LINE * (lines + 2 * AROUND))


# -------------------------------------------------------------------------------------------------------------- layout


def arrange(entries: Sequence[Entry], width: float) -> Grid:
    """A row a request, with methods side by side; where pictures would be small so, a row a request and method."""
    side_by_side = Grid(list_columns(entries), [place_entry(entry) for entry in entries], 0, 0)
    below = Grid(list_columns(entries, False), [row for entry in entries for row in place_below(entry)], 0, 0)
    for grid, least in ((side_by_side, WIDE), (below, LEAST)):
        inches = (width - find_left(grid.columns, width, 0)[1]) / len(grid.columns)
        if inches >= least:
            inches = min(inches, LARGEST * width)
            rows, columns, _ = entries[0].image.picture.shape
            return grid._replace(inches=inches, height=inches * rows / columns)
    raise ValueError(
        f"{len(below.columns)} pictures side by side are {inches:.2g} inches wide in {width:g}, and {LEAST:g} is the "
        "least: show fewer by --ratio, or a wider figure by --width"
    )


def list_columns(entries: Sequence[Entry], is_grouped: bool = True) -> list[Column]:
    """The columns of all requests; those of the methods by method, or together."""
    inner: dict[Column, None] = {}
    for group in zip(*(entry.groups for entry in entries), strict=True):
        for one in group:
            inner |= dict.fromkeys(Column(one.name if is_grouped else "", head) for head in one.cells)
    if not is_grouped:
        inner = dict.fromkeys(sorted(inner, key=sort_head))
    has_true = any(entry.true is not None for entry in entries)
    return [Column("", INPUT), *inner, *([Column("", TRUE)] if has_true else [])]


def sort_head(column: Column) -> tuple[bool, float]:
    """Masks first, then rising strengths."""
    _, equals, strength = column.head.partition(" = ")
    return bool(equals), float(strength or 0)


def place_entry(entry: Entry) -> Row:
    """A request in one row."""
    cells = {Column("", INPUT): entry.image} | ({Column("", TRUE): entry.true} if entry.true else {})
    cells |= {Column(group.name, head): cell for group in entry.groups for head, cell in group.cells.items()}
    return Row(cells, entry, "")


def place_below(entry: Entry) -> Iterator[Row]:
    """A request in a row for each method; input and true edit stand in the first."""
    for k, group in enumerate(entry.groups):
        cells = {Column("", head): cell for head, cell in group.cells.items()}
        if not k:
            cells |= {Column("", INPUT): entry.image} | ({Column("", TRUE): entry.true} if entry.true else {})
        yield Row(cells, None if k else entry, group.name)


def find_left(columns: Sequence[Column], width: float, inches: float) -> tuple[list[float], float]:
    """(where each column begins, inches that are no pictures: gaps, and names on the left where methods have rows)."""
    is_grouped = any(column.group for column in columns)
    left, used, before = [], 0.0 if is_grouped else SIDE, None
    for i, column in enumerate(columns):
        place = column.group if is_grouped else column.head in (INPUT, TRUE)
        if i:
            used += GROUP_GAP if place != before else GAP
        left.append(used + i * inches)
        before = place
    return left, used


def list_cells(grid: Grid) -> Iterator[Cell]:
    """All pictures."""
    for row in grid.rows:
        yield from row.cells.values()


# ------------------------------------------------------------------------------------------------------------- drawing


def put(figure: Figure, text: Packed, top: float) -> None:
    """Lines of text at the left edge, below this many inches from the bottom."""
    if text.box is None:
        return
    place = 1 / 72 / figure.get_figwidth(), (top - AROUND * LINE) / figure.get_figheight()
    settings = {"bbox_to_anchor": place, "bbox_transform": figure.transFigure, "frameon": False}
    figure.add_artist(AnchoredOffsetbox("upper left", child=text.box, pad=0, borderpad=0, **settings))


def draw_heads(figure: Figure, grid: Grid, families: Sequence[str]) -> float:
    """What stands above the columns, methods above their own; returns its inches."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    left = find_left(grid.columns, width, grid.inches)[0]
    groups = list(dict.fromkeys(column.group for column in grid.columns if column.group))
    style = {"ha": "center", "va": "center", "fontsize": SMALL, "family": list(families)}
    used = HEAD * count_head_lines(grid)
    for group in groups:
        own = [x for x, column in zip(left, grid.columns, strict=True) if column.group == group]
        start, end = own[0], own[-1] + grid.inches
        name = fold_name(group, end - start, SMALL)
        figure.text((start + end) / 2 / width, (height - used / 2) / height, name, **style, linespacing=1)
        line = (height - used) / height
        figure.add_artist(Line2D([start / width, end / width], [line, line], color="0.5", linewidth=0.5))
    for x, column in zip(left, grid.columns, strict=True):
        figure.text((x + grid.inches / 2) / width, (height - used - HEAD / 2) / height, column.head, **style)
    return used + HEAD


def count_head_lines(grid: Grid) -> int:
    """The lines that the names of the methods take above their columns; 0 where they stand on the left."""
    counts = Counter(column.group for column in grid.columns if column.group)
    return max((1 + fold_name(name, n * grid.inches, SMALL).count("\n") for name, n in counts.items()), default=0)


def fold_name(name: str, inches: float, size: float) -> str:
    """The name of a method in lines that fit; at most three, the last one cut where it is longer."""
    letters = max(4, int(72 * inches / (LETTER * size)))
    words = clean(name).replace(",", ", ")  # settings go on in the next line
    return "\n".join(wrap(words, letters, max_lines=MOST_LINES, placeholder="…"))


def draw_row(figure: Figure, grid: Grid, row: Row, top: float, families: Sequence[str]) -> None:
    """Pictures side by side, below this many inches from the bottom."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    size = grid.inches / width, grid.height / height
    for x, column in zip(find_left(grid.columns, width, grid.inches)[0], grid.columns, strict=True):
        if cell := row.cells.get(column):
            axes = figure.add_axes((x / width, top / height - size[1], *size))
            draw_cell(axes, cell)
    if row.name:
        style = {"rotation": 90, "ha": "center", "va": "center", "fontsize": SMALL - 1, "family": list(families)}
        name = fold_name(row.name, grid.height, SMALL - 1)
        figure.text(SIDE / 2 / width, top / height - size[1] / 2, name, **style, linespacing=0.95)


def draw_cell(axes: Axes, cell: Cell) -> None:
    """A picture at its own size, without resampling, and the outlines over it."""
    extent = (0, 1, 1, 0)
    axes.imshow(cell.picture, interpolation="none", extent=extent, aspect="auto")
    axes.set_axis_off()
    for mask, label, style in ((cell.exact, "exact mask", EXACT), (cell.mask, "mask of the method", MASK)):
        if mask is not None and mask.any():
            draw_outline(axes, mask, label, style)
    axes.set(xlim=(0, 1), ylim=(1, 0))


def draw_outline(axes: Axes, mask: Bool[ndarray, "h w"], label: str, style: dict) -> None:
    """Around a mask, along the edges of its pixels; unbroken, so that its dashes are seen."""
    finer = np.pad(mask.repeat(8, 0).repeat(8, 1), 1).astype(float)  # nothing is cut off a corner but an eighth
    (y, x) = ((np.arange(n + 2) - 0.5) / n for n in (mask.shape[0] * 8, mask.shape[1] * 8))
    lines = axes.contour(x, y, finer, [0.5], **style)
    lines.set_label(label)
    lines.set_path_effects([withStroke(linewidth=style["linewidths"] + 0.9, foreground="black")])


def draw_key(figure: Figure, top: float) -> None:
    """What the outlines mean."""
    lines = []
    for label, style in (("mask of the method", MASK), ("exact mask", EXACT)):
        if any(outline.get_label() == label for outline in figure.findobj(ContourSet)):
            (shape,) = style["linestyles"]
            line = Line2D([], [], color=style["colors"][0], linewidth=style["linewidths"], linestyle=shape, label=label)
            line.set_path_effects([withStroke(linewidth=style["linewidths"] + 0.9, foreground="black")])
            lines.append(line)
    place = 0.5, top / figure.get_figheight()
    figure.legend(handles=lines, loc="upper center", bbox_to_anchor=place, ncols=2, borderpad=0, borderaxespad=0.2)
