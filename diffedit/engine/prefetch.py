"""Pictures are opened in threads ahead of the programs that call them, so that the engine waits for no file."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from diffedit.types import EditRequest


class Prefetched:
    """A loader at work already. The first call gives what it found, or raises what it raised; later ones load anew.

    So what was loaded lives no longer than whoever asked for it.
    """

    def __init__(self, load: Callable[[], Any], pool: ThreadPoolExecutor) -> None:
        self.load = load
        self.future: Future | None = pool.submit(load)

    def __call__(self) -> Any:
        """Waits where it has to."""
        future, self.future = self.future, None
        return self.load() if future is None else future.result()


def prefetch_requests(
    requests: Iterable[EditRequest], reads: Collection[str] = ("image",), threads: int = 2, depth: int = 32
) -> Iterator[EditRequest]:
    """The same requests in the same order; what they load is under way when they come.

    Args:
        requests: drawn `depth` requests before they are given out.
        reads: which of their fields will be called: `image`, `mask`, `true_mask`, `true_edit`.
        threads: that load.
        depth: most requests that wait, their pictures in memory.

    Raises:
        ValueError: there is no thread.
    """
    if threads < 1:
        raise ValueError(f"engine.threads = {threads}: at least one has to open the pictures")
    pool, waiting, source = ThreadPoolExecutor(threads, "loader"), deque(), iter(requests)
    try:
        while True:
            while len(waiting) < max(depth, 1) and (request := next(source, None)) is not None:
                loads = {name: load for name in reads if (load := getattr(request, name)) is not None}
                waiting.append(replace(request, **{name: Prefetched(load, pool) for name, load in loads.items()}))
            if not waiting:
                return
            yield waiting.popleft()
    finally:  # the last ones may still be loading, and are wanted; where a run stops earlier, nothing else is
        pool.shutdown(wait=False, cancel_futures=bool(waiting))
