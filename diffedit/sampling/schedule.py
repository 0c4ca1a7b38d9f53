"""Noise levels: what alpha, sigma and network timestep each of the N steps has, and which level a ratio means."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffedit.types import Level


@dataclass(frozen=True)
class NoiseSchedule:
    """Levels 0 (clean) to N (noisiest): `schedule[i]` is a `Level`, `len(schedule)` is N + 1.

    The encoding ratio r of the paper (§3.2) means the last round(r * N) of N steps; ties go to the even level, as
    Python's `round` has it.
    """

    levels: tuple[Level, ...]

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, i: int, /) -> Level:
        return self.levels[i]

    @property
    def steps(self) -> int:
        """N, the number of steps."""
        return len(self.levels) - 1

    def find_level(self, ratio: float) -> int:
        """The level round(ratio * N); a ValueError as of the function `find_level`."""
        return find_level(ratio, self.steps)

    def start_levels(self, ratios: Sequence[float]) -> list[int]:
        """The start levels of `ratios`, in their order; a ValueError as of `check_ratios`."""
        return check_ratios(ratios, self.steps)

    @classmethod
    def discrete(
        cls, alphas_cumprod: Float[Tensor, " train"], timesteps: Iterable[int] | Int[Tensor, " steps"], clean: float
    ) -> "NoiseSchedule":
        """Schedule of a model trained on discrete times (DDPM's).

        Args:
            alphas_cumprod: DDPM's cumulative product, by training time; alpha = sqrt of it, sigma = sqrt(1 - it).
            timesteps: the times visited, in any order; level i is the i-th smallest.
            clean: the cumulative product at level 0: 1 where the scheduler says `set_alpha_to_one`, else
                alphas_cumprod[0] (Stable Diffusion's own choice). The timestep of level 0 is time 0 either way.
        """
        times = sorted(int(t) for t in timesteps)
        squares = [float(clean)] + [float(alphas_cumprod[t]) for t in times]
        timesteps = [0, *times]
        return cls(tuple(Level(a**0.5, (1 - a) ** 0.5, t) for a, t in zip(squares, timesteps, strict=True)))


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
