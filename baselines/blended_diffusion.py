"""Blended Diffusion (Avrahami et al., CVPR 2022): pixel-space diffusion steered by CLIP inside a given mask.

The text acts through CLIP's gradient alone; the diffusion model is unconditional. The official code respaces DDPM to
100 steps and skips the first 25: steps=100 and r = 0.75. Here the source is put back at the level that the update has
reached; the official code puts it back one step too noisy. Several samples and their ranking are stages
(`diffedit.stages.pipeline`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.mask import GivenMask, MaskedEditor, MaskFinder
from diffedit.sampling.ddim import add_noise, ddim_step, decode_edits
from diffedit.types import (
    Backbone,
    Cond,
    CustomBatch,
    EditRequest,
    EditResult,
    Embed,
    Encode,
    Level,
    Noise,
    Prediction,
    Program,
    Schedule,
)

DRAWS = 13  # random numbers of one augmentation


@runtime_checkable
class TextImage(Protocol):
    """A model that embeds texts and pictures in one space (`diffedit.networks.clip.OpenClip`)."""

    hash: str  # names its weights

    @property
    def side(self) -> int:
        """Of the pictures that it takes."""

    def images(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b width"]:
        """Unit embeddings of pictures in [0, 1]; differentiable."""

    def texts(self, texts: Sequence[str]) -> Float[Tensor, "b width"]:
        """Unit embeddings."""


class Guided(NamedTuple):
    """What the guidance of one latent needs."""

    x: Float[Tensor, "3 H W"]
    level: Level
    cond: Cond
    text: Float[Tensor, " width"]
    mask: Bool[Tensor, "1 H W"]
    draws: Float[Tensor, "views numbers"]


@settings
class BlendedDiffusion(MaskedEditor):
    """CLIP-guided editing under the request's own mask, for backbones whose latents are pixels.

    Attributes:
        clip: embeds texts and pictures.
        mask: the given mask.
        weight: of the CLIP distance.
        range_weight: of the loss that keeps the predicted picture in [-1, 1].
        augmentations: views of the predicted picture that CLIP sees at each step; the first is not augmented.
    """

    clip: TextImage
    mask: MaskFinder = GivenMask()
    weight: Annotated[float, Ge(0)] = 1000.0
    range_weight: Annotated[float, Ge(0)] = 50.0
    augmentations: Annotated[int, Ge(1)] = 8

    def __post_init__(self) -> None:
        if not isinstance(self.mask, GivenMask):
            raise ValueError(f"BlendedDiffusion infers no mask: editor/mask is given or oracle, not {self.mask}")

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """The ratios share their noises: an edit at one ratio does not depend on which others are asked for."""
        starts = schedule.start_levels(ratios)
        image = request.image()
        x0 = yield Encode(image)
        if x0.shape[1:] != image.shape:
            raise ValueError(
                f"request {request.id}: Blended Diffusion works on pixels, and the backbone has latents of "
                f"{tuple(x0.shape[1:])}: backbone=pixel_diffusion or stilllife_pixel"
            )
        (cond,) = yield Embed(("",))
        mask = yield from self.mask.find(request, x0, cond, cond, schedule, noise)
        text = self.clip.texts([request.target_text])[0]

        order = sorted(starts, reverse=True)
        x = x0[:0]
        for i in range(order[0], 0, -1):
            if i in starts:
                x = torch.cat([x, add_noise(x0, noise.randn_like(x0, "start"), schedule[i])])
            draws = self.draws(noise, i)
            rows = [Guided(latent, schedule[i], cond, text, mask.latent[0], draws) for latent in x]
            answers = yield CustomBatch(self.guide, rows, evaluations=1, edits=tuple(order[: len(x)]))
            clean, eps, push = (torch.stack(part) for part in zip(*answers, strict=True))
            x = ddim_step(
                Prediction(clean, eps), schedule[i], schedule[i - 1], 1.0, noise.randn_like(x0, f"step {i}"), push
            )
            source = add_noise(x0, noise.randn_like(x0, f"source {i - 1}"), schedule[i - 1]) if i > 1 else x0
            x = torch.where(mask.latent, x, source)
        edits = yield from decode_edits(dict(zip(order, x.split(1), strict=True)), ratios, starts)
        pasted = [replace(e, image=torch.where(mask.pixel_mask, e.image.cpu(), image)) for e in edits]
        return EditResult(pasted, mask.latent, pixel_mask=mask.pixel_mask, metadata=mask.metadata())

    @property
    def networks(self) -> tuple[TextImage, ...]:
        return (self.clip,)

    def draws(self, noise: Noise, level: int) -> Float[Tensor, "views numbers"]:
        """Uniform numbers in [0, 1] for each augmented view at this level."""
        normal = noise.randn_like(torch.zeros(1, self.augmentations - 1, DRAWS), f"augment {level}")[0]
        return torch.special.ndtr(normal)

    def guide(self, backbone: Backbone, rows: Sequence[Guided]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(predicted x0, eps, the direction to push) of each row: one estimate, and the gradient through it.

        CLIP sees the prediction mixed with the latent, sigma * x0 + (1 - sigma) * x, under the mask.
        """
        x = torch.stack([row.x for row in rows]).detach().requires_grad_()
        mask, text = (torch.stack([row[k] for row in rows]).to(x.device) for k in (4, 3))
        sigma = x.new_tensor([row.level.sigma for row in rows])[:, None, None, None]
        prediction = backbone.predict(x, [row.level for row in rows], [row.cond for row in rows])
        shown = torch.where(mask, prediction.x0 * sigma + x * (1 - sigma), 0)
        views = augment(F.adaptive_avg_pool2d(shown, self.clip.side), torch.stack([row.draws for row in rows]))
        embedded = self.clip.images((views.flatten(0, 1) + 1) / 2).unflatten(0, views.shape[:2])
        distance = spherical(embedded, text[:, None].to(embedded)).mean(1)
        excess = (prediction.x0 - prediction.x0.clamp(-1, 1)).square().mean((1, 2, 3))
        loss = self.weight * distance.sum().to(x.device) + self.range_weight * excess.sum()
        (gradient,) = torch.autograd.grad(loss, x)
        return list(zip(prediction.x0.detach(), prediction.eps.detach(), -gradient, strict=True))


def spherical(one: Float[Tensor, "... width"], other: Float[Tensor, "... width"]) -> Float[Tensor, "..."]:
    """2 arcsin(|u - v| / 2)^2 of unit vectors: half the squared angle."""
    # Below 1: the slope of arcsin is infinite at opposite vectors.
    half = ((one - other).square().sum(-1) / 4 + 1e-12).sqrt().clamp(max=1 - 1e-6)
    return 2 * torch.arcsin(half).square()


def augment(images: Float[Tensor, "b 3 s s"], draws: Float[Tensor, "b _ numbers"]) -> Float[Tensor, "b views 3 s s"]:
    """Each image as it is, and warped.

    An affine map (15 degrees, a tenth of the side), then a perspective, each in 7 of 10 views, in one resampling.
    Beyond the image a view is grey, as it is outside the mask (the official code repeats the border under the first).
    """
    b, views, _ = draws.shape
    if not views:
        return images[:, None]
    maps = homographies(draws.flatten(0, 1)).to(images)
    side = images.shape[-1]
    line = (torch.arange(side).to(images) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], -1) @ maps[:, None].mT
    grid = places[..., :2] / places[..., 2:].clamp(min=1e-3)
    copies = images.repeat_interleave(views, 0)
    warped = F.grid_sample(copies, grid, padding_mode="zeros", align_corners=False).unflatten(0, (b, views))
    return torch.cat([images[:, None], warped], 1)


def homographies(draws: Float[Tensor, "n numbers"]) -> Float[Tensor, "n 3 3"]:
    """From places in a view to places in the image, both in [-1, 1]."""
    n = len(draws)
    angle = (draws[:, 1] * 2 - 1) * torch.pi / 12
    move = (draws[:, 2:4] * 2 - 1) * 0.2  # the side is 2
    affine = torch.eye(3).repeat(n, 1, 1)
    affine[:, 0, 0] = affine[:, 1, 1] = angle.cos()
    affine[:, 0, 1], affine[:, 1, 0] = -angle.sin(), angle.sin()
    affine[:, :2, 2] = move
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    inwards = corners - corners.sign() * 0.7 * draws[:, 5:].unflatten(1, (4, 2))
    still = torch.eye(3).expand(n, 3, 3)
    affine = torch.where(draws[:, 0, None, None] < 0.7, affine, still)
    return affine @ torch.where(draws[:, 4, None, None] < 0.7, perspective(inwards, corners), still)


def perspective(points: Float[Tensor, "n 4 2"], corners: Float[Tensor, "4 2"]) -> Float[Tensor, "n 3 3"]:
    """The homographies that take four points to four others."""
    x, y = points.unbind(-1)
    u, v = corners.expand_as(points).unbind(-1)
    one, none = torch.ones_like(x), torch.zeros_like(x)
    first = torch.stack([x, y, one, none, none, none, -u * x, -u * y], -1)
    second = torch.stack([none, none, none, x, y, one, -v * x, -v * y], -1)
    solved = torch.linalg.solve(torch.cat([first, second], 1), torch.cat([u, v], 1))
    return torch.cat([solved, torch.ones(len(points), 1)], 1).unflatten(1, (3, 3))
