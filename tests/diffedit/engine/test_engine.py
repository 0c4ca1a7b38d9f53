import random
from collections import Counter

import pytest
import torch
from helpers import make_request, same
from torch.utils._python_dispatch import TorchDispatchMode

from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.queries import run_alone
from diffedit.sampling.noise import RequestNoise
from diffedit.types import Custom, CustomBatch, Decode, EditResult, Embed, Encode, Predict

BATCH = BatchSizes(predict=8, encode=2, decode=4, embed=2)
EDITORS = [DiffEdit(), DiffEdit(start="noise"), EncodeDecode(), SDEdit(eta=0.7, repeats=2)]
STEPS, RATIOS = 5, (0.2, 0.4, 0.6, 0.8, 1.0)
TEXTS = ["apple", "pear", "plum", "apple pear", "plum pear"]


class Recorder:
    """A backbone that notes the size of every call."""

    def __init__(self, backbone):
        self.backbone, self.sizes = backbone, {kind: [] for kind in ("encode", "decode", "embed", "predict")}

    def __getattr__(self, name):
        value = getattr(self.backbone, name)
        if name not in self.sizes:
            return value
        return lambda rows, *rest: self.sizes[name].append(len(rows)) or value(rows, *rest)


def make_program(i, backbone, ratios=RATIOS, editor=None, **settings):
    request = make_request(backbone, f"{i}", TEXTS[i % 5], TEXTS[(i + 1) % 5] if i % 2 else None, seed=i, **settings)
    return (editor or EDITORS[i % 4])(request, ratios, backbone.schedule(STEPS), RequestNoise(0, request.id))


def run(backbone, programs, batch=BATCH, **settings):
    outcomes = Engine(backbone, batch, progress=False, **settings).run(programs)
    return {outcome.id: outcome for outcome in outcomes}


@pytest.fixture(scope="module", params=["tiny", "analytic"])
def backbone(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def alone(backbone):
    """Each of 12 requests in an engine of its own: {(id, ratio): edit}, {id: outcome}."""
    outcomes = {str(i): run(backbone, [(str(i), make_program(i, backbone))])[str(i)] for i in range(12)}
    return {
        (name, edit.variant.strength): edit for name, outcome in outcomes.items() for edit in outcome.result.edits
    }, outcomes


@pytest.mark.parametrize("trial", range(6))
def test_equal_to_the_bit_whatever_stands_beside(backbone, alone, trial):
    """Random windows, orders, subsets of requests and ratios: every edit is the one of the request alone."""
    draw = random.Random(trial)
    edits, _ = alone
    subset = draw.sample(range(12), draw.randint(2, 12))
    ratios = {i: draw.sample(RATIOS, draw.randint(1, 5)) for i in subset}
    programs = [(str(i), make_program(i, backbone, ratios[i])) for i in subset]
    outcomes = run(backbone, programs, max_live=draw.choice([None, 1, 2, 5, 30]), embedding_cache=draw.choice([1, 512]))
    assert len(outcomes) == len(subset)
    for i in subset:
        assert same(outcomes[str(i)].result.edits, [edits[str(i), ratio] for ratio in ratios[i]])


class Waits(TorchDispatchMode):
    """Notes what makes a host wait for its device: numbers read out of tensors, copies from one to the other."""

    WAITING = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "lift_fresh")

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.seen[name] += name in self.WAITING
        return function(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device_between_calls(tiny):
    """Twice the steps read as many numbers out of tensors, and make one tensor of numbers more for each call."""
    seen, calls = [], []
    for steps in (5, 10):
        recorder = Recorder(tiny)
        request = make_request(tiny)
        program = EncodeDecode()(request, (0.4, 0.8), tiny.schedule(steps), RequestNoise(0, "a"))
        with Waits() as waits:
            run(recorder, [("a", program)])
        seen.append(waits.seen)
        calls.append(len(recorder.sizes["predict"]))
    made = [count.pop("lift_fresh") for count in seen]
    assert made[1] - made[0] == calls[1] - calls[0] > 0
    assert +seen[0] == +seen[1]


def test_running_a_program_alone_agrees(backbone, alone):
    """Other batch sizes, so not to the bit."""
    for i in range(4):
        edits, _ = alone
        for edit in run_alone(make_program(i, backbone), backbone).edits:
            torch.testing.assert_close(edit.image, edits[str(i), edit.variant.strength].image, atol=1e-4, rtol=1e-4)


class Rogue:
    """Programs that go wrong, each in its own way."""

    def __init__(self, backbone):
        self.schedule = backbone.schedule(STEPS)
        self.image = torch.rand(3, backbone.resolution, backbone.resolution)

    def bad_file(self):
        raise OSError("cut short")
        yield

    def midway(self):
        x0 = yield Encode(self.image)
        (cond,) = yield Embed(("pear",))
        yield Predict(x0, self.schedule[2], (cond,))
        raise RuntimeError("midway")

    def nan(self):
        yield Encode(self.image * float("nan"))

    def nan_at_the_end(self):
        x0 = yield Encode(self.image)
        yield Decode(x0 * float("inf"))

    def unknown_text(self):
        yield Embed(("x" * 100,))

    def shape(self):
        (cond,) = yield Embed(("pear",))
        yield Predict(torch.zeros(1, 9, 3, 3), self.schedule[2], (cond,))

    def custom(self):
        yield Custom(lambda backbone: 1 / 0)

    def no_rows(self):
        yield Embed(())

    def edits_do_not_match(self):
        x0 = yield Encode(self.image)
        (cond,) = yield Embed(("pear",))
        yield Predict(x0.expand(3, -1, -1, -1), self.schedule[2], (cond,) * 3, (1, 2))

    def bad_clean_up(self):
        try:
            yield Embed(("x" * 100,))
        finally:
            raise OSError("clean-up")

    def never_ends(self):
        try:
            yield Embed(("x" * 100,))
        finally:
            yield Embed(("pear",))

    def other_dtype(self):
        x0 = yield Encode(self.image)
        (cond,) = yield Embed(("pear",))
        for _ in range(4):
            yield Predict(x0.double(), self.schedule[2], (cond,))
        raise RuntimeError("it went all the way")

    def not_a_query(self):
        yield "x0, please"


@pytest.mark.parametrize(
    ("rogue", "error"),
    [
        ("bad_file", OSError),
        ("midway", RuntimeError),
        ("nan", FloatingPointError),
        ("nan_at_the_end", FloatingPointError),
        ("unknown_text", ValueError),
        ("shape", Exception),
        ("custom", ZeroDivisionError),
        ("no_rows", ValueError),
        ("not_a_query", TypeError),
        ("edits_do_not_match", ValueError),
        ("bad_clean_up", ValueError),
        ("never_ends", ValueError),
        ("other_dtype", RuntimeError),
    ],
)
def test_a_program_that_goes_wrong_touches_no_other(backbone, alone, rogue, error):
    edits, _ = alone
    programs = [(str(i), make_program(i, backbone)) for i in range(4)]
    programs.insert(2, ("rogue", getattr(Rogue(backbone), rogue)()))
    outcomes = run(backbone, programs)
    assert isinstance(outcomes["rogue"].error, error)
    assert outcomes["rogue"].result is None
    for i in range(4):
        assert outcomes[str(i)].error is None
        assert same(outcomes[str(i)].result.edits, [edits[str(i), ratio] for ratio in RATIOS])


def test_good_results_come_before_the_errors_of_the_same_call(analytic):
    """So that whoever stops at an error loses nothing that was ready."""
    rogue = Rogue(analytic)
    good = [(str(i), make_program(i, analytic, [0.2], SDEdit())) for i in range(3)]
    programs = [("rogue", rogue.nan_at_the_end()), *good]
    names = [outcome.id for outcome in Engine(analytic, BatchSizes(8, 4, 4, 4), progress=False).run(programs)]
    assert names.index("rogue") >= 1


def test_a_place_check_that_fails_is_no_failure(analytic, caplog):
    class Fragile(Recorder):
        """Its second encoding fails."""

        def encode(self, images):
            self.sizes["encode"].append(len(images))
            if len(self.sizes["encode"]) == 2:
                raise OSError("no second time")
            return self.backbone.encode(images)

    outcomes = run(Fragile(analytic), [("0", make_program(0, analytic))])
    assert outcomes["0"].error is None
    assert "encode: could not check" in caplog.text


def test_every_call_has_the_constant_size_and_only_the_tail_is_padded(analytic):
    recorder = Recorder(analytic)
    outcomes = run(recorder, [(str(i), make_program(i, analytic)) for i in range(40)])
    for kind, sizes in recorder.sizes.items():
        assert set(sizes) == {getattr(BATCH, kind)}, kind
    # One call of each kind is made twice, to check that places are alike.
    recorder.sizes = {kind: sizes[1:] for kind, sizes in recorder.sizes.items()}
    evaluations = sum(outcome.evaluations.total() for outcome in outcomes.values())
    rows = {"predict": evaluations, "encode": 40, "decode": 40 * len(RATIOS)}
    for kind, count in rows.items():
        wasted = sum(recorder.sizes[kind]) - count
        # The tail: the last programs (at most a window of them) meet in the fewest calls, but their lengths differ.
        assert wasted < (60 if kind == "predict" else 2) * getattr(BATCH, kind), (kind, wasted)


def test_without_padding_no_row_is_asked_twice(analytic):
    """Calls are at most as large as set, and all rows together are those of the work; the edits agree."""
    recorder = Recorder(analytic)
    outcomes = run(recorder, [(str(i), make_program(i, analytic)) for i in range(9)], pad=False)
    for kind, sizes in recorder.sizes.items():
        assert max(sizes) <= getattr(BATCH, kind), kind
    evaluations = sum(outcome.evaluations.total() for outcome in outcomes.values())
    assert sum(recorder.sizes["predict"]) == evaluations
    assert (sum(recorder.sizes["encode"]), sum(recorder.sizes["decode"])) == (9, 9 * len(RATIOS))
    padded = run(analytic, [(str(i), make_program(i, analytic)) for i in range(9)])
    for name, outcome in outcomes.items():
        for one, other in zip(outcome.result.edits, padded[name].result.edits, strict=True):
            torch.testing.assert_close(one.image, other.image, atol=1e-5, rtol=0)


def test_a_long_run_fills_its_calls(analytic):
    """Equal programs, many of them: less than 1 % of the rows is padding."""
    recorder = Recorder(analytic)
    editor = SDEdit()
    outcomes = run(recorder, [(str(i), make_program(i, analytic, editor=editor)) for i in range(300)])
    evaluations = sum(outcome.evaluations.total() for outcome in outcomes.values())
    assert evaluations / sum(recorder.sizes["predict"]) > 0.99


def test_the_window_is_bounded_and_results_stream(analytic):
    drawn, window = [], 5

    def source():
        for i in range(40):
            drawn.append(i)
            yield str(i), make_program(i, analytic)

    ended = 0
    for _ in Engine(analytic, BATCH, max_live=window, progress=False).run(source()):
        assert len(drawn) - ended <= window
        ended += 1
    assert ended == 40


def test_the_default_window_is_the_smallest_that_keeps_a_batch_full(analytic):
    assert Engine(analytic, BATCH).max_live == 7 + 1 + 3 + 1 + 3 + 1
    with pytest.raises(ValueError, match=r"engine.max_live = 0"):
        Engine(analytic, max_live=0)
    with pytest.raises(ValueError, match=r"BatchSizes: decode = 0"):
        BatchSizes(decode=0)


def test_evaluations_are_counted_for_each_edit(analytic):
    """The sweep r = 0.1 ... 1 of 50 steps: 50 to encode, 20 for the mask, 2 * 275 to decode: 620."""
    ratios = [i / 10 for i in range(1, 11)]
    request, schedule, noise = make_request(analytic), analytic.schedule(50), RequestNoise(0, "a")
    (outcome,) = run(analytic, [("a", DiffEdit()(request, ratios, schedule, noise))]).values()
    assert outcome.evaluations == Counter({None: 70} | {5 * i: 10 * i for i in range(1, 11)})
    assert outcome.evaluations.total() == 620
    one_by_one = [
        run(analytic, [("a", DiffEdit()(request, [r], schedule, noise))])["a"].evaluations.total() for r in ratios
    ]
    assert sum(one_by_one) == 1025
    (outcome,) = run(analytic, [("a", DiffEdit(guidance=1)(request, ratios, schedule, noise))]).values()
    assert outcome.evaluations.total() == 70 + 275
    (outcome,) = run(analytic, [("a", SDEdit(repeats=3)(request, [0.1], schedule, noise))]).values()
    assert outcome.evaluations == Counter({5: 30})
    assert outcome.seconds > 0


def test_the_seconds_add_up_to_the_wall_time(analytic):
    import time

    began = time.perf_counter()
    outcomes = run(analytic, [(str(i), make_program(i, analytic)) for i in range(8)])
    wall = time.perf_counter() - began
    assert 0.9 * wall < sum(outcome.seconds for outcome in outcomes.values()) <= wall


def test_a_text_is_embedded_once(analytic):
    recorder = Recorder(analytic)
    engine = Engine(recorder, BATCH, progress=False)
    for _ in range(2):
        list(engine.run([(str(i), make_program(i, analytic)) for i in range(20)]))
    assert len(engine.embedded) == 6  # TEXTS and ""
    assert len(recorder.sizes["embed"]) <= 6 + 1


def test_a_custom_query_runs_alone_with_gradients(analytic):
    def program():
        x = yield Encode(torch.zeros(3, 16, 16))

        def fn(backbone):
            assert backbone is analytic
            leaf = torch.ones(1, requires_grad=True)
            (leaf * 3).backward()
            return leaf.grad

        assert not torch.is_grad_enabled()
        grad = yield Custom(fn)
        assert not torch.is_grad_enabled()
        return EditResult([], metadata={"grad": grad.item(), "x": x.shape[1]})

    (outcome,) = run(analytic, [("a", program())]).values()
    assert outcome.result.metadata == {"grad": 3.0, "x": 3}
    assert run_alone(program(), analytic).metadata == outcome.result.metadata


def test_grad_mode_does_not_leak_to_the_caller(analytic):
    for _ in Engine(analytic, BATCH, progress=False).run([("0", make_program(0, analytic))]):
        assert torch.is_grad_enabled()


def test_the_bar_shows_edits_and_evaluations_a_second(analytic, capsys):
    programs = [(str(i), make_program(i, analytic)) for i in range(3)]
    list(Engine(analytic, BATCH).run(programs, total=3, edits=len(RATIOS)))
    bar = capsys.readouterr().err
    assert "15/15" in bar
    assert "evaluations/s" in bar


def test_noise_belongs_to_seed_request_and_purpose():
    x = torch.zeros(1, 2, 3)
    draws = [
        RequestNoise(*key[:2]).randn_like(x, key[2])
        for key in [(0, "a", "p"), (1, "a", "p"), (0, "b", "p"), (0, "a", "q")]
    ]
    assert len({draw.sum().item() for draw in draws}) == 4
    three = RequestNoise(0, "a").randn_like(x, "p", 3)
    assert torch.equal(three[:1], draws[0])
    assert torch.equal(three[:2], RequestNoise(0, "a").randn_like(x, "p", 2))
    assert draws[0].flatten()[0].item() == pytest.approx(-0.6546966)


class Uneven:
    """A backbone whose last row comes out a bit different."""

    def __init__(self, backbone):
        self.backbone = backbone

    def __getattr__(self, name):
        return getattr(self.backbone, name)

    def encode(self, images):
        latents = self.backbone.encode(images).clone()
        latents[-1] += 1e-6
        return latents


def test_a_batch_whose_places_differ_is_warned_about(analytic, tiny, caplog):
    run(analytic, [("0", make_program(0, analytic))])
    run(tiny, [("0", make_program(0, tiny))])
    assert not caplog.records
    run(Uneven(analytic), [(str(i), make_program(i, analytic)) for i in range(4)])
    (record,) = caplog.records
    assert "encode: the last bits" in record.getMessage()
    assert "engine.batch.encode" in record.getMessage()


def halve(backbone, rows):
    """Rows of numbers; 13 is a bad one."""
    assert torch.is_grad_enabled()
    if 13 in rows:
        raise ValueError("13 is odd luck")
    halve.sizes.append(len(rows))
    return [row / 2 for row in rows]


def test_custom_rows_of_many_programs_fill_batches_and_fail_alone(analytic):
    halve.sizes = []

    def program(i):
        first, second = yield CustomBatch(halve, [i, i + 100], evaluations=3, edits=(1, 2))
        (third,) = yield CustomBatch(halve, [first], evaluations=1)
        return EditResult([], metadata={"sum": first + second + third})

    outcomes = run(analytic, [(str(i), program(i)) for i in range(20)], BatchSizes(custom=8))
    assert set(halve.sizes) == {8}
    for i in range(20):
        outcome = outcomes[str(i)]
        if i == 13:
            assert str(outcome.error) == "13 is odd luck"
            continue
        assert outcome.result.metadata["sum"] == i / 2 + (i + 100) / 2 + i / 4
        assert outcome.evaluations == {1: 3, 2: 3, None: 1}
        assert outcome.seconds > 0
    # 40 rows and 20, in eights; the bad batches are asked again program by program; the first call is made twice
    assert len(halve.sizes) < 40
