"""SDEdit (Meng et al., ICLR 2022): noise the picture to level r, denoise it under the target text."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.mask import Everywhere, GivenMask, MaskedEditor, MaskFinder
from diffedit.sampling.ddim import (
    WHOLE,
    GuidanceInterval,
    add_noise,
    blend_outside,
    ddim_sample,
    decode_edits,
    noising_trajectory,
)
from diffedit.types import EditRequest, EditResult, Embed, Encode, Noise, Program, Schedule


@settings
class SDEdit(MaskedEditor):
    """The stochastic baseline.

    Attributes:
        mask: `Everywhere`, or `GivenMask` to keep the picture outside the request's mask (x0 noised to each level
            with the noise of the start; x0 itself at the end).
        guidance: classifier-free guidance.
        guidance_interval: (low, high], the ratios of the schedule that are guided, as in `DiffEdit`.
        eta: 0 denoises by DDIM (latent practice: diffusers' img2img), 1 by full ancestral steps (the official code).
        repeats: K of the official code: noise and denoise this many times, each from the last result.
    """

    mask: MaskFinder = Everywhere()
    guidance: float = 7.5
    guidance_interval: GuidanceInterval = WHOLE
    eta: Annotated[float, Ge(0), Le(1)] = 0.0
    repeats: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.mask, Everywhere | GivenMask):
            raise ValueError(f"SDEdit infers no mask: editor/mask is everywhere or given, not {self.mask}")

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """The ratios share their noises: an edit at one ratio does not depend on which others are asked for."""
        starts = schedule.start_levels(ratios)
        x0 = yield Encode(request.image())
        target, empty = yield Embed((request.target, ""))
        mask = yield from self.mask.find(request, x0, target, empty, schedule, noise)
        edited = dict.fromkeys(starts, x0)
        for k in range(self.repeats):
            start = noise.randn_like(x0, f"start {k}")
            begin = {i: add_noise(x, start, schedule[i]) for i, x in edited.items()}
            blend = blend_outside(mask.latent, noising_trajectory(x0, start, schedule))
            fresh = partial(self.fresh, noise, x0, k)
            edited = yield from ddim_sample(
                begin, schedule, target, empty, self.guidance, blend, self.eta, fresh, self.guidance_interval
            )
        edits = yield from decode_edits(edited, ratios, starts)
        return EditResult(edits, mask.latent, pixel_mask=mask.pixel_mask, metadata=mask.metadata())

    def fresh(self, noise: Noise, x0: Tensor, repeat: int, level: int) -> Tensor | None:
        """The noise of the update that leaves this level; None where eta = 0 wants none."""
        return noise.randn_like(x0, f"step {repeat} {level}") if self.eta else None
