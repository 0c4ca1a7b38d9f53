"""DiffEdit (Couairon et al., ICLR 2023): infer a mask, encode the picture, decode it under the mask."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from diffedit.io.checks import settings
from diffedit.mask import ContrastMask, MaskedEditor, MaskFinder
from diffedit.sampling.ddim import (
    WHOLE,
    BlendTime,
    GuidanceInterval,
    InversionTimestep,
    Trajectory,
    blend_outside,
    ddim_invert,
    ddim_sample,
    decode_edits,
    noising_trajectory,
)
from diffedit.types import Cond, EditRequest, EditResult, Embed, Encode, Noise, Program, Schedule


@settings
class DiffEdit(MaskedEditor):
    """Text-driven editing under a mask inferred by contrasting two texts (§3.2).

    Attributes:
        mask: who finds the mask: `ContrastMask` (the paper), `GivenMask` or `Everywhere`.
        start: `encode` takes the picture up by DDIM inversion (DiffEdit); `noise` adds noise to it instead, one noise
            for all levels (the ablation "DiffEdit w/o Encode").
        inversion_timestep: the timestep that the network is given on the way up, see `ddim_invert`.
        reference: the text the mask is contrasted against: the request's `source`, the `empty` text, or `auto`, which
            is the source where the request has one.
        guidance: classifier-free guidance of the decoding; 5 on ImageNet, 7.5 with Stable Diffusion in the paper.
        blend: when the outside of the mask is put back: after `every` update (the paper), after the `last` one alone,
            or `never`: with reconstruct=pixel_paste in pixels then (the ablation of the masking operator).
        guidance_interval: (low, high]: a step that leaves level i of N is guided where low < i / N <= high; all are in
            the paper. Another takes the conditional estimate alone: one evaluation instead of two.
    """

    mask: MaskFinder = ContrastMask()
    start: Literal["encode", "noise"] = "encode"
    inversion_timestep: InversionTimestep = "destination"
    reference: Literal["auto", "source", "empty"] = "auto"
    guidance: float = 7.5
    blend: BlendTime = "every"
    guidance_interval: GuidanceInterval = WHOLE

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """All ratios share one encoding, one mask and one inversion, and decode together."""
        starts = schedule.start_levels(ratios)
        x0 = yield Encode(request.image())
        target, reference, empty = yield Embed((request.target, self.reference_text(request), ""))

        # Step 1: the mask.
        mask = yield from self.mask.find(request, x0, target, reference, schedule, noise)

        # Step 2: the picture at every level up to the highest start; unconditional, unguided.
        path = yield from self.path(x0, max(starts), empty, schedule, noise)

        # Step 3: guided decoding; after each update the outside is put back at the level just reached, x0 at the end.
        begin = {i: path(i) for i in starts}
        blend, interval = blend_outside(mask.latent, path, self.blend), self.guidance_interval
        edited = yield from ddim_sample(begin, schedule, target, empty, self.guidance, blend, interval=interval)
        edits = yield from decode_edits(edited, ratios, starts)
        return EditResult(edits, mask.latent, mask.contrast_map, mask.pixel_mask, mask.metadata())

    def reference_text(self, request: EditRequest) -> str:
        """R, or "" for the empty reference; a ValueError where `source` is asked for and the request has none."""
        if self.reference == "source" and request.source is None:
            raise ValueError(f"request {request.id}: editor.reference=source and the request has no source text")
        return "" if self.reference == "empty" else request.source or ""

    def path(self, x0: Tensor, top: int, empty: Cond, schedule: Schedule, noise: Noise) -> Program[Trajectory]:
        """The latents of the picture at levels 0 to `top`."""
        if self.start == "encode":
            encoded = yield from ddim_invert(x0, schedule, top, empty, self.inversion_timestep)
            return encoded.__getitem__
        return noising_trajectory(x0, noise.randn_like(x0, "start"), schedule)
