"""One bar over several parts of work: which is under way, what of it is done, and how long all the rest will take."""

import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

OFTEN = 30  # seconds between two lines, where no terminal shows a bar


class PartsBar:
    """A bar over parts of known cost; a context manager.

    The time that is left is the cost that is left, at the pace of the parts so far. In a terminal the bar is one line
    at the bottom; elsewhere a line says when a part begins, and every `OFTEN` seconds how far it is.

    Args:
        costs: of each part, in any common unit; one of 0 is too short or too uncertain to tell the pace.
        whole: what all of them together are called.
        console: to print on; None for standard error.
        clock: that tells seconds.
    """

    def __init__(
        self,
        costs: Mapping[str, float],
        whole: str,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.costs, self.whole, self.clock = dict(costs), whole, clock
        self.console = console or Console(stderr=True)
        self.part, self.share, self.began = "", 0.0, 0.0
        self.skipped: set[str] = set()
        self.ended: set[str] = set()
        self.worked = self.spent = 0.0  # cost and seconds of the parts that were done here
        self.said = float("-inf")
        columns = TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[note]}")
        self.bar = Progress(*columns, console=self.console, transient=True, refresh_per_second=4)
        self.task = self.bar.add_task("", total=sum(self.costs.values()) or None, note="")

    def __enter__(self) -> "PartsBar":
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def begin(self, part: str) -> None:
        """The part before has ended, and this one begins."""
        self.end()
        self.part, self.share, self.began = part, 0.0, self.clock()
        self.show("", is_news=True)

    def skip(self, part: str) -> None:
        """This part was done before: it is no work, and tells nothing of the pace."""
        self.end()
        self.skipped.add(part)

    def tell(self, share: float, note: str = "") -> None:
        """How much of the part is done, and what to say of it."""
        self.share = share
        self.show(note)

    def end(self) -> None:
        """The part that is under way has ended."""
        if not self.part:
            return
        if self.costs[self.part]:
            self.worked += self.costs[self.part]
            self.spent += self.clock() - self.began
        self.ended.add(self.part)
        self.part, self.share = "", 0.0

    def count_left(self) -> float | None:
        """Seconds until all is done; None while nothing tells the pace."""
        cost = self.costs.get(self.part, 0)
        worked = self.worked + cost * self.share
        spent = self.spent + (self.clock() - self.began if cost else 0)
        done = {*self.ended, *self.skipped, self.part}
        left = sum(cost for part, cost in self.costs.items() if part not in done) + cost * (1 - self.share)
        return left * spent / worked if worked else None

    def show(self, note: str, is_news: bool = False) -> None:
        """Draw the bar, or print a line where it is time for one."""
        names = list(self.costs)
        head = f"{names.index(self.part) + 1}/{len(names)} {self.part}"
        left = self.count_left()
        if left is not None:
            minutes, seconds = divmod(round(left), 60)
            note = f"{note}, {minutes}:{seconds:02d} left of {self.whole}".lstrip(", ")
        before = sum(self.costs[part] for part in (*self.ended, *self.skipped))
        completed = before + self.costs[self.part] * self.share
        self.bar.update(self.task, description=head, completed=completed, note=note)
        if not self.console.is_terminal and (is_news or self.clock() - self.said >= OFTEN):
            self.said = self.clock()
            self.console.print(f"{head}  {note}".rstrip(), markup=False, highlight=False)
