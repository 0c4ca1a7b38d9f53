"""DiffEdit (Couairon et al., ICLR 2023): infer a mask, encode the picture, decode it under the mask."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from diffedit.conditions import Choice, choose_text
from diffedit.inversion import Inversion
from diffedit.io.checks import settings
from diffedit.mask import ContrastMask, MaskedEditor, MaskFinder
from diffedit.sampling.ddim import (
    WHOLE,
    BlendTime,
    GuidanceInterval,
    Trajectory,
    blend_outside,
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
        inversion: how the picture is taken up, where `start` is `encode`.
        reference: the text the mask is contrasted against: `auto` is the request's source where it has one, else empty;
            the others are those of `diffedit.conditions.Choice`.
        reference_text: the text of reference=given.
        negative: the text that guidance leads away from: `empty` in the paper; `source` is that of negative-prompt
            inversion (Miyake et al. 2023), where inversion.condition is `source` too.
        negative_text: the text of negative=given.
        guidance: classifier-free guidance of the decoding; 5 on ImageNet, 7.5 with Stable Diffusion in the paper.
        blend: when the outside of the mask is put back: after `every` update (the paper), after the `last` one alone,
            or `never`: with reconstruct=pixel_paste in pixels then (the ablation of the masking operator).
        guidance_interval: (low, high]: a step that leaves level i of N is guided where low < i / N <= high; all are in
            the paper. Another takes the conditional estimate alone: one evaluation instead of two.
    """

    mask: MaskFinder = ContrastMask()
    start: Literal["encode", "noise"] = "encode"
    inversion: Inversion = Inversion()
    reference: Literal["auto"] | Choice = "auto"
    reference_text: str | None = None
    negative: Choice = "empty"
    negative_text: str | None = None
    guidance: float = 7.5
    blend: BlendTime = "every"
    guidance_interval: GuidanceInterval = WHOLE

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """All ratios share one encoding, one mask and one inversion, and decode together."""
        starts = schedule.start_levels(ratios)
        x0 = yield Encode(request.image())
        away = choose_text(self.negative, request, self.negative_text, "editor.negative")
        texts = request.target, self.find_reference(request), self.inversion.find_text(request), away
        target, reference, source, negative = yield Embed(texts)

        # Step 1: the mask.
        mask = yield from self.mask.find(request, x0, target, reference, schedule, noise)

        # Step 2: the picture at every level up to the highest start; unconditional in the paper, unguided.
        path = yield from self.path(x0, max(starts), source, schedule, noise)

        # Step 3: guided decoding; after each update the outside is put back at the level just reached, x0 at the end.
        begin = {i: path(i) for i in starts}
        blend, interval = blend_outside(mask.latent, path, self.blend), self.guidance_interval
        edited = yield from ddim_sample(begin, schedule, target, negative, self.guidance, blend, interval=interval)
        edits = yield from decode_edits(edited, ratios, starts)
        return EditResult(edits, mask.latent, mask.contrast_map, mask.pixel_mask, mask.metadata())

    def find_reference(self, request: EditRequest) -> str:
        """R, or "" for the empty reference; a ValueError where the request has not what is asked for."""
        if self.reference == "auto":
            return request.source or ""
        return choose_text(self.reference, request, self.reference_text, "editor.reference")

    def path(self, x0: Tensor, top: int, cond: Cond, schedule: Schedule, noise: Noise) -> Program[Trajectory]:
        """The latents of the picture at levels 0 to `top`."""
        if self.start == "encode":
            return (yield from self.inversion.climb(x0, schedule, top, cond)).__getitem__
        return noising_trajectory(x0, noise.randn_like(x0, "start"), schedule)
