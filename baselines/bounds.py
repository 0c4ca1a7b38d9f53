"""Floor and ceiling of every table: what comes out without an edit, and with a perfect one.

They take every ratio, and give the same picture at each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from diffedit.types import Decode, Edit, EditRequest, EditResult, Encode, Levels, Noise, Walk


@dataclass(frozen=True)
class Copy:
    """The input, returned: no change and no edit."""

    def __call__(self, request: EditRequest, ratios: Sequence[float], levels: Levels, noise: Noise) -> Walk[EditResult]:
        """Asks no network."""
        yield from ()
        return everywhere(request.image(), ratios, levels)


@dataclass(frozen=True)
class RoundTrip:
    """The autoencoder's reconstruction of the input: what any method on its latents loses before it begins."""

    def __call__(self, request: EditRequest, ratios: Sequence[float], levels: Levels, noise: Noise) -> Walk[EditResult]:
        """Encode and decode."""
        latent = yield Encode(request.image())
        image = yield Decode(latent)
        return everywhere(image[0], ratios, levels)


@dataclass(frozen=True)
class Oracle:
    """The counterfactual: the perfect edit, where the benchmark knows it."""

    def __call__(self, request: EditRequest, ratios: Sequence[float], levels: Levels, noise: Noise) -> Walk[EditResult]:
        """Asks no network; a ValueError where there is no counterfactual."""
        yield from ()
        if request.counterfactual is None:
            raise ValueError(f"request {request.id}: the benchmark knows no counterfactual, so there is no oracle")
        return everywhere(request.counterfactual(), ratios, levels)


def everywhere(image: Tensor, ratios: Sequence[float], levels: Levels) -> EditResult:
    """The same picture (3, H, W) at every ratio."""
    return EditResult([Edit(ratio, level, image) for ratio, level in zip(ratios, levels.starts(ratios), strict=True)])
