"""What processes leave in a run that are killed: temporary files, claims, records beside the shard that they belong to.

Nothing that a run has made is lost: no picture is touched, and no record that is not in its shard's file.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diffedit.io.files import HOST, find_dead, write
from diffedit.runs.archive import hold, is_temporary, name_tar, name_unfinished
from diffedit.runs.claim import (
    NAME,
    SHARDS,
    STALE,
    BusyError,
    Claim,
    is_live,
    is_stale,
    list_at_work,
    name_holder,
    read_clock,
    read_holder,
)
from diffedit.runs.cut import list_shards, read_summary

ASIDE = re.compile(r"\.[0-9a-f]{8}\.aside$")  # as `diffedit.runs.directory.overwrite` calls it
PROBE = re.compile(r"^\.clock\.[0-9a-f]{32}$")  # of `diffedit.runs.claim.read_clock`


@dataclass(frozen=True)
class Left:
    """Something that a process left which is gone.

    Attributes:
        path: of it.
        what: it is.
        remove: takes it away; None for what stays, as it cannot be told from here whether its process is gone.
    """

    path: Path
    what: str
    remove: Callable[[], object] | None


def clean_run(root: Path, aside: bool = False, pack: bool = False, is_dry: bool = False) -> Iterator[Left]:
    """Remove what dead processes left in a run; yields each thing, also, if dry, where it would be removed.

    Args:
        root: of the run.
        aside: also folders that were set aside, with all that is in them.
        pack: also put records that lie beside their shard's file into it.
        is_dry: whether nothing is changed.

    Raises:
        BusyError: a process is at the run; nothing was changed.
        OSError: something cannot be removed, or what lies in the place of a claim is none.
    """
    refuse_live(root)
    claims = list(find_claims(root))  # before one of ours lies there
    with nullcontext() if is_dry else hold(root):
        for left in (*claims, *find_files(root, aside), *(find_loose(root) if pack else ())):
            if left.remove is not None and not is_dry:
                left.remove()
            yield left


def refuse_live(root: Path) -> None:
    """A BusyError where a process is at a run; the look changes nothing."""
    for path in (*filter(is_live, [root / NAME]), *list_at_work(root)):
        raise BusyError(f"{root}: {name_holder(read_holder(path) or {})} is at it: wait for its end")


# --------------------------------------------------------------------------------------------------------------- claims


def find_claims(root: Path) -> Iterator[Left]:
    """Claims behind which nobody stands, and what was left by those who died while they took one over."""
    for path in (root / NAME, *sorted(root.glob(SHARDS))):
        holder = read_holder(path)
        if holder is not None and not is_live(path):
            yield Left(path, f"claim of {name_holder(holder)}, which is gone", partial(remove_claim, path))
    for path in (*sorted(root.glob(f"{NAME}.*")), *sorted(root.glob(f"{SHARDS}.*"))):
        if is_stale(path, read_holder(path) or {}):
            yield Left(path, "claim on a claim", partial(path.unlink, missing_ok=True))
    for path in (*sorted(root.glob(".clock.*")), *sorted(root.glob("shards/.clock.*"))):
        if PROBE.match(path.name) and abs(read_clock(path.parent) - path.stat().st_mtime) > STALE:
            yield Left(path, "look at the disk's clock", partial(path.unlink, missing_ok=True))


def remove_claim(path: Path) -> None:
    """Take a stale claim over, and give it back: so nobody else's is removed, whoever comes at the same moment."""
    claim = Claim(path)
    if claim.take_over():
        claim.release()


# ---------------------------------------------------------------------------------------------------------------- files


def find_files(root: Path, aside: bool) -> Iterator[Left]:
    """Temporary files, and, where asked for, what was set aside."""
    beside = root.absolute().parent.glob(f".{name_unfinished(name_tar(root)).name}.*.tmp")
    temporary, kept = list(beside), []
    for folder, folders, names in os.walk(root):
        temporary += [Path(folder, name) for name in sorted(names) if is_temporary(name)]
        kept += [Path(folder, name) for name in sorted([*folders, *names]) if ASIDE.search(name)]
        folders[:] = sorted(name for name in folders if not ASIDE.search(name))
    for path in find_dead(temporary):
        yield Left(path, "temporary file", partial(path.unlink, missing_ok=True))
    for path in temporary:
        if f".{HOST}." not in path.name:
            yield Left(path, "temporary file of another host or container: clean there", None)
    for path in kept if aside else ():
        is_folder = path.is_dir() and not path.is_symlink()
        yield Left(path, "set aside", partial(shutil.rmtree, path) if is_folder else partial(path.unlink))


# -------------------------------------------------------------------------------------------------------------- records


def find_loose(root: Path) -> Iterator[Left]:
    """Records that lie beside the file of their shard: a process died before they were in it, or before they went.

    They are what counts of their requests, so they go into the file first. Shards that have none wait for the next
    start of the run: which requests are theirs is known from the benchmark alone.
    """
    from diffedit.runs.records import read_whole_record
    from diffedit.runs.shards import PackedRecords

    paths = sorted((root / "records").glob("*.json"))
    loose = {record["id"]: (path, record) for path in paths if (record := read_whole_record(path)) is not None}
    packed = PackedRecords(root)
    for shard in list_shards(root) if loose else ():
        own = {name: loose[name] for name in packed.read(shard) if name in loose}
        if own:
            write_shard = partial(pack_loose, root, shard, {name: record for name, (_, record) in own.items()})
            yield Left(shard, f"{len(own)} records beside it: packed into it", write_shard)
        for path, _ in own.values():
            yield Left(path, f"record that is in {shard.name}", partial(path.unlink, missing_ok=True))


def pack_loose(root: Path, shard: Path, loose: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the file of a shard anew, with these records in the place of those of the same requests."""
    from diffedit.runs.directory import read_run_config
    from diffedit.runs.records import parse_record
    from diffedit.runs.shards import encode_shard, read_shard, summarize
    from diffedit.types import Variant

    texts, config = read_shard(shard), read_run_config(root / "config.yaml")
    records = [loose[name] if name in loose else parse_record(text, shard, name) for name, text in texts.items()]
    if None in records:
        raise OSError(f"{shard}: a record in it is not whole: start the run again, which mends it")
    variants = [Variant(float(ratio), config["strength_name"]) for ratio in config["ratios"]]
    counts = summarize(records)
    note = {key: value for key, value in read_summary(shard).items() if key not in counts}
    write(shard, encode_shard(records, variants, config.get("seed"), note))
