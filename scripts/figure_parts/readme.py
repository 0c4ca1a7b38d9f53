"""The pictures of the README, from the demo's runs: a strip of edits, and the trade-off."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from diffedit.commands.demo import EDITORS, Plan, make_demo

SCALE = 3  # of the pictures, which are 64 x 64
SIDE = 64 * SCALE
GAP, LABEL, HEAD = 8, 128, 44  # pixels between pictures, of the names on the left, of the words above
COUNT = 5  # requests, evenly spread
INK, PAPER = "#1c1f24", "#ffffff"


def make_readme_pictures(demo: Path, images: Path) -> None:
    """edits.png and tradeoff.png; the demo is run where it is not there."""
    plan = Plan(demo, 128, 20)
    make_demo(plan)
    from diffedit.io.images import write_picture  # it imports torch, whose threads are chosen before

    write_picture(images / "edits.png", draw_strip(plan), optimize=True)
    copy_picture([demo / "tradeoff.png"], images / "tradeoff.png")


def copy_picture(sources: Sequence[Path], out: Path) -> None:
    """Figures side by side, in a palette of 128 colours: a third of the bytes."""
    from diffedit.io.images import write_picture

    figures = [Image.open(source).convert("RGB") for source in sources]
    page = Image.new("RGB", (sum(one.width for one in figures), max(one.height for one in figures)), PAPER)
    for i, figure in enumerate(figures):
        page.paste(figure, (sum(one.width for one in figures[:i]), 0))
    write_picture(out, page.convert("P", palette=Image.Palette.ADAPTIVE, colors=128), optimize=True)


def draw_strip(plan: Plan) -> Image.Image:
    """A column a request: what changes, the input, DiffEdit's mask, and the edits of both at the largest ratio."""
    from diffedit.io.images import to_pil
    from eval.reporting.contact_sheet import draw_overlay
    from eval.reporting.findings import name_editor
    from eval.reporting.report.requests import mark_changes
    from eval.reporting.report.sets import choose_requests
    from eval.scoring.finished_run import FinishedRun, read_picture

    runs = {editor: FinishedRun(plan.find_root(editor)) for editor in EDITORS}
    one = runs[EDITORS[0]]
    columns = []
    for i in choose_requests(len(one.requests), COUNT):
        request = one.requests[i]
        mask = read_picture(one.root / one.records[request.id]["mask"])[None] > 0.5
        pictures = [to_pil(request.image()), draw_overlay(request.image(), mask)]
        files = (run.root / run.edit(request.id, run.variants[-1])["file"] for run in runs.values())
        pictures += [to_pil(read_picture(file)) for file in files]
        words = mark_changes(request.source, request.target)
        before, after = (" ".join(text for text, kind in words if kind == name) for name in ("del", "ins"))
        what = request.ground_truth.attribute
        columns.append(((f"{what}: {shorten(before)}", f"to {shorten(after)}"), pictures))
    ratio = one.variants[-1].strength
    rows = ["input", "mask", *(f"{name_editor(editor)}\nr = {ratio:g}" for editor in EDITORS)]
    return lay_out(columns, rows)


def shorten(words: str) -> str:
    """Words of a sentence as a heading: "a plate of" is a plate."""
    return words.strip(",").removeprefix("a ").removesuffix(" of") or "none"


def lay_out(columns: Sequence[tuple[tuple[str, str], Sequence[Image.Image]]], rows: Sequence[str]) -> Image.Image:
    """Columns of pictures under their words, names of the rows on the left."""
    page = Image.new("RGB", (LABEL + len(columns) * (SIDE + GAP), HEAD + len(rows) * (SIDE + GAP)), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=18)
    for r, name in enumerate(rows):
        draw.text((LABEL - 14, HEAD + r * (SIDE + GAP) + SIDE // 2), name, INK, font, anchor="rm", align="right")
    for c, (lines, pictures) in enumerate(columns):
        x = LABEL + c * (SIDE + GAP)
        for line, text in enumerate(lines):
            draw.text((x + SIDE // 2, 10 + 20 * line), text, INK, font, anchor="mm")
        for r, picture in enumerate(pictures):
            picture = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
            page.paste(picture, (x, HEAD + r * (SIDE + GAP)))
    return page
