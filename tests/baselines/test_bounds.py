"""What bounds a table: another real picture of the target in place of the edit."""

import pytest
import torch

from baselines.bounds import Retrieve
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.engine.queries import run_alone
from diffedit.sampling.noise import RequestNoise
from diffedit.types import EditRequest
from eval.metrics.accuracy import EditAccuracy
from eval.scoring.batch import Batch
from eval.stilllife.benchmarks import StillLifeClasses, StillLifeRandomMasks, StillLifeScenes
from eval.stilllife.network import StillLifeExtractor
from eval.stilllife.scene import FRUITS


def retrieve(request):
    """What the bound makes of a request."""
    backbone = AnalyticBackbone(resolution=64)
    program = Retrieve()(request, [0.5, 1.0], backbone.schedule(4), RequestNoise(0, request.id))
    edits = run_alone(program, backbone).edits
    assert [edit.variant.strength for edit in edits] == [0.5, 1.0]
    assert torch.equal(edits[0].image, edits[1].image)
    return edits[0].image


@pytest.mark.parametrize("benchmark", [StillLifeClasses(per_class=1), StillLifeRandomMasks(per_class=1)])
def test_what_is_retrieved_is_of_the_target_class_and_another_picture(benchmark):
    """The classifier sees the kind, and no other; it is the same at each call."""
    kinds, network = list(FRUITS), StillLifeExtractor(output="logits", device="cpu")
    for request, again in zip(benchmark.requests(64), type(benchmark)(per_class=1).requests(64), strict=True):
        picture = retrieve(request)
        assert torch.equal(picture, again.retrieved())
        assert not torch.equal(picture, request.image())
        logits = network((picture[None] * 255).round().to(torch.uint8))[0, : len(kinds)]
        assert [kind for kind, logit in zip(kinds, logits, strict=True) if logit > 0] == [request.label]


def test_a_retrieved_scene_has_what_its_caption_says_elsewhere():
    requests = list(StillLifeScenes(size=8).requests(64))
    edits = torch.stack([retrieve(request) for request in requests])
    logits = StillLifeExtractor(output="logits", device="cpu")((edits * 255).round().to(torch.uint8))
    batch = Batch(requests, None, edits, None, "stilllife", kept=lambda *_: logits)
    values = EditAccuracy(StillLifeExtractor(output="logits", device="cpu")).per_image(batch)
    assert values["accuracy"].mean() == values["kept"].mean() == 1
    for request, edit in zip(requests, edits, strict=True):
        outside = request.true_mask() == 0
        assert ((edit - request.image()).abs() * outside).mean() > 0.02  # nothing is kept


def test_no_retrieved_picture_is_an_input_or_in_a_reference():
    seeds = [truth.before.seed for benchmark in (StillLifeScenes(), StillLifeClasses(), StillLifeRandomMasks())
             for _, truth in benchmark.ground_truths()]  # fmt: skip
    others = {request.retrieved.args[0].seed for benchmark in (StillLifeScenes(), StillLifeClasses(),
              StillLifeRandomMasks()) for request in benchmark.requests(64)}  # fmt: skip
    assert len(others) == len(seeds) == len(set(seeds))
    assert not others & set(seeds)
    assert min(others) >= 2 * 10**8  # the test split; references are of the others


def test_a_request_without_another_picture_is_refused_by_name():
    with pytest.raises(ValueError, match="request a: the benchmark has no other picture of what its target says"):
        retrieve(EditRequest("a", lambda: torch.zeros(3, 64, 64), "pears"))
