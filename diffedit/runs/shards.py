"""The file of a shard of requests that were edited to their end: the rows of the manifest, and the records.

The first row of each request has its record as JSON text; so a run of many requests has few files of records, and its
manifest is one query over them.
"""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from diffedit.io.files import read_regular
from diffedit.runs.cut import SUMMARY, get_shard_path, list_shards
from diffedit.runs.manifest import build_manifest, to_arrow
from diffedit.runs.records import parse_record
from diffedit.types import Variant

log = logging.getLogger("run")

LARGEST = 2**30  # bytes of a file of a shard


def encode_shard(
    records: Sequence[Mapping[str, Any]], variants: Sequence[Variant], seed: int | None, note: Mapping[str, Any]
) -> bytes:
    """The file of a shard.

    Args:
        records: of its requests, in order.
        variants: that the run asks for.
        seed: of the run.
        note: what is said of the shard beside its counts: who edited it, and when.
    """
    table = build_manifest(records, variants, seed)
    is_first = ~table.id.duplicated()
    texts = iter([json.dumps(record) for record in records])
    arrow = to_arrow(table)
    arrow = arrow.append_column("place", pa.array(range(len(table)), pa.int64()))
    arrow = arrow.append_column("record", pa.array([next(texts) if first else None for first in is_first], pa.string()))
    arrow = arrow.replace_schema_metadata({SUMMARY: json.dumps({**summarize(records), **note}).encode()})
    data = pa.BufferOutputStream()
    pq.write_table(arrow, data, compression="zstd", write_page_checksum=True)
    return data.getvalue().to_pybytes()


def summarize(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a table of all shards says of one."""
    done = [record for record in records if record["status"] == "done"]
    sizes = (file["size"] for record in records for file in (record.get("files") or {}).values())  # not of before
    errors = [f"{record['id']}: {record['error']}" for record in records if record["error"]]
    return {
        "requests": len(records),
        "done": len(done),
        "failed": len(records) - len(done),
        "edits": sum(len(record["edits"]) for record in done),
        "seconds": round(sum(record["seconds"] for record in records), 4),
        "bytes": sum(sizes),
        "error": errors[0] if errors else None,
    }


def read_shard(path: Path) -> dict[str, str]:
    """The records of a shard as JSON texts, by id.

    Raises:
        OSError: it is no whole file of a shard; the message names it.
    """
    try:
        data = pa.BufferReader(read_regular(path, LARGEST))
        table = pq.read_table(data, page_checksum_verification=True)  # all columns: they make the manifest
        rows = table.select(["id", "record"]).filter(table["record"].is_valid()).to_pydict()
        return dict(zip(rows["id"], rows["record"], strict=True))
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        text = str(error).removeprefix(f"{path}: ")
        raise OSError(f"{path}: no whole records of a shard ({text})") from error


class PackedRecords:
    """The records in the files of a run's shards; a file that is damaged is as if it were not there, with a warning.

    Args:
        root: of the run.
        kept: shards whose texts stay in memory.

    Attributes:
        is_cut: whether each request is in its own shard, if it is in any; else all shards are looked through for it.
        damaged: files that are not whole, and what is wrong with each.
    """

    def __init__(self, root: Path, kept: int = 4) -> None:
        self.root, self.kept, self.is_cut = root, kept, False
        self.texts: dict[Path, dict[str, str]] = {}
        self.places: dict[str, Path] | None = None
        self.damaged: dict[Path, str] = {}
        self.lock = threading.Lock()

    def read(self, path: Path) -> dict[str, str]:
        """The texts of one file, by id; none where it is not there or not whole."""
        with self.lock:
            if path not in self.texts:
                try:
                    texts = read_shard(path)
                except FileNotFoundError:
                    return {}
                except OSError as error:
                    log.warning("%s: its requests are edited again", error)
                    self.damaged[path], texts = str(error), {}
                while len(self.texts) >= self.kept:
                    del self.texts[next(iter(self.texts))]
                self.texts[path] = texts
            return self.texts[path]

    def forget(self, number: int) -> None:
        """Look again at a shard, which somebody has written meanwhile."""
        path = get_shard_path(self.root, number)
        with self.lock:
            self.texts.pop(path, None)
            self.damaged.pop(path, None)

    def find(self, request: str, number: int | None = None) -> dict[str, Any] | None:
        """The record of a request, in today's fields; None where there is none that is whole.

        Args:
            request: its id.
            number: the shard that it belongs to; None where that is not known.
        """
        path = None if number is None else get_shard_path(self.root, number)
        if path is None or request not in self.read(path):
            path = None if self.is_cut else self.find_place(request)
        text = None if path is None else self.read(path).get(request)
        return None if text is None else parse_record(text, path, request)

    def find_place(self, request: str) -> Path | None:
        """The file that has a request, of those that were there at the first look."""
        if self.places is None:
            self.places = {name: path for path in list_shards(self.root) for name in self.read_ids(path)}
        return self.places.get(request)

    def list_ids(self) -> set[str]:
        """Of all requests in any shard."""
        return {name for path in list_shards(self.root) for name in self.read_ids(path)}

    def read_ids(self, path: Path) -> list[str]:
        """Of one file; none where it is not whole."""
        try:
            return pq.read_table(path, columns=["id"])["id"].unique().to_pylist()
        except (OSError, KeyError, ValueError, pa.ArrowException):
            return list(self.read(path))  # which says what is wrong
