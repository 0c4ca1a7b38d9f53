"""Blended Latent Diffusion (Avrahami et al., SIGGRAPH 2023): generate inside a given mask, put the source back outside.

The published codes agree on the method and on none of its details. Each detail is a setting here, and each code a yaml
(conf/editor/blended_latent*.yaml, inpaint_diffusers.yaml). The ratio r is 1 - blending_start_percentage. The paper's
other parts are stages that every editor can have (`diffedit.stages`): the reconstruction of the background, and several
samples with a ranking.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from diffedit.io.checks import Count, settings
from diffedit.mask import GivenMask, MaskedEditor, MaskFinder, dilate
from diffedit.sampling.ddim import (
    WHOLE,
    GuidanceInterval,
    Latents,
    Trajectory,
    add_noise,
    ddim_sample,
    decode_edits,
)
from diffedit.types import EditRequest, EditResult, Embed, Encode, Noise, Program, Schedule

LatentMask = Bool[Tensor, "1 1 h w"]


@settings
class Shrinking:
    """Progressive mask shrinking (paper, §3.4): a thin mask begins dilated, and shrinks to itself on the way down.

    The masks are dilated on the latent grid, before anything is inverted.

    Attributes:
        kernels: sides of the squares that the mask is dilated by, in the order of the steps; 1 is the mask itself.
        shares: how many of the steps each has: `even`; `official`, the intervals of the official code (the i-th of T
            steps has kernel i // (T // n + 1), so that some T, 12 with four kernels, never come to the last); or a list
            of shares that sum to 1.
    """

    kernels: tuple[Count, ...] = (1,)
    shares: Literal["even", "official"] | tuple[float, ...] = "even"

    def __post_init__(self) -> None:
        if not self.kernels or any(k < 1 or k % 2 == 0 for k in self.kernels):
            raise ValueError(
                f"editor.shrink.kernels = {list(self.kernels)}: odd sizes are wanted, such as [7, 5, 3, 1]"
            )
        if self.shares not in ("even", "official") and (
            isinstance(self.shares, str) or len(self.shares) != len(self.kernels) or abs(sum(self.shares) - 1) > 1e-6
        ):
            raise ValueError(
                f"editor.shrink.shares = {self.shares}: even, official, or {len(self.kernels)} shares (one a kernel) "
                "that sum to 1"
            )

    def kernel_at(self, step: int, steps: int) -> int:
        """Which kernel the step has, counted from 0, of so many steps."""
        n = len(self.kernels)
        match self.shares:
            case "even":
                return n - 1 - (steps - 1 - step) * n // steps  # ends on the last kernel, however few the steps
            case "official":
                return step // (steps // n + 1)
        ends = [sum(self.shares[: k + 1]) for k in range(n)]
        return next((k for k, end in enumerate(ends) if (step + 0.5) / steps < end), n - 1)

    def masks(self, mask: LatentMask) -> list[LatentMask]:
        """The mask dilated by each kernel."""
        return [dilate(mask, k // 2) for k in self.kernels]


@settings
class BlendedLatent(MaskedEditor):
    """Editing under the request's own mask.

    Attributes:
        mask: reduces the given mask to the latent grid.
        shrink: progressive mask shrinking; none by default.
        start: what stands at level r: the source `noised`, `pure` noise, or `noised_below_one`: the source noised, and
            pure noise at r = 1 (where the last level would still show the source).
        blend: the source is put back `after` each update, or `before` it; then not after the last one.
        level: the source is put back at the level that the update has reached (`matched`), or at the one it has
            `departed` from: one step too noisy, and never clean.
        noise: of the source: `fresh` at each level (paper, algorithm 1), or `fixed`, the one of the start.
        encode: the `mode` of the autoencoder's posterior, or a `sample` of it.
        guidance: classifier-free guidance.
        guidance_interval: (low, high], the ratios of the schedule that are guided, as in `DiffEdit`.
    """

    mask: MaskFinder = GivenMask()
    shrink: Shrinking = Shrinking()
    start: Literal["noised", "pure", "noised_below_one"] = "noised_below_one"
    blend: Literal["after", "before"] = "after"
    level: Literal["matched", "departed"] = "matched"
    noise: Literal["fresh", "fixed"] = "fresh"
    encode: Literal["mode", "sample"] = "mode"
    guidance: float = 7.5
    guidance_interval: GuidanceInterval = WHOLE

    def __post_init__(self) -> None:
        if not isinstance(self.mask, GivenMask):
            raise ValueError(
                f"Blended Latent Diffusion infers no mask: editor/mask is given or oracle, not {self.mask}"
            )
        if self.blend == "before" and self.level == "departed":
            raise ValueError("editor.blend=before has departed from no level yet: take editor.level=matched")

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """The ratios share their noises: an edit at one ratio does not depend on which others are asked for."""
        starts = schedule.start_levels(ratios)
        encoded = yield Encode(request.image(), spread=self.encode == "sample")
        x0 = encoded[:1]
        if self.encode == "sample":
            x0 = x0 + encoded[1:] * noise.randn_like(x0, "encode")
        target, empty = yield Embed((request.target, ""))
        mask = yield from self.mask.find(request, x0, target, empty, schedule, noise)

        source = self.source(x0, schedule, noise)
        masks = self.shrink.masks(mask.latent)
        put_back = self.put_back(sorted(starts, reverse=True), masks, source)
        begin = {i: self.begin(x0, i, schedule, noise) for i in starts}
        if self.blend == "before":
            begin = {i: torch.where(masks[self.shrink.kernel_at(0, i)], x, source(i)) for i, x in begin.items()}
        edited = yield from ddim_sample(
            begin, schedule, target, empty, self.guidance, put_back, interval=self.guidance_interval
        )
        edits = yield from decode_edits(edited, ratios, starts)
        return EditResult(edits, mask.latent, pixel_mask=mask.pixel_mask, metadata=mask.metadata())

    def begin(self, x0: Tensor, top: int, schedule: Schedule, noise: Noise) -> Tensor:
        """The latent that the edit from this level starts with."""
        start = noise.randn_like(x0, "start")
        pure = self.start == "pure" or (self.start == "noised_below_one" and top == len(schedule) - 1)
        return start if pure else add_noise(x0, start, schedule[top])

    def source(self, x0: Tensor, schedule: Schedule, noise: Noise) -> Trajectory:
        """`source(i)` is what is put back when level i is reached."""

        def at(i: int) -> Tensor:
            j = i + 1 if self.level == "departed" else i
            purpose = "start" if self.noise == "fixed" else f"source {j}"
            return add_noise(x0, noise.randn_like(x0, purpose), schedule[j]) if j else x0

        return at

    def put_back(
        self, order: Sequence[int], masks: Sequence[LatentMask], source: Trajectory
    ) -> Callable[[Latents, int], Latents]:
        """The blend of edits from the levels `order`, the highest first; each shrinks the mask over its own steps."""
        ahead = self.blend == "before"

        def blend(x: Latents, i: int) -> Latents:
            if i == 0 and ahead:
                return x
            steps = [top - i if ahead else top - i - 1 for top in order[: len(x)]]
            rows = [masks[self.shrink.kernel_at(k, top)] for k, top in zip(steps, order, strict=False)]
            return torch.where(torch.cat(rows), x, source(i))

        return blend
