"""Parity with pipelines we did not write, on the same weights and the same noise; and where theirs leave the paper.

Each `test_departure_*` shows a rule of diffusers' DiffEdit that is not the paper's: their result differs from the rule,
ours is the rule.
"""

import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    StableDiffusionDiffEditPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)
from helpers import GivenNoise, make_request

import diffedit
from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.engine.queries import run_alone
from diffedit.mask import ContrastMask, GivenMask, MeanClamp
from diffedit.sampling.ddim import add_noise, ddim_invert, ddim_sample
from diffedit.sampling.noise import RequestNoise
from diffedit.testing import TinyPipeline

N, SOURCE, TARGET = 10, "a cat", "a dog"
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module", params=["epsilon", "v_prediction", "set_alpha_to_one", "trailing"])
def pair(request, tmp_path_factory):
    """(our backbone, the folder) for several schedules and parameterisations."""
    settings = {
        "epsilon": TinyPipeline(),
        "v_prediction": TinyPipeline(prediction_type="v_prediction"),
        "set_alpha_to_one": TinyPipeline(scheduler={"set_alpha_to_one": True, "steps_offset": 0}),
        "trailing": TinyPipeline(scheduler={"timestep_spacing": "trailing", "set_alpha_to_one": True}),
    }
    folder = settings[request.param].write(tmp_path_factory.mktemp(request.param))
    return StableDiffusion.from_pretrained(str(folder), device="cpu"), folder


@pytest.fixture(scope="module")
def default(tiny, tiny_folder):
    return tiny, tiny_folder


def load(kind, folder, **parts):
    pipeline = kind.from_pretrained(folder, safety_checker=None, requires_safety_checker=False, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def diffedit_pipeline(folder):
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    return load(StableDiffusionDiffEditPipeline, folder, inverse_scheduler=inverse)


def latent(seed, count=1, side=8):
    return torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(seed))


def embed(backbone, *texts):
    return backbone.embed(texts)


def their_map(pipeline, monkeypatch, x0, seed=3, **settings):
    """(mask, continuous map) of generate_mask: the map is what they clamp."""
    clamped = []
    clamp = torch.Tensor.clamp

    def spy(self, *args, **kwargs):
        clamped.append(self)
        return clamp(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "clamp", spy)
    count = len(x0)
    mask = pipeline.generate_mask(
        image=x0,
        target_prompt=[TARGET] * count,
        source_prompt=[SOURCE] * count,
        num_inference_steps=N,
        generator=torch.Generator().manual_seed(seed),
        **settings,
    )
    monkeypatch.undo()
    return torch.from_numpy(mask), next(tensor for tensor in clamped if tensor.shape == mask.shape)


def our_mask(backbone, x0, noise, **settings):
    schedule = backbone.schedule(N)
    target, reference = embed(backbone, TARGET, SOURCE)
    finder = ContrastMask(outliers=MeanClamp(), **settings)  # the rule that is theirs
    return run_alone(
        finder.find(make_request(backbone), x0, target, reference, schedule, GivenNoise(mask=noise)), backbone
    )


# --------------------------------------------------------------------------------------------------------------- parity


def test_contrast_map(pair, monkeypatch):
    """The same map but for a constant, and so the same mask.

    They guide (w = 7.5) with conditional and unconditional swapped, which leaves 1 - w = -6.5 times the difference; and
    they compare raw outputs: of a v-model these differ by 1 / alpha of what the noise estimates do.
    """
    backbone, folder = pair
    mask, contrast = their_map(diffedit_pipeline(folder), monkeypatch, latent(1))
    noise = torch.randn(10, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    result = our_mask(backbone, latent(1), noise)
    alpha = backbone.schedule(N)[5].alpha if backbone.scheduler.config.prediction_type == "v_prediction" else 1
    torch.testing.assert_close(result.contrast_map / alpha * 6.5, contrast[0], **CLOSE)
    assert torch.equal(result.latent[0, 0], mask[0].bool())
    assert 0 < result.latent.float().mean() < 1


def test_inversion_trajectory(pair):
    backbone, folder = pair
    pipeline = diffedit_pipeline(folder)
    expected = pipeline.invert(prompt="", image=latent(1), guidance_scale=1, inpaint_strength=1, num_inference_steps=N)
    path = run_alone(ddim_invert(latent(1), backbone.schedule(N), N, embed(backbone, "")[0], "destination"), backbone)
    torch.testing.assert_close(torch.cat(path[:0:-1]), expected.latents[0], **CLOSE)
    assert torch.equal(path[0], latent(1))


def test_one_trajectory_serves_every_ratio(default):
    pipeline = diffedit_pipeline(default[1])
    settings = {"prompt": "", "image": latent(1), "guidance_scale": 1, "num_inference_steps": N}
    whole = pipeline.invert(inpaint_strength=1.0, **settings).latents
    assert torch.equal(whole[:, -4:], pipeline.invert(inpaint_strength=0.4, **settings).latents)


@pytest.mark.parametrize("level", [3, 8, 10])
def test_unmasked_guided_decoding(pair, level):
    backbone, folder = pair
    schedule = backbone.schedule(N)
    target, empty = embed(backbone, TARGET, "")
    path = run_alone(ddim_invert(latent(1), schedule, level, empty), backbone)
    expected = diffedit_pipeline(folder)(
        prompt=TARGET,
        mask_image=torch.ones(1, 1, 8, 8),
        image_latents=torch.stack(path[:0:-1], 1),
        inpaint_strength=level / N,
        num_inference_steps=N,
        guidance_scale=7.5,
        output_type="latent",
    ).images
    sampled = run_alone(ddim_sample({level: path[level]}, schedule, target, empty, 7.5), backbone)[level]
    torch.testing.assert_close(sampled, expected, **CLOSE)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_ddim_sampling(pair, guidance):
    backbone, folder = pair
    target, empty = embed(backbone, TARGET, "")
    expected = load(StableDiffusionPipeline, folder)(
        TARGET, latents=latent(2), num_inference_steps=N, guidance_scale=guidance, output_type="latent"
    ).images
    sampled = run_alone(ddim_sample({N: latent(2)}, backbone.schedule(N), target, empty, guidance), backbone)[N]
    torch.testing.assert_close(sampled, expected, **CLOSE)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_stochastic_ddim(default, eta):
    """Their generator draws one noise a step, in order; ours are handed the same ones."""
    backbone, folder = default
    target, empty = embed(backbone, TARGET, "")
    generator = torch.Generator().manual_seed(5)
    expected = load(StableDiffusionPipeline, folder)(
        TARGET, latents=latent(2), num_inference_steps=N, eta=eta, generator=generator, output_type="latent"
    ).images
    draw = torch.Generator().manual_seed(5)
    noises = {i: torch.randn(1, 4, 8, 8, generator=draw) for i in range(N, 0, -1)}
    program = ddim_sample({N: latent(2)}, backbone.schedule(N), target, empty, 7.5, eta=eta, noise=noises.get)
    torch.testing.assert_close(run_alone(program, backbone)[N], expected, **CLOSE)


def test_sdedit_is_img2img(default):
    """SDEdit with eta = 0, K = 1, no mask: the whole editor, from picture to picture."""
    backbone, folder = default
    request = make_request(backbone, target=TARGET)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    result = run_alone(SDEdit()(request, [0.6], backbone.schedule(N), GivenNoise(start_0=noise)), backbone)
    with torch.no_grad():
        x0 = backbone.encode(request.image()[None])
    expected = load(StableDiffusionImg2ImgPipeline, folder)(
        TARGET,
        image=x0,
        strength=0.6,
        num_inference_steps=N,
        generator=torch.Generator().manual_seed(4),
        output_type="pt",
    ).images
    torch.testing.assert_close(result.edits[0].image, expected[0], **CLOSE)


@pytest.mark.parametrize("interval", [(0.2, 0.4), (0.3, 1.0), (0.0, 0.5)])
def test_a_guidance_interval_is_img2img_whose_scale_a_callback_changes(default, interval, monkeypatch):
    """Their documented way: after each step the callback sets the scale, and the texts, of the next one."""
    backbone, folder = default
    pipeline = load(StableDiffusionImg2ImgPipeline, folder)
    positive, negative = pipeline.encode_prompt(TARGET, "cpu", 1, True)
    request, top = make_request(backbone, target=TARGET), 6
    with torch.no_grad():
        x0 = backbone.encode(request.image()[None])

    def choose_scale(level):
        return 7.5 if interval[0] * N < level <= interval[1] * N else 1.0

    def change_scale(pipeline, step, timestep, tensors):
        scale = pipeline._guidance_scale = choose_scale(top - step - 1)
        return {"prompt_embeds": torch.cat([negative, positive]) if scale > 1 else positive}

    counts = []
    forward = type(pipeline.unet).forward
    monkeypatch.setattr(
        type(pipeline.unet), "forward", lambda self, x, *a, **k: counts.append(len(x)) or forward(self, x, *a, **k)
    )
    expected = pipeline(
        TARGET,
        image=x0,
        strength=top / N,
        num_inference_steps=N,
        guidance_scale=choose_scale(top),
        generator=torch.Generator().manual_seed(4),
        callback_on_step_end=change_scale,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
        output_type="pt",
    ).images
    their_counts, counts[:] = list(counts), []
    noise = GivenNoise(start_0=torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4)))
    program = SDEdit(guidance_interval=interval)(request, [top / N], backbone.schedule(N), noise)
    torch.testing.assert_close(run_alone(program, backbone).edits[0].image, expected[0], **CLOSE)
    assert counts == their_counts
    assert set(counts) == {1, 2}


def test_autoencoder(default):
    """Encode and decode as their pipelines do, but for the posterior's mode."""
    backbone, folder = default
    pipeline = load(StableDiffusionPipeline, folder)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = pipeline.vae.encode(image * 2 - 1).latent_dist.mode() * pipeline.vae.config.scaling_factor
        back = pipeline.vae.decode(expected / pipeline.vae.config.scaling_factor).sample
        torch.testing.assert_close(backbone.encode(image), expected)
        torch.testing.assert_close(backbone.decode(expected), pipeline.image_processor.postprocess(back, "pt"))


# ----------------------------------------------------------------------------------------------------------- departures


def test_departure_1_the_threshold_is_a_mean_over_the_batch(default, monkeypatch):
    pipeline = diffedit_pipeline(default[1])
    quiet, loud = latent(1), latent(2) * 6
    both, maps = their_map(pipeline, monkeypatch, torch.cat([quiet, loud]))
    rule = torch.stack([contrast > 1.5 * contrast.mean() for contrast in maps])
    assert not torch.equal(both.bool(), rule)
    finder = ContrastMask(outliers=MeanClamp())
    assert all(torch.equal(finder.binarise(contrast)[0, 0], mask) for contrast, mask in zip(maps, rule, strict=True))


def test_departure_2_inversion_is_guided_by_default(default):
    folder = default[1]
    guided = diffedit_pipeline(folder).invert(prompt=SOURCE, image=latent(1), inpaint_strength=1, num_inference_steps=N)
    rule = diffedit_pipeline(folder).invert(
        prompt="", guidance_scale=1, image=latent(1), inpaint_strength=1, num_inference_steps=N
    )
    assert not torch.allclose(guided.latents, rule.latents, **CLOSE)


def test_departure_3_an_empty_mask_does_not_return_x0(default):
    """Their blend takes the encoded latent one level too high, and so never comes back to x0."""
    backbone, folder = default
    schedule, x0 = backbone.schedule(N), latent(1)
    path = run_alone(ddim_invert(x0, schedule, 6, embed(backbone, "")[0]), backbone)
    blended = diffedit_pipeline(folder)(
        prompt=TARGET,
        mask_image=torch.zeros(1, 1, 8, 8),
        image_latents=torch.stack(path[:0:-1], 1),
        inpaint_strength=0.6,
        num_inference_steps=N,
        output_type="latent",
    ).images
    assert torch.equal(blended, path[1])
    assert not torch.allclose(blended, x0, **CLOSE)
    request = make_request(backbone, target=TARGET, mask=lambda: torch.zeros(1, 32, 32))
    result = run_alone(DiffEdit(mask=GivenMask())(request, [0.3, 0.6], schedule, RequestNoise(0, "a")), backbone)
    with torch.no_grad():
        round_trip = backbone.decode(backbone.encode(request.image()[None]).expand(2, -1, -1, -1))
    assert all(torch.equal(edit.image, image) for edit, image in zip(result.edits, round_trip, strict=True))


def test_departure_4_no_mask_without_guidance(default, monkeypatch):
    with pytest.raises(TypeError):
        their_map(diffedit_pipeline(default[1]), monkeypatch, latent(1), guidance_scale=1.0)


def test_departure_5_x0_is_random(default):
    backbone, folder = default
    pipeline = diffedit_pipeline(folder)
    image = torch.rand(1, 3, 32, 32)
    sampled = [
        pipeline.prepare_image_latents(image * 2 - 1, 1, torch.float32, "cpu", torch.Generator().manual_seed(s))
        for s in (0, 1)
    ]
    assert not torch.allclose(*sampled, **CLOSE)
    with torch.no_grad():
        assert torch.equal(backbone.encode(image), backbone.encode(image))


def test_departure_6_ratios_are_truncated(default):
    backbone, folder = default
    pipeline = diffedit_pipeline(folder)
    pipeline.scheduler.set_timesteps(50)
    assert pipeline.get_timesteps(50, 0.58, "cpu")[1] == 28
    assert backbone.schedule(50).find_level(0.58) == 29


def test_departure_7_several_images_a_prompt_get_each_others_masks(default):
    backbone, folder = default
    x0 = torch.cat([latent(1), latent(2)])
    path = [run_alone(ddim_invert(x[None], backbone.schedule(N), 3, embed(backbone, "")[0]), backbone) for x in x0]
    encoded = torch.cat([torch.stack(latents[:0:-1], 1) for latents in path])
    masks = torch.cat([torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)])
    settings = {"inpaint_strength": 0.3, "num_inference_steps": N, "output_type": "latent"}
    pipeline = diffedit_pipeline(folder)
    one = pipeline([TARGET] * 2, mask_image=masks, image_latents=encoded, **settings).images
    two = pipeline([TARGET] * 2, mask_image=masks, image_latents=encoded, num_images_per_prompt=2, **settings).images
    assert not torch.allclose(two[1], one[0], **CLOSE)  # the first image's second copy: it got the empty mask
    torch.testing.assert_close(two[1], path[0][1][0], **CLOSE)


def test_departure_7_a_small_ratio_crashes(default):
    backbone, folder = default
    with pytest.raises(RuntimeError):
        diffedit_pipeline(folder).invert(prompt="", image=latent(1), inpaint_strength=0.05, num_inference_steps=N)
    with pytest.raises(ValueError, match=r"r = 0\.05 of N = 10"):
        backbone.schedule(N).find_level(0.05)


def test_departure_8_the_mask_costs_twice_what_it_needs(default, monkeypatch):
    backbone, folder = default
    pipeline = diffedit_pipeline(folder)
    counts = []
    forward = type(pipeline.unet).forward
    monkeypatch.setattr(
        type(pipeline.unet), "forward", lambda self, x, *a, **k: counts.append(len(x)) or forward(self, x, *a, **k)
    )
    pipeline.generate_mask(image=latent(1), target_prompt=TARGET, source_prompt=SOURCE, num_inference_steps=N)
    their_count, counts[:] = sum(counts), []
    our_mask(backbone, latent(1), latent(3, 10))
    assert (their_count, sum(counts)) == (40, 20)


def test_departure_9_inversion_clips_by_default_and_its_timesteps_run_ahead(default):
    backbone, folder = default
    assert DDIMInverseScheduler().config.clip_sample
    pipeline = diffedit_pipeline(folder)
    timesteps = []
    forward = type(pipeline.unet).forward

    def spy(self, x, t, *args, **kwargs):
        timesteps.append(int(torch.as_tensor(t).flatten()[0]))
        return forward(self, x, t, *args, **kwargs)

    type(pipeline.unet).forward = spy
    try:
        pipeline.invert(prompt="", image=latent(1), guidance_scale=1, inpaint_strength=0.3, num_inference_steps=N)
        run_alone(ddim_invert(latent(1), backbone.schedule(N), 3, embed(backbone, "")[0], "source"), backbone)
    finally:
        type(pipeline.unet).forward = forward
    assert timesteps == [1, 101, 201, 0, 1, 101]


def test_departure_10_level_0_is_not_clean_in_sds_own_schedule(default):
    schedule = default[0].schedule(50)
    assert schedule[0].alpha ** 2 == pytest.approx(0.99915)
    assert [schedule[i].timestep for i in (1, 2, 50)] == [1, 21, 981]


def test_departure_11_it_is_deprecated_and_still_there():
    assert "deprecated" in StableDiffusionDiffEditPipeline.__module__


def test_encode_decode_is_their_pipeline_under_a_full_mask(default):
    """The whole editor: their invert with the paper's settings, our timesteps theirs, a full mask."""
    backbone, folder = default
    request = make_request(backbone, target=TARGET)
    result = run_alone(
        EncodeDecode()(request, [0.7], backbone.schedule(N), RequestNoise(0, "a")),
        backbone,
    )
    pipeline = diffedit_pipeline(folder)
    with torch.no_grad():
        x0 = backbone.encode(request.image()[None])
    settings = {"inpaint_strength": 0.7, "num_inference_steps": N}
    encoded = pipeline.invert(prompt="", image=x0, guidance_scale=1, **settings).latents
    expected = pipeline(
        TARGET, mask_image=torch.ones(1, 1, 8, 8), image_latents=encoded, output_type="pt", **settings
    ).images
    torch.testing.assert_close(result.edits[0].image, expected[0], **CLOSE)


def test_add_noise_is_their_schedulers(pair):
    backbone, _ = pair
    schedule, noise = backbone.schedule(N), latent(2)
    for i in range(1, N + 1):
        expected = backbone.scheduler.add_noise(latent(1), noise, torch.tensor([schedule[i].timestep]))
        torch.testing.assert_close(add_noise(latent(1), noise, schedule[i]), expected)


def test_one_call_of_ours_asks_less_than_three_of_theirs(default, monkeypatch):
    """Rows of the UNet for one picture: at one ratio fewer, at four at most 0.6 of theirs, whose mask is found once."""
    folder = default[1]
    pipeline, image = diffedit_pipeline(folder), torch.rand(1, 3, 32, 32)
    rows = []
    pipeline.unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    steps = {"num_inference_steps": 50}

    def theirs(ratios):
        mask = pipeline.generate_mask(image, TARGET, source_prompt=SOURCE, **steps)
        for ratio in ratios:
            latents = pipeline.invert(SOURCE, image, inpaint_strength=ratio, **steps).latents
            pipeline(TARGET, mask, latents, inpaint_strength=ratio, **steps)

    counts = {}
    for ratios in ([0.5], [0.3, 0.5, 0.7, 0.9]):
        rows.clear()
        theirs(ratios)
        count = sum(rows)
        rows.clear()
        diffedit.edit(pipeline, image[0], TARGET, SOURCE, ratio=ratios, **steps)
        counts[len(ratios)] = (sum(rows), count)
    assert counts == {1: (95, 140), 4: (305, 520)}
