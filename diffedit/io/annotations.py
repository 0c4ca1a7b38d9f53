"""What the annotation of a setting allows: which values, how that is said, and which of them is nearest to another."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from functools import lru_cache, reduce
from inspect import isclass
from math import inf
from operator import or_
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AllowInfNan, BeforeValidator, ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

# As pydantic has them, "3" and True are whole numbers, and NaN is a number: no setting means that.
STRICT = {int: Annotated[int, Strict()], float: Annotated[float, Strict(), AllowInfNan(False)]}
STRICT |= {bool: Annotated[bool, Strict()]}
NAMES = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text", Path: "a path"}
NAMES |= {NoneType: "null"}
LISTS = (tuple, list, set, frozenset, Sequence, Collection)
CONTAINERS = (*LISTS, Mapping, dict)
NUMBERS = (int, float)
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Fault(NamedTuple):
    """A value that an annotation does not allow."""

    key: str
    value: Any
    allowed: str
    nearest: str | None = None
    default: str | None = None

    def describe(self) -> str:
        """In a sentence."""
        offers = ("the nearest is", self.nearest), ("its default is", self.default)
        offer = next((f"; {words} {value}" for words, value in offers if value), "")
        return f"{self.key} = {write_value(self.value)}: {self.allowed}{offer}"


def tighten(annotation: Any) -> Any:
    """The same annotation, of which a number is finite, and no text, no truth value and no fraction of a whole one."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(tighten(args[0]), *args[1:])]
    if origin in (Union, UnionType):
        return reduce(or_, map(tighten, args))
    if origin is Sequence:  # of which a text would be one
        return Annotated[origin[tighten(args[0])], BeforeValidator(refuse_text)]
    if origin in CONTAINERS and args:
        return origin[tuple(arg if arg is Ellipsis else tighten(arg) for arg in args)]
    return STRICT.get(annotation, annotation)


def refuse_text(value: Any) -> Any:
    """The value itself; a text is no list of its letters."""
    if isinstance(value, str):
        raise PydanticCustomError("list_type", "it should be a list")
    return value


def list_members(annotation: Any) -> list[Any]:
    """What a union is of; else the annotation itself."""
    if get_origin(annotation) in (Union, UnionType):
        return [member for arg in get_args(annotation) for member in list_members(arg)]
    if get_origin(annotation) is Annotated and len(found := list_members(get_args(annotation)[0])) > 1:
        return found
    return [annotation]


def peel(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """(annotation without what is annotated, that)."""
    args = get_args(annotation)
    return (args[0], args[1:]) if get_origin(annotation) is Annotated else (annotation, ())


def is_plain(annotation: Any) -> bool:
    """Whether values of it can be written in yaml, as numbers, texts, and lists and mappings of them."""
    base = peel(annotation)[0]
    return base in NAMES or get_origin(base) is Literal or (get_origin(base) or base) in CONTAINERS


def is_made(annotation: Any) -> bool:
    """Whether its values are objects, which yaml makes by a `_target_`."""
    base = peel(annotation)[0]
    known = isclass(base) and get_origin(base) is None and not is_plain(base)
    return known and base not in (Any, object) and not issubclass(base, Enum | os.PathLike)


def allows_all(annotation: Any) -> bool:
    """Whether nothing is known of its values: `Any`, a type variable, something of others' libraries."""
    return not all(is_plain(member) or is_made(member) for member in list_members(annotation))


def find_faults(annotation: Any, value: Any, key: str) -> Iterator[Fault]:
    """What is wrong with a plain value under an annotation, each part of it by itself."""
    if allows_all(annotation):
        return
    plain = [member for member in list_members(annotation) if is_plain(member)]
    if not plain:
        yield Fault(key, value, f"it has settings of its own, such as {key}.NAME=VALUE")
        return
    parts = [fault for item, part, name in iterate_parts(plain, value, key) for fault in find_faults(item, part, name)]
    yield from parts
    if parts:
        return
    if (error := find_error(reduce(or_, plain), value)) is not None:
        allowed = find_message(error) or f"it should be {describe(plain)}"
        yield Fault(key, value, allowed, find_nearest(plain, value))


def find_error(annotation: Any, value: Any) -> ValidationError | None:
    """What pydantic says of a plain value under an annotation; None where it is one of its values."""
    try:
        make_check(annotation)(value)
    except ValidationError as error:
        return error
    return None


@lru_cache(4096)
def make_check(annotation: Any) -> Callable[[Any], Any]:
    """What checks values under it, strictly: a ValidationError for one that is none."""
    return TypeAdapter(tighten(annotation), config=ConfigDict(arbitrary_types_allowed=True)).validate_python


def iterate_parts(plain: Sequence[Any], value: Any, key: str) -> Iterator[tuple[Any, Any, str]]:
    """(annotation, value, key) of each part of a list or mapping."""
    for member in plain:
        base = peel(member)[0]
        origin, args = get_origin(base), get_args(base)
        if isinstance(value, Mapping) and origin in (Mapping, dict):
            yield from ((args[1], part, f"{key}.{name}") for name, part in value.items())
            return
        if isinstance(value, list | tuple) and origin in LISTS and args:
            is_fixed = origin is tuple and Ellipsis not in args
            items = args if is_fixed else [args[0]] * len(value)
            yield from ((*pair, f"{key}[{i}]") for i, pair in enumerate(zip(items, value, strict=False)))
            return


def find_message(error: ValidationError) -> str | None:
    """What a check of ours said, where it was one."""
    raised = [fault["ctx"]["error"] for fault in error.errors() if fault["type"] == "value_error"]
    return str(raised[0]) if raised else None


def describe(members: Sequence[Any]) -> str:
    """What is allowed, in words."""
    words = list(dict.fromkeys(word for member in members for word in name_member(member)))
    *others, last = words
    return f"{', '.join(others)}{',' * (last == 'null')} or {last}" if others else last


def name_member(annotation: Any) -> list[str]:
    """The alternatives that it stands for."""
    base, notes = peel(annotation)
    if base in NUMBERS:
        return [NAMES[base] + describe_range(notes)]
    if base in NAMES:
        return [NAMES[base] + describe_length(notes, " characters")]
    if get_origin(base) is Literal:
        return [write_value(value) for value in get_args(base)]
    origin, args = get_origin(base) or base, get_args(base)
    if origin in (Mapping, dict):
        return ["{NAME: VALUE, ...}"]
    if origin is tuple and args and Ellipsis not in args:
        return [f"a list of {len(args)}: {', '.join(describe(list_members(arg)) for arg in args)}"]
    head = f"a list{describe_length(notes)}"
    return [f"{head}, each of it {describe(list_members(args[0]))}" if args and not allows_all(args[0]) else head]


def find_range(notes: Sequence[Any]) -> dict[str, Any]:
    """The bounds among what is annotated: `ge`, `gt`, `le`, `lt`."""
    names = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt"}
    return {names[type(note)]: getattr(note, names[type(note)]) for note in notes if type(note) in names}


def describe_range(notes: Sequence[Any]) -> str:
    """As the end of `a number`."""
    at, words = find_range(notes), []
    if {"ge", "le"} <= at.keys():
        return f" from {at['ge']} to {at['le']}"
    words += [f"from {at['ge']} on"] if "ge" in at else [f"above {at['gt']}"] if "gt" in at else []
    words += [f"at most {at['le']}"] if "le" in at else [f"below {at['lt']}"] if "lt" in at else []
    return " " * bool(words) + ", ".join(words)


def describe_length(notes: Sequence[Any], unit: str = "") -> str:
    """As the end of `a list` or `a text`."""
    bounds = [bound for note in notes for bound in (note if isinstance(note, GroupedMetadata) else [note])]
    least = max((bound.min_length for bound in bounds if isinstance(bound, MinLen)), default=0)
    most = [bound.max_length for bound in bounds if isinstance(bound, MaxLen)]
    if least and most:
        return f" of {least} to {min(most)}{unit}"
    return f" of at least {least}" if least else f" of at most {min(most)}{unit}" if most else ""


def find_nearest(members: Sequence[Any], value: Any) -> str | None:
    """The allowed value that was most likely meant, as it is typed; None where there is none."""
    for member in members:
        found = guess(*peel(member), value)
        if found is not None and find_error(member, found) is None:
            return write_value(found)
    return None


def guess(base: Any, notes: Sequence[Any], value: Any) -> Any:
    """A value of a type that is near to another one; it need not be allowed. None where there is none."""
    word, is_scalar = str(value).lower(), isinstance(value, int | float | str | Path)
    if base in NUMBERS:
        return guess_number(base, find_range(notes), value)
    if base is bool:
        return WORDS.get(word)
    if get_origin(base) is Literal:
        near = get_close_matches(word, map(str, get_args(base)), 1, 0.4)
        return near[0] if near else None
    if base in (str, Path):
        return str(value) if is_scalar and not isinstance(value, bool) else None
    return [value] if is_scalar and (get_origin(base) or base) in LISTS else None


def guess_number(base: type, at: Mapping[str, Any], value: Any) -> float | None:
    """The number within bounds that is nearest to a value; an open bound of a real number has none."""
    try:
        number = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        return None
    if isinstance(value, bool) or number != number:
        return None
    step = 1 if base is int else 0
    low = at.get("ge", at["gt"] + step if "gt" in at else -inf)
    high = at.get("le", at["lt"] - step if "lt" in at else inf)
    near = min(max(number, low), high)
    return near if base is float or abs(near) == inf else round(near)


def write_value(value: Any) -> str:
    """As it is typed in yaml and on a command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {write_value(part)}" for key, part in value.items()) + "}"
    return repr(value) if not isinstance(value, Path) else repr(str(value))
