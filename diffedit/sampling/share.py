"""Work that several programs may ask for: made once, by whoever asks first."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from diffedit.types import Credit, Keep, Program, Recall


def share(
    purpose: str,
    key: tuple[Any, ...],
    count: int,
    grow: Callable[[Sequence[Tensor]], Program[list[Tensor]]],
    count_evaluations: Callable[[int], int] = lambda count: 0,
) -> Program[list[Tensor]]:
    """The first `count` items of a list that others may have begun; what is missing is made, and handed over.

    Args:
        purpose: of the work, for the accounting.
        key: all that decides the list, but not how long it is.
        count: items wanted.
        grow: the list, given its beginning (which may be empty), with `count` items.
        count_evaluations: of the denoiser, behind so many items.
    """
    recall = Recall(purpose, key)
    items = yield recall
    if known := count_evaluations(min(len(items), count)):
        yield Credit(purpose, {None: known})
    if len(items) < count:
        items = yield from grow(items)
    yield Keep(recall, items)  # also where nothing was missing: whoever waits for this list need not wait any longer
    return list(items[:count])
