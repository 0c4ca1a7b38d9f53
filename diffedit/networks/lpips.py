"""LPIPS (Zhang et al., 2018) with its learnt heads, for photographs."""

import warnings
from pathlib import Path
from typing import Any, Literal

import lpips
import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffedit.io.checks import settings
from diffedit.io.device import pick_device
from diffedit.networks.base import FrozenNetwork
from diffedit.networks.weights import find_file, get_hub_folder, hash_files, read_tensors

BACKBONES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
SMALLEST = {"alex": 31, "vgg": 16, "squeeze": 17}
VERSION = "1"


@settings
class Lpips(FrozenNetwork):
    """The layers that LPIPS compares, and a weight for each of their channels.

    The weights of the channels come with the lpips package (v0.1), those of the network are torchvision's of ImageNet.

    Attributes:
        net: papers report `alex` mostly.
        weights: file of the network as torchvision publishes it; None looks where torch.hub downloads to.
        device: "auto" takes CUDA where there is one.
    """

    net: Literal["alex", "vgg", "squeeze"] = "alex"
    weights: str | None = None
    device: str = "auto"

    @property
    def smallest(self) -> int:
        """Side in pixels of the smallest picture that comes through every layer."""
        return SMALLEST[self.net]

    @property
    def heads(self) -> list[Float[Tensor, " _"]]:
        """A weight for each channel of each layer, on the network's device."""
        return [head.model[-1].weight.flatten() for head in self.network.lins]

    @torch.no_grad()
    def layers(self, images: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The activations of pictures in [0, 1], not yet normalised, on the network's device."""
        images = 2 * images.to(pick_device(self.device)) - 1
        return list(self.network.net(self.network.scaling_layer(images)))

    def load(self) -> tuple[Any, str]:
        """The network of the lpips package."""
        file = find_file(self.weights, [get_hub_folder() / BACKBONES[self.net]], "networks.lpips.weights")
        heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{self.net}.pth"
        network = build_empty(self.net)
        fill(network.net, file, {name: f"features.{name.partition('.')[2]}" for name in network.net.state_dict()})
        fill(network.lins, heads, {name: f"lin{name}" for name in network.lins.state_dict()})
        network = network.to(pick_device(self.device)).eval().requires_grad_(False)
        return network, hash_files([file, heads], (self.net, VERSION))


def build_empty(net: str) -> Any:
    """The network of the lpips package, without weights: one that is never filled cannot be run."""
    with torch.device("meta"), warnings.catch_warnings():
        for message in ("The parameter 'pretrained' is deprecated", "Arguments other than a weight enum"):
            warnings.filterwarnings("ignore", message, UserWarning)  # the package calls torchvision in an old way
        network = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    network.scaling_layer = lpips.ScalingLayer()  # its numbers are constants, and not in the files
    return network


def fill(part: nn.Module, file: Path, names: dict[str, str]) -> None:
    """Give a part its weights, all of them.

    Args:
        part: of the network.
        file: of named tensors.
        names: the part's name of each tensor to the file's.

    Raises:
        ValueError: the file lacks one, or has one of another shape.
    """
    state = read_tensors(file)
    if missing := [name for name in names.values() if name not in state]:
        raise ValueError(f"{file}: lacks {', '.join(missing[:4])}")
    try:
        part.load_state_dict({name: state[file_name].float() for name, file_name in names.items()}, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{file}: not these weights: {error}") from error
