"""Who is at a run, as its claims say, and how fast: as the files of finished shards say when they were begun and ended.

A look changes nothing.
"""

import os
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffedit.io.files import HOST
from diffedit.runs.claim import (
    NAME,
    SHARDS,
    NoClaimError,
    is_alive,
    is_live,
    name_holder,
    read_clock,
    read_holder,
    read_timeout,
)

WRITTEN = 5.0  # seconds in which a claim that says nothing may still be being written
WHOLE = 0.8  # of the seconds that a shard's requests took: one that was held for less was begun by another process


@dataclass
class Worker:
    """A process that is at a run.

    Attributes:
        node: where.
        process: its number there; None where its claim does not say.
        since: when it took the oldest of what it is at, in seconds since 1970.
        shards: their numbers; none where it is at the run as a whole: it opens it, or is of an earlier release.
        an_hour: requests, over the shards that it finished; None where it has finished none.
    """

    node: str
    process: int | None
    since: float | None
    shards: list[int] = field(default_factory=list)
    an_hour: float | None = None


@dataclass
class Crew:
    """All that claims of a run say.

    Attributes:
        workers: the oldest first.
        left: claims of processes that are gone, in words.
        unclear: claims that say nothing.
        wrong: what lies in the place of a claim and is none, in words.
    """

    workers: list[Worker] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def find_crew(root: Path, rates: Mapping[Hashable, float]) -> Crew:
    """Read the claims of a run.

    Args:
        root: of the run.
        rates: requests an hour of each process that has finished a shard.
    """
    crew, workers = Crew(), {}
    paths = [path for path in (root / NAME, *sorted(root.glob(SHARDS))) if os.path.lexists(path)]
    has_clock = bool(paths) and can_read_clock(root)
    for path in paths:
        place = path.relative_to(root).as_posix()
        try:
            holder = read_holder(path)
        except NoClaimError as error:
            crew.wrong.append(str(error).removeprefix(f"{root}/"))
            continue
        if holder is None:  # given back meanwhile
            continue
        if "process" not in holder and measure_age(path) > WRITTEN:
            crew.unclear.append(place)
        if not (is_live(path) if has_clock else is_fresh(path, holder)):
            crew.left.append(f"{place} of {name_holder(holder)}")
            continue
        worker = make_worker(holder, rates)
        worker = workers.setdefault(identify(holder) or (place,), worker)
        worker.since = min(filter(None, (worker.since, as_number(holder.get("since")))), default=None)
        worker.shards += [int(path.stem)] if path.stem.isdecimal() else []
    crew.workers = sorted(workers.values(), key=lambda worker: worker.since or 0.0)
    return crew


def make_worker(holder: Mapping[str, Any], rates: Mapping[Hashable, float]) -> Worker:
    """Who holds a claim, without what it holds."""
    process = holder.get("process")
    is_number = isinstance(process, int) and not isinstance(process, bool)
    since, key = as_number(holder.get("since")), identify(holder)
    return Worker(str(holder.get("node", "?")), process if is_number else None, since, [], rates.get(key))


def can_read_clock(folder: Path) -> bool:
    """Whether the disk's clock can be read, for which a file has to be made."""
    try:
        read_clock(folder)
    except OSError:
        return False
    return True


def is_fresh(path: Path, holder: dict[str, Any]) -> bool:
    """Whether somebody stands behind a claim in a directory that we may not write to: by our clock, not the disk's."""
    if holder.get("host") == HOST and not is_alive(holder):
        return False
    return measure_age(path) <= read_timeout(holder)


def measure_age(path: Path) -> float:
    """Seconds between now, by our clock, and the last touch of a file; 0 where it is gone."""
    try:
        return abs(time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0


def identify(note: Mapping[str, Any]) -> Hashable:
    """Tells one process from another, by what a claim or a shard says; None where it does not say."""
    parts = tuple(note.get(key) for key in ("host", "process", "began"))
    return parts if all(isinstance(part, str | int | float) for part in parts) else None


def as_number(value: Any) -> float | None:
    """A time from a file; None where it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e12 else None


# ------------------------------------------------------------------------------------------------------------ how fast


def measure_rates(summaries: Iterable[Mapping[str, Any]]) -> dict[Hashable, float]:
    """Requests an hour of each process that has finished shards, over the time in which it was at them.

    Left out are shards whose requests took longer than the process held them: others had made most of them before.
    """
    requests: dict[Hashable, int] = defaultdict(int)
    spans: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for summary in summaries:
        key, values = identify(summary), [as_number(summary.get(name)) for name in ("since", "ended", "seconds")]
        count = summary.get("requests")
        if key is None or None in values or not isinstance(count, int):
            continue
        since, ended, seconds = values
        if ended > since and ended - since >= WHOLE * seconds:
            requests[key] += count
            spans[key].append((since, ended))
    return {key: 3600 * requests[key] / measure_union(spans[key]) for key in spans}


def measure_union(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that are in any of these spans: a process is at several shards at once."""
    total, last = 0.0, float("-inf")
    for since, ended in sorted(spans):
        total += max(ended - max(since, last), 0.0)
        last = max(last, ended)
    return total


def sum_rates(workers: Iterable[Worker], rates: Mapping[Hashable, float]) -> float | None:
    """Requests an hour of all workers together; one that has finished no shard counts as the others of the run did.

    None where nobody is at work, or nobody has finished a shard yet.
    """
    workers = list(workers)
    if not workers or not rates:
        return None
    usual = sum(rates.values()) / len(rates)
    return sum(usual if worker.an_hour is None else worker.an_hour for worker in workers)
