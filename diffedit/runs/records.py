"""The record of a request: read with care, since disks fill and people copy, and compared with what lies beside it."""

import json
import logging
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from diffedit.io.files import hash_file, quote_file_name, read_json
from diffedit.io.images import get_path
from diffedit.runs.migrate import migrate_record
from diffedit.runs.schema import check_record, list_files
from diffedit.types import EditRequest

log = logging.getLogger("run")

Verify = Literal["size", "content", "none"]
"""What a file that a record names has to be: of the size that was written, of its content too, or just there."""


def read_whole_record(path: Path) -> dict[str, Any] | None:
    """A record in today's fields; None where there is none, and, with a warning, where it is not a whole one."""
    return read_whole(path, lambda: read_json(path), path.name.removesuffix(".json"))


def parse_record(text: str, path: Path, request: str) -> dict[str, Any] | None:
    """The record of a request from a file of many, in today's fields; None, with a warning, where it is not whole."""
    return read_whole(path, lambda: json.loads(text), quote_file_name(request))


def read_whole(path: Path, load: Callable[[], Any], name: str) -> dict[str, Any] | None:
    """What is loaded as a record in today's fields, or None.

    Args:
        path: where it comes from, for the warning.
        load: gives it.
        name: of the files of its request.
    """
    try:
        record = load()
        if not isinstance(record, Mapping):
            raise TypeError("no names and values")
        for key in ("edits", "samples"):
            if not is_list_of_mappings(record.get(key, [])):
                raise TypeError(f"{key} of another type")
        record = migrate_record(record)
        check_record(record, name)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError) as error:
        log.warning("%s: not a whole record (%s): its request is edited again", path, describe_fault(error))
        return None
    return record


def describe_fault(error: Exception) -> str:
    """What was wrong, in a few words."""
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def is_list_of_mappings(value: Any) -> bool:
    """Whether it is what edits and samples are."""
    return isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)


def find_damage(root: Path, record: Mapping[str, Any], verify: Verify = "size") -> list[str]:
    """What is not as it was written of the files of a record; records of before know the content of edits alone.

    Args:
        root: of the run.
        record: whole.
        verify: how closely to look.
    """
    known = record.get("files") or {edit["file"]: {"sha256": edit["sha256"]} for edit in record["edits"]}
    faults = (find_fault(root, name, known.get(name, {}), verify) for name in list_files(record))
    return [fault for fault in faults if fault is not None]


def find_fault(root: Path, name: str, written: Mapping[str, Any], verify: Verify) -> str | None:
    """What is wrong with one file; None for nothing."""
    path = root / name
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return f"{name} is gone: something else lies there"
        if verify != "none" and status.st_size != written.get("size", status.st_size):
            return f"{name} has {status.st_size:,} bytes of {written['size']:,}"
        if verify == "content" and "sha256" in written and hash_file(path) != written["sha256"]:
            return f"{name} has another content"
    except FileNotFoundError:
        return f"{name} is gone"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror or error})"
    return None


# ---------------------------------------------------------------------------------------------------------- its sources


def stamp_sources(request: EditRequest) -> dict[str, dict[str, Any]]:
    """Size and time of the files that a request's picture and mask are loaded from, where they are files."""
    loads = {"image": request.image, "mask": request.mask}
    return {name: stamp for name, load in loads.items() if (stamp := stamp_file(get_path(load))) is not None}


def stamp_file(path: Path | None) -> dict[str, Any] | None:
    """Size and time of a file; None where there is none."""
    try:
        status = path.stat() if path is not None else None
    except (OSError, ValueError):  # whoever opens it says what is wrong
        return None
    if status is None or not stat.S_ISREG(status.st_mode):
        return None
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def hash_sources(request: EditRequest, stamps: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The stamps with the content's hash.

    Raises:
        OSError: a file is no longer the one that was stamped.
    """
    paths = {name: get_path(getattr(request, name)) for name in stamps}
    hashed = {name: {**stamp, "sha256": hash_file(paths[name])} for name, stamp in stamps.items()}
    for name, path in paths.items():
        if stamp_file(path) != stamps[name]:
            raise OSError(f"{path}: it changed while it was edited")
    return hashed


def find_changed_sources(record: Mapping[str, Any], request: EditRequest) -> list[str]:
    """Files of a request that are no longer those of its record: the content counts, where size or time differ.

    One that is gone has not changed: what was made of it stays.
    """
    changed = []
    now = stamp_sources(request)
    for name, before in (record.get("sources") or {}).items():
        stamp, path = now.get(name), get_path(getattr(request, name))
        if stamp is None or stamp == {key: before[key] for key in stamp}:
            continue
        if stamp["size"] != before["size"] or hash_file(path) != before["sha256"]:
            changed.append(f"{path} was replaced by another {name}")
    return changed
