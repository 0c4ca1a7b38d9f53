"""The outline of a mask as a path of SVG, along the edges of its pixels."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

FINEST = 128  # places on a side: a finer mask is thinned to its nearest places, so that its path stays short


class Outline(NamedTuple):
    """A path, and the size of the grid that its numbers count."""

    width: int
    height: int
    path: str


def trace(mask: Bool[ndarray, "h w"]) -> Outline:
    """The outline of what is set; that of an empty mask has no path."""
    step = -(-max(mask.shape) // FINEST)
    mask = mask[step // 2 :: step, step // 2 :: step]
    padded = np.pad(mask, 1)
    across = np.diff(padded.astype(np.int8), axis=0)[:, 1:-1] != 0
    down = np.diff(padded.astype(np.int8), axis=1)[1:-1] != 0
    parts = [f"M{start} {y}H{end}" for y, start, end in find_spans(across)]
    parts += [f"M{x} {start}V{end}" for x, start, end in find_spans(down.T)]
    height, width = mask.shape
    return Outline(width, height, "".join(parts))


def find_spans(edges: Bool[ndarray, "lines places"]) -> Iterator[tuple[int, int, int]]:
    """(line, first place, place behind the last) of each unbroken row of edges."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    for (line, start), (_, end) in zip(starts.tolist(), ends.tolist(), strict=True):
        yield line, start, end
