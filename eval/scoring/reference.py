"""Statistics of the pictures that edits should look like, by one extractor: computed once, kept as one file."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from diffedit.io.files import resolve_path, write
from eval.scoring.features import check, extracted, pixels

VERSION = "2"


class Real(NamedTuple):
    """A real picture.

    Attributes:
        label: its class; "" where it has none.
        name: for messages.
        load: gives its pixels.
        held: whether it is held out of the statistics, for the floor.
    """

    label: str
    name: str
    load: Any
    held: bool = False


def folder_pictures(root: Path, load: Any, per_class: int | None = None, held: int = 0) -> Iterator[Real]:
    """Pictures below a folder; the first folder's name is the class, so that classes take turns; flat: no classes.

    Args:
        root: folder.
        load: (path) to pixels.
        per_class: most of each class, by name.
        held: of each class, the first ones, to be held out.

    Raises:
        FileNotFoundError: there are none.
    """
    endings = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}
    groups: dict[str, list[Path]] = {}
    files = [Path(folder) / name for folder, _, names in os.program(root, followlinks=True) for name in names]
    for path in sorted(files):
        if path.suffix.lower() in endings:
            parts = path.relative_to(root).parts
            groups.setdefault(parts[0] if len(parts) > 1 else "", []).append(path)
    if not groups:
        raise FileNotFoundError(f"folder = {root}: no pictures there ({', '.join(sorted(endings))})")
    groups = {label: paths[:per_class] for label, paths in sorted(groups.items())}
    for i in range(max(map(len, groups.values()))):
        for label, paths in groups.items():
            if i < len(paths):
                yield Real(label, str(paths[i]), lambda path=paths[i]: load(path), i < held)


@runtime_checkable
class HasReference(Protocol):
    """A benchmark that knows pictures of the distribution that edits should look like."""

    version: str

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """(class, picture), `size` of them; the class is "" where the benchmark has none."""


@dataclass(frozen=True)
class Reference:
    """Statistics of m real pictures of d features, in float64.

    Attributes:
        source: what the pictures were, for people.
        side: of the pictures, in pixels.
        extractor: hash of the network.
        n: pictures in the statistics.
        mean: (d,).
        cov: covariance, unbiased, (d, d).
        class_n: pictures of each class.
        class_mean: mean of each class, (d,).
        class_scatter: trace of each class's covariance, unbiased; NaN of one picture.
        kept: features of some of them, for kernel distances, (k, d).
        kept_labels: their classes.
        held: features of other pictures of the same kind, which are in no statistic: the floor, (h, d).
        held_labels: their classes.
        memory: what was computed of it by others.
    """

    source: str
    side: int
    extractor: str
    n: int
    mean: Float[ndarray, " d"]
    cov: Float[ndarray, "d d"]
    class_n: dict[str, int]
    class_mean: dict[str, ndarray]
    class_scatter: dict[str, float]
    kept: Float[ndarray, "k d"]
    kept_labels: list[str]
    held: Float[ndarray, "h d"]
    held_labels: list[str]
    memory: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def factor(self) -> Float[ndarray, "d k"]:
        """A matrix whose product with its transpose is the covariance."""
        values, vectors = np.linalg.eigh(self.cov)
        positive = values > max(values[-1], 0) * np.finfo(np.float64).eps * len(values)
        return vectors[:, positive] * np.sqrt(values[positive])

    @cached_property
    def hash(self) -> str:
        """Names the statistics."""
        return hashlib.sha256(self.data()).hexdigest()[:16]

    def like(self, labels: Sequence[str]) -> tuple[Float[ndarray, "n d"], None] | tuple[None, str]:
        """As many held-out pictures as there are labels, of the same classes where there are classes; or why not."""
        own = np.asarray(self.held_labels, dtype=object)
        if not all(labels):
            if len(own) < len(labels):
                return None, f"{len(own)} pictures are held out, and the run has {len(labels)}"
            return self.held[: len(labels)], None
        rows = np.empty(len(labels), dtype=int)
        for label, count in Counter(labels).items():
            places = np.flatnonzero(own == label)
            if len(places) < count:
                return None, f"{len(places)} pictures of class {label} are held out, and the run has {count}"
            rows[[i for i, each in enumerate(labels) if each == label]] = places[:count]
        return self.held[rows], None

    def data(self) -> bytes:
        """As a safetensors file."""
        names = list(self.class_n)
        arrays = {"mean": self.mean, "cov": self.cov}
        arrays |= {name: getattr(self, name).astype(np.float32) for name in ("kept", "held")}  # as networks gave them
        if names:
            arrays["class_mean"] = np.stack([self.class_mean[name] for name in names])
        told = {
            "source": self.source,
            "side": self.side,
            "extractor": self.extractor,
            "n": self.n,
            "class_n": self.class_n,
        }
        told |= {"class_scatter": self.class_scatter, "held_labels": self.held_labels}
        told |= {"kept_labels": self.kept_labels, "version": VERSION}
        return save(arrays, {"reference": json.dumps(told)})


def read(path: Path) -> Reference:
    """From a file; an OSError that names it where it is something else."""
    try:
        with safe_open(path, "numpy") as file:
            told = json.loads(file.metadata()["reference"])
            arrays = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
        means = dict(zip(told["class_n"], arrays.pop("class_mean", ()), strict=True))
        if told.pop("version") != VERSION:
            raise ValueError("of another version")
        return Reference(**told, **arrays, class_mean=means)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise OSError(f"{path}: no statistics of scripts/reference_stats.py ({error})") from error


@lru_cache(4)
def once(path: Path, modified: int) -> Reference:
    """`read`, and remembered: every ratio asks for it, and its factor takes a while."""
    return read(path)


@dataclass
class Sums:
    """Mean and covariance of a stream, in float64, about the first picture so that nothing cancels."""

    n: int = 0
    origin: ndarray | None = None
    total: Any = 0.0
    outer: Any = 0.0
    classes: dict[str, list] = field(default_factory=dict)

    def add(self, features: Float[ndarray, "b d"], labels: Sequence[str]) -> None:
        """Some more pictures."""
        self.origin = features[0].astype(np.float64) if self.origin is None else self.origin
        moved = features - self.origin
        self.n, self.total, self.outer = self.n + len(moved), self.total + moved.sum(0), self.outer + moved.T @ moved
        for row, label in zip(moved, labels, strict=True):
            if label:
                count, total, square = self.classes.get(label, (0, 0.0, 0.0))
                self.classes[label] = [count + 1, total + row, square + row @ row]

    def statistics(self) -> dict[str, Any]:
        """The fields of `Reference` that are made of sums."""
        mean = self.total / self.n
        cov = (self.outer - self.n * np.outer(mean, mean)) / max(self.n - 1, 1)
        found: dict[str, Any] = {"n": self.n, "mean": mean + self.origin, "cov": cov}
        found |= {"class_n": {}, "class_mean": {}, "class_scatter": {}}
        for label in sorted(self.classes):
            count, total, square = self.classes[label]
            found["class_n"][label], found["class_mean"][label] = count, total / count + self.origin
            found["class_scatter"][label] = (
                max(0.0, square - total @ total / count) / (count - 1) if count > 1 else float("nan")
            )
        return found


def measured(
    extractor: Any,
    pictures: Iterable[Real],
    source: str,
    side: int,
    keep: int = 5000,
    batch: int = 64,
    threads: int = 2,
) -> Reference:
    """Statistics of a stream of pictures, in one pass.

    Args:
        extractor: the network.
        pictures: all of them.
        source: what they are.
        side: of them, in pixels.
        keep: features to keep for kernel distances: the first that come, so let classes take turns.
        batch: pictures in a network call.
        threads: that decode.

    Raises:
        ValueError: features that are not finite, by the name of the picture; or no pictures.
    """
    sums, kept, held, labels = Sums(), [], [], {"kept": [], "held": []}
    for part, found in extracted(extractor, pictures, batch, threads):
        check(extractor, part, found)
        rows, inside = found.numpy().astype(np.float64), [i for i, real in enumerate(part) if not real.held]
        held += [rows[i] for i, real in enumerate(part) if real.held]
        labels["held"] += [real.label for real in part if real.held]
        if inside:
            sums.add(rows[inside], [part[i].label for i in inside])
            room = max(0, keep - len(kept))
            kept += list(rows[inside][:room])
            labels["kept"] += [part[i].label for i in inside[:room]]
    if not sums.n:
        raise ValueError(
            f"{source}: no pictures for the statistics of {extractor.name}; {len(held)} were held out (held=)"
        )
    none = np.empty((0, len(sums.origin)))
    arrays = {name: np.stack(rows) if rows else none for name, rows in (("kept", kept), ("held", held))}
    named = {f"{name}_labels": each for name, each in labels.items()}
    return Reference(source, side, extractor.hash, **sums.statistics(), **arrays, **named)


@dataclass(frozen=True)
class References:
    """Where the statistics of a run's reference come from.

    Attributes:
        benchmark: gives pictures, where no files are given.
        name: of the benchmark with its settings.
        resolution: of its pictures.
        labels: of the run's requests: as many pictures are held out for the floor.
        cache: folder.
        folder: of `scripts/reference_stats.py`; None takes the benchmark's own pictures.
        batch: pictures in a network call.
        threads: that decode.
    """

    benchmark: Any
    name: str
    resolution: int
    labels: tuple[str, ...]
    cache: Path
    folder: Path | None = None
    batch: int = 64
    threads: int = 2

    def undefined_reason(self) -> str | None:
        """Why there is nothing to compare with."""
        if self.folder is None and not isinstance(self.benchmark, HasReference):
            return "the benchmark has no reference pictures; reference= names statistics of scripts/reference_stats.py"
        return None

    def __call__(self, extractor: Any, size: int) -> Reference:
        """The statistics by this extractor, of `size` pictures where the benchmark gives them."""
        if self.folder is not None:
            path = self.file(extractor)
            found = once(path, path.stat().st_mtime_ns)
            if found.side != self.resolution:
                raise ValueError(
                    f"{path}: statistics of pictures of {found.side} pixels, and the edits have {self.resolution}: "
                    f"make others by scripts/reference_stats.py side={self.resolution}"
                )
            return found
        hold = Counter(self.labels if all(self.labels) else [""] * len(self.labels))
        told = [VERSION, extractor.hash, self.name, self.benchmark.version, size, self.resolution, sorted(hold.items())]
        drawn_by = getattr(getattr(self.benchmark, "text_to_image", None), "fingerprint", None)
        told += [drawn_by] if drawn_by else []  # other weights under one name draw other pictures
        path = self.cache / f"reference-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}.safetensors"
        if not path.is_file():
            source, stream = f"{size} pictures of {self.name}", self.pictures(size, hold)
            found = measured(extractor, stream, source, self.resolution, size, self.batch, self.threads)
            write(path, found.data())
        return once(path, path.stat().st_mtime_ns)

    def file(self, extractor: Any) -> Path:
        """The statistics by this extractor in the folder; a FileNotFoundError where there are none."""
        path = resolve_path(self.folder) / f"{extractor.hash}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no statistics by {extractor.name}; scripts/reference_stats.py makes them")
        return path

    def pictures(self, size: int, hold: "Counter[str]") -> Iterator[Real]:
        """The benchmark's: `size` for the statistics, then others of each class to be held out."""
        wanted, classes = Counter(hold), all(self.labels)
        for i, (label, image) in enumerate(self.benchmark.reference(size + 4 * sum(hold.values()), self.resolution)):
            of = label if classes else ""
            if i >= size and not wanted[of]:
                continue
            wanted[of] -= i >= size
            yield Real(label, f"reference picture {i} of {self.name}", lambda image=image: pixels(image), i >= size)
            if i >= size - 1 and not any(wanted[each] for each in hold):
                return
