import threading
from dataclasses import replace

import pytest
import torch
from helpers import make_request

from baselines.bounds import Copy, Oracle
from baselines.sdedit import SDEdit
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.prefetch import prefetch_requests
from diffedit.mask import GivenMask
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import EditRequest

ONE = BatchSizes(1, 1, 1, 1, 1)  # a window of one program


class Loads:
    """Loaders that say when they begin, and count."""

    def __init__(self, fails=()):
        self.began, self.count, self.fails = [], 0, fails

    def requests(self, count):
        for i in range(count):
            self.began.append(threading.Event())
            mask = lambda i=i: self.load(i) * 2  # noqa: E731
            yield EditRequest(str(i), lambda i=i: self.load(i), "pear", mask=mask)

    def load(self, i):
        self.began[i].set()
        self.count += 1
        if i in self.fails:
            raise OSError(f"{i}.jpg: truncated")
        return torch.full((3, 16, 16), i / 10)


def test_requests_come_in_their_order_with_what_their_loaders_give():
    requests = list(prefetch_requests(Loads().requests(9), threads=3, depth=4))
    assert [request.id for request in requests] == list("012345678")
    assert [request.image()[0, 0, 0].item() for request in requests] == pytest.approx([i / 10 for i in range(9)])


def test_only_what_is_read_is_loaded():
    loads = Loads()
    requests = list(prefetch_requests(loads.requests(3)))
    assert [request.image() is not None for request in requests] == [True] * 3
    assert loads.count == 3
    for request in requests:
        request.mask()
    assert loads.count == 6
    both = list(prefetch_requests(loads.requests(3), ("image", "mask")))
    differences = [float(request.mask()[0, 0, 0] - request.image()[0, 0, 0]) for request in both]
    assert differences == pytest.approx([0, 0.1, 0.2])
    assert loads.count == 12


def test_a_second_call_loads_anew_and_what_was_loaded_is_let_go():
    loads = Loads()
    (only,) = prefetch_requests(loads.requests(1))
    first = only.image()
    assert only.image.value is None
    assert torch.equal(only.image(), first)
    assert loads.count == 2


def test_no_more_than_depth_requests_wait():
    loads = Loads()
    drawn = prefetch_requests(loads.requests(50), depth=5)
    next(drawn)
    assert len(loads.began) == 5
    next(drawn)
    assert len(loads.began) == 6


def test_a_run_that_stops_leaves_the_rest_unopened():
    release, attempts = threading.Event(), []

    def load(i):
        attempts.append(i)
        if i:
            release.wait(20)

    drawn = prefetch_requests(
        (EditRequest(str(i), lambda i=i: load(i), "pear") for i in range(20)), threads=1, depth=10
    )
    next(drawn)
    threading.Timer(0.1, release.set).start()
    drawn.close()
    assert attempts in ([0], [0, 1])  # the one that the thread was at when the run stopped


def test_a_bad_picture_fails_its_own_request(analytic):
    loads, schedule = Loads(fails=(1,)), analytic.schedule(4)
    programs = (
        (request.id, SDEdit()(request, [0.5], schedule, RequestNoise(0, request.id)))
        for request in prefetch_requests(loads.requests(3))
    )
    outcomes = {outcome.id: outcome.error for outcome in Engine(analytic, ONE, progress=False).run(programs)}
    assert outcomes["0"] is None
    assert outcomes["2"] is None
    assert str(outcomes["1"]) == "1.jpg: truncated"


class Waits(AnalyticBackbone):
    """Its network does not answer before the picture of the next request is being opened."""

    def predict(self, x, schedule, conds):
        if not self.next.wait(20):
            raise TimeoutError("nobody opens the next picture while the network works")
        return super().predict(x, schedule, conds)


@pytest.mark.parametrize("loader", [prefetch_requests, iter])
def test_pictures_are_opened_while_the_network_works(loader):
    loads, backbone = Loads(), Waits()
    backbone.next = threading.Event()

    def requests():
        for request in loads.requests(2):
            opening = lambda request=request: backbone.next.set() or request.image()  # noqa: E731
            yield replace(request, image=opening) if request.id == "1" else request

    schedule = backbone.schedule(2)
    programs = (
        (request.id, SDEdit()(request, [1.0], schedule, RequestNoise(0, request.id))) for request in loader(requests())
    )
    if loader is iter:  # the test can fail
        backbone.next.wait = lambda seconds: backbone.next.is_set()
    errors = [outcome.error for outcome in Engine(backbone, ONE, progress=False).run(programs)]
    assert [error is None for error in errors] == [loader is prefetch_requests, True]


def test_pictures_that_are_opened_ahead_make_the_same_edits(analytic):
    originals = [make_request(analytic, name, seed=i) for i, name in enumerate("abcde")]
    schedule = analytic.schedule(6)

    def edit_all(requests):
        programs = (
            (request.id, EditPipeline(DiffEdit())(request, [0.5, 1.0], schedule, RequestNoise(0, request.id)))
            for request in requests
        )
        outcomes = Engine(analytic, BatchSizes(4, 2, 2, 2, 1), progress=False).run(programs)
        return {outcome.id: [edit.image for edit in outcome.result.edits] for outcome in outcomes}

    one, other = edit_all(originals), edit_all(prefetch_requests(originals, depth=3))
    assert one.keys() == other.keys()
    assert all(torch.equal(a, b) for name in one for a, b in zip(one[name], other[name], strict=True))


@pytest.mark.parametrize(
    ("editor", "inputs"),
    [
        (DiffEdit(), {"image"}),
        (Copy(), {"image"}),
        (Oracle(), {"image", "true_edit"}),
        (DiffEdit(mask=GivenMask()), {"image", "mask"}),
        (SDEdit(mask=GivenMask(which="oracle")), {"image", "true_mask"}),
    ],
)
def test_an_editor_declares_its_inputs(editor, inputs):
    assert EditPipeline(editor).editor.inputs == inputs


def test_a_thread_is_needed():
    with pytest.raises(ValueError, match=r"engine\.threads = 0"):
        next(prefetch_requests(Loads().requests(1), threads=0))
