"""What was computed from the last few batches, for several that ask about the same ones."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakSet

from torch import Tensor

T = TypeVar("T")

CACHES: "WeakSet[BatchCache]" = WeakSet()


class BatchCache:
    """Results by name and batch; a batch is recognised by being the same object, which must not be changed.

    Args:
        max_bytes: of the tensors in batches and results; what was asked for least recently goes first, and what does
            not fit at all is computed again.
    """

    def __init__(self, max_bytes: float = 2e9) -> None:
        self.max_bytes = max_bytes
        self.entries: OrderedDict[tuple[Hashable, int], tuple[Any, Any]] = OrderedDict()
        CACHES.add(self)

    def get(self, name: Hashable, batch: Any, compute: Callable[[], T]) -> T:
        """What `compute` gave for this batch under this name; computed now where it is not kept."""
        key = (name, id(batch))  # an id is not used again while its object is kept
        if key in self.entries:
            self.entries.move_to_end(key)
            return self.entries[key][1]
        result = compute()
        self.entries[key] = batch, result
        while self.entries and count_bytes(list(self.entries.values())) > self.max_bytes:
            self.entries.popitem(last=False)
        return result


def forget_batches() -> None:
    """Empty all caches: whoever is done with a batch says so, for nobody will ask about it again."""
    for cache in CACHES:
        cache.entries.clear()


def count_bytes(value: Any) -> int:
    """Of all tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        return value.nbytes
    return sum(map(count_bytes, value)) if isinstance(value, list | tuple) else 0
