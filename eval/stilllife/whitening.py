"""The fixed whitening of Still Life's features, stored beside the network: what its kernel distances are taken on.

KID's kernel, (x . y / d + 1)^3, has no scale of its own: it is made for features as small as Inception's. Still Life's
reach tens, few directions carry them, and a cube of that says nothing. White features have a squared length of about d,
whatever the network, so that figures are of the size that people know.
"""

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diffedit.io.files import resolve_path
from diffedit.io.hashing import hash_tensors

FILE = "whitening.safetensors"
FLOOR = 1e-2  # of the mean variance: directions of less are scaled as if they had it, or they would be noise enlarged
REMEDY = "train the network again by scripts/train_stilllife.py training=features, which writes both"


class Whitening:
    """features -> (features - mean) @ matrix: uncorrelated, and of unit variance where that is above the floor.

    Args:
        mean: of the features.
        matrix: symmetric.
    """

    def __init__(self, mean: Float[Tensor, " d"], matrix: Float[Tensor, "d d"]) -> None:
        self.mean, self.matrix = mean.float(), matrix.float()
        self.hash = hash_tensors([("mean", self.mean), ("matrix", self.matrix)])

    def __call__(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """On whatever device the features lie, in their precision."""
        return (features - self.mean.to(features)) @ self.matrix.to(features)

    def to_bytes(self, network: str) -> bytes:
        """As a safetensors file in half precision, which names the network that it belongs to by its hash."""
        return save({"mean": self.mean.half(), "matrix": self.matrix.half()}, {"network": network})


def fit_whitening(features: Float[Tensor, "n d"]) -> Whitening:
    """The whitening of these features; a direction with less than `FLOOR` of the mean variance keeps less than 1."""
    features = features.double()
    values, vectors = torch.linalg.eigh(torch.cov(features.T))
    scales = values.clamp(min=FLOOR * values.mean().item()).rsqrt()
    return Whitening(features.mean(0), (vectors * scales) @ vectors.T)


@lru_cache(4)
def load_whitening(path: str, network: str, width: int) -> Whitening:
    """The whitening beside a network.

    Args:
        path: folder of the network.
        network: its hash, which the file has to name.
        width: of its features.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another network, or holds something else; the message says what to do.
    """
    file = resolve_path(path) / FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; {REMEDY}")
    mean, matrix, made_for = read_tensors(file)
    if made_for != network:
        raise ValueError(f"{file}: whitens the features of network {made_for}, and this one is {network}; {REMEDY}")
    if mean.shape != (width,) or matrix.shape != (width, width):
        raise ValueError(
            f"{file}: {tuple(mean.shape)} and {tuple(matrix.shape)}, not ({width},) and twice {width}; {REMEDY}"
        )
    return Whitening(mean, matrix)


def read_tensors(file: Path) -> tuple[Tensor, Tensor, str]:
    """(mean, matrix, hash of the network) of a file; a ValueError where it is no whitening."""
    try:
        with safe_open(file, "pt") as opened:
            return opened.get_tensor("mean"), opened.get_tensor("matrix"), opened.metadata()["network"]
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: no whitening ({error}); {REMEDY}") from error


def hash_weights(data: bytes) -> str:
    """Names a network by its file."""
    return sha256(data).hexdigest()[:16]
