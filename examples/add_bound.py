"""A bound of one's own: nothing of the picture left but its mean colour, the floor of every fidelity.

diffedit run --include examples editor=mean_colour
"""

from collections.abc import Sequence

from baselines.bounds import Bound, same_at_every_ratio
from diffedit.io.checks import settings
from diffedit.types import NO_QUERIES, EditRequest, EditResult, Noise, Program, Schedule


@settings
class MeanColour(Bound):
    """The mean colour of the input, everywhere."""

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """Without a query."""
        yield from NO_QUERIES
        image = request.image()
        return same_at_every_ratio(image.mean((1, 2), keepdim=True).expand_as(image).clone(), ratios, schedule)
