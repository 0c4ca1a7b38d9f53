"""Settings are checked when they are made; what is said names class, field and what is allowed."""

from typing import Annotated, Literal

import pytest
import torch
from annotated_types import Gt

from diffedit.io.checks import check_finite, settings


@settings
class Example:
    size: Annotated[int, Gt(0)] = 1
    kind: Literal["a", "b"] = "a"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "Example: size = 0: it should be a whole number above 0"),
        ({"kind": "c"}, "Example: kind = 'c': it should be 'a' or 'b'"),
        ({"sise": 2}, "Example: there is no setting sise; there are size, kind"),
        ({"size": "x", "kind": 3}, "size = 'x': .*; Example: kind = 3"),
    ],
)
def test_a_bad_setting_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        Example(**values)


def test_one_value_too_many_is_refused():
    with pytest.raises(ValueError, match="Example: there is no setting 2"):
        Example(1, "a", 3)


def test_what_is_not_finite_is_refused_by_name():
    assert check_finite(torch.ones(2), "the edit").sum() == 2
    with pytest.raises(FloatingPointError, match="the edit is not finite"):
        check_finite(torch.tensor([1.0, float("nan")]), "the edit")
