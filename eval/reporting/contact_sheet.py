"""Pictures beside each other: overlays and contact sheets, to look at what came out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffedit.io.files import quote_file_name
from diffedit.io.images import to_pil, write_picture
from diffedit.types import EditRequest, EditResult
from eval.scoring.finished_run import FinishedRun, read_map, read_picture

Row = list[tuple[str, Image.Image]]  # captioned pictures

TINT = np.array([255, 60, 40])
GAP = 8


def draw_overlay(image: Tensor, mask: Tensor) -> Image.Image:
    """The image (3, H, W) with its mask (1, 1, h, w) as a red tint, and the rest a little darker."""
    pixels = np.asarray(to_pil(image)).astype(float)
    inside = np.asarray(to_mask_picture(mask).resize(pixels.shape[1::-1], Image.Resampling.NEAREST)) > 0
    tinted = np.where(inside[..., None], pixels * 0.5 + TINT * 0.5, pixels * 0.8)
    return Image.fromarray(tinted.round().astype(np.uint8))


def to_mask_picture(mask: Tensor) -> Image.Image:
    """A mask (1, 1, h, w) in black and white."""
    return Image.fromarray(mask[0, 0].cpu().numpy()).convert("L")


def get_size(image: Tensor) -> tuple[int, int]:
    """Width and height of an image (c, H, W)."""
    return image.shape[-1], image.shape[-2]


def draw_contrast_map(contrast_map: Tensor, size: tuple[int, int]) -> Image.Image:
    """A contrast map (h, w) in grey, from its smallest value to its largest, at this width and height."""
    values = contrast_map.cpu().numpy().astype(float)
    span = values.max() - values.min()
    grey = (values - values.min()) / span * 255 if span else np.zeros_like(values)
    picture = Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    return picture.resize(size, Image.Resampling.NEAREST)


def draw_sheet(rows: Sequence[Row], title: str = "") -> Image.Image:
    """Rows of captioned pictures, all scaled to the size of the first (at least 128 pixels wide), or into it."""
    first = rows[0][0][1]
    scale = -(-128 // first.width) if first.width < 128 else 1
    width, height = first.width * scale, first.height * scale
    font = ImageFont.load_default(size=max(11, width // 18))
    line = font.size + 6
    columns = max(len(row) for row in rows)
    top = line + GAP if title else GAP
    page = Image.new("RGB", (GAP + columns * (width + GAP), top + len(rows) * (height + line + GAP)), "white")
    draw = ImageDraw.Draw(page)
    draw.text((GAP, GAP // 2), shorten(draw, title, page.width - 2 * GAP, font), "black", font)
    for r, row in enumerate(rows):
        for c, (caption, picture) in enumerate(row):
            x, y = GAP + c * (width + GAP), top + r * (height + line + GAP)
            page.paste(fit_into(picture.convert("RGB"), (width, height)), (x, y + line))
            draw.text((x, y), shorten(draw, caption, width, font), "black", font)
    return page


def fit_into(
    picture: Image.Image, size: tuple[int, int], resample: Image.Resampling = Image.Resampling.NEAREST, **options: Any
) -> Image.Image:
    """A picture scaled to this width and height, in its own shape: in the middle of white where that is another."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    scaled = picture.resize((width, height), resample, **options)
    if scaled.size == size:
        return scaled
    page = Image.new(picture.mode, size, "white")
    page.paste(scaled, ((size[0] - width) // 2, (size[1] - height) // 2))
    return page


def shorten(draw: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut with an ellipsis to what fits."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…"


# ---------------------------------------------------------------------------------------------------------- of an edit


def draw_result(request: EditRequest, result: EditResult) -> dict[str, Image.Image]:
    """The pictures of one result, by name; `sheet` holds the others."""
    image = request.image()
    pictures, row = {}, [("input", to_pil(image))]
    if result.contrast_map is not None:
        pictures["map"] = draw_contrast_map(result.contrast_map, get_size(image))
        row.append(("contrast map", pictures["map"]))
    if result.mask is not None:
        pictures["mask"] = to_mask_picture(result.mask).resize(get_size(image), Image.Resampling.NEAREST)
        pictures["overlay"] = draw_overlay(image, result.mask)
        row.append((f"mask, {result.metadata['mask_area']:.0%}", pictures["overlay"]))
    for edit in result.edits:
        pictures[f"r{edit.variant.folder}"] = to_pil(edit.image)
        row.append((str(edit.variant), pictures[f"r{edit.variant.folder}"]))
    if request.true_edit is not None:
        row.append(("true edit", to_pil(request.true_edit())))
    rows = [row]
    for k, sample in enumerate(result.samples):
        rows.append([(f"sample {k}, {edit.variant}: {edit.score:.3f}", to_pil(edit.image)) for edit in sample.edits])
        pictures |= {f"r{edit.variant.folder}_sample{k}": to_pil(edit.image) for edit in sample.edits}
    title = f"{request.source} -> {request.target}" if request.source else request.target
    return {**pictures, "sheet": draw_sheet(rows, title)}


def save_result(request: EditRequest, result: EditResult, folder: Path) -> None:
    """The pictures of one result as `<id>_<name>.png`."""
    for name, picture in draw_result(request, result).items():
        write_picture(folder / f"{quote_file_name(request.id)}_{name}.png", picture)


# ------------------------------------------------------------------------------------------------------------- of runs


def draw_run_sheet(runs: Sequence[FinishedRun], count: int) -> Image.Image:
    """What several runs of the same requests made of `count` of them: a row a request and run.

    Raises:
        ValueError: the runs have different requests.
    """
    ids = [request.id for request in runs[0].requests]
    for run in runs:
        if [request.id for request in run.requests] != ids:
            raise ValueError(f"{run.root} has other requests than {runs[0].root}")
    places = [run.root.resolve().parts[-2:] for run in runs]
    editors = [editor for editor, _ in places]
    methods = [editor if editors.count(editor) == 1 else f"{editor} {name}" for editor, name in places]
    rows = [
        make_run_row(run, run.requests[i], f"{method}: {ids[i]}")
        for i in spread(len(ids), count)
        for run, method in zip(runs, methods, strict=True)
    ]
    return draw_sheet(drop_empty_columns(rows))


def drop_empty_columns(rows: Sequence[Row]) -> list[Row]:
    """The rows without the columns that have a caption in none of them, as those of maps and masks may be."""
    filled = {column for row in rows for column, (caption, _) in enumerate(row) if caption}
    return [[cell for column, cell in enumerate(row) if column in filled] for row in rows]


def make_run_row(run: FinishedRun, request: EditRequest, caption: str) -> Row:
    """What one run made of one request; the true edit where it is known."""
    record, image = run.records[request.id], request.image()
    empty = ("", Image.new("RGB", (1, 1), "white"))  # keeps the columns of several methods in line
    row: Row = [(caption, to_pil(image)), empty, empty]
    if record["map"]:
        contrast_map = torch.from_numpy(read_map(run.find_written(record["map"])))
        row[1] = ("contrast map", draw_contrast_map(contrast_map, get_size(image)))
    if record["mask"]:
        row[2] = ("mask", draw_overlay(image, read_picture(run.find_written(record["mask"]))[None] > 0.5))
    for variant in run.variants:
        row.append((str(variant), to_pil(read_picture(run.find_written(run.edit(request.id, variant)["file"])))))
    if request.true_edit is not None:
        row.append((f"true edit: {request.target}", to_pil(request.true_edit())))
    return row


def spread(total: int, count: int) -> list[int]:
    """Indices of `count` of `total` things, spread evenly over all."""
    count = min(count, total)
    return [i * total // count for i in range(count)]
