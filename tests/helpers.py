"""What several tests need."""

from collections.abc import Sequence

import torch

from diffedit.types import EditRequest


class GivenNoise:
    """A `Noise` that hands out noise from elsewhere, by purpose; for parity with other code."""

    def __init__(self, **draws: torch.Tensor):
        self.draws = draws

    def like(self, x: torch.Tensor, purpose: str, count: int = 1) -> torch.Tensor:
        """The noise given for this purpose."""
        noise = self.draws[purpose.replace(" ", "_")]
        assert noise.shape == (count, *x.shape[1:])
        return noise


def request(backbone, name="a", target="pear", source="apple", mask=None, seed=0) -> EditRequest:
    """A request whose picture is noise of its own."""
    image = torch.rand(3, backbone.resolution, backbone.resolution, generator=torch.Generator().manual_seed(seed))
    return EditRequest(name, lambda: image, target, source, mask)


def same(one: Sequence, other: Sequence) -> bool:
    """Whether two lists of edits are equal to the bit."""
    return len(one) == len(other) and all(
        (a.ratio, a.level) == (b.ratio, b.level) and torch.equal(a.image, b.image)
        for a, b in zip(one, other, strict=True)
    )
