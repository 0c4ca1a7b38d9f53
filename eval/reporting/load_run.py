"""A run directory in a notebook: its table, its scores, and its pictures by id and ratio."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from diffedit.io.images import open_image, to_pil
from diffedit.runs.cut import list_shards
from diffedit.runs.manifest import build_manifest
from diffedit.runs.records import parse_record, read_whole_record
from diffedit.runs.shards import PackedRecords
from diffedit.types import EditRequest, Variant
from eval.reporting.collect import collect
from eval.reporting.contact_sheet import draw_sheet, drop_empty_columns, make_run_row, spread
from eval.scoring.finished_run import (
    FinishedRun,
    IncompleteRunError,
    check_written,
    find_changes,
    find_lacking,
    list_written,
    read_config,
    read_map,
)
from eval.scoring.per_image import read_all_values

log = logging.getLogger(__name__)


def load_run(path: str | Path) -> "Run":
    """Open a run directory, of this release or an older one, finished or not.

    Of a run that is not finished, there is what is done; nothing is computed, and nothing is written.

    Args:
        path: the directory, as `diffedit run` prints it.

    Raises:
        FileNotFoundError: that is no run directory.

    Example:
        >>> import diffedit
        >>> from eval.stilllife.benchmarks import StillLifeScenes
        >>> folder = "runs/stilllife_scenes/stilllife/copy/default"
        >>> _ = diffedit.run(
        ...     StillLifeScenes(size=2), "copy", "weights/stilllife", folder, ratio=[0.5], progress=False
        ... )
        >>> run = diffedit.load_run(folder)
        >>> run
        Run('runs/stilllife_scenes/stilllife/copy/default': 2 done; ratio 0.5; not scored)
        >>> run.table[["id", "strength", "status"]].values.tolist()
        [['00000-fruits', 0.5, 'done'], ['00001-vessel', 0.5, 'done']]
        >>> run.image("00001-vessel", 0.5).size
        (64, 64)
    """
    return Run(Path(path).expanduser())


class Run:
    """One run directory, to look into; what stood there when it was opened.

    Pictures are Pillow's. What is not done is an `IncompleteRunError` of the call that asks for it; an id or a ratio
    that the run does not have is a `KeyError` that names the nearest.

    Attributes:
        root: the directory.
        config: of the run, in today's names.
        records: what the run says of each request, by id.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config: dict[str, Any] = read_config(root)
        self.records: dict[str, dict[str, Any]] = read_records(root)

    # -------------------------------------------------------------------------------------------------------- tables

    @property
    def ids(self) -> list[str]:
        """The requests that were tried, done or failed."""
        return list(self.records)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per request and variant: id, source, target, variant, strength, status, evaluations, file, error, ...

        `evaluations` served this edit alone; `shared_evaluations` (mask, encoding) served all edits of the request.
        """
        variants = [Variant(float(ratio), self.config["strength_name"]) for ratio in self.config["ratios"]]
        table = build_manifest(list(self.records.values()), variants, self.config.get("seed"))
        for place, name in enumerate(("source", "target"), 1):
            table.insert(place, name, [self.records[id][name] for id in table.id])
        return table

    @property
    def scores(self) -> pd.DataFrame:
        """The scores as they lie beside the run now, one a row, as `collect` has them; empty where none are.

        Those of the unedited inputs are rows of editor `copy`, those of real pictures of editor `real`.
        """
        return collect([self.root])

    @property
    def values(self) -> pd.DataFrame:
        """What was measured on each image, as it lies beside the run now, a number a row; empty where nothing was.

        Columns: id, label, variant, strength (NaN: of unedited inputs), metric, name, value.
        """
        return read_all_values(self.root)

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        states = [record["status"] for record in self.records.values()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in ("done", "failed") if state in states)
        ratios = ", ".join(f"{ratio:g}" for ratio in self.config["ratios"])
        scored = sorted(path.stem for path in self.root.glob("scores/*.json") if path.stem != "inputs")
        return (
            f"Run({str(self.root)!r}: {counts or 'nothing done'}; {self.config['strength_name']} {ratios}; "
            f"{'scored by ' + ', '.join(scored) if scored else 'not scored'})"
        )

    def _repr_html_(self) -> str:
        """A notebook shows the head and the foot of the table below the line."""
        return f"<p><code>{escape(repr(self))}</code></p>{self.table.to_html(max_rows=10)}"

    # ------------------------------------------------------------------------------------------------------ pictures

    def image(self, id: str, ratio: float) -> Image.Image:
        """The edit of a request at a ratio, or at what else the method calls its strength."""
        return open_picture(self.find_written(id, self.find_edit(id, ratio)["file"]))

    def mask(self, id: str, ratio: float | None = None) -> Image.Image | None:
        """Where the picture was allowed to change, white, of the picture's size; None for a method without a mask.

        Args:
            id: of the request.
            ratio: the best of several samples has a mask of its own at each ratio: which one.
        """
        record = self.get_edited(id)
        file = record["mask"] if ratio is None else self.find_edit(id, ratio).get("mask", record["mask"])
        return None if file is None else open_picture(self.find_written(id, file))

    def contrast_map(self, id: str) -> np.ndarray | None:
        """Where the two texts disagree, on the latent grid, before any rule; None for a method without one."""
        file = self.get_edited(id)["map"]
        return None if file is None else read_map(self.find_written(id, file))

    def find_written(self, id: str, file: str) -> Path:
        """Where a file of a request lies; an OSError where its content is not what the run wrote."""
        return check_written(self.root, file, dict(list_written(self.records[id])))

    def input(self, id: str) -> Image.Image:
        """The picture that was edited, as the model took it; the benchmark of the run gives it.

        Raises:
            ValueError: the benchmark is no longer there, or now has another picture under this id.
        """
        return to_pil(self.get_request(id).image())

    def sheet(self, ids: str | Sequence[str] | None = None, count: int = 6) -> Image.Image:
        """Inputs, maps, masks and edits beside each other, a row a request.

        Args:
            ids: of the requests to show; None chooses among those that are done, spread evenly over all.
            count: how many to choose.
        """
        if ids is None:
            done = [id for id in self.requests if id in self.records and self.records[id]["status"] == "done"]
            if not done:
                raise IncompleteRunError(f"{self.root}: nothing is done yet; start the run again")
            ids = [done[i] for i in spread(len(done), count)]
        ids = [ids] if isinstance(ids, str) else list(ids)
        if not ids:
            raise ValueError(f"{self.root}: a sheet of no requests; name some, or choose one or more by count=")
        for id in ids:
            self.get_edited(id)
        rows = [make_run_row(self.finished, self.get_request(id), id) for id in ids]
        return draw_sheet(drop_empty_columns(rows))

    # --------------------------------------------------------------------------------------------------------- asked

    @cached_property
    def finished(self) -> FinishedRun:
        """The run with its benchmark, as it is scored."""
        return FinishedRun(self.root)

    @cached_property
    def requests(self) -> dict[str, EditRequest]:
        """What the benchmark asks for, by id; in its order."""
        return {request.id: request for request in self.finished.requests}

    def get_request(self, id: str) -> EditRequest:
        """What the benchmark asks for under this id; a ValueError where something else was edited."""
        if id not in self.requests:
            raise KeyError(f"{self.root}: no request {id!r}; {name_nearest(id, self.requests)}")
        request = self.requests[id]
        if id in self.records and (changes := find_changes(self.records[id], request)):
            raise ValueError(f"{self.root}: {id} is not what was edited: {'; '.join(changes)}")
        return request

    def get_edited(self, id: str) -> dict[str, Any]:
        """The record of a request that is done."""
        record = self.records.get(id)
        if record is None:
            if self.asks_for(id):
                raise IncompleteRunError(f"{self.root}: {id} is not done yet; start the run again")
            raise KeyError(f"{self.root}: no request {id!r}; {name_nearest(id, self.records)}")
        if record["status"] != "done":
            raise IncompleteRunError(f"{self.root}: {id} failed, {record['error']}; start the run again")
        return record

    def asks_for(self, id: str) -> bool:
        """Whether the benchmark has such a request, as far as it can be asked."""
        try:
            return id in self.requests
        except (OSError, ValueError):
            return False

    def find_edit(self, id: str, ratio: float) -> dict[str, Any]:
        """What the record says of one edit."""
        edits = {Variant.parse(edit["variant"]).strength: edit for edit in self.get_edited(id)["edits"]}
        if ratio not in edits:
            nearest = min(edits, key=lambda strength: abs(strength - ratio))
            there = ", ".join(f"{strength:g}" for strength in edits)
            name = self.config["strength_name"]
            raise KeyError(f"{self.root}: no edit at {name} {ratio:g}; the nearest is {nearest:g}, of {there}")
        return edits[ratio]


def read_records(root: Path) -> dict[str, dict[str, Any]]:
    """What a run says of each request that was tried, by id, sorted.

    Records that lie there since the table of the benchmark had other rows are left out: those that were written before
    the manifest and are not in it.
    """
    records: dict[str, tuple[Path, dict[str, Any]]] = {}
    # Of an id in both, what lies loose counts; that is read first, as it may be packed meanwhile.
    for path, record in chain(iterate_loose(root), iterate_packed(root)):
        lacking = "whole content" if record is None else find_lacking(record)
        if lacking:
            log.warning("%s: left out, it has no %s; start the run again", path, lacking)
        else:
            records.setdefault(record["id"], (path, record))
    manifest = root / "manifest.parquet"
    listed, written = set(records), 0
    if manifest.exists():
        try:
            if not manifest.is_file():
                raise OSError("not a regular file")
            listed, written = set(pd.read_parquet(manifest, columns=["id"]).id), manifest.stat().st_mtime_ns
        except (OSError, ValueError, KeyError) as error:  # it is a view of the records
            log.warning(
                "%s: damaged (%s): what the records say is shown; the next start writes it anew", manifest, error
            )
    kept = {id for id, (path, _) in records.items() if id in listed or path.stat().st_mtime_ns > written}
    return {id: records[id][1] for id in sorted(kept)}


def iterate_packed(root: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The records in the files of shards, each with its file; None for one that is not whole."""
    packed = PackedRecords(root)
    for path in list_shards(root):
        for request, text in packed.read(path).items():
            yield path, parse_record(text, path, request)


def iterate_loose(root: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The records beside the shards, each with its file; None for one that is not whole."""
    for path in (root / "records").glob("*.json"):
        try:
            yield path, read_whole_record(path) if path.is_file() else None
        except RecursionError:
            yield path, None


def open_picture(path: Path) -> Image.Image:
    """A picture that a run wrote; an OSError that names it where it cannot be read."""
    with open_image(path) as picture:
        return picture


def name_nearest(name: str, known: Iterable[str]) -> str:
    """A sentence of the names that are nearest to one that is not there."""
    known = list(known)
    if not known:
        return "nothing is done yet"
    near = get_close_matches(name, known, 3, 0.4)
    return f"did you mean {', '.join(near)}?" if near else f"there are {len(known)}, such as {known[0]}"
