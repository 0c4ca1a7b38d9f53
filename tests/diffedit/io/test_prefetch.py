"""Results come in order, loaded ahead and no further than asked."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffedit.io.prefetch import prefetch


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.mark.parametrize("depth", [0, 1, 3, 100])
def test_results_have_the_order_of_the_items(pool, depth):
    assert list(prefetch(range(20), lambda i: i * i, depth, pool)) == [i * i for i in range(20)]
    assert list(prefetch([], lambda i: i, depth, pool)) == []


@pytest.mark.parametrize("depth", [0, 2])
def test_items_are_drawn_as_far_ahead_as_asked(pool, depth):
    drawn = []
    results = prefetch((drawn.append(i) or i for i in range(20)), str, depth, pool)
    assert drawn == []
    for i in range(5):
        assert next(results) == str(i)
        assert drawn == list(range(i + depth + 1))


def test_the_next_ones_are_loaded_while_one_is_used(pool):
    begun = [threading.Event() for _ in range(4)]
    results = prefetch(range(4), lambda i: begun[i].set() or i, 2, pool)
    assert next(results) == 0
    assert begun[1].wait(5)
    assert begun[2].wait(5)
    assert not begun[3].is_set()


def test_an_error_comes_in_its_turn_and_nothing_more_is_loaded(pool):
    loaded = []

    def load(i):
        loaded.append(i)
        if i == 2:
            raise OSError("2.jpg: truncated")
        return i

    results = prefetch(range(100), load, 3, pool)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match=r"2\.jpg: truncated"):
        next(results)
    assert len(loaded) <= 6
