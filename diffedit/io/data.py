"""The config of a run directory as data: read without waiting, resolving or unfolding, and its benchmark made of it.

Every class stands where `diffedit.io.trust` allows it. A model is never made: it stays data, whatever holds it.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object
from omegaconf import OmegaConf

from diffedit.io.files import read_regular
from diffedit.io.trust import UntrustedError, is_backbone, is_known, is_trusted, join

LARGEST = 2**20  # bytes of a config
DEEPEST = 50  # level of a config
WORDS = ("_args_", "_partial_")  # that would make something else of a class than its settings say


class DamagedError(ValueError):
    """A file is no yaml of plain values."""


def read_data(path: Path) -> Any:
    """A yaml file as plain containers, nothing in it resolved.

    Raises:
        OSError: no regular file, or one that is too large.
        DamagedError: no yaml of plain values; anchors and aliases are none, since a few of them hold any number.
    """
    data = read_regular(path, LARGEST)
    try:
        text = data.decode("utf-8")
        check_yaml(text)
        return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except Exception as error:  # of the parser, and of what makes containers of what it found
        raise DamagedError(f"{path}: {(str(error) or repr(error)).splitlines()[0]}") from error


def check_yaml(text: str) -> None:
    """Refuse, by a ValueError, what no config of a run is, and what ten lines of it may keep a reader busy with."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if anchor := getattr(event, "anchor", None):
            raise ValueError(f"an anchor or alias, {anchor!r}, in line {event.start_mark.line + 1}")
        if depth > DEEPEST:
            raise ValueError("values too deep in each other")


def check_data(node: Any, where: str, place: str = "") -> None:
    """Refuse a config of a benchmark that names what is not trusted there, however deep, or that has to be resolved.

    Args:
        node: plain containers.
        where: the file, for the error.
        place: of the node, below the benchmark.

    Raises:
        UntrustedError: it does; the message names it, and how to trust it.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_" and not is_trusted(place, value):
                why = "does not belong there" if is_known(value) else "is not of this project"
                raise UntrustedError(
                    f"{where} names {value!r} at benchmark{'.' * bool(place)}{place}, which {why}: nothing of it was "
                    "run. If it is yours, say so: --include FOLDER (its yaml in FOLDER/conf/benchmark), or "
                    "diffedit.io.trust.trust(CLASS)"
                )
            if key in WORDS:
                raise UntrustedError(f"{where} holds {join(place, key)}: a benchmark is made of its settings alone")
            check_data(value, where, join(place, key))
    elif isinstance(node, list | tuple):
        for value in node:
            check_data(value, where, place)
    elif isinstance(node, str) and "${" in node:
        raise UntrustedError(f"{where} holds {node!r}: a finished config has nothing left to resolve")


def make_of_data(node: Any, where: str) -> Any:
    """The benchmark of a config that came as data; models in it stay data.

    Args:
        node: plain containers.
        where: the file, for errors.

    Raises:
        UntrustedError: as of `check_data`, before anything is made.
        ValueError: it has settings that its classes do not take.
    """
    check_data(node, where)
    try:
        return make(node, "")
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise ValueError(f"{where}: its benchmark cannot be made: {error}") from error


def make(node: Any, place: str) -> Any:
    """What a checked config describes."""
    if isinstance(node, list | tuple):
        return [make(value, place) for value in node]
    if not isinstance(node, Mapping) or is_backbone(place, node.get("_target_")):
        return node
    keys = [key for key in node if key not in ("_target_", "_recursive_", "_convert_")]
    whole = node.get("_recursive_", True)
    values = {key: make(node[key], join(place, key)) if whole else node[key] for key in keys}
    return get_object(node["_target_"])(**values) if "_target_" in node else values
