"""What was computed from a batch is kept for the same object, within bounds."""

import pytest
import torch

from diffedit.io.cache import BatchCache


class Doubles:
    """Counts what it computes."""

    def __init__(self):
        self.calls = 0

    def of(self, batch):
        self.calls += 1
        return [batch * 2]


def test_the_same_object_is_recognised_by_name_and_nothing_else():
    cache, doubles, one = BatchCache(), Doubles(), torch.ones(4)
    first = cache.get("doubles", one, lambda: doubles.of(one))
    assert cache.get("doubles", one, lambda: doubles.of(one)) is first
    assert doubles.calls == 1
    cache.get("doubles", one.clone(), lambda: doubles.of(one))
    cache.get("others", one, lambda: doubles.of(one))
    assert doubles.calls == 3


@pytest.mark.parametrize(("max_bytes", "kept"), [(0, []), (2 * 32, [2, 0]), (1e9, [1, 2, 0])])
def test_what_was_asked_for_least_recently_goes_first(max_bytes, kept):
    """A batch and its result are 16 bytes each."""
    cache, batches = BatchCache(max_bytes), [torch.full((4,), float(i)) for i in range(3)]
    for i in (0, 1, 0, 2, 0):
        cache.get("doubles", batches[i], lambda i=i: [batches[i] * 2])
    assert [int(batch[0]) for batch, _ in cache.entries.values()] == kept


def test_a_list_is_a_batch_too():
    cache, requests = BatchCache(), ["a", "b"]
    first = cache.get("pictures", requests, lambda: torch.zeros(2))
    assert cache.get("pictures", requests, lambda: torch.ones(2)) is first
    assert torch.equal(cache.get("pictures", list(requests), lambda: torch.ones(2)), torch.ones(2))
