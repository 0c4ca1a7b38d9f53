"""Features of pictures and texts: computed once, kept by network and content, shared by all runs."""

import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
from diffedit.io.prefetch import prefetch

log = logging.getLogger("score")

T = TypeVar("T")
AHEAD = 2  # batches that are decoded while the network works


@runtime_checkable
class Encoder(Protocol):
    """What features are taken by: of pictures (`diffedit.networks.Extractor`), or of texts."""

    name: str
    hash: str

    def prepare(self, item: Any) -> Tensor:
        """One item as the network takes it; called from worker threads."""

    def features(self, prepared: Tensor) -> Float[Tensor, "b d"]:
        """The network, without gradients; float32, on the CPU."""


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


def make_text_item(text: str, name: str) -> Item:
    """A text to take features of."""
    return Item(hashlib.sha256(b"text:" + text.encode()).hexdigest(), name, lambda: text)


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
    indexes: dict[str, dict[str, tuple[Path, int]]] = field(default_factory=dict, init=False, repr=False)
    whole: set[Path] = field(default_factory=set, init=False, repr=False)

    def read(self, extractor: Encoder, keys: Sequence[str]) -> Float[ndarray, "n d"]:
        """The features of these keys, float32; a KeyError where `fill` has not been asked for one."""
        index = self.index(extractor)
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for i, key in enumerate(keys):
            path, row = index[key]
            wanted.setdefault(path, []).append((i, row))
        features = None
        for path, pairs in wanted.items():
            shard = read_shard_features(path)
            if features is None:
                features = np.empty((len(keys), shard.shape[1]), np.float32)
            into, rows = zip(*pairs, strict=True)
            features[list(into)] = shard[list(rows)]
        return features

    def index(self, extractor: Encoder) -> dict[str, tuple[Path, int]]:
        """Shard and row of each key."""
        if extractor.hash not in self.indexes:
            index: dict[str, tuple[Path, int]] = {}
            for path in sorted((self.root / extractor.hash).glob("*.parquet")):
                try:
                    keys = read_shard_column(path, "key").to_pylist()
                except OSError as error:
                    remove_shard(path, error)
                    continue
                index.update((key, (path, row)) for row, key in enumerate(keys))
            self.indexes[extractor.hash] = index
        return self.indexes[extractor.hash]

    def drop_damaged(self, extractor: Encoder, keys: Iterable[str]) -> None:
        """Forget the shards of these keys whose features cannot be read; each is looked at once."""
        index = self.index(extractor)
        for path in {index[key][0] for key in keys if key in index} - self.whole:
            try:
                read_shard_features(path)
                self.whole.add(path)
            except (OSError, ValueError) as error:
                remove_shard(path, error)
                lost = [key for key, (shard, _) in index.items() if shard == path]
                for key in lost:
                    del index[key]

    def fill(self, extractor: Encoder, items: Iterable[Item]) -> int:
        """Compute what is not there, or damaged; returns how many. What was computed before an error is kept.

        Raises:
            ValueError: the features of an item are not finite; the message names it.
        """
        items = list(items)
        self.drop_damaged(extractor, [item.key for item in items])
        index = self.index(extractor)
        missing = list({item.key: item for item in items if item.key not in index}.values())
        if not missing:
            return 0
        keys, rows = [], []
        try:
            with tqdm(total=len(missing), desc=extractor.name, unit="picture", leave=False) as bar:
                for part, features in extract_features(extractor, missing, self.batch, self.threads):
                    check_features(extractor, part, features)
                    keys += [item.key for item in part]
                    rows.append(features.numpy())
                    bar.update(len(part))
                    if len(keys) >= self.shard:
                        self.write_shard(extractor, keys, np.concatenate(rows))
                        keys, rows = [], []
        finally:
            if keys:
                self.write_shard(extractor, keys, np.concatenate(rows))
        return len(missing)

    def write_shard(self, extractor: Encoder, keys: Sequence[str], features: Float[ndarray, "n d"]) -> None:
        """Add a file of these keys and features."""
        column = pa.FixedSizeListArray.from_arrays(pa.array(features.astype(np.float32).ravel()), features.shape[1])
        table = pa.table({"key": list(keys), "features": column})
        data = pa.BufferOutputStream()
        pq.write_table(table, data, compression="none", write_page_checksum=True)
        name = hashlib.sha256("\n".join([*keys, str(os.getpid())]).encode()).hexdigest()[:16]
        path = self.root / extractor.hash / f"{name}.parquet"
        write(path, data.getvalue().to_pybytes())
        self.indexes[extractor.hash].update((key, (path, row)) for row, key in enumerate(keys))


def remove_shard(path: Path, error: Exception) -> None:
    """Remove a shard that cannot be read, and say so: its features are computed again."""
    log.warning("%s: computed again", error)
    with suppress(OSError):  # another process was quicker
        path.unlink(missing_ok=True)


def read_shard_column(path: Path, name: str) -> pa.Array:
    """A column of a shard; an OSError that names it where it cannot be read."""
    try:
        if not path.is_file():
            raise OSError("not a regular file")
        return pq.read_table(path, columns=[name], page_checksum_verification=True)[name].combine_chunks()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise OSError(f"{path}: no whole shard of features ({error})") from error


def read_shard_features(path: Path) -> Float[ndarray, "n d"]:
    """All features of a shard."""
    column = read_shard_column(path, "features")
    return column.flatten().to_numpy().reshape(len(column), -1)


@torch.no_grad()
def extract_features(
    extractor: Encoder, items: Iterable[Loadable], batch: int, threads: int
) -> Iterator[tuple[list[Any], Float[Tensor, "b d"]]]:
    """(items, their features), batch by batch; the next batches are decoded while the network works.

    Every call has `batch` rows, so that a picture's last bits do not depend on how many others are asked about.
    """

    def prepare(item: Loadable) -> tuple[Loadable, Tensor]:
        return item, extractor.prepare(item.load())

    buffer = None  # the same for all batches: fresh memory for each costs page faults
    with ThreadPoolExecutor(threads, "decoder") as pool:
        for pairs in chunk(prefetch(items, prepare, AHEAD * batch, pool), batch):
            part, buffer = stack_into(buffer, pairs, batch)
            yield part, extractor.features(buffer[:batch])[: len(part)]


def stack_into(
    buffer: Tensor | None, pairs: list[tuple[Loadable, Tensor]], batch: int
) -> tuple[list[Loadable], Tensor]:
    """(items, buffer): its first rows are what was prepared of them, which is forgotten; a new one where none fits."""
    items = [item for item, _ in pairs]
    rows = [row for _, row in pairs]
    pairs.clear()
    if buffer is None or buffer.shape[1:] != rows[0].shape:
        buffer = rows[0].new_zeros((batch, *rows[0].shape))
    torch.stack(rows, out=buffer[: len(rows)])
    return items, buffer


def check_features(extractor: Encoder, items: Sequence[Loadable], features: Float[Tensor, "b d"]) -> None:
    """Refuse features that are not finite, by the names of their items."""
    bad = [item.name for item, row in zip(items, features, strict=True) if not row.isfinite().all()]
    if bad:
        raise ValueError(f"{extractor.name}: NaN or infinite features of {', '.join(bad[:10])}")


def to_uint8(image: Float[Tensor, "... 3 H W"]) -> UInt8[Tensor, "... 3 H W"]:
    """A picture in [0, 1] in its 255 levels: exact for one that came from 8 bits."""
    return (image * 255).round().to(torch.uint8)


def hash_pixels(picture: UInt8[Tensor, "3 H W"]) -> str:
    """Names the pixels of a picture."""
    return hashlib.sha256(repr(tuple(picture.shape)).encode() + picture.numpy().tobytes()).hexdigest()


def chunk(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items."""
    items = iter(items)
    while part := list(itertools.islice(items, size)):
        yield part
