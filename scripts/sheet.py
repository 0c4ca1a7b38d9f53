"""A contact sheet of finished runs: input, contrast map, mask, edit at each ratio, and the exact answer if known."""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffedit.io.images import to_pil
from diffedit.types import EditRequest
from eval.reporting.contact_sheet import heat, overlay, sheet
from eval.scoring.finished_run import FinishedRun, load

Row = list[tuple[str, Image.Image]]


def row(gallery: FinishedRun, request: EditRequest, name: str) -> Row:
    """What one run made of one request."""
    record, image = gallery.records[request.id], request.image()
    nothing = ("", Image.new("RGB", (1, 1), "white"))  # keeps the columns of several methods in line
    shown: Row = [(name, to_pil(image)), nothing, nothing]
    if record["map"]:
        contrast = np.load(gallery.root / record["map"])
        shown[1] = ("contrast map", heat(torch.from_numpy(contrast), image.shape[-1]))
    if record["mask"]:
        shown[2] = ("mask", overlay(image, load(gallery.root / record["mask"])[None] > 0.5))
    for ratio in gallery.ratios:
        shown.append((f"r = {ratio:g}", to_pil(load(gallery.root / gallery.edit(request.id, ratio)["file"]))))
    if request.true_edit is not None:
        shown.append((f"exact: {request.target}", to_pil(request.true_edit())))
    return shown


def chosen(requests: list[EditRequest], count: int) -> list[int]:
    """Places of `count` requests, spread evenly over all."""
    return [i * len(requests) // count for i in range(min(count, len(requests)))]


def main() -> None:
    """Command line."""
    example = "example: python scripts/sheet.py runs/stilllife_scenes/stilllife/*/default --out sheet.png"
    parser = argparse.ArgumentParser(description=__doc__, epilog=example)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories of the same benchmark")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="file to write (default sheet.png)")
    parser.add_argument("--count", type=int, default=8, help="requests to show, spread over all (default 8)")
    args = parser.parse_args()
    if args.count < 1:
        parser.error("--count: at least one request")
    galleries = [FinishedRun(root) for root in args.runs]
    for gallery in galleries:
        gallery.check()
        if [each.id for each in gallery.requests] != [each.id for each in galleries[0].requests]:
            parser.error(f"{gallery.root} has other requests than {galleries[0].root}")
    rows, editors = [], [gallery.root.resolve().parts[-2] for gallery in galleries]
    for i in chosen(galleries[0].requests, args.count):
        for gallery in galleries:
            editor, name = gallery.root.resolve().parts[-2:]
            method = editor if editors.count(editor) == 1 else f"{editor} {name}"
            rows.append(row(gallery, gallery.requests[i], f"{method}: {gallery.requests[i].id}"))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet(rows).save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
