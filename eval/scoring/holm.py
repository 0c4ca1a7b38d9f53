"""Many comparisons at once: p values that hold for all of them together."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def correct(p: Float[ndarray, " m"]) -> Float[ndarray, " m"]:
    """Raw p values after Holm's correction (1979): the chance of any false find among all stays below each.

    The smallest is multiplied by their number, the next by one less, and so on; none falls below the one before it.

    Args:
        p: raw; NaN where nothing was tested, which does not count.
    """
    p = np.asarray(p, dtype=float)
    corrected = p.copy()
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
