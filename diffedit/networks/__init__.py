"""Networks that measure: they never edit.

Each finds its weights in a documented place (a path of the config, else the cache of the library it comes from), says
by `hash` what it measures with, and says by `domain` what pictures it knows. A missing file is a FileNotFoundError, raised when
the network is made, that names the file and where to put it; nothing is ever measured by random weights.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Domain = Literal["anything", "stilllife"]


@runtime_checkable
class Extractor(Protocol):
    """Pictures to features.

    Attributes:
        name: of network and layer, for people.
        hash: names weights, layer and preparation: features are kept under it.
        resize: how a picture comes to the network's size.
        range: of the values that the network is fed, for white and black pictures.
        domain: what it was trained on; one that knows `stilllife` is not asked about photographs.
    """

    name: str
    hash: str
    resize: str
    range: tuple[float, float]
    domain: Domain

    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 h w"]:
        """One picture as the network takes it; called from worker threads, on the CPU."""

    def features(self, prepared: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """The network, without gradients; float32, on the CPU, and no view of what was prepared."""

    def __call__(self, pictures: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """Both."""


@runtime_checkable
class Perceptual(Protocol):
    """A network whose layers LPIPS compares.

    Attributes:
        hash: names weights, heads and layers.
        smallest: side that its layers need.
        domain: what it was trained on.
        heads: a weight for each channel of each layer; None for all one, as in lpips=False of the lpips package.
    """

    hash: str
    smallest: int
    domain: Domain
    heads: Sequence[Float[Tensor, " channels"]] | None

    def layers(self, images: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b channels h w"]]:
        """The activations of pictures in [0, 1], not yet normalised, on the network's device."""


def prepare_all(extractor: Extractor, pictures: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 h w"]:
    """Every picture as the network takes it."""
    return torch.stack([extractor.prepare(picture) for picture in pictures])


def pick_device(device: str) -> torch.device:
    """The device of a setting; "auto" takes CUDA where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


def out_of_domain(network: Any, truths: Sequence[Any] | None) -> str | None:
    """Why a network is not asked about these pictures; None where it knows them."""
    if network.domain == "stilllife" and not truths:
        return "the network knows only Still Life; networks=photographs takes others"
    return None
