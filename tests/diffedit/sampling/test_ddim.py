"""The moves and the editors on the exact model: what must hold for any network."""

import itertools
import math
from dataclasses import replace
from functools import partial
from typing import Literal

import pytest
import torch
from helpers import make_request, same, watch

from baselines.blended_latent import BlendedLatent
from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import Engine
from diffedit.engine.queries import run_alone
from diffedit.io.checks import settings
from diffedit.mask import ContrastMask, Everywhere, GivenMask
from diffedit.sampling.ddim import add_noise, ddim_invert, ddim_sample, ddim_step, predict_guided
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import NoiseSchedule
from diffedit.stages.background import PixelPaste
from diffedit.types import Level, Predict, Prediction, Recall

NOISE = RequestNoise(0, "a")
RATIOS = [0.3, 0.5, 0.8]


@pytest.fixture(scope="module")
def exact():
    """In double precision, so that only the steps' own error is left."""
    return AnalyticBackbone(resolution=8, dtype="float64")


def picture(backbone, name="apple", mode=0):
    """A latent that the model knows, a little off the mean."""
    noise = RequestNoise(0, "picture").randn_like(backbone.means[0], "off", 1)
    return backbone.means[backbone.classes.index(name), mode][None] + backbone.std * noise


def round_trip_error(backbone, schedule, ratio=0.8):
    """Root mean square of D_r(E_r(x0)) - x0, the same condition both ways."""
    cond, top, x0 = backbone.class_weights("apple"), schedule.find_level(ratio), picture(backbone)
    path = run_alone(ddim_invert(x0, schedule, top, cond), backbone)
    back = run_alone(ddim_sample({top: path[top]}, schedule, cond, cond, 1.0), backbone)[top]
    return (back - x0).square().mean().sqrt().item()


def even_levels(steps):
    """alpha = cos, sigma = sin of evenly spaced angles: a schedule that more steps refine everywhere."""
    angles = [1.5 * i / steps for i in range(steps + 1)]
    return NoiseSchedule(tuple(Level(math.cos(angle), math.sin(angle), angle) for angle in angles))


def test_encode_then_decode_returns_x0_at_first_order(exact):
    """The error falls as 1 / N: DDIM is Euler's method on the probability-flow ODE, of order 1."""
    errors = [round_trip_error(exact, even_levels(steps)) for steps in (50, 100, 200, 400)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert errors[-1] < 0.005
    assert orders == pytest.approx([1.0] * 3, abs=0.15)


def test_on_the_models_own_levels_the_error_falls_too(exact):
    """But slower: the step between the clean level and the first training time does not get smaller with N."""
    errors = [round_trip_error(exact, exact.schedule(steps)) for steps in (25, 50, 100, 200)]
    assert all(b < 0.85 * a for a, b in itertools.pairwise(errors))


def test_the_exact_estimate_is_the_score(exact):
    """eps = -sigma * grad log p(x), by autograd of the mixture's density; and x = alpha * x0 + sigma * eps."""
    level, cond = Level(0.8, 0.6, 0), exact.class_weights("pear plum")
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    variance = (level.alpha * exact.std) ** 2 + level.sigma**2
    away = x[0] - level.alpha * exact.means
    log_p = (cond[:, None] - away.square().sum((2, 3, 4)) / (2 * variance)).logsumexp((0, 1))
    (score,) = torch.autograd.grad(log_p, x)
    prediction = exact.predict(x.detach(), [level], [cond])
    torch.testing.assert_close(prediction.eps, -level.sigma * score)
    torch.testing.assert_close(prediction.x0 * level.alpha + prediction.eps * level.sigma, x.detach())


def test_sampling_ends_in_the_modes_of_the_class(exact):
    schedule, cond = exact.schedule(100), exact.class_weights("pear")
    starts = [RequestNoise(0, str(i)).randn_like(exact.means[0], "x") for i in range(8)]
    for start in starts:
        end = run_alone(ddim_sample({100: start}, schedule, cond, cond, 1.0), exact)[100]
        distance = (end - exact.means).square().mean((2, 3, 4)).sqrt()
        assert distance.min() == pytest.approx(exact.std, rel=0.2)
        assert distance.argmin() // exact.modes == exact.classes.index("pear")


def test_a_step_up_undoes_a_step_down(exact):
    level, next_level = exact.schedule(50)[20], exact.schedule(50)[19]
    prediction = Prediction(picture(exact), NOISE.randn_like(picture(exact), "eps"))
    down = ddim_step(prediction, level, next_level)
    torch.testing.assert_close(down, add_noise(*prediction, next_level))
    torch.testing.assert_close(ddim_step(prediction, next_level, level), add_noise(*prediction, level))


def test_full_eta_is_ddpms_posterior(exact):
    """eta = 1 draws from q(x_s | x_t, x0) of DDPM: mean and variance by Bayes' rule."""
    level, next_level = exact.schedule(50)[30], exact.schedule(50)[29]
    x0, x = torch.full((1, 1, 1, 1), 0.3).double(), torch.full((1, 1, 1, 1), -0.7).double()
    prediction = Prediction(x0, (x - level.alpha * x0) / level.sigma)
    a = level.alpha / next_level.alpha
    forward = level.sigma**2 - (a * next_level.sigma) ** 2
    mean = (next_level.sigma**2 * a * x + forward * next_level.alpha * x0) / level.sigma**2
    std = (forward * next_level.sigma**2 / level.sigma**2) ** 0.5
    for z in (0.0, 1.0, -2.0):
        noise = torch.full_like(x, z)
        torch.testing.assert_close(ddim_step(prediction, level, next_level, 1.0, noise), mean + std * z)
    with pytest.raises(ValueError, match="needs noise"):
        ddim_step(prediction, level, next_level, 0.5)


def full(value):
    return lambda: torch.full((1, 16, 16), float(value))


def run(editor, backbone, request, ratios=RATIOS, steps=20):
    return run_alone(editor(request, ratios, backbone.schedule(steps), NOISE), backbone)


def test_a_full_mask_is_encode_decode(analytic):
    expected = run(EncodeDecode(), analytic, make_request(analytic)).edits
    assert same(run(DiffEdit(mask=GivenMask()), analytic, make_request(analytic, mask=full(1))).edits, expected)
    assert same(run(DiffEdit(mask=Everywhere()), analytic, make_request(analytic)).edits, expected)


@pytest.mark.parametrize("start", ["encode", "noise"])
def test_an_empty_mask_returns_x0_exactly(analytic, start):
    request = make_request(analytic, mask=full(0))
    result = run(DiffEdit(mask=GivenMask(), start=start), analytic, request)
    back = analytic.decode(analytic.encode(request.image()[None]))[0]
    assert all(torch.equal(edit.image, back) for edit in result.edits)
    assert result.metadata == {"mask_area": 0.0, "mask_flag": "empty"}
    assert all(torch.equal(edit.image, back) for edit in run(SDEdit(mask=GivenMask()), analytic, request).edits)


def test_outside_the_mask_x0_comes_back_exactly_and_inside_it_changes(analytic):
    request = make_request(analytic)
    result = run(DiffEdit(), analytic, request)
    back = analytic.decode(analytic.encode(request.image()[None]))[0]
    outside = ~result.mask[0, 0]
    assert 0 < outside.sum() < outside.numel()
    for edit in result.edits:
        assert torch.equal(edit.image[:, outside], back[:, outside])
        assert not torch.allclose(edit.image[:, ~outside], back[:, ~outside], atol=0.01)


def test_the_outside_is_put_back_at_the_level_just_reached(analytic):
    """Both paths, through the whole editor: what the network is shown outside the mask, at every level."""
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:12, 4:12] = 1
    request, schedule = make_request(analytic, mask=lambda: mask), analytic.schedule(10)
    outside = mask[0] == 0
    x0 = analytic.encode(request.image()[None])
    start = RequestNoise(0, "a").randn_like(x0, "start")
    expected = {
        "encode": run_alone(ddim_invert(x0, schedule, 8, analytic.class_weights("")), analytic),
        "noise": [add_noise(x0, start, level) if i else x0 for i, level in enumerate(schedule.levels)],
    }
    for kind, path in expected.items():
        latents = {}
        program = DiffEdit(mask=GivenMask(), start=kind)(request, [0.8], schedule, RequestNoise(0, "a"))
        run_alone(watch(program, partial(note_latents, latents)), analytic)
        assert sorted(latents) == list(range(1, 9))
        for i, x in latents.items():
            assert torch.equal(x[..., outside], path[i][..., outside]), (kind, i)
            assert i == 8 or not torch.equal(x[..., ~outside], path[i][..., ~outside])


def note_latents(latents, query):
    """Keep the latent that each edit's query shows the network, by level."""
    if isinstance(query, Predict) and query.edits:
        level = round((query.level.timestep - 1) / 100) + 1
        latents[level] = query.x[:1]


def test_the_mask_contrasts_target_and_reference(analytic):
    """The conditions of the mask's query, through the editor."""
    for reference, text in (("source", "apple"), ("empty", "")):
        program = DiffEdit(reference=reference)(make_request(analytic), [0.5], analytic.schedule(10), NOISE)
        next(program)
        program.send(torch.zeros(1, 3, 16, 16))
        assert isinstance(program.send(["Q", text, "the inversion's", "the empty one"]), Recall)
        query = program.send([])  # nobody has made it
        assert query.conds == ("Q",) * 10 + (text,) * 10


def test_a_repeat_of_sdedit_starts_from_the_last_result(analytic):
    """K = 2 is one pass, then another from its result with the second pass's noise."""
    schedule, request = analytic.schedule(10), make_request(analytic)
    x0 = analytic.encode(request.image()[None])
    target, empty = analytic.embed(["pear", ""])
    x = x0
    for k in range(2):
        begin = {6: add_noise(x, NOISE.randn_like(x0, f"start {k}"), schedule[6])}
        x = run_alone(ddim_sample(begin, schedule, target, empty, 7.5), analytic)[6]
    twice = run(SDEdit(repeats=2), analytic, request, [0.6], 10).edits[0]
    assert torch.equal(twice.image, analytic.decode(x)[0])


def test_fresh_noise_differs_at_every_level_and_repeat():
    x = torch.zeros(1, 3, 16, 16)
    draws = [SDEdit(eta=1.0).fresh(NOISE, x, repeat, level) for repeat in (0, 1) for level in (1, 2, 3)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(draws, 2))
    assert SDEdit(eta=0.0).fresh(NOISE, x, 0, 1) is None


def test_sdedit_infers_no_mask():
    with pytest.raises(Exception, match="mask"):
        SDEdit(mask=ContrastMask())


def test_diffedit_finds_the_object_and_makes_it_the_other_class(analytic):
    """The classes of the exact model differ in the central quarter only: that is the true mask."""
    image = analytic.decode(analytic.means[0, 0][None])[0]
    request = make_request(analytic)
    request = type(request)("a", lambda: image, "pear", "apple")
    result = run(DiffEdit(), analytic, request)
    truth = torch.zeros(16, 16, dtype=torch.bool)
    truth[4:12, 4:12] = True
    assert torch.equal(result.mask[0, 0], truth)
    pears = analytic.decode(analytic.means[1])
    errors = [min((edit.image - pear)[:, truth].abs().mean().item() for pear in pears) for edit in result.edits]
    assert errors[-1] < 0.01
    assert result.contrast_map.shape == (16, 16)


def test_sdedit_forgets_x0_as_r_goes_to_1(analytic):
    """Two pictures, the same noise and text: the edits meet as r goes to 1, and stay apart at a small r."""
    one, other = make_request(analytic, seed=1), make_request(analytic, seed=2)
    apart = [
        (a.image - b.image).abs().mean().item()
        for a, b in zip(
            *(run(SDEdit(guidance=1), analytic, request, [0.05, 0.5, 1.0], 100).edits for request in (one, other)),
            strict=True,
        )
    ]
    assert apart[0] > 0.1
    assert apart[0] > apart[1] > apart[2]
    assert apart[2] < 0.01 * apart[0]  # at level N = 100, alpha is still 0.07


def test_sdedits_settings_do_something(analytic):
    request = make_request(analytic)
    plain, stochastic, twice = (
        run(editor, analytic, request) for editor in (SDEdit(), SDEdit(eta=1.0), SDEdit(repeats=2))
    )
    assert not same(plain.edits, stochastic.edits)
    assert not same(plain.edits, twice.edits)
    with pytest.raises(ValueError, match="eta = 2"):
        SDEdit(eta=2)
    with pytest.raises(ValueError, match="repeats = 0"):
        SDEdit(repeats=0)


@pytest.mark.parametrize("editor", [DiffEdit(), DiffEdit(start="noise"), EncodeDecode(), SDEdit(eta=0.5, repeats=2)])
def test_an_edit_does_not_depend_on_the_other_ratios(analytic, editor):
    together = run(editor, analytic, make_request(analytic)).edits
    alone = [run(editor, analytic, make_request(analytic), [ratio]).edits[0] for ratio in RATIOS]
    assert same(together, alone)


# --------------------------------------------------------------------------------------------------- guidance interval

GUIDED = [
    DiffEdit(mask=GivenMask()),
    DiffEdit(mask=GivenMask(), start="noise"),
    EncodeDecode(),
    SDEdit(eta=0.5, repeats=2),
    BlendedLatent(),
]


def half():
    """A mask for those that want one."""
    mask = torch.zeros(1, 16, 16)
    mask[:, :, 8:] = 1
    return lambda: mask


@pytest.mark.parametrize("editor", GUIDED)
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 0.6), (0.3, 1.0), (0.0, 0.3), (0.85, 1.0)])
def test_a_step_costs_two_evaluations_inside_the_guidance_interval_and_one_outside(analytic, editor, interval):
    """In closed form: levels low * N + 1 to high * N of those up to the start."""
    steps, (low, high) = 20, (round(20 * bound) for bound in interval)
    editor = replace(editor, guidance_interval=interval)
    program = editor(make_request(analytic, mask=half()), RATIOS, analytic.schedule(steps), NOISE)
    (outcome,) = Engine(analytic, progress=False).run([("a", program)])
    assert outcome.error is None
    passes = getattr(editor, "repeats", 1)
    expected = {i: passes * (i + max(min(i, high) - low, 0)) for i in (6, 10, 16)}
    assert {i: outcome.evaluations[i] for i in expected} == expected
    inverted = isinstance(editor, EncodeDecode) or getattr(editor, "start", "") == "encode"
    assert outcome.evaluations[None] == 16 * inverted


@pytest.mark.parametrize(("steps", "low", "high"), [(10, 0.3, 0.7), (50, 0.1, 0.58), (7, 3 / 7, 6 / 7), (30, 0.2, 1.0)])
def test_the_lower_bound_is_outside_and_the_upper_one_inside(analytic, steps, low, high):
    """Kynkäänniemi et al.: (low, high]; bounds that are levels themselves are not shifted by a rounding."""
    rows = {}
    x = torch.zeros(1, 3, 16, 16)
    cond, empty = analytic.embed(["pear", ""])
    program = ddim_sample({steps: x}, analytic.schedule(steps), cond, empty, 3.0, interval=(low, high))
    run_alone(watch(program, lambda query: rows.setdefault(len(rows), len(query.x))), analytic)
    guided = [steps - k for k, count in rows.items() if count == 2]
    assert guided == list(range(round(high * steps), round(low * steps), -1))
    assert len(rows) == steps


def test_outside_the_interval_the_estimate_is_the_conditional_one(analytic):
    """Written out, step by step, to the bit."""
    schedule = analytic.schedule(10)
    cond, empty = analytic.embed(["pear", ""])
    x = start = NOISE.randn_like(torch.zeros(1, 3, 16, 16), "x")
    for i in range(8, 0, -1):
        plain = analytic.predict(x, [schedule[i]], [cond])
        if i in (4, 5, 6):
            away = analytic.predict(x, [schedule[i]], [empty])
            plain = Prediction(*(a + (b - a) * 3.0 for a, b in zip(away, plain, strict=True)))
        x = ddim_step(plain, schedule[i], schedule[i - 1])
    program = ddim_sample({8: start}, schedule, cond, empty, 3.0, interval=(0.3, 0.6))
    assert torch.equal(run_alone(program, analytic)[8], x)


@pytest.mark.parametrize("editor", GUIDED)
def test_without_an_interval_every_step_is_guided(analytic, editor):
    """The default and [0, 1] are the same edit to the bit; an interval beyond the start changes nothing either."""
    request = make_request(analytic, mask=half())
    plain = run(editor, analytic, request).edits
    assert editor.guidance_interval == (0.0, 1.0)
    assert same(run(replace(editor, guidance_interval=[0, 1]), analytic, request).edits, plain)
    below = run(replace(editor, guidance_interval=(0.0, 0.5)), analytic, request).edits
    assert same(below[:2], plain[:2])  # r = 0.3 and 0.5
    assert not same(below[2:], plain[2:])
    unguided = run(replace(editor, guidance=1), analytic, request).edits
    assert same(run(replace(editor, guidance_interval=(0.9, 1.0)), analytic, request).edits, unguided)


def test_bad_intervals_are_refused():
    for editor in (DiffEdit, EncodeDecode, SDEdit, BlendedLatent):
        for bad in ((0.5, 0.5), (0.6, 0.2), (-0.1, 1.0), (0.0, 1.1)):
            with pytest.raises(ValueError, match=r"guidance_interval = .*: it should be .* 0 <= low < high <= 1"):
                editor(guidance_interval=bad)
        with pytest.raises(ValueError, match=r"guidance_interval.* = nan: it should be a finite number"):
            editor(guidance_interval=(float("nan"), 1.0))
        with pytest.raises(ValueError, match="guidance_interval"):
            editor(guidance_interval=0.5)


def test_guidance_1_is_one_evaluation_and_the_conditional_estimate(analytic):
    cond, empty = analytic.embed(["pear", ""])
    level, x = analytic.schedule(10)[4], torch.zeros(2, 3, 16, 16)
    query = next(predict_guided(x, level, cond, empty, 1.0))
    assert len(query.x) == 2
    assert len(next(predict_guided(x, level, cond, empty, 1.5)).x) == 4


def test_reference_texts(analytic):
    with_source, without = make_request(analytic), make_request(analytic, source=None)
    reference = {kind: DiffEdit(reference=kind).find_reference(with_source) for kind in ("auto", "source", "empty")}
    assert reference == {"auto": "apple", "source": "apple", "empty": ""}
    assert DiffEdit(reference="auto").find_reference(without) == ""
    with pytest.raises(ValueError, match=r"request a: .*no source text"):
        DiffEdit(reference="source").find_reference(without)


def test_misspelt_settings_are_refused():
    @settings
    class Settings:
        start: Literal["encode", "noise"] = "encode"

    assert Settings().start == "encode"
    with pytest.raises(ValueError, match=r"Settings: start = 'encoder': it should be 'encode' or 'noise'"):
        Settings("encoder")


def test_a_missing_given_mask_is_named(analytic):
    with pytest.raises(ValueError, match=r"request a: .*the request has none"):
        run(DiffEdit(mask=GivenMask()), analytic, make_request(analytic))


def test_an_unknown_class_is_refused(analytic):
    with pytest.raises(ValueError, match=r"'a banana' names none .*apple, pear, plum"):
        analytic.embed(["a banana"])


# ------------------------------------------------------------------------------------- when the outside is put back


@pytest.fixture
def blended(analytic):
    """(edits by when the outside is put back, Encode-Decode's, what is inside the mask, the decoded input)."""
    request = make_request(analytic, mask=half())
    results = {when: run(DiffEdit(GivenMask(), blend=when), analytic, request) for when in ("every", "last", "never")}
    back = analytic.decode(analytic.encode(request.image()[None]))[0]
    return results, run(EncodeDecode(), analytic, request).edits, half()() > 0.5, back


def test_blending_at_the_last_step_alone_is_encode_decode_with_the_outside_of_x0(blended):
    """Composed by hand of what Encode-Decode gives, which knows no blend; the default gives other pictures."""
    results, free, inside, back = blended
    assert same(results["never"].edits, free)
    for last, every, one in zip(results["last"].edits, results["every"].edits, free, strict=True):
        assert torch.equal(last.image, torch.where(inside, one.image, back))
        assert torch.equal(last.image[:, ~inside[0]], every.image[:, ~inside[0]])
    assert not torch.equal(results["last"].edits[-1].image, results["every"].edits[-1].image)


def test_pixel_paste_without_a_blend_is_encode_decode_inside_the_mask_and_the_input_outside(analytic, blended):
    results, free, inside, _ = blended
    request = make_request(analytic, mask=half())
    pasted = run_alone(PixelPaste()(request, results["never"]), analytic)
    for edit, one in zip(pasted.edits, free, strict=True):
        assert torch.equal(edit.image, torch.where(inside, one.image, request.image()))


def test_an_unknown_time_to_blend_is_refused():
    with pytest.raises(ValueError, match="blend = 'first': it should be 'every', 'last' or 'never'"):
        DiffEdit(blend="first")
