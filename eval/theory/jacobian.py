"""The local Lipschitz constant of a function: the spectral norm of its Jacobian, which is never written out."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel


class SpectralNorm(NamedTuple):
    """A spectral norm from below, and how far it still moved.

    Attributes:
        value: the largest stretch that was found.
        change: of it in the last iteration, as a share of it; what is left to rise may be several times that.
    """

    value: float
    change: float


def estimate_spectral_norm(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "..."], start: Float[Tensor, "..."], iterations: int = 30
) -> SpectralNorm:
    """Power iteration on J^T J, J the Jacobian of `function` at x; never above the norm, and rising to it.

    An iteration is one product with J and one with its transpose, by forward and by reverse differentiation. Attention
    is computed by its plain formula, the only one with a forward derivative.

    Args:
        function: differentiable; its output may have any shape.
        x: where.
        start: a direction of the shape of x; a random one has a share in every singular vector.
        iterations: at least 1.
    """
    value, change = 0.0, 1.0
    direction = start / start.norm()
    with sdpa_kernel(SDPBackend.MATH):
        _, pull = vjp(function, x)
        for _ in range(iterations):
            _, pushed = jvp(function, (x,), (direction,))
            before, value = value, pushed.norm().item()
            change = (value - before) / value if value else 0.0
            (pulled,) = pull(pushed)
            if (length := pulled.norm()) == 0:
                break
            direction = pulled / length
    return SpectralNorm(value, abs(change))
