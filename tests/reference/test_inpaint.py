"""Parity of the preset `inpaint_diffusers` with StableDiffusionInpaintPipeline: same weights, same noise."""

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from helpers import GivenNoise, composed, make_request
from hydra.utils import instantiate

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.engine.queries import run_alone
from diffedit.testing import TinyPipeline

N, TARGET = 10, "a dog"
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module", params=["epsilon", "v_prediction", "trailing"])
def pair(request, tmp_path_factory):
    """(our backbone, their pipeline)."""
    settings = {
        "epsilon": TinyPipeline(),
        "v_prediction": TinyPipeline(prediction_type="v_prediction"),
        "trailing": TinyPipeline(scheduler={"timestep_spacing": "trailing", "set_alpha_to_one": True}),
    }
    folder = settings[request.param].write(tmp_path_factory.mktemp(request.param))
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        folder, scheduler=scheduler, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return StableDiffusion.from_pretrained(str(folder), device="cpu"), pipeline


def editor(*overrides):
    cfg = composed("editor=inpaint_diffusers", "benchmark=folder", "benchmark.path=none", *overrides)
    return instantiate(cfg.editor, _convert_="all")


@pytest.mark.parametrize("strength", [1.0, 0.7, 0.3])
def test_the_edit_is_theirs(pair, strength):
    backbone, pipeline = pair
    mask = (torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(5)) > 0.6).float()
    request = make_request(backbone, target=TARGET, mask=lambda: mask)
    expected = pipeline(
        TARGET,
        image=request.image()[None],
        mask_image=mask[None],
        height=32,
        width=32,
        strength=strength,
        num_inference_steps=N,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).images
    draw = torch.Generator().manual_seed(3)  # they draw the posterior's sample, then the noise
    noise = GivenNoise(**{name: torch.randn(1, 4, 8, 8, generator=draw) for name in ("encode", "start")})
    result = run_alone(editor()(request, [strength], backbone.schedule(N), noise), backbone)
    assert torch.allclose(result.edits[0].image, expected[0], **CLOSE)
    assert not torch.allclose(expected[0], request.image(), atol=0.05)


def test_a_mode_instead_of_a_sample_is_not_theirs(pair):
    """What the preset's settings are for: without them the result differs."""
    backbone, _ = pair
    mask = torch.zeros(1, 32, 32)
    mask[0, 8:24, 8:24] = 1
    request = make_request(backbone, target=TARGET, mask=lambda: mask)
    draw = torch.Generator().manual_seed(3)
    draws = {name: torch.randn(1, 4, 8, 8, generator=draw) for name in ("encode", "start")}
    schedule = backbone.schedule(N)
    preset = run_alone(editor()(request, [1.0], schedule, GivenNoise(**draws)), backbone)
    mode = run_alone(editor("editor.encode=mode")(request, [1.0], schedule, GivenNoise(start=draws["start"])), backbone)
    start = run_alone(editor("editor.start=noised")(request, [1.0], schedule, GivenNoise(**draws)), backbone)
    for other in (mode, start):
        assert not torch.allclose(preset.edits[0].image, other.edits[0].image, **CLOSE)
