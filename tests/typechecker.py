"""The checker behind jaxtyping's hook: an int is a float, as in Python and YAML."""

import inspect
from dataclasses import is_dataclass
from functools import partial

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
check_shapes = jaxtyping.jaxtyped


def check_types(function=None, *, typechecker=None):
    """jaxtyping's decorator for what names a shape, the checker alone for what names none.

    Both look at the same types. To remember the sizes of a call takes many times as long as to look at its types; few
    functions have sizes, and most of the calls in small tests are of the others.
    """
    if function is None:
        return partial(check_types, typechecker=typechecker)
    if inspect.isclass(function) and not is_dataclass(function):
        return function
    whole = function.__init__ if inspect.isclass(function) else function
    if any(names_a_shape(hint) for hint in getattr(whole, "__annotations__", {}).values()):
        return check_shapes(function, typechecker=typechecker)
    if whole is function:
        return checked(function)
    function.__init__ = checked(whole)
    return function


def names_a_shape(hint):
    """Also where it may be hidden: in words that jaxtyping resolves."""
    return isinstance(hint, str) or any(word in repr(hint) for word in ("jaxtyping", "ForwardRef"))


def leave_out_what_has_no_shapes():
    """Before the hook is installed: it looks the decorator up by its name."""
    jaxtyping.jaxtyped = check_types
