"""What programs ask each other for: lists that grow, kept in memory and on disk, each made by one program at a time.

A program that asks (`Recall`) for what another is about to make waits for it (`Keep`), so that several methods on one
picture invert it once. Where all would wait, the one that asked first makes its own.
"""

import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor

from diffedit.engine.queries import route_queries
from diffedit.io.disk_cache import DiskCache
from diffedit.io.hashing import hash_parts
from diffedit.sampling.share import share
from diffedit.types import Encode, Program, Query, Recall

log = logging.getLogger(__name__)

P = TypeVar("P")
T = TypeVar("T")

MEMORY = 256e6  # bytes


class SharedWork(Generic[P]):
    """Lists by their keys; who is making one; who waits for it.

    Args:
        context: what decides the bits of everything that is shared: weights, device, sizes of a call. Lists of another
            context are not seen.
        disk: where lists outlive the process; None for memory alone.
        max_bytes: of the tensors in memory; what was asked for least recently goes first.
    """

    def __init__(self, context: Mapping[str, Any], disk: DiskCache | None = None, max_bytes: float = MEMORY) -> None:
        self.context, self.disk, self.max_bytes = json.dumps(context, sort_keys=True, default=str), disk, max_bytes
        self.lists: OrderedDict[str, Sequence[Any]] = OrderedDict()
        self.bytes = 0
        self.makers: dict[str, P] = {}
        self.waiters: OrderedDict[P, str] = OrderedDict()
        self.recalled: Counter[str] = Counter()  # evaluations that were not made, by purpose
        self.names: WeakKeyDictionary[Recall, str | None] = WeakKeyDictionary()

    def name(self, recall: Recall) -> str | None:
        """The key of a list as a text: the hash of all its parts; None where a part cannot be hashed."""
        if recall not in self.names:
            try:
                self.names[recall] = hash_parts((self.context, recall.purpose, *recall.key))
            except TypeError as error:
                log.warning("%s is not shared: %s", recall.purpose, error)
                self.names[recall] = None
        return self.names[recall]

    def find(self, recall: Recall, asker: P) -> Sequence[Any] | None:
        """What is known; [] where the asker has to make it. None: another makes it, and the asker shall wait."""
        name = self.name(recall)
        if name is None:
            return []
        maker = self.makers.setdefault(name, asker)
        if maker is not asker:
            self.waiters[asker] = name
            return None
        return self.look_up(name, recall)

    def look_up(self, name: str, recall: Recall) -> Sequence[Any]:
        """What is known under a name, in memory or on disk; [] for nothing."""
        if name in self.lists:
            self.lists.move_to_end(name)
            return self.lists[name]
        items = self.disk.get(name) if self.disk is not None else None
        if items is None:
            return []
        device = next((part.device for part in recall.key if isinstance(part, Tensor)), None)
        return self.remember(name, [move(item, device) for item in items])

    def keep(self, recall: Recall, items: Sequence[Any]) -> None:
        """Keep a list that is longer than what is known of it."""
        name = self.name(recall)
        if name is not None and len(items) > len(self.lists.get(name, ())):
            self.remember(name, items)
            if self.disk is not None:
                self.disk.put(name, items)

    def find_text(self, text: str) -> Any:
        """The condition of a text that another process embedded, on the CPU; None where there is none."""
        items = self.disk.get(self.name_text(text)) if self.disk is not None else None
        return items[0] if items else None

    def keep_text(self, text: str, cond: Any) -> None:
        """Keep the condition of a text on disk, where it is a tensor."""
        if self.disk is not None and isinstance(cond, Tensor):
            self.disk.put(self.name_text(text), [cond])

    def name_text(self, text: str) -> str:
        """The key of a text."""
        return hash_parts((self.context, "embedding", text))

    def close(self) -> None:
        """Wait for what is being written."""
        if self.disk is not None:
            self.disk.close()

    def remember(self, name: str, items: Sequence[Any]) -> Sequence[Any]:
        """Keep a list in memory; the oldest make room."""
        self.bytes += count_bytes(items) - count_bytes(self.lists.pop(name, ()))
        self.lists[name] = items
        while self.bytes > self.max_bytes and self.lists:
            self.bytes -= count_bytes(self.lists.popitem(last=False)[1])
        return items

    def release(self, maker: P, recall: Recall | None = None) -> list[P]:
        """A program makes this list (None: anything) no longer; returns those that waited, who shall ask again."""
        names = {self.name(recall)} if recall else {name for name, one in self.makers.items() if one is maker}
        for name in names:
            if self.makers.get(name) is maker:
                del self.makers[name]
        self.waiters.pop(maker, None)
        freed = [waiter for waiter, name in self.waiters.items() if name not in self.makers]
        for waiter in freed:
            del self.waiters[waiter]
        return freed

    def give_up(self) -> P | None:
        """The program that has waited longest, which shall make its own; None where none waits."""
        return self.waiters.popitem(last=False)[0] if self.waiters else None


def share_encoding(program: Program[T]) -> Program[T]:
    """The same program; its first `Encode`, that of the picture, is shared."""
    seen: list[Encode] = []

    def ask(query: Query) -> Program[Any]:
        if seen or not isinstance(query, Encode):
            return (yield query)
        seen.append(query)
        (latent,) = yield from share("encoding", (query.image, query.spread), 1, lambda _: one(query))
        return latent

    return route_queries(program, ask)


def one(query: Encode) -> Program[list[Tensor]]:
    """A query as a program: a list of its answer."""
    return [(yield query)]


def move(item: Any, device: Any) -> Any:
    """An item from disk on a device."""
    if device is None:
        return item
    return {key: value.to(device) for key, value in item.items()} if isinstance(item, Mapping) else item.to(device)


def count_bytes(items: Sequence[Any]) -> int:
    """Of the tensors in a list."""
    return sum(
        sum(value.nbytes for value in item.values()) if isinstance(item, Mapping) else item.nbytes for item in items
    )
