"""Where to edit: the contrast map of DiffEdit, the rules that turn it into a mask, and masks given by the user.

A mask lives on the latent grid, (1, 1, h, w), True where the picture may change. The paper (§3.2, step 1) says "remove
extreme values, rescale to [0, 1], threshold" and not by which rule, so every rule here is a named setting, and the raw
map is kept: `ContrastMask.binarise` makes another mask of it without the model.
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu
from torch import Tensor

from diffedit.io.checks import check_finite, settings
from diffedit.sampling.ddim import add_noise
from diffedit.sampling.share import share
from diffedit.types import NO_QUERIES, BaseEditor, Cond, EditRequest, EditResult, Noise, Predict, Program, Schedule

Map = Float[Tensor, "h w"]
Difference = Float[Tensor, "c h w"]  # of the noise estimates under two texts, for one noise


CUT_AWAY = "cut away"
NEARLY_ALL = 0.95  # share of the places from which on a mask is worth a look: it holds little of the picture


class Mask(NamedTuple):
    """A mask on the latent grid (None: no mask), and what is behind it: a raw contrast map, or a mask in pixels.

    Attributes:
        latent: where the picture may change.
        contrast_map: before any rule.
        pixel_mask: as it was given.
        rule: that made the mask of the map.
        agreement: of the noises under the mask (`compute_agreement`), where a floor was asked for.
        is_below_floor: whether the mask is empty for that.
        cut: what the resize policy took away of a given mask, where nothing is left of it.
    """

    latent: Bool[Tensor, "1 1 h w"] | None
    contrast_map: Map | None = None
    pixel_mask: Bool[Tensor, "1 H W"] | None = None
    rule: str = ""
    agreement: float | None = None
    is_below_floor: bool = False
    cut: str = ""

    def metadata(self) -> dict[str, str | float]:
        """Its area for the record, and a flag where it is empty or nearly full: kept, but worth knowing.

        With a flag stands the rule that made it. `lost` is a given mask that is not empty, and too thin to cover a
        place of the latent grid; `cut away` one that lies where the resize policy shows nothing of the picture, which
        `mask_cut` says; `no contrast` one that is empty for the floor.
        """
        if self.latent is None:
            return {}
        area = self.latent.float().mean().item()
        facts: dict[str, str | float] = {"mask_area": area, "mask_flag": self.find_flag(area)}
        if facts["mask_flag"] and self.rule:
            facts["mask_rule"] = self.rule
        if facts["mask_flag"] == CUT_AWAY:
            facts["mask_cut"] = self.cut
        return facts if self.agreement is None else facts | {"mask_agreement": self.agreement}

    def find_flag(self, area: float) -> str:
        """What is odd about a mask of this area; "" for nothing."""
        if self.is_below_floor:
            return "no contrast"
        if area == 0 and self.cut:
            return CUT_AWAY
        if area == 0:
            return "empty" if self.pixel_mask is None or not self.pixel_mask.any() else "lost"
        return "full" if area == 1 else "nearly full" if area > NEARLY_ALL else ""


def describe_mask_flag(result: EditResult) -> str:
    """What is odd about the mask of an edit, in a line; "" for nothing."""
    facts = result.metadata
    if not (flag := facts.get("mask_flag")):
        return ""
    rule, cut = facts.get("mask_rule", ""), facts.get("mask_cut", "")
    return f"the mask is {flag}{f', by {rule}' if rule else ''}{f': {cut}' if cut else ''}"


@runtime_checkable
class CutMask(Protocol):
    """What loads a mask of a whole picture, of which a part is shown."""

    def describe_cut(self) -> str:
        """What was taken away of a mask that came out empty; "" where it holds nothing anyway."""
        ...


@runtime_checkable
class MaskFinder(Protocol):
    """What an editor asks for its mask."""

    inputs: Collection[str]  # fields of a request that it calls
    has_mask: bool  # whether it gives one

    def find(
        self, request: EditRequest, x0: Tensor, target: Cond, reference: Cond, schedule: Schedule, noise: Noise
    ) -> Program[Mask]:
        """The mask of this request, whose picture has the latent x0."""


class MaskedEditor(BaseEditor):
    """What an editor declares whose field `mask` is a `MaskFinder`."""

    mask: MaskFinder

    @property
    def inputs(self) -> frozenset[str]:
        """The picture, and what the finder calls."""
        return frozenset({"image", *self.mask.inputs})

    @property
    def has_mask(self) -> bool:
        """As its finder has one."""
        return self.mask.has_mask


# ------------------------------------------------------------------------------------- extreme values, and the rescale


@runtime_checkable
class Outliers(Protocol):
    """A rule for extreme values: the bounds (low, high) that the map is clamped to and rescaled from, to [0, 1]."""

    def find_bounds(self, contrast: Map) -> tuple[float, float]:
        """The values that become 0 and 1."""


@settings
class TwoClasses:
    """Split the map into background and object, whatever their sizes; 0 is the background's mean, 0.5 the split.

    1. Otsu's split on a logarithmic scale, on which extreme values are not far away. Where the object's mean is not
       `least_contrast` times the background's, it has cut through the background, as it does where an object is
       small or faint: then the likeliest split into two populations whose sizes are their own (`split_log`).
    2. Extreme values are removed: above the `clamp` quantile of that object they are clamped to it.
    3. Otsu's split of what is left, on the plain scale, unless it cuts through the background.

    It is the default. On known maps of 64 x 64 places, of objects of 1 to 60 % with 4 times the background's contrast,
    it has a mean IoU of 1.00 (`Quantile` 0.01 to 1.00, `MeanClamp` 0.37 to 1.00), with 2 times 0.70 to 0.96 (0.01 to
    0.95; 0.11 to 0.92). On Still Life's validation split: scenes 0.61 (0.60; 0.45), classes 0.66 (0.67; 0.65), sizes
    0.41 (0.41; 0.32).

    Attributes:
        clamp: quantile of the object's values at which extreme ones are clamped.
        least_contrast: ratio of the means below which two classes are none.
    """

    clamp: Annotated[float, Gt(0), Le(1)] = 0.8
    least_contrast: Annotated[float, Ge(1)] = 1.6

    def find_bounds(self, contrast: Map) -> tuple[float, float]:
        """The background's mean, and as far above the split as that is below it."""
        values = np.sort(contrast.numpy(), axis=None).astype(np.float64)
        if values[0] == values[-1]:
            return float(values[0]), float(values[0])
        logs = np.log(np.maximum(values, 1e-6 * values[-1]))
        split = float(np.exp(find_split(logs)))
        if not self.is_apart(values, split):
            split = split_log(logs)
        clamped = np.minimum(values, np.quantile(values[values > split], self.clamp))
        if self.is_apart(clamped, again := find_split(clamped)):
            split = again
        low = float(values[values <= split].mean())
        return low, 2 * split - low

    def is_apart(self, values: Float[ndarray, " n"], split: float) -> bool:
        """Whether the classes of a split differ enough to be two."""
        return bool(values[values > split].mean() >= self.least_contrast * values[values <= split].mean())


def find_split(values: Float[ndarray, " n"]) -> float:
    """Otsu's split of sorted values, exactly: half-way between the means of its classes."""
    low, high, within = sum_classes(values)
    best = within.argmin()
    return float(low[best] + high[best]) / 2


def split_log(logs: Float[ndarray, " n"]) -> float:
    """The likeliest split of sorted logarithms into two normal populations of one spread and of sizes of their own.

    Otsu's is the likeliest for equal sizes (Kurita et al. 1992). The noise of a mean of absolute values goes with its
    height, so that the spread of its logarithm is the same in background and object.

    Returns:
        the split of the values themselves.
    """
    *_, within = sum_classes(logs)
    share = np.arange(1, len(logs)) / len(logs)
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    # Sums of squares that rounding leaves nothing of, or less, are of one value a class.
    best = (np.log(np.maximum(within, 1e-12 * within.max())) / 2 + entropy).argmin()
    return float(np.exp((logs[best] + logs[best + 1]) / 2))


def sum_classes(
    values: Float[ndarray, " n"],
) -> tuple[Float[ndarray, " n-1"], Float[ndarray, " n-1"], Float[ndarray, " n-1"]]:
    """(means below, means above, variance within the classes) of each split of sorted values."""
    below = np.arange(1, len(values))
    sums, above = values.cumsum(), len(values) - below
    low, high = sums[:-1] / below, (sums[-1] - sums[:-1]) / above
    between = below * above * (high - low) ** 2 / len(values) ** 2
    return low, high, values.var() - between


@settings
class MeanClamp:
    """Clamp at `factor` times the map's own mean and divide by that.

    With factor 3 and threshold 0.5 the mask is exactly "more than 1.5 times the mean": the rule of the public
    implementations, except that diffusers takes the mean over the whole batch.
    """

    factor: Annotated[float, Gt(0)] = 3.0

    def find_bounds(self, contrast: Map) -> tuple[float, float]:
        """0 and factor * mean."""
        return 0.0, self.factor * contrast.mean().item()


@settings
class Quantile:
    """Clamp at the q-quantile and divide by it; with `sides` both, clamp to the quantiles 1 - q and q.

    Unlike `MeanClamp`, it also finds regions that fill much of the picture; but of an object that fills less than 1 - q
    of it, or is of little contrast, it makes a mask of nearly everything. It was the default before `TwoClasses`.
    """

    q: Annotated[float, Gt(0.5), Le(1)] = 0.95
    sides: Literal["upper", "both"] = "upper"

    def find_bounds(self, contrast: Map) -> tuple[float, float]:
        """0, or the lower quantile, and the upper one."""
        low, high = torch.quantile(contrast.flatten(), torch.tensor([1 - self.q, self.q], dtype=contrast.dtype))
        flat = contrast.min() >= high  # one value everywhere is no contrast
        return low.item() if self.sides == "both" or flat else 0.0, high.item()


@settings
class KeepOutliers:
    """Keep every value; rescale between the smallest and the largest."""

    def find_bounds(self, contrast: Map) -> tuple[float, float]:
        """Minimum and maximum."""
        return contrast.min().item(), contrast.max().item()


def rescale(contrast: Map, outliers: Outliers) -> Map:
    """The map clamped and rescaled to [0, 1]; all 0 where it holds no contrast at all (equal texts, say)."""
    low, high = outliers.find_bounds(contrast)
    if not high > low:
        return torch.zeros_like(contrast)
    return ((contrast - low) / (high - low)).clamp(0, 1)


# ---------------------------------------------------------------------------------------------------------- thresholds


@runtime_checkable
class Threshold(Protocol):
    """A rule that picks the value above which a rescaled map is edited."""

    def find_value(self, rescaled: Map) -> float:
        """The threshold, in [0, 1]."""


@settings
class Fixed:
    """The same threshold for every picture; the paper takes 0.5."""

    value: Annotated[float, Ge(0), Lt(1)] = 0.5  # maps are rescaled to [0, 1]

    def find_value(self, rescaled: Map) -> float:
        """The value itself."""
        return self.value


@settings
class Otsu:
    """Otsu's threshold of each map: the split with the largest variance between its two sides."""

    def find_value(self, rescaled: Map) -> float:
        """The threshold; 1 (nothing edited) for a map of one value."""
        values = rescaled.numpy()
        return 1.0 if values.min() == values.max() else float(threshold_otsu(values))


# ------------------------------------------------------------------------------------------------------------- finders

# How the channels of a difference of noise estimates become one number a place.
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_abs": lambda d: d.abs().mean(1),
    "l2": lambda d: d.square().sum(1).sqrt(),
}


@settings
class ContrastMask:
    """DiffEdit's own mask (§3.2, step 1): where the noise estimates under target and reference text disagree.

    Attributes:
        num_noises: n, how many noises the difference is averaged over.
        noise_strength: ratio of the noise added to the picture, 0.5 in the paper.
        reduction: over channels, before the average over noises: `mean_abs` or `l2`.
        antithetic: noises come in pairs z, -z, the last of an odd n alone: the same number of evaluations.
        outliers: the rule for extreme values.
        threshold: the rule for the threshold.
        blur: standard deviation of a Gaussian filter on the raw map, in latent pixels; 0 for none.
        dilate: the mask grows by this many latent pixels in every direction (a square), after the threshold.
        floor: the mask is empty where the noises agree on it by less, in standard errors (`compute_agreement`), for
            what it holds is noise then; 3, say: of 288 edits of Still Life's validation split the least has 5.1, and
            without contrast at most 2 in 100 masks of ten noises pass. None takes every mask. `binarise` knows nothing
            of it.
    """

    num_noises: Annotated[int, Ge(1)] = 10
    noise_strength: Annotated[float, Gt(0), Le(1)] = 0.5
    reduction: Literal["mean_abs", "l2"] = "mean_abs"
    antithetic: bool = False
    outliers: Outliers = TwoClasses()
    threshold: Threshold = Fixed()
    blur: Annotated[float, Ge(0)] = 0.0
    dilate: Annotated[int, Ge(0)] = 0
    floor: Annotated[float, Gt(0)] | None = None

    inputs: ClassVar = frozenset()
    has_mask: ClassVar = True

    def __post_init__(self) -> None:
        draws = self.num_noises // 2 if self.antithetic else self.num_noises
        if self.floor is not None and self.floor >= (most := math.sqrt(draws * (draws - 1) / 2)):
            raise ValueError(
                f"ContrastMask: floor = {self.floor}: num_noises = {self.num_noises} agree by {most:.2f} at most"
                f"{', for those of a pair count as one' * self.antithetic}: take more noises, or a lower floor"
            )

    def find(
        self, request: EditRequest, x0: Tensor, target: Cond, reference: Cond, schedule: Schedule, noise: Noise
    ) -> Program[Mask]:
        """The differences' mean, by the rules; a mask without contrast is empty where there is a floor."""
        differences = yield from self.find_differences(x0, target, reference, schedule, noise)
        contrast = REDUCTIONS[self.reduction](differences).mean(0).cpu()
        mask = self.binarise(check_finite(contrast, "the contrast map"))
        return self.apply_floor(Mask(mask.to(x0.device), contrast, rule=self.describe_rule()), differences)

    def find_differences(
        self, x0: Tensor, target: Cond, reference: Cond, schedule: Schedule, noise: Noise
    ) -> Program[Float[Tensor, "n c h w"]]:
        """2 n unguided evaluations in one query, or as many as others have not made.

        Guidance would scale the map by a constant (the unconditional terms cancel), and the rules do not see scale.
        """
        level = schedule[schedule.find_level(self.noise_strength)]
        noises = self.draw(x0, noise)

        def compare(known: Sequence[Difference]) -> Program[list[Difference]]:
            x = add_noise(x0, noises[len(known) :], level)
            k = len(x)
            prediction = yield Predict(torch.cat([x, x]), level, (target,) * k + (reference,) * k, purpose="mask")
            return [*known, *(prediction.eps[:k] - prediction.eps[k:])]

        # The first noise names the sequence that it begins, whatever its length; a pair begins with it, too. What is
        # shared are the differences with their signs: every reduction and the floor are made of them.
        key = x0, noises[:1], level, target, reference, "signed", self.antithetic
        shared = yield from share("mask", key, self.num_noises, compare, lambda count: 2 * count)
        return torch.stack(shared)

    def apply_floor(self, mask: Mask, differences: Float[Tensor, "n c h w"]) -> Mask:
        """The mask itself, or an empty one where its contrast is below the floor."""
        if self.floor is None:
            return mask
        if self.antithetic:  # the two of a pair are not independent: their mean is one draw
            differences = differences[: self.num_noises // 2 * 2].unflatten(0, (-1, 2)).mean(1)
        mask = mask._replace(agreement=compute_agreement(differences, mask.latent[0, 0]))
        if mask.agreement >= self.floor:
            return mask
        return mask._replace(latent=torch.zeros_like(mask.latent), is_below_floor=True)

    def describe_rule(self) -> str:
        """The rules for extreme values and threshold, with their settings."""
        return f"{self.outliers!r}, {self.threshold!r}"

    def draw(self, x0: Tensor, noise: Noise) -> Float[Tensor, "n c h w"]:
        """The n noises."""
        n = self.num_noises
        if not self.antithetic:
            return noise.randn_like(x0, "mask", n)
        z = noise.randn_like(x0, "mask", (n + 1) // 2)
        return torch.stack([z, -z], 1).flatten(0, 1)[:n]

    def binarise(self, contrast: Map) -> Bool[Tensor, "1 1 h w"]:
        """The mask of a raw map: blur, clamp and rescale, threshold, dilate."""
        if self.blur:
            contrast = torch.from_numpy(gaussian_filter(contrast.numpy(), self.blur, mode="nearest"))
        rescaled = rescale(contrast, self.outliers)
        return dilate(rescaled > self.threshold.find_value(rescaled), self.dilate)


def compute_agreement(differences: Float[Tensor, "n c h w"], mask: Bool[Tensor, "h w"]) -> float:
    """How far the noises agree on the differences under a mask, in standard errors of no agreement.

    A contrast map is positive by construction, also where nothing is contrasted, so its height says nothing; the signs
    of the differences do. For each pair of noises the cosine of their differences, over channels and places of the
    mask; the sum over all pairs, by the root of the sum of squares. Were the sign of each noise's difference a toss of
    a coin (rounding, say), this had mean 0 and variance 1, exactly, however places and channels hang together, and
    whatever mask was chosen by absolute values. It is at most the root of the number of pairs: 6.7 for ten noises.

    Returns:
        0 where there is no difference at all.
    """
    inside = differences[:, :, mask].flatten(1).double()
    rows = F.normalize(inside)  # those that are 0 stay so
    cosines = (rows @ rows.T)[tuple(torch.triu_indices(len(rows), len(rows), 1))]
    spread = cosines.square().sum().sqrt().item()
    return cosines.sum().item() / spread if spread else 0.0


Downsample = Literal["area", "any", "nearest", "corner"]


@settings
class GivenMask:
    """The request's own mask, reduced to the latent grid.

    Pixels of 0.5 and more are edited (a soft edge is cut there). A latent place covers a block of pixels:

    Attributes:
        downsample: `area` edits it when more than half of its pixels are edited, `any` when a single one is, `nearest`
            when the one at its centre is (Pillow's NEAREST, the official code of Blended Latent Diffusion), `corner`
            when its upper left one is (PyTorch's nearest: diffusers).
        dilate: growth in latent pixels, as in `ContrastMask`.
        which: the mask `given` with the request, or the `oracle`: where the true edit differs from the picture.
    """

    downsample: Downsample = "area"
    dilate: Annotated[int, Ge(0)] = 0
    which: Literal["given", "oracle"] = "given"

    has_mask: ClassVar = True

    @property
    def inputs(self) -> frozenset[str]:
        """The mask that it takes."""
        return frozenset({"mask" if self.which == "given" else "true_mask"})

    def find(
        self, request: EditRequest, x0: Tensor, target: Cond, reference: Cond, schedule: Schedule, noise: Noise
    ) -> Program[Mask]:
        """No evaluation; a ValueError where the request has no such mask."""
        yield from NO_QUERIES
        load = request.mask if self.which == "given" else request.true_mask
        if load is None:
            name = "a given mask" if self.which == "given" else "the oracle's mask"
            raise ValueError(f"request {request.id}: the editor wants {name} and the request has none")
        pixels = load() >= 0.5
        cut = "" if pixels.any() or not isinstance(load, CutMask) else load.describe_cut()
        latent = dilate(to_latent_grid(pixels, x0.shape[-2:], self.downsample), self.dilate)
        if self.dilate:  # the growth is meant for the pixels too
            pixels = pixels | (F.interpolate(latent.float(), pixels.shape[-2:])[0] > 0)
        return Mask(latent.to(x0.device), pixel_mask=pixels, cut=cut)


@settings
class Everywhere:
    """No mask: the whole picture may change."""

    inputs: ClassVar = frozenset()
    has_mask: ClassVar = False

    def find(
        self, request: EditRequest, x0: Tensor, target: Cond, reference: Cond, schedule: Schedule, noise: Noise
    ) -> Program[Mask]:
        """Without a query."""
        yield from NO_QUERIES
        return Mask(None)


def to_latent_grid(
    pixels: Bool[Tensor, "1 H W"], grid: tuple[int, int] | torch.Size, downsample: Downsample = "area"
) -> Bool[Tensor, "1 1 h w"]:
    """A pixel mask on the latent grid; see `GivenMask` for the rule."""
    full = pixels.float()[None]
    match downsample:
        case "nearest":
            return F.interpolate(full, tuple(grid), mode="nearest-exact") > 0
        case "corner":
            return F.interpolate(full, tuple(grid), mode="nearest") > 0
    return F.adaptive_avg_pool2d(full, tuple(grid)) > {"area": 0.5, "any": 0.0}[downsample]


def dilate(mask: Bool[Tensor, "h w"] | Bool[Tensor, "1 1 h w"], by: int) -> Bool[Tensor, "1 1 h w"]:
    """The mask grown by `by` places in every direction, diagonals included."""
    full = mask.reshape(1, 1, *mask.shape[-2:])
    return F.max_pool2d(full.float(), 2 * by + 1, stride=1, padding=by) > 0 if by else full
