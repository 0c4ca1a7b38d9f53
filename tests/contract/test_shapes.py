"""Contract: pictures that are not square, from the file to the score, equal to the bit whatever is beside them."""

import csv
import hashlib
import itertools
import logging
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import composed, same
from hydra.utils import instantiate
from PIL import Image

import diffedit
from baselines.blended_latent import BlendedLatent
from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.backbones.dit import DiT
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import MOST_SHAPES, PATIENCE, BatchSizes, Engine
from diffedit.io.images import Resize, encode_png
from diffedit.mask import ContrastMask, GivenMask
from diffedit.runs.cut import Share
from diffedit.runs.earlier import is_of_same_networks
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.runs.plan import plan_benchmark
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.background import Latents, PixelPaste, Poisson
from diffedit.stages.pipeline import EditPipeline
from diffedit.testing import TinyDiT
from diffedit.types import EditRequest, Prediction
from eval.benchmarks.folder import FolderBenchmark

# Of the files (width, height), and what becomes of them at a resolution of 32 and a grain of 8.
SIZES = {(32, 32): (32, 32), (50, 32): (48, 32), (64, 96): (32, 48), (70, 35): (64, 32), (32, 64): (32, 64)}
SIZES |= {(99, 80): (40, 32)}
COUNT = 24
BATCH = BatchSizes(predict=4, encode=2, decode=2, embed=2, custom=2)
RATIOS, STEPS = (0.5, 1.0), 4
SETTINGS = RunSettings(RATIOS, STEPS, batch=BATCH, progress=False)
KEEP = Resize("keep")
GIVEN = GivenMask()
PIPELINES = {
    "diffedit": EditPipeline(DiffEdit(mask=ContrastMask(num_noises=2)), PixelPaste()),
    "sdedit": EditPipeline(SDEdit(mask=GIVEN, eta=0.5), Latents(steps=2), samples=2),
    "blended_latent": EditPipeline(BlendedLatent(mask=GIVEN), Poisson()),
}


def find_size(i):
    return list(SIZES)[i % len(SIZES)]


def write_table(folder, numbers=range(COUNT)):
    """A table of pictures of noise with a given mask each, the shapes in turn; returns its path."""
    folder.mkdir(exist_ok=True)
    rows = []
    for i in numbers:
        (width, height), draw = find_size(i), np.random.default_rng(i)
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 :, width // 3 :] = 255
        Image.fromarray(mask).save(folder / f"m{i}.png")
        rows.append([f"{i}.png", "a pear", "an apple", f"m{i}.png", str(i)])
    with (folder / "edits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "target", "source", "mask", "id"], *rows])
    return str(folder / "edits.csv")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("pictures"))


def edit(root, table, tiny, pipeline, resize=KEEP, settings=SETTINGS):
    """A run; returns its manifest and what its log says."""
    lines, log, handler = [], logging.getLogger("run"), logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        made = run_benchmark(FolderBenchmark(path=table, resize=resize), pipeline, tiny, root, settings)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return made, lines


@pytest.fixture(scope="module")
def runs(table, tiny, tmp_path_factory):
    """Of each method: the directory, the manifest, the log."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: (folder / name, *edit(folder / name, table, tiny, one)) for name, one in PIPELINES.items()}


def read_hashes(manifest):
    return dict(zip(zip(manifest.id, manifest.variant, strict=True), manifest.sha256, strict=True))


@pytest.mark.parametrize("method", PIPELINES)
def test_all_are_edited_whole(runs, method):
    root, manifest, lines = runs[method]
    assert len(manifest) == 2 * COUNT
    for row in manifest.itertuples():
        size = find_size(int(row.id))
        assert Image.open(root / row.file).size == SIZES[size]
        assert (row.edited_size, row.original_size) == tuple("{} x {}".format(*one) for one in (SIZES[size], size))
    for i in range(len(SIZES)):
        width, height = SIZES[find_size(i)]
        assert Image.open(root / f"masks/{i}.png").size == (width, height)
        if method == "diffedit":
            assert np.load(root / f"maps/{i}.npy").shape == (height // 4, width // 4)
    said = " ".join(lines)
    assert "24 pictures in 6 shapes: 32 x 32 (4)" in said
    assert "the sides of 8 are rounded to what the model takes, which changes width : height by 4.2% at most" in said


def test_padded_rows_are_counted(runs, tiny, table):
    """By the log, and by the engine of as many programs, which is what the networks were asked for."""
    _, manifest, lines = runs["blended_latent"]
    line = next(line for line in lines if "of them padding" in line)
    requests = manifest.drop_duplicates("id")
    made = int(manifest.evaluations.sum() + requests.shared_evaluations.sum())
    engine = Engine(tiny, BATCH, progress=False)
    assert len(list(engine.run(make_programs(tiny, table, "blended_latent"), COUNT))) == COUNT
    assert engine.rows["predict"] - engine.padding["predict"] == made
    assert f"{engine.rows['predict']} predict, {engine.padding['predict']} of them padding" in line
    assert line.endswith("pictures of 6 shapes")


def make_programs(tiny, table, method, numbers=range(COUNT)):
    """Programs of some of the pictures, in this order."""
    benchmark = FolderBenchmark(path=table, resize=KEEP.fit(tiny.resolution, tiny.grain))
    requests = {request.id: request for request in benchmark.requests(tiny.resolution)}
    schedule = tiny.schedule(STEPS)
    for i in numbers:
        yield str(i), PIPELINES[method](requests[str(i)], RATIOS, schedule, RequestNoise(0, str(i)))


@pytest.mark.parametrize("method", PIPELINES)
def test_equal_to_the_bit_whatever_is_beside(runs, tiny, table, method):
    """One of each shape alone has the files that it has beside all others."""
    expected = read_hashes(runs[method][1])
    for i in range(len(SIZES)):
        (outcome,) = Engine(tiny, BATCH, progress=False).run(make_programs(tiny, table, method, [i]))
        hashes = {
            (str(i), str(edit.variant)): hashlib.sha256(encode_png(edit.image)).hexdigest()
            for edit in outcome.result.edits
        }
        assert hashes == {key: value for key, value in expected.items() if key[0] == str(i)}


def test_equal_to_the_last_bit_of_a_float(tiny, table):
    """In other windows and orders."""

    def run(numbers, **settings):
        programs = make_programs(tiny, table, "blended_latent", numbers)
        return {int(one.id): one.result for one in Engine(tiny, BATCH, progress=False, **settings).run(programs)}

    draw = random.Random(0)
    numbers = draw.sample(range(COUNT), 12)
    one, other = run(numbers), run(draw.sample(numbers, 12), max_live=3)
    assert all(same(one[i].edits, other[i].edits) for i in numbers)


def test_shards_and_other_tables_give_the_same_files(runs, tiny, tmp_path):
    """Of a table in another order without some of its rows, edited in small shards, the last first."""
    _, manifest, _ = runs["blended_latent"]
    numbers = [i for i in reversed(range(COUNT)) if i % 5]
    path = write_table(tmp_path / "pictures", numbers)
    settings = replace(SETTINGS, shard_size=4, share=Share(2, 3), max_live=5)
    made, _ = edit(tmp_path / "run", path, tiny, PIPELINES["blended_latent"], settings=settings)
    expected = read_hashes(manifest)
    assert read_hashes(made) == {key: value for key, value in expected.items() if int(key[0]) in numbers}


def test_a_square_has_the_bits_that_it_has_among_squares(runs, tiny, tmp_path):
    """What `crop` makes of it, which does nothing to a square but scale it."""
    _, manifest, _ = runs["diffedit"]
    squares = [i for i in range(COUNT) if len(set(find_size(i))) == 1]
    path = write_table(tmp_path / "pictures", squares)
    made, lines = edit(tmp_path / "run", path, tiny, PIPELINES["diffedit"], Resize())
    hashes = read_hashes(made)
    assert len(hashes) == 2 * 4
    assert hashes == {key: value for key, value in read_hashes(manifest).items() if int(key[0]) in squares}
    assert "edited_size" not in made
    assert not any("shapes" in line for line in lines)


def test_a_run_goes_on_and_another_shape_is_another_run(runs, table, tiny):
    """The grain stands in its config, so that whoever reads it needs no backbone."""
    root, manifest, _ = runs["blended_latent"]
    again, lines = edit(root, table, tiny, PIPELINES["blended_latent"], Resize("keep", side="shorter", grain=8))
    assert read_hashes(again) == read_hashes(manifest)
    assert not any("evaluations made" in line for line in lines)
    with pytest.raises(ValueError, match=r"benchmark.resize.side: shorter -> longer"):
        edit(root, table, tiny, PIPELINES["blended_latent"], Resize("keep", side="longer"))


def test_a_plan_counts_what_a_run_makes(runs, table, tiny, tmp_path):
    for method, (_, manifest, _) in runs.items():
        benchmark, root = FolderBenchmark(path=table, resize=KEEP), tmp_path / method
        config = {"benchmark": {}, "ratios": list(RATIOS)}
        plan = plan_benchmark(benchmark, PIPELINES[method], tiny, root, SETTINGS, config)
        requests = manifest.drop_duplicates("id")
        made = int(manifest.evaluations.sum() + requests.shared_evaluations.sum())
        assert plan.made.total() == made
        assert plan.seconds > 0


def test_a_run_of_squares_tells_nothing_of_how_fast_others_are():
    """Nor how large their files are."""
    square = {"weights": {"unet": "a"}, "backbone": {}, "benchmark": {"resize": {"policy": "crop", "side": None}}}
    before = {"weights": {"unet": "a"}, "backbone": {}, "benchmark": {"size": 3}}
    kept = square | {"benchmark": {"resize": {"policy": "keep", "side": "shorter"}}}
    longer = square | {"benchmark": {"resize": {"policy": "keep", "side": "longer"}}}
    wide = square | {"benchmark": {"width": 96, "height": 64}}
    assert is_of_same_networks(square, before)
    for one, other in itertools.combinations([square, kept, longer, wide], 2):
        assert not is_of_same_networks(one, other)
        assert is_of_same_networks(one, one)


# --------------------------------------------------------------------------------------------------------- the window


class AnyShape:
    """Pictures of any shape are their own latents, of which little is predicted, quickly; wide ones may be too large.

    Args:
        most: rows of a wide picture that fit into a call.
    """

    def __init__(self, backbone, most=10**9):
        self.backbone, self.most = backbone, most

    def __getattr__(self, name):
        return getattr(self.backbone, name)

    def encode(self, images):
        return images * 2 - 1

    def predict(self, x, levels, conds):
        if x.shape[-1] > 8 and len(x) > self.most:
            raise torch.OutOfMemoryError
        return Prediction(x * 0.5, x)


def run_shapes(backbone, sides, **settings):
    """An engine, and the outcomes of pictures of these widths and a height of 8, in the order in which they end."""
    schedule, programs = backbone.schedule(6), []
    for i, side in enumerate(sides):
        image = torch.rand(3, 8, side, generator=torch.Generator().manual_seed(i))
        request = EditRequest(str(i), lambda image=image: image, "pear", "apple")
        programs.append((str(i), EncodeDecode()(request, (0.5, 1.0), schedule, RequestNoise(0, str(i)))))
    engine = Engine(backbone, BATCH, progress=False, **settings)
    outcomes = {outcome.id: outcome for outcome in engine.run(programs, len(sides))}
    assert all(outcome.error is None for outcome in outcomes.values())
    return engine, outcomes


def test_the_window_has_room_for_every_shape(analytic):
    """Of shapes that come in turn hardly more is padded than of one, up to some number of them."""

    def count(shapes):
        engine, _ = run_shapes(AnyShape(analytic), [8 + 4 * (i % shapes) for i in range(60)])
        assert len(engine.shapes) == shapes
        return engine.padding["predict"] / engine.rows["predict"]

    assert count(1) < 0.02
    assert count(6) < 0.1
    assert count(MOST_SHAPES + 2) < 0.35


def test_a_rare_shape_does_not_wait_for_the_end(analytic):
    """Its shard would stay open for as long."""
    _, outcomes = run_shapes(AnyShape(analytic), [12] + [8] * 159)
    assert list(outcomes).index("0") < 140
    assert PATIENCE * BATCH.count_window() == 128


def test_what_does_not_fit_the_memory_is_halved_for_its_own_shape_alone(analytic):
    sides = [8, 16] * 6
    _, roomy = run_shapes(AnyShape(analytic), sides)
    engine, outcomes = run_shapes(AnyShape(analytic, most=2), sides)
    assert list(engine.limits.values()) == [2]
    for name, outcome in outcomes.items():
        is_wide = sides[int(name)] == 16
        assert outcome.result.metadata == ({"batch_predict": 2} if is_wide else {})
        assert is_wide or same(outcome.result.edits, roomy[name].result.edits)


# ---------------------------------------------------------------------------------------------------------- refusals


def test_who_takes_squares_alone_says_so_before_any_work(table, tmp_path, monkeypatch):
    """The exact model, and one that knows the places of a square."""
    dit = DiT.from_pretrained(str(TinyDiT().write(tmp_path / "dit")), device="cpu")
    for backbone in (AnalyticBackbone(), dit):
        monkeypatch.setattr(type(backbone), "predict", pytest.fail)
        message = rf"{type(backbone).__name__} takes squares of {backbone.resolution} x {backbone.resolution} alone"
        with pytest.raises(ValueError, match=rf"{message}.*resize.policy=crop"):
            edit(tmp_path / "run", table, backbone, PIPELINES["diffedit"])
        with pytest.raises(ValueError, match=message):
            diffedit.edit(backbone, torch.rand(3, 16, 24), "pear", resize="keep")
        assert not (tmp_path / "run").exists()


def test_a_grain_of_ones_own_is_one_of_the_model(tiny):
    assert KEEP.fit(tiny.resolution, tiny.grain) == Resize("keep", side="shorter", grain=8)
    assert Resize("keep", grain=16).fit(32, 8).grain == 16
    for grain in (12, 64):
        with pytest.raises(ValueError, match=rf"resize.grain = {grain}: .* multiples of 8.*is 32"):
            Resize("keep", grain=grain).fit(32, 8)
    with pytest.raises(ValueError, match=r"resize.side = longer: of resize.policy=keep alone"):
        Resize("crop", side="longer")


@pytest.mark.parametrize("benchmark", ["imagenet", "imagenet_pairs", "coco", "pie_bench"])
def test_published_protocols_stay_square(benchmark):
    """Refused before a file is looked for."""
    missing = {"imagenet": ("queries", "images", "classes"), "imagenet_pairs": ("images", "classes", "hierarchy")}
    missing |= {"coco": ("bison", "captions", "images"), "pie_bench": ("path",)}
    words = [f"benchmark.{name}=none" for name in missing[benchmark]]
    cfg = composed(f"benchmark={benchmark}", *words, "benchmark.resize.policy=keep").benchmark
    with pytest.raises(Exception, match=r"is published on squares.*take crop"):
        instantiate(cfg, _convert_="all")
