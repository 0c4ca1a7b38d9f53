"""Encode-Decode: DDIM inversion and guided decoding of the whole picture. DiffEdit without its mask (paper, §4)."""

from collections.abc import Sequence

from diffedit.conditions import Choice, choose_text
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
        negative: the text that guidance leads away from, as in `DiffEdit`.
        negative_text: the text of negative=given.
    """

    guidance: float = 7.5
    guidance_interval: GuidanceInterval = WHOLE
    inversion: Inversion = Inversion()
    negative: Choice = "empty"
    negative_text: str | None = None

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """One inversion for all ratios."""
        starts = schedule.start_levels(ratios)
        x0 = yield Encode(request.image())
        away = choose_text(self.negative, request, self.negative_text, "editor.negative")
        target, source, negative = yield Embed((request.target, self.inversion.find_text(request), away))
        path = yield from self.inversion.climb(x0, schedule, max(starts), source)
        begin = {i: path[i] for i in starts}
        interval = self.guidance_interval
        edited = yield from ddim_sample(begin, schedule, target, negative, self.guidance, interval=interval)
        return EditResult((yield from decode_edits(edited, ratios, starts)))
