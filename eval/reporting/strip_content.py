"""What a strip of edits shows: which requests, and of each the input, masks, edits and the true edit."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from numpy import ndarray

from diffedit.io.images import to_pil
from diffedit.types import EditRequest
from eval.reporting.findings import NAMES
from eval.reporting.looks import find_editor
from eval.reporting.report.requests import mark_changes
from eval.reporting.report.sets import choose_places, find_step, name_runs
from eval.scoring.finished_run import FinishedRun, read_picture
from eval.scoring.per_image import read_all_values

log = logging.getLogger(__name__)


class Cell(NamedTuple):
    """A picture; over it the outlines of the method's mask, and of the exact one."""

    picture: UInt8[ndarray, "h w 3"]
    mask: Bool[ndarray, "mh mw"] | None = None
    exact: Bool[ndarray, "eh ew"] | None = None


class Group(NamedTuple):
    """What one method made of a request, by what stands above each column."""

    name: str
    cells: dict[str, Cell]


class Entry(NamedTuple):
    """A request: its words as they are marked, its input, what each method made of it, and the true edit."""

    id: str
    words: list[tuple[str, str]]
    image: Cell
    groups: list[Group]
    true: Cell | None


# ------------------------------------------------------------------------------------------------------- which requests


def choose_by_id(runs: Sequence[FinishedRun], ids: Sequence[str]) -> tuple[list[int], str]:
    """(places of these requests, how they were chosen)."""
    places = {request.id: i for i, request in enumerate(runs[0].requests)}
    if unknown := [id for id in ids if id not in places]:
        raise ValueError(f"--id {unknown[0]}: no such request; there are {len(places)}, such as {next(iter(places))!r}")
    return [places[id] for id in dict.fromkeys(ids)], "chosen by id"


def choose_evenly(runs: Sequence[FinishedRun], count: int) -> tuple[list[int], str]:
    """(places of so many requests, evenly spread and not looked at; how they were chosen)."""
    total = len(runs[0].requests)
    places, step = choose_places(total, count), find_step(total, count)
    if len(places) == total:
        return places, f"all {total}"
    first = f"the first {len(places)} of {total}" if step == 1 else f"one in {step} of {total}, from the first on"
    return places, f"{first}, not chosen by hand"


def choose_by_quantile(runs: Sequence[FinishedRun], count: int, metric: str) -> tuple[list[int], str]:
    """(places of requests at even quantiles of a metric of the first run, by rising value; how they were chosen)."""
    run = runs[0]
    values = read_all_values(run.root)
    values = values[values.strength.notna()]
    if metric not in (scored := set(values.name)):
        there = ", ".join(sorted(scored)) or "none"
        raise ValueError(f"--quantile {metric}: not measured on each picture of {run.root}; there are {there}")
    means = values[values.name == metric].groupby("id").value.mean()
    places = {request.id: i for i, request in enumerate(run.requests)}
    ranked = sorted((id for id in means.index if id in places), key=lambda id: (means[id], places[id]))
    count = min(count, len(ranked))
    shares = [(i + 0.5) / count for i in range(count)]
    chosen = [places[ranked[int(share * len(ranked))]] for share in shares]
    quantiles = ", ".join(f"{100 * share:.3g}" for share in shares)
    of = f"{name_methods(runs)[0]}, mean over its strengths"
    return chosen, f"at the percentiles {quantiles} of {metric} of {of}, not chosen by hand"


# -------------------------------------------------------------------------------------------------------------- content


def check_runs(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs of different requests."""
    ids = [request.id for request in runs[0].requests]
    for run in runs:
        if [request.id for request in run.requests] != ids:
            raise ValueError(f"{run.root} has other requests than {runs[0].root}")


def name_methods(runs: Sequence[FinishedRun]) -> list[str]:
    """What the runs are called: editors by their names in papers."""
    methods = list(name_runs(runs, lambda frame: frame))
    return [NAMES.get(editor := find_editor(name), editor) + name.removeprefix(editor) for name in methods]


def choose_strengths(runs: Sequence[FinishedRun], asked: Sequence[float] | None) -> list[float]:
    """The strengths to show, rising: of those that the runs have, all or the ones that were asked for."""
    there = sorted({variant.strength for run in runs for variant in run.variants if variant.strength is not None})
    if asked is None:
        return there
    if unknown := [strength for strength in asked if strength not in there]:
        listed = ", ".join(f"{strength:g}" for strength in there)
        raise ValueError(f"--ratio {unknown[0]:g}: no run has it; there are {listed}")
    return sorted(set(asked))


def read_entries(runs: Sequence[FinishedRun], places: Sequence[int], strengths: Sequence[float]) -> Iterator[Entry]:
    """What there is to show of these requests; pictures as they lie on disk, in their own size."""
    names = name_methods(runs)
    for place in places:
        request = runs[0].requests[place]
        image = to_pixels(request.image)
        exact = to_mask(request.true_mask)
        groups = [
            Group(name, dict(read_cells(run, run.requests[place], image, exact, strengths)))
            for run, name in zip(runs, names, strict=True)
        ]
        has_masks = any(cell.mask is not None for group in groups for cell in group.cells.values())
        true = None if request.true_edit is None else Cell(to_pixels(request.true_edit), exact=exact)
        words = mark_changes(request.source, request.target_text)
        yield Entry(request.id, words, Cell(image, exact=None if has_masks else exact), groups, true)


def read_cells(
    run: FinishedRun,
    request: EditRequest,
    image: UInt8[ndarray, "h w 3"],
    exact: Bool[ndarray, "eh ew"] | None,
    strengths: Sequence[float],
) -> Iterator[tuple[str, Cell]]:
    """(what stands above it, picture) of one method: its mask over the input where it has one, and its edits."""
    if file := run.records[request.id]["mask"]:
        yield "mask", Cell(image, read_picture(run.find_written(file))[0].numpy() > 0.5, exact)
    for variant in run.variants:
        if variant.strength in strengths:
            picture = read_picture(run.find_written(run.edit(request.id, variant)["file"]))
            head = f"{'r' if variant.name == 'ratio' else variant.name} = {variant.strength:g}"
            yield head, Cell(np.asarray(to_pil(picture).convert("RGB")))


def to_pixels(load: Callable) -> UInt8[ndarray, "h w 3"]:
    """A picture as it is embedded."""
    return np.asarray(to_pil(load()).convert("RGB"))


def to_mask(load: Callable | None) -> Bool[ndarray, "h w"] | None:
    """A mask, where there is one."""
    return None if load is None else load()[0].numpy() > 0.5
