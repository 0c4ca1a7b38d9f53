"""The pictures of a run in one file: an uncompressed tar, verified against the records before anything is removed.

    <run>.tar               images/, masks/, maps/, samples/
    <run>/archive.json      where that tar is, once the run holds these folders no longer

All else of the run stays in its directory: config, records, shards, manifest, scores.
"""

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from diffedit.io.files import find_dead, hash_file, name_temporary, open_regular, read_json, write
from diffedit.runs.claim import BusyError, Claim, claim, list_at_work, name_holder, read_holder
from diffedit.runs.cut import list_shards

FOLDERS = ("images", "maps", "masks", "samples")
NOTE = "archive.json"
CHUNK = 2**20  # bytes


class ArchiveError(OSError):
    """A run and its tar do not go together; nothing was removed."""

    exit_code = 1


class ArchivedError(ValueError):
    """The pictures of a run are in a tar."""


class Stamp(NamedTuple):
    """The content of a file; a record of an earlier release does not know the size, or neither."""

    size: int | None
    sha256: str | None

    def fits(self, other: "Stamp") -> bool:
        """Whether both may be of one content, as far as they are known."""
        return all(None in pair or pair[0] == pair[1] for pair in zip(self, other, strict=True))


@dataclass(frozen=True)
class Note:
    """Where the pictures of a run are.

    Attributes:
        tar: the file.
        files: in it.
        bytes: of these.
    """

    tar: Path
    files: int
    bytes: int


# ----------------------------------------------------------------------------------------------------------------- note


def read_note(root: Path) -> Note | None:
    """Where the pictures of a run are; None where they are in it, as far as it is noted."""
    try:
        found = read_json(root / NOTE)
        return Note(Path(os.path.normpath(root / found["tar"])), int(found["files"]), int(found["bytes"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return Note(name_tar(root), 0, 0)  # a damaged one: it is there, so they are not


def write_note(root: Path, note: Note) -> None:
    """Note where the pictures are; a tar beside the run is named from there, so that both can be moved together."""
    tar, folder = note.tar.absolute(), root.absolute().parent
    place = os.path.join("..", tar.name) if tar.parent == folder else str(tar)
    text = json.dumps({"tar": place, "files": note.files, "bytes": note.bytes}, indent=1)
    write(root / NOTE, text.encode())


def name_tar(root: Path) -> Path:
    """The tar beside a run."""
    root = root.absolute()
    return root.with_name(f"{root.name}.tar")


def name_unfinished(tar: Path) -> Path:
    """What temporary files of a tar are named after: its own name may be as long as names can be."""
    return tar.with_name(f"archive-{hashlib.sha256(tar.name.encode()).hexdigest()[:16]}.tar")


def leave_out_tars(paths: Iterable[Path]) -> list[Path]:
    """Paths without the tars of those runs that are among them: `runs/*` names both."""
    paths = list(paths)
    return [path for path in paths if path not in {path.with_name(f"{path.name}.tar") for path in paths}]


def refuse_archived(root: Path) -> None:
    """Refuse a run whose pictures are in a tar, with an ArchivedError: it would be edited again, or not be scored."""
    note = read_note(root)
    if note is not None:
        raise ArchivedError(f"{root}: its pictures are in {note.tar}: diffedit archive --extract {root} puts them back")


# -------------------------------------------------------------------------------------------------------------- archive


def archive_run(root: Path, tar: Path, remove: bool = False) -> Note:
    """Put the pictures of a run into one file; one that is there already is verified, and not written again.

    Args:
        root: of the run.
        tar: the file.
        remove: whether to remove the pictures from the run then.

    Raises:
        BusyError: a process is at the run.
        ArchiveError: a file is not what its record says, or the tar holds something else; nothing was removed.
        OSError: something cannot be read or written.
    """
    with hold(root) as claimed:
        recorded = read_recorded(root)
        if os.path.lexists(tar):
            there = {name: stamp_file(root / name) for name in list_pictures(root)}
            held = read_tar(tar)
            for wanted in (recorded, there):
                compare(wanted, held, tar, f"it is no archive of {root} as it is now: move it away, or say --out")
        else:
            there = held = write_tar(root, tar, recorded)
        note = Note(tar, len(held), sum(stamp.size or 0 for stamp in held.values()))
        if remove:
            claimed.check()  # reading all of it twice may have taken hours
            write_note(root, note)
            remove_pictures(root, there)
    return note


@contextmanager
def hold(root: Path) -> Iterator[Claim]:
    """Keep processes out of a run, from here to the end of the block; a BusyError where one is at it."""
    with claim(root) as held:
        for path in list_at_work(root):
            raise BusyError(f"{root}: {name_holder(read_holder(path) or {})} is at it: wait for its end")
        yield held


def list_pictures(root: Path) -> Iterator[str]:
    """The names of all files in the folders of pictures, but for temporary ones.

    Raises:
        ArchiveError: one is a link, or anything else but a file.
    """
    for top in FOLDERS:
        if (root / top).is_symlink():
            raise ArchiveError(f"{root / top}: a link: an archive holds folders and files alone")
        for folder, folders, names in os.walk(root / top, onerror=reraise):
            folders.sort()
            for path in sorted(Path(folder, name) for name in [*names, *folders] if not is_temporary(name)):
                if path.is_file() and not path.is_symlink():
                    yield path.relative_to(root).as_posix()
                elif path.is_symlink() or not path.is_dir():
                    raise ArchiveError(f"{path}: not a regular file: an archive holds folders and files alone")


def reraise(error: OSError) -> None:
    """For os.walk, which else passes over a folder that cannot be read; one that is not there is as good as empty."""
    if not isinstance(error, FileNotFoundError):
        raise error


def is_temporary(name: str) -> bool:
    """Whether a file has not got its own name yet, on whatever host."""
    return name.startswith(".") and name.endswith(".tmp")


def read_recorded(root: Path) -> dict[str, Stamp]:
    """What the records say of the files that they name; an ArchiveError where a record is not whole."""
    from diffedit.runs.records import parse_record, read_whole_record
    from diffedit.runs.shards import read_shard

    records = {}
    for path in list_shards(root):
        for request, text in read_shard(path).items():
            records[request] = path, parse_record(text, path, request)
    for path in sorted((root / "records").glob("*.json")):  # of a request that is in both, this one counts
        record = read_whole_record(path)
        records[path.name if record is None else record["id"]] = path, record
    stamps: dict[str, Stamp] = {}
    for path, record in records.values():
        if record is None:
            raise ArchiveError(f"{path}: not whole: start the run again, which mends it")
        stamps |= stamp_recorded(record)
    return stamps


def stamp_recorded(record: Mapping[str, Any]) -> dict[str, Stamp]:
    """What a whole record says of its files; one of an earlier release knows the hashes of edits alone."""
    from diffedit.runs.schema import list_files

    hashes = {entry["file"]: entry["sha256"] for entry in [*record["edits"], *record.get("samples", ())]}
    written = record.get("files") or {}
    return {
        name: Stamp(written.get(name, {}).get("size"), written.get(name, {}).get("sha256", hashes.get(name)))
        for name in list_files(record)
    }


def compare(wanted: Mapping[str, Stamp], held: Mapping[str, Stamp], where: Path, remedy: str) -> None:
    """Refuse, with an ArchiveError, where some of the files that are wanted are not there, or have another content."""
    lost = [name for name in wanted if name not in held]
    other = [name for name, stamp in wanted.items() if name in held and not stamp.fits(held[name])]
    if lost or other:
        first = f"{lost[0]} is not there" if lost else f"{other[0]} has another content than was written"
        raise ArchiveError(f"{where}: {len(lost) + len(other)} of {len(wanted)} files are not right: {first}: {remedy}")


def write_tar(root: Path, tar: Path, recorded: Mapping[str, Stamp]) -> dict[str, Stamp]:
    """Write the tar of a run under another name, read it back, compare, and give it its own; returns what it holds."""
    names = list(list_pictures(root))
    if not names:
        raise ArchiveError(f"{root}: no pictures there")
    again = "start the run again, which makes them anew"
    compare({name: recorded[name] for name in sorted(recorded.keys() - set(names))}, {}, root, again)
    tar.parent.mkdir(parents=True, exist_ok=True)
    unfinished = name_unfinished(tar)
    for path in find_dead(tar.parent.glob(f".{unfinished.name}.*.tmp")):
        path.unlink(missing_ok=True)
    temporary = name_temporary(unfinished)
    try:
        with temporary.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                there = {name: add_file(archive, root, name) for name in names}
            file.flush()
            os.fsync(file.fileno())
        compare(recorded, there, root, again)
        compare(there, read_tar(temporary), temporary, "the disk does not give back what was written")
        temporary.rename(tar)
        flush_folder(tar.parent)
    except OSError as error:
        if error.errno is None or error.filename is not None:  # it says where
            raise
        raise OSError(error.errno, f"{tar}: not written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return there


def add_file(archive: tarfile.TarFile, root: Path, name: str) -> Stamp:
    """Append a file; returns what was read. Nothing of its owner goes along, so that equal runs have equal tars."""
    with open_regular(root / name) as file:
        status, source = os.fstat(file.fileno()), Hashed(file)
        member = tarfile.TarInfo(name)
        member.size, member.mtime = status.st_size, int(status.st_mtime)
        archive.addfile(member, source)
    archive.members.clear()  # else all of them are kept, for a list that nobody asks for
    return source.stamp


class Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: Any) -> None:  # anything that can be read from
        self.file, self.size, self.digest = file, 0, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes, so many at most."""
        data = self.file.read(size)
        self.size += len(data)
        self.digest.update(data)
        return data

    @property
    def stamp(self) -> Stamp:
        """Of what was read."""
        return Stamp(self.size, self.digest.hexdigest())


def flush_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder, before what a new file replaces is removed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system that does so by itself
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stamp_file(path: Path) -> Stamp:
    """The content of a file on disk."""
    return Stamp(path.stat().st_size, hash_file(path))


def remove_pictures(root: Path, names: Iterable[str]) -> None:
    """Remove files of a run, and the folders of pictures as far as nothing else is in them."""
    for name in names:
        (root / name).unlink(missing_ok=True)
    for top in FOLDERS:
        for folder, _, _ in os.walk(root / top, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)


# -------------------------------------------------------------------------------------------------------------- extract


def extract_run(root: Path, tar: Path) -> Note:
    """Put the pictures of a run back from its tar, which stays; files that are there already stay as they are.

    The whole tar is read and compared with the records before anything is written, and nothing is written outside of
    the folders of pictures.

    Args:
        root: of the run.
        tar: the file.

    Raises:
        BusyError: a process is at the run.
        ArchiveError: the tar is damaged, or is not this run's.
        OSError: something cannot be read or written.
    """
    if not tar.exists():
        raise FileNotFoundError(f"{tar}: no such file; --out says where the tar of {root} is")
    with hold(root):
        recorded, held, note = read_recorded(root), read_tar(tar), read_note(root)
        compare(recorded, held, tar, "it is damaged, or another run's")
        if note is not None and note.files > len(held):
            raise ArchiveError(f"{tar}: {len(held)} files, and {note.files} were archived: it is damaged")
        for name in sorted(held.keys() - recorded.keys()):
            if os.path.lexists(root / name) and stamp_file(root / name) != held[name]:
                raise ArchiveError(f"{root / name}: another content than in {tar}, and no record of it: move it away")
        for member, source in read_members(tar):
            put_file(root, member, source, held[member.name])
        os.sync()  # once for all, and before it is forgotten where they are
        (root / NOTE).unlink(missing_ok=True)
    return Note(tar, len(held), sum(stamp.size or 0 for stamp in held.values()))


def read_tar(tar: Path) -> dict[str, Stamp]:
    """What a tar holds, all of it read; an ArchiveError where it is damaged, or holds what no archive of a run does."""
    held: dict[str, Stamp] = {}
    for member, source in read_members(tar):
        if member.name in held:
            raise ArchiveError(f"{tar}: {member.name} is in it twice")
        while source.read(CHUNK):
            pass
        held[member.name] = source.stamp
    return held


def read_members(tar: Path) -> Iterator[tuple[tarfile.TarInfo, Hashed]]:
    """Each file of a tar with what gives its content; an ArchiveError as of `read_tar`."""
    try:
        with open_regular(tar) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                if not is_picture(member):
                    raise ArchiveError(f"{tar}: {member.name[:80]!r} is no file of a run's pictures")
                yield member, Hashed(archive.extractfile(member))
                archive.members.clear()
    except tarfile.TarError as error:
        raise ArchiveError(f"{tar}: damaged ({error})") from error


def is_picture(member: tarfile.TarInfo) -> bool:
    """Whether a member of a tar is a file in the folders of pictures."""
    path = PurePosixPath(member.name)
    is_plain = str(path) == member.name and ".." not in path.parts
    return member.isreg() and is_plain and len(path.parts) > 1 and path.parts[0] in FOLDERS


def put_file(root: Path, member: tarfile.TarInfo, source: Hashed, stamp: Stamp) -> None:
    """Write one file of a tar, where it does not lie there already: under another name first."""
    try:
        tarfile.data_filter(member, str(root.resolve()))
    except tarfile.FilterError as error:  # a folder of the run is a link that leads out of it
        raise ArchiveError(f"{root / member.name}: not written: {error}") from error
    path = root / member.name
    if path.is_file() and not path.is_symlink() and stamp_file(path) == stamp:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = name_temporary(path)
    try:
        with temporary.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
        if source.stamp != stamp:
            raise ArchiveError(f"{member.name}: the tar has changed since it was compared")
        os.utime(temporary, (member.mtime, member.mtime))
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
