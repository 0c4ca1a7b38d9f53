"""What a logger is; the one that logs nothing; and what several read of the scores."""

import hashlib
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from eval.scoring.files import PLACE


@runtime_checkable
class Logger(Protocol):
    """Shows what was scored elsewhere."""

    def log(self, scores: pd.DataFrame) -> list[Path]:
        """Log every run of a table; returns the folders that were written now.

        Args:
            scores: as `eval.reporting.collect.collect` returns it; the column `run` has the directories.
        """


@runtime_checkable
class PageLogger(Protocol):
    """Shows pages of `diffedit report`, too."""

    def log_page(self, path: Path, roots: Sequence[Path], settings: dict[str, Any]) -> list[Path]:
        """Log a page; returns the folders that were written now.

        Args:
            path: of the file to open.
            roots: directories of the runs that it is of.
            settings: that it was made with.
        """


@dataclass(frozen=True)
class NoLogger:
    """Logs nothing."""

    def log(self, scores: pd.DataFrame) -> list[Path]:
        return []

    def log_page(self, path: Path, roots: Sequence[Path], settings: dict[str, Any]) -> list[Path]:
        return []


def import_module(module: str, package: str) -> ModuleType:
    """A module that only its logger needs."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'this logger needs {package}: pip install "diffedit[{package}]"; or use logger=none'
        ) from error


def read_place(scores: pd.DataFrame) -> list[str]:
    """Benchmark, backbone, editor and name of one run."""
    return [scores[column].iloc[0] for column in PLACE]


def iterate_strengths(scores: pd.DataFrame) -> Iterator[tuple[float, dict[str, float]]]:
    """(strength, scores with their intervals) of one run, from the smallest on, without what is not defined."""
    for strength, part in scores.groupby("strength"):
        values = {}
        for name, value, low, high in zip(part.metric, part.value, part.low, part.high, strict=True):
            values |= {name: value, f"{name}/low": low, f"{name}/high": high}
        yield float(strength), {name: float(value) for name, value in values.items() if pd.notna(value)}


def hash_plain(content: Any) -> str:
    """A short name for some plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
