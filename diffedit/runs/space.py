"""How much a run will add to the disk, and whether that is free there."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from diffedit.io.files import describe_size
from diffedit.runs.earlier import Sizes
from diffedit.runs.held import PreparedRun
from diffedit.types import EditRequest

Pending = tuple[EditRequest, Sequence[float]]
"""A request, and the strengths that it is to be edited at."""

CHANNELS = 3
PNG = 1.01, 200  # of raw pixels that cannot be compressed at all: a factor, and bytes beside it
RECORD = 1024  # bytes of a request and of each edit in shard and manifest: some 450 were measured, of four edits
TABLE = 16384  # bytes of a shard's file, and of what else a run has, beside its rows
OTHER_FILES = 5  # of a run: config, environment, log, manifest, cut


@dataclass
class Space:
    """Of one run, or of several.

    Attributes:
        bytes: that will be added.
        files: as many at most.
        bounded: whether the bytes are no more than a bound: of some run there is no earlier one that tells.
        run: an earlier run that they come from.
        free: bytes; None where that is not known.
        free_files: None where that is not known, or there is no limit.
        folder: where.
    """

    bytes: int = 0
    files: int = 0
    bounded: bool = False
    run: Path | None = None
    free: int | None = None
    free_files: int | None = None
    folder: Path = Path()

    @property
    def fits(self) -> bool:
        """Whether it does, as far as is known."""
        pairs = (self.bytes, self.free), (self.files, self.free_files)
        return all(free is None or wanted <= free for wanted, free in pairs)

    def describe(self) -> str:
        """In a line; in another one that it does not fit."""
        source = "pictures as large as their pixels" if self.run is None else f"as in {self.run}"
        most = "at most " if self.bounded else "about "
        free = [] if self.free is None else [describe_size(self.free)]
        free += [] if self.free_files is None else [f"{self.free_files:,} files"]
        told = (
            f"{' and '.join(free)} are free at {self.folder}" if free else f"what is free at {self.folder} is not known"
        )
        line = f"disk: {most}{describe_size(self.bytes)} ({source}) in {self.files:,} files; {told}"
        return line if self.fits else f"{line}\nIT DOES NOT FIT: make room, or take another folder (runs=...)"


def estimate_space(
    pending: Mapping[PreparedRun, Sequence[Pending]],
    sizes: Mapping[PreparedRun, Sizes | None],
    places: tuple[float, float],
    shards: Mapping[PreparedRun, int],
) -> Space:
    """What runs will add.

    Args:
        pending: what is to be edited of each.
        sizes: of earlier runs of the kind of each.
        places: pixels of a picture, and places of a contrast map, in the mean.
        shards: of each that are not done yet.
    """
    first = next(iter(pending))
    space = Space(folder=Path(str(first.config.get("runs") or first.root)))
    for run, requests in pending.items():
        if not requests:
            continue
        edits = sum(len(ratios) for _, ratios in requests)
        space.files += count_files(run, len(requests), edits) + shards[run] + OTHER_FILES
        if (known := sizes[run]) is not None:
            space.bytes += round(known.bytes * edits)
            space.run = space.run or known.run
        else:
            space.bytes += bound_bytes(run, len(requests), edits, *places) + TABLE * (shards[run] + 1)
            space.bounded = True
    space.free, space.free_files = read_free(space.folder)
    return space


def count_files(run: PreparedRun, requests: int, edits: int) -> int:
    """Pictures, masks and maps of so many edits of so many requests; an editor with masks may have no map."""
    samples = run.pipeline.samples
    shared = requests if run.pipeline.editor.has_mask else 0
    return (edits + shared) * (1 + (samples if samples > 1 else 0)) + shared


def bound_bytes(run: PreparedRun, requests: int, edits: int, pixels: float, places: float) -> int:
    """No less than what is written: of pixels that cannot be compressed. Still Life's pictures take 0.4 of that."""
    factor, more = PNG
    samples = run.pipeline.samples
    pictures = edits * (1 + (samples if samples > 1 else 0))
    picture, mask = factor * CHANNELS * pixels + more, factor * pixels + more
    shared = requests if run.pipeline.editor.has_mask else 0
    masks = shared * (1 + (samples if samples > 1 else 0)) * mask
    maps = shared * (4 * places + more)
    return round(pictures * picture + masks + maps + RECORD * (requests + pictures))


def read_free(folder: Path) -> tuple[int | None, int | None]:
    """Bytes and files that may still be written where a folder lies, or will; None where that is not known."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    with suppress(OSError, AttributeError):
        found = os.statvfs(place)
        return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None
    return None, None
