"""Files that are whole or absent, and where the paths of a config lie."""

import hashlib
import os
import platform
import re
import stat
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
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
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}.{HOST}.{os.getpid()}.tmp")
    try:
        try:
            write_and_rename(path, temporary, data)
        except FileNotFoundError:  # somebody removed the folder in between
            write_and_rename(path, temporary, data)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        text = f"{path}: {len(data):,} bytes could not be written: {error.strerror or error}"
        raise (OSError(error.errno, text) if error.errno else OSError(text)) from error


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


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes; an OSError names what is no regular file, or larger."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a FIFO or a device would be waited for, for ever
        raise OSError(f"{path}: not a regular file")
    with path.open("rb") as file:
        data = file.read(min(status.st_size, limit) + 1)  # as much memory is taken as is asked for
    if len(data) > limit:
        raise OSError(f"{path}: {status.st_size:,} bytes, more than {limit:,}")
    return data


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(root: Path) -> None:
    """Remove the temporary files of processes that were killed between write and rename.

    Of this host and this container only: whether processes of others live cannot be seen from here.
    """
    for path in root.rglob(f".*.{HOST}.*.tmp"):
        found = TEMPORARY.match(path.name)
        if found and not psutil.pid_exists(int(found[1])):
            path.unlink(missing_ok=True)


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

    def close(self) -> None:
        """Wait for all."""
        while self.under_way:
            self.under_way.popleft().result()
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
