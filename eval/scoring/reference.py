"""Statistics of the pictures that edits should look like, by one extractor: computed once, kept as one file."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt64
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from diffedit.io.contents import Contents
from diffedit.io.files import hash_file, resolve_path, write
from diffedit.io.spelling import describe_junk, is_junk
from eval.scoring.features import Encoder, check_features, extract_features, to_uint8

log = logging.getLogger("score")

VERSION = "2"
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


class ReferenceImage(NamedTuple):
    """A real picture.

    Attributes:
        label: its class; "" where it has none.
        name: for messages.
        load: gives its pixels.
        held_out: whether it is in no statistic, but among those that stand for real pictures in tables.
        file: where it lies, for a picture that is a file: statistics say what it held.
    """

    label: str
    name: str
    load: Callable[[], Any]
    held_out: bool = False
    file: Path | None = None


def iterate_folder(
    root: Path,
    load: Callable[[Path], Any],
    per_class: int | None = None,
    held_out: int = 0,
    without: Contents | None = None,
) -> Iterator[ReferenceImage]:
    """Pictures below a folder; the first folder's name is the class, so that classes take turns; flat: no classes.

    Args:
        root: folder.
        load: (path) to pixels.
        per_class: most of each class, by name.
        held_out: of each class, the first ones, to be held out.
        without: what is left out, by content; the log counts it.

    Raises:
        FileNotFoundError: there are none.
    """
    groups: dict[str, list[Path]] = {}
    left_out = 0
    for label, path in find_pictures(root):
        if without is not None and path in without:
            left_out += 1
        else:
            groups.setdefault(label, []).append(path)
    if without is not None:
        log.info("%s: %d pictures left out, which are among the %d of without=", root, left_out, len(without))
    if not groups:
        raise FileNotFoundError(f"folder = {root}: all pictures there are among those of without=")
    groups = {label: paths[:per_class] for label, paths in sorted(groups.items())}
    for i in range(max(map(len, groups.values()))):
        for label, paths in groups.items():
            if i < len(paths):
                path = paths[i]
                yield ReferenceImage(label, str(path), lambda path=path: load(path), i < held_out, path)


def find_pictures(root: Path, key: str = "folder") -> list[tuple[str, Path]]:
    """(class, file) of every picture below a folder, by name; a FileNotFoundError of that key where there are none."""
    files = [Path(folder) / name for folder, _, names in os.walk(root, followlinks=True) for name in names]
    pictures, junk = [], []
    for path in sorted(files):
        inside = path.relative_to(root)
        if is_junk(inside):
            junk.append(path)
        elif path.suffix.lower() in ENDINGS:
            pictures.append((inside.parts[0] if len(inside.parts) > 1 else "", path))
    if junk:
        log.info("%s", describe_junk(f"{key} = {root}", junk))
    if not pictures:
        raise FileNotFoundError(f"{key} = {root}: no pictures there ({', '.join(sorted(ENDINGS))})")
    return pictures


@dataclass(frozen=True)
class Reference:
    """Statistics of m real pictures of d features, in float64.

    Attributes:
        source: what the pictures were, for people.
        resolution: of the pictures, in pixels.
        extractor: hash of the network.
        n: pictures in the statistics.
        mean: (d,).
        cov: covariance, unbiased, (d, d).
        class_n: pictures of each class.
        class_mean: mean of each class, (d,).
        class_scatter: trace of each class's covariance, unbiased; NaN of one picture.
        kept: features of some of them, for kernel distances, (k, d).
        kept_labels: their classes.
        held_out: features of other pictures of the same kind, which are in no statistic: what a distance is of real
            pictures, (h, d).
        held_out_labels: their classes.
        contents: of each picture that was a file, and is in the statistics, what it held: 64 bits of its SHA-256.
        derived: what distances have computed of it, by what they computed it with.
    """

    source: str
    resolution: int
    extractor: str
    n: int
    mean: Float[ndarray, " d"]
    cov: Float[ndarray, "d d"]
    class_n: dict[str, int]
    class_mean: dict[str, ndarray]
    class_scatter: dict[str, float]
    kept: Float[ndarray, "k d"]
    kept_labels: list[str]
    held_out: Float[ndarray, "h d"]
    held_out_labels: list[str]
    contents: UInt64[ndarray, " files"] = field(default_factory=lambda: np.empty(0, np.uint64))
    derived: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def factor(self) -> Float[ndarray, "d k"]:
        """A matrix whose product with its transpose is the covariance."""
        values, vectors = np.linalg.eigh(self.cov)
        positive = values > max(values[-1], 0) * np.finfo(np.float64).eps * len(values)
        return vectors[:, positive] * np.sqrt(values[positive])

    @cached_property
    def hash(self) -> str:
        """Names the statistics."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    def pick_held_out(self, labels: Sequence[str]) -> tuple[Float[ndarray, "n d"] | None, str | None]:
        """(as many held-out pictures as labels, of the same classes where there are classes; why there are none)."""
        held_out_labels = np.asarray(self.held_out_labels, dtype=object)
        if not all(labels):
            if len(held_out_labels) < len(labels):
                return None, f"{len(held_out_labels)} pictures are held out, and the run has {len(labels)}"
            return self.held_out[: len(labels)], None
        rows = np.empty(len(labels), dtype=int)
        for label, count in Counter(labels).items():
            indices = np.flatnonzero(held_out_labels == label)
            if len(indices) < count:
                return None, f"{len(indices)} pictures of class {label} are held out, and the run has {count}"
            rows[[i for i, wanted in enumerate(labels) if wanted == label]] = indices[:count]
        return self.held_out[rows], None

    def count_inputs(self, paths: Iterable[Path]) -> int:
        """How many of these files hold what a picture of the statistics held, as far as it was a file."""
        known = set(self.contents.tolist())
        return sum(name_content(path) in known for path in paths) if known else 0

    def to_bytes(self) -> bytes:
        """As a safetensors file; features in float32, as networks gave them."""
        arrays = {"mean": self.mean, "cov": self.cov}
        arrays |= {"kept": self.kept.astype(np.float32), "held": self.held_out.astype(np.float32)}
        if len(self.contents):
            arrays["contents"] = self.contents
        if self.class_n:
            arrays["class_mean"] = np.stack([self.class_mean[name] for name in self.class_n])
        metadata = {
            "source": self.source,
            "side": self.resolution,
            "extractor": self.extractor,
            "n": self.n,
            "class_n": self.class_n,
            "class_scatter": self.class_scatter,
            "held_labels": self.held_out_labels,
            "kept_labels": self.kept_labels,
            "version": VERSION,
        }
        return save(arrays, {"reference": json.dumps(metadata)})


def read_reference(path: Path) -> Reference:
    """From a file; an OSError that names it where it is something else."""
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with safe_open(path, "numpy") as file:
            metadata = json.loads(file.metadata()["reference"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        contents = arrays.pop("contents", np.empty(0, np.uint64))
        arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
        if metadata.pop("version") != VERSION:
            raise ValueError("of another version")
        return Reference(
            resolution=metadata.pop("side"),
            held_out=arrays.pop("held"),
            held_out_labels=metadata.pop("held_labels"),
            class_mean=dict(zip(metadata["class_n"], arrays.pop("class_mean", ()), strict=True)),
            contents=contents,
            **metadata,
            **arrays,
        )
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise OSError(f"{path}: no statistics of diffedit reference-stats ({error})") from error


@lru_cache(4)
def load_reference(path: Path, modified: int) -> Reference:
    """`read_reference`, and remembered: every variant asks for it, and its factor takes a while."""
    return read_reference(path)


@dataclass
class Sums:
    """Mean and covariance of a stream, in float64, about the first picture so that nothing cancels."""

    n: int = 0
    origin: ndarray | None = None
    total: Any = 0.0
    outer: Any = 0.0
    classes: dict[str, list] = field(default_factory=dict)

    def add(self, features: Float[ndarray, "b d"], labels: Sequence[str]) -> None:
        self.origin = features[0].astype(np.float64) if self.origin is None else self.origin
        centred = features - self.origin
        self.n += len(centred)
        self.total = self.total + centred.sum(0)
        self.outer = self.outer + centred.T @ centred
        for row, label in zip(centred, labels, strict=True):
            if label:
                count, total, square = self.classes.get(label, (0, 0.0, 0.0))
                self.classes[label] = [count + 1, total + row, square + row @ row]

    def compute_statistics(self) -> dict[str, Any]:
        """The fields of `Reference` that are made of sums."""
        mean = self.total / self.n
        cov = (self.outer - self.n * np.outer(mean, mean)) / max(self.n - 1, 1)
        statistics: dict[str, Any] = {"n": self.n, "mean": mean + self.origin, "cov": cov}
        statistics |= {"class_n": {}, "class_mean": {}, "class_scatter": {}}
        for label in sorted(self.classes):
            count, total, square = self.classes[label]
            statistics["class_n"][label] = count
            statistics["class_mean"][label] = total / count + self.origin
            statistics["class_scatter"][label] = (
                max(0.0, square - total @ total / count) / (count - 1) if count > 1 else float("nan")
            )
        return statistics


def compute_reference(
    extractor: Encoder,
    images: Iterable[ReferenceImage],
    source: str,
    resolution: int,
    keep: int = 5000,
    batch: int = 64,
    threads: int = 2,
) -> Reference:
    """Statistics of a stream of pictures, in one pass.

    Args:
        extractor: the network.
        images: all of them.
        source: what they are.
        resolution: of them, in pixels.
        keep: features to keep for kernel distances: the first that come, so let classes take turns.
        batch: pictures in a network call.
        threads: that decode.

    Raises:
        ValueError: features that are not finite, by the name of the picture; or no pictures.
    """
    parts = extract_features(extractor, images, batch, threads)
    return summarize_features(extractor, parts, source, resolution, keep)


def summarize_features(
    extractor: Encoder,
    parts: Iterable[tuple[Sequence[ReferenceImage], Float[Tensor, "b d"]]],
    source: str,
    resolution: int,
    keep: int,
) -> Reference:
    """Likewise, of pictures whose features are there: (pictures, their features), some at a time."""
    sums = Sums()
    kept, kept_labels = [], []
    held_out, held_out_labels, contents = [], [], []
    for part, features in parts:
        check_features(extractor, part, features)
        rows = features.numpy().astype(np.float64)
        inside = [i for i, image in enumerate(part) if not image.held_out]
        held_out += [rows[i] for i, image in enumerate(part) if image.held_out]
        held_out_labels += [image.label for image in part if image.held_out]
        if inside:
            sums.add(rows[inside], [part[i].label for i in inside])
            room = max(0, keep - len(kept))
            kept += list(rows[inside][:room])
            kept_labels += [part[i].label for i in inside[:room]]
        contents += [name_content(part[i].file) for i in inside if part[i].file is not None]
    if not sums.n:
        raise ValueError(
            f"{source}: no pictures for the statistics of {extractor.name}; {len(held_out)} were held out (held=)"
        )
    none = np.empty((0, len(sums.origin)))
    return Reference(
        source,
        resolution,
        extractor.hash,
        **sums.compute_statistics(),
        kept=np.stack(kept) if kept else none,
        kept_labels=kept_labels,
        held_out=np.stack(held_out) if held_out else none,
        held_out_labels=held_out_labels,
        contents=np.array(contents, np.uint64),
    )


def name_content(path: Path) -> int:
    """The first 64 bits of the hash of a file."""
    return int(hash_file(path)[:16], 16)


@runtime_checkable
class ReferenceSource(Protocol):
    """Where a metric gets statistics of pictures from that edits should look like: `References`, or a plain folder."""

    def undefined_reason(self) -> str | None:
        """Why there is nothing to compare with."""

    def __call__(self, extractor: Encoder, size: int) -> Reference:
        """The statistics by this extractor."""


@runtime_checkable
class ReferenceBenchmark(Protocol):
    """What statistics need of a benchmark (`eval.benchmarks.base` has the usual declarations)."""

    version: str
    fingerprint: str
    has_reference: bool
    reference_version: str

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """(class, picture), `size` of them; the class is "" where the benchmark has none."""


@dataclass(frozen=True)
class StoredReferences:
    """Statistics of `diffedit reference-stats`: a file for each network.

    Attributes:
        folder: of the files.
        resolution: of the edits, in pixels: that of the pictures has to be the same.
    """

    folder: Path
    resolution: int

    def undefined_reason(self) -> str | None:
        """None: there is a folder."""
        return None

    def __call__(self, extractor: Encoder, size: int) -> Reference:
        """The statistics by this extractor, of as many pictures as they were made of."""
        path = self.find_file(extractor)
        reference = load_reference(path, path.stat().st_mtime_ns)
        if reference.resolution != self.resolution:
            raise ValueError(
                f"{path}: statistics of pictures of {reference.resolution} pixels, and the edits have "
                f"{self.resolution}: make others by diffedit reference-stats resolution={self.resolution}"
            )
        return reference

    def find_file(self, extractor: Encoder) -> Path:
        """The file of this extractor; a FileNotFoundError where there is none."""
        path = resolve_path(self.folder) / f"{extractor.hash}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no statistics by {extractor.name}; diffedit reference-stats makes them")
        return path


@dataclass(frozen=True)
class References:
    """Where the statistics of a run's reference come from.

    Attributes:
        benchmark: gives pictures, where no files are given.
        name: of the benchmark with its settings.
        resolution: of its pictures.
        labels: of the run's requests: as many pictures are held out, to stand for real ones in tables.
        cache: folder.
        folder: of `diffedit reference-stats`; None takes the benchmark's own pictures.
        batch: pictures in a network call.
        threads: that decode.
    """

    benchmark: ReferenceBenchmark
    name: str
    resolution: int
    labels: tuple[str, ...]
    cache: Path
    folder: Path | None = None
    batch: int = 64
    threads: int = 2

    def undefined_reason(self) -> str | None:
        """Why there is nothing to compare with."""
        if self.folder is None and not self.benchmark.has_reference:
            return "the benchmark has no reference pictures; reference= names statistics of diffedit reference-stats"
        return None

    def __call__(self, extractor: Encoder, size: int) -> Reference:
        """The statistics by this extractor, of `size` pictures where the benchmark gives them."""
        if self.folder is not None:
            return StoredReferences(self.folder, self.resolution)(extractor, size)
        hold_out = Counter(self.labels if all(self.labels) else [""] * len(self.labels))
        identity = [VERSION, extractor.hash, self.name, self.benchmark.version, size, self.resolution]
        identity.append(sorted(hold_out.items()))
        if self.benchmark.fingerprint:  # other weights under one name draw other pictures
            identity.append(self.benchmark.fingerprint)
        if self.benchmark.reference_version != "1":
            identity.append(self.benchmark.reference_version)
        path = self.cache / f"reference-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}.safetensors"
        if path.exists():
            try:
                return load_reference(path, path.stat().st_mtime_ns)
            except OSError as error:
                log.warning("%s: computed again", error)
        images = self.iterate_images(size, hold_out)
        source = f"{size} pictures of {self.name}"
        computed = compute_reference(extractor, images, source, self.resolution, size, self.batch, self.threads)
        write(path, computed.to_bytes())
        return load_reference(path, path.stat().st_mtime_ns)

    def find_file(self, extractor: Encoder) -> Path:
        """The statistics by this extractor in the folder; a FileNotFoundError where there are none."""
        return StoredReferences(self.folder, self.resolution).find_file(extractor)

    def iterate_images(self, size: int, hold_out: "Counter[str]") -> Iterator[ReferenceImage]:
        """The benchmark's: `size` for the statistics, then others of each class to be held out."""
        wanted = Counter(hold_out)
        has_classes = all(self.labels)
        pictures = self.benchmark.reference(size + 4 * sum(hold_out.values()), self.resolution)
        for i, (label, image) in enumerate(pictures):
            group = label if has_classes else ""
            if i >= size and not wanted[group]:
                continue
            wanted[group] -= i >= size
            name = f"reference picture {i} of {self.name}"
            yield ReferenceImage(label, name, lambda image=image: to_uint8(image), i >= size)
            if i >= size - 1 and not any(wanted[group] for group in hold_out):
                return
