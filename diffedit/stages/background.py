"""Background reconstruction: a stage after any editor that has a mask.

No autoencoder gives back its input, so an edit in the latent changes the whole picture a little. These stages make the
outside of the mask the source again (Blended Latent Diffusion, §3.3 and its alternatives). The mask is the one in
pixels where it was given so, else the one on the latent grid, enlarged.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from torch import Tensor, nn

from diffedit.io.checks import check_finite, settings
from diffedit.types import NO_QUERIES, Backbone, Custom, CustomBatch, EditRequest, EditResult, Encode, Program

Picture = Float[Tensor, "3 H W"]
PixelMask = Bool[Tensor, "1 H W"]


@runtime_checkable
class Reconstruct(Protocol):
    """A stage that changes the pictures of a result."""

    needs_mask: bool
    needs_decoder: bool  # of the backbone, to be trained

    def __call__(self, request: EditRequest, result: EditResult) -> Program[EditResult]:
        """The result with other pictures; its metadata hold the steps and seconds that each took."""


class FitTarget(NamedTuple):
    """What a picture is reconstructed from: the latent and the pixels of the edit, the source, and the mask."""

    latent: Float[Tensor, "1 c h w"]
    edited: Picture
    source: Picture
    mask: PixelMask


def mask_in_pixels(result: EditResult) -> Bool[Tensor, "1 H W"] | None:
    """The mask of a result in pixels, where it has one."""
    if result.pixel_mask is not None or result.mask is None:
        return result.pixel_mask
    size = result.edits[0].image.shape[-2:]
    return F.interpolate(result.mask.float(), size)[0].bool().cpu()


def require_mask(request: EditRequest, result: EditResult) -> PixelMask:
    """The mask of a result in pixels; a ValueError where its editor has none."""
    mask = mask_in_pixels(result)
    if mask is None:
        raise ValueError(
            f"request {request.id}: reconstruct needs a mask and the editor has none: reconstruct=none, or an editor "
            "with a mask"
        )
    return mask


def with_images(
    request: EditRequest, result: EditResult, images: Sequence[Picture], steps: int, seconds: float
) -> EditResult:
    """The result with these pictures, and the cost of each in its metadata; a FloatingPointError where one is NaN."""
    for image in images:
        check_finite(image, f"request {request.id}: the reconstructed picture (a lower reconstruct.rate?), which")
    edits = [replace(edit, image=image) for edit, image in zip(result.edits, images, strict=True)]
    cost = {"reconstruct_steps": steps, "reconstruct_seconds": round(seconds / len(images), 4)}
    return replace(result, edits=edits, metadata=dict(result.metadata) | cost)


@settings
class NoReconstruction:
    """No reconstruction: the decoder's picture as it is."""

    needs_mask: ClassVar = False
    needs_decoder: ClassVar = False

    def __call__(self, request: EditRequest, result: EditResult) -> Program[EditResult]:
        """Without a query."""
        yield from NO_QUERIES
        return result


@settings
class PixelPaste:
    """The source's own pixels outside the mask: no error there, and a seam where the edit does not fit."""

    needs_mask: ClassVar = True
    needs_decoder: ClassVar = False

    def __call__(self, request: EditRequest, result: EditResult) -> Program[EditResult]:
        """Without a query."""
        yield from NO_QUERIES
        began = time.perf_counter()
        source, mask = request.image(), require_mask(request, result)
        images = [torch.where(mask, edit.image.cpu(), source) for edit in result.edits]
        return with_images(request, result, images, 0, time.perf_counter() - began)


@settings
class Poisson:
    """The edit's gradients inside the mask, the source outside (Pérez et al., SIGGRAPH 2003, eq. 7).

    What OpenCV calls a normal clone. Where the mask meets the frame there is nothing to fit to, and the frame is left
    free; a full mask has no boundary at all and leaves the edit as it is.
    """

    needs_mask: ClassVar = True
    needs_decoder: ClassVar = False

    def __call__(self, request: EditRequest, result: EditResult) -> Program[EditResult]:
        """Without a query."""
        yield from NO_QUERIES
        began = time.perf_counter()
        source, mask = request.image(), require_mask(request, result)
        system = PoissonSystem(mask)
        images = [system.clone(edit.image.cpu(), source).clamp(0, 1) for edit in result.edits]
        return with_images(request, result, images, 0, time.perf_counter() - began)


class PoissonSystem:
    """The linear equations of one mask, factorised once for all pictures and channels.

    For each pixel p inside: the sum over its neighbours q in the frame of (f_p - f_q) = (g_p - g_q), where g is the
    edit and f_q is the source for a q outside.
    """

    def __init__(self, mask: PixelMask) -> None:
        self.inside = mask[0].numpy()
        number = np.full(self.inside.shape, -1)
        number[self.inside] = np.arange(self.inside.sum())
        pairs = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
        one = np.concatenate([a.ravel() for pair in pairs for a in pair])
        other = np.concatenate([a.ravel() for pair in pairs for a in pair[::-1]])
        self.inner = one >= 0
        self.one, self.other = one[self.inner], other[self.inner]

    @cached_property
    def solver(self) -> Any:
        """The factorised matrix."""
        n = int(self.inside.sum())
        free = self.other >= 0
        rows = np.concatenate([self.one, self.one[free]])
        columns = np.concatenate([self.one, self.other[free]])
        values = np.concatenate([np.ones(len(self.one)), -np.ones(free.sum())])
        return splu(csc_array((values, (rows, columns)), shape=(n, n)))

    def clone(self, edited: Picture, source: Picture) -> Picture:
        """The edit fitted into the source; not clipped."""
        if self.inside.all() or not self.inside.any():
            return edited if self.inside.any() else source
        out = source.clone()
        for channel, (g, f) in enumerate(zip(edited.double().numpy(), source.double().numpy(), strict=True)):
            right = self.right(g, f)
            out[channel][torch.from_numpy(self.inside)] = torch.from_numpy(self.solver.solve(right)).to(out)
        return out

    def right(self, g: np.ndarray, f: np.ndarray) -> np.ndarray:
        """The right-hand side for one channel."""

        def neighbours(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            pairs = [(x[:, :-1], x[:, 1:]), (x[:-1], x[1:])]
            one = np.concatenate([a.ravel() for pair in pairs for a in pair])
            other = np.concatenate([a.ravel() for pair in pairs for a in pair[::-1]])
            return one[self.inner], other[self.inner]

        inner, adjacent = neighbours(g)
        _, outside = neighbours(f)
        sums = np.zeros(int(self.inside.sum()))
        np.add.at(sums, self.one, inner - adjacent + np.where(self.other < 0, outside, 0))
        return sums


@settings
class AdamFit:
    """What decoder and latents are fitted to: the edit inside the mask, the source outside.

    MSE(edited * m, D * m) + background * MSE(source * (1 - m), D * (1 - m)), on pixels in [-1, 1], by Adam.

    Attributes:
        steps: of Adam.
        rate: its learning rate.
        background: weight of the outside.
    """

    steps: Annotated[int, Ge(1)] = 75
    rate: Annotated[float, Gt(0)] = 1e-4
    background: Annotated[float, Ge(0)] = 100.0

    needs_mask: ClassVar = True
    needs_decoder: ClassVar = True

    def targets(self, request: EditRequest, result: EditResult) -> Program[list[FitTarget]]:
        """Each edit with the latent that it encodes to, as the official code has it."""
        source, mask = request.image(), require_mask(request, result)
        targets = []
        for edit in result.edits:
            latent = yield Encode(edit.image.cpu())
            pictures = (picture.to(latent.device) for picture in (edit.image, source, mask))
            targets.append(FitTarget(latent, *pictures))
        return targets

    def loss(self, out: Float[Tensor, "b 3 H W"], targets: Sequence[FitTarget]) -> Float[Tensor, ""]:
        """Summed over the pictures, so that each has its own gradient; (2 d)^2 is the square on [-1, 1]."""
        edited, source, mask = (torch.stack([target[k] for target in targets]) for k in (1, 2, 3))
        inside, outside = (torch.where(mask, out - edited, 0), torch.where(mask, 0, out - source))
        return sum(
            weight * (2 * part).square().mean((1, 2, 3)).sum()
            for weight, part in ((1.0, inside), (self.background, outside))
        )


def find_decoder(backbone: Backbone) -> nn.Module:
    """The decoder of a backbone; a ValueError where it has none to be trained."""
    if backbone.decoder is None:
        raise ValueError(f"{type(backbone).__name__} has no decoder to fit: take reconstruct=pixel_paste or poisson")
    return backbone.decoder


@settings
class DecoderWeights(AdamFit):
    """Trains a copy of the decoder on each picture (Blended Latent Diffusion, §3.3), which is thrown away afterwards.

    The backbone's own weights are never touched. Every picture has weights of its own, so they are fitted one by one.
    """

    def __call__(self, request: EditRequest, result: EditResult) -> Program[EditResult]:
        """One `Custom` a picture."""
        targets = yield from self.targets(request, result)
        began = time.perf_counter()
        images = []
        for target in targets:
            image = yield Custom(lambda backbone, target=target: self.fit(backbone, target))
            images.append(image)
        return with_images(request, result, images, self.steps, time.perf_counter() - began)

    def fit(self, backbone: Backbone, target: FitTarget) -> Picture:
        """The picture by the fitted copy."""
        parameters = find_decoder(backbone).named_parameters()
        weights = {name: weight.detach().float().clone().requires_grad_() for name, weight in parameters}
        optimiser = torch.optim.Adam(weights.values(), lr=self.rate)
        for _ in range(self.steps):
            optimiser.zero_grad()
            self.loss(backbone.render(target.latent, weights), [target]).backward()
            optimiser.step()
        with torch.no_grad():
            return backbone.render(target.latent, weights)[0].clamp(0, 1)


@settings
class Latents(AdamFit):
    """Optimises the latent of each picture. Rate 0.1 in the official code, 1e-4 in the paper."""

    rate: Annotated[float, Gt(0)] = 0.1

    def __call__(self, request: EditRequest, result: EditResult) -> Program[EditResult]:
        """One `CustomBatch` for the pictures of a request; many requests are fitted in one batch."""
        targets = yield from self.targets(request, result)
        answers = yield CustomBatch(self.fit, targets)
        images, seconds = zip(*answers, strict=True)
        return with_images(request, result, list(images), self.steps, sum(seconds))

    def fit(self, backbone: Backbone, targets: Sequence[FitTarget]) -> list[tuple[Picture, float]]:
        """(picture, seconds) for each."""
        began = time.perf_counter()
        latents = torch.cat([target.latent for target in targets]).requires_grad_()
        optimiser = torch.optim.Adam([latents], lr=self.rate)
        for _ in range(self.steps):
            optimiser.zero_grad()
            self.loss(backbone.render(latents), targets).backward()
            optimiser.step()
        with torch.no_grad():
            images = backbone.render(latents).clamp(0, 1)
        seconds = (time.perf_counter() - began) / len({id(target) for target in targets})  # the others are padding
        return [(image, seconds) for image in images]
