"""Features of pictures: computed once, compared by pure functions (`eval.metrics`)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from safetensors.numpy import load_file, save
from torch import Tensor

from diffedit.files import write
from eval.networks.stilllife import load

T = TypeVar("T")


@runtime_checkable
class HasReference(Protocol):
    """A benchmark that knows pictures of the distribution that edits should look like."""

    version: str

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """(class, picture), `size` of them; the class is "" where the benchmark has none."""


@dataclass(frozen=True)
class ReferenceSet:
    """Where reference pictures come from, and where their features are kept.

    Attributes:
        benchmark: gives the pictures.
        name: of the benchmark and its settings.
        resolution: of the pictures.
        cache: folder.
    """

    benchmark: HasReference
    name: str
    resolution: int
    cache: Path


class Features:
    """Features of pictures, and of the reference set of a benchmark, kept on disk.

    Args:
        weights: folder of the feature network.
        size: pictures in the reference set.
        device: "auto" takes CUDA where there is one.
    """

    def __init__(self, weights: str, size: int, device: str = "auto") -> None:
        self.judge, self.size = load(weights, device), size

    def __call__(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """The pooled activations."""
        return self.judge(images).features

    def reference(self, of: ReferenceSet) -> tuple[Float[ndarray, "m d"], list[str]]:
        """(features, classes) of the benchmark's reference set."""
        told = f"{self.judge.hash} {of.name} {of.benchmark.version} {self.size} {of.resolution}"
        path = of.cache / f"reference-{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
        if path.exists():
            kept = load_file(path)
            return kept["features"], kept["classes"].tobytes().decode("utf-32-le").split("\n")
        found, classes = [], []
        for part in batched(of.benchmark.reference(self.size, of.resolution), 128):
            classes += [label for label, _ in part]
            found.append(self(torch.stack([image for _, image in part])))
        return self.keep(path, torch.cat(found).numpy(), classes)

    def keep(self, path: Path, features: ndarray, classes: list[str]) -> tuple[ndarray, list[str]]:
        """Write them, whole or not at all."""
        letters = np.frombuffer("\n".join(classes).encode("utf-32-le"), dtype=np.uint8)
        write(path, save({"features": features, "classes": letters}))
        return features, classes


def batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items."""
    items = iter(items)
    while part := list(islice(items, size)):
        yield part
