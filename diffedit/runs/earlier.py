"""What earlier runs tell of one that is planned: seconds an evaluation of the same networks, bytes of such an edit."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from diffedit.io.files import read_json, read_regular
from diffedit.runs.cut import list_shards, read_summary
from diffedit.runs.environment import name_own_device
from diffedit.runs.find import list_runs
from diffedit.runs.planner import Deadline

MOST = 2000  # configs of earlier runs that are read, the newest first
LARGEST = 2**20  # bytes of a config
SHARDS = 4  # of a run whose rows are read, the newest first
NUMERICS = ("dtype", "vae_dtype", "resolution", "memory_format", "compile")  # of a backbone: what its rate hangs on


class Rate(NamedTuple):
    """How fast networks are.

    Attributes:
        seconds: an evaluation of the denoiser, with all that comes with it.
        run: where that was.
        device: on what.
    """

    seconds: float
    run: Path
    device: str


class Sizes(NamedTuple):
    """What an edit takes on disk, with its part of the mask, the map and the records.

    Attributes:
        bytes: an edit.
        run: where that was.
    """

    bytes: float
    run: Path


class Device(NamedTuple):
    """What a process computes on.

    Attributes:
        name: "" where that is not recorded.
        threads: of torch.
    """

    name: str = ""
    threads: int = 0

    def is_as_fast_as(self, other: "Device") -> bool:
        """Whether it is the same, and on a CPU with as many threads."""
        return self.name == other.name and (self.threads == other.threads or torch.cuda.is_available())


@dataclass(frozen=True)
class EarlierRun:
    """A run of the same networks.

    Attributes:
        root: its directory.
        config: of it.
        device: that it was made on.
        is_alike: whether its benchmark and its editor are of the same classes.
    """

    root: Path
    config: Mapping[str, Any]
    device: Device
    is_alike: bool


Newest = Sequence[tuple[Path, Mapping[str, Any]]]
"""Run directories with their configs, the newest first."""


def choose_earlier(newest: Newest, config: Mapping[str, Any]) -> list[EarlierRun]:
    """Those that were made with the networks of a config, which has the hashes of their weights.

    Those of its own kind come first, then the newest.
    """
    found = []
    for root, other in newest:
        if is_of_same_networks(config, other):
            alike = all(find_class(config, name) == find_class(other, name) for name in ("benchmark", "editor"))
            found.append(EarlierRun(root, other, read_device(root), alike))
    return sorted(found, key=lambda run: not run.is_alike)


def read_newest(folder: Path, weights: Mapping[str, str], deadline: Deadline) -> Newest:
    """Run directories of a backbone below a folder with their configs, the newest first; what is damaged is not there.

    Args:
        folder: where they lie.
        weights: the hashes of the backbone's parts.
        deadline: after which no more are looked at.
    """
    times = {}
    for root in list_runs(folder):
        with suppress(OSError):
            times[root] = os.stat(root / "config.yaml").st_mtime_ns
        if deadline.left() <= 0:
            break
    found = []
    for root in sorted(times, key=times.__getitem__, reverse=True)[:MOST]:
        if deadline.left() <= 0:
            break
        if (config := read_config(root / "config.yaml", weights)) is not None:
            found.append((root, config))
    return found


def read_config(path: Path, weights: Mapping[str, str]) -> Mapping[str, Any] | None:
    """A config that holds these hashes; None where it does not, or cannot be read. Most are told by their bytes."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = read_regular(path, LARGEST)
        if not all(part.encode() in content for part in weights.values()):
            return None
        config = yaml.load(content, loader)
    except (OSError, yaml.YAMLError, UnicodeError, ValueError, RecursionError):
        return None
    return config if isinstance(config, Mapping) else None


def is_of_same_networks(config: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs have the same weights, in the same numbers, at the same resolution and for the same shapes."""
    one, two = (part.get("backbone") or {} for part in (config, other))
    if not config.get("weights") or config["weights"] != other.get("weights"):
        return False
    is_alike = isinstance(two, Mapping) and all(one.get(key) == two.get(key) for key in NUMERICS)
    return is_alike and find_shape(config) == find_shape(other)


def find_shape(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a config says of the shapes of pictures; of squares nothing."""
    benchmark = config.get("benchmark")
    benchmark = benchmark if isinstance(benchmark, Mapping) else {}
    resize = benchmark.get("resize")
    is_kept = isinstance(resize, Mapping) and resize.get("policy") == "keep"
    return resize.get("side") if is_kept else None, benchmark.get("width"), benchmark.get("height")


def find_class(config: Mapping[str, Any], name: str) -> Any:
    """The class of a part of a config."""
    part = config.get(name)
    return part.get("_target_") if isinstance(part, Mapping) else None


def read_device(root: Path) -> Device:
    """What a run was made on, as its note says."""
    try:
        noted = read_json(root / "environment.json")
        return Device(str(noted["device"]), int(noted["threads"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Device()


def find_own_device() -> Device:
    """What this process computes on."""
    return Device(name_own_device(), torch.get_num_threads())


# ------------------------------------------------------------------------------------------------------------ how fast


def find_rate(runs: Sequence[EarlierRun], own: Device, is_here: bool) -> Rate | None:
    """The rate of the first of these runs that tells one; None where none does.

    Args:
        runs: as `choose_earlier` orders them.
        own: the device of this process.
        is_here: whether this device is to edit: then runs of others say nothing. Else those come first.
    """
    if is_here:
        ordered = [run for run in runs if run.device.is_as_fast_as(own)]
    else:
        ordered = sorted(runs, key=lambda run: run.device.is_as_fast_as(own))
    for run in ordered:
        if (seconds := measure_evaluation(run.root)) is not None:
            return Rate(seconds, run.root, run.device.name)
    return None


def measure_evaluation(root: Path) -> float | None:
    """Seconds an evaluation in the last shards of a run, encoding and decoding included; None where it tells none.

    What it took over from others counts as evaluated: a run beside others, or with a cache, looks faster than it was.
    """
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    seconds = evaluations = 0
    for path in list_shards(root)[-SHARDS:]:
        with suppress(OSError, KeyError, ValueError, ArrowException):
            names = ["id", "status", "evaluations", "shared_evaluations", "seconds"]
            table = pq.ParquetFile(path).read(columns=names).to_pandas()
            table = table[table.status == "done"]
            requests = table.drop_duplicates("id")
            seconds += float(requests.seconds.sum())
            evaluations += int(table.evaluations.sum() + requests.shared_evaluations.sum())
    return seconds / evaluations if seconds > 0 and evaluations > 0 else None


# ------------------------------------------------------------------------------------------------------------ how large


def find_sizes(runs: Sequence[EarlierRun]) -> Sizes | None:
    """Bytes an edit of the first of these runs that is of the same kind and says it; None where none does."""
    for run in runs:
        if run.is_alike and (size := measure_edit(run.root)) is not None:
            return Sizes(size, run.root)
    return None


def measure_edit(root: Path) -> float | None:
    """Bytes an edit in the shards of a run, with its part of what all edits of a request share, and of the records."""
    size = edits = 0
    for path in list_shards(root):
        with suppress(OSError, KeyError, TypeError):
            summary = read_summary(path)
            size += int(summary["bytes"]) + 2 * path.stat().st_size  # the manifest is as large as all shards, at most
            edits += int(summary["edits"])
    return size / edits if size > 0 and edits > 0 else None
