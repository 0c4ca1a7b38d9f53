"""Requests as files: pictures and the table of `benchmark=folder`."""

import csv
from collections.abc import Sequence
from pathlib import Path

from diffedit.io.images import encode_png
from diffedit.types import EditRequest


def write_benchmark(requests: Sequence[EditRequest], folder: Path) -> Path:
    """Write pictures, masks and the table; returns the table."""
    folder.mkdir(parents=True)
    table = folder / "edits.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "image", "mask", "source", "target"))
        for request in requests:
            names = f"{request.id}.png", f"{request.id}_mask.png"
            for name, load in zip(names, (request.image, request.mask), strict=True):
                (folder / name).write_bytes(encode_png(load()))
            writer.writerow((request.id, *names, request.source, request.target))
    return table
