"""Features of pictures and texts: computed once, kept by network and content, shared by all runs."""

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor
from tqdm.auto import tqdm

from diffedit.io.files import write

T = TypeVar("T")
AHEAD = 2  # batches that are decoded while the network works


@runtime_checkable
class Loadable(Protocol):
    """Something to take features of: a name for messages, and what loads it."""

    name: str
    load: Callable[[], Any]


class Item(NamedTuple):
    """Something to take features of and to keep them.

    Attributes:
        key: names its content.
        name: for messages: a file, a request.
        load: gives it, as the extractor's `prepare` takes it.
    """

    key: str
    name: str
    load: Callable[[], Any]


@dataclass(frozen=True)
class FeatureStore:
    """Features on disk: Parquet shards of (key, features), one folder an extractor, named by its hash.

    A shard appears whole or not at all and is never changed, so any number of processes may read and write at once;
    what two of them computed at the same time is there twice, and equal.

    Attributes:
        root: folder.
        batch: items in a network call.
        threads: that decode and prepare.
        shard: most rows of a file; as many are lost by a kill.
    """

    root: Path
    batch: int = 64
    threads: int = 2
    shard: int = 2048
    known: dict[str, dict[str, tuple[Path, int]]] = field(default_factory=dict, init=False, repr=False)

    def read(self, extractor: Any, keys: Sequence[str]) -> Float[ndarray, "n d"]:
        """The features of these keys, float32; a KeyError where `fill` has not been asked for one."""
        index = self.index(extractor)
        places: dict[Path, list[tuple[int, int]]] = {}
        for i, key in enumerate(keys):
            path, row = index[key]
            places.setdefault(path, []).append((i, row))
        found = None
        for path, rows in places.items():
            own = shard_features(path)
            found = np.empty((len(keys), own.shape[1]), np.float32) if found is None else found
            into, at = zip(*rows, strict=True)
            found[list(into)] = own[list(at)]
        return found

    def index(self, extractor: Any) -> dict[str, tuple[Path, int]]:
        """Where the features of each key lie."""
        if extractor.hash not in self.known:
            own: dict[str, tuple[Path, int]] = {}
            for path in sorted((self.root / extractor.hash).glob("*.parquet")):
                own.update((key, (path, row)) for row, key in enumerate(shard_column(path, "key").to_pylist()))
            self.known[extractor.hash] = own
        return self.known[extractor.hash]

    def fill(self, extractor: Any, items: Iterable[Item]) -> int:
        """Compute what is not there; returns how many. What was computed before an error is kept.

        Raises:
            ValueError: the features of an item are not finite; the message names it.
        """
        index = self.index(extractor)
        todo = list({item.key: item for item in items if item.key not in index}.values())
        if not todo:
            return 0
        keys, rows = [], []
        try:
            with tqdm(total=len(todo), desc=extractor.name, unit="picture", leave=False) as bar:
                for part, features in extracted(extractor, todo, self.batch, self.threads):
                    check(extractor, part, features)
                    keys, rows = keys + [item.key for item in part], [*rows, features.numpy()]
                    bar.update(len(part))
                    if len(keys) >= self.shard:
                        self.keep(extractor, keys, np.concatenate(rows))
                        keys, rows = [], []
        finally:
            if keys:
                self.keep(extractor, keys, np.concatenate(rows))
        return len(todo)

    def keep(self, extractor: Any, keys: Sequence[str], features: Float[ndarray, "n d"]) -> None:
        """Write a shard."""
        width = features.shape[1]
        column = pa.FixedSizeListArray.from_arrays(pa.array(features.astype(np.float32).ravel()), width)
        data = pa.BufferOutputStream()
        pq.write_table(
            pa.table({"key": list(keys), "features": column}), data, compression="none", write_page_checksum=True
        )
        told = hashlib.sha256("\n".join([*keys, str(os.getpid())]).encode()).hexdigest()[:16]
        path = self.root / extractor.hash / f"{told}.parquet"
        write(path, data.getvalue().to_pybytes())
        self.known[extractor.hash].update((key, (path, row)) for row, key in enumerate(keys))


def shard_column(path: Path, name: str) -> pa.Array:
    """A column of a shard; an OSError that names it where it cannot be read."""
    try:
        return pq.read_table(path, columns=[name], page_checksum_verification=True)[name].combine_chunks()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise OSError(f"{path}: not a shard of features; delete it, it is computed again ({error})") from error


def shard_features(path: Path) -> Float[ndarray, "n d"]:
    """All features of a shard."""
    column = shard_column(path, "features")
    return column.flatten().to_numpy().reshape(len(column), -1)


@torch.no_grad()
def extracted(
    extractor: Any, items: Iterable[Loadable], batch: int, threads: int
) -> Iterator[tuple[list[Any], Float[Tensor, "b d"]]]:
    """Features of items, batch by batch; the next batches are decoded while the network works."""

    def prepare(item: Loadable) -> Tensor:
        return extractor.prepare(item.load())

    room = None  # one place for all batches: fresh memory for each costs page faults
    under_way: deque[tuple[list[Any], list[Future]]] = deque()
    with ThreadPoolExecutor(threads, "decoder") as pool:
        parts = batched(items, batch)
        for part in itertools.islice(parts, AHEAD):
            under_way.append((part, [pool.submit(prepare, item) for item in part]))
        try:
            while under_way:
                part, futures = under_way.popleft()
                for later in itertools.islice(parts, 1):
                    under_way.append((later, [pool.submit(prepare, item) for item in later]))
                room = stacked(futures, batch, room)
                yield part, extractor.features(room[: len(part)])
        finally:
            pool.shutdown(cancel_futures=True)


def stacked(futures: list[Future], batch: int, room: Tensor | None) -> Tensor:
    """The results of some futures, which are forgotten, in the first rows of `room`, or of a new one that fits."""
    rows = [future.result() for future in futures]
    futures.clear()
    if room is None or room.shape[1:] != rows[0].shape:
        room = rows[0].new_empty((batch, *rows[0].shape))
    torch.stack(rows, out=room[: len(rows)])
    return room


def check(extractor: Any, items: Sequence[Loadable], features: Float[Tensor, "b d"]) -> None:
    """Refuse features that are not finite, by the names of their items."""
    bad = [item.name for item, row in zip(items, features, strict=True) if not row.isfinite().all()]
    if bad:
        raise ValueError(f"{extractor.name}: NaN or infinite features of {', '.join(bad[:10])}")


def pixels(image: Float[Tensor, "... 3 H W"]) -> UInt8[Tensor, "... 3 H W"]:
    """A picture in [0, 1] in its 255 levels: exact for one that came from 8 bits."""
    return (image * 255).round().to(torch.uint8)


def content(picture: UInt8[Tensor, "3 H W"]) -> str:
    """Names the pixels of a picture."""
    return hashlib.sha256(repr(tuple(picture.shape)).encode() + picture.numpy().tobytes()).hexdigest()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items."""
    items = iter(items)
    while part := list(itertools.islice(items, size)):
        yield part
