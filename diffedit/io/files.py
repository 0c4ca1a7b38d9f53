"""Files that are whole or absent, and where the paths of a config lie."""

import hashlib
import json
import os
import platform
import re
import stat
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import psutil


def name_host() -> str:
    """This machine, and on it the container: a process number says something only within both."""
    try:
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:  # no Linux
        space = ""
    return quote(platform.node(), safe="").replace(".", "-") + f"-{space}" * bool(space)


HOST = name_host()
TEMPORARY = re.compile(rf"^\..*\.{re.escape(HOST)}\.(\d+)\.tmp$")


def write(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or absent, also after a crash: temporary name, fsync, rename.

    Raises:
        OSError: it cannot be written; the message names the path and how much was wanted.
    """
    temporary = name_temporary(path)
    try:
        try:
            write_and_rename(path, temporary, data)
        except FileNotFoundError:  # somebody removed the folder in between
            write_and_rename(path, temporary, data)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise name_write(path, data, error) from error


def name_temporary(path: Path) -> Path:
    """Under which name a file is written before it has its own: `sweep` knows it, and whose it is."""
    return path.with_name(f".{path.name}.{threading.get_ident()}.{HOST}.{os.getpid()}.tmp")


def name_write(path: Path, data: bytes, error: OSError) -> OSError:
    """The error of a write that failed, with the path and how much was wanted."""
    text = f"{path}: {len(data):,} bytes could not be written: {error.strerror or error}"
    return OSError(error.errno, text) if error.errno else OSError(text)


SHIPPED = ("conf", "weights")


def find_shipped(name: str) -> Path:
    """A folder that comes with the code, `conf` or `weights`: beside a checkout's package, inside an installed one."""
    package = Path(__file__).parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def resolve_path(path: str | Path) -> Path:
    """Where a path of a config lies: from the working directory, else where conf/ and weights/ came with the code."""
    path = Path(path).expanduser()
    if path.exists() or path.is_absolute() or path.parts[:1] not in [(name,) for name in SHIPPED]:
        return path
    shipped = find_shipped(path.parts[0]).joinpath(*path.parts[1:])
    return shipped if shipped.exists() else path


def write_and_rename(path: Path, temporary: Path, data: bytes) -> None:
    """Write a file under another name, wait for the disk, and give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_new(path: Path, data: bytes) -> bool:
    """Write a whole file where there is none; False, and nothing is changed, where another was quicker."""
    whole = path.with_name(f".{path.name}.new.{threading.get_ident()}.{HOST}.{os.getpid()}.tmp")
    write(whole, data)
    try:
        os.link(whole, path)
    except FileExistsError:
        return False
    except OSError:  # a disk without links
        if path.exists():
            return False
        write(path, data)
    finally:
        whole.unlink(missing_ok=True)
    return True


# ------------------------------------------------------------------------------------------------ reading with care

SMALL = 64 * 2**20  # bytes of a record, a config or a list of scores: far more than any has


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A regular file to read from; a FIFO or a device, which would be waited for, is not opened.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is something else, or cannot be opened; the message names the path.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except ValueError as error:  # a NUL
        raise OSError(f"{str(path)!r}: {error}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path}: not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_regular(path: Path, limit: int = SMALL) -> bytes:
    """The content of a regular file that may not be ours.

    Args:
        path: of the file; a link is followed.
        limit: bytes that it may have at most.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is no regular file, is larger, or cannot be read; the message names the path.
    """
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > limit:
            raise OSError(f"{path}: {size:,} bytes, and at most {limit:,} are read")
        try:
            data = file.read(size + 1)  # as much memory is taken as is asked for
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
    if len(data) > size:
        raise OSError(f"{path}: it says that it has {size:,} bytes, and has more")
    return data


def read_json(path: Path, limit: int = SMALL) -> Any:
    """The JSON of a regular file that may not be ours.

    Raises:
        FileNotFoundError: there is none.
        OSError: as of `read_regular`.
        ValueError: it is no JSON, or nested too deeply; the message does not name the path.
    """
    try:
        return json.loads(read_regular(path, limit))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def hash_file(path: Path) -> str:
    """SHA-256 of a regular file's content; an OSError as of `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


UNITS = ("B", "kB", "MB", "GB", "TB")


def describe_size(size: float) -> str:
    """Bytes in the unit that has one to three digits before the point."""
    unit = 0
    while size >= 999.5 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {UNITS[unit]}"


# ------------------------------------------------------------------------------------------------------------ writing


def sweep(root: Path) -> None:
    """Remove the temporary files of processes that were killed between write and rename.

    Of this host and this container only: whether processes of others live cannot be seen from here.
    """
    for path in find_dead(root.rglob(f".*.{HOST}.*.tmp")):
        with suppress(OSError):  # a folder of such a name is not ours
            path.unlink(missing_ok=True)


def find_dead(paths: Iterable[Path]) -> Iterator[Path]:
    """The temporary files among these whose process, of this host and container, is gone."""
    for path in paths:
        found = TEMPORARY.match(path.name)
        if found and not is_process(int(found[1])):
            yield path


def is_process(number: int) -> bool:
    """Whether a process of this number lives."""
    try:
        return psutil.pid_exists(number)
    except OverflowError:  # no system counts that far
        return False


class Writer:
    """Encodes and writes in the background, so that the networks need not wait; at most `backlog` results wait."""

    def __init__(self, threads: int = 2, backlog: int = 16) -> None:
        self.pool, self.backlog = ThreadPoolExecutor(threads, "writer"), backlog
        self.under_way: deque[Future] = deque()

    def submit(self, fn, *args) -> None:
        """Queue a write; raises what an earlier one raised (a full disk, say)."""
        while self.under_way and (len(self.under_way) >= self.backlog or self.under_way[0].done()):
            self.under_way.popleft().result()
        self.under_way.append(self.pool.submit(fn, *args))

    def wait(self) -> None:
        """Wait for all; then raises what the first of them raised that failed."""
        errors = []
        while self.under_way:
            errors.append(self.under_way.popleft().exception())
        for error in filter(None, errors):
            raise error

    def close(self) -> None:
        """Wait for all, and take no more."""
        try:
            self.wait()
        finally:
            self.pool.shutdown()


LONGEST = 140  # characters of a name: file systems take 255 bytes, and a temporary name is longer
HASHED = re.compile(r"~[0-9a-f]{16}$")


def quote_file_name(request: str) -> str:
    """A name for the files of an id, another for each: percent-quoted, so that it is plain ASCII wherever it lies.

    One that is too long for a file name, begins with a dot or looks like this ends in the hash of its id instead.
    Names of two ids may still differ in case alone, which some disks do not tell apart: `fold`.
    """
    name = quote(request, safe=" ()[],;=+@!'&")
    if name.startswith(".") or not 0 < len(name) <= LONGEST or HASHED.search(name):
        return f"{name.lstrip('.')[: LONGEST - 17]}~{hashlib.sha256(request.encode()).hexdigest()[:16]}"
    return name


def fold(request: str) -> str:
    """The name of an id's files as such a disk sees it."""
    return quote_file_name(request).lower()


def remove_empty(folder: Path, above: Path) -> None:
    """Remove the folder that was made for a run that was refused, and its parents up to `above`, if they are empty."""
    above = above.resolve()
    with suppress(OSError):  # one is not empty
        while above in folder.resolve().parents:
            folder.rmdir()
            folder = folder.parent
