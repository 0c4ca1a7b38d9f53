"""Pictures are opened in threads ahead of the programs that call them, so that the engine waits for no file."""

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from diffedit.io.images import get_path
from diffedit.io.prefetch import prefetch
from diffedit.types import EditRequest


class Prefetched:
    """A loader that has loaded. The first calls give what it gave, or raise what it raised; later ones load anew.

    So what was loaded lives no longer than the programs that called it.

    Args:
        load: the loader.
        readers: programs that will call, once each.
    """

    def __init__(self, load: Callable[[], Any], readers: int = 1) -> None:
        self.load, self.path, self.readers = load, get_path(load), readers
        self.value, self.error = None, None
        try:
            self.value = load()
        except Exception as error:  # of its own request: raised where that calls it
            self.error = error

    def __call__(self) -> Any:
        if not self.readers:
            return self.load()
        value, error = self.value, self.error
        self.readers -= 1
        if not self.readers:
            self.value, self.error = None, None
        if error is not None:
            raise error
        return value

    def describe_cut(self) -> str:
        """Of a mask, what the resize policy took away of it (`diffedit.mask.CutMask`)."""
        return getattr(self.load, "describe_cut", str)()


def prefetch_requests(
    requests: Iterable[EditRequest],
    inputs: Collection[str] = ("image",),
    threads: int = 2,
    depth: int = 32,
    readers: int = 1,
) -> Iterator[EditRequest]:
    """The same requests in the same order, their pictures loaded when they come.

    Args:
        requests: drawn `depth` requests before they are given out.
        inputs: which of their fields will be called: `image`, `mask`, `true_mask`, `true_edit`, `retrieved`.
        threads: that load.
        depth: most requests that wait, their pictures in memory.
        readers: programs that each request is given to.

    Raises:
        ValueError: there is no thread.
    """
    if threads < 1:
        raise ValueError(f"engine.threads = {threads}: at least one has to open the pictures")

    def load_inputs(request: EditRequest) -> EditRequest:
        loads = {name: load for name in inputs if (load := getattr(request, name)) is not None}
        return replace(request, **{name: Prefetched(load, readers) for name, load in loads.items()})

    with ThreadPoolExecutor(threads, "loader") as pool:
        yield from prefetch(requests, load_inputs, max(depth, 1) - 1, pool)
