"""What the config of a run directory may name: it is data, and may come from somebody else.

A config that the user composes may name any class. One that is read back from a run may name, at each place, those that
this project's own yaml names there, and those that this command or program registered itself: `--include DIR`, or
`trust(MyBenchmark)`. `diffedit.io.data` reads such a config and makes its benchmark.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from diffedit.io.files import find_shipped

Named = tuple[str, str]
"""A place below a benchmark, keys joined by dots, and the class that may stand there."""

BACKBONE = "${backbone}"  # as a class: any backbone may stand there; as a place: a class is a backbone
ANYWHERE = "*"
REGISTERED: set[Named] = set()


class UntrustedError(ValueError):
    """Data names something that would run, and that nobody here asked for."""


def trust(kind: type | str) -> None:
    """Let run directories name this class, given itself or by its dotted name."""
    REGISTERED.add((ANYWHERE, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"))


def trust_folder(conf: Path) -> None:
    """Let run directories name the benchmarks and backbones of a folder of yaml, each where it stands there."""
    REGISTERED.update(list_folder(conf))


def trust_config(node: Any) -> None:
    """Let run directories name the classes of a benchmark's config that this program made or composed itself."""
    REGISTERED.update(list_named(node))


@lru_cache
def list_shipped() -> frozenset[Named]:
    """What this project's own benchmarks are made of."""
    return frozenset(list_folder(find_shipped("conf")))


def list_folder(conf: Path) -> Iterator[Named]:
    """Every class in the yaml of benchmarks, with its place, and the backbones."""
    for path, node in iterate_yaml(conf / "benchmark"):
        yield from list_named(node, ".".join(path.relative_to(conf / "benchmark").parent.parts))
    for _, node in iterate_yaml(conf / "backbone"):
        yield from ((BACKBONE, target) for _, target in list_named(node))


def iterate_yaml(folder: Path) -> Iterator[tuple[Path, Any]]:
    """(file, what it holds); one that cannot be parsed names nothing, and is told of where it is chosen."""
    import yaml  # here: every command imports this module

    for path in sorted(folder.rglob("*.yaml")):
        try:
            yield path, yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue


def list_named(node: Any, place: str = "") -> Iterator[Named]:
    """Every class of a config with its place; items of a list stand where the list does."""
    if isinstance(node, Mapping):
        if isinstance(target := node.get("_target_"), str):
            yield place, target
        for key, value in node.items():
            yield from list_named(value, join(place, key))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from list_named(value, place)
    elif node == BACKBONE:
        yield place, BACKBONE


def join(place: str, key: Any) -> str:
    """The place of a key."""
    return f"{place}.{key}".lstrip(".")


def is_trusted(place: str, target: Any) -> bool:
    """Whether a class may be named at a place."""
    known = list_shipped() | REGISTERED
    if not isinstance(target, str):
        return False
    if (place, target) in known or (ANYWHERE, target) in known:
        return True
    return (place, BACKBONE) in known and (BACKBONE, target) in known


def is_known(target: Any) -> bool:
    """Whether a class may be named anywhere."""
    return any(target == name for _, name in list_shipped() | REGISTERED)


def is_backbone(place: str, target: Any) -> bool:
    """Whether a model stands there: it is made for an edit alone."""
    known = list_shipped() | REGISTERED
    names = target, f"{target}.from_pretrained"  # a class may stand for what loads it, as in a run of Python
    return (place, BACKBONE) in known or any((BACKBONE, name) in known for name in names)
