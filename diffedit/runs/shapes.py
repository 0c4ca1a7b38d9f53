"""Pictures that are not square: whether the backbone of a run takes them, and what is said of their sizes."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pandas as pd

from diffedit.engine.queries import Outcome
from diffedit.io.images import Resize, get_path, read_size
from diffedit.runs.describe import describe
from diffedit.types import Backbone, Benchmark, EditRequest

log = logging.getLogger("run")

SIZE, ORIGINAL = "edited_size", "original_size"  # in a record's metadata: "96 x 64", width first


def is_square(benchmark: Benchmark) -> bool:
    """Whether all pictures of a benchmark are squares; of one that does not say, they are."""
    return getattr(benchmark, "is_square", True)


def get_grain(backbone: Backbone) -> int:
    """What the sides of pictures have to be multiples of; a ValueError where a backbone takes squares alone."""
    grain = getattr(backbone, "grain", None)
    if grain is None:
        raise ValueError(
            f"{type(backbone).__name__} takes squares of {backbone.resolution} x {backbone.resolution} alone, and "
            "pictures are to keep their shape: take resize.policy=crop or squash, a square benchmark, or another "
            "backbone (stilllife, or one in Stable Diffusion's layout)"
        )
    return grain


def fit_resize(resize: Resize, backbone: Backbone) -> Resize:
    """A resize whose pictures have shapes that the backbone takes; a ValueError where it takes none but squares."""
    return resize.fit(backbone.resolution, get_grain(backbone)) if resize.policy == "keep" else resize


def fit_benchmark(
    benchmark: Benchmark, config: Mapping[str, Any], backbone: Backbone
) -> tuple[Benchmark, Mapping[str, Any]]:
    """A benchmark whose pictures have shapes that the backbone takes, and the config of a run that says so.

    Raises:
        ValueError: it takes no such shapes.
    """
    if is_square(benchmark):
        return benchmark, config
    fitted = benchmark.fit(backbone.resolution, get_grain(backbone))
    if getattr(fitted, "resize", None) == getattr(benchmark, "resize", None):
        return fitted, config
    return fitted, {**config, "benchmark": {**config["benchmark"], "resize": describe(fitted.resize)}}


def note_size(request: EditRequest, outcome: Outcome) -> Outcome:
    """The outcome with the size that its picture was edited at, and that of its file, among the facts of the record."""
    if outcome.result is None or not outcome.result.edits:
        return outcome
    height, width = outcome.result.edits[0].image.shape[-2:]
    facts = {SIZE: f"{width} x {height}"}
    path = get_path(request.image)
    with suppress(OSError):  # it is gone since it was loaded
        if path is not None:
            facts[ORIGINAL] = "{} x {}".format(*read_size(path))
    result = replace(outcome.result, metadata={**outcome.result.metadata, **facts})
    return outcome._replace(result=result)


def describe_sizes(table: pd.DataFrame) -> str:
    """The sizes that pictures were edited at, and how far these are from their shapes; "" where nothing is known.

    Args:
        table: the manifest, a row a request.
    """
    if SIZE not in table or not len(sized := table.dropna(subset=SIZE)):
        return ""
    counts = sized[SIZE].value_counts()
    named = ", ".join([f"{size} ({count})" for size, count in counts[:6].items()] + ["..."] * (len(counts) > 6))
    line = f"{len(sized)} pictures in {len(counts)} shapes: {named}"
    if ORIGINAL not in sized:
        return line
    pairs = sized.dropna(subset=ORIGINAL)
    changes = [measure_change(*map(read_numbers, pair)) for pair in zip(pairs[ORIGINAL], pairs[SIZE], strict=True)]
    if rounded := sum(change > 0 for change in changes):
        line += f"; the sides of {rounded} are rounded to what the model takes, which changes width : height by "
        line += f"{max(changes):.1%} at most"
    return line


def read_numbers(size: str) -> tuple[int, int]:
    """Width and height of a text."""
    width, _, height = size.partition(" x ")
    return int(width), int(height)


def measure_change(before: tuple[int, int], after: tuple[int, int]) -> float:
    """By which share one aspect ratio is larger than the other."""
    ratio = (before[0] * after[1]) / (before[1] * after[0])
    return max(ratio, 1 / ratio) - 1
