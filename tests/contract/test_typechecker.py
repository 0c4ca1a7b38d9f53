"""The tests' own checker: types are looked at everywhere, shapes wherever they are named."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor
from typechecker import check_shapes, check_types, checked, names_a_shape

from diffedit.sampling.ddim import add_noise
from diffedit.sampling.schedule import find_level
from diffedit.types import Level


def test_shapes_are_held_to_each_other():
    x, level = torch.zeros(2, 3, 4, 4), Level(1.0, 0.0, 0)
    assert add_noise(x, torch.zeros(2, 3, 4, 4), level).shape == x.shape
    with pytest.raises(TypeCheckError):
        add_noise(x, torch.zeros(2, 3, 4, 5), level)


def test_types_are_looked_at_where_there_are_no_shapes():
    assert not any(map(names_a_shape, find_level.__annotations__.values()))
    assert find_level(1, 10) == 10  # an int is a float
    with pytest.raises(TypeCheckError, match="ratio='a half'"):
        find_level("a half", 10)


@pytest.mark.parametrize(
    "hint", [Float[Tensor, "a b"], Float[Tensor, "a b"] | None, list[Float[Tensor, "a b"]], "Tensor"]
)
def test_a_shape_is_seen_wherever_it_is_named(hint):
    def function(x):
        return x

    function.__annotations__["x"] = hint
    assert check_types(function, typechecker=checked).__globals__ is check_shapes.__globals__
    assert not any(map(names_a_shape, (int, Tensor, list[str] | None)))
