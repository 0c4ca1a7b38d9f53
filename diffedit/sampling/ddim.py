"""The moves every method is made of. A latent changes its level here and nowhere else.

`add_noise` and `ddim_step` are arithmetic; `predict_guided`, `ddim_invert`, `ddim_sample` and `decode_edits` are
programs (generators that query the networks); `noising_trajectory` and `blend_outside` make what `ddim_sample` blends
with.
The arithmetic keeps to single multiplications and additions: each is rounded the same way in every position of every
batch, so results stay equal to the bit whatever they are computed beside.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import AfterValidator
from torch import Tensor

from diffedit.sampling.share import share
from diffedit.types import Cond, Decode, Edit, Level, Predict, Prediction, Program, Schedule, Variant

InversionTimestep = Literal["source", "destination"]

Latents = Float[Tensor, "k c h w"]
Latent = Float[Tensor, "1 c h w"]
Broadcast = Float[Tensor, "#k c h w"]

Trajectory = Callable[[int], Latent]
"""`path(i)` is what the input picture looks like at level i; `path(0)` is its latent x0 itself, to the bit."""

BlendTime = Literal["every", "last", "never"]
Blend = Callable[[Latents, int], Latents]
"""`blend(x, i)` puts back into x, which has just reached level i, what shall not change."""


def check_interval(interval: tuple[float, float]) -> tuple[float, float]:
    """The interval itself; a ValueError for one that holds no noise level, or goes beyond the schedule."""
    low, high = interval
    if not 0 <= low < high <= 1:
        raise ValueError(
            "it should be (low, high), ratios of the schedule, with 0 <= low < high <= 1; [0.0, 1.0] guides every "
            "step, and guidance=1 none"
        )
    return interval


GuidanceInterval = Annotated[tuple[float, float], AfterValidator(check_interval)]
"""(low, high]: the update that leaves level i of N is guided where low < i / N <= high (Kynkäänniemi et al. 2024)."""

WHOLE: GuidanceInterval = (0.0, 1.0)
"""Every update is guided, as in DiffEdit's paper."""


def add_noise(x0: Broadcast, noise: Broadcast, level: Level) -> Latents:
    """x0 brought to `level` by the forward process: alpha * x0 + sigma * noise; one x0 may meet k noises."""
    return x0 * level.alpha + noise * level.sigma


def ddim_step(
    prediction: Prediction,
    level: Level,
    next_level: Level,
    eta: float = 0.0,
    noise: Broadcast | None = None,
    push: Latents | None = None,
) -> Latents:
    """One DDIM update from `level` to `next_level`, up or down (Song et al. 2021, eq. 12 and 16).

    Args:
        prediction: the network's estimate at `level`.
        level: the level to leave.
        next_level: the level to reach.
        eta: 0 is DDIM, 1 full ancestral (DDPM) noise; only for a step down.
        noise: the fresh noise that eta > 0 needs; one latent (shared by all rows) or one a row.
        push: a gradient that moves the mean by the variance of the fresh noise times itself: guidance by a classifier
            (Dhariwal & Nichol 2021, algorithm 1). Without fresh noise it does nothing.
    """
    if eta == 0:
        return prediction.x0 * next_level.alpha + prediction.eps * next_level.sigma
    if noise is None:
        raise ValueError(f"eta = {eta} needs noise")
    fresh = eta * (next_level.sigma / level.sigma) * (1 - (level.alpha / next_level.alpha) ** 2) ** 0.5
    kept = (next_level.sigma**2 - fresh**2) ** 0.5
    mean = prediction.x0 * next_level.alpha + prediction.eps * kept
    return (mean if push is None else mean + push * fresh**2) + noise * fresh


def noising_trajectory(x0: Latent, noise: Latent, schedule: Schedule) -> Trajectory:
    """The path of a picture that one noise is added to, the same at every level."""
    return lambda i: add_noise(x0, noise, schedule[i]) if i else x0


def blend_outside(mask: Bool[Tensor, "1 1 h w"] | None, path: Trajectory, when: BlendTime = "every") -> Blend | None:
    """The blend of DiffEdit §3.2, M * y_t + (1 - M) * x_t with x_t at the level of y_t; no blend without a mask.

    Args:
        mask: where the edit stays.
        path: the latents that are put back elsewhere, by level.
        when: after `every` update, after the `last` one alone (the clean latent is put back), or `never`.
    """
    if mask is None or when == "never":
        return None
    return lambda x, i: torch.where(mask, x, path(i)) if i == 0 or when == "every" else x


def predict_guided(
    x: Latents, level: Level, cond: Cond, negative: Cond, guidance: float, edits: tuple[int, ...] = ()
) -> Program[Prediction]:
    """The estimate under classifier-free guidance: negative + guidance * (cond - negative), in one query.

    guidance = 1 costs one evaluation a latent, any other value two. x0 and eps are both affine in the network's output,
    so guiding each of them is guiding the output.
    """
    k = len(x)
    if guidance == 1:
        return (yield Predict(x, level, (cond,) * k, edits))
    both = yield Predict(torch.cat([x, x]), level, (negative,) * k + (cond,) * k, edits * 2)
    return Prediction(*(part[:k] + (part[k:] - part[:k]) * guidance for part in both))


def describe_low_guidance(guidance: float, interval: GuidanceInterval = WHOLE, key: str = "editor.guidance") -> str:
    """What a guidance below 1 means, which is seldom meant; "" for any other.

    Args:
        guidance: classifier-free guidance scale.
        interval: (low, high], the ratios that are guided.
        key: of the setting, for the sentence.
    """
    if guidance >= 1:
        return ""
    where = "" if tuple(interval) == WHOLE else f" at ratios from {interval[0]:g} to {interval[1]:g}"
    if guidance == 0:
        return (
            f"{key} = 0: the text that is led away from, the empty one by default, alone decides{where}, "
            "and the target text is not read. Without guidance, as Turbo and LCM models are used, it is 1"
        )
    if guidance < 0:
        return (
            f"{key} = {guidance:g}: leads away from the target text{where}, beyond the one that is led away from, the "
            "empty one by default. From 1 on it leads to it; 1 is without guidance"
        )
    return (
        f"{key} = {guidance:g}: the target text counts for {100 * guidance:g} % of the estimate{where}, and the text "
        "that is led away from, the empty one by default, for the rest: less than without guidance, which is 1"
    )


def is_guided(i: int, schedule: Schedule, interval: GuidanceInterval) -> bool:
    """Whether the update that leaves level i is inside the guidance interval."""
    low, high = interval
    return low < i / (len(schedule) - 1) <= high


def ddim_invert(
    x0: Latent, schedule: Schedule, top: int, cond: Cond, timestep: InversionTimestep = "destination"
) -> Program[list[Latent]]:
    """DDIM encoding of x0 up to level `top` (DiffEdit §3.2, step 2; E_r in the paper), without guidance.

    Args:
        x0: the clean latent.
        schedule: of the run.
        top: the highest level wanted.
        cond: the unconditional condition, as in the paper; any other for variants.
        timestep: which one the network is given when it looks at level i on the way to i + 1. "source" is i, the DDIM
            equation run backwards as papers write it; "destination" is i + 1, what diffusers' inverse scheduler does.

    Returns:
        top + 1 latents, `path[i]` at level i; `path[0]` is x0 itself. One path serves every ratio.
    """

    def climb(known: Sequence[Latent]) -> Program[list[Latent]]:
        path = list(known) or [x0]
        for i in range(len(path) - 1, top):
            level = schedule[i] if timestep == "source" else schedule[i]._replace(timestep=schedule[i + 1].timestep)
            prediction = yield Predict(path[i], level, (cond,), purpose="inversion")
            path.append(ddim_step(prediction, schedule[i], schedule[i + 1]))
        return path

    key = x0, cond, timestep, tuple(schedule[i] for i in range(len(schedule)))
    return (yield from share("inversion", key, top + 1, climb, lambda count: max(count - 1, 0)))


def ddim_sample(
    starts: Mapping[int, Latent],
    schedule: Schedule,
    cond: Cond,
    negative: Cond,
    guidance: float,
    blend: Blend | None = None,
    eta: float = 0.0,
    noise: Callable[[int], Latent] | None = None,
    interval: GuidanceInterval = WHOLE,
) -> Program[dict[int, Latent]]:
    """Guided decoding of several edits together, each from its own start level down to 0 (DiffEdit §3.2, step 3).

    Args:
        starts: the latent at each start level.
        schedule: of the run.
        cond: the target text's condition.
        negative: what guidance leads away from: the unconditional condition, as in the paper, or any other.
        guidance: classifier-free guidance scale.
        blend: called after each update, with the level just reached.
        eta: noise of each update, see `ddim_step`.
        noise: `noise(i)` gives the fresh noise of the update that leaves level i; needed for eta > 0.
        interval: of the levels that are left with guidance; the others have the conditional estimate alone, which is
            one evaluation a latent instead of two.

    Returns:
        the latent at level 0 by start level.
    """
    order = tuple(sorted(starts, reverse=True))
    x = starts[order[0]][:0]
    for i in range(order[0], 0, -1):
        if i in starts:
            x = torch.cat([x, starts[i]])
        scale = guidance if is_guided(i, schedule, interval) else 1.0
        prediction = yield from predict_guided(x, schedule[i], cond, negative, scale, order[: len(x)])
        x = ddim_step(prediction, schedule[i], schedule[i - 1], eta, noise(i) if noise else None)
        if blend is not None:
            x = blend(x, i - 1)
    return dict(zip(order, x.split(1), strict=True))


def decode_edits(edited: Mapping[int, Latent], ratios: Sequence[float], starts: Sequence[int]) -> Program[list[Edit]]:
    """The pictures of the latents that `ddim_sample` returned, in one query: an `Edit` a ratio, in their order."""
    images = yield Decode(torch.cat([edited[i] for i in starts]))
    return [Edit(Variant(r), *rest) for r, *rest in zip(ratios, starts, images, strict=True)]
