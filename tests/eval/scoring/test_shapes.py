"""Scores, sheets and pages of runs whose pictures are not square."""

import csv
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import edit_benchmark
from PIL import Image

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.io.images import Resize, to_pil
from diffedit.mask import ContrastMask
from diffedit.networks.clip import OpenClip
from diffedit.testing import TinyPipeline
from diffedit.types import UNEDITED
from eval.benchmarks.folder import FolderBenchmark
from eval.metrics.accuracy import EditAccuracy
from eval.metrics.background import BackgroundError
from eval.metrics.clip import ClipInside, ClipScore
from eval.metrics.cost import Cost
from eval.metrics.dino_structure import StructureDistance
from eval.metrics.functional.frechet import Fid
from eval.metrics.ground_truth import CounterfactualError, MaskCeiling, MaskIou
from eval.metrics.lpips import Lpips
from eval.metrics.set_distance import SetDistance
from eval.reporting.contact_sheet import GAP, draw_run_sheet
from eval.reporting.report.site import PageSettings, write_report
from eval.scoring.features import to_uint8
from eval.scoring.finished_run import FinishedRun
from eval.scoring.score import Settings, score
from eval.stilllife.benchmarks import StillLifeScenes, StillLifeWide
from eval.stilllife.metrics import LocalPrecision
from eval.stilllife.network import StillLifeExtractor, StillLifeTokens, load
from eval.stilllife.train.features import FeaturesPart

SIZES = [(64, 64), (96, 64), (64, 128)]
EDITOR = DiffEdit(mask=ContrastMask(num_noises=2))
COUNT = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Networks with random weights, a table of still lifes of three shapes in turn, and a run of it."""
    folder = tmp_path_factory.mktemp("shapes")
    FeaturesPart(channels=(8, 8, 16, 16), validation=2, seed=0, whitening=32).export(folder / "features")
    TinyPipeline(latent=16, tokens=77).write(folder / "tiny")
    rows = [["image", "target", "source", "mask", "id"]]
    for i in range(COUNT):
        width, height = SIZES[i % 3]
        request = list(StillLifeWide(size=COUNT, width=width, height=height).requests(64))[i]
        to_pil(request.image()).save(folder / f"{i}.png")
        to_pil(request.mask()).save(folder / f"m{i}.png")
        rows.append([f"{i}.png", request.target, request.source, f"m{i}.png", f"{i}"])
    with (folder / "edits.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    benchmark = FolderBenchmark(path=str(folder / "edits.csv"), domain="stilllife", resize=Resize("keep"))
    edit_benchmark(folder / "runs/folder/tiny/diffedit/mixed", benchmark, EDITOR, load_tiny(folder), [0.5], 2)
    return folder


def load_tiny(folder):
    return StableDiffusion.from_pretrained(str(folder / "tiny"), device="cpu")


@pytest.fixture(scope="module")
def metrics(folder):
    weights = str(folder / "features")
    network = load(weights, "cpu")
    return {
        "lpips": Lpips(network),
        "background": BackgroundError(network),
        "structure": StructureDistance(StillLifeTokens(weights, "cpu")),
        "mask_iou": MaskIou(),
        "mask_ceiling": MaskCeiling(),
        "cost": Cost(),
        "clip_score": ClipScore(OpenClip(device="cpu")),
        "clip_inside": ClipInside(OpenClip(device="cpu")),
        "precision": LocalPrecision(weights, "cpu"),
    }


def read_values(root, name):
    table = pd.read_parquet(root / f"scores/{name}.parquet")
    return table[table.variant != str(UNEDITED)].set_index("id")


@pytest.fixture(scope="module")
def mixed(folder, metrics):
    """The run, scored."""
    root = folder / "runs/folder/tiny/diffedit/mixed"
    score(root, metrics, Settings(folder / "cache", resamples=50))
    return root


def test_each_picture_has_the_values_that_it_has_alone(folder, metrics, mixed):
    """In the order of the requests, by every metric; one batch a picture says the same."""
    pictures = {name: metric for name, metric in metrics.items() if name not in ("clip_score", "precision", "cost")}
    before = {name: read_values(mixed, name) for name in pictures}
    score(mixed, pictures, Settings(folder / "cache", resamples=51, batch=1))
    for name, table in before.items():
        assert list(table.index) == [str(i) for i in range(COUNT)]
        columns = [column for column in table if table[column].dtype.kind == "f"]
        after = read_values(mixed, name)[columns]
        np.testing.assert_allclose(table[columns].astype(float), after.astype(float), atol=1e-5)
    assert len({len(read_values(mixed, name)) for name in metrics if name != "precision"}) == 1


def test_values_are_those_of_the_whole_pictures(folder, metrics, mixed):
    """Of the background by hand, and of the latent grid that each shape has."""
    errors, ceilings = read_values(mixed, "background"), read_values(mixed, "mask_ceiling")
    for i in range(COUNT):
        one, other, mask = (
            np.asarray(Image.open(path), dtype=float) / 255
            for path in (folder / f"{i}.png", mixed / f"images/0.5/{i}.png", folder / f"m{i}.png")
        )
        assert one.shape == other.shape == (*SIZES[i % 3][::-1], 3)
        square = ((one - other) ** 2).mean(2)[mask < 0.5].mean() * 1000
        assert errors.mse_outside[str(i)] == pytest.approx(square, rel=1e-4)
        assert np.load(mixed / f"maps/{i}.npy").shape == tuple(side // 4 for side in SIZES[i % 3][::-1])
        assert ceilings.true_area[str(i)] == pytest.approx((mask > 0.5).mean(), abs=1e-6)
        assert ceilings.mask_ceiling[str(i)] > 0.5


def read_reason(root, name):
    return json.loads((root / f"scores/{name}.json").read_text())["undefined"]


def test_what_takes_squares_alone_says_so(mixed):
    assert read_reason(mixed, "precision").startswith("only edits of fruit")  # a table says nothing of what is there
    with pytest.raises(ValueError, match=r"resolution = 32: .* not square, .*resolution=null"):
        FinishedRun(mixed, 32)


def test_the_inputs_and_texts_have_their_features(folder, mixed):
    """A network that resizes by itself takes pictures of any shape; the file's own, not a square of it."""
    run = FinishedRun(mixed)
    assert (run.edit_resolution, run.resolution) == (64, 64)
    extractor = StillLifeExtractor(str(folder / "features"), device="cpu")
    for request, size in zip(run.requests, SIZES * 3, strict=False):
        picture = to_uint8(request.image())
        assert picture.shape[1:] == size[::-1]
        top, left = (picture.shape[1] - 64) // 2, (picture.shape[2] - 64) // 2
        square = picture[:, top : top + 64, left : left + 64]
        assert torch.equal(extractor.prepare(picture), extractor.prepare(square))
    with pytest.raises(ValueError, match=r"64 x 64, not \(48, 96\)"):
        extractor.prepare(torch.zeros(3, 48, 96, dtype=torch.uint8))


def test_sheets_and_pages_show_them_whole(folder, mixed):
    sheet = draw_run_sheet([FinishedRun(mixed)], COUNT)
    assert sheet.width == GAP + 4 * (128 + GAP)
    page = write_report(folder / "report", [mixed], PageSettings(threads=1, resamples=50))
    assert page.problems == []
    found = re.fullmatch(r"Report\.receive\([^,]+,(.*)\);\n", (folder / "report/data/index.js").read_text(), re.DOTALL)
    (shown,) = json.loads(found[1])["sets"]
    assert shown["is_square"] is False
    side = shown["tiles"]["side"]
    with Image.open(folder / "report/tiles/set0" / shown["sprites"][1]) as sprite:
        tile = np.asarray(sprite.convert("RGB").crop((0, 0, side, side)))
    assert tile[0].min() > 245  # white above a wide picture, and the picture below
    assert tile[side // 2].min() < 245


def test_wide_still_lifes_are_measured_whole_and_judged_in_their_middle(folder):
    """The exact answer is right by all that knows it; and its middle is the answer of the squares."""
    weights = str(folder / "features")
    benchmark = StillLifeWide(size=4, width=96)
    root = edit_benchmark(folder / "runs/wide/tiny/diffedit/a", benchmark, EDITOR, load_tiny(folder), [0.5], 2)
    extractor = StillLifeExtractor(weights, "logits", "cpu")
    named = {
        "accuracy": EditAccuracy(extractor),
        "counterfactual": CounterfactualError(load(weights, "cpu")),
        "mask_iou": MaskIou(),
        "fid": SetDistance(Fid(), StillLifeExtractor(weights, device="cpu"), 16),
    }
    asked = named | {"precision": LocalPrecision(weights, "cpu")}
    assert score(root, asked, Settings(folder / "cache", resamples=50)) == list(asked)
    assert read_reason(root, "precision") == (
        "the network judges 64 x 64 pixels, and these pictures are not square (accuracy takes their middle)"
    )
    run = FinishedRun(root)
    assert [request.image().shape for request in run.requests] == [(3, 64, 96)] * 4
    squares = list(StillLifeScenes(size=4).requests(64))
    for request, square in zip(run.requests, squares, strict=True):
        assert torch.equal(extractor.prepare(to_uint8(request.true_edit())), to_uint8(square.true_edit()) / 255)
    assert len(read_values(root, "counterfactual")) == 4
