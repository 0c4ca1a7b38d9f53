"""Power iteration against the full Jacobian, written out."""

import pytest
import torch
from torch import nn

from diffedit.types import Level
from eval.theory.jacobian import estimate_spectral_norm


@pytest.fixture
def network():
    """Convolution, normalisation and an activation, as in a UNet, tiny."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 2, 3, padding=1)]
    return nn.Sequential(*layers).double().requires_grad_(False)


def full_norm(function, x):
    jacobian = torch.autograd.functional.jacobian(function, x)
    return torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2).item()


def test_it_is_the_norm_of_the_full_jacobian(network):
    x, start = torch.randn(2, 1, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = full_norm(network, x)
    found = estimate_spectral_norm(network, x, start, 150)
    assert found.value == pytest.approx(exact, rel=1e-6)
    assert found.change < 1e-8
    values = [estimate_spectral_norm(network, x, start, count).value for count in (1, 3, 10, 30)]
    assert values == sorted(values)
    assert values[0] < exact
    assert all(value <= exact * (1 + 1e-12) for value in values)


def test_it_goes_through_the_attention_of_a_unet(tiny):
    """Forward derivatives of it are not everywhere; an iteration is compared with a difference quotient."""
    x, start = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    (empty,), level, h = tiny.embed([""]), Level(0.8, 0.6, 500), 1e-2

    def estimate(x):
        return tiny.predict(x, [level], [empty]).eps

    found = estimate_spectral_norm(estimate, x[None], start[None], 1)
    step = h * start[None] / start.norm()
    quotient = (estimate(x[None] + step) - estimate(x[None] - step)).norm().item() / (2 * h)
    assert found.value == pytest.approx(quotient, rel=1e-2)
    more = estimate_spectral_norm(estimate, x[None], start[None], 5)
    assert more.value > found.value


def test_a_constant_has_norm_0():
    found = estimate_spectral_norm(lambda x: x * 0 + 1, torch.ones(3), torch.ones(3))
    assert found == (0.0, 0.0)
