"""How the runs of a page were made: config, versions, weights, cost, and the command that makes each again."""

import shlex
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import OmegaConf

from diffedit.io.compose import compose
from diffedit.io.files import read_json
from diffedit.runs.names import RUNTIME_KEYS
from eval.reporting.report.sets import RunSet
from eval.scoring.files import name_place
from eval.scoring.finished_run import FinishedRun

OF_RUN = ("weights", "benchmark_version", "format", "engine", "launcher", *RUNTIME_KEYS)  # no settings of the edit
LONG = ("_target_", "_args_", "_partial_")
PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./%@?|")


def describe_run(run: FinishedRun) -> dict[str, Any]:
    """Of one run."""
    config = {key: value for key, value in run.config.items() if key != "weights"}
    states = [record["status"] for record in run.records.values()]
    return {
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        "versions": read_versions(run.root),
        "weights": run.config.get("weights") or {},
        "n": len(states),
        "done": states.count("done"),
        "cost": measure_cost(run),
        "command": find_command(run.root, run.config),
    }


def read_versions(root: Path) -> dict[str, Any]:
    """What the run was made with; empty where that is not known."""
    try:
        found = read_json(root / "environment.json")
    except (OSError, ValueError):
        return {}
    found = dict(found) if isinstance(found, Mapping) else {}
    packages = found.pop("packages", {})
    return found | (packages if isinstance(packages, Mapping) else {})


def measure_cost(run: FinishedRun) -> dict[str, float | None]:
    """Means over what is done: evaluations of a single edit and of all of a request, seconds an edit."""
    done = [record for record in run.records.values() if record["status"] == "done" and record["edits"]]
    if not done:
        return {"evaluations": None, "all": None, "seconds": None}
    shared = np.array([record.get("shared_evaluations") or 0 for record in done], float)
    own = [[edit.get("evaluations") or 0 for edit in record["edits"]] for record in done]
    seconds = [record["seconds"] / len(record["edits"]) for record in done if record["seconds"] is not None]
    single = np.mean([np.mean(counts) for counts in own]) + shared.mean()
    return {
        "evaluations": float(single),
        "all": float(np.mean([sum(counts) for counts in own]) + shared.mean()),
        "seconds": float(np.mean(seconds)) if seconds else None,
    }


# ------------------------------------------------------------------------------------------------------------ commands


def find_command(root: Path, config: Mapping[str, Any]) -> str:
    """The command that makes such a run again; "" where its editor, benchmark or backbone is none of conf/."""
    place = name_place(root)
    groups = tuple(f"{name}={place[name]}" for name in ("benchmark", "backbone", "editor"))
    try:
        default = compose_defaults(groups)
    except Exception:  # whatever Hydra says of a name that it does not know
        return ""
    was, now = dict(flatten(default)), dict(flatten(config))
    if any(was.get(key, now[key]) != now[key] for key in now if key.rpartition(".")[2] in LONG):
        return ""  # another class than this choice of conf/ is: put together in Python, or by another group
    changed = [f"{key}={write_value(value)}" for key, value in now.items() if was.get(key) != value]
    words = [word for word in (*groups, *changed) if not is_of_run(word.partition("=")[0])]
    return shlex.join(["diffedit", "run", *words])


@lru_cache(32)
def compose_defaults(groups: tuple[str, ...]) -> dict[str, Any]:
    """The config of a run of which nothing but these is said."""
    config = compose("run", groups)
    unresolved = OmegaConf.to_container(config)
    kept = {key: value for key, value in unresolved.items() if not is_of_run(key) and key != "seeds"}
    return OmegaConf.to_container(OmegaConf.create(kept), resolve=False)


def is_of_run(key: str) -> bool:
    """Whether a setting changes how a run goes and not what comes out."""
    return any(key == name or key.startswith(f"{name}.") for name in OF_RUN)


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key with dots, value) of a config; lists are values."""
    if not isinstance(node, Mapping) or not node:
        yield prefix, node
        return
    for key, value in node.items():
        yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))


def write_value(value: Any) -> str:
    """A value as the grammar of overrides reads it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(write_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{write_value(part)}' for key, part in value.items())}}}"
    if isinstance(value, str) and not (value and set(value) <= PLAIN):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)


def find_differences(shown: RunSet) -> list[dict[str, Any]]:
    """Settings that not all runs of a set have alike: key, and the value of each run ("" where it has none)."""
    configs = [dict(flatten({key: v for key, v in run.config.items() if not is_of_run(key)})) for run in shown.runs]
    weights = [dict(flatten({"weights": run.config.get("weights") or {}})) for run in shown.runs]
    configs = [config | hashes for config, hashes in zip(configs, weights, strict=True)]
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = [(key, [write_value(config[key]) if key in config else "" for config in configs]) for key in keys]
    return [{"key": key, "values": values} for key, values in rows if len(set(values)) > 1]
