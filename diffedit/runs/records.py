"""The record of a request: read with care, since disks fill and people copy, and compared with what lies beside it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from diffedit.io.files import hash_file
from diffedit.io.images import get_path
from diffedit.runs.migrate import migrate_record
from diffedit.types import EditRequest, Variant

log = logging.getLogger("run")

Verify = Literal["size", "content", "none"]
"""What a file that a record names has to be: of the size that was written, of its content too, or just there."""

TEXTS = ("id", "status", "target", "origin")
EDIT_TEXTS = ("variant", "file", "sha256")


def read_whole_record(path: Path) -> dict[str, Any] | None:
    """A record in today's fields; None where there is none, and, with a warning, where it is not a whole one."""
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, Mapping) or not is_list_of_mappings(record["edits"]):
            raise TypeError("edits of another type")
        record = migrate_record(record)
        check_record(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s: not a whole record (%s): its request is edited again", path, describe_fault(error))
        return None
    return record


def describe_fault(error: Exception) -> str:
    """What was wrong, in a few words."""
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def check_record(record: Mapping[str, Any]) -> None:
    """Refuse what this code cannot have written: a ValueError, TypeError or KeyError that says why."""
    check_texts(record, TEXTS)
    if record["status"] not in ("done", "failed"):
        raise ValueError(f"status = {record['status']!r}")
    if not isinstance(record["metadata"], Mapping) or not is_list_of_mappings(record.get("samples", [])):
        raise TypeError("metadata or samples of another type")
    for edit in record["edits"]:
        check_texts(edit, EDIT_TEXTS)
        Variant.parse(edit["variant"])
    if record["status"] == "done" and not record["edits"]:
        raise ValueError("done, and without edits")
    for name in ("mask", "map"):
        if not isinstance(record[name], str | None):
            raise TypeError(f"{name} = {record[name]!r}")


def is_list_of_mappings(value: Any) -> bool:
    """Whether it is what edits and samples are."""
    return isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)


def check_texts(node: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Refuse a field that is absent or no text."""
    for name in names:
        if not isinstance(node[name], str):
            raise TypeError(f"{name} = {node[name]!r}")


def list_files(record: Mapping[str, Any]) -> list[str]:
    """Every file that a record names, by its name inside the run."""
    samples = record.get("samples", ())
    files = [edit["file"] for edit in [*record["edits"], *samples]]
    files += [sample["mask"] for sample in samples if sample["mask"]]
    files += [record[key] for key in ("mask", "map") if record[key]]
    return list(dict.fromkeys(files))


def find_damage(root: Path, record: Mapping[str, Any], verify: Verify = "size") -> list[str]:
    """What is not as it was written of the files of a record; records of before know the content of edits alone.

    Args:
        root: of the run.
        record: whole.
        verify: how closely to look.
    """
    known = record.get("files") or {edit["file"]: {"sha256": edit["sha256"]} for edit in record["edits"]}
    faults = []
    for name in list_files(record):
        path, written = root / name, known.get(name, {})
        if not path.is_file():
            faults.append(f"{name} is gone")
        elif verify != "none" and path.stat().st_size != written.get("size", path.stat().st_size):
            faults.append(f"{name} has {path.stat().st_size:,} bytes of {written['size']:,}")
        elif verify == "content" and hash_file(path) != written.get("sha256", hash_file(path)):
            faults.append(f"{name} has another content")
    return faults


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
    return None if status is None else {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


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
