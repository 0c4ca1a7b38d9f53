"""Precision inside the mask, diversity, background error, cost; strokes; published rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from scipy.ndimage import binary_dilation, binary_erosion

from eval.metrics.background import BackgroundError
from eval.metrics.cost import Cost
from eval.reporting.tables import published, terminal
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Bootstrap, estimate_ratio
from eval.scoring.metric import MetricContext
from eval.stilllife.benchmarks import StillLifeClasses, StillLifeRandomMasks, StillLifeScenes, StillLifeStrokes, draw_stroke
from eval.stilllife.metrics import LocalPrecision
from eval.stilllife.render import render


@pytest.fixture(scope="module")
def metric():
    return LocalPrecision(device="cpu")


@pytest.fixture(scope="module")
def classes():
    """(requests, truths, inputs, perfect edits) of 12 edits of fruit."""
    benchmark = StillLifeClasses(per_class=1)
    asks, truths = list(benchmark.requests(64)), dict(benchmark.ground_truths())
    pictures = (
        torch.stack([call() for call in calls])
        for calls in ([ask.image for ask in asks], [ask.true_edit for ask in asks])
    )
    return asks, [truths[ask.id] for ask in asks], *pictures


def batch(classes, edits, samples=None, masks=None):
    asks, truths, inputs, _ = classes
    if masks is not None:
        asks = [replace(ask, mask=lambda masks=masks, i=i: masks[i]) for i, ask in enumerate(asks)]
    best = torch.tensor([[0.0, 1.0, 0.0]]).expand(len(asks), 3)
    return Batch(asks, inputs, edits, None, truths, samples=None if samples is None else lambda: (samples, best))


def test_perfect_edits_are_seen_and_inputs_are_not(metric, classes):
    *_, inputs, perfect = classes
    assert metric.per_image(batch(classes, perfect))["precision"].mean() > 0.9
    assert metric.per_image(batch(classes, inputs))["precision"].sum() == 0


def test_only_the_inside_can_earn_it(metric, classes):
    """A perfect edit under masks that miss the fruit is not seen; wrong pixels outside do not matter."""
    *_, perfect = classes
    corner = torch.zeros(12, 1, 64, 64)
    corner[:, :, :6, :6] = 1
    assert metric.per_image(batch(classes, perfect, masks=corner))["precision"].sum() == 0
    inside = torch.stack([ask.mask() for ask in classes[0]]) > 0.5
    spoilt = torch.where(inside, perfect, torch.rand(perfect.shape, generator=torch.Generator().manual_seed(0)))
    facts = [metric.per_image(batch(classes, edits))["precision"] for edits in (perfect, spoilt)]
    assert torch.equal(*facts)


def test_samples_best_and_diversity_by_hand(metric, classes):
    """Three samples: perfect, perfect but dimmed, the input; the second is the best."""
    *_, inputs, perfect = classes
    dimmed = perfect * 0.97
    facts = metric.per_image(batch(classes, dimmed, torch.stack([perfect, dimmed, inputs], 1)))
    inside = torch.stack([ask.mask() for ask in classes[0]]) > 0.5
    shown = [torch.where(inside, each, inputs) for each in (perfect, dimmed)]
    right = [metric.per_image(batch(classes, each))["precision"] for each in (perfect, dimmed)]
    assert torch.allclose(facts["precision"], (right[0] + right[1]) / 3)
    assert torch.equal(facts["precision_best"], right[1])
    both = (right[0] * right[1]).bool()
    assert both.sum() >= 10
    assert torch.equal(facts["pairs"][:, 1], both.float())
    with torch.no_grad():
        expected = metric.distance(shown[0], shown[1])[both]
    assert torch.allclose(facts["pairs"][both, 0], expected, atol=1e-5)
    asks = classes[0]
    found = metric.aggregate({name: each.numpy() for name, each in facts.items()}, MetricContext(asks))
    assert found["diversity"].value == pytest.approx(expected.mean().item(), rel=1e-4)
    assert found["precision_best"].value == pytest.approx(right[1].mean().item())


def test_without_a_correct_pair_there_is_no_diversity(metric, classes):
    facts = {name: each.numpy() for name, each in metric.per_image(batch(classes, classes[2])).items()}
    assert np.isnan(metric.aggregate(facts, MetricContext(classes[0]))["diversity"].value)


def test_where_it_is_not_defined(metric, classes):
    asks, truths, inputs, perfect = classes
    bare = [replace(ask, mask=None) for ask in asks]
    assert metric.undefined_reason(Batch(bare, inputs, perfect, None, truths)) == "the benchmark has no given masks"
    assert "no given masks" in BackgroundError(metric.judge).undefined_reason(
        Batch(bare, inputs, perfect, None, truths)
    )
    assert "only edits of fruit" in metric.undefined_reason(Batch(asks, inputs, perfect, None, None))
    scenes = StillLifeScenes(4)
    mixed = Batch(list(scenes.requests(64)), inputs[:4], perfect[:4], None, [truth for _, truth in scenes.ground_truths()])
    assert "only edits of fruit" in metric.undefined_reason(mixed)


def test_cost_is_what_the_record_says():
    record = {
        "seconds": 2.5,
        "shared_evaluations": 20,
        "edits": [{"ratio": r, "evaluations": e} for r, e in ((0.5, 8), (1.0, 16))],
    }
    pictures = torch.zeros(1, 3, 4, 4)
    found = Cost().per_image(Batch([], pictures, pictures, None, records=[record], ratio=1.0))
    assert (found["seconds"].item(), found["evaluations"].item()) == (2.5, 36)


def test_the_ratio_of_sums_and_its_interval():
    """The interval is that of resampling images, and widens with fewer of them."""
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 5, 400).astype(float)
    sums = counts * draw.normal(1.0, 0.3, 400)
    found = Bootstrap(400).figure(estimate_ratio(sums, counts))
    assert found.value == pytest.approx(sums.sum() / counts.sum())
    picks = draw.integers(0, 400, (2000, 400))
    low, high = np.quantile(sums[picks].sum(1) / counts[picks].sum(1), (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


# -------------------------------------------------------------------------------------------------------------- strokes


def test_strokes_are_thin_and_on_the_fruit():
    """1, 2 and 3 pixels in turn; within a pixel of the exact mask; thinner than a latent place of 4."""
    benchmark = StillLifeStrokes(per_class=3)
    asks, plain = list(benchmark.requests(64)), list(StillLifeClasses(per_class=3).requests(64))
    truths = dict(StillLifeClasses(per_class=3).ground_truths())
    assert len(asks) == len(benchmark) == 36
    for i, (ask, other) in enumerate(zip(asks, plain, strict=True)):
        width = i % 3 + 1
        assert ask.id == f"{other.id}-w{width}"
        thin, exact = (each()[0].numpy() > 0.5 for each in (ask.mask, ask.true_mask))
        assert np.array_equal(exact, other.mask()[0].numpy() > 0.5)
        assert 0 < thin.sum() < (0.45 if width == 1 else 0.8) * exact.sum()
        assert thin.sum() >= 4
        line = draw_stroke(truths[other.id], 1, 64)[0].numpy() > 0.5
        assert np.array_equal(thin, binary_dilation(line, np.ones((width, width))) if width > 1 else line)
        assert binary_erosion(line, np.ones((2, 2))).sum() < 0.2 * line.sum()  # one pixel wide, but for joints
        near = torch.nn.functional.max_pool2d(torch.from_numpy(exact).float()[None], 3, 1, 1)[0].numpy() > 0
        assert (thin & ~near).sum() == 0
    with pytest.raises(ValueError, match="widths = .*at least 1 item"):
        StillLifeStrokes(widths=())


def test_random_masks_are_where_they_may_be():
    """Within the frame, of the size said, not all alike; the wanted kind is not in the picture."""
    benchmark = StillLifeRandomMasks(per_class=2)
    asks, truths = list(benchmark.requests(64)), dict(benchmark.ground_truths())
    assert len(asks) == len(benchmark) == len({ask.id for ask in asks}) == 24
    shares = []
    for ask in asks:
        inside = ask.mask()[0].numpy() > 0.5
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert all(18 <= len(each) <= 40 for each in (rows, columns))
        shares.append(inside.mean())
        assert ask.label not in truths[ask.id].before.fruits
        assert ask.label in truths[ask.id].after.fruits
        assert ask.true_mask is None
    assert 0.07 < min(shares) < 0.15 < max(shares) < 0.31


def test_under_a_random_mask_only_the_new_kind_is_asked_for(metric):
    """What stood there before may stay in view outside the mask."""
    benchmark = StillLifeRandomMasks(per_class=1)
    asks, truths = list(benchmark.requests(64)), [truth for _, truth in benchmark.ground_truths()]
    before = torch.stack([ask.image() for ask in asks])
    after = torch.stack([torch.from_numpy(render(truth.after).image).permute(2, 0, 1) / 255 for truth in truths])
    whole = torch.ones(12, 1, 64, 64)
    asks = [replace(ask, mask=lambda i=i: whole[i]) for i, ask in enumerate(asks)]
    assert metric.per_image(Batch(asks, before, after, None, truths))["precision"].mean() > 0.9
    assert metric.per_image(Batch(asks, before, before, None, truths))["precision"].sum() == 0


# ------------------------------------------------------------------------------------------------------------ published


def scores():
    rows = [("blended_latent", "precision", 0.8), ("blended_latent", "seconds", 1.0)]
    shared = {"benchmark": "b", "backbone": "m", "name": "n", "run": "r", "set": "s", "ratio": 0.75, "n": 4}
    shared |= {"low": 0.5, "high": 1.2}
    return pd.DataFrame([{"editor": e, "metric": m, "value": v, "better": "higher", **shared} for e, m, v in rows])


def shown(table):
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_published_rows_are_marked():
    from diffedit.io.files import resolve_path

    others = published(resolve_path("conf/table/bld.csv"))
    text = shown(terminal(scores(), "title", ["precision", "precision_best", "seconds"], others))
    assert "Blended Latent Diffusion (published)" in text
    line = next(line for line in text.splitlines() if "Blended Latent Diffusion (published)" in line)
    assert "0.287" in line
    assert "0.540" in line
    assert "0.800 ±0.400" in text  # the larger half of the interval
    assert text.index("blended_latent") < text.index("(published)")
    assert "diversity" not in text


def test_a_bad_table_of_published_figures_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"published = .*no.csv: no such file"):
        published(tmp_path / "no.csv")
    (tmp_path / "bad.csv").write_text("method,value\na,1\n")
    with pytest.raises(ValueError, match="no column metric, source"):
        published(tmp_path / "bad.csv")
