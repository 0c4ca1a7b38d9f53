"""Background reconstruction: exactness outside, no leak of weights, and the closed forms that Poisson has."""

import cv2
import numpy as np
import pytest
import torch
from helpers import make_request

from baselines.blended_latent import BlendedLatent
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.queries import run_alone
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.background import AdamFit, DecoderWeights, FitTarget, Latents, PixelPaste, Poisson, PoissonSystem
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Edit, EditRequest, EditResult, Variant
from eval.stilllife.benchmarks import StillLifeScenes


@pytest.fixture(scope="module")
def stilllife():
    return StableDiffusion.from_pretrained("weights/stilllife", device="cpu")


def box(side=32, low=8, high=24):
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[0, low:high, low:high] = True
    return mask


def pictures(count, side=32, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def make_result(images, mask, source):
    """A request and the result of some editor, as a stage is given them."""
    result = EditResult([Edit(Variant(0.1 * (i + 1)), i + 1, image) for i, image in enumerate(images)], pixel_mask=mask)
    return EditRequest("a", lambda: source, "pear"), result


def same_weights(before, module):
    return all(torch.equal(before[name], weight) for name, weight in module.state_dict().items())


def snapshot(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def outside_error(image, source, mask):
    return torch.where(mask, 0, image - source).square().sum() / (~mask).sum() / 3


# --------------------------------------------------------------------------------------------------------------- pixels


def test_pixel_paste_leaves_no_error_outside(tiny):
    images, source, mask = pictures(2), pictures(1, seed=1)[0], box()
    result = run_alone(PixelPaste()(*make_result(images, mask, source)), tiny)
    for edit, image in zip(result.edits, images, strict=True):
        assert outside_error(edit.image, source, mask) == 0
        assert torch.equal(edit.image[:, mask[0]], image[:, mask[0]])
    assert result.metadata["reconstruct_steps"] == 0
    assert result.metadata["reconstruct_seconds"] >= 0


def test_without_pixels_the_latent_mask_is_enlarged(tiny):
    latent = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    latent[0, 0, 2:6, 2:6] = True
    request, edited = make_result(pictures(1), None, pictures(1, seed=1)[0])
    pasted = run_alone(PixelPaste()(request, EditResult(edited.edits, latent)), tiny)
    expected = run_alone(PixelPaste()(*make_result(pictures(1), box(), pictures(1, seed=1)[0])), tiny)
    assert torch.equal(pasted.edits[0].image, expected.edits[0].image)


def test_poisson_takes_a_constant_away():
    """The gradients of source + c are those of the source: the clone is the source itself."""
    source = 0.2 + 0.5 * pictures(1)[0]
    for mask in (box(), box(low=0, high=9), box(low=15, high=16)):
        cloned = PoissonSystem(mask).clone(source + 0.25, source)
        assert torch.allclose(cloned, source, atol=1e-6)


def test_poisson_of_a_flat_edit_is_harmonic():
    """Without gradients the inside is the mean of its neighbours; along a line it is linear."""
    ramp = torch.linspace(0, 1, 32).expand(3, 32, 32).contiguous()
    linear = PoissonSystem(box()).clone(torch.zeros(3, 32, 32), ramp)
    assert torch.allclose(linear, ramp, atol=1e-6)
    noisy = PoissonSystem(box()).clone(torch.zeros(3, 32, 32), pictures(1)[0])
    mean = (noisy[:, 7:23, 8:24] + noisy[:, 9:25, 8:24] + noisy[:, 8:24, 7:23] + noisy[:, 8:24, 9:25]) / 4
    assert torch.allclose(noisy[:, 8:24, 8:24], mean, atol=1e-6)


def test_poisson_at_the_frame_is_free_there():
    """A mask of the left half: what is known is the column at its right, and a flat edit takes its value row by row."""
    source = torch.zeros(3, 32, 32)
    source[:, :, 16:] = 0.5
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, :, :16] = True
    assert torch.allclose(PoissonSystem(mask).clone(torch.zeros(3, 32, 32), source), torch.full((3, 32, 32), 0.5))


def test_poisson_of_empty_and_full_masks(tiny):
    image, source = pictures(1), pictures(1, seed=1)[0]
    for mask, expected in ((torch.zeros(1, 32, 32), source), (torch.ones(1, 32, 32), image[0])):
        result = run_alone(Poisson()(*make_result(image, mask.bool(), source)), tiny)
        assert torch.equal(result.edits[0].image, expected)


def smooth(seed, side=64):
    """A smooth picture, so that 8 bits and OpenCV's sine transform agree with the exact equations."""
    low = pictures(1, 6, seed)
    return torch.nn.functional.interpolate(low, (side, side), mode="bicubic").clamp(0, 1)[0]


def test_poisson_is_opencvs_normal_clone():
    """Where the edit has the source's gradients near the mask's edge: OpenCV erodes the mask by three pixels first."""
    source, mask = 0.2 + 0.3 * smooth(1), box(64, 16, 48)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    bump = 0.3 * torch.exp(-((y - 31.5) ** 2 + (x - 31.5) ** 2) / 30)
    edited = source + 0.2 + bump
    cloned = PoissonSystem(mask).clone(edited, source)
    assert torch.allclose(cloned, source + bump, atol=1e-2)  # the bump has not quite gone at the edge
    eight = [(picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for picture in (edited, source)]
    area = (mask[0].numpy() * 255).astype(np.uint8)
    expected = torch.from_numpy(cv2.seamlessClone(*eight, area, (32, 32), cv2.NORMAL_CLONE)).permute(2, 0, 1) / 255
    difference, change = (cloned - expected).abs()[:, mask[0]], (expected - edited).abs()[:, mask[0]]
    assert difference.max() < 4 / 255
    assert change.mean() > 40 / 255


def seam(image, mask):
    """The mean step across the mask's edge, over that between other neighbours."""
    across = (image[:, :, 1:] - image[:, :, :-1]).abs().mean(0)
    edge = mask[0, :, 1:] != mask[0, :, :-1]
    return (across[edge].mean() / across[~edge].mean()).item()


def test_poisson_has_no_seam_and_pixel_paste_has():
    source, mask = 0.3 + 0.4 * smooth(1), box(64, 20, 44)
    edited = (source + 0.2 + 0.05 * smooth(2)).clamp(0, 1)
    pasted = torch.where(mask, edited, source)
    assert seam(pasted, mask) > 5
    assert seam(PoissonSystem(mask).clone(edited, source), mask) < 1.5 < seam(pasted, mask)


# ------------------------------------------------------------------------------------------------------------- fitting


def encode_true_edit(backbone, name=0):
    """A perfect edit: the true edit of a request through the autoencoder, with the exact mask."""
    request = list(StillLifeScenes(4).requests(64))[name]
    with torch.no_grad():
        edited = backbone.decode(backbone.encode(request.true_edit()[None]))[0]
    return request, edited, request.mask() >= 0.5


def test_the_decoder_lowers_the_background_error_by_more_than_three(stilllife):
    """Against the bare round trip of the source, with the paper's settings; the inside stays the edit."""
    request, edited, mask = encode_true_edit(stilllife, 1)
    before = snapshot(stilllife.vae)
    with torch.no_grad():
        trip = stilllife.decode(stilllife.encode(request.image()[None]))[0]
    result = run_alone(DecoderWeights()(*make_result([edited], mask, request.image())), stilllife)
    bare, fitted = (outside_error(image, request.image(), mask) for image in (trip, result.edits[0].image))
    assert fitted < bare / 3
    assert torch.where(mask, result.edits[0].image - edited, 0).square().sum() / mask.sum() / 3 < 2e-3
    assert result.metadata["reconstruct_steps"] == 75
    assert result.metadata["reconstruct_seconds"] > 0
    assert same_weights(before, stilllife.vae)


def test_weights_do_not_leak_to_the_next_picture(tiny):
    """The same picture comes out whatever was fitted before it, and the model is equal to the bit afterwards."""
    stage, mask, before = DecoderWeights(steps=3, rate=1e-2), box(), snapshot(tiny.vae)
    both = run_alone(stage(*make_result(pictures(2), mask, pictures(1, seed=1)[0])), tiny)
    alone = run_alone(stage(*make_result(pictures(2)[1:], mask, pictures(1, seed=1)[0])), tiny)
    assert torch.equal(both.edits[1].image, alone.edits[0].image)
    assert not torch.equal(both.edits[1].image, pictures(2)[1])
    assert same_weights(before, tiny.vae)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in tiny.vae.parameters())


@pytest.mark.parametrize("stage", [DecoderWeights(steps=5), Latents(steps=5)])
def test_the_model_is_whole_after_an_exception(tiny, monkeypatch, stage):
    before, steps = snapshot(tiny.vae), []

    def failing(self, out, targets):
        steps.append(1)
        if len(steps) == 3:
            raise FloatingPointError("in the middle")
        return loss(self, out, targets)

    loss = AdamFit.loss
    monkeypatch.setattr(AdamFit, "loss", failing)
    with pytest.raises(FloatingPointError, match="in the middle"):
        run_alone(stage(*make_result(pictures(1), box(), pictures(1, seed=1)[0])), tiny)
    assert len(steps) == 3
    assert same_weights(before, tiny.vae)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in tiny.vae.parameters())


def test_the_loss_is_that_of_the_paper():
    """MSE(edited m, D m) + 100 MSE(source (1 - m), D (1 - m)) over the whole frame, on pixels in [-1, 1]."""
    out, edited, source = pictures(1), pictures(1, seed=1)[0], pictures(1, seed=2)[0]
    mask = box()
    m, d, e, s = mask.float(), out[0] * 2 - 1, edited * 2 - 1, source * 2 - 1
    mse = torch.nn.functional.mse_loss
    expected = mse(e * m, d * m) + 100 * mse(s * (1 - m), d * (1 - m))
    target = FitTarget(torch.zeros(1, 4, 8, 8), edited, source, mask)
    assert DecoderWeights().loss(out, [target]).item() == pytest.approx(expected.item(), rel=1e-5)


def test_latents_by_hand(tiny):
    """Adam on the latent that the edit encodes to."""
    edited, source, mask = pictures(1)[0], pictures(1, seed=1)[0], box()
    with torch.no_grad():
        latent = tiny.encode(edited[None])
    z = latent.clone().requires_grad_()
    optimiser, m = torch.optim.Adam([z], lr=0.1), mask.float()
    for _ in range(4):
        optimiser.zero_grad()
        d = tiny.vae.decode(z / tiny.vae.config.scaling_factor).sample
        e, s = edited * 2 - 1, source * 2 - 1
        loss = ((d - e) * m).square().mean() + 100 * ((d - s) * (1 - m)).square().mean()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        expected = tiny.decode(z)[0]
    fitted = run_alone(Latents(steps=4)(*make_result([edited], mask, source)), tiny).edits[0].image
    assert torch.allclose(fitted, expected, atol=1e-4)
    assert not torch.allclose(fitted, tiny.decode(latent)[0], atol=1e-2)


def test_latents_of_many_requests_are_fitted_in_one_batch(tiny):
    """And each is equal to the bit to what it is in other company."""
    schedule, sizes = tiny.schedule(4), []
    batch = BatchSizes(predict=8, encode=2, decode=2, embed=2, custom=4)

    class Watched(Latents):
        def fit(self, backbone, targets):
            sizes.append(len(targets))
            return super().fit(backbone, targets)

    def run(names):
        method, programs = EditPipeline(BlendedLatent(), Watched(steps=3)), []
        for name in names:
            mask = box().float()
            request = make_request(tiny, name, mask=lambda mask=mask: mask, seed=int(name))
            programs.append((name, method(request, [0.5, 1.0], schedule, RequestNoise(0, name))))
        return {out.id: out.result for out in Engine(tiny, batch, progress=False).run(programs)}

    many, few = run("01234567"), run("52")
    assert set(sizes) == {4}
    assert sizes.count(4) == 4 + 1 + 1 + 1  # 16 pictures, 4 pictures, and each first call twice
    for name in "52":
        for one, other in zip(many[name].edits, few[name].edits, strict=True):
            assert torch.equal(one.image, other.image)


def test_render_is_decode_before_the_clip(stilllife, tiny):
    for backbone in (stilllife, tiny):
        latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.allclose(backbone.render(latents).clamp(0, 1), backbone.decode(latents), atol=1e-5)


def test_a_backbone_without_a_decoder_is_refused(analytic):
    request, result = make_result(pictures(1, 16), box(16, 4, 12), pictures(1, 16, 1)[0])
    for stage in (DecoderWeights(), Latents()):
        with pytest.raises(ValueError, match="AnalyticBackbone has no decoder to fit"):
            run_alone(stage(request, result), analytic)


@pytest.mark.parametrize("stage", [DecoderWeights(2, 1e20), Latents(2, 1e20)])
def test_a_fit_that_diverges_is_an_error_by_name(tiny, stage):
    with pytest.raises(FloatingPointError, match=r"request a: the reconstructed picture \(a lower reconstruct.rate"):
        run_alone(stage(*make_result(pictures(1), box(), pictures(1, seed=1)[0])), tiny)


def test_bad_settings_are_refused():
    for settings in ({"steps": 0}, {"rate": 0.0}, {"background": -1.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            DecoderWeights(**settings)
