"""Encode-Decode: DDIM inversion and guided decoding of the whole picture. DiffEdit without its mask (paper, §4)."""

from collections.abc import Sequence

from diffedit.inversion import Inversion
from diffedit.io.checks import settings
from diffedit.sampling.ddim import (
    WHOLE,
    GuidanceInterval,
    ddim_sample,
    decode_edits,
)
from diffedit.types import BaseEditor, EditRequest, EditResult, Embed, Encode, Noise, Program, Schedule


@settings
class EncodeDecode(BaseEditor):
    """The ablation without a mask.

    Attributes:
        guidance: classifier-free guidance of the decoding.
        guidance_interval: (low, high], the ratios of the schedule that are guided, as in `DiffEdit`.
        inversion: how the picture is taken up.
    """

    guidance: float = 7.5
    guidance_interval: GuidanceInterval = WHOLE
    inversion: Inversion = Inversion()

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """One inversion for all ratios."""
        starts = schedule.start_levels(ratios)
        x0 = yield Encode(request.image())
        target, source, empty = yield Embed((request.target, self.inversion.find_text(request), ""))
        path = yield from self.inversion.climb(x0, schedule, max(starts), source)
        begin = {i: path[i] for i in starts}
        edited = yield from ddim_sample(begin, schedule, target, empty, self.guidance, interval=self.guidance_interval)
        return EditResult((yield from decode_edits(edited, ratios, starts)))
