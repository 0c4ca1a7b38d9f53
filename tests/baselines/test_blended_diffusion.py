"""Blended Diffusion: the gradient against differences, the warps against OpenCV, the program on the exact model."""

import cv2
import pytest
import torch
import torchvision.transforms.functional as TF
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from helpers import make_request, same

from baselines import blended_diffusion
from baselines.blended_diffusion import BlendedDiffusion, Guided, augment, homographies, perspective, spherical
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.backbones.loading import read_dtype
from diffedit.backbones.pixel import PixelDiffusion
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.queries import run_alone
from diffedit.mask import ContrastMask, Everywhere
from diffedit.networks.clip import OpenClip
from diffedit.sampling.ddim import ddim_sample, ddim_step
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Level, Prediction

NOISE = RequestNoise(0, "a")


class Colours:
    """A CLIP of three numbers: the mean colour, and the colour that a text names."""

    side = 16
    hash = "colours"

    def images(self, images):
        return torch.nn.functional.normalize(images.mean((2, 3)) + 0.1, dim=1)

    def texts(self, texts):
        named = {"red": (1.0, 0, 0), "green": (0, 1.0, 0), "pear": (0, 0, 1.0)}
        return torch.tensor([named[text] for text in texts])


def make_masked_request(backbone, name="a", target="red", seed=0):
    mask = torch.zeros(1, 16, 16)
    mask[0, 4:12, 4:12] = 1
    return make_request(backbone, name, target=target, mask=lambda: mask, seed=seed)


def run(editor, backbone, ratios=(0.5, 1.0), **settings):
    return run_alone(
        editor(make_masked_request(backbone, **settings), list(ratios), backbone.schedule(20), NOISE), backbone
    )


def test_the_push_is_the_gradient_of_the_loss():
    """Against central differences of the loss, through the exact model in double precision."""
    model = AnalyticBackbone(resolution=8, dtype="float64")
    editor = BlendedDiffusion(Colours(), augmentations=3, weight=10.0, range_weight=5.0)
    level, mask = model.schedule(10)[6], torch.ones(1, 8, 8, dtype=torch.bool)
    x = 1.5 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (cond,), text = model.embed([""]), Colours().texts(["red"])[0].double()
    draws = editor.draws(NOISE, 6)

    def loss(x):
        prediction = model.predict(x[None], [level], [cond])
        shown = (prediction.x0 * level.sigma + x[None] * (1 - level.sigma)) * mask
        views = augment(torch.nn.functional.adaptive_avg_pool2d(shown, 16), draws[None])[0]
        distance = spherical(Colours().images((views + 1) / 2), text)
        excess = (prediction.x0 - prediction.x0.clamp(-1, 1)).square().mean()
        return 10.0 * distance.mean() + 5.0 * excess

    clean, eps, push = editor.guide(model, [Guided(x, level, cond, text, mask, draws)])[0]
    prediction = model.predict(x[None], [level], [cond])
    assert torch.equal(clean, prediction.x0[0])
    assert torch.equal(eps, prediction.eps[0])
    for pixel in ((0, 2, 3), (1, 5, 5), (2, 0, 7)):
        nudge = torch.zeros_like(x)
        nudge[pixel] = 1e-5
        slope = (loss(x + nudge) - loss(x - nudge)) / 2e-5
        assert -push[pixel].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-7)


def test_a_push_moves_the_mean_by_the_variance():
    """eta = 1 is DDPM's posterior: its variance is beta * (1 - a') / (1 - a)."""
    level, next_level = Level(0.6, 0.8, 500), Level(0.8, 0.6, 250)
    x0, eps, push, noise = (torch.full((1, 1, 1, 1), value) for value in (0.3, -0.7, 2.0, 0.5))
    plain, pushed = (ddim_step(Prediction(x0, eps), level, next_level, 1.0, noise, by) for by in (None, push))
    variance = (1 - 0.6**2 / 0.8**2) * 0.6**2 / 0.8**2
    assert (pushed - plain).item() == pytest.approx(2 * variance, rel=1e-5)


def test_spherical_is_half_the_squared_angle():
    one, other = (
        torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(i)), dim=1)
        for i in (0, 1)
    )
    angle = torch.acos((one * other).sum(1))
    torch.testing.assert_close(spherical(one, other), angle.square() / 2, rtol=1e-4, atol=1e-5)
    assert spherical(one, one).max() < 1e-5
    assert torch.isfinite(spherical(one, -one)).all()


def test_perspective_is_opencvs():
    points = torch.tensor([[-0.5, -0.9], [0.6, -0.7], [0.9, 0.8], [-0.8, 0.4]])
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    matrix = perspective(points[None], corners)[0].numpy()
    expected = cv2.getPerspectiveTransform(points.numpy(), corners.numpy())
    assert matrix == pytest.approx(expected, abs=1e-4)


def test_an_affine_view_is_torchvisions():
    """15 degrees and a tenth of the side, without a perspective."""
    image = torch.nn.functional.interpolate(
        torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)), (40, 40)
    )
    draws = torch.tensor([[0.0, 1.0, 0.5, 0.5, 1.0, *[0.0] * 8], [0.0, 0.5, 1.0, 0.5, 1.0, *[0.0] * 8]])
    views = augment(image, draws[None])[0]
    assert torch.equal(views[0], image[0])
    bilinear = TF.InterpolationMode.BILINEAR
    turned = TF.affine(image[0], 15.0, [0, 0], 1.0, [0.0], interpolation=bilinear)
    other = TF.affine(image[0], -15.0, [0, 0], 1.0, [0.0], interpolation=bilinear)
    assert min((views[1] - view).abs().mean() for view in (turned, other)) < 0.01 < (turned - other).abs().mean()
    moved = TF.affine(image[0], 0.0, [-4, 0], 1.0, [0.0], interpolation=bilinear)
    assert torch.allclose(views[2], moved, atol=1e-5)


def test_seven_of_ten_views_are_warped():
    draws = torch.rand(4000, blended_diffusion.DRAWS, generator=torch.Generator().manual_seed(0))
    maps = homographies(draws)
    turned, bent = (draws[:, 0] < 0.7), (draws[:, 4] < 0.7)
    still = (maps - torch.eye(3)).abs().amax((1, 2)) < 1e-6
    assert torch.equal(still, ~turned & ~bent)
    assert still.float().mean() == pytest.approx(0.09, abs=0.02)
    assert ((maps[:, 2, :2].abs().amax(1) > 1e-6) == bent).float().mean() > 0.99


def test_the_outside_is_the_source_and_the_inside_turns(analytic):
    """Steered to red or to green, the square becomes redder or greener; outside it is the picture to the bit."""
    editor = BlendedDiffusion(Colours(), weight=300.0)
    results = {target: run(editor, analytic, target=target) for target in ("red", "green")}
    image = make_masked_request(analytic).image()
    for result in results.values():
        for edit in result.edits:
            outside = edit.image.clone()
            outside[:, 4:12, 4:12] = image[:, 4:12, 4:12]
            assert torch.equal(outside, image)
    red, green = (results[name].edits[1].image[:, 4:12, 4:12].mean((1, 2)) for name in ("red", "green"))
    assert red[0] - red[1] > green[0] - green[1] + 0.05
    unguided = run(BlendedDiffusion(Colours(), weight=0.0, range_weight=0.0), analytic, target="red").edits[1]
    assert red[0] - red[1] > (unguided.image[0] - unguided.image[1])[4:12, 4:12].mean()


@pytest.mark.parametrize("weight", [0.0, 200.0])
def test_step_by_step_by_hand(analytic, weight):
    """DDPM's steps by their textbook coefficients; the source put back at the level just reached; then the picture."""
    editor = BlendedDiffusion(Colours(), weight=weight, range_weight=0.0, augmentations=2)
    schedule = analytic.schedule(20)
    request = make_masked_request(analytic)
    x0, mask = analytic.encode(request.image()[None]), request.mask()[None]
    (cond,), text = analytic.embed([""]), Colours().texts(["red"])[0]
    x = schedule[10].alpha * x0 + schedule[10].sigma * NOISE.randn_like(x0, "start")
    for i in range(10, 0, -1):
        a, b = schedule[i].alpha ** 2, schedule[i - 1].alpha ** 2
        row = Guided(x[0], schedule[i], cond, text, mask[0].bool(), editor.draws(NOISE, i))
        clean, _, push = editor.guide(analytic, [row])[0]
        beta = 1 - a / b
        variance = beta * (1 - b) / (1 - a)
        mean = (b**0.5 * beta * clean + (a / b) ** 0.5 * (1 - b) * x) / (1 - a)  # Ho et al. 2020, eq. 7
        x = mean + variance * push + variance**0.5 * NOISE.randn_like(x0, f"step {i}")
        source = schedule[i - 1].alpha * x0 + schedule[i - 1].sigma * NOISE.randn_like(x0, f"source {i - 1}")
        x = mask * x + (1 - mask) * (source if i > 1 else x0)
    image = run(editor, analytic, (0.5,)).edits[0].image
    assert torch.allclose(image, analytic.decode(x)[0], atol=1e-4)


@pytest.mark.parametrize("mask", [ContrastMask(), Everywhere()])
def test_only_given_masks(mask):
    with pytest.raises(ValueError, match="BlendedDiffusion infers no mask"):
        BlendedDiffusion(Colours(), mask)


def test_equal_to_the_bit_whatever_stands_beside(analytic):
    """Guided steps of many programs share their batches; a ratio does not depend on the others."""
    editor, schedule = BlendedDiffusion(Colours(), augmentations=2), analytic.schedule(8)
    sizes = []

    def edit_all(names, ratios):
        programs = [
            (n, editor(make_masked_request(analytic, n, seed=int(n)), ratios, schedule, RequestNoise(0, n)))
            for n in names
        ]
        edits = {}
        for outcome in Engine(analytic, BatchSizes(predict=8, custom=4), progress=False).run(programs):
            assert outcome.error is None, outcome.error
            sizes.append(outcome.evaluations)
            edits[outcome.id] = outcome.result.edits
        return edits

    many, few = edit_all("0123456", [0.5, 1.0]), edit_all("3", [0.5])
    assert same(few["3"], many["3"][:1])
    assert sizes[0] == {4: 4, 8: 8}


def test_samples_and_ranking(analytic):
    class Red:
        networks = ()
        needs_mask = False

        def __call__(self, request, images, masks):
            return images[:, 0].mean((1, 2)).tolist()

    result = run(EditPipeline(BlendedDiffusion(Colours()), rank=Red(), samples=3), analytic)
    assert len(result.samples) == 3
    assert len({sample.edits[0].score for sample in result.samples}) == 3


def test_a_latent_backbone_is_refused(tiny):
    mask = torch.ones(1, 32, 32)
    with pytest.raises(ValueError, match="works on pixels"):
        run_alone(
            BlendedDiffusion(Colours())(make_request(tiny, mask=lambda: mask), [0.5], tiny.schedule(4), NOISE), tiny
        )


# ------------------------------------------------------------------------------------------------------- pixel backbone


@pytest.fixture(scope="module")
def pixel_folder(tmp_path_factory):
    """Random weights in the format of diffusers' DDPMPipeline; 6 channels out, as guided-diffusion has them."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = UNet2DModel(16, 3, 6, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, **blocks)
    folder = tmp_path_factory.mktemp("pixel")
    DDPMPipeline(unet, DDPMScheduler(beta_schedule="linear")).save_pretrained(folder, safe_serialization=True)
    return folder


def test_sampling_in_pixels_is_diffusers_ddim(pixel_folder):
    """Unconditional denoising over 10 steps against DDIMScheduler on the same network.

    At leading times: at others diffusers steps to t - 100, whether it visits that time or not.
    """
    backbone = PixelDiffusion(str(pixel_folder), device="cpu", timestep_spacing="leading")
    schedule, x = backbone.schedule(10), torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    scheduler = DDIMScheduler(beta_schedule="linear", clip_sample=False)
    scheduler.set_timesteps(10)
    assert [level.timestep for level in schedule][1:] == sorted(scheduler.timesteps.tolist())
    unet, expected = UNet2DModel.from_pretrained(pixel_folder, subfolder="unet"), x
    with torch.no_grad():
        for time in scheduler.timesteps:
            expected = scheduler.step(unet(expected, time).sample[:, :3], time, expected).prev_sample
    sampled = run_alone(ddim_sample({10: x}, schedule, None, None, 1.0), backbone)[10]
    assert torch.allclose(sampled, expected, rtol=1e-4, atol=1e-4)
    assert (schedule[0].alpha, schedule[0].sigma) == (1.0, 0.0)


def test_the_times_are_guided_diffusions(pixel_folder):
    """Respaced to 100: steps of 999 / 99, rounded, from 0 to 999."""
    timesteps = [level.timestep for level in PixelDiffusion(str(pixel_folder), device="cpu").schedule(100)][1:]
    assert timesteps == [round(i * 999 / 99) for i in range(100)]


def test_guidance_through_a_network(pixel_folder):
    """The whole method on a UNet, with a real CLIP: finite, exact outside, not the unguided edit inside."""
    backbone = PixelDiffusion(str(pixel_folder), device="cpu")
    edits = []
    for weight in (1000.0, 0.0):
        result = run(BlendedDiffusion(OpenClip(), weight=weight, augmentations=2), backbone, (0.2,), target="a plum")
        edits.append(result.edits[0].image)
    assert torch.isfinite(edits[0]).all()
    assert not torch.allclose(edits[0], edits[1], atol=1e-3)


def test_a_network_of_other_channels_is_refused(pixel_folder, tmp_path):
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(16, 4, 4, block_out_channels=(8,), norm_num_groups=4, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path, safe_serialization=True)
    with pytest.raises(ValueError, match="takes 4 channels, pictures have 3"):
        PixelDiffusion(str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match="none of float32"):
        read_dtype("int8")
