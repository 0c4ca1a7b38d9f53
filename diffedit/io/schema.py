"""A whole config checked before anything is made of it: each key is one that something reads, each value is allowed.

What is allowed is said where a value is used: by the annotations of the class or function that a `_target_` names, and,
at the top of a command's config, by those of a dataclass. Faults are told by the key as it is typed on a command line.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from inspect import Parameter as Argument
from inspect import isclass, signature
from pydoc import ErrorDuringImport, locate
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffedit.io.annotations import (
    Fault,
    allows_all,
    find_faults,
    is_made,
    is_plain,
    list_members,
    peel,
    write_value,
)

OF_HYDRA = ("_target_", "_recursive_", "_convert_", "_partial_", "_args_")
# What other tools call a setting, and what it is here.
ELSEWHERE = {
    "num_inference_steps": ["steps"],
    "ddim_steps": ["steps"],
    "guidance_scale": ["editor.guidance"],
    "cfg_scale": ["editor.guidance"],
    "negative_prompt": ["editor.negative=given editor.negative_text"],
    "batch_size": ["engine.batch.predict"],
    "encode_ratio": ["ratios"],
    "strength": ["ratios"],
    "num_samples": ["samples"],
}
TEXT_GIVEN = "and ${oc.env:...} gives texts: ${oc.decode:${oc.env:...}}"
NOTHING = object()  # no default, no value


class ConfigError(ValueError):
    """Settings that are not allowed, or that nothing reads."""


class Made:
    """As an annotation: what yaml makes by a `_target_`, of whatever class."""


class Setting(NamedTuple):
    """What is known of a setting.

    Attributes:
        annotation: of its values.
        default: where the key is left out; NOTHING where it must not be.
    """

    annotation: Any = Any
    default: Any = NOTHING


class Unknown(NamedTuple):
    """A key that nothing reads, and those beside it that something does."""

    key: str
    known: Sequence[str]

    def describe(self, cfg: DictConfig) -> str:
        """With the nearest: one beside it, else one elsewhere in the config."""
        above, _, name = self.key.rpartition(".")
        others = {} if above else OmegaConf.to_container(cfg, resolve=False)
        deeper = list_keys({key: value for key, value in others.items() if key != name})
        near = [deeper[name]] if name in deeper else []
        near = near or [each for each in ELSEWHERE.get(name, ()) if above or each.partition(".")[0] in cfg]
        near = near or [join(above, each) for each in get_close_matches(name, self.known, 1, 0.6)]
        near = near or [deeper[each] for each in get_close_matches(name, deeper, 1, 0.7)]
        question = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.known) or 'none'}"
        return f"{self.key}: there is no such setting; {question}"


class Lacking(NamedTuple):
    """A key without which a class cannot be made."""

    key: str

    def describe(self) -> str:
        """With what to do."""
        return f"{self.key}: it has no default; say {self.key}=..."


Wrong = Fault | Unknown | Lacking


class Place(NamedTuple):
    """A part of a config that a class is made of, and its key."""

    node: DictConfig
    key: str


def check_config(
    cfg: DictConfig,
    schema: type,
    *,
    is_whole: bool = True,
    defaults: Callable[[str], Any] = lambda key: NOTHING,
    spelled: Mapping[str, str] | None = None,
) -> None:
    """Refuse a config with a key that nothing reads, a value that is not allowed, or a class that lacks one.

    The command's own settings are looked at first: to look at the rest imports the classes.

    Args:
        cfg: as it is composed.
        schema: a dataclass of the command's own settings.
        is_whole: whether the classes of the config are looked at, too.
        defaults: what a key of the command's own is by default.
        spelled: how the user wrote keys that came by other ways.

    Raises:
        ConfigError: a sentence for each key at fault.
    """
    places: list[Place] = []
    own = check_keys(Place(cfg, ""), read_fields(schema), False, places)
    refuse([offer(wrong, defaults) for wrong in own], cfg, spelled or {})
    found: list[Wrong] = []
    while is_whole and places:
        found += check_made(places.pop(0), places)
    refuse(found, cfg, spelled or {})


def offer(wrong: Wrong, defaults: Callable[[str], Any]) -> Wrong:
    """The same with the default value of its key, where no value is near to what was given."""
    if not isinstance(wrong, Fault) or wrong.nearest is not None:
        return wrong
    value = NOTHING if "[" in wrong.key else defaults(wrong.key)
    return wrong if value is NOTHING or isinstance(value, Mapping) else wrong._replace(default=write_value(value))


def refuse(found: Iterable[Wrong], cfg: DictConfig, spelled: Mapping[str, str]) -> None:
    """A ConfigError where something is wrong."""
    found = [wrong._replace(key=spell(wrong.key, spelled)) for wrong in found]
    told = [wrong.describe(cfg) if isinstance(wrong, Unknown) else wrong.describe() for wrong in found]
    if told:
        raise ConfigError("; ".join(dict.fromkeys(told)))


def check_made(place: Place, places: list[Place]) -> Iterator[Wrong]:
    """What is wrong with the settings of a class; one that cannot be found is told of when it is to be made."""
    target = find_target(place.node)
    if target is None:
        return
    settings, is_open = read_arguments(target)
    yield from check_keys(place, settings, is_open, places)
    if {"_args_", "_partial_"} & set(place.node):
        return
    for name, (_, default) in settings.items():
        if default is NOTHING and name not in place.node:
            yield Lacking(join(place.key, name))


def find_target(node: DictConfig) -> Any:
    """What a node is made by; None where that cannot be said."""
    try:
        name = node.get("_target_")
        target = locate(name) if isinstance(name, str) else None
    except ErrorDuringImport as error:
        if not isinstance(error.value, Exception):  # a signal that came while it was imported
            raise error.value from None
        return None
    except OmegaConfBaseException:
        return None
    return target if callable(target) and isinstance(target, Hashable) else None


def check_keys(place: Place, settings: Mapping[str, Setting], is_open: bool, places: list[Place]) -> Iterator[Wrong]:
    """What is wrong with the keys of a node and their values; the classes below it are added to `places`."""
    for name in place.node:
        key = join(place.key, name)
        if name in settings:
            yield from check_value(Place(place.node, key), name, settings[name], places)
        elif name not in OF_HYDRA and not is_open and not is_read(place, name):
            yield Unknown(key, list(settings))


def check_value(place: Place, name: Any, setting: Setting, places: list[Place]) -> Iterator[Wrong]:
    """What is wrong with a value, a part of the node of `place`."""
    value = read(place.node, name, setting.annotation)
    if value is NOTHING:
        return
    if isinstance(value, DictConfig) and ("_target_" in value or not is_plain_mapping(setting.annotation)):
        yield from check_node(Place(value, place.key), setting, places)
        return
    if isinstance(value, DictConfig | ListConfig) and holds_classes(value):
        item = Setting(find_item(setting.annotation))
        for i in range(len(value)) if isinstance(value, ListConfig) else list(value):
            key = f"{place.key}[{i}]" if isinstance(value, ListConfig) else join(place.key, i)
            yield from check_value(Place(value, key), i, item, places)
        return
    plain = unfold(value)
    if plain is NOTHING or (plain == setting.default and type(plain) is type(setting.default)):
        return
    default = write_value(setting.default) if isinstance(setting.default, int | float | str | tuple) else None
    is_given = isinstance(plain, str) and isinstance(name, str) and OmegaConf.is_interpolation(place.node, name)
    for fault in find_faults(setting.annotation, plain, place.key):
        if is_given:
            fault = fault._replace(allowed=f"{fault.allowed}, {TEXT_GIVEN}")
        yield fault._replace(default=default) if fault.key == place.key else fault


def check_node(place: Place, setting: Setting, places: list[Place]) -> Iterator[Wrong]:
    """What is wrong with a mapping that stands for an object, or where none is wanted."""
    if "_target_" in place.node:
        places.append(place)
        return
    kinds = [peel(member)[0] for member in list_members(setting.annotation)]
    with_fields = [kind for kind in kinds if isclass(kind) and is_dataclass(kind)]
    if with_fields:
        yield from check_keys(place, read_fields(with_fields[0]), False, places)
    elif allows_all(setting.annotation):
        for name in place.node:
            yield from check_value(Place(place.node, join(place.key, name)), name, Setting(), places)
    elif any(map(is_made, kinds)):
        yield Fault(place.key, OmegaConf.to_container(place.node), "it has no _target_, the class that it is made of")
    elif (value := unfold(place.node)) is not NOTHING:
        yield from find_faults(setting.annotation, value, place.key)


def read(node: DictConfig | ListConfig, name: Any, annotation: Any) -> Any:
    """A value; NOTHING where it is given later, or cannot be told yet.

    What refers to another node is looked at there. What anything may be is not resolved, for that may take its time.
    """
    try:
        if OmegaConf.is_missing(node, name):
            return NOTHING
        if not OmegaConf.is_interpolation(node, name):
            return node[name]
        is_looked_at = any(map(is_plain, list_members(annotation))) and not allows_all(annotation)
        value = node[name] if is_looked_at else NOTHING
    except OmegaConfBaseException:
        return NOTHING
    return NOTHING if isinstance(value, DictConfig | ListConfig) else value


def unfold(value: Any) -> Any:
    """The same as plain containers; NOTHING where something in it cannot be told yet."""
    if not isinstance(value, DictConfig | ListConfig):
        return value
    try:
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException:
        return NOTHING


def holds_classes(value: Any) -> bool:
    """Whether an object is made of some part of it."""
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value, resolve=False)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return (isinstance(value, Mapping) and "_target_" in value) or any(map(holds_classes, parts))


def is_plain_mapping(annotation: Any) -> bool:
    """Whether mappings are among its values."""
    return any((get_origin(kind) or kind) in (dict, Mapping) for kind in map(get_base, list_members(annotation)))


def get_base(annotation: Any) -> Any:
    """Without what is annotated."""
    return peel(annotation)[0]


def find_item(annotation: Any) -> Any:
    """Of the parts of a list or mapping."""
    bases = [base for base in map(get_base, list_members(annotation)) if is_plain(base) and get_args(base)]
    items = [get_args(base)[1 if get_origin(base) in (dict, Mapping) else 0] for base in bases]
    return items[0] if items else Any


@lru_cache(512)
def read_fields(kind: type) -> dict[str, Setting]:
    """The fields of a dataclass that are given when it is made."""
    hints = find_hints(kind)
    return {
        field.name: Setting(hints.get(field.name, Any), find_default(field)) for field in fields(kind) if field.init
    }


def find_default(field: "Field[Any]") -> Any:
    """Of a dataclass's field."""
    if field.default is not MISSING:
        return field.default
    return NOTHING if field.default_factory is MISSING else field.default_factory()


@lru_cache(512)
def read_arguments(target: Callable[..., Any]) -> tuple[dict[str, Setting], bool]:
    """(the arguments of what is called, whether it takes others)."""
    try:
        arguments = signature(target).parameters.values()
    except (TypeError, ValueError):
        return {}, True
    hints = find_hints(target if is_dataclass(target) or not isclass(target) else target.__init__)
    named = [each for each in arguments if each.kind in (Argument.POSITIONAL_OR_KEYWORD, Argument.KEYWORD_ONLY)]
    settings = {
        each.name: Setting(hints.get(each.name, Any), NOTHING if each.default is Argument.empty else each.default)
        for each in named
    }
    return settings, any(each.kind is Argument.VAR_KEYWORD for each in arguments)


def find_hints(target: Any) -> dict[str, Any]:
    """Annotations; none where they name what cannot be found, as is allowed to those of others."""
    try:
        return get_type_hints(target, include_extras=True)
    except (NameError, AttributeError, TypeError):
        return {}


def is_read(place: Place, name: Any) -> bool:
    """Whether some other value refers to a key that nothing else reads: `${name}`."""
    if place.key or name == "hydra":
        return name == "hydra"
    return re.search(rf"\$\{{{re.escape(str(name))}[.}}\[]", OmegaConf.to_yaml(place.node)) is not None


def list_keys(node: Mapping[Any, Any]) -> dict[str, str]:
    """Whole keys of what is below the top by their last parts; of several, one with the fewest parts."""
    found: dict[str, str] = {}
    level: list[tuple[str, Mapping[Any, Any]]] = [("", node)]
    while level:
        pairs = [
            (join(key, name), value)
            for key, inner in level
            for name, value in inner.items()
            if name not in (*OF_HYDRA, "hydra")
        ]
        for key, _ in pairs:
            found.setdefault(key.rpartition(".")[2], key)
        level = [(key, value) for key, value in pairs if isinstance(value, Mapping)]
    return found


def spell(key: str, spelled: Mapping[str, str]) -> str:
    """A key as the user wrote it."""
    name = key.partition("[")[0]
    return spelled.get(name, name) + key.removeprefix(name)


def join(key: str, name: Any) -> str:
    """The whole key of a part."""
    return f"{key}.{name}" if key else str(name)
