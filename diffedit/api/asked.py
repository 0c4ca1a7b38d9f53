"""The plain settings of a call, held to what commands hold theirs to."""

from typing import Annotated, Any

import numpy as np
from annotated_types import MinLen

from diffedit.io.annotations import find_faults
from diffedit.io.checks import Count, Ratio, Seed

ALLOWED = {
    "guidance_scale": float | None,
    "num_inference_steps": Count,
    "seed": Seed,
    "batch_size": Count,
    "id": str,
}


def check_asked(**given: Any) -> None:
    """A ValueError with a sentence for each setting whose value is not allowed; `given` are those of `ALLOWED`."""
    found = [fault for name, value in given.items() for fault in find_faults(ALLOWED[name], make_plain(value), name)]
    if found:
        raise ValueError("; ".join(fault.describe() for fault in found))


def read_ratio(ratio: Any) -> list[float]:
    """The encoding ratios: of one number, of a list of some, or of an array; a ValueError names one that is none."""
    plain = make_plain(ratio)
    allowed = Annotated[list[Ratio], MinLen(1)] if isinstance(plain, list) else Ratio
    if found := list(find_faults(allowed, plain, "ratio")):
        raise ValueError("; ".join(fault.describe() for fault in found))
    return list(map(float, plain)) if isinstance(plain, list) else [float(plain)]


def make_plain(value: Any) -> Any:
    """Numbers of NumPy and PyTorch, and arrays and tuples of them, as Python's own."""
    if isinstance(value, list | tuple):
        return [make_plain(each) for each in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) or hasattr(value, "cpu") else value
