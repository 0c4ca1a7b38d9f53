"""The highest level that is reached, by number of steps and spacing: what a ratio of 1 means."""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from diffedit.sampling.schedule import SPACINGS, TrainedTimes
from diffedit.types import Backbone


def make_level_table(backbone: Backbone, steps: Sequence[int]) -> Iterator[str]:
    """Lines of a table in Markdown: the highest timestep, and how much of the signal is left there.

    Args:
        backbone: with a scheduler of diffusers.
        steps: numbers of them, a row each.

    Raises:
        ValueError: the model has no such scheduler, and so no choice of spacings.
    """
    scheduler = getattr(backbone, "scheduler", None)
    if scheduler is None:
        raise ValueError(f"levels = {list(steps)}: {type(backbone).__name__} has one spacing of its own")
    config, names = scheduler.config, []
    for spacing in SPACINGS:
        offset = f", offset {config.steps_offset}" if spacing == "leading" else ""
        names.append(f"`{spacing}`{offset}")
    yield f"| steps | {' | '.join(names)} |"
    yield f"| --- |{' --- |' * len(names)}"
    for number in steps:
        cells = []
        for spacing in SPACINGS:
            times = TrainedTimes(config.num_train_timesteps, spacing, config.steps_offset)
            cells.append(describe_top(times, number, scheduler.alphas_cumprod))
        yield f"| {number} | {' | '.join(cells)} |"


def describe_top(times: TrainedTimes, steps: int, alphas_cumprod: Float[Tensor, " train"]) -> str:
    """The highest timestep of so many steps with alpha there, in bold where it is one that is warned of."""
    try:
        top, gap = times.choose(steps)[-1], times.describe_gap(steps, alphas_cumprod)
    except ValueError:
        return "refused"
    text = f"{top} ({100 * float(alphas_cumprod[top]) ** 0.5:.1f} %)"
    return f"**{text}**" if gap else text
