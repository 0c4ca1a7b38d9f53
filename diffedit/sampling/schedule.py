"""Noise levels: what alpha, sigma and network timestep each of the N steps has, and which level a ratio means."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffedit.types import Backbone, Level, Schedule

log = logging.getLogger(__name__)

Spacing = Literal["leading", "trailing", "linspace"]
SPACINGS = get_args(Spacing)
COVERED = 0.95  # of the times of the training: below it a user is warned
NO_SIGNAL = 1e-6  # an alpha below it is none


@dataclass(frozen=True)
class NoiseSchedule:
    """Levels 0 (clean) to N (noisiest): `schedule[i]` is a `Level`, `len(schedule)` is N + 1.

    The encoding ratio r of the paper (§3.2) means the last round(r * N) of N steps; ties go to the even level, as
    Python's `round` has it.

    Attributes:
        levels: all of them.
        reads_blank: whether the model can be asked where no signal is left; one that predicts epsilon cannot, as its
            x0 is divided by alpha there.
        warning: what a user should know before the first request; "" for nothing.
    """

    levels: tuple[Level, ...]
    reads_blank: bool = True
    warning: str = ""

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, i: int, /) -> Level:
        return self.levels[i]

    @property
    def steps(self) -> int:
        """N, the number of steps."""
        return len(self.levels) - 1

    def find_level(self, ratio: float) -> int:
        """The level round(ratio * N); a ValueError as of the function `find_level`, or where nothing can be decoded."""
        return self.start_levels([ratio])[0]

    def start_levels(self, ratios: Sequence[float]) -> list[int]:
        """The start levels of `ratios`, in their order.

        Raises:
            ValueError: as `check_ratios`, or no edit can start at one of them: the message has the ratios that can be.
        """
        starts = check_ratios(ratios, self.steps)
        blank = [ratio for ratio, level in zip(ratios, starts, strict=True) if self.is_blank(level)]
        if blank and not self.reads_blank:
            raise ValueError(self.describe_blank(blank, [ratio for ratio in ratios if ratio not in blank]))
        return starts

    def describe_blank(self, blank: Sequence[float], left: Sequence[float]) -> str:
        """Why no edit can start at some ratios, and what to do: the others of those asked for can stay."""
        highest = max(i for i in range(len(self)) if not self.is_blank(i))
        others = f" (ratios={list(left)})" if left else ""
        return (
            f"r = {', '.join(f'{ratio:g}' for ratio in blank)}: level {self.steps} of {self.steps} (t = "
            f"{self.levels[-1].timestep:g}) has no signal left (zero terminal SNR), and a model that predicts epsilon "
            "cannot be decoded from there, as x0 is divided by the signal: take ratios up to "
            f"{highest / self.steps:g}{others}; or backbone.timestep_spacing=leading, which ends below; or, where the "
            "weights were trained for v, prediction_type: v_prediction in scheduler_config.json"
        )

    def is_blank(self, i: int) -> bool:
        """Whether no signal is left at a level."""
        return self.levels[i].alpha < NO_SIGNAL

    @classmethod
    def discrete(
        cls,
        alphas_cumprod: Float[Tensor, " train"],
        timesteps: Iterable[int] | Int[Tensor, " steps"],
        clean: float,
        reads_blank: bool = True,
        warning: str = "",
    ) -> "NoiseSchedule":
        """Schedule of a model trained on discrete times (DDPM's).

        Args:
            alphas_cumprod: DDPM's cumulative product, by training time; alpha = sqrt of it, sigma = sqrt(1 - it).
            timesteps: the times visited, in any order; level i is the i-th smallest.
            clean: the cumulative product at level 0: 1 where the scheduler says `set_alpha_to_one`, else
                alphas_cumprod[0] (Stable Diffusion's own choice). The timestep of level 0 is time 0 either way.
            reads_blank: as in the class.
            warning: as in the class.
        """
        times = sorted(int(t) for t in timesteps)
        squares = [float(clean)] + [float(alphas_cumprod[t]) for t in times]
        timesteps = [0, *times]
        levels = tuple(Level(a**0.5, (1 - a) ** 0.5, t) for a, t in zip(squares, timesteps, strict=True))
        return cls(levels, reads_blank, warning)


@dataclass(frozen=True)
class TrainedTimes:
    """The discrete times that a model was trained at, and which of them are visited.

    Attributes:
        count: of them: 0 to count - 1.
        spacing: of those that are visited, as diffusers' DDIMScheduler has it: `leading` begins at the offset and ends
            a step below the noisiest, `trailing` ends at the noisiest, `linspace` goes from the first to the last.
        offset: diffusers' `steps_offset`, of `leading` alone.
        setting: that chooses another spacing, for advice; "" where there is none.
    """

    count: int = 1000
    spacing: Spacing = "leading"
    offset: int = 0
    setting: str = ""

    def __post_init__(self) -> None:
        if self.spacing not in SPACINGS:
            raise ValueError(f"timestep_spacing = {self.spacing!r} is none of {', '.join(SPACINGS)}")

    def choose(self, steps: int) -> list[int]:
        """The times of so many steps, rising.

        Raises:
            ValueError: there are not so many, or the last one is none that the model was trained at.
        """
        if not 1 <= steps <= self.count:
            allowed = f"that is 1 to {self.find_near(self.count)} steps"
            raise ValueError(
                f"steps = {steps}: the model was trained at {self.count} noise levels, {allowed} where they are spaced "
                f"as {self.spacing}; the nearest is {self.find_near(steps)}"
            )
        times = self.space(steps)
        if times[-1] >= self.count:
            other = f", or {self.setting}=trailing" if self.setting else ""
            raise ValueError(
                f"steps = {steps}: spaced as {self.spacing}, with an offset of {self.offset}, the last is t = "
                f"{times[-1]}, and the model was trained at 0 to {self.count - 1}; the nearest is "
                f"{self.find_near(steps)}{other}"
            )
        return times

    def space(self, steps: int) -> list[int]:
        """The times as the spacing has them, whether they were trained at or not."""
        if self.spacing == "linspace":
            return [int(time) for time in np.linspace(0, self.count - 1, steps).round()]
        if self.spacing == "leading":
            return [i * (self.count // steps) + self.offset for i in range(steps)]
        # Cut: by a rounding, some numbers of steps (61 of 1000, say) have one more in diffusers, at t = -1.
        return [int(time) - 1 for time in np.round(np.arange(self.count, 0, -self.count / steps))[:steps][::-1]]

    def find_near(self, steps: int) -> int:
        """The nearest number of steps that can be: 1 always can."""
        falling = range(min(max(steps, 1), self.count), 0, -1)
        return next((number for number in falling if self.space(number)[-1] < self.count), 1)

    def describe_gap(self, steps: int, alphas_cumprod: Float[Tensor, " train"]) -> str:
        """What is not reached of the noise of the training, with its numbers; "" where nearly all is."""
        top, last = self.choose(steps)[-1], self.count - 1
        if top >= COVERED * last:
            return ""
        left, least = (100 * float(alphas_cumprod[time]) ** 0.5 for time in (top, last))
        more = "more steps" if self.count % steps == 0 else f"a number of steps that divides {self.count}"
        remedy = f"{self.setting}=trailing" if self.setting else more
        return (
            f"steps = {steps}: spaced as {self.spacing}, the highest level is t = {top} of {last}, where {left:.1f} % "
            f"of the signal is left, and {least:.1f} % at the end of the training: ratio 1 is no more than that. "
            f"Farther: {remedy}"
        )


def open_schedule(backbone: Backbone, steps: int) -> Schedule:
    """The schedule of a run, once for all its requests; what a user should know of it is told."""
    schedule = backbone.schedule(steps)
    if warning := getattr(schedule, "warning", ""):
        log.warning("%s", warning)
    return schedule


def find_level(ratio: float, steps: int) -> int:
    """The level round(ratio * N) of N steps.

    Raises:
        ValueError: the ratio is outside (0, 1], or so small that ratio * N < 1 and nothing would change.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio r = {ratio} is outside (0, 1] (N = {steps} steps)")
    # The product may fall short of 1 by a rounding: (1 / 49) * 49 does.
    if ratio * steps < 1 - 1e-9:
        raise ValueError(
            f"ratio r = {ratio} of N = {steps} steps is less than one step (r * N = {ratio * steps:g}): "
            f"take r >= {1 / steps:g} or more steps"
        )
    return round(ratio * steps)


def check_ratios(ratios: Sequence[float], steps: int) -> list[int]:
    """The start levels of ratios, in their order.

    Raises:
        ValueError: as `find_level`, no ratio at all, or two ratios that mean the same level and so the same edit.
    """
    if not ratios:
        raise ValueError("no ratio: give at least one encoding ratio in (0, 1]")
    first: dict[int, float] = {}
    for ratio in ratios:
        level = find_level(ratio, steps)
        if level in first:
            raise ValueError(
                f"ratios {first[level]} and {ratio} are both level {level} of N = {steps} steps, the same "
                "edit twice: drop one or take more steps"
            )
        first[level] = ratio
    return list(first)


def read_ratios(value: Any) -> list[float]:
    """The setting `ratios` as a list; a ValueError for a single number or anything else."""
    try:
        return [float(ratio) for ratio in value]
    except (TypeError, ValueError):
        raise ValueError(f"ratios = {value}: a list of numbers is wanted, such as ratios=[0.3,0.5]") from None


def scaled_linear(start: float = 0.00085, end: float = 0.012, times: int = 1000) -> Float[Tensor, " times"]:
    """`alphas_cumprod` of latent diffusion's schedule: betas linear in their square roots."""
    betas = torch.linspace(start**0.5, end**0.5, times, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)
