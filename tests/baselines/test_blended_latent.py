"""Blended Latent Diffusion against hand computations on the exact model."""

import ast
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers import CONF, composed, make_request
from hydra.utils import instantiate

from baselines.blended_latent import BlendedLatent, Shrinking
from baselines.sdedit import SDEdit
from diffedit.engine.queries import run_alone
from diffedit.mask import GivenMask, dilate
from diffedit.sampling.noise import RequestNoise

N, GUIDANCE = 8, 3.0
NOISE = RequestNoise(0, "a")


def preset(name, **settings):
    cfg = composed(f"editor={name}", "benchmark=folder", "benchmark.path=none")
    return replace(instantiate(cfg.editor, _convert_="all"), **settings)


def make_masked_request(backbone, box=(4, 12)):
    mask = torch.zeros(1, 16, 16)
    mask[0, box[0] : box[1], box[0] : box[1]] = 1
    return make_request(backbone, target="pear", mask=lambda: mask)


def run(editor, backbone, ratios=(0.75,), steps=N, **settings):
    return run_alone(
        editor(make_masked_request(backbone, **settings), list(ratios), backbone.schedule(steps), NOISE), backbone
    )


class ByHand:
    """The loop of a published code, written out on raw tensors and the model's cumulative products."""

    def __init__(self, backbone, steps=N, top=6):
        self.backbone, self.top = backbone, top
        self.schedule = backbone.schedule(steps)
        self.x0 = backbone.encode(make_masked_request(backbone).image()[None])
        self.mask = make_masked_request(backbone).mask()[None]
        self.cond, self.empty = backbone.embed(["pear", ""])

    def draw(self, purpose):
        return NOISE.randn_like(self.x0, purpose)

    def noised(self, i, purpose):
        alpha, sigma, _ = self.schedule[i]
        return alpha * self.x0 + sigma * self.draw(purpose)

    def step(self, x, i):
        """DDIM with guidance, from level i to i - 1."""
        alpha, sigma, _ = self.schedule[i]
        eps = [self.backbone.predict(x, [self.schedule[i]], [cond]).eps for cond in (self.empty, self.cond)]
        eps = eps[0] + GUIDANCE * (eps[1] - eps[0])
        return self.schedule[i - 1].alpha * (x - sigma * eps) / alpha + self.schedule[i - 1].sigma * eps

    def image(self, x):
        return self.backbone.decode(x)[0]


def close(result, by_hand, x):
    return torch.allclose(result.edits[0].image, by_hand.image(x), atol=1e-5)


def test_matched_level_and_clean_end(analytic):
    """The default: after the step to level i - 1 the source is noised to i - 1, and is itself at 0."""
    hand = ByHand(analytic)
    x = hand.noised(6, "start")
    for i in range(6, 0, -1):
        source = hand.noised(i - 1, f"source {i - 1}") if i > 1 else hand.x0
        x = hand.mask * hand.step(x, i) + (1 - hand.mask) * source
    result = run(preset("blended_latent", guidance=GUIDANCE), analytic)
    assert close(result, hand, x)
    outside = ~make_masked_request(analytic).mask().bool().expand(3, -1, -1)
    assert torch.equal(result.edits[0].image[outside], analytic.decode(hand.x0)[0][outside])


def test_sd2_puts_back_one_step_too_noisy(analytic):
    """Pure noise at r; after the step to level i - 1 the source is noised to i; it never gets clean."""
    hand = ByHand(analytic)
    x = hand.draw("start")
    for i in range(6, 0, -1):
        x = hand.mask * hand.step(x, i) + (1 - hand.mask) * hand.noised(i, f"source {i}")
    editor = preset("blended_latent_sd2", guidance=GUIDANCE)
    result = run(editor, analytic)
    assert close(result, hand, x)
    outside = ~make_masked_request(analytic).mask().bool().expand(3, -1, -1)
    gap = result.edits[0].image[outside] - analytic.decode(hand.x0)[0][outside]
    assert 0.4 < gap.std() / (0.5 * hand.schedule[1].sigma) < 1.1  # the noise of level 1, clipped here and there
    assert not close(run(replace(editor, level="matched"), analytic), hand, x)


def test_ldm_blends_before_the_step_and_not_at_the_end(analytic):
    """The source is put back at the level about to be left; the last update stays as it is."""
    hand = ByHand(analytic)
    x = hand.noised(6, "start")
    for i in range(6, 0, -1):
        x = hand.mask * x + (1 - hand.mask) * hand.noised(i, f"source {i}")
        x = hand.step(x, i)
    assert close(run(preset("blended_latent_ldm", guidance=GUIDANCE), analytic), hand, x)


def test_ratio_is_one_minus_the_blending_start_percentage(analytic):
    """0.25 of 50 skips int(12.5) = 12 steps: 38 are left, which are those of r = 0.75."""
    assert analytic.schedule(50).find_level(0.75) == 50 - int(50 * 0.25) == 38


def test_fixed_noise_is_sdedit_with_a_mask(analytic):
    """With one noise for start and source it is the same program as SDEdit under the mask."""
    result = run(BlendedLatent(start="noised", noise="fixed", guidance=GUIDANCE), analytic, ratios=(0.5, 1.0))
    editor = SDEdit(GivenMask(), guidance=GUIDANCE)
    noise = RequestNoise(0, "a")

    class Renamed:
        def randn_like(self, x, purpose, count=1):
            return noise.randn_like(x, purpose.removesuffix(" 0"), count)

    expected = run_alone(editor(make_masked_request(analytic), [0.5, 1.0], analytic.schedule(N), Renamed()), analytic)
    assert all(torch.equal(a.image, b.image) for a, b in zip(result.edits, expected.edits, strict=True))


@pytest.mark.parametrize(
    "name", ["blended_latent", "blended_latent_ldm", "blended_latent_sd2", "blended_latent_thin", "inpaint_diffusers"]
)
def test_a_ratio_does_not_depend_on_the_others(analytic, name):
    both, alone = (run(preset(name), analytic, ratios=ratios) for ratios in ((1.0, 0.5), (0.5,)))
    assert torch.equal(both.edits[1].image, alone.edits[0].image)


# ------------------------------------------------------------------------------------------------------------ shrinking


def test_each_kernel_has_a_quarter_of_the_steps():
    shrink = Shrinking((7, 5, 3, 1))
    assert [shrink.kernel_at(i, 12) for i in range(12)] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert [shrink.kernel_at(i, 38) for i in range(38)] == [0] * 9 + [1] * 10 + [2] * 9 + [3] * 10
    assert [shrink.kernel_at(i, 3) for i in range(3)] == [1, 2, 3]
    assert shrink.kernel_at(0, 1) == 3


def test_the_official_intervals_may_miss_the_last_mask():
    """i // (T // n + 1): of 38 steps the last 8 have the mask itself, of 12 none has."""
    shrink = Shrinking((7, 5, 3, 1), "official")
    assert [shrink.kernel_at(i, 38) for i in range(38)] == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 8
    assert [shrink.kernel_at(i, 12) for i in range(12)] == [0] * 4 + [1] * 4 + [2] * 4


def test_shares_by_config():
    shrink = Shrinking((5, 1), (0.2, 0.8))
    assert [shrink.kernel_at(i, 10) for i in range(10)] == [0] * 2 + [1] * 8
    assert [Shrinking((5, 1), (0.0, 1.0)).kernel_at(i, 10) for i in range(10)] == [1] * 10


def test_the_mask_shrinks_on_the_way_down(analytic):
    """Step by step by hand: each row of the sweep by its own steps; the end is the mask itself."""
    hand, masks = (
        ByHand(analytic),
        [dilate(make_masked_request(analytic, (7, 9)).mask().bool()[0], k) for k in (3, 2, 1, 0)],
    )
    x = hand.noised(6, "start")
    for i in range(6, 0, -1):
        source = hand.noised(i - 1, f"source {i - 1}") if i > 1 else hand.x0
        x = torch.where(masks[3 - (i - 1) * 4 // 6], hand.step(x, i), source)
    editor = preset("blended_latent_thin", guidance=GUIDANCE)
    result = run(editor, analytic, ratios=(1.0, 0.75), box=(7, 9))
    assert torch.allclose(result.edits[1].image, hand.image(x), atol=1e-5)
    assert torch.equal(result.mask, masks[-1])
    plain = run(replace(editor, shrink=Shrinking()), analytic, ratios=(0.75,), box=(7, 9))
    assert not torch.allclose(result.edits[1].image, plain.edits[0].image, atol=1e-3)


# ----------------------------------------------------------------------------------------------------------- odd masks


def test_a_mask_too_thin_for_the_grid_is_flagged_lost(tiny):
    """A line of one pixel covers a quarter of each latent place: by area it is lost, by `any` it is not."""
    mask = torch.zeros(1, 32, 32)
    mask[0, 1] = 1
    line = make_request(tiny, mask=lambda: mask)
    results = {
        downsample: run_alone(BlendedLatent(GivenMask(downsample))(line, [0.5], tiny.schedule(4), NOISE), tiny)
        for downsample in ("area", "any", "nearest")
    }
    assert results["area"].metadata == {"mask_area": 0.0, "mask_flag": "lost"}
    assert results["nearest"].metadata["mask_flag"] == "lost"  # the centre of the block is another line
    assert results["any"].metadata == {"mask_area": 8 / 64, "mask_flag": ""}
    assert results["area"].pixel_mask.sum() == 32


@pytest.mark.parametrize(("value", "flag"), [(0.0, "empty"), (1.0, "full"), (0.4, "empty"), (0.6, "full")])
def test_empty_full_and_soft_masks(analytic, value, flag):
    """Nothing is edited under an empty mask; all is under a full one; soft values are cut at a half."""
    mask = torch.full((1, 16, 16), value)
    odd = make_request(analytic, mask=lambda: mask)
    result = run_alone(BlendedLatent()(odd, [0.5], analytic.schedule(N), NOISE), analytic)
    assert result.metadata["mask_flag"] == flag
    kept = torch.equal(result.edits[0].image, analytic.decode(analytic.encode(odd.image()[None]))[0])
    assert kept == (flag == "empty")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shrinking((4, 1)), "odd sizes"),
        (lambda: Shrinking(()), "odd sizes"),
        (lambda: Shrinking((3, 1), (0.5, 0.6)), "sum to 1"),
        (lambda: Shrinking((3, 1), (1.0,)), "2 shares"),
        (lambda: BlendedLatent(blend="before", level="departed"), "editor.level=matched"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


BAD = {
    "editor/mask=contrast": "infers no mask",
    "editor.noise=some": "it should be 'fresh' or 'fixed'",
    "editor.mask.downsample=half": "it should be 'area', 'any', 'nearest' or 'corner'",
    "editor.shrink.shares=odd": "shares = 'odd'",
}
REFUSE = f"""
import sys
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

for override in sys.argv[1:]:
    with initialize_config_dir({str(CONF)!r}, version_base="1.3"):
        cfg = compose("run", ["editor=blended_latent", "backbone=analytic", override])
    try:
        instantiate(cfg.editor, _convert_="all")
        print("taken")
    except Exception as error:
        print(repr(str(error)))
"""


def test_bad_configs_are_refused():
    """As a user meets them: in a process without the shape checks of the tests."""
    command = [sys.executable, "-c", REFUSE, *BAD]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONF.parent)
    for message, line in zip(BAD.values(), done.stdout.splitlines(), strict=True):
        assert message in ast.literal_eval(line)


def test_a_request_without_a_mask_is_named(analytic):
    for editor, message in (
        (BlendedLatent(), "request a: the editor wants a given mask"),
        (BlendedLatent(GivenMask(which="oracle")), "request a: the editor wants the oracle's mask"),
    ):
        with pytest.raises(ValueError, match=message):
            run_alone(editor(make_request(analytic), [0.5], analytic.schedule(N), NOISE), analytic)
