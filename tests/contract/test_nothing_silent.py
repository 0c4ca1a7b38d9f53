"""Contract: a command that cannot be meant so is refused in a moment, in words that help, and makes nothing.

The cases are in said_when.py, of models, schedules and guidance in model_cases.py, and of pictures in picture_cases.py,
a line each. Beside them, wrong
values of every setting of every yaml are generated from what the settings' own annotations say.
"""

import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from inspect import isclass
from math import inf, nan
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import model_cases
import picture_cases
import pytest
from annotated_types import Ge, Gt, Le, Lt
from helpers import CONF, ROOT, composed, names
from made_pictures import write_pictures
from omegaconf import DictConfig, OmegaConf, open_dict
from said_when import CASES

from diffedit.commands.launch import HINT
from diffedit.commands.schemas import SCHEMAS, Batch, Engine, Run, check_command
from diffedit.engine.sizes import AskedSizes
from diffedit.io.annotations import list_members, peel
from diffedit.io.schema import OF_HYDRA, ConfigError, Made, Setting, find_target, join, read_arguments, read_fields
from diffedit.runs.loop import RunSettings

ALL = [case for cases in CASES.values() for case in cases]
OF_MODELS = [case for cases in model_cases.CASES.values() for case in cases]
OF_PICTURES = [case for cases in picture_cases.CASES.values() for case in cases]


@pytest.mark.parametrize("case", ALL, ids=[case.words for case in ALL])
def test_what_is_said(case, door, tmp_path):
    if case.table:
        (tmp_path / case.words.partition("benchmark.path=")[2]).write_text(case.table)
    before = sorted(tmp_path.rglob("*"))
    code, told = door(*shlex.split(case.words))
    assert case.said in told
    assert code == case.code, told
    if code == 2:
        assert told.startswith(f"diffedit {case.words.split()[0]}: ")
        assert told.endswith(f"{HINT}\n")
        assert "Traceback" not in told
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("case", OF_MODELS, ids=[case.words for case in OF_MODELS])
def test_what_is_said_of_models(case, model_door, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, told = model_door(*shlex.split(case.words))
    assert told.count(case.said) == 1, told  # once a run, not once a request
    assert code == case.code, told
    if case.code == 2:
        assert told.endswith(f"{HINT}\n")
        assert "Traceback" not in told
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("case", OF_PICTURES, ids=[case.words for case in OF_PICTURES])
def test_what_is_said_of_pictures(case, model_door, tmp_path):
    write_pictures(tmp_path)
    test_what_is_said_of_models(case, model_door, tmp_path)


def test_a_folder_of_runs_that_was_there_stays(door, tmp_path):
    (tmp_path / "runs").mkdir()
    assert door("run", "benchmark=folder", "benchmark.path=none.csv")[0] == 2
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_sweep_over_wrong_values_leaves_nothing(door, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, told = door("run", "--multirun", "steps=0,-3", "runs=some/where")
    assert code == 2
    assert "steps = 0: it should be a whole number" in told
    assert "steps = -3: it should be a whole number" in told
    assert sorted(tmp_path.rglob("*")) == before


def test_no_case_is_there_twice():
    every = ALL + OF_MODELS + OF_PICTURES
    assert len({case.words for case in every}) == len(every)


# Of a key of the command itself, which needs no class; of a class; of a key that nothing reads; of a metric.
REAL = ["run steps=0", "run editor.guidance=nan", "run +negative_prompt=x", "score metric=[fid] metric.fid.size=0"]


@pytest.fixture(scope="module")
def torch_seconds():
    """CPU seconds of the import of torch, which is half of the limit where nothing else runs."""
    return measure("-c", "import torch")[1]


def measure(*words, **settings):
    """(process, CPU seconds) of a Python program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, **settings)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("words", REAL)
def test_a_real_command_is_refused_in_a_moment(words, torch_seconds, tmp_path):
    """In 5 CPU-seconds; on a slower machine, in as many times the import of torch as that is here."""
    done, seconds = measure("-m", "diffedit", *words.split(), cwd=tmp_path, timeout=200)
    (said,) = [case.said for case in ALL if case.words == words]
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert list(tmp_path.iterdir()) == []
    assert seconds < max(5, 3.5 * torch_seconds)


# -------------------------------------------------------------------------------------- wrong values of every setting

WRONG = {"word": "no such word", "digits": "3", "truth": True, "part": 1.5, "not a number": nan, "infinity": inf}
WRONG |= {"null": None, "huge": 10**26, "mapping": {"a": "b"}}
# What of these is right, by the type of a setting; ranges are looked at by themselves.
RIGHT = {int: {"huge"}, float: {"part", "huge"}, bool: {"truth"}, str: {"word", "digits"}, Path: {"word", "digits"}}
RIGHT |= {type(None): {"null"}, Literal: set(), Mapping: {"mapping"}, dict: {"mapping"}, Made: set()}
RIGHT |= {kind: set() for kind in (tuple, list, Sequence)}
LISTS = (tuple, list, Sequence)


def list_wrong(annotation):
    """Values that an annotation must refuse: of other types, and beyond its ranges; none where anything may be."""
    members = [peel(member) for member in list_members(annotation)]
    if any(base is Any for base, _ in members):
        return []
    kinds = [Made if isclass(base) and base not in RIGHT and get_origin(base) is None else base for base, _ in members]
    origins = [get_origin(kind) or kind for kind in kinds]
    if not set(origins) <= set(RIGHT):
        return []
    right = set().union(*(RIGHT[origin] for origin in origins))
    wrong = [value for name, value in WRONG.items() if name not in right]
    wrong += [value for _, notes in members for note in notes for value in list_beyond(note)]
    wrong += [[part] for origin, kind in zip(origins, kinds, strict=True) for part in list_wrong_parts(origin, kind)]
    return [value for value in wrong if not (Made in kinds and isinstance(value, dict))]  # that is told otherwise


def list_beyond(note):
    """The first value, or the nearest, beyond a bound."""
    bounds = {Ge: lambda: note.ge - 1, Gt: lambda: note.gt, Le: lambda: note.le + 1, Lt: lambda: note.lt}
    return [bounds[type(note)]()] if type(note) in bounds else []


def list_wrong_parts(origin, kind):
    """Wrong values of what a list is of."""
    return list_wrong(get_args(kind)[0]) if origin in LISTS and get_args(kind) else []


def iterate_settings(node, settings, is_deep, key=""):
    """(key, setting) of everything below a node, a setting of None for itself; else without the classes of groups."""
    yield key, None
    for name in node:
        if name in OF_HYDRA or name not in settings or OmegaConf.is_interpolation(node, name):
            continue
        setting, place = settings[name], join(key, name)
        yield place, setting
        if isinstance(node[name], DictConfig) and (key or "_target_" not in node[name] or is_deep):
            yield from iterate_settings(node[name], find_settings(node[name], setting), is_deep, place)


def find_settings(node, setting):
    """What may be below a node."""
    if "_target_" in node:
        return read_arguments(find_target(node))[0]
    kinds = [peel(member)[0] for member in list_members(setting.annotation)]
    classes = [kind for kind in kinds if is_dataclass(kind)]
    if classes:
        return read_fields(classes[0])
    return dict.fromkeys(node, Setting(get_args(kinds[0])[-1])) if get_origin(kinds[0]) in (Mapping, dict) else {}


def list_mutations(cfg, schema, part):
    """(key, wrong value) of every setting of a part, or of the command's own, and an unknown key of every node.

    There is a wrong value of each: of one that takes anything nothing would be tried.
    """
    for key, setting in list(iterate_settings(cfg, read_fields(schema), part != "")):
        if not f"{key}.".startswith(f"{part}.") and part:
            continue
        if setting is not None:
            wrong = list_wrong(setting.annotation)
            assert wrong, f"{key}: {setting.annotation} allows all"
            yield from ((key, value) for value in wrong)
        elif is_closed(key):
            yield join(key, "no_such_setting"), 1


def is_closed(key):
    """Whether a node takes no keys but those that its class names: not a mapping of names that users choose."""
    return key not in ("names", "networks", "metric", "benchmark.grammar.slots")


def complain(cfg, name, key, value):
    """What is wrong with the refusal of a value; None where it is as it should be. The config stays as it was."""
    above, _, last = key.rpartition(".")
    node = OmegaConf.select(cfg, above) if above else cfg
    kept = OmegaConf.to_container(node, resolve=False)
    OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    try:
        check_command(cfg, name)
        return f"{key} = {value!r}: taken"
    except ConfigError as error:
        return None if any(f"{key}{end}" in str(error) for end in (" =", "[", ".", ":")) else f"{key}: {error}"
    finally:
        node = OmegaConf.select(cfg, above) if above else cfg
        if last in kept:
            OmegaConf.update(cfg, key, kept[last], merge=False)
        else:
            del node[last]


def is_preset(override):
    """Whether an option is another one with other values, which is looked at itself."""
    group, _, choice = override.partition("=")
    return "_target_: " not in (CONF / group / f"{choice.strip('[]')}.yaml").read_text()


def fill(node):
    """Something for every key that has no default."""
    for name in node:
        if OmegaConf.is_missing(node, name):
            node[name] = "somewhere"
        elif not OmegaConf.is_interpolation(node, name) and isinstance(node[name], DictConfig):
            fill(node[name])


def list_options():
    """(name of a yaml, overrides, the part of the config that they choose) of every option of every group."""
    yield from ((name, (), "") for name in SCHEMAS)
    groups = {"run": ("backbone", "benchmark", "editor", "launcher", "rank", "reconstruct", "editor/mask")}
    groups["run"] += ("editor/mask/outliers", "editor/mask/threshold")
    groups |= {"score": ("networks", "logger"), "train": ("training",)}
    for name, chosen in groups.items():
        yield from ((name, (f"{group}={each}",), group.replace("/", ".")) for group in chosen for each in names(group))
    yield from (("score", (f"metric=[{each}]",), "metric") for each in names("metric"))
    for each in names("benchmark/grammar"):
        yield "run", ("benchmark=generated", f"benchmark/grammar={each}"), "benchmark.grammar"


@pytest.mark.parametrize(("name", "overrides", "part"), list(list_options()), ids=lambda value: str(value))
def test_every_setting_refuses_what_it_cannot_be(name, overrides, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = composed(*overrides, name=name, backbone=False)
    with open_dict(cfg):
        fill(cfg)
        check_command(cfg, name)
        mutations = list(list_mutations(cfg, SCHEMAS[name], part))
        if overrides and is_preset(overrides[-1]):
            mutations = [(key, value) for key, value in mutations if key.endswith("no_such_setting")]
        assert mutations
        complaints = [complain(cfg, name, key, value) for key, value in mutations]
        assert [each for each in complaints if each] == []
        check_command(cfg, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "group"), [("run", "experiment"), ("score", "table"), ("plot", "figure")], ids=lambda value: value
)
def test_every_overlay_is_as_its_command_wants_it(name, group):
    for each in names(group):
        cfg = composed(f"{group}={each}", name=name, backbone=False)
        with open_dict(cfg):
            fill(cfg)
        check_command(cfg, name)


def test_schemas_have_every_setting_of_the_yaml():
    """And no other; what a schema has beside them has a default."""
    assert {path.stem for path in CONF.glob("*.yaml")} == set(SCHEMAS)
    for name, schema in SCHEMAS.items():
        cfg, settings = composed(name=name, backbone=False), read_fields(schema)
        assert set(cfg) == set(settings), name


def test_a_command_and_python_take_the_same():
    own, engine = get_type_hints(Run, include_extras=True), get_type_hints(Engine, include_extras=True)
    settings = get_type_hints(RunSettings, include_extras=True)
    for name in ("steps", "seed", "on_error", "verify", "wait", "cache_gigabytes", "cache_edits"):
        assert own[name] == settings[name], name
    for name in set(engine) - {"batch"}:
        assert engine[name] == settings[name], name
    sizes, batch = get_type_hints(AskedSizes, include_extras=True), get_type_hints(Batch, include_extras=True)
    assert sizes == batch


def test_the_page_of_what_is_said_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate_said_when.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
