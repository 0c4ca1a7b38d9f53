"""Files that are whole or absent, and where the paths of a config lie."""

import hashlib
import os
import platform
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import psutil

HOST = quote(platform.node(), safe="").replace(".", "-")


def write(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or absent, also after a crash: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}.{HOST}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


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


def sweep(root: Path) -> None:
    """Remove the temporary files of processes of this host that were killed between write and rename."""
    for path in root.rglob(f".*.{HOST}.*.tmp"):
        if not psutil.pid_exists(int(path.suffixes[-2][1:])):
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


def quote_file_name(request: str) -> str:
    """The id, percent-quoted; one that is too long for a file name or begins with a dot ends in its hash instead."""
    name = quote(request, safe=" ()[],;=+@!'&")
    if name.startswith(".") or not 0 < len(name) <= LONGEST:
        return f"{name.lstrip('.')[: LONGEST - 17]}~{hashlib.sha256(request.encode()).hexdigest()[:16]}"
    return name
