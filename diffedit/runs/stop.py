"""A signal asks a command to stop: the network call in hand ends, writes are finished, claims are given back.

Another signal, two seconds later or more, ends the process at once. Nothing is half written either way, since files
appear by rename.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))


PATIENCE = 2.0  # seconds after a signal in which another one asks for nothing more


class StopRequested(BaseException):
    """A signal asked this process to stop. No Exception: what goes on to the next job at an error does not take it.

    Attributes:
        number: of the signal.
    """

    exit_code = 3

    def __init__(self, number: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}: what is done is saved, and the same command goes on"
        )
        self.number = number


class Stop:
    """What signals ask of this process.

    Attributes:
        number: of the signal that came; None for none.
        since: when it came, by a clock that is never set.
        deferred: blocks under way in which a signal is only noted.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.since = 0.0
        self.deferred = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler: stop here, or at the next check where something is edited; at once where it comes again."""
        if self.number is not None:
            if time.monotonic() - self.since > PATIENCE:
                os._exit(128 + number)
            return  # of the same wish: a group of processes and its parent were told
        self.number, self.since = number, time.monotonic()
        if not self.deferred:
            raise StopRequested(number)

    def check(self) -> None:
        """Stop if that was asked: a StopRequested."""
        if self.number is not None:
            raise StopRequested(self.number)

    @contextmanager
    def defer(self) -> Iterator[None]:
        """Signals are noted in this block, and obeyed where it checks."""
        self.check()
        self.deferred += 1
        try:
            yield
        finally:
            self.deferred -= 1


stop = Stop()


@contextmanager
def obey_signals(numbers: tuple[int, ...] = SIGNALS) -> Iterator[None]:
    """Let signals stop what this block does; only the main thread can take them.

    Those that are ignored stay so, and a SIGTERM that somebody else handles stays theirs: submitit, to which it says
    that a job is cancelled or preempted, and who knows what to do then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    left = {number for number in numbers if signal.getsignal(number) is signal.SIG_IGN}
    left |= {signal.SIGTERM} if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL else set()
    taken = [number for number in numbers if number not in left]
    told = sys.unraisablehook

    def tell(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, StopRequested):  # of a finalizer: it is noted, and the next check obeys it
            told(lost)

    before = {number: signal.signal(number, stop.note) for number in taken}
    sys.unraisablehook = tell
    try:
        yield
    finally:
        sys.unraisablehook = told
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.number = None
