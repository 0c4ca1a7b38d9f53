"""What has become of a run so far, as its files say; no network, no table and no picture is looked at.

Counts come from the feet of the shards' files and from the records beside them; who is at work, from claims; how fast,
from when finished shards were begun and ended.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from diffedit.io.files import read_json, read_regular
from diffedit.runs.archive import read_note
from diffedit.runs.cut import KNOWN, Stamp, list_shards, read_cut, read_summary_once, stamp
from diffedit.runs.workers import Worker, find_crew, measure_rates, sum_rates

LOOSE = 4096  # records beside the shards that are opened; of more, the names are counted
LARGEST_CONFIG = 2**20  # bytes
THREADS = 8  # that wait for a slow disk


@dataclass
class Failures:
    """Requests that failed for one reason: how many, and one of them with its whole error."""

    count: int = 0
    example: str = ""


@dataclass
class RunStatus:
    """What has become of a run.

    Attributes:
        run: its directory.
        shards: how many there are; None where that is not known.
        shards_done: those whose file is there, and whole.
        requests: of the benchmark; None where no shard was begun, as in a run of an earlier release.
        done: requests.
        failed: requests.
        failures: by reason: the exception's name, as a rule.
        lacking_edits: of requests that are done, at strengths that were asked for later.
        workers: processes that are at it.
        an_hour: requests that these do together; None where that is not known.
        seconds_left: None where that is not known, or nobody is at it.
        bytes: of what it wrote.
        is_least: whether there are more bytes: of some files no record tells the size.
        archive: the file that holds its pictures, where they are no longer in the run.
        damage: what is not whole, a line each.
        notes: what else there is to know.
    """

    run: str
    shards: int | None = None
    shards_done: int = 0
    requests: int | None = None
    done: int = 0
    failed: int = 0
    failures: dict[str, Failures] = field(default_factory=dict)
    lacking_edits: int = 0
    workers: list[Worker] = field(default_factory=list)
    an_hour: float | None = None
    seconds_left: float | None = None
    bytes: int = 0
    is_least: bool = False
    archive: str | None = None
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int | None:
        """Requests of which nothing is known; None where it is not known how many there are."""
        return None if self.requests is None else max(self.requests - self.done - self.failed, 0)

    @property
    def is_complete(self) -> bool:
        """Whether every request was tried, and nobody is at it."""
        is_whole = self.missing == 0 and self.shards_done == self.shards and not self.lacking_edits
        return is_whole and not self.workers

    @property
    def state(self) -> str:
        """All that in a word or two."""
        if self.damage:
            return "damaged"
        if self.workers:
            return f"{len(self.workers)} at work"
        if self.requests is None:
            return "not known"
        return ("failed" if self.failed else "done") if self.is_complete else "stopped"

    @property
    def exit_code(self) -> int:
        """1 where some failed or something is damaged, 3 where it is not complete, else 0."""
        if self.failed or self.damage:
            return 1
        return 0 if self.is_complete else 3


class Shard(NamedTuple):
    """A finished shard: its file, as it was when its foot was read."""

    path: Path
    stamp: Stamp
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class LooseRecord:
    """What is told of one request by a record beside the shards; `error` is None where it is done."""

    error: str | None = None
    bytes: int = 0


def read_status(root: Path) -> RunStatus:
    """Look at a run; what is damaged is in the status, and raises nothing."""
    status = RunStatus(str(root))
    ratios = count_ratios(root, status)
    cut = read_cut(root)
    if cut is not None:
        status.shards, status.requests = cut.shards, cut.requests
    elif (root / "shards" / "cut.json").exists():
        status.damage.append("shards/cut.json: damaged: the next start writes it anew")
    loose = read_loose(root, status)
    shards = read_shards(root, status)
    for shard in shards:
        add_shard(status, shard, loose, ratios)
    for name, record in loose.items():
        status.bytes += record.bytes
        count(status, name, record.error)
    rates = measure_rates(shard.summary for shard in shards)
    crew = find_crew(root, rates)
    status.workers, status.an_hour = crew.workers, sum_rates(crew.workers, rates)
    status.damage += crew.wrong
    status.notes += [f"{place}: a claim that says nothing" for place in crew.unclear]
    if crew.left:
        status.notes.append(f"{len(crew.left)} claims of processes that are gone, as {crew.left[0]}")
    if status.an_hour and status.missing is not None:
        status.seconds_left = 3600 * status.missing / status.an_hour
    note_rest(root, status)
    return status


def note_rest(root: Path, status: RunStatus) -> None:
    """Say where pictures are that are not here, and why a run without failures is not complete."""
    note = read_note(root)
    if note is not None:
        status.archive = str(note.tar)
        status.bytes, status.is_least = 0, False
        try:
            status.bytes = note.tar.stat().st_size
        except OSError:
            status.damage.append(f"{note.tar}: gone, and it held the pictures")
    if status.lacking_edits:
        status.notes.append(f"{status.lacking_edits:,} edits at strengths that were asked for later are missing")
    if status.requests is None and not status.damage:
        status.notes.append("how many requests there are is not known before the next start of the run")
    elif status.missing == 0 and not status.workers and status.shards_done != status.shards:
        status.notes.append("all requests were tried, and not all shards are packed: the next start does that")


def count_ratios(root: Path, status: RunStatus) -> int | None:
    """How many strengths a run asks for; None, and damage, where its config does not say."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        config = yaml.load(read_regular(root / "config.yaml", LARGEST_CONFIG), loader)
        return len(config["ratios"])
    except FileNotFoundError:
        why = "gone"
    except (OSError, yaml.YAMLError, UnicodeError, RecursionError) as error:
        why = f"damaged ({str(error).splitlines()[0]})"
    except (TypeError, KeyError, ValueError):
        why = "damaged (no ratios)"
    status.damage.append(f"config.yaml: {why}: put back what the run wrote")
    return None


# --------------------------------------------------------------------------------------------------------------- counts


def read_loose(root: Path, status: RunStatus) -> dict[str, LooseRecord]:
    """What the records beside the shards say, by id; where there are too many to open, all are taken for done."""
    paths = sorted((root / "records").glob("*.json"))
    if len(paths) > LOOSE:
        status.is_least = True
        status.notes.append(f"{len(paths):,} records beside the shards are counted by name: which failed is not told")
        return {unquote(path.stem): LooseRecord() for path in paths}
    records, damaged = {}, []
    for path in paths:
        try:
            record = read_json(path)
            if record["status"] not in ("done", "failed"):
                raise ValueError(f"status = {record['status']!r}")
            error = None if record["status"] == "done" else str(record["error"])
            if "files" not in record:  # of an earlier release
                status.is_least = True
            sizes = [int(file["size"]) for file in record.get("files", {}).values()]
            records[str(record["id"])] = LooseRecord(error, sum(sizes))
        except FileNotFoundError:  # packed meanwhile
            continue
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            damaged.append(path.name)
    if damaged:
        status.notes.append(f"{len(damaged)} records are not whole, as records/{damaged[0]}: they are edited again")
    return records


def read_shards(root: Path, status: RunStatus) -> list[Shard]:
    """What the files of finished shards say of themselves; those that are not whole are damage."""

    def read(path: Path) -> Shard | OSError:
        try:
            mark = stamp(path)
            return Shard(path, mark, read_summary_once(path, mark))
        except OSError as error:
            return error

    paths = list_shards(root)
    if not paths:
        return []
    with ThreadPoolExecutor(min(THREADS, len(paths))) as pool:
        found = list(pool.map(read, paths))
    for error in found:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):  # it is unpacked right now
            status.damage.append(str(error).removeprefix(f"{root}/").splitlines()[0])
    return [shard for shard in found if isinstance(shard, Shard)]


def add_shard(status: RunStatus, shard: Shard, loose: Mapping[str, LooseRecord], ratios: int | None) -> None:
    """Count a finished shard, but for requests of which there is a record beside it: that is what counts."""
    path, mark, summary = shard
    done, failed = (as_number(summary.get(key)) for key in ("done", "failed"))
    if not done + failed:
        status.damage.append(f"{path.parent.name}/{path.name}: it says of itself that it holds nothing")
        return
    try:
        again = loose.keys() & read_ids(path, mark) if loose else set()
        if again or failed > 1:
            outcomes = read_outcomes(path, mark)
            errors = {name: error for name, error in outcomes.items() if error is not None and name not in again}
            done -= sum(outcomes[name] is None for name in again)
        else:
            name, _, error = str(summary.get("error")).partition(": ")
            errors = {name: error} if failed else {}
    except OSError as error:
        status.damage.append(str(error))
        return
    status.shards_done += 1
    status.bytes += as_number(summary.get("bytes")) + mark[1]
    status.done += done
    for name, error in errors.items():
        count(status, name, error)
    if ratios:
        asked = as_number(summary.get("done")) * ratios
        status.lacking_edits += max(asked - as_number(summary.get("edits")), 0)


def count(status: RunStatus, name: str, error: str | None) -> None:
    """Count a request, by its reason where it failed."""
    if error is None:
        status.done += 1
        return
    status.failed += 1
    failures = status.failures.setdefault(name_reason(error), Failures())
    failures.count += 1
    failures.example = failures.example or f"{name}: {error}"


def name_reason(error: str) -> str:
    """What errors of one kind have in common: the exception's name, or the first words."""
    first = error.partition(":")[0].strip()
    return first if first.isidentifier() else " ".join(error.split()[:3]) or "no reason given"


def as_number(value: Any) -> int:
    """A count from a file; 0 where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


@lru_cache(KNOWN)
def read_ids(path: Path, stamp: Stamp) -> frozenset[str]:
    """Of the requests in a shard; an OSError as of `read_columns`."""
    return frozenset(read_columns(path, "id")["id"])


@lru_cache(KNOWN)
def read_outcomes(path: Path, stamp: Stamp) -> Mapping[str, str | None]:
    """The error of each request in a shard, None where it is done; an OSError as of `read_columns`."""
    rows = read_columns(path, "id", "status", "error")
    errors = zip(rows["status"], rows["error"], strict=True)
    return {
        name: None if state == "done" else str(error) for name, (state, error) in zip(rows["id"], errors, strict=True)
    }


def read_columns(path: Path, *names: str) -> dict[str, list[Any]]:
    """Some columns of a shard; an OSError that names the file where it is not whole."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        return pq.ParquetFile(path).read(columns=[*names]).select([*names]).to_pydict()
    except (OSError, KeyError, ValueError, ArrowException) as error:
        raise OSError(f"{path.parent.name}/{path.name}: no whole records of a shard ({error})") from error
