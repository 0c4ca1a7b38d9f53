"""How few rows of padding there are, and what becomes of calls that do not fit the memory."""

import pytest
import torch
from helpers import Pictures, make_request, same

from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import EditResult, Encode, Prediction

TEXTS = ["apple", "pear", "plum", "apple pear", "plum pear"]
RATIOS = (0.3, 0.5, 0.7, 0.9)


class Counted(AnalyticBackbone):
    """A denoiser that predicts nothing, quickly, and counts its rows; it may lack memory for so many of them."""

    def count(self, most=10**9, what=torch.OutOfMemoryError):
        """Begin anew; `most` rows fit."""
        object.__setattr__(self, "calls", [])
        object.__setattr__(self, "most", most)
        object.__setattr__(self, "what", what)
        return self

    def predict(self, x, levels, conds):
        self.calls.append(len(x))
        if len(x) > self.most:
            raise self.what
        return Prediction(x * 0.5, x)


@pytest.fixture(scope="module")
def counted():
    return Counted(resolution=4)


def make_programs(backbone, count, ratios=RATIOS, steps=50):
    for i in range(count):
        request = make_request(backbone, str(i), TEXTS[i % 5], TEXTS[(i + 1) % 5], seed=i)
        yield request.id, DiffEdit()(request, ratios, backbone.schedule(steps), RequestNoise(0, request.id))


def run(backbone, count, batch=None, total=None, **settings):
    engine = Engine(backbone, batch, progress=False, **settings)
    outcomes = list(engine.run(make_programs(backbone, count), count if total is None else total, len(RATIOS)))
    assert all(outcome.error is None for outcome in outcomes)
    assert len(outcomes) == count
    return engine, {outcome.id: outcome for outcome in outcomes}


@pytest.mark.parametrize("count", [28, 33])  # less than a window, and one more than a window
def test_few_rows_are_padding(counted, count):
    """Four ratios, 50 steps, 305 evaluations a request; what the engine counts is what the network was asked."""
    engine, outcomes = run(counted.count(), count)
    useful = sum(outcome.evaluations.total() for outcome in outcomes.values())
    assert useful == 305 * count
    assert engine.rows["predict"] == sum(counted.calls) - 16  # one call is made twice, to check that places are alike
    assert engine.padding["predict"] == engine.rows["predict"] - useful
    assert engine.padding["predict"] < 0.01 * useful
    assert engine.padding.total() < 0.05 * engine.rows.total()
    assert set(counted.calls) == {16}
    assert f"{engine.rows.total():,} rows, {engine.padding.total():,} of them padding" in engine.describe_padding()


@pytest.mark.parametrize(("count", "share"), [(1, 0), (3, 0.02), (4, 0), (7, 0.02)])
def test_a_handful_of_requests_is_hardly_padded_where_calls_are_fitted_to_them(counted, count, share):
    engine, _ = run(counted.count(), count, BatchSizes(requests=count))
    assert engine.padding["predict"] <= share * 305 * count
    assert len(set(counted.calls)) > 1
    assert sum(counted.calls) < 305 * count + share * 305 * count + 32  # each size is once checked


def test_calls_that_are_fitted_give_the_same_bits_whatever_is_left_of_the_requests(analytic):
    """As after a resume: the sizes come from all requests, not from those that remain."""
    batch = BatchSizes(predict=8, encode=2, decode=4, embed=2, requests=3)
    every = {name: one.result for name, one in run_small(analytic, 3, batch).items()}
    for name, program in make_programs(analytic, 3, (0.5, 1.0), 5):
        (outcome,) = Engine(analytic, batch, progress=False).run([(name, program)])
        assert same(outcome.result.edits, every[name].edits)


def run_small(backbone, count, batch):
    outcomes = Engine(backbone, batch, progress=False).run(make_programs(backbone, count, (0.5, 1.0), 5), count)
    return {outcome.id: outcome for outcome in outcomes}


def test_a_size_is_the_largest_that_few_requests_fill():
    sizes = BatchSizes(predict=16, requests=1)
    assert [sizes.get_size("predict", k) for k in (1, 2, 3, 6, 8, 20, 32)] == [1, 2, 1, 2, 8, 4, 16]
    sizes = BatchSizes(predict=16, requests=3)
    assert [sizes.get_size("predict", k) for k in (1, 2, 4, 8)] == [2, 4, 8, 16]
    assert BatchSizes(predict=12, requests=1).get_size("predict", 8) == 8
    assert [BatchSizes(predict=16, requests=n).get_size("predict", 1) for n in (2, 16, 17)] == [2, 16, 16]
    assert BatchSizes(predict=16).get_size("predict", 1) == 16


# ------------------------------------------------------------------------------------------------------- out of memory


@pytest.mark.parametrize("what", [torch.OutOfMemoryError("full"), RuntimeError("MPS backend out of memory (...)")])
def test_a_call_that_does_not_fit_is_halved_once_and_for_all(counted, caplog, what):
    _, outcomes = run(counted.count(5, what), 3)
    assert counted.calls[:3] == [16, 8, 4]
    assert set(counted.calls[3:]) == {4}
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "out of memory at 16 rows in a call",
        "out of memory at 8 rows in a call",
    ]
    assert "engine.batch.predict=4" in caplog.records[1].getMessage()
    for outcome in outcomes.values():
        assert outcome.evaluations.total() == 305
        assert outcome.result.metadata["batch_predict"] == 4
    expected, _ = run(counted.count(), 3, BatchSizes(predict=4)), caplog.clear()
    for name, outcome in expected[1].items():
        assert same(outcome.result.edits, outcomes[name].result.edits)
        assert "batch_predict" not in outcome.result.metadata


def test_requests_that_were_done_before_say_nothing_of_it(counted):
    """Only who had rows in a smaller call."""

    class FullLater:
        """Once the first request has ended: 3 calls for its mask, 45 to encode, 45 to decode, one to check places."""

        def __getattr__(self, name):
            return getattr(counted, name)

        def predict(self, *query):
            object.__setattr__(counted, "most", 8 if len(counted.calls) < 94 else 4)
            return counted.predict(*query)

    counted.count()
    engine = Engine(FullLater(), BatchSizes(predict=8), max_live=1, progress=False)
    outcomes = list(engine.run(make_programs(counted, 3)))
    assert [outcome.result.metadata.get("batch_predict") for outcome in outcomes] == [None, 4, 4]


def test_where_not_even_one_row_fits_the_request_fails_and_says_why(counted):
    outcomes = list(Engine(counted.count(0), progress=False).run(make_programs(counted, 2)))
    assert [type(outcome.error) for outcome in outcomes] == [RuntimeError] * 2
    assert "engine.batch.predict cannot be lower" in str(outcomes[0].error)
    assert isinstance(outcomes[0].error.__cause__, torch.OutOfMemoryError)
    assert counted.calls[:5] == [16, 8, 4, 2, 1]


def test_a_row_that_is_bad_beside_calls_that_do_not_fit_fails_alone(counted):
    class Fragile:
        """One bad picture; and calls of more than two rows do not fit, once they are asked by one program alone."""

        calls = 0

        def __getattr__(self, name):
            return getattr(counted, name)

        def encode(self, images):
            self.calls += 1
            if self.calls > 2 and len(images) > 2:
                raise torch.OutOfMemoryError
            if (images == 7).all((1, 2, 3)).any():
                raise OSError("a bad picture")
            return counted.encode(images)

    def program(value):
        x0 = yield Encode(torch.full((3, 4, 4), float(value)))
        return EditResult([], metadata={"value": x0.mean().item()})

    counted.count()
    programs = [(str(i), program(i)) for i in range(4, 10)]
    outcomes = {one.id: one for one in Engine(Fragile(), BatchSizes(encode=4), progress=False).run(programs, 6)}
    assert [str(one.error) for one in outcomes.values() if one.error] == ["a bad picture"]
    assert {i: outcomes[str(i)].result.metadata["value"] for i in (4, 5, 6, 8, 9)} == {
        i: 2 * i - 1 for i in (4, 5, 6, 8, 9)
    }


def test_a_record_says_in_what_calls_its_rows_were(counted, tmp_path, caplog):
    settings = RunSettings(ratios=(0.5,), steps=10, progress=False)
    with caplog.at_level("INFO", logger="run"):
        table = run_benchmark(Pictures(2), EditPipeline(DiffEdit()), counted.count(8), tmp_path / "run", settings)
    assert list(table.batch_predict) == [8, 8]
    assert "of them padding (" in caplog.text


def test_what_was_made_in_smaller_calls_is_not_shared(counted, tmp_path):
    """What runs share is known by the sizes that were set."""
    pipeline = EditPipeline(DiffEdit())
    settings = RunSettings(ratios=(0.5,), steps=10, progress=False, cache=tmp_path / "work")
    run_benchmark(Pictures(2), pipeline, counted.count(8), tmp_path / "full", settings)
    table = run_benchmark(Pictures(2), pipeline, counted.count(), tmp_path / "roomy", settings)
    assert len(counted.calls) > 5 + 5
    assert "batch_predict" not in table
    run_benchmark(Pictures(2), pipeline, counted.count(), tmp_path / "again", settings)
    assert not counted.calls
