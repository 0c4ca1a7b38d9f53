"""Log files of runs that are edited beside each other: the lines of each, and those of all."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

SPEAKER: ContextVar["RunLog | None"] = ContextVar("speaker", default=None)


class RunLog:
    """Where the lines of one run go, beside where all lines go.

    A handler takes what is logged within `own`, and, once `is_open`, what is logged within the `own` of no run.

    Args:
        handlers: of this run alone.
    """

    def __init__(self, handlers: Sequence[logging.Handler] = ()) -> None:
        self.handlers, self.is_open = handlers, False
        for handler in handlers:
            handler.addFilter(self.takes)

    def takes(self, record: logging.LogRecord) -> bool:
        """Whether a line belongs here."""
        speaker = SPEAKER.get()
        return speaker is self or (speaker is None and self.is_open)

    @contextmanager
    def own(self) -> Iterator[None]:
        """What is logged in this block is said of this run."""
        token = SPEAKER.set(self)
        try:
            yield
        finally:
            SPEAKER.reset(token)
