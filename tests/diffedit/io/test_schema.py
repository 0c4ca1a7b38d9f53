"""What a config may be is said by annotations: of a command's own settings, and of the classes that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le
from omegaconf import OmegaConf

from diffedit.io.annotations import find_faults
from diffedit.io.schema import ConfigError, Made, check_config


class Own:
    """A class of a user's."""

    def __init__(self, size: int, table: dict, share: float = 0.5, scale=1, path: str = None):  # noqa: RUF013
        pass


class Open(Own):
    def __init__(self, size: int, **rest):
        pass


@dataclass
class Schema:
    made: Made
    steps: Annotated[int, Ge(1)] = 1
    names: Mapping[str, str] | None = None
    parts: Mapping[str, Made] | None = None
    note: Any = None


OWN = {"_target_": f"{__name__}.Own", "size": 3, "table": {"a": 1}}


def complaint(**config):
    try:
        check_config(OmegaConf.create({"made": OWN, **config}), Schema)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"made": {**OWN, "size": "${steps}"}, "steps": 4},
        {"made": {**OWN, "table": {"any": {"thing": [1, "a", None]}}}},
        {"made": {**OWN, "share": 1}},  # an int is a float
        {"made": {**OWN, "scale": "nothing is said of it"}},
        {"made": {**OWN, "path": None}},  # as by default, whatever the annotation says
        {"made": {**OWN, "_recursive_": False, "_convert_": "all"}},
        {"made": {"_target_": OWN["_target_"], "_partial_": True}},
        {"made": {"_target_": f"{__name__}.Open", "size": 1, "whatever": 2}},
        {"made": {"_target_": "no.such.Thing", "whatever": 2}},  # told of when it is to be made
        {"names": {"free": "form"}},
        {"names": None},
        {"parts": {"a": OWN, "b": "${.a}", "c": "${made}"}},
        {"note": "${unknown_resolver:1}"},
        {"more": 3, "made": {**OWN, "size": "${more}"}},  # some value reads it
    ],
)
def test_it_is_taken(config):
    assert complaint(**config) is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"steps": 0}, "steps = 0: it should be a whole number from 1 on; the nearest is 1"),
        ({"steps": 0, "names": {"a": 1}}, "names.a = 1: it should be a text; the nearest is '1'"),
        ({"made": 3}, "made = 3: it has settings of its own, such as made.NAME=VALUE"),
        ({"made": {"size": 3}}, "made = {size: 3}: it has no _target_, the class that it is made of"),
        ({"made": {**OWN, "size": "${steps}.5"}}, "made.size = '1.5': it should be a whole number"),
        ({"made": {**OWN, "size": "???"}}, "made.size: it has no default; say made.size=..."),
        ({"made": {"_target_": OWN["_target_"], "size": 1}}, "made.table: it has no default; say made.table=..."),
        ({"made": {**OWN, "sizes": 3}}, "made.sizes: there is no such setting; did you mean made.size?"),
        ({"made": {**OWN, "share": True}}, "made.share = true: it should be a finite number; its default is 0.5"),
        ({"made": {**OWN, "table": 3}}, "made.table = 3: it should be {NAME: VALUE, ...}"),
        ({"parts": {"a": {**OWN, "size": 1.5}}}, "parts.a.size = 1.5: "),
        ({"made": {**OWN, "scale": [{**OWN, "size": None}]}}, "made.scale[0].size = null: "),
        ({"shared": 1}, "shared: there is no such setting; did you mean made.share?"),
    ],
)
def test_it_is_refused_by_its_name(config, said):
    if "shared" in config:
        config["made"] = {**OWN, "share": 0.1}
    if "${steps}" in str(config):
        config["steps"] = 1
    assert (told := complaint(**config)) is not None
    assert said in told


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (int, "3", "a whole number; the nearest is 3"),
        (int, 2.5, "a whole number; the nearest is 2"),
        (int | None, "a", "a whole number, or null"),
        (float, float("nan"), "a finite number"),
        (Annotated[float, Gt(0), Le(1)], 2, "a finite number above 0, at most 1; the nearest is 1"),
        (Annotated[float, Gt(0)], 0, "a finite number above 0"),
        (bool, "yes", "true or false; the nearest is true"),
        (str, 3, "a text; the nearest is '3'"),
        (Literal["half", "range"], "hlf", "'half' or 'range'; the nearest is 'half'"),
        (tuple[int, int], [1], "a list of 2: a whole number, a whole number"),
        (tuple[str, ...], "a", "a list, each of it a text; the nearest is ['a']"),
    ],
)
def test_what_is_allowed_is_said_in_words(annotation, value, said):
    (fault,) = find_faults(annotation, value, "key")
    assert fault.describe().endswith(f"it should be {said}")
