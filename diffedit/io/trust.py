"""What the config of a run directory may name: it is data, and may come from somebody else.

A config that the user composes may name any class. One that is read back from a run may name those that this project's
own yaml names, and those that this command or program registered itself: `--include DIR`, or `trust(MyBenchmark)`.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from diffedit.io.files import find_shipped

GROUPS = ("benchmark", "backbone")  # whose classes make pictures again
TARGET = re.compile(r"\b_target_:\s*([\w.]+)")
REGISTERED: set[str] = set()


class UntrustedError(ValueError):
    """Data names something that would run, and that nobody here asked for."""


def trust(kind: type | str) -> None:
    """Let run directories name this class, given itself or by its dotted name."""
    REGISTERED.add(kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}")


def trust_folder(conf: Path) -> None:
    """Let run directories name the benchmarks and backbones of a folder of yaml."""
    REGISTERED.update(list_targets(conf))


def trust_config(node: Any) -> None:
    """Let run directories name the classes of a config that this program made or composed itself."""
    if isinstance(node, Mapping):
        REGISTERED.update(value for key, value in node.items() if key == "_target_")
        node = list(node.values())
    for value in node if isinstance(node, list | tuple) else ():
        trust_config(value)


@lru_cache
def list_shipped() -> frozenset[str]:
    """The classes that this project's own benchmarks and backbones are made of."""
    return frozenset(list_targets(find_shipped("conf")))


def list_targets(conf: Path) -> Iterator[str]:
    """Every `_target_` in the yaml of some groups."""
    for group in GROUPS:
        for path in sorted((conf / group).rglob("*.yaml")):
            yield from TARGET.findall(path.read_text(encoding="utf-8"))


def check_data(node: Any, where: str) -> None:
    """Refuse a config that names what is not trusted, however deep, or that holds anything to be resolved.

    Args:
        node: plain containers.
        where: the file, for the error.

    Raises:
        UntrustedError: it does; the message names it, and how to trust it.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_" and str(value) not in list_shipped() | REGISTERED:
                raise UntrustedError(
                    f"{where} names {value!r}, which is not of this project: nothing of it was run. If it is yours, "
                    "say so: --include FOLDER (its yaml in FOLDER/conf/benchmark), or diffedit.io.trust.trust(CLASS)"
                )
            check_data(value, where)
    elif isinstance(node, list | tuple):
        for value in node:
            check_data(value, where)
    elif isinstance(node, str) and "${" in node:
        raise UntrustedError(f"{where} holds {node!r}: a finished config has nothing left to resolve")
