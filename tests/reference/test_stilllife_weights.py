"""The Still Life weights in diffusers' own pipelines, so that others can compare."""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    StableDiffusionDiffEditPipeline,
    StableDiffusionPipeline,
)

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.engine.queries import run_alone
from diffedit.io.files import resolve_path
from diffedit.sampling.noise import RequestNoise
from diffedit.text_to_image import sample
from eval.metrics.functional.pairwise import psnr
from eval.stilllife.benchmarks import StillLifeScenes

FOLDER = resolve_path("weights/stilllife")
PLAIN = {"safety_checker": None, "requires_safety_checker": False}


def load(kind, **parts):
    pipeline = kind.from_pretrained(FOLDER, **PLAIN, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def backbone():
    return StableDiffusion.from_pretrained(str(FOLDER), device="cpu")


def test_plain_stable_diffusion_pipeline_draws_what_our_sampler_draws(backbone):
    pipeline, schedule = load(StableDiffusionPipeline), backbone.schedule(10)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    noise, like, text = RequestNoise(0, "a"), torch.zeros(1, 4, 16, 16), "a bowl of apples on a wooden table, gray wall"
    image = run_alone(sample(text, like, schedule, noise, 5.0), backbone).edits[0].image
    latents = noise.randn_like(like, "sample") * schedule[10].sigma
    expected = pipeline(text, latents=latents, num_inference_steps=10, guidance_scale=5.0, output_type="pt").images[0]
    torch.testing.assert_close(image, expected, atol=1e-4, rtol=1e-4)


def test_diffusers_diffedit_pipeline_edits_still_life():
    scheduler = DDIMScheduler.from_pretrained(FOLDER, subfolder="scheduler")
    inverse = DDIMInverseScheduler.from_config(scheduler.config, clip_sample=False)
    pipeline = load(StableDiffusionDiffEditPipeline, scheduler=scheduler, inverse_scheduler=inverse)
    request = next(iter(StillLifeScenes(size=1, attributes=["fruits"]).requests(64)))
    torch.manual_seed(0)
    image = request.image()[None] * 2 - 1
    with torch.no_grad():
        mask = pipeline.generate_mask(
            image=image, source_prompt=request.source, target_prompt=request.target, num_inference_steps=20
        )
        latents = pipeline.invert(image=image, prompt="", guidance_scale=1, num_inference_steps=20).latents
        out = pipeline(
            request.target, mask_image=mask, image_latents=latents, num_inference_steps=20, output_type="np"
        ).images[0]
    assert out.shape == (64, 64, 3)
    assert 0.01 < mask.mean() < 0.6
    exact = request.mask()[0].numpy() > 0.5
    inferred = np.kron(mask[0], np.ones((4, 4))) > 0.5
    assert (inferred & exact).sum() / (inferred | exact).sum() > 0.3
    edited = torch.from_numpy(out).permute(2, 0, 1)[None]
    outside = torch.from_numpy(~(inferred | exact))[None, None].float()
    assert psnr(request.image()[None], edited, outside) > 20
