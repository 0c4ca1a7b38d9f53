"""Lists of tensors on disk under the hash of what they were made from: bounded in size, safe under several processes.

A file is whole or absent, is checked by a hash when it is read, and a damaged one is made again. Files are safetensors,
so that reading one runs nothing.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffedit.io.files import Writer, sweep, write
from diffedit.io.hashing import hash_tensors

log = logging.getLogger(__name__)

EMPTIED = 0.9  # of the limit, after the oldest were removed
LOOK_AGAIN = 500  # files written between two looks at the folder: other processes write there too


class DiskCache:
    """Files below a folder; those used least recently are removed.

    Args:
        folder: made where absent.
        max_bytes: of all files.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path, max_bytes: float) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        self.writer = Writer(threads=1)
        self.total = 0.0
        self.written = LOOK_AGAIN  # so that the first write looks
        self.is_broken = False

    def path(self, name: str) -> Path:
        """Where a list lies."""
        return self.folder / name[:2] / f"{name}.safetensors"

    def has(self, name: str) -> bool:
        """Whether a list is there, whatever its state."""
        return self.path(name).is_file()

    def get(self, name: str) -> list[Any] | None:
        """A list; None where there is none, or a damaged one, which is removed and said."""
        path = self.path(name)
        try:
            with safe_open(path, "pt") as file:
                noted = (file.metadata() or {}).get("content")
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            if noted != hash_tensors(sorted(tensors.items())):
                raise ValueError("its content is not what was written")
            items = unflatten(tensors)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, SafetensorError) as error:
            log.warning("%s: damaged (%s): it is made again", path, error)
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # another process may have removed it
            os.utime(path)
        return items

    def put(self, name: str, items: Sequence[Any]) -> None:
        """Write a list in the background."""
        # Copies: two that share memory, as a mask and that of the best sample, are refused by safetensors.
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in flatten(items).items()}
        self.writer.submit(self.save, name, tensors)

    def save(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Write a list now, and make room; where that fails it is said, and no more is written."""
        data = safetensors.torch.save(tensors, {"content": hash_tensors(sorted(tensors.items()))})
        try:
            if not self.is_broken:
                write(self.path(name), data)
        except OSError as error:
            log.warning("the cache is not written any more: %s", error)
            self.is_broken = True
        self.total += len(data)
        self.written += 1
        if self.total > self.max_bytes or self.written > LOOK_AGAIN:
            self.make_room()

    def make_room(self) -> None:
        """Look at all files; remove the oldest where they are more than the limit."""
        files = []
        for path in self.folder.glob("??/*.safetensors"):
            with suppress(FileNotFoundError):  # another process removed it
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        self.written, self.total = 0, sum(size for _, size, _ in files)
        if self.total <= self.max_bytes:
            return
        for _, size, path in sorted(files):
            with suppress(FileNotFoundError):
                path.unlink()
            self.total -= size
            if self.total <= EMPTIED * self.max_bytes:
                return

    def close(self) -> None:
        """Wait for all writes."""
        self.writer.close()


def flatten(items: Sequence[Any]) -> dict[str, Tensor]:
    """The tensors of a list by names: `3` for the fourth, `3.mask` for that of a dictionary there."""
    tensors = {}
    for i, item in enumerate(items):
        named = {f".{key}": value for key, value in item.items()} if isinstance(item, Mapping) else {"": item}
        tensors |= {f"{i}{key}": value for key, value in named.items()}
    return tensors


def unflatten(tensors: Mapping[str, Tensor]) -> list[Any]:
    """The list of such names."""
    items: dict[int, Any] = {}
    for name, value in tensors.items():
        place, dot, key = name.partition(".")
        if dot:
            items.setdefault(int(place), {})[key] = value
        else:
            items[int(place)] = value
    return [items[i] for i in range(len(items))]
