"""Precision inside the mask, and diversity of what is precise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eval.metrics.background import BackgroundError
from eval.scoring.batch import Batch
from eval.scoring.metric import MetricContext
from eval.stilllife.benchmarks import StillLifeClasses, StillLifeRandomMasks, StillLifeScenes
from eval.stilllife.metrics import LocalPrecision
from eval.stilllife.render import render


@pytest.fixture(scope="module")
def metric():
    return LocalPrecision(device="cpu")


@pytest.fixture(scope="module")
def classes():
    """(requests, inputs, perfect edits) of 12 edits of fruit."""
    requests = list(StillLifeClasses(per_class=1).requests(64))
    inputs = torch.stack([request.image() for request in requests])
    return requests, inputs, torch.stack([request.true_edit() for request in requests])


def batch(classes, edits, samples=None, masks=None):
    requests, inputs, _ = classes
    if masks is not None:
        requests = [replace(request, mask=lambda i=i: masks[i]) for i, request in enumerate(requests)]
    best = torch.tensor([[0.0, 1.0, 0.0]]).expand(len(requests), 3)
    return Batch(
        requests, inputs, edits, None, "stilllife", samples=None if samples is None else lambda: (samples, best)
    )


def test_perfect_edits_are_seen_and_inputs_are_not(metric, classes):
    _, inputs, perfect = classes
    assert metric.per_image(batch(classes, perfect))["precision"].mean() > 0.9
    assert metric.per_image(batch(classes, inputs))["precision"].sum() == 0


def test_only_the_inside_can_earn_it(metric, classes):
    """A perfect edit under masks that miss the fruit is not seen; wrong pixels outside do not matter."""
    _, _, perfect = classes
    corner = torch.zeros(12, 1, 64, 64)
    corner[:, :, :6, :6] = 1
    assert metric.per_image(batch(classes, perfect, masks=corner))["precision"].sum() == 0
    inside = torch.stack([request.mask() for request in classes[0]]) > 0.5
    spoilt = torch.where(inside, perfect, torch.rand(perfect.shape, generator=torch.Generator().manual_seed(0)))
    values = [metric.per_image(batch(classes, edits))["precision"] for edits in (perfect, spoilt)]
    assert torch.equal(*values)


def test_samples_best_and_diversity_by_hand(metric, classes):
    """Three samples: perfect, perfect but dimmed, the input; the second is the best."""
    _, inputs, perfect = classes
    dimmed = perfect * 0.97
    values = metric.per_image(batch(classes, dimmed, torch.stack([perfect, dimmed, inputs], 1)))
    inside = torch.stack([request.mask() for request in classes[0]]) > 0.5
    composites = [torch.where(inside, edits, inputs) for edits in (perfect, dimmed)]
    right = [metric.per_image(batch(classes, edits))["precision"] for edits in (perfect, dimmed)]
    assert torch.allclose(values["precision"], (right[0] + right[1]) / 3)
    assert torch.equal(values["precision_best"], right[1])
    both = (right[0] * right[1]).bool()
    assert both.sum() >= 10
    assert torch.equal(values["pairs"][:, 1], both.float())
    with torch.no_grad():
        expected = metric.distance(*composites)[both]
    assert torch.allclose(values["pairs"][both, 0], expected, atol=1e-5)
    scores = metric.aggregate({name: column.numpy() for name, column in values.items()}, MetricContext(classes[0]))
    assert scores["diversity"].value == pytest.approx(expected.mean().item(), rel=1e-4)
    assert scores["precision_best"].value == pytest.approx(right[1].mean().item())


def test_without_a_correct_pair_there_is_no_diversity(metric, classes):
    values = {name: column.numpy() for name, column in metric.per_image(batch(classes, classes[2])).items()}
    assert np.isnan(metric.aggregate(values, MetricContext(classes[0]))["diversity"].value)


def test_where_it_is_not_defined(metric, classes):
    requests, inputs, perfect = classes
    bare = Batch([replace(request, mask=None) for request in requests], inputs, perfect, None, "stilllife")
    assert metric.undefined_reason(bare) == "the benchmark has no given masks"
    assert "no given masks" in BackgroundError(metric.network).undefined_reason(bare)
    unknown = [replace(request, ground_truth=None) for request in requests]
    assert "only edits of fruit" in metric.undefined_reason(Batch(unknown, inputs, perfect, None))
    mixed = Batch(list(StillLifeScenes(size=4).requests(64)), inputs[:4], perfect[:4], None, "stilllife")
    assert "only edits of fruit" in metric.undefined_reason(mixed)


def test_under_a_random_mask_only_the_new_kind_is_asked_for(metric):
    """What stood there before may stay in view outside the mask."""
    requests = list(StillLifeRandomMasks(per_class=1).requests(64))
    before = torch.stack([request.image() for request in requests])
    renders = [render(request.ground_truth.after).image for request in requests]
    after = torch.stack([torch.from_numpy(image).permute(2, 0, 1) / 255 for image in renders])
    requests = [replace(request, mask=lambda: torch.ones(1, 64, 64)) for request in requests]
    assert metric.per_image(Batch(requests, before, after, None, "stilllife"))["precision"].mean() > 0.9
    assert metric.per_image(Batch(requests, before, before, None, "stilllife"))["precision"].sum() == 0
