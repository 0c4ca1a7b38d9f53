"""Floor and ceiling of every table: what comes out without an edit, with a perfect one, and with another picture.

They take every ratio, and give the same picture at each.
"""

from collections.abc import Sequence

from torch import Tensor

from diffedit.io.checks import settings
from diffedit.types import (
    NO_QUERIES,
    BaseEditor,
    Decode,
    Edit,
    EditRequest,
    EditResult,
    Encode,
    Noise,
    Program,
    Schedule,
    Variant,
)


class Bound(BaseEditor):
    """Stands at the head of a table, and apart from the methods in a plot."""

    is_bound = True


@settings
class Copy(Bound):
    """The input, returned: no change and no edit."""

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """Without a query."""
        yield from NO_QUERIES
        return same_at_every_ratio(request.image(), ratios, schedule)


@settings
class RoundTrip(Bound):
    """The autoencoder's reconstruction of the input: what any method on its latents loses before it begins."""

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """Encode and decode."""
        latent = yield Encode(request.image())
        image = yield Decode(latent)
        return same_at_every_ratio(image[0], ratios, schedule)


@settings
class Oracle(Bound):
    """The true edit (counterfactual), where the benchmark knows it."""

    inputs = frozenset({"image", "true_edit"})

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """Without a query; a ValueError where the benchmark knows no true edit."""
        yield from NO_QUERIES
        if request.true_edit is None:
            raise ValueError(f"request {request.id}: the benchmark knows no true edit, so there is no oracle")
        return same_at_every_ratio(request.true_edit(), ratios, schedule)


@settings
class Retrieve(Bound):
    """Another real picture of what the target says, in place of the edit (FlexIT, §4): right, and nothing is kept.

    A method that lies farther from its input than this is no editing.
    """

    inputs = frozenset({"image", "retrieved"})

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """Without a query; a ValueError where the benchmark has no other picture of the target."""
        yield from NO_QUERIES
        if request.retrieved is None:
            raise ValueError(f"request {request.id}: the benchmark has no other picture of what its target says")
        return same_at_every_ratio(request.retrieved(), ratios, schedule)


def same_at_every_ratio(image: Tensor, ratios: Sequence[float], schedule: Schedule) -> EditResult:
    """The same picture (3, H, W) at every ratio."""
    return EditResult(
        [Edit(Variant(ratio), level, image) for ratio, level in zip(ratios, schedule.start_levels(ratios), strict=True)]
    )
