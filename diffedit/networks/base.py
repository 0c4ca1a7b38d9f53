"""What frozen networks are asked for, and what they share: settings, loading once, features batch by batch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from diffedit.io.device import pick_device
from diffedit.types import Network

ANYTHING = "anything"  # the domain of a network that may be asked about every picture


@runtime_checkable
class DomainNetwork(Network, Protocol):
    """A network that measures; what it answers is kept under its `hash`."""

    domain: str  # the only pictures that it knows, or "anything"


@runtime_checkable
class Extractor(DomainNetwork, Protocol):
    """Pictures to features.

    Attributes:
        name: of network and layer, for people.
        resize: how a picture comes to the network's size.
        range: of the values that the network is fed, for black and white pictures.
    """

    name: str
    resize: str
    range: tuple[float, float]

    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 h w"]:
        """One picture as the network takes it; called from worker threads, on the CPU."""

    def features(self, prepared: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """The network, without gradients; float32, on the CPU, and no view of what was prepared."""

    def __call__(self, pictures: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """`prepare` and `features` of pictures of one size."""


@runtime_checkable
class Perceptual(DomainNetwork, Protocol):
    """A network whose layers LPIPS compares.

    Attributes:
        smallest: side in pixels that its layers need.
        heads: a weight for each channel of each layer; None for all one, as in lpips=False of the lpips package.
    """

    smallest: int
    heads: Sequence[Float[Tensor, " channels"]] | None

    def layers(self, images: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b channels h w"]]:
        """The activations of pictures in [0, 1], not yet normalised, on the network's device."""


@runtime_checkable
class Tokens(DomainNetwork, Protocol):
    """A network that describes places of a picture: keys of a ViT's attention, or features on a grid."""

    def tokens(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b t d"]:
        """One vector a place, on the network's device; values are taken as they come."""


class FrozenNetwork(ABC):
    """A network that is never trained. A subclass has settings (`diffedit.io.checks.settings`) and says how to `load`.

    Equal settings share one network, and a missing file stops before any work.

    Attributes:
        device: "auto" takes CUDA where there is one.
        domain: "anything", or the only one that it knows.
    """

    device: str
    domain: str = ANYTHING

    def __post_init__(self) -> None:
        load_once(self)

    @abstractmethod
    def load(self) -> tuple[Any, str]:
        """(network on its device, hash of weights, layer and preparation).

        Raises:
            FileNotFoundError: a file is missing; names it and where to put it.
            ValueError: a file holds something else.
        """

    @property
    def network(self) -> Any:
        """What `load` gave."""
        return load_once(self)[0]

    @property
    def hash(self) -> str:
        """Names the weights and whatever else decides what it answers."""
        return load_once(self)[1]


@lru_cache(16)
def load_once(network: FrozenNetwork) -> tuple[Any, str]:
    """What `load` gives, one for all networks of equal settings."""
    return network.load()


class FrozenExtractor(FrozenNetwork):
    """An `Extractor` of a frozen network: `prepare` and `forward` are its own."""

    @abstractmethod
    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 h w"]:
        """One picture as the network takes it; called from worker threads, on the CPU."""

    @abstractmethod
    def forward(self, prepared: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """The features of pictures that lie on the network's device."""

    @torch.no_grad()
    def features(self, prepared: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Likewise, from the CPU to the CPU."""
        return self.forward(prepared.to(pick_device(self.device))).float().cpu()

    def __call__(self, pictures: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        return self.features(prepare_all(self, pictures))


def prepare_all(extractor: Extractor, pictures: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 h w"]:
    """Every picture as the network takes it."""
    return torch.stack([extractor.prepare(picture) for picture in pictures])


def compute_range(mean: Sequence[float], std: Sequence[float]) -> tuple[float, float]:
    """The lowest value of black pictures and the highest of white ones, normalised by channel."""
    pairs = list(zip(mean, std, strict=True))
    return min(-m / s for m, s in pairs), max((1 - m) / s for m, s in pairs)


def out_of_domain(network: DomainNetwork, domain: str | None) -> str | None:
    """Why a network is not asked about pictures of a benchmark's domain; None where it knows them."""
    if network.domain in (ANYTHING, domain):
        return None
    return f"the network knows only {network.domain}; networks=photographs takes others"
