"""One process at a time in a run directory."""

import errno
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("run")

NAME = ".lock"
HELD = errno.EWOULDBLOCK, errno.EACCES
NOT_KNOWN_HERE = errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL  # file systems without locks


class BusyError(RuntimeError):
    """Another process edits into this directory."""

    exit_code = 3


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Keep other processes out of a run directory, from here to the end of the block.

    The system gives the lock back when the process ends, however it ends: a killed run leaves a file that holds nobody
    up. Where the file system knows no locks, that is said and the run goes on.

    Raises:
        BusyError: another process holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / NAME
    descriptor = take(path)
    try:
        yield
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def take(path: Path) -> int | None:
    """Lock a file and write into it who holds it; returns its open descriptor, None where there are no locks."""
    for patience in (0.02, 0.02, 0.02, 0.0):  # seconds; `is_locked` of somebody else holds it for a moment
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        is_taken = try_lock(descriptor)
        if is_taken and is_same_file(path, descriptor):  # the one before may have unlinked it between our two calls
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
            return descriptor
        holder = os.read(descriptor, 200).decode(errors="replace")
        os.close(descriptor)
        if is_taken is None:
            path.unlink(missing_ok=True)
            log.warning("%s: no locks on this file system; start no second run on this directory", path.parent)
            return None
        time.sleep(patience)
    raise BusyError(
        f"{path.parent}: {holder or 'another process'} is editing into it: wait for it, or take another name=..."
    )


def try_lock(descriptor: int) -> bool | None:
    """Whether a file could be locked now; None where the system knows no locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        if error.errno in NOT_KNOWN_HERE:
            return None
        raise
    return True


def is_same_file(path: Path, descriptor: int) -> bool:
    """Whether a path names the file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def is_locked(root: Path) -> bool:
    """Whether a process is editing into a run directory; the look holds nobody up."""
    try:
        descriptor = os.open(root / NAME, os.O_RDWR)
    except OSError:  # no run is under way, or it is somebody else's folder
        return False
    try:
        return try_lock(descriptor) is False
    finally:
        os.close(descriptor)
