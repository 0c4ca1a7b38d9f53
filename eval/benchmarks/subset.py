"""Subsets that are the same everywhere.

A subset is not drawn by a generator of random numbers, whose stream may change with its library's version, but by
sorting the ids by a hash of the seed and the id. So it depends on nothing but the seed and the set of ids: not on the
order of the file, the machine, Python or NumPy. A larger limit of the same seed contains a smaller one, and
ranges that meet make up the whole.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence


def draw(seed: int, *names: str | int) -> str:
    """A random-looking hex number that belongs to this seed and these names: sha256 of both as JSON."""
    return hashlib.sha256(json.dumps([seed, *names]).encode()).hexdigest()


def take_subset(ids: Iterable[str], limit: int | None, seed: int, range: Sequence[int] | None = None) -> list[str]:
    """A part of a seeded permutation of the ids.

    Args:
        ids: unique.
        limit: how many, the first ones; None and no range keep all, in their own order.
        seed: another one, another permutation.
        range: (first, last + 1) in the permutation, counted from 0, so that ranges that meet make up the whole.

    Raises:
        ValueError: limit and range are both given; the limit is below 1; the range is empty or begins beyond the end.
    """
    ids = list(ids)
    if limit is None and range is None:
        return ids
    if limit is not None and range is not None:
        raise ValueError(f"benchmark.limit = {limit} and benchmark.range = {list(range)}: one of them is wanted")
    if range is None:
        if limit < 1:
            raise ValueError(f"benchmark.limit = {limit}: at least 1 is wanted, or null for all")
        range = (0, limit)
    elif len(range) != 2 or not 0 <= range[0] < range[1] or range[0] >= len(ids):
        raise ValueError(
            f"benchmark.range = {list(range)}: [first, last + 1] is wanted, counted from 0, of {len(ids)} requests"
        )
    return sorted(ids, key=lambda name: draw(seed, name))[range[0] : range[1]]
