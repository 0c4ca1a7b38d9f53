"""The bar over several parts."""

import io

import pytest
from rich.console import Console

from eval.reporting.progress import OFTEN, PartsBar


@pytest.fixture
def bar():
    """A bar that prints into a file, and a clock that is set by hand."""
    now = [0.0]
    console = Console(file=io.StringIO(), width=100)
    with PartsBar({"loading": 0, "one": 100, "two": 300}, "the work", console, lambda: now[0]) as bar:
        bar.now = now
        yield bar


def test_the_time_left_is_the_cost_left_at_the_pace_so_far(bar):
    bar.begin("loading")
    bar.now[0] = 7
    assert bar.count_left() is None
    bar.begin("one")
    bar.now[0] = 17
    bar.tell(0.5)
    assert bar.count_left() == pytest.approx(350 * 10 / 50)  # loading is no measure of the pace
    bar.now[0] = 27
    bar.begin("two")
    assert bar.count_left() == pytest.approx(300 * 20 / 100)
    bar.now[0] = 87
    bar.end()
    assert bar.count_left() == 0


def test_what_was_done_before_tells_no_pace_and_is_not_left(bar):
    bar.skip("loading")
    bar.skip("one")
    bar.begin("two")
    assert bar.count_left() is None
    bar.now[0] = 10
    bar.tell(0.25)
    assert bar.count_left() == pytest.approx(30)


def test_a_file_gets_a_line_now_and_then(bar):
    bar.begin("one")
    for i in range(1, 100):
        bar.now[0] = i
        bar.tell(i / 100, f"{i}/100 things")
    bar.begin("two")
    lines = bar.console.file.getvalue().splitlines()
    assert lines[0] == "2/3 one"
    assert lines[1] == f"2/3 one  {OFTEN}/100 things, {(400 - OFTEN) // 60}:{(400 - OFTEN) % 60:02d} left of the work"
    assert len(lines) == 1 + 99 // OFTEN + 1
    assert lines[-1].startswith("3/3 two")


def test_a_terminal_gets_one_line():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with PartsBar({"one": 1}, "the work", console) as bar:
        bar.begin("one")
        for i in range(20):
            bar.tell(i / 20, "things")
    assert "1/1 one" in console.file.getvalue()
    assert console.file.getvalue().replace("\r\n", "").count("\n") <= 2
