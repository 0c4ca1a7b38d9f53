"""Encode-Decode: DDIM inversion and guided decoding of the whole picture. DiffEdit without its mask (paper, §4)."""

from collections.abc import Sequence
from dataclasses import dataclass

from diffedit.io.checks import check_choices
from diffedit.sampling.ddim import InversionLabel, denoise, finish, invert
from diffedit.types import EditRequest, EditResult, Embed, Encode, Levels, Noise, Walk


@dataclass(frozen=True)
class EncodeDecode:
    """The ablation without a mask.

    Attributes:
        guidance: classifier-free guidance of the decoding.
        inversion_label: the network's time label on the way up, see `walk.invert`.
    """

    guidance: float = 7.5
    inversion_label: InversionLabel = "destination"

    def __post_init__(self) -> None:
        check_choices(self)

    def __call__(self, request: EditRequest, ratios: Sequence[float], levels: Levels, noise: Noise) -> Walk[EditResult]:
        """One inversion for all ratios."""
        starts = levels.starts(ratios)
        x0 = yield Encode(request.image())
        target, empty = yield Embed((request.target, ""))
        path = yield from invert(x0, levels, max(starts), empty, self.inversion_label)
        edited = yield from denoise({i: path[i] for i in starts}, levels, target, empty, self.guidance)
        return EditResult((yield from finish(edited, ratios, starts)))
