"""Loading ahead: while one result is used, the next ones are under way in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(items: Iterable[T], load: Callable[[T], R], depth: int, pool: Executor) -> Iterator[R]:
    """`load(item)` of each item, in order; results are forgotten as they are given out.

    Args:
        items: drawn `depth` items before their results are given out.
        load: run in the pool; what it raises is raised in its turn, and the items after it are not loaded.
        depth: results that are under way, or wait, while another one is used.
        pool: of threads.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(load, item))
            del item  # it may hold a picture
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
