"""Seconds of calls that are compared: a warm-up, interleaved repeats, medians and ranges, ratios paired by repeat."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from tqdm.auto import tqdm


@dataclass(frozen=True)
class Spread:
    """Median and range of some repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, repeat by repeat."""

    seconds: list[float] = field(default_factory=list)

    @property
    def spread(self) -> Spread:
        """Over the repeats."""
        return Spread.of(self.seconds)

    def describe(self) -> dict[str, Any]:
        """For a result: raw repeats, median, range."""
        return {"raw": self.seconds, **asdict(self.spread)}


def synchronize() -> None:
    """Wait for what a GPU still has to do, so that a clock sees it."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def measure_seconds(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    synchronize()
    began = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - began


def interleave(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    title: str,
    warm_up: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, Timing]:
    """Time calls by turns, so that what else the machine does falls on all of them alike.

    Every second round goes backwards: a machine that becomes slower favours none.

    Args:
        calls: by name.
        repeats: rounds that count.
        title: of the progress bar.
        warm_up: called once before the first round, instead of the calls themselves.
    """
    timings = {name: Timing() for name in calls}
    before = dict(warm_up or calls)
    often = 0.1 if sys.stderr.isatty() else 10  # a log file wants a line now and then
    total = len(before) + repeats * len(calls)
    with tqdm(total=total, desc=title, unit="call", mininterval=often) as bar:
        for name, call in before.items():
            bar.set_postfix_str(f"warm-up: {name}", refresh=False)
            call()
            bar.update()
        for k in range(repeats):
            for name in list(calls)[:: -1 if k % 2 else 1]:
                bar.set_postfix_str(name, refresh=False)
                timings[name].seconds.append(measure_seconds(calls[name]))
                bar.update()
    return timings


def divide(one: Timing, other: Timing) -> list[float]:
    """The ratio of two calls in each repeat: what slows a repeat slows both."""
    return [a / b for a, b in zip(one.seconds, other.seconds, strict=True)]
