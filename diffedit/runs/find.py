"""Where run directories lie below folders; without torch, and without a look into what a run holds."""

import os
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

PARTS = {"environment.json", "images", "manifest.parquet", "records", "shards"}  # two of these are a run, too


def find_runs(patterns: Iterable[str]) -> list[Path]:
    """The run directories that folders are, or hold at any depth.

    A run is known by its config.yaml; one whose config is gone by the rest of it. Hidden folders, links to folders, and
    what may not be read are passed over.

    Args:
        patterns: folders, or globs of some; files among those are no runs.

    Raises:
        FileNotFoundError: a folder is not there, or none of them holds a run.
    """
    patterns, found = list(patterns), {}
    for pattern in patterns:
        paths = [Path(pattern)] if os.path.lexists(pattern) else [Path(path) for path in sorted(glob(pattern))]
        if not any(path.is_dir() for path in paths):
            raise FileNotFoundError(f"{pattern}: no such folder")
        found |= dict.fromkeys(root for path in paths for root in list_runs(path))
    if not found:
        raise FileNotFoundError(f"{', '.join(patterns)}: no run directory there; make one by diffedit run")
    return list(found)


def list_runs(folder: Path) -> Iterator[Path]:
    """The run that a folder is, else those below it, by name."""
    try:
        with os.scandir(folder) as entries:
            kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    except OSError:
        return
    if is_run(kinds):
        yield folder
        return
    for name in sorted(kinds):
        if kinds[name] and not name.startswith("."):
            yield from list_runs(folder / name)


def is_run(names: Iterable[str]) -> bool:
    """Whether a folder that holds these is a run."""
    names = set(names)
    return "config.yaml" in names or len(PARTS & names) > 1
