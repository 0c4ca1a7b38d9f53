"""Stages around an editor: samples, ranking, and the batches that they share."""

import json
import time
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers import make_request, same, watch

from baselines.blended_diffusion import BlendedDiffusion
from baselines.blended_latent import BlendedLatent
from baselines.bounds import RoundTrip
from baselines.sdedit import SDEdit
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.queries import Outcome, run_alone, run_together
from diffedit.mask import GivenMask
from diffedit.networks.clip import OpenClip
from diffedit.runs.directory import RunDirectory
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.background import DecoderWeights, Latents, PixelPaste
from diffedit.stages.pipeline import EditPipeline, SampleNoise
from diffedit.stages.rank import ClipRank
from diffedit.types import Custom, CustomBatch, Decode, EditRequest, Embed, Encode, Predict

NOISE, RATIOS, BATCH = RequestNoise(0, "a"), (0.5, 1.0), BatchSizes(predict=8, encode=2, decode=4, embed=2, custom=2)


class Redness:
    """Ranks by the mean of the red channel."""

    networks = ()
    needs_mask = False

    def __call__(self, request, images, masks):
        return images[:, 0].mean((1, 2)).tolist()


def make_masked_request(backbone):
    mask = torch.zeros(1, backbone.resolution, backbone.resolution)
    mask[0, 4:12, 4:12] = 1
    return make_request(backbone, mask=lambda: mask)


def run(method, backbone, request=None, noise=NOISE):
    return run_alone(method(request or make_masked_request(backbone), RATIOS, backbone.schedule(6), noise), backbone)


EDITORS = [BlendedLatent(), SDEdit(eta=0.5), DiffEdit(), DiffEdit(start="noise")]


@pytest.mark.parametrize("editor", EDITORS)
def test_a_sample_is_what_it_is_alone(tiny, editor):
    """The k-th of three samples is the edit by its own noise; the first is the edit without samples."""
    result = run(EditPipeline(editor, rank=Redness(), samples=3), tiny)
    for k, sample in enumerate(result.samples):
        alone = run(editor, tiny, noise=SampleNoise(NOISE, k))
        for one, other in zip(sample.edits, alone.edits, strict=True):
            assert torch.allclose(one.image, other.image, atol=2e-4)  # batches of other sizes
    assert not torch.allclose(result.samples[0].edits[0].image, result.samples[1].edits[0].image, atol=1e-4)
    assert same(run(EditPipeline(editor), tiny).edits, run(editor, tiny).edits)


def test_samples_are_equal_to_the_bit_in_the_engine(tiny):
    """Whatever their number, and whatever they are batched with."""
    schedule = tiny.schedule(6)

    def edit_a(samples, neighbours):
        names = ["a", *neighbours]
        method = EditPipeline(BlendedLatent(), rank=Redness(), samples=samples)
        programs = [
            (name, method(make_masked_request(tiny), RATIOS, schedule, RequestNoise(0, name))) for name in names
        ]
        (first,) = [outcome for outcome in Engine(tiny, BATCH, progress=False).run(programs) if outcome.id == "a"]
        return first.result

    one, four, crowd = edit_a(1, ()), edit_a(4, ()), edit_a(3, ("b", "c"))
    assert same(one.edits, four.samples[0].edits)
    for k in range(3):
        assert same(four.samples[k].edits, crowd.samples[k].edits)


def test_the_best_of_each_ratio_is_marked(tiny):
    result = run(EditPipeline(BlendedLatent(), rank=Redness(), samples=4), tiny)
    for i, edit in enumerate(result.edits):
        reds = [sample.edits[i].image[0].mean().item() for sample in result.samples]
        assert edit.sample == max(range(4), key=reds.__getitem__)
        assert edit.score == pytest.approx(max(reds))
        assert torch.equal(edit.image, result.samples[edit.sample].edits[i].image)
        assert [sample.edits[i].score for sample in result.samples] == pytest.approx(reds)
    assert len({sample.edits[0].score for sample in result.samples}) == 4


def test_without_a_ranking_the_first_is_the_one(tiny):
    assert [edit.sample for edit in run(EditPipeline(BlendedLatent(), samples=3), tiny).edits] == [0, 0]


def test_samples_share_their_queries(tiny):
    """Three samples ask once for encoding and texts, and for all estimates of a level in one query."""
    queries = []

    method = EditPipeline(SDEdit(), samples=3)
    run_alone(watch(method(make_request(tiny), RATIOS, tiny.schedule(6), NOISE), queries.append), tiny)
    kinds = Counter(type(query) for query in queries)
    assert kinds == {Encode: 1, Embed: 1, Predict: 6, Decode: 1, Custom: 2}  # a call ranks each ratio
    assert [len(query.x) for query in queries if isinstance(query, Predict)] == [6] * 3 + [12] * 3
    assert [len(query.latents) for query in queries if isinstance(query, Decode)] == [6]


def test_the_count_of_evaluations_is_that_of_all_samples(tiny):
    method = EditPipeline(BlendedLatent(), samples=3)
    programs = [("a", method(make_masked_request(tiny), RATIOS, tiny.schedule(6), NOISE))]
    (outcome,) = Engine(tiny, BATCH, progress=False).run(programs)
    assert outcome.evaluations == {3: 3 * 2 * 3, 6: 3 * 2 * 6}


def test_programs_of_different_lengths_end_together(analytic):
    def program(k):
        total = 0
        for i in range(k):
            (row,) = yield CustomBatch(double, [10 * k + i])
            total += row
        return total

    def double(backbone, rows):
        return [2 * row for row in rows]

    assert run_alone(run_together([program(k) for k in range(4)]), analytic) == [
        0,
        20,
        2 * (20 + 21),
        2 * (30 + 31 + 32),
    ]


def test_a_failing_sample_ends_the_request_and_closes_the_others(tiny):
    closed = []

    def good():
        try:
            yield Embed(("a",))
            yield Embed(("b",))
        finally:
            closed.append(True)

    def bad():
        yield Embed(("a",))
        raise ValueError("bad sample")

    with pytest.raises(ValueError, match="bad sample"):
        run_alone(run_together([good(), bad()]), tiny)
    assert closed == [True]


def test_equal_samples_are_warned_about(tiny, caplog):
    """DDIM encoding under a given mask draws nothing: all its samples are one picture."""
    run(EditPipeline(DiffEdit(GivenMask()), samples=3), tiny)
    assert "request a: all 3 samples are the same picture" in caplog.text
    caplog.clear()
    run(EditPipeline(BlendedLatent(), samples=3), tiny)
    assert not caplog.text


def test_stages_that_cannot_be_are_refused_before_any_work(tiny, analytic):
    for method, backbone, message in (
        (EditPipeline(SDEdit(), PixelPaste()), tiny, "reconstruct needs a mask, and SDEdit has none"),
        (EditPipeline(RoundTrip(), PixelPaste()), tiny, "RoundTrip has none"),
        (EditPipeline(BlendedLatent(), DecoderWeights()), analytic, "AnalyticBackbone has no decoder to fit"),
        (EditPipeline(SDEdit(), rank=ClipRank(OpenClip()), samples=2), tiny, "rank.region=whole"),
    ):
        with pytest.raises(ValueError, match=message):
            method.check(backbone)
    EditPipeline(SDEdit(GivenMask()), PixelPaste(), ClipRank(OpenClip()), 2).check(tiny)


def test_the_weights_of_the_ranking_are_part_of_a_run():
    clip = OpenClip()
    assert EditPipeline(BlendedLatent(), rank=ClipRank(clip), samples=2).networks == {"rank": clip.hash}
    assert EditPipeline(BlendedLatent(), rank=ClipRank(clip)).networks == {}
    assert EditPipeline(BlendedDiffusion(clip)).networks == {"editor": clip.hash}


def test_samples_are_fitted_in_one_batch(tiny):
    sizes = []

    class Watched(Latents):
        def fit(self, backbone, targets):
            sizes.append(len(targets))
            return super().fit(backbone, targets)

    run(EditPipeline(BlendedLatent(), Watched(steps=2), samples=3), tiny)
    assert sizes == [6]


def test_the_time_of_a_stage_is_that_of_its_request(tiny):
    class Slow(PixelPaste):
        def __call__(self, request, result):
            time.sleep(0.3 if request.id == "slow" else 0)
            return (yield from super().__call__(request, result))

    method, schedule = EditPipeline(BlendedLatent(), Slow()), tiny.schedule(4)
    programs = [(name, method(make_masked_request(tiny), [0.5], schedule, NOISE)) for name in ("a", "slow")]
    programs[1] = ("slow", method(replace(make_masked_request(tiny), id="slow"), [0.5], schedule, NOISE))
    seconds = {out.id: out.seconds for out in Engine(tiny, BATCH, progress=False).run(programs)}
    assert seconds["slow"] > seconds["a"] + 0.25


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="samples = 0"):
        EditPipeline(SDEdit(), samples=0)


# --------------------------------------------------------------------------------------------------------------- record


def test_all_samples_are_in_the_record_and_the_best_is_marked(tiny, tmp_path):
    result = run(EditPipeline(DiffEdit(), rank=Redness(), samples=3), tiny)
    request, ratios = make_masked_request(tiny), list(RATIOS)
    directory = RunDirectory(tmp_path, {"ratios": ratios, "seed": 0})
    assert [pending.id for pending in directory.find_pending([request])] == ["a"]
    directory.write_outcome(request, Outcome("a", result, None, Counter({3: 1, 6: 1}), 1.0))
    table = directory.close()
    record = json.loads((tmp_path / "records/a.json").read_text())
    assert len(record["samples"]) == 6
    files = {(sample["variant"], sample["sample"]): sample for sample in record["samples"]}
    for edit, best_record in zip(result.edits, record["edits"], strict=True):
        same_variant = [sample for sample in record["samples"] if sample["variant"] == str(edit.variant)]
        marked = [sample["sample"] for sample in same_variant if sample["best"]]
        assert marked == [edit.sample] == [best_record["sample"]]
        best = files[str(edit.variant), edit.sample]
        assert best["sha256"] == best_record["sha256"]
        assert (tmp_path / best["file"]).read_bytes() == (tmp_path / best_record["file"]).read_bytes()
        assert best_record["mask"] == best["mask"] == f"samples/{edit.sample}/masks/a.png"
    assert len({sample["sha256"] for sample in record["samples"]}) == 6
    assert list(table.score) == pytest.approx([edit.score for edit in result.edits])
    assert pd.read_parquet(tmp_path / "manifest.parquet").shape == table.shape

    again = RunDirectory(tmp_path, {"ratios": ratios, "seed": 0})
    assert list(again.find_pending([request])) == []
    for key in ("file", "mask"):
        path = tmp_path / record["samples"][4][key]
        data = path.read_bytes()
        path.unlink()
        assert [pending.id for pending in again.find_pending([request])] == [
            "a"
        ]  # a sample is missing: it is not whole
        path.write_bytes(data)
    again.close()


# ----------------------------------------------------------------------------------------------------------------- CLIP


@pytest.fixture(scope="module")
def clip():
    return OpenClip()


def test_the_ranking_is_open_clips_cosine_under_the_mask(clip):
    """Black outside; the order is that of the texts they show."""
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    masks[:, :, 16:48, 16:48] = True
    request = EditRequest("a", lambda: images[0], "a bowl of apples")
    scores = ClipRank(clip)(request, images, masks)
    with torch.no_grad():
        expected = clip.images(images * masks) @ clip.texts(["a bowl of apples"])[0]
    assert scores == pytest.approx(expected.tolist(), abs=1e-6)
    assert ClipRank(clip, "whole")(request, images, None) != scores
    with pytest.raises(ValueError, match=r"request a: rank.region=mask"):
        ClipRank(clip)(request, images, None)


def test_a_text_longer_than_clip_reads_is_warned_about(clip, caplog):
    clip.texts(["a bowl of apples"])
    assert not caplog.text
    clip.texts(["a bowl of apples " * 30])
    assert "the end of this text is cut" in caplog.text


def test_clip_ranks_renders_by_what_they_show(clip):
    from eval.stilllife.benchmarks import StillLifeScenes

    requests = list(StillLifeScenes(8, attributes=("fruits",)).requests(64))
    right = 0
    for request in requests:
        images = torch.stack([request.image(), request.true_edit()])
        scores = ClipRank(clip, "whole")(request, images, None)
        right += scores[1] > scores[0]
    assert right == 8


# ---------------------------------------------------------------------------------------------------------- composition


def test_any_editor_with_a_mask_can_be_reconstructed(tiny):
    for editor in EDITORS:
        request = make_masked_request(tiny)
        if isinstance(editor, SDEdit):
            with pytest.raises(ValueError, match="request a: reconstruct needs a mask"):
                run(EditPipeline(editor, PixelPaste()), tiny, request)
            continue
        result = run(EditPipeline(editor, PixelPaste(), samples=2), tiny, request)
        for sample in result.samples:
            outside = ~(sample.pixel_mask if sample.pixel_mask is not None else enlarge(sample.mask))
            for edit in sample.edits:
                assert torch.equal(edit.image[:, outside[0]], request.image()[:, outside[0]])
    with pytest.raises(ValueError, match="reconstruct needs a mask"):
        run(EditPipeline(RoundTrip(), PixelPaste()), tiny)


def enlarge(mask):
    return torch.nn.functional.interpolate(mask.float(), (32, 32))[0] > 0
