"""Checks of settings."""

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor


def check_choices(settings: Any) -> None:
    """Refuse a dataclass field whose value is not one of those its `Literal` annotation lists."""
    for name, hint in get_type_hints(type(settings)).items():
        known = get_args(hint)
        if get_origin(hint) is Literal and (value := getattr(settings, name)) not in known:
            raise ValueError(f"{type(settings).__name__}: {name} = {value!r} is none of {', '.join(map(str, known))}")


def check_literal(key: str, value: Any, known: Sequence[Any]) -> None:
    """Refuse a value that is none of those known."""
    if value not in known:
        raise ValueError(f"{key} = {value!r} is none of {', '.join(map(str, known))}")


def check_finite(x: Tensor, what: str) -> Tensor:
    """`x` itself; a FloatingPointError that says `what` it is where it holds a NaN or an infinity."""
    if not torch.isfinite(x).all():
        raise FloatingPointError(f"{what} is not finite (NaN or infinity): try a wider dtype")
    return x
