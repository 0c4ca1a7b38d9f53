"""How a run is cut into shards of requests, and what the files of shards say of themselves; without torch and pandas.

    shards/cut.json          how many requests are in a shard, how many there are, and the hash of their ids in order
    shards/<number>.parquet  the records of a shard, by rename: it is there whole, or not
    shards/<number>.claim    the process that is at a shard

A shard is a fixed range of the benchmark's order, so that any number of processes cut a run alike.
"""

import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from diffedit.io.files import read_json, write
from diffedit.runs.claim import is_live

log = logging.getLogger("run")

FOLDER = "shards"
SIZE = 64  # requests in a shard of a run that does not say, at most
EACH = 4  # shards for each of several processes of a run that does not say, as far as there are requests
KNOWN = 2**16  # shards that are remembered between two looks
SUMMARY = b"diffedit"  # the key of a file's own metadata
SHARE = re.compile(r"(\d+)/(\d+)")


Stamp = tuple[int, int]
"""Of a file: when it was written, in nanoseconds, and its bytes."""


@dataclass(frozen=True)
class Cut:
    """How a run is cut.

    Attributes:
        size: requests in a shard.
        requests: in all.
        ids: the hash of their ids, in order.
    """

    size: int
    requests: int
    ids: str

    @classmethod
    def of(cls, ids: Iterable[str], size: int) -> "Cut":
        """The cut of these requests."""
        digest, count = hashlib.sha256(), 0
        for name in ids:
            digest.update(json.dumps(name).encode())
            count += 1
        return cls(size, count, digest.hexdigest())

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.requests // self.size)


@dataclass(frozen=True)
class Share:
    """The shards that a process takes first, `k/N`: those whose number is k modulo N; then what nobody has taken."""

    k: int = 0
    of: int = 1

    @classmethod
    def read(cls, text: str | None, environ: Mapping[str, str] = os.environ) -> "Share":
        """From a setting; None for what srun, torchrun or a job array say, and else all.

        Raises:
            ValueError: it is no k/N.
        """
        if text is None:
            return cls.find(environ)
        found = SHARE.fullmatch(str(text).strip())
        if found is None or int(found[1]) >= int(found[2]):
            raise ValueError(f"shard = {text}: k/N with 0 <= k < N is wanted, as shard=3/16")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> "Share":
        """What the environment says: torchrun's rank, or the task of a Slurm step, within the task of a job array.

        No more than who begins where hangs on it: every process goes on with what nobody has taken.
        """

        def read(name: str, default: int = 0) -> int:
            text = environ.get(name, "")
            return int(text) if text.isdecimal() else default

        k, of = read("RANK"), read("WORLD_SIZE", 1)
        if of <= 1 and "SLURM_STEP_ID" in environ:
            k, of = read("SLURM_PROCID"), read("SLURM_STEP_NUM_TASKS", read("SLURM_NTASKS", 1))
        count = read("SLURM_ARRAY_TASK_COUNT", 1)
        if count > 1:
            step = read("SLURM_ARRAY_TASK_STEP", 1) or 1
            task = (read("SLURM_ARRAY_TASK_ID") - read("SLURM_ARRAY_TASK_MIN")) // step
            k, of = (task % count) * max(of, 1) + k, count * max(of, 1)
        return cls(k % of, of) if of > 1 else cls()

    def has(self, number: int) -> bool:
        """Whether a shard is among them."""
        return number % self.of == self.k


class Tasks(NamedTuple):
    """Who is to edit.

    Attributes:
        count: how many processes.
        at_once: of these; None for all.
        is_here: whether on this device.
    """

    count: int = 1
    at_once: int | None = None
    is_here: bool = True


ONE = Tasks()  # this process


def choose_size(asked: int | None, requests: int, processes: int) -> int:
    """Requests in a shard: as asked for; else so many that several processes share a short run evenly."""
    if asked is not None:
        return asked
    return SIZE if processes == 1 else min(max(requests // (EACH * processes), 1), SIZE)


def read_cut(root: Path) -> Cut | None:
    """How a run is cut; None where it is not, or, with a warning, where its note is damaged."""
    path = root / FOLDER / "cut.json"
    try:
        found = read_json(path)
        cut = Cut(int(found["size"]), int(found["requests"]), str(found["ids"]))
        if cut.size < 1:
            raise ValueError(f"size = {cut.size}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s: damaged (%s): it is written anew", path, error)
        return None
    return cut


def write_cut(root: Path, cut: Cut) -> None:
    """Note how a run is cut."""
    write(root / FOLDER / "cut.json", json.dumps(asdict(cut), indent=1).encode())


def get_shard_path(root: Path, number: int) -> Path:
    """Where the file of a shard lies."""
    return root / FOLDER / f"{number:06d}.parquet"


def get_claim_path(root: Path, number: int) -> Path:
    """Where the claim of a shard lies."""
    return root / FOLDER / f"{number:06d}.claim"


def make_presence_path(root: Path) -> Path:
    """Where a process says that it has opened a run: a name of its own. Those of processes that are gone go."""
    for path in (root / FOLDER).glob("*.open.claim"):
        if not is_live(path):
            with suppress(OSError):
                path.unlink()
    return root / FOLDER / f"{uuid.uuid4().hex}.open.claim"


def list_shards(root: Path) -> list[Path]:
    """The files of the shards that were edited to their end, by number."""
    return sorted(path for path in (root / FOLDER).glob("*.parquet") if path.stem.isdecimal())


def read_summary(path: Path) -> dict[str, Any]:
    """What the file of a shard says of it in its foot; an OSError that names it where it cannot be read."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        if not path.is_file():  # a FIFO would be waited for
            raise OSError("not a regular file")
        summary = json.loads((pq.read_metadata(path).metadata or {})[SUMMARY])
        if not isinstance(summary, Mapping):
            raise TypeError("no names and values")
    except (OSError, KeyError, ValueError, TypeError, ArrowException) as error:
        raise OSError(f"{path}: no whole records of a shard ({error})") from error
    return dict(summary)


def count_records(root: Path) -> int:
    """How many requests of a run have been tried, as far as the files of shards are whole."""
    count = sum(1 for _ in (root / "records").glob("*.json"))
    for path in list_shards(root):
        with suppress(OSError):
            count += read_summary_once(path, stamp(path)).get("requests", 0)
    return count


def stamp(path: Path) -> Stamp:
    """Tells whether a file has been written since."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(KNOWN)
def read_summary_once(path: Path, stamp: Stamp) -> Mapping[str, Any]:
    """The summary of a shard, as long as its file stays as it is: whoever looks every second reads it once."""
    return read_summary(path)
