"""One page on a comparison of methods: some edits with their masks, the curve, and what its figures say.

A folder with `index.html`, its pictures beside it; nothing is fetched from anywhere.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Plot
from matplotlib.patheffects import withStroke

from diffedit.io.files import quote_file_name, write
from diffedit.io.images import to_pil, write_picture
from diffedit.types import EditRequest
from eval.reporting.compare import compare_at_equal, correct_together, describe_difference, explain_gaps
from eval.reporting.contact_sheet import draw_overlay
from eval.reporting.curves import COLOURS, draw_curves, save_figure
from eval.reporting.tables import MISSING, compute_half_widths, format_value, pivot_scores
from eval.scoring.finished_run import FinishedRun, read_picture

NAMES = {
    "diffedit": "DiffEdit",
    "diffedit_no_encode": "DiffEdit w/o Encode",
    "encode_decode": "Encode-Decode",
    "sdedit": "SDEdit",
    "copy": "the input itself",
}
COLUMNS = {  # of the table of all methods: what a metric is called there
    "accuracy": "accuracy ↑",
    "kept": "the rest kept ↑",
    "both": "both ↑",
    "lpips": "LPIPS to the input ↓",
    "cf_lpips": "LPIPS to the true edit ↓",
    "mask_iou": "IoU of the mask ↑",
}
DARK = {"ink": "#d7dae0", "paper": "#1b1e24", "grid": "#333842"}  # as in page.html
LIGHTER = {COLOURS[0]: "#56a8e0", COLOURS[1]: "#f08c4a", COLOURS[6]: "#ffffff"}  # colours that are dim on dark paper


class Picture(NamedTuple):
    """A picture of the page: its file beside the page, what it shows, and what is written below it."""

    file: str
    alt: str
    caption: str


class Strip(NamedTuple):
    """The edits of one request.

    Attributes:
        name: of the request.
        words: the change from source to target: (text, "del", "ins" or "").
        pictures: input, mask and edits of each method, true edit.
    """

    name: str
    words: list[tuple[str, str]]
    pictures: list[Picture]


class Figure(NamedTuple):
    """A number of the page: what it is of, its value, and a sentence on what it says."""

    what: str
    value: str
    sentence: str


class Question(NamedTuple):
    """A metric that two methods are compared by where another one is equal.

    Attributes:
        metric: the compared one.
        match: the matched one.
        values: of it, those that are tried.
        what: the compared one in words.
        at: the matched one in words.
        phrase: as of `describe_difference`.
        unit: as of `describe_difference`.
        most: values that are told of, those farthest apart.
    """

    metric: str
    match: str
    values: Sequence[float]
    what: str
    at: str
    phrase: tuple[str, str]
    unit: str = ""
    most: int = 1


TENTHS = [i / 10 for i in range(1, 10)]
QUESTIONS = (
    Question(
        *("lpips", "accuracy", TENTHS, "LPIPS to the input", "an accuracy"),
        (
            "{method} leaves the picture closer to the input than {other} by {by}",
            "{method} leaves the picture farther from the input than {other} by {by}",
        ),
        *(" LPIPS", 2),
    ),
    Question(
        *("accuracy", "lpips", [i / 5 for i in range(1, 20)], "accuracy", "an LPIPS to the input"),
        (
            "{method} makes fewer of the edits that were asked for than {other}: the share is lower by {by}",
            "{method} makes more of the edits that were asked for than {other}: the share is higher by {by}",
        ),
    ),
    Question(
        *("cf_lpips", "accuracy", TENTHS, "LPIPS to the true edit", "an accuracy"),
        (
            "{method} comes closer to the true edit than {other} by {by}",
            "{method} stays farther from the true edit than {other} by {by}",
        ),
        " LPIPS",
    ),
)


def write_page(
    folder: Path, runs: Mapping[str, FinishedRun], scores: pd.DataFrame, count: int, **texts: Any
) -> tuple[Path, list[Figure]]:
    """Write `index.html` and its pictures; returns its path and the figures that it tells of.

    Args:
        folder: to write to.
        runs: finished runs of the same requests by editor; the first is the one that others are compared with.
        scores: of these runs, as `eval.reporting.collect.collect` returns them.
        count: requests to show.
        texts: what the template has beside it: `commands`, pairs of what a command is for and the command itself, and
            `made`, a line on what the runs were made with.
    """
    method, *_ = runs
    figures = find_figures(scores, method)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("page.html")
    one = next(iter(runs.values()))
    page = template.render(
        names=list(map(name_editor, runs)),
        n=len(one.requests),
        ratios=[variant.strength for variant in one.variants],
        steps=one.config["steps"],
        step=find_step(len(one.requests), count),
        strips=list(draw_strips(runs, folder, count)),
        curve=draw_curve(scores, folder),
        figures=figures,
        table=tabulate(scores),
        **texts,
    )
    path = folder / "index.html"
    write(path, page.encode())
    return path, figures


# ------------------------------------------------------------------------------------------------------------- edits


def name_editor(editor: str) -> str:
    """What a method is called on the page."""
    return NAMES.get(editor, editor)


def find_step(total: int, count: int) -> int:
    """How far two shown requests are apart: odd, for benchmarks that take kinds of edits in turn."""
    step = max(1, total // count)
    return step - (step % 2 == 0)


def choose_requests(total: int, count: int) -> list[int]:
    """Indices of `count` of `total` requests, evenly spread and not looked at."""
    return list(range(0, total, find_step(total, count)))[:count]


def draw_strips(runs: Mapping[str, FinishedRun], folder: Path, count: int) -> Iterator[Strip]:
    """A strip for each chosen request; its pictures are written to `folder`/pictures."""
    one = next(iter(runs.values()))
    for i in choose_requests(len(one.requests), count):
        request = one.requests[i]
        base = f"pictures/{quote_file_name(request.id)}"
        first = Picture(f"{base}_input.png", f"the input: {request.source or 'a picture'}", "input")
        write_picture(folder / first.file, to_pil(request.image()))
        pictures = [first, *(picture for run in runs.values() for picture in draw_edits(run, request, folder, base))]
        if request.true_edit is not None:
            pictures.append(Picture(f"{base}_true.png", f"the true edit: {request.target}", "true edit"))
            write_picture(folder / pictures[-1].file, to_pil(request.true_edit()))
        yield Strip(request.id, mark_changes(request.source, request.target), pictures)


def draw_edits(run: FinishedRun, request: EditRequest, folder: Path, base: str) -> Iterator[Picture]:
    """The mask of one run, over the input, where it has one, and its edits."""
    editor = run.root.parent.name
    name = name_editor(editor)
    record = run.records[request.id]
    if record["mask"]:
        mask = read_picture(run.find_written(record["mask"]))[None] > 0.5
        file = f"{base}_{editor}_mask.png"
        write_picture(folder / file, draw_overlay(request.image(), mask))
        yield Picture(file, f"the mask that {name} found, red over the input", "mask")
    for variant in run.variants:
        file = f"{base}_{editor}_{variant.folder}.png"
        alt = f"{name} at {variant}: {request.target}"
        write_picture(folder / file, to_pil(read_picture(run.find_written(run.edit(request.id, variant)["file"]))))
        yield Picture(file, alt, f"{name} {variant.strength:g}")


def mark_changes(source: str | None, target: str) -> list[tuple[str, str]]:
    """The target, word by word joined, with what of the source it leaves out ("del") and what is new ("ins")."""
    if source is None:
        return [(target, "")]
    before, after = source.split(), target.split()
    words = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            words.append((" ".join(after[c:d]), ""))
        else:
            words += [(" ".join(part), name) for part, name in ((before[a:b], "del"), (after[c:d], "ins")) if part]
    return words


# ------------------------------------------------------------------------------------------------------------ figures


def draw_curve(scores: pd.DataFrame, folder: Path) -> str:
    """Save accuracy over LPIPS as tradeoff.png and .svg, and for a dark page tradeoff_dark.*; returns it in words."""
    named = scores.assign(editor=scores.editor.where(scores.is_bound, scores.editor.map(name_editor)))
    figure = draw_curves(named, "lpips", "accuracy")
    save_figure(figure, folder / "tradeoff")
    recolour(figure, **DARK)
    save_figure(figure, folder / "tradeoff_dark")
    frame = pivot_scores(named)
    parts = []
    for method, curve in frame[~frame.is_bound].groupby("method", sort=False):
        points = ", ".join(f"({row.lpips:.2f}, {row.accuracy:.2f})" for row in curve.itertuples())
        parts.append(f"{method} goes through {points}")
    return f"Accuracy over LPIPS to the input: {'; '.join(parts)}."


def recolour(figure: Plot, ink: str, paper: str, grid: str) -> None:
    """Make a plot one for a dark page."""
    figure.set_facecolor(paper)
    for axes in figure.axes:
        axes.set_facecolor(paper)
        axes.tick_params(colors=ink)
        axes.grid(color=grid)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(ink)
        for spine in axes.spines.values():
            spine.set_edgecolor(ink)
        legend = axes.get_legend()
        for text in legend.get_texts():
            text.set_color(ink)
        for part in (*axes.lines, *axes.texts, *legend.legend_handles):
            part.set_color(LIGHTER.get(part.get_color(), part.get_color()))
        for bars in axes.collections:
            bars.set(color=[LIGHTER.get(colour, colour) for colour in map(to_hex_upper, bars.get_color())], alpha=0.6)
        for text in axes.texts:
            text.set_path_effects([withStroke(linewidth=1.5, foreground=paper)])


def to_hex_upper(colour: Any) -> str:
    """A colour as `COLOURS` has it."""
    return to_hex(colour).upper()


def find_figures(scores: pd.DataFrame, method: str) -> list[Figure]:
    """What can be said of a method and the others at this n, each with a sentence that follows from its numbers.

    The p values are corrected over all comparisons that are told of. Which these are depends on the values that both
    methods reach, and on no p.
    """
    scored = set(scores.metric)
    asked = [question for question in QUESTIONS if {question.metric, question.match} <= scored]
    comparisons = [choose_rows(question, scores, method) for question in asked]
    figures = [
        figure
        for question, rows in zip(asked, correct_together(comparisons), strict=True)
        for figure in answer(question, rows, method)
    ]
    return figures + list(tell_mask(scores, method))


def choose_rows(question: Question, scores: pd.DataFrame, method: str) -> pd.DataFrame:
    """Of each other method the outermost values that both reach; or the nearest to that."""
    comparison = compare_at_equal(scores, method, question.match, question.values, question.metric)
    chosen = []
    for _, part in comparison.groupby("other", sort=False):
        known = part.index[part.low.notna()]
        outermost = sorted({*known[:1], *known[-1:]})[-question.most :]
        chosen += outermost or [part.reached.idxmax()]
    return comparison.loc[chosen]


def answer(question: Question, rows: pd.DataFrame, method: str) -> Iterator[Figure]:
    """What each of the chosen rows says, or why there is nothing to say."""
    name = name_editor(method)
    for i in range(len(rows)):
        one = rows.iloc[[i]].assign(other=rows.other.iloc[[i]].map(name_editor))
        (row,) = one.itertuples()
        if pd.isna(row.low):
            reason = explain_gaps(one, name, question.match)[0]
            yield Figure(f"{question.what} at equal {question.match}", MISSING, f"{reason}.")
            continue
        yield Figure(
            f"{question.what} at {question.at} of {row.at:g}",
            f"{name} {row.first:.2f}, {row.other} {row.second:.2f}",
            describe_difference(row, name, question.at, question.phrase, question.unit),
        )


def tell_mask(scores: pd.DataFrame, method: str) -> Iterator[Figure]:
    """How well a method's masks cover the true regions, where it has masks."""
    rows = scores[(scores.editor == method) & (scores.metric == "mask_iou")]
    if rows.empty:
        return
    row = rows.iloc[0]
    sentence = (
        f"From the two texts alone {name_editor(method)} finds regions that share {row.value:.0%} of their union "
        f"with the true ones, n = {row.n} (100%: the very pixels that the true edit changes)."
    )
    yield Figure("IoU of the mask with the true one", f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]", sentence)


def tabulate(scores: pd.DataFrame) -> list[list[str]]:
    """Methods and strengths with their scores, heads first."""
    frame, errors = pivot_scores(scores), compute_half_widths(scores)
    shown = [name for name in COLUMNS if name in frame]
    rows = [["method", "ratio", *(COLUMNS[name] for name in shown)]]
    for row in frame.to_dict("records"):
        key = row["method"], row["variant"]
        cells = [format_value(row[name], errors.get((*key, name))) for name in shown]
        rows.append([name_editor(row["method"]), row["variant"].partition("=")[2], *cells])
    return rows
