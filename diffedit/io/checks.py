"""Checks of settings: types and ranges by pydantic, names of before, values that are not finite."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial, wraps
from inspect import get_annotations
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, dataclass_transform, get_type_hints

from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from diffedit.io.annotations import Fault, describe, find_nearest, is_plain, list_members, tighten

T = TypeVar("T")

Count = Annotated[int, Ge(1)]
Ratio = Annotated[float, Gt(0), Le(1)]
Seed = Annotated[int, Ge(0), Le(2**63 - 1)]
"""What torch's generators, numpy's, and the columns of tables take alike."""


@dataclass_transform(frozen_default=True)
def settings(cls: type[T] | None = None, /, *, kw_only: bool = False) -> Any:
    """A frozen dataclass whose fields are checked against their annotations when it is made.

    Ranges are written as `Annotated[float, Gt(0), Le(1)]`, choices as `Literal[...]`; what depends on several fields is
    checked in `__post_init__`. A list may be given for a tuple, as yaml has no tuples; numbers are finite, and no texts
    or truth values.

    Raises:
        ValueError: at construction; the message names class, field, value, and what is allowed.
    """
    if cls is None:
        return partial(settings, kw_only=kw_only)
    config, own = ConfigDict(arbitrary_types_allowed=True, extra="forbid"), get_annotations(cls)
    cls.__annotations__ = {name: tighten(annotation) for name, annotation in own.items()}
    checked = dataclass(frozen=True, kw_only=kw_only, config=config)(cls)
    checked.__annotations__ = own  # as they are written, for who reads them
    construct = checked.__init__

    @wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            construct(self, *args, **kwargs)
        except ValidationError as error:
            names = [field.name for field in fields(checked) if field.init]
            hints = get_type_hints(checked, include_extras=True)
            lines = dict.fromkeys(describe_fault(cls.__name__, names, hints, fault) for fault in error.errors())
            raise ValueError("; ".join(lines)) from None

    checked.__init__ = __init__
    return checked


def describe_fault(name: str, names: Sequence[str], hints: Mapping[str, Any], fault: Mapping[str, Any]) -> str:
    """One fault that pydantic found, in a line; what `__post_init__` raised says it all by itself."""
    if not fault["loc"]:
        return str(fault.get("ctx", {}).get("error", fault["msg"]))
    field = fault["loc"][0]
    if fault["type"] in ("unexpected_keyword_argument", "unexpected_positional_argument"):
        return f"{name}: there is no setting {field}; there are {', '.join(names)}"
    field = names[field] if isinstance(field, int) else field  # given by its place
    plain = [member for member in list_members(hints[field]) if is_plain(member)]
    is_union = len([member for member in plain if member is not NoneType]) > 1
    if plain and len(fault["loc"]) == 1 + is_union and fault["type"] != "value_error":
        allowed, value = f"it should be {describe(plain)}", fault["input"]
        return f"{name}: {Fault(field, value, allowed, find_nearest(plain, value)).describe()}"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f"{name}: {field} = {fault['input']!r}: {message}"


def check_literal(key: str, value: Any, known: Sequence[Any]) -> None:
    """Refuse a value that is none of those known."""
    if value not in known:
        raise ValueError(f"{key} = {value!r} is none of {', '.join(map(str, known))}")


def check_finite(x: T, what: str) -> T:
    """The tensor itself; a FloatingPointError that says `what` it is where it holds a NaN or an infinity."""
    import torch  # here: settings are checked by commands that have no use for it

    if not torch.isfinite(x).all():
        raise FloatingPointError(f"{what} is not finite (NaN or infinity): try a wider dtype")
    return x


FILES = "networks=stilllife (and diffedit run benchmark.domain=stilllife)"
# Settings and groups that have another name now, by command: refused with the new one, for one release; finished runs
# are read by the same table.
RENAMED = {
    "run": {
        "editor.inversion_label": "editor.inversion.timestep",
        "editor.inversion_timestep": "editor.inversion.timestep",
        "editor.mask.noises": "editor.mask.num_noises",
        "editor.mask.strength": "editor.mask.noise_strength",
        "editor.mask.extremes": "editor.mask.outliers",
        "editor/mask/extremes": "editor/mask/outliers",
        "editor.mask.smooth": "editor.mask.blur",
        "editor.mask.cover": "editor.mask.downsample",
        "engine.window": "engine.max_live",
        "engine.texts": "engine.embedding_cache",
        "engine.batch.call": "engine.batch.custom",
        "backbone.spacing": "backbone.timestep_spacing",
        "benchmark.sampler": "benchmark.text_to_image",
        "benchmark.draw_missing": "benchmark.generate_missing",
    },
    "score": {"run": "runs", "show": "columns", "side": "resolution", "networks=stilllife_files": FILES},
    "plot": {"run": "runs", "at": "match_at", "ours": "method"},
    "reference_stats": {"side": "resolution", "networks=stilllife_files": FILES},
    "train_stilllife": {"part": "training"},
}
for network in ("clip", "cmmd"):
    RENAMED["score"][f"networks.{network}.knows"] = f"networks.{network}.domain"
RENAMED["edit"] = RENAMED["check_benchmark"] = RENAMED["run"]


def refuse_renamed(command: str, overrides: Sequence[str]) -> None:
    """Refuse overrides that use a name of before: a ValueError with the new one."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        for old, new in RENAMED.get(command, {}).items():
            if old in (key, override) or key.startswith(f"{old}."):
                name = override if override == old else key
                raise ValueError(f"{name} is called {new}{name.removeprefix(old)} now")


def refuse_adapter(folder: Path) -> None:
    """Refuse a model's folder with an adapter's config: transformers would load another, from wherever that says."""
    path = folder / "adapter_config.json"
    if path.exists():
        raise ValueError(
            f"{path}: an adapter, whose model would be loaded from elsewhere: fuse it into the weights and save those, "
            "or load it into a pipeline, which `StableDiffusion.from_pipeline` takes"
        )
