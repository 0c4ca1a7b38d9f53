"""A claim: one process at a time at a piece of work on a shared disk, by files alone, so that it holds on NFS too.

The claim is a file that is created exclusively. It says who works at what, and its holder touches it every few seconds.
It is stale where its process is known to be gone (this host, this container), or where its last touch is more than a
minute from now by the disk's own clock, before or after; then one of those who come replaces it. A holder that was
stopped so long that another took over finds out at its next look, and stops.
"""

import hashlib
import json
import logging
import os
import platform
import random
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from diffedit.io.files import HOST, name_write, read_json
from diffedit.runs.stop import stop

log = logging.getLogger("run")

NAME = ".claim"
SHARDS = "shards/*.claim"  # of a run
BEAT = 10.0  # seconds between two touches
STALE = 60.0  # without a touch
NEW = 0.5  # for which a claim may be there and say nothing yet: it is being written
LONGEST = 2**16  # bytes of a claim


class BusyError(RuntimeError):
    """Another process is at this work."""

    exit_code = 3


class LostClaimError(BusyError):
    """Another process has taken a claim over."""


class NoClaimError(OSError):
    """What lies in the place of a claim is none."""


class Claim:
    """A claim on one path, of this process; `take` tries once.

    Args:
        path: of the claim's file, in a folder that is there.
        work: what it is for, for others to read.
        timeout: seconds without a touch after which others may take it over.
    """

    def __init__(self, path: Path, work: Mapping[str, Any] | None = None, timeout: float = STALE) -> None:
        self.path, self.token, self.work, self.timeout = path, uuid.uuid4().hex, dict(work or {}), timeout
        self.is_lost = False
        self.ended = threading.Event()
        self.beating: threading.Thread | None = None

    def take(self) -> bool:
        """Whether the work is ours now; a claim that is stale is taken over.

        Raises:
            OSError: the claim cannot be written, or what lies in its place is none; the message names it.
        """
        for _ in range(3):  # it may go between two of our looks
            if self.create(self.path) or self.take_over():
                self.beating = threading.Thread(target=self.beat, name="claim", daemon=True)
                self.beating.start()
                return True
            if self.path.exists():
                return False
        return False

    def create(self, path: Path) -> bool:
        """Make a file that says who we are; False where there is one, and an OSError where there is no room for it."""
        content = json.dumps(describe_self() | self.work | {"token": self.token, "timeout": self.timeout}).encode()
        try:
            write_exclusively(path, content)
        except FileExistsError:
            return False
        except OSError as error:
            raise name_write(path, content, error) from error
        return True

    def take_over(self) -> bool:
        """Put our claim in the place of a stale one; False where it is not stale, or another is at that.

        Who may replace one certain claim is decided by a file named after it, which is created exclusively too: so
        nobody ever removes a claim that somebody else has just made.
        """
        holder = read_holder(self.path)
        if holder is None or not is_stale(self.path, holder):
            return False
        turn = self.path.with_name(f"{self.path.name}.{name_claim(self.path, holder)}")
        if not self.create(turn):
            with suppress(OSError):
                if abs(read_clock(turn.parent) - turn.stat().st_mtime) > self.timeout:  # who had the turn died over it
                    turn.unlink()
            return False
        whole = self.path.with_name(f"{self.path.name}.{self.token}")
        try:
            now = read_holder(self.path)
            if now is None or name_claim(self.path, now) != name_claim(self.path, holder):
                return False
            self.create(whole)
            whole.replace(self.path)
        finally:
            whole.unlink(missing_ok=True)
            turn.unlink(missing_ok=True)
        log.warning("%s: taken over from %s, which is gone", name_work(self.path), name_holder(holder))
        return self.is_held()

    def beat(self) -> None:
        """Touch the file until the end of the claim, or until it is no longer ours."""
        while not self.ended.wait(min(BEAT, self.timeout / 6)):
            if not self.is_held():
                self.is_lost = True
                return
            with suppress(OSError):  # the disk is away for a moment: the next touch may come
                os.utime(self.path)

    def is_held(self) -> bool:
        """Whether the file is there and ours; True, too, where it cannot be read for a moment."""
        try:
            holder = read_holder(self.path)
        except NoClaimError:
            return False
        return holder is not None and holder.get("token", self.token) == self.token

    def check(self) -> None:
        """Look whether the claim is still ours; a LostClaimError where another has taken over."""
        if self.is_lost or not self.is_held():
            self.is_lost = True
            raise LostClaimError(
                f"{name_work(self.path)}: this process stood still for so long that another took over; what was edited "
                "is saved"
            )

    def release(self) -> None:
        """Remove the file, if it is ours."""
        self.ended.set()
        if self.beating is not None:
            self.beating.join(1)
        if self.is_held():
            self.sweep()
            self.path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what processes left that died while they took a claim over; whoever lives keeps what is its own."""
        for path in self.path.parent.glob(f"{self.path.name}.*"):
            with suppress(OSError):  # gone meanwhile, or none of ours
                if is_stale(path, read_holder(path) or {}):
                    path.unlink(missing_ok=True)


@contextmanager
def claim(
    root: Path,
    wait: bool = False,
    work: Mapping[str, Any] | None = None,
    check: Callable[[Mapping[str, Any]], None] = lambda holder: None,
) -> Iterator[Claim]:
    """Keep other processes out of a directory, from here to the end of the block.

    Args:
        root: made where absent.
        wait: for another that is at it, instead of giving up; one whose work says that it `is_short` is waited for
            in any case.
        work: what the claim is for, for others to read.
        check: is given what the claim of another says, and raises where waiting for it would not help.

    Raises:
        BusyError: another process is at it; the message says who, and since when.
        OSError: the claim cannot be written, or what lies in its place is none.
    """
    root.mkdir(parents=True, exist_ok=True)
    held, told = Claim(root / NAME, work), False
    while not held.take():
        holder = read_new_holder(held.path)
        check(holder)
        if not wait and not holder.get("is_short"):
            raise BusyError(
                f"{root}: {name_holder(holder)} is at it: wait for it (wait=true), or take another name=..."
            )
        if not told and not holder.get("is_short"):
            log.info("%s: waiting for %s", root, name_holder(holder))
            told = True
        stop.check()
        time.sleep(random.uniform(0.05, 0.3) if holder.get("is_short") else min(1.0, BEAT))
    try:
        yield held
    finally:
        held.release()


def is_claimed(root: Path) -> bool:
    """Whether a process is at work in a run, or at a shard of it; the look changes nothing."""
    return is_live(root / NAME) or any(list_at_work(root))


def list_at_work(root: Path) -> Iterator[Path]:
    """The claims of the shards of a run that processes are at."""
    return filter(is_live, root.glob(SHARDS))


def is_live(path: Path) -> bool:
    """Whether somebody stands behind a claim."""
    try:
        holder = read_holder(path)
    except NoClaimError:
        return False
    return holder is not None and not is_stale(path, holder)


def name_work(path: Path) -> str:
    """What a claim is on, in words: a directory, or a shard of a run."""
    return str(path.parent if path.name == NAME else path.with_suffix(""))


def describe_self() -> dict[str, Any]:
    """This process, for others to find out whether it lives."""
    began = psutil.Process().create_time()
    return {"host": HOST, "node": platform.node(), "process": os.getpid(), "began": began, "since": time.time()}


def write_exclusively(path: Path, content: bytes) -> None:
    """Make a file; a FileExistsError where there is one, and no file where that fails: an empty one would hold up."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def read_holder(path: Path) -> dict[str, Any] | None:
    """What a claim says of its holder; empty where it says nothing, None where there is no claim.

    Raises:
        NoClaimError: what lies there is no file: nobody would ever give it back.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise NoClaimError(f"{path}: not a regular file, so nobody's claim: remove it and start again")
        holder = read_json(path, LONGEST)
    except FileNotFoundError:
        return None
    except NoClaimError:
        raise
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def read_new_holder(path: Path) -> dict[str, Any]:
    """What a claim says of its holder; one that says nothing yet is given a moment."""
    deadline = time.monotonic() + NEW
    while (holder := read_holder(path)) == {} and time.monotonic() < deadline:
        time.sleep(NEW / 10)
    return holder or {}


def name_claim(path: Path, holder: dict[str, Any]) -> str:
    """Tells one claim from another: its token, or, where it has none, when it was last touched."""
    try:
        text = str(holder.get("token") or path.stat().st_mtime_ns)
    except OSError:
        text = "gone"
    return hashlib.sha256(text.encode()).hexdigest()[:16]  # it is part of a file's name, and came from a file


def name_holder(holder: dict[str, Any]) -> str:
    """Who it is, in words."""
    if "process" not in holder:
        return "another process"
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    except (KeyError, TypeError, ValueError, OverflowError, OSError):  # it came from a file
        since = "?"
    return f"process {holder['process']} on {holder.get('node', '?')} (since {since})"


def is_stale(path: Path, holder: dict[str, Any]) -> bool:
    """Whether nobody stands behind a claim any more.

    A touch that lies far ahead was none of the disk's: a copied file, or a clock that has been set since. Whoever lives
    touches it again within seconds.
    """
    if holder.get("host") == HOST and not is_alive(holder):
        return True
    try:
        return abs(read_clock(path.parent) - path.stat().st_mtime) > read_timeout(holder)
    except OSError:  # gone meanwhile, or the disk is away
        return False


def read_timeout(holder: dict[str, Any]) -> float:
    """Seconds without a touch after which a claim is stale, as its holder says; a minute where it does not."""
    timeout = holder.get("timeout")
    return timeout if type(timeout) in (int, float) and 0 < timeout < float("inf") else STALE


def is_alive(holder: dict[str, Any]) -> bool:
    """Whether the process of a claim of this host lives, and is not another one with its number."""
    try:
        return abs(psutil.Process(holder["process"]).create_time() - holder["began"]) < 1
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        return True


def read_clock(folder: Path) -> float:
    """The time as the disk has it: that of another machine may differ from ours."""
    probe = folder / f".clock.{uuid.uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
