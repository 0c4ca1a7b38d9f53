"""Runs of the same requests, as a page shows them together; what cannot be read is named and left out."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from diffedit.types import EditRequest
from eval.reporting.findings import name_editor
from eval.reporting.tables import name_methods
from eval.scoring.files import PLACE, name_place
from eval.scoring.finished_run import FinishedRun

log = logging.getLogger(__name__)

Mark = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class RunSet:
    """Runs of the same requests, by the same backbone.

    Attributes:
        key: names the files of this set.
        names: of benchmark and backbone.
        runs: each a column of the gallery.
        methods: what each run is called, as in tables.
        requests: that the gallery shows.
        total: requests that there are.
    """

    key: str
    names: tuple[str, str]
    runs: list[FinishedRun]
    methods: list[str]
    requests: list[EditRequest]
    total: int
    places: list[int] = field(default_factory=list)  # of the shown requests among all

    @property
    def title(self) -> str:
        return f"{', '.join(self.names)}, n = {self.total}"

    @property
    def labels(self) -> list[str]:
        """What each run is called on the page."""
        return [name_editor(method) for method in self.methods]

    @property
    def strengths(self) -> list[float]:
        """Of all runs, rising."""
        return sorted({variant.strength for run in self.runs for variant in run.variants})

    @property
    def strength_name(self) -> str:
        """What the methods call their strength."""
        names = {run.config["strength_name"] for run in self.runs}
        return "r" if names == {"ratio"} else names.pop() if len(names) == 1 else "strength"


def find_sets(
    roots: Sequence[Path], count: int | None, mark: Mark = lambda frame: frame, is_paired: bool = False
) -> tuple[list[RunSet], list[str]]:
    """(the sets of these runs, why some run is in none).

    Args:
        roots: run directories.
        count: requests to show of each set, evenly spread over all; None for all.
        mark: what puts into the names of runs (a table with run and name) that which tells them apart.
        is_paired: whether runs by other backbones stand in the same set.
    """
    runs, problems = [], []
    for root in roots:
        try:
            runs.append(FinishedRun(root))
        except Exception as error:  # of this run alone: the others are shown
            reason = str(error) if isinstance(error, OSError | ValueError) else repr(error)
            problems.append(reason if str(root) in reason else f"{root}: {reason}")
            log.error("left out: %s", problems[-1])
            log.debug("", exc_info=True)
    return list(group(runs, count, mark, is_paired)), problems


def group(runs: Sequence[FinishedRun], count: int | None, mark: Mark, is_paired: bool) -> Iterator[RunSet]:
    """The runs by benchmark, backbone and requests."""
    backbones = " and ".join(dict.fromkeys(name_place(run.root)["backbone"] for run in runs))
    groups: dict[tuple[str, str, str], list[FinishedRun]] = {}
    for run in runs:
        place = name_place(run.root)
        key = (place["benchmark"], backbones if is_paired else place["backbone"], hash_requests(run.requests))
        groups.setdefault(key, []).append(run)
    for i, ((benchmark, backbone, _), members) in enumerate(groups.items()):
        requests = members[0].requests
        places = choose_places(len(requests), count)
        methods = list(name_runs(members, mark))
        order = sorted(range(len(members)), key=lambda k: (bool(members[k].config["is_bound"]), methods[k]))
        yield RunSet(
            f"set{i}",
            (benchmark, backbone),
            [members[k] for k in order],
            [methods[k] for k in order],
            [requests[place] for place in places],
            len(requests),
            places,
        )


def hash_requests(requests: Sequence[EditRequest]) -> str:
    """Tells what is asked for."""
    asked = [[request.id, request.source, request.target, request.label] for request in requests]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def name_runs(runs: Sequence[FinishedRun], mark: Mark) -> pd.Series:
    """What each run is called: its editor, and what tells it from others of that editor."""
    frame = pd.DataFrame([name_place(run.root) | {"run": str(run.root)} for run in runs], columns=[*PLACE, "run"])
    return name_methods(mark(frame))


def choose_places(total: int, count: int | None) -> list[int]:
    """Indices of so many requests, evenly spread and not looked at."""
    return list(range(total)) if count is None or count >= total else choose_requests(total, count)


def find_step(total: int, count: int) -> int:
    """How far two shown requests are apart: odd, for benchmarks that take kinds of edits in turn."""
    step = max(1, total // count)
    return step - (step % 2 == 0)


def choose_requests(total: int, count: int) -> list[int]:
    """Indices of `count` of `total` requests, evenly spread and not looked at."""
    return list(range(0, total, find_step(total, count)))[:count]


def find_facts(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says of the mask; nothing where the request has no edits."""
    return record.get("metadata") or {}
