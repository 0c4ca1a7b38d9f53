"""The two bounds of Proposition 1 (Couairon et al., ICLR 2023), as functions of tau = sqrt(1 / abar_r - 1).

||eps(x_t, Q, t)|| <= C, eps(., empty, t) is K1-Lipschitz, and K2 = E max_t ||eps(x, Q, t) - eps(x, empty, t)||. Norms
are normalised by the dimension: ||v|| / sqrt(dim).
"""

from math import asinh, cosh, inf, log, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import brentq

Values = float | Float[ndarray, " n"]
FARTHEST = 1e9  # tau at which no crossing is looked for any more


class Constants(NamedTuple):
    """What the bounds are made of."""

    c: float
    k1: float
    k2: float


PAPER = Constants(c=1.0, k1=3.0, k2=0.02)
"""The authors' estimates for their model; in dimension-normalised norms, as C = 1 says."""


def bound_noising(tau: Values, constants: Constants) -> Values:
    """Of E||x0 - D_r(G_r(x0, eps), Q)||, SDEdit's: (C + 1) * tau."""
    return (constants.c + 1) * np.asarray(tau, dtype=np.float64)


def bound_encoding(tau: Values, constants: Constants) -> Values:
    """Of E||x0 - D_r(E_r(x0), Q)||, DDIM encoding's: K2 * tau / sqrt(tau^2 + 1) * (tau + sqrt(tau^2 + 1))^K1.

    Infinite where that is beyond a float.
    """
    tau = np.asarray(tau, dtype=np.float64)
    with np.errstate(over="ignore"):
        return constants.k2 * tau / np.sqrt(tau**2 + 1) * np.exp(constants.k1 * np.arcsinh(tau))


def integrate_worst_case(tau: float, constants: Constants) -> float:
    """The distance that Grönwall's inequality allows under the same assumptions: K2 * int_0^tau exp(K1 asinh s) ds.

    With xbar = x / sqrt(abar) and s for its noise level, the decoding under Q and the encoding under the empty text
    differ by d with d' <= K2 + K1 * d / sqrt(s^2 + 1), from 0 at tau down to s = 0. It is attained by
    eps(x, empty) = -K1 * x, eps(x, Q) = eps(x, empty) + K2, and is above `bound_encoding` for large tau.
    """
    # With s = sinh(u) it is an integral of two exponentials.
    powers = (constants.k1 + 1, constants.k1 - 1)
    with np.errstate(over="ignore"):
        return float(constants.k2 * sum(asinh(tau) if p == 0 else np.expm1(p * asinh(tau)) / p for p in powers) / 2)


def find_crossing(constants: Constants) -> float | None:
    """The least tau > 0 at which both bounds are equal; None where there is none below `FARTHEST`.

    Below it the bound of DDIM encoding is the lower one.
    """
    c, k1, k2 = constants
    if not 0 < k2 < c + 1:
        return None

    def compare(u: float) -> float:  # the logarithm of their quotient at tau = sinh(u)
        return log(k2 / (c + 1)) - log(cosh(u)) + k1 * u

    peak = inf if k1 >= 1 else asinh(k1 / sqrt(1 - k1**2))  # where the quotient is largest
    top = min(peak, asinh(FARTHEST))
    return None if compare(top) < 0 else float(np.sinh(brentq(compare, 0, top, xtol=1e-14)))
