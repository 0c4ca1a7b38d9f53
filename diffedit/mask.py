"""Where to edit: the contrast map of DiffEdit, the rules that turn it into a mask, and masks given by the user.

A mask lives on the latent grid, (1, 1, h, w), True where the picture may change. The paper (§3.2, step 1) says "remove
extreme values, rescale to [0, 1], threshold" and not by which rule, so every rule here is a named setting, and the raw
map is kept: `ContrastMask.binarise` makes another mask of it without the model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu
from torch import Tensor

from diffedit.io.checks import check_choices, finite
from diffedit.sampling.ddim import add_noise
from diffedit.types import Cond, EditRequest, Levels, Noise, Predict, Walk

Map = Float[Tensor, "h w"]


class Mask(NamedTuple):
    """A mask on the latent grid (None: no mask), and what is behind it: a raw contrast map, or a mask in pixels."""

    latent: Bool[Tensor, "1 1 h w"] | None
    contrast: Map | None = None
    pixels: Bool[Tensor, "1 H W"] | None = None

    def notes(self) -> dict[str, str | float]:
        """Its area for the record, and a flag where it is empty or full: kept, but worth knowing.

        `lost` is a given mask that is not empty, and too thin to cover a place of the latent grid.
        """
        if self.latent is None:
            return {}
        area, flag = self.latent.float().mean().item(), ""
        if not self.latent.any():
            flag = "empty" if self.pixels is None or not self.pixels.any() else "lost"
        return {"mask_area": area, "mask_flag": "full" if self.latent.all() else flag}


@runtime_checkable
class MaskFinder(Protocol):
    """What an editor asks for its mask."""

    def find(
        self, request: EditRequest, x0: Tensor, target: Cond, reference: Cond, levels: Levels, noise: Noise
    ) -> Walk[Mask]:
        """The mask of this request, whose picture has the latent x0."""


# ------------------------------------------------------------------------------------- extreme values, and the rescale


@runtime_checkable
class Extremes(Protocol):
    """A rule for extreme values: the bounds (low, high) that the map is clamped to and rescaled from, to [0, 1]."""

    def bounds(self, contrast: Map) -> tuple[float, float]:
        """The values that become 0 and 1."""


@dataclass(frozen=True)
class MeanClamp:
    """Clamp at `factor` times the map's own mean and divide by that.

    With factor 3 and threshold 0.5 the mask is exactly "more than 1.5 times the mean": the rule of the public
    implementations, except that diffusers takes the mean over the whole batch.
    """

    factor: float = 3.0

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise ValueError(f"extremes.factor = {self.factor} is not positive")

    def bounds(self, contrast: Map) -> tuple[float, float]:
        """0 and factor * mean."""
        return 0.0, self.factor * contrast.mean().item()


@dataclass(frozen=True)
class Quantile:
    """Clamp at the q-quantile and divide by it; with `sides` both, clamp to the quantiles 1 - q and q.

    Unlike `MeanClamp`, it also finds regions that fill much of the picture: of the rules with threshold 0.5, the upper
    0.95 agrees best with the exact masks of Still Life (mean IoU on its validation split, source text as reference:
    0.58, `MeanClamp` 0.44; fruit alone 0.55 and 0.52).
    """

    q: float = 0.95
    sides: Literal["upper", "both"] = "upper"

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0.5 < self.q <= 1:
            raise ValueError(f"extremes.q = {self.q} is outside (0.5, 1]")

    def bounds(self, contrast: Map) -> tuple[float, float]:
        """0, or the lower quantile, and the upper one."""
        low, high = torch.quantile(contrast.flatten(), torch.tensor([1 - self.q, self.q], dtype=contrast.dtype))
        flat = contrast.min() >= high  # one value everywhere is no contrast
        return low.item() if self.sides == "both" or flat else 0.0, high.item()


@dataclass(frozen=True)
class NoExtremes:
    """Keep every value; rescale between the smallest and the largest."""

    def bounds(self, contrast: Map) -> tuple[float, float]:
        """Minimum and maximum."""
        return contrast.min().item(), contrast.max().item()


def rescale(contrast: Map, extremes: Extremes) -> Map:
    """The map clamped and rescaled to [0, 1]; all 0 where it holds no contrast at all (equal texts, say)."""
    low, high = extremes.bounds(contrast)
    if not high > low:
        return torch.zeros_like(contrast)
    return ((contrast - low) / (high - low)).clamp(0, 1)


# ---------------------------------------------------------------------------------------------------------- thresholds


@runtime_checkable
class Threshold(Protocol):
    """A rule that picks the value above which a rescaled map is edited."""

    def of(self, rescaled: Map) -> float:
        """The threshold, in [0, 1]."""


@dataclass(frozen=True)
class Fixed:
    """The same threshold for every picture; the paper takes 0.5."""

    value: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.value < 1:
            raise ValueError(f"threshold.value = {self.value} is outside [0, 1): maps are rescaled to [0, 1]")

    def of(self, rescaled: Map) -> float:
        """The value itself."""
        return self.value


@dataclass(frozen=True)
class Otsu:
    """Otsu's threshold of each map: the split with the largest variance between its two sides."""

    def of(self, rescaled: Map) -> float:
        """The threshold; 1 (nothing edited) for a map of one value."""
        values = rescaled.numpy()
        return 1.0 if values.min() == values.max() else float(threshold_otsu(values))


# ------------------------------------------------------------------------------------------------------------- finders

# How the channels of a difference of noise estimates become one number a place.
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_abs": lambda d: d.abs().mean(1),
    "l2": lambda d: d.square().sum(1).sqrt(),
}


@dataclass(frozen=True)
class ContrastMask:
    """DiffEdit's own mask (§3.2, step 1): where the noise estimates under target and reference text disagree.

    Attributes:
        noises: n, how many noises the difference is averaged over.
        strength: ratio of the noise added to the picture, 0.5 in the paper.
        reduction: over channels, before the average over noises: `mean_abs` or `l2`.
        extremes: the rule for extreme values.
        threshold: the rule for the threshold.
        smooth: standard deviation of a Gaussian filter on the raw map, in latent pixels; 0 for none.
        dilate: the mask grows by this many latent pixels in every direction (a square), after the threshold.
    """

    noises: int = 10
    strength: float = 0.5
    reduction: Literal["mean_abs", "l2"] = "mean_abs"
    extremes: Extremes = Quantile()
    threshold: Threshold = Fixed()
    smooth: float = 0.0
    dilate: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        if self.noises < 1 or self.smooth < 0 or self.dilate < 0 or not 0 < self.strength <= 1:
            raise ValueError(f"{self}: noises is at least 1, strength in (0, 1], smooth and dilate at least 0")

    def find(
        self, request: EditRequest, x0: Tensor, target: Cond, reference: Cond, levels: Levels, noise: Noise
    ) -> Walk[Mask]:
        """2 n unguided evaluations in one query.

        Guidance would scale the map by a constant (the unconditional terms cancel), and the rules do not see scale.
        """
        n, level = self.noises, levels[levels.of(self.strength)]
        x = add_noise(x0, noise.like(x0, "mask", n), level)
        said = yield Predict(torch.cat([x, x]), level, (target,) * n + (reference,) * n)
        difference = said.eps[:n] - said.eps[n:]
        contrast = finite(REDUCTIONS[self.reduction](difference).mean(0).cpu(), "the contrast map")
        return Mask(self.binarise(contrast).to(x0.device), contrast)

    def binarise(self, contrast: Map) -> Bool[Tensor, "1 1 h w"]:
        """The mask of a raw map: smooth, clamp and rescale, threshold, dilate."""
        if self.smooth:
            contrast = torch.from_numpy(gaussian_filter(contrast.numpy(), self.smooth, mode="nearest"))
        rescaled = rescale(contrast, self.extremes)
        return dilate(rescaled > self.threshold.of(rescaled), self.dilate)


Cover = Literal["area", "any", "nearest", "corner"]


@dataclass(frozen=True)
class GivenMask:
    """The request's own mask, reduced to the latent grid.

    Pixels of 0.5 and more are edited (a soft edge is cut there). A latent place covers a block of pixels:

    Attributes:
        cover: `area` edits it when more than half of its pixels are edited, `any` when a single one is, `nearest` when
            the one at its centre is (Pillow's NEAREST, the official code of Blended Latent Diffusion), `corner` when
            its upper left one is (PyTorch's nearest: diffusers).
        dilate: growth in latent pixels, as in `ContrastMask`.
        which: the mask `given` with the request, or the `oracle`: where the perfect edit differs from the picture.
    """

    cover: Cover = "area"
    dilate: int = 0
    which: Literal["given", "oracle"] = "given"

    def __post_init__(self) -> None:
        check_choices(self)
        if self.dilate < 0:
            raise ValueError(f"{self}: dilate is at least 0")

    def find(
        self, request: EditRequest, x0: Tensor, target: Cond, reference: Cond, levels: Levels, noise: Noise
    ) -> Walk[Mask]:
        """No evaluation; a ValueError where the request has no such mask."""
        load = request.mask if self.which == "given" else request.oracle_mask
        if load is None:
            name = "a given mask" if self.which == "given" else "the oracle's mask"
            raise ValueError(f"request {request.id}: the editor wants {name} and the request has none")
        pixels = load() >= 0.5
        latent = dilate(to_latent_grid(pixels, x0.shape[-2:], self.cover), self.dilate)
        if self.dilate:  # the growth is meant for the pixels too
            pixels = pixels | (F.interpolate(latent.float(), pixels.shape[-2:])[0] > 0)
        return Mask(latent.to(x0.device), pixels=pixels)
        yield  # a walk, though it asks nothing


@dataclass(frozen=True)
class Everywhere:
    """No mask: the whole picture may change."""

    def find(
        self, request: EditRequest, x0: Tensor, target: Cond, reference: Cond, levels: Levels, noise: Noise
    ) -> Walk[Mask]:
        """None."""
        return Mask(None)
        yield  # a walk, though it asks nothing


def to_latent_grid(
    pixels: Bool[Tensor, "1 H W"], grid: tuple[int, int] | torch.Size, cover: Cover = "area"
) -> Bool[Tensor, "1 1 h w"]:
    """A pixel mask on the latent grid; see `GivenMask` for the rule."""
    full = pixels.float()[None]
    match cover:
        case "nearest":
            return F.interpolate(full, tuple(grid), mode="nearest-exact") > 0
        case "corner":
            return F.interpolate(full, tuple(grid), mode="nearest") > 0
    return F.adaptive_avg_pool2d(full, tuple(grid)) > {"area": 0.5, "any": 0.0}[cover]


def dilate(mask: Bool[Tensor, "h w"] | Bool[Tensor, "1 1 h w"], by: int) -> Bool[Tensor, "1 1 h w"]:
    """The mask grown by `by` places in every direction, diagonals included."""
    full = mask.reshape(1, 1, *mask.shape[-2:])
    return F.max_pool2d(full.float(), 2 * by + 1, stride=1, padding=by) > 0 if by else full
