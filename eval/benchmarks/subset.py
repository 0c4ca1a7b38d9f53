"""What benchmarks share: reading the files of users, and subsets that are the same everywhere.

A subset is not drawn by a generator of random numbers, whose stream may change with its library's version, but by
sorting the ids by a hash of the seed and the id. So it depends on nothing but the seed and the set of ids: not on the
order of the file, the machine, Python or NumPy. A larger limit of the same seed contains a smaller one, and
ranges that meet make up the whole.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

LFS = b"version https://git-lfs.github.com/spec"


def draw(seed: int, *names: str | int) -> str:
    """A random-looking hex number that belongs to this seed and these names: sha256 of both as JSON."""
    return hashlib.sha256(json.dumps([seed, *names]).encode()).hexdigest()


def subset(ids: Iterable[str], limit: int | None, seed: int, range: Sequence[int] | None = None) -> list[str]:
    """A part of a seeded permutation of the ids.

    Args:
        ids: unique.
        limit: how many, the first ones; None and no range keep all, in their own order.
        seed: another one, another permutation.
        range: (first, last + 1) in the permutation, counted from 0, so that ranges that meet make up the whole.

    Raises:
        ValueError: limit and range are both given, or one of them cannot be.
    """
    ids = list(ids)
    if limit is None and range is None:
        return ids
    return part(sorted(ids, key=lambda name: draw(seed, name)), limit, range)


def part(ordered: Sequence[T], limit: int | None, range: Sequence[int] | None) -> list[T]:
    """The first `limit`, or those of a range, of what is in order already; all where neither is given.

    Raises:
        ValueError: both are given; the limit is below 1; the range is empty or begins beyond the end.
    """
    if limit is not None and range is not None:
        raise ValueError(f"benchmark.limit = {limit} and benchmark.range = {list(range)}: one of them is wanted")
    if range is None:
        if limit is not None and limit < 1:
            raise ValueError(f"benchmark.limit = {limit}: at least 1 is wanted, or null for all")
        return list(ordered[:limit])
    if len(range) != 2 or not 0 <= range[0] < range[1] or range[0] >= len(ordered):
        raise ValueError(
            f"benchmark.range = {list(range)}: [first, last + 1] is wanted, counted from 0, of {len(ordered)} requests"
        )
    return list(ordered[range[0] : range[1]])


def read_text(key: str, path: Path) -> str:
    """The text of a file that a setting names.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not UTF-8, or a git-LFS pointer, which is what a bare clone leaves.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{key} = {path}: no such file")
    data = path.read_bytes()
    if data.startswith(LFS):
        raise ValueError(
            f"{key} = {path}: a git-LFS pointer of {len(data)} bytes, not the file itself: run `git lfs pull` in its "
            "repository, or download the file"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{key} = {path}: not UTF-8 text ({error})") from error


def read_json(key: str, path: str | Path) -> Any:
    """A JSON file of the user's.

    Args:
        key: of the config, for messages.
        path: of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a git-LFS pointer, or not JSON; the message says what to do.
    """
    path = Path(path).expanduser()
    try:
        return json.loads(read_text(key, path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{key} = {path}: not JSON ({error})") from error
