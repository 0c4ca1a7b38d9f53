"""The moves every method is made of. A latent changes its level here and nowhere else.

`add_noise`, `step` are arithmetic; `guide`, `invert`, `denoise`, `finish` are walks (generators that query the
networks); `noised` and `put_back` make what `denoise` blends with.
The arithmetic keeps to single multiplications and additions: each is rounded the same way in every position of every
batch, so results stay equal to the bit whatever they are computed beside.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffedit.types import Cond, Decode, Edit, Level, Levels, Predict, Prediction, Walk

InversionLabel = Literal["source", "destination"]

Latents = Float[Tensor, "k c h w"]
Latent = Float[Tensor, "1 c h w"]
Broadcast = Float[Tensor, "#k c h w"]

Path = Callable[[int], Latent]
"""`path(i)` is what the input picture looks like at level i; `path(0)` is its latent x0 itself, to the bit."""

Blend = Callable[[Latents, int], Latents]
"""`blend(x, i)` puts back into x, which has just reached level i, what shall not change."""


def add_noise(x0: Broadcast, noise: Broadcast, level: Level) -> Latents:
    """x0 brought to `level` by the forward process: alpha * x0 + sigma * noise; one x0 may meet k noises."""
    return x0 * level.alpha + noise * level.sigma


def step(
    said: Prediction,
    here: Level,
    there: Level,
    eta: float = 0.0,
    noise: Broadcast | None = None,
    push: Latents | None = None,
) -> Latents:
    """One DDIM update from level `here` to level `there`, up or down (Song et al. 2021, eq. 12 and 16).

    Args:
        said: the network's estimate at `here`.
        here: the level to leave.
        there: the level to reach.
        eta: 0 is DDIM, 1 full ancestral (DDPM) noise; only for a step down.
        noise: the fresh noise that eta > 0 needs; one latent (shared by all rows) or one a row.
        push: a gradient that moves the mean by the variance of the fresh noise times itself: guidance by a classifier
            (Dhariwal & Nichol 2021, algorithm 1). Without fresh noise it does nothing.
    """
    if eta == 0:
        return said.x0 * there.alpha + said.eps * there.sigma
    if noise is None:
        raise ValueError(f"eta = {eta} needs noise")
    fresh = eta * (there.sigma / here.sigma) * (1 - (here.alpha / there.alpha) ** 2) ** 0.5
    kept = (there.sigma**2 - fresh**2) ** 0.5
    mean = said.x0 * there.alpha + said.eps * kept
    return (mean if push is None else mean + push * fresh**2) + noise * fresh


def noised(x0: Latent, noise: Latent, levels: Levels) -> Path:
    """The path of a picture that one noise is added to, the same at every level."""
    return lambda i: add_noise(x0, noise, levels[i]) if i else x0


def put_back(mask: Bool[Tensor, "1 1 h w"] | None, path: Path) -> Blend | None:
    """The blend of DiffEdit §3.2, M * y_t + (1 - M) * x_t with x_t at the level of y_t; no blend without a mask."""
    return None if mask is None else lambda x, i: torch.where(mask, x, path(i))


def guide(
    x: Latents, level: Level, cond: Cond, empty: Cond, guidance: float, edits: tuple[int, ...] = ()
) -> Walk[Prediction]:
    """The estimate under classifier-free guidance: empty + guidance * (cond - empty), in one query.

    guidance = 1 costs one evaluation a latent, any other value two. x0 and eps are both affine in the network's output,
    so guiding each of them is guiding the output.
    """
    k = len(x)
    if guidance == 1:
        return (yield Predict(x, level, (cond,) * k, edits))
    both = yield Predict(torch.cat([x, x]), level, (empty,) * k + (cond,) * k, edits * 2)
    return Prediction(*(part[:k] + (part[k:] - part[:k]) * guidance for part in both))


def invert(
    x0: Latent, levels: Levels, top: int, cond: Cond, label: InversionLabel = "destination"
) -> Walk[list[Latent]]:
    """DDIM encoding of x0 up to level `top` (DiffEdit §3.2, step 2; E_r in the paper), without guidance.

    Args:
        x0: the clean latent.
        levels: of the run.
        top: the highest level wanted.
        cond: the unconditional condition, as in the paper; any other for variants.
        label: which time the network is told when it looks at level i on the way to i + 1. "source" is i, the DDIM
            equation run backwards as papers write it; "destination" is i + 1, what diffusers' inverse scheduler does.

    Returns:
        top + 1 latents, `path[i]` at level i; `path[0]` is x0 itself. One path serves every ratio.
    """
    path = [x0]
    for i in range(top):
        told = levels[i] if label == "source" else levels[i]._replace(label=levels[i + 1].label)
        said = yield Predict(path[i], told, (cond,))
        path.append(step(said, levels[i], levels[i + 1]))
    return path


def denoise(
    starts: Mapping[int, Latent],
    levels: Levels,
    cond: Cond,
    empty: Cond,
    guidance: float,
    blend: Blend | None = None,
    eta: float = 0.0,
    noise: Callable[[int], Latent] | None = None,
) -> Walk[dict[int, Latent]]:
    """Guided decoding of several edits together, each from its own start level down to 0 (DiffEdit §3.2, step 3).

    Args:
        starts: the latent at each start level.
        levels: of the run.
        cond: the target text's condition.
        empty: the unconditional condition.
        guidance: classifier-free guidance scale.
        blend: called after each update, with the level just reached.
        eta: noise of each update, see `step`.
        noise: `noise(i)` gives the fresh noise of the update that leaves level i; needed for eta > 0.

    Returns:
        the latent at level 0 by start level.
    """
    order = tuple(sorted(starts, reverse=True))
    x = starts[order[0]][:0]
    for i in range(order[0], 0, -1):
        if i in starts:
            x = torch.cat([x, starts[i]])
        said = yield from guide(x, levels[i], cond, empty, guidance, order[: len(x)])
        x = step(said, levels[i], levels[i - 1], eta, noise(i) if noise else None)
        if blend is not None:
            x = blend(x, i - 1)
    return dict(zip(order, x.split(1), strict=True))


def finish(edited: Mapping[int, Latent], ratios: Sequence[float], starts: Sequence[int]) -> Walk[list[Edit]]:
    """The pictures of the latents that `denoise` returned, in one query: an `Edit` a ratio, in their order."""
    images = yield Decode(torch.cat([edited[i] for i in starts]))
    return [Edit(*each) for each in zip(ratios, starts, images, strict=True)]
