"""Thumbnails of all that belongs to a request, in one picture file: a page of many runs has a file a request.

Rows and columns of that picture: in the first row the input and the true edit; then a row a run: contrast map, mask
over the input, and the edits by rising strength. So one step to the side is the next strength, of every method at once.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from diffedit.io.images import open_image, to_pil, to_tensor
from diffedit.types import EditRequest
from eval.reporting.contact_sheet import draw_contrast_map, draw_overlay, fit_into
from eval.reporting.report.outlines import Outline, trace
from eval.reporting.report.sets import RunSet
from eval.scoring.finished_run import FinishedRun, list_written, read_map, read_picture, stamp_files

LAYOUT = 1  # of what is drawn where; another one is drawn anew
BEFORE = 2  # columns in front of the edits
QUALITY = 88  # of thumbnails
FINE = 95  # ... of inputs at full size
SMALL = 128  # pixels on a side, up to which these are kept without loss
LARGEST = 16383  # pixels on a side of a WebP
FAULTS = (OSError, ValueError)  # of files, and of what benchmarks load


class Drawn(NamedTuple):
    """What is drawn of a request.

    Attributes:
        name: of its sprite; another one where it shows something else.
        files: the sprite, the input and the true edit: what each holds; None where it lies there already.
        faults: what could not be read, in words.
        outlines: of where the true edit differs, and of each run's mask; None where there is none.
    """

    name: str
    files: dict[Path, bytes | None]
    faults: list[str]
    outlines: list[Outline | None]


def find_side(shown: RunSet, thumbs: int) -> int:
    """Of a tile: as asked for, no larger than the edits, and so that the sprite can be a WebP."""
    columns, rows = count_tiles(shown)
    most = LARGEST // max(columns, rows)
    return max(1, min(thumbs, most, max(run.edit_resolution for run in shown.runs)))


def count_tiles(shown: RunSet) -> tuple[int, int]:
    """(columns, rows) of a sprite."""
    return BEFORE + len(shown.strengths), 1 + len(shown.runs)


def draw_request(shown: RunSet, place: int, side: int, has: Callable[[Path], bool] | None) -> Drawn:
    """Draw all that belongs to a request.

    Args:
        shown: the runs.
        place: of the request among those that are shown.
        side: of a tile.
        has: whether a file of the page is there already; None draws the sprite alone.
    """
    request, faults = shown.requests[place], []
    records = [run.records[request.id] for run in shown.runs]
    name = f"{shown.places[place]:06}-{hash_content(shown, request, records, side)}.webp"
    true_mask = attempt(request.true_mask, faults, request.id)
    masks = [read_mask(run, record, faults) for run, record in zip(shown.runs, records, strict=True)]
    found = [None if true_mask is None else true_mask[0].numpy() > 0.5, *masks]
    outlines = [None if mask is None else trace(mask) for mask in found]
    paths = [Path("tiles", shown.key, name)]
    if has is not None:
        loads = {"input": request.image, "true": request.true_edit}
        stem = name.removesuffix(".webp")
        paths += [Path("inputs", shown.key, f"{stem}-{kind}.webp") for kind, load in loads.items() if load is not None]
        if all(map(has, paths)):
            return Drawn(name, dict.fromkeys(paths), faults, outlines)
    pictures = [to_picture(attempt(load, faults, request.id)) for load in (request.image, request.true_edit)]
    sprite = encode(draw_sprite(shown, records, pictures, masks, side, faults), QUALITY)
    full = [encode_full(picture) for picture in pictures if picture is not None]
    files = dict(zip(paths, [sprite, *full], strict=False))
    return Drawn(name, files, faults, outlines)


def draw_sprite(
    shown: RunSet,
    records: Sequence[Mapping[str, Any]],
    pictures: Sequence[Image.Image | None],
    masks: Sequence[np.ndarray | None],
    side: int,
    faults: list[str],
) -> Image.Image:
    """The tiles of a request, of which `pictures` are the input and the true edit."""
    page = Image.new("RGBA", tuple(side * count for count in count_tiles(shown)))
    tiles = [(column, 0, picture) for column, picture in enumerate(pictures)]
    for row, (run, record, mask) in enumerate(zip(shown.runs, records, masks, strict=True), 1):
        tiles += [(column, row, tile) for column, tile in draw_row(shown, run, record, pictures[0], mask, faults)]
    for column, row, tile in tiles:
        if tile is not None:
            page.paste(shrink(tile, side), (column * side, row * side))
    return page


def to_picture(image: torch.Tensor | None) -> Image.Image | None:
    """As Pillow's."""
    return None if image is None else to_pil(image)


def hash_content(shown: RunSet, request: EditRequest, records: list[Mapping[str, Any]], side: int) -> str:
    """Names what a sprite shows."""
    written = [dict(list_written(record)) for record in records]
    content = [LAYOUT, QUALITY, side, shown.strengths, shown.methods, stamp_files(request), written]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def attempt(load: Any, faults: list[str], name: str) -> Any:
    """What is loaded; None where there is nothing, or it cannot be read, which is noted."""
    try:
        return None if load is None else load()
    except FAULTS as error:
        faults.append(f"{name}: {error}")
        return None


def read_mask(run: FinishedRun, record: Mapping[str, Any], faults: list[str]) -> np.ndarray | None:
    """The mask of a request, where there is one."""
    if not record.get("mask"):
        return None
    picture = attempt(lambda: read_picture(run.root / record["mask"]), faults, str(run.root))
    return None if picture is None else picture[0].numpy() > 0.5


def draw_row(
    shown: RunSet,
    run: FinishedRun,
    record: Mapping[str, Any],
    picture: Image.Image | None,
    mask: np.ndarray | None,
    faults: list[str],
) -> Iterator[tuple[int, Image.Image | None]]:
    """(column, picture) of one run."""
    if record.get("map"):
        values = attempt(lambda: read_map(run.root / record["map"]), faults, str(run.root))
        if values is not None and np.isfinite(values).all():
            yield 0, draw_contrast_map(torch.from_numpy(values), find_map_size(run, picture))
    if mask is not None and picture is not None:
        yield 1, draw_overlay(to_tensor(picture), torch.from_numpy(mask)[None, None])
    columns = {strength: BEFORE + i for i, strength in enumerate(shown.strengths)}
    files = {edit["variant"]: edit["file"] for edit in record.get("edits") or ()}
    for variant in run.variants:
        if file := files.get(str(variant)):
            yield columns[variant.strength], attempt(lambda file=file: read_rgb(run.root / file), faults, str(run.root))


def read_rgb(path: Path) -> Image.Image:
    """A picture of a run."""
    with open_image(path) as picture:
        return picture.convert("RGB")


def find_map_size(run: FinishedRun, picture: Image.Image | None) -> tuple[int, int]:
    """Width and height at which a contrast map is drawn: those of the input, where that can be read."""
    return (run.edit_resolution, run.edit_resolution) if picture is None else picture.size


def shrink(picture: Image.Image, side: int) -> Image.Image:
    """A picture as a tile: one that is not square stands in the middle of white."""
    if picture.size == (side, side):
        return picture
    smooth = Image.Resampling.LANCZOS if max(picture.size) > side else Image.Resampling.NEAREST
    return fit_into(picture.convert("RGB"), (side, side), smooth, reducing_gap=3.0)


def encode_full(picture: Image.Image) -> bytes:
    """A picture at full size, which edits are subtracted from: without loss where that is small."""
    return encode(picture, FINE, lossless=picture.width <= SMALL)


def encode(picture: Image.Image, quality: int, lossless: bool = False) -> bytes:
    """As WebP."""
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=quality, method=2, lossless=lossless)
    return data.getvalue()
