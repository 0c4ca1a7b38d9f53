"""Whether the files that a benchmark wants are there and can be opened."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm.auto import tqdm

from diffedit.io.images import get_path
from diffedit.mask import CutMask
from eval.benchmarks.base import BaseBenchmark

RESOLUTION = 32  # a picture is decoded whole and made small, as in a run


class File(NamedTuple):
    """A file that a request loads: the request's id, its path, what loads it, and the picture that a mask lies over."""

    request: str
    path: Path
    load: Callable[[], Any]
    picture: Path | None = None


class Fault(NamedTuple):
    """What is wrong with a file."""

    kind: Literal["missing", "unreadable", "cut away"]
    path: Path
    text: str  # with the request and the path


def find_files(benchmark: BaseBenchmark) -> tuple[list[File], list[File]]:
    """The pictures, each once, and the masks and true edits of all requests; what is drawn in memory has no file."""
    pictures: dict[Path, File] = {}
    masks: list[File] = []
    for request in benchmark.read_only().requests(RESOLUTION):
        picture = get_path(request.image)
        if picture is not None:
            pictures.setdefault(picture, File(request.id, picture, request.image))
        loads = (request.mask, request.true_mask, request.true_edit)
        masks += [File(request.id, path, load, picture) for load in loads if (path := get_path(load)) is not None]
    return list(pictures.values()), masks


def find_faults(files: Sequence[File], threads: int = 2, unit: str = "picture") -> list[Fault]:
    """Open all files, `threads` at a time; the faults of those that are not fine, in their order."""
    with ThreadPoolExecutor(threads) as pool:
        bar = tqdm(pool.map(find_fault, files), total=len(files), desc=f"{unit}s", unit=unit, disable=None)
        return [fault for fault in bar if fault is not None]


def find_fault(file: File) -> Fault | None:
    """Open one file; None where it is fine."""
    try:
        if not file.path.is_file():
            return Fault("missing", file.path, f"{file.request}: {file.path}")
        loaded = file.load()
        if isinstance(file.load, CutMask) and not (loaded >= 0.5).any() and (cut := file.load.describe_cut()):
            return Fault("cut away", file.path, f"{file.request}: {file.path}: {cut}")
    # Whatever a decoder throws at a broken file belongs in the list, and the other files are still to be opened.
    except Exception as error:
        text = str(error) if str(file.path) in str(error) else f"{file.path}: {error}"
        return Fault("unreadable", file.path, f"{file.request}: {text}")
    return None
