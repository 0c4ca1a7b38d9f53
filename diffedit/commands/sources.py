"""Where methods, metrics, data and networks come from: sources.yaml and references.bib, which lie beside this file."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast, where there is one


def read_yaml(path: Path) -> Any:
    """A yaml file in plain containers, without the interpolations of OmegaConf resolved."""
    return yaml.load(path.read_text(encoding="utf-8"), LOADER) or {}


@lru_cache
def read_sources() -> Mapping[str, Any]:
    """`works` by `_target_`, `settings` and `weights` by the values that they hold for."""
    return read_yaml(FOLDER / "sources.yaml")


@lru_cache
def read_references() -> Mapping[str, str]:
    """The entries of references.bib by their keys, each as it is written there."""
    text = (FOLDER / "references.bib").read_text(encoding="utf-8")
    return {match["key"]: match[0] for match in re.finditer(r"^@\w+\{(?P<key>\S+),\n.*?^\}", text, re.M | re.S)}


def find_parts(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a config, the outer ones first."""
    if isinstance(config, Mapping):
        yield config
    values = config.values() if isinstance(config, Mapping) else config if isinstance(config, list) else ()
    for value in values:
        yield from find_parts(value)


def find_weights(config: Any) -> list[Mapping[str, Any]]:
    """The entries of `weights` whose networks a config loads, each once."""
    parts = list(find_parts(config))
    return [entry for entry in read_sources()["weights"] if any(holds(entry["when"], part) for part in parts)]


def holds(when: Mapping[str, str], part: Mapping[str, Any]) -> bool:
    """Whether a part of a config has all these values; one that ends in * is a beginning."""
    return all(
        str(part.get(key)).startswith(value[:-1]) if value.endswith("*") else part.get(key) == value
        for key, value in when.items()
    )
