"""A method of one's own: negative-prompt inversion (Miyake et al., 2023), one file and one yaml.

The picture is taken up under its source text, and guidance leads away from that text instead of the empty one. So with
target = source the picture comes back, whatever the guidance.

    diffedit run --include examples editor=negative_prompt
"""

from collections.abc import Sequence

from diffedit.io.checks import settings
from diffedit.sampling.ddim import ddim_invert, ddim_sample, decode_edits
from diffedit.types import BaseEditor, EditRequest, EditResult, Embed, Encode, Noise, Program, Schedule


@settings
class NegativePromptInversion(BaseEditor):
    """Encoding under the source text, decoding under the target with the source as the negative."""

    guidance: float = 7.5

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """One encoding for all ratios."""
        starts = schedule.start_levels(ratios)
        x0 = yield Encode(request.image())
        target, source = yield Embed((request.target, request.source or ""))
        trajectory = yield from ddim_invert(x0, schedule, max(starts), source)
        begin = {i: trajectory[i] for i in starts}
        edited = yield from ddim_sample(begin, schedule, target, source, self.guidance)
        return EditResult((yield from decode_edits(edited, ratios, starts)))
