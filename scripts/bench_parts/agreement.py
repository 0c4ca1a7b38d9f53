"""Both sides give the same pictures where they should: the same latent, noise, mask and text.

As they are used they differ, because diffusers leaves the paper (docs/fidelity.md): it samples the autoencoder's
posterior, clamps a map at the mean of the whole batch, guides the inversion, and blends one level late. Here both are
told the same; that they then compute the same edit, step by step, is what makes their times comparable.
"""

from argparse import Namespace
from dataclasses import dataclass

import torch
from hydra.utils import instantiate
from torch import Tensor

from baselines.sdedit import SDEdit
from bench_parts.ours import Ours
from bench_parts.theirs import Theirs, find_strength
from diffedit.engine.queries import run_alone
from diffedit.io.compose import compose
from diffedit.mask import ContrastMask, MeanClamp
from diffedit.sampling.ddim import ddim_invert, ddim_sample
from diffedit.types import Cond, Decode, EditRequest, Program, Schedule

SEED, NOISES, GUIDANCE = 7, 10, 7.5
MASK_TOLERANCE = 0.02  # share of places: a map may meet the threshold to the last bit


class DisagreementError(RuntimeError):
    """Both sides compute something else: their times say nothing."""

    exit_code = 1


@dataclass(frozen=True)
class GivenNoise:
    """The noise of their generator, by purpose."""

    draws: dict[str, Tensor]

    def randn_like(self, x: Tensor, purpose: str, count: int = 1) -> Tensor:
        """The noise given for this purpose."""
        return self.draws[purpose][:count].to(x)


def compare(ours: Ours, theirs: Theirs, method: str, request: EditRequest, ratio: float) -> dict[str, float]:
    """Largest differences between both sides' edits of one picture at one ratio, in [0, 1] for pictures."""
    return {"diffedit": compare_diffedit, "sdedit": compare_sdedit, "blended_latent": compare_blended}[method](
        ours, theirs, request, ratio
    )


def draw(theirs: Theirs, *counts: int) -> list[Tensor]:
    """What a generator of theirs draws, in order: so many latents each time."""
    generator = torch.Generator().manual_seed(SEED)
    side = theirs.unet.config.sample_size
    shape = (theirs.vae.config.latent_channels, side, side)
    return [torch.randn(n, *shape, generator=generator, dtype=theirs.vae.dtype) for n in counts]


def compare_diffedit(ours: Ours, theirs: Theirs, request: EditRequest, ratio: float) -> dict[str, float]:
    """Their mask, inversion and decoding against ours; ours blends one level late here, as they do."""
    backbone, steps = ours.backbone, {"num_inference_steps": theirs.steps}
    schedule, strength = backbone.schedule(theirs.steps), {"inpaint_strength": find_strength(ratio, theirs.steps)}
    with torch.no_grad():
        x0 = backbone.encode(request.image()[None])
        target, source, empty = backbone.embed((request.target, request.source, ""))
    generator = torch.Generator().manual_seed(SEED)
    theirs_mask = theirs.diffedit.generate_mask(
        x0, request.target, source_prompt=request.source, generator=generator, **steps
    )
    latents = theirs.diffedit.invert("", x0, guidance_scale=1, **strength, **steps).latents
    expected = theirs.diffedit(
        request.target, theirs_mask, latents, guidance_scale=GUIDANCE, output_type="pt", **strength, **steps
    ).images

    finder, noise = ContrastMask(NOISES, outliers=MeanClamp()), GivenNoise({"mask": draw(theirs, NOISES)[0]})
    mask = run_alone(finder.find(request, x0, target, source, schedule, noise), backbone).latent
    path = run_alone(ddim_invert(x0, schedule, schedule.find_level(ratio), empty), backbone)
    given = torch.from_numpy(theirs_mask)[:, None].bool().to(x0.device)
    picture = run_alone(decode_late(path, given, schedule, target, empty), backbone)
    inverted = torch.cat(path[:0:-1]) - latents[0]
    return {
        "mask": (mask.cpu() != given.cpu()).float().mean().item(),
        "inversion": inverted.abs().max().item(),
        "picture": find_difference(picture, expected),
    }


def decode_late(path: list[Tensor], mask: Tensor, schedule: Schedule, target: Cond, empty: Cond) -> Program[Tensor]:
    """Decoding under a mask that puts the picture back at the level above the one that is reached."""
    top = len(path) - 1

    def blend(x: Tensor, i: int) -> Tensor:
        return torch.where(mask, x, path[i + 1])

    edited = yield from ddim_sample({top: path[top]}, schedule, target, empty, GUIDANCE, blend)
    return (yield Decode(edited[top]))


def compare_sdedit(ours: Ours, theirs: Theirs, request: EditRequest, ratio: float) -> dict[str, float]:
    """The whole editor against img2img, from the same latent."""
    backbone = ours.backbone
    with torch.no_grad():
        x0 = backbone.encode(request.image()[None])
    generator = torch.Generator().manual_seed(SEED)
    expected = theirs.img2img(
        request.target, image=x0, generator=generator, guidance_scale=GUIDANCE, **theirs.describe(ratio)
    ).images
    noise = GivenNoise({"start 0": draw(theirs, 1)[0]})
    result = run_alone(SDEdit()(request, [ratio], backbone.schedule(theirs.steps), noise), backbone)
    return {"picture": find_difference(result.edits[0].image[None], expected)}


def compare_blended(ours: Ours, theirs: Theirs, request: EditRequest, ratio: float) -> dict[str, float]:
    """The preset `inpaint_diffusers` against inpaint; both draw the posterior's sample, then the noise."""
    backbone, image = ours.backbone, request.image()[None]
    size = dict(zip(("height", "width"), image.shape[-2:], strict=True))
    generator = torch.Generator().manual_seed(SEED)
    expected = theirs.inpaint(
        request.target,
        image=image,
        mask_image=request.mask()[None],
        generator=generator,
        guidance_scale=GUIDANCE,
        **size,
        **theirs.describe(ratio),
    ).images
    noise = GivenNoise(dict(zip(("encode", "start"), draw(theirs, 1, 1), strict=True)))
    editor = make_inpaint_editor()
    result = run_alone(editor(request, [ratio], backbone.schedule(theirs.steps), noise), backbone)
    return {"picture": find_difference(result.edits[0].image[None], expected)}


def make_inpaint_editor() -> object:
    """Blended latents as their inpainting has them."""
    return instantiate(compose("run", ["editor=inpaint_diffusers"]).editor, _convert_="all")


def find_difference(one: Tensor, other: Tensor) -> float:
    """The largest difference between two pictures in [0, 1]."""
    return (one.float().cpu() - other.float().cpu()).abs().max().item()


def check(found: dict[str, dict[str, float]], tolerance: float) -> None:
    """Refuse sides that do not agree.

    Raises:
        DisagreementError: a picture, an inversion or a mask differs by more than it may; the message says which.
    """
    for method, differences in found.items():
        for name, value in differences.items():
            allowed = MASK_TOLERANCE if name == "mask" else tolerance
            if not value <= allowed:  # NaN too
                raise DisagreementError(
                    f"{method}: {name}: both sides differ by {value:.3g}, more than {allowed:g}: they do not compute "
                    "the same edit, so their times say nothing. Half precision differs more: --tolerance"
                )


def measure_agreement(
    ours: Ours, theirs: Theirs, methods: list[str], requests: list[EditRequest], args: Namespace
) -> dict[str, dict[str, float]]:
    """The largest differences over some pictures and two ratios, by method; see `check`."""
    found: dict[str, dict[str, float]] = {}
    for method in methods:
        rows = [compare(ours, theirs, method, request, ratio) for request in requests for ratio in (0.5, 1.0)]
        found[method] = {name: max(row[name] for row in rows) for name in rows[0]}
    check(found, args.tolerance)
    return found
