"""Work that runs share: the same bytes as without, at the cost of what differs; damage and other inputs are seen."""

import multiprocessing
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from helpers import Pictures, edit_counted, read_run

from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.shared import SharedWork
from diffedit.inversion import Inversion
from diffedit.io.disk_cache import DiskCache
from diffedit.mask import ContrastMask, Fixed
from diffedit.runs.loop import RunSettings
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.background import PixelPaste
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import BaseEditor, EditResult

STEPS, COUNT = 5, 2
SETTINGS = RunSettings((0.4, 0.8), STEPS, batch=BatchSizes(4, 1, 2, 1), progress=False)
MASK = ContrastMask(num_noises=4)
INVERSION, DECODING = 4 * COUNT, 2 * (2 + 4) * COUNT


def edit(root, pipeline, cache=None, benchmark=None, backbone=None, **changed):
    """A run; returns the evaluations that it made and those that it did not, by purpose."""
    settings = replace(SETTINGS, cache=cache, **changed)
    return edit_counted(root, pipeline, benchmark or Pictures(COUNT), backbone or AnalyticBackbone(), settings)


def read_files(root):
    """What a run left, but for seconds and for what says when and how it was made."""
    files = read_run(root)
    for name, record in files.items():
        if name.startswith("record of "):
            record["metadata"].pop("reconstruct_seconds", None)
    return {name: data for name, data in files.items() if name != "config.yaml"}


def test_a_cold_cache_changes_nothing(tmp_path):
    plain = edit(tmp_path / "plain", DiffEdit(mask=MASK))
    cold = edit(tmp_path / "cold", DiffEdit(mask=MASK), tmp_path / "cache")
    assert plain == cold == ({"mask": 8 * COUNT, "inversion": INVERSION, "decoding": DECODING}, {})
    assert read_files(tmp_path / "plain") == read_files(tmp_path / "cold")


FOLLOWERS = {  # what comes after DiffEdit, and what it has to make itself
    "the same": (DiffEdit(mask=MASK), {}, {}),
    "one ratio more": (DiffEdit(mask=MASK), {"ratios": (0.4, 0.6, 0.8)}, {"decoding": 2 * 3 * COUNT}),
    "one ratio less": (DiffEdit(mask=MASK), {"ratios": (0.4,)}, {}),
    "a higher ratio": (
        DiffEdit(mask=MASK),
        {"ratios": (1.0, 0.4)},
        {"decoding": 2 * 5 * COUNT, "inversion": 1 * COUNT},
    ),
    "a threshold": (DiffEdit(mask=replace(MASK, threshold=Fixed(0.3))), {}, {"decoding": DECODING}),
    "more noises": (DiffEdit(mask=replace(MASK, num_noises=6)), {}, {"decoding": DECODING, "mask": 2 * 2 * COUNT}),
    "fewer noises": (DiffEdit(mask=replace(MASK, num_noises=3)), {}, {"decoding": DECODING}),
    "another strength of the noise": (
        DiffEdit(mask=replace(MASK, noise_strength=0.7)),
        {},
        {"decoding": DECODING, "mask": 8 * COUNT},
    ),
    "noises in pairs": (
        DiffEdit(mask=replace(MASK, antithetic=True)),
        {},
        {"decoding": DECODING, "mask": 8 * COUNT},
    ),
    "guidance": (DiffEdit(mask=MASK, guidance=3.0), {}, {"decoding": DECODING}),
    "a guidance interval": (
        DiffEdit(mask=MASK, guidance_interval=(0.4, 1.0)),
        {},
        {"decoding": (2 + 4 + 2) * COUNT},  # twice at levels 3 and 4 alone
    ),
    "no encoding": (DiffEdit(mask=MASK, start="noise"), {}, {"decoding": DECODING}),
    "no mask": (EncodeDecode(), {}, {"decoding": DECODING}),
    "the other timestep": (
        DiffEdit(mask=MASK, inversion=Inversion("source")),
        {},
        {"decoding": DECODING, "inversion": INVERSION},
    ),
    "SDEdit": (SDEdit(), {}, {"decoding": DECODING}),
    "another seed": (DiffEdit(mask=MASK), {"seed": 1}, {"decoding": DECODING, "mask": 8 * COUNT}),
    "two samples": (EditPipeline(DiffEdit(mask=MASK), samples=2), {}, {"decoding": 2 * DECODING, "mask": 8 * COUNT}),
    "a reconstruction": (EditPipeline(DiffEdit(mask=MASK), PixelPaste()), {}, {"decoding": DECODING}),
}


@pytest.mark.parametrize("name", FOLLOWERS)
def test_the_next_run_makes_what_differs_and_leaves_the_same_bytes(tmp_path, name):
    pipeline, changed, wanted = FOLLOWERS[name]
    edit(tmp_path / "first", DiffEdit(mask=MASK), tmp_path / "cache")
    alone, _ = edit(tmp_path / "alone", pipeline, **changed)
    made, recalled = edit(tmp_path / "next", pipeline, tmp_path / "cache", **changed)
    assert made == wanted
    assert sum(made.values()) + sum(recalled.values()) == sum(alone.values())
    assert read_files(tmp_path / "alone") == read_files(tmp_path / "next")


def test_edits_are_made_again_where_that_is_asked(tmp_path):
    edit(tmp_path / "first", DiffEdit(mask=MASK), tmp_path / "cache")
    made, recalled = edit(tmp_path / "next", DiffEdit(mask=MASK), tmp_path / "cache", cache_edits=False)
    assert made == {"decoding": DECODING}
    assert recalled == {"mask": 8 * COUNT, "inversion": INVERSION}


@pytest.fixture
def rows(monkeypatch):
    """How many pictures and texts the networks are given, by method."""
    counts = Counter()
    for name in ("encode", "embed"):
        method = getattr(AnalyticBackbone, name)

        def count(self, batch, *rest, name=name, method=method):
            counts[name] += len(batch)
            return method(self, batch, *rest)

        monkeypatch.setattr(AnalyticBackbone, name, count)
    return counts


@pytest.mark.parametrize("takes_edits", [True, False])
def test_pictures_are_not_encoded_and_texts_not_embedded_again(tmp_path, rows, takes_edits):
    """Also where all edits are made again, and those of another guidance."""
    edit(tmp_path / "first", DiffEdit(mask=MASK), tmp_path / "cache")
    assert min(rows["encode"], rows["embed"]) >= COUNT
    first = rows.copy()
    rows.clear()
    for guidance in (7.5, 3.0):
        again = DiffEdit(mask=MASK, guidance=guidance)
        edit(tmp_path / f"next {guidance}", again, tmp_path / "cache", cache_edits=takes_edits)
    assert not rows
    edit(tmp_path / "without", DiffEdit(mask=MASK))
    assert rows == first


@dataclass(frozen=True)
class OtherPictures(Pictures):
    """The same requests, their pictures a little darker."""

    def load(self, i, resolution):
        return super().load(i, resolution) * 0.99


OTHERS = {
    "pictures": {"benchmark": OtherPictures(COUNT)},
    "weights": {"backbone": AnalyticBackbone(seed=1)},
    "rows in a call": {"batch": BatchSizes(8, 1, 2, 1)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_decides_the_bits_decides_what_is_shared(tmp_path, name):
    first, _ = edit(tmp_path / "first", DiffEdit(mask=MASK), tmp_path / "cache")
    made, recalled = edit(tmp_path / "next", DiffEdit(mask=MASK), tmp_path / "cache", **OTHERS[name])
    assert (made, recalled) == (first, {})


def damage(path, how):
    data = path.read_bytes()
    changed = {"short": data[:-4], "empty": b"", "other": data[:-1] + bytes([data[-1] ^ 1]), "text": b"not tensors"}
    path.write_bytes(changed[how])


@pytest.mark.parametrize("how", ["short", "empty", "other", "text"])
def test_a_damaged_file_is_named_and_made_again(tmp_path, caplog, how):
    edit(tmp_path / "first", DiffEdit(mask=MASK), tmp_path / "cache")
    files = sorted((tmp_path / "cache").glob("??/*.safetensors"))
    for path in files:
        damage(path, how)
    made, _ = edit(tmp_path / "next", DiffEdit(mask=MASK), tmp_path / "cache")
    assert sum(made.values()) == 8 * COUNT + INVERSION + DECODING
    assert str(files[0]) in caplog.text
    assert read_files(tmp_path / "first") == read_files(tmp_path / "next")
    assert edit(tmp_path / "third", DiffEdit(mask=MASK), tmp_path / "cache")[0] == {}


def test_the_oldest_make_room(tmp_path):
    edit(tmp_path / "first", DiffEdit(mask=MASK), tmp_path / "cache", cache_gigabytes=40e-6)
    sizes = [path.stat().st_size for path in (tmp_path / "cache").glob("??/*.safetensors")]
    assert 0 < sum(sizes) <= 40e3
    edit(tmp_path / "whole", DiffEdit(mask=MASK), tmp_path / "all")
    assert sum(path.stat().st_size for path in (tmp_path / "all").glob("??/*.safetensors")) > 40e3


def test_a_cache_that_cannot_be_written_is_said_once(tmp_path, caplog, monkeypatch):
    def refuse(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffedit.io.disk_cache.write", refuse)
    edit(tmp_path / "run", DiffEdit(mask=MASK), tmp_path / "cache")
    assert caplog.text.count("the cache is not written any more") == 1


def edit_in_a_process(root, cache):
    torch.set_num_threads(1)
    edit(root, DiffEdit(mask=MASK), cache, Pictures(6))


def test_processes_share_a_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=edit_in_a_process, args=(tmp_path / str(k), tmp_path / "cache")) for k in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert read_files(tmp_path / "0") == read_files(tmp_path / "1") == read_files(tmp_path / "2")
    assert not list((tmp_path / "cache").rglob("*.tmp"))


class Hidden(BaseEditor):
    """A method that holds what no setting says."""

    def __init__(self, guidance):
        self.inner = DiffEdit(mask=MASK, guidance=guidance)

    has_mask = True

    def __call__(self, *args):
        return self.inner(*args)


def test_a_method_that_its_settings_do_not_tell_is_not_taken_over(tmp_path):
    edit(tmp_path / "first", Hidden(1.0), tmp_path / "cache")
    made, _ = edit(tmp_path / "next", Hidden(3.0), tmp_path / "cache")
    assert made == {"decoding": DECODING}


@pytest.mark.parametrize("samples", [1, 2])
def test_programs_on_one_picture_wait_for_each_other(analytic, samples):
    """Several methods at once: inversion and map are made once, whoever asks first, and no two wait for ever."""
    request = next(Pictures(1).requests(16))
    schedule, noise = analytic.schedule(STEPS), RequestNoise(0, "0")
    methods = [DiffEdit(mask=MASK), DiffEdit(mask=replace(MASK, threshold=Fixed(0.2))), EncodeDecode()]
    pipelines = [EditPipeline(method, samples=samples) for method in methods]
    single = Engine(analytic, SETTINGS.batch, progress=False)
    alone = [run_all(single, [one], request, schedule, noise) for one in pipelines]
    engine = Engine(analytic, SETTINGS.batch, progress=False, shared=SharedWork({}))
    together = run_all(engine, pipelines, request, schedule, noise)
    for (one,), other in zip(alone, together, strict=True):
        assert all(torch.equal(a.image, b.image) for a, b in zip(one.edits, other.edits, strict=True))
    if samples == 1:
        assert engine.made == {"mask": 8, "inversion": 4, "decoding": 3 * 12}
        assert engine.shared.recalled == {"mask": 8, "inversion": 8}
    assert not engine.shared.waiters
    assert not engine.shared.makers


def run_all(engine, pipelines, request, schedule, noise) -> list[EditResult]:
    programs = [(str(k), pipeline(request, [0.4, 0.8], schedule, noise)) for k, pipeline in enumerate(pipelines)]
    outcomes = {outcome.id: outcome for outcome in engine.run(programs, len(programs))}
    assert all(outcome.error is None for outcome in outcomes.values())
    return [outcomes[str(k)].result for k in range(len(pipelines))]


def test_a_maker_that_fails_leaves_the_work_to_the_next(analytic):
    """The first asker's program breaks off in the middle of its inversion."""
    request = next(Pictures(1).requests(16))
    schedule, noise = analytic.schedule(STEPS), RequestNoise(0, "0")

    def broken():
        program = EditPipeline(EncodeDecode())(request, [0.8], schedule, noise)
        answer = None
        for _ in range(5):
            answer = yield program.send(answer)
        raise OSError("broken")

    whole = EditPipeline(EncodeDecode())
    engine = Engine(analytic, SETTINGS.batch, progress=False, shared=SharedWork({}))
    programs = [("a", broken()), ("b", whole(request, [0.8], schedule, noise))]
    outcomes = {outcome.id: outcome for outcome in engine.run(programs)}
    assert isinstance(outcomes["a"].error, OSError)
    alone = run_all(Engine(analytic, SETTINGS.batch, progress=False), [whole], request, schedule, noise)
    assert torch.equal(outcomes["b"].result.edits[0].image, alone[0].edits[1].image)


def test_the_disk_cache_gives_back_what_it_took(tmp_path):
    cache = DiskCache(tmp_path, 1e9)
    items = [torch.arange(6.0).reshape(2, 3), {"mask": torch.tensor([True, False]), "level": torch.tensor(3)}]
    cache.put("ab12", items)
    cache.close()
    first, second = DiskCache(tmp_path, 1e9).get("ab12")
    assert torch.equal(first, items[0])
    assert second.keys() == items[1].keys()
    assert torch.equal(second["mask"], items[1]["mask"])
    assert cache.get("cd34") is None


def list_ablations():
    """The paper's ablations and sweeps, as they are run one by one: each sweep has the default in it."""
    yield from (DiffEdit(), DiffEdit(start="noise"), EncodeDecode(), SDEdit())
    yield from (DiffEdit(mask=ContrastMask(threshold=Fixed(value))) for value in (0.3, 0.5, 0.7))
    yield from (DiffEdit(mask=ContrastMask(num_noises=n)) for n in (5, 10, 20))
    yield from (DiffEdit(mask=ContrastMask(noise_strength=ratio)) for ratio in (0.3, 0.5, 0.7))
    yield from (DiffEdit(guidance=scale) for scale in (3.0, 5.0, 7.5))


@pytest.mark.slow
def test_a_set_of_ablations_costs_what_differs(tmp_path):
    options = {"benchmark": Pictures(1), "backbone": AnalyticBackbone(8), "steps": 20, "ratios": (0.3, 0.5, 0.7, 0.9)}
    totals = dict.fromkeys(("alone", "parts", "edits"), 0)
    for k, editor in enumerate(list_ablations()):
        ways = {
            "alone": {},
            "parts": {"cache": tmp_path / "parts_cache", "cache_edits": False},
            "edits": {"cache": tmp_path / "edits_cache"},
        }
        for name, way in ways.items():
            made, _ = edit(tmp_path / name / str(k), editor, **way, **options)
            totals[name] += sum(made.values())
        files = [read_files(tmp_path / name / str(k)) for name in ways]
        assert files[0] == files[1] == files[2], editor
    decodings, inversions, maps = 16 * 2 * (6 + 10 + 14 + 18), 14 * 18, 12 * 20 + 10 + 40
    assert totals["alone"] == decodings + inversions + maps
    assert totals["parts"] / totals["alone"] <= 0.85
    assert totals["edits"] / totals["alone"] <= 0.70
