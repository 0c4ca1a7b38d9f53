"""DINO's keys, which say what lies where in a picture and little of what it looks like (Splice, PIE-Bench)."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional as V
from transformers import ViTModel

from diffedit.networks import Domain, pick_device
from diffedit.networks.weights import CONFIG, TENSORS, digest, folder, pretrained

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet
VERSION = "1"


@dataclass(frozen=True)
class DinoKeys:
    """Pictures to the keys of one attention block, a vector for each patch.

    Attributes:
        model: a folder, or a name of the Hugging Face hub.
        layer: block, counted from 0.
        side: that pictures are resized to, square; positions are interpolated where the network knows another.
        device: "auto" takes CUDA where there is one.
    """

    model: str = "facebook/dino-vitb8"
    layer: int = 11
    side: int = 224
    device: str = "auto"
    name: ClassVar[str] = "dino-keys"
    domain: ClassVar[Domain] = "anything"

    def __post_init__(self) -> None:
        loaded(self)  # a missing file stops before any work

    @property
    def hash(self) -> str:
        """Names weights, block and preparation."""
        return loaded(self)[1]

    @torch.no_grad()
    def tokens(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b t d"]:
        """The keys of the class token and then of every patch, all heads beside each other, on the network's device.

        Pictures should be in [0, 1], and are not checked: PIE-Bench feeds values up to 255, and its caller must, too.
        """
        network, seen = loaded(self)[0], []
        images = V.resize(images.to(pick_device(self.device)), [self.side, self.side], antialias=True)
        keys = network.layers[self.layer].attention.k_proj
        hook = keys.register_forward_hook(lambda _, taken, given: seen.append(given))
        try:
            network(V.normalize(images, MEAN, STD), interpolate_pos_encoding=True)
        finally:
            hook.remove()
        return seen[0]


@lru_cache(2)
def loaded(keys: DinoKeys) -> tuple[Any, str]:
    """(network, hash); a FileNotFoundError where there are no weights, a ValueError for a block that is not there."""
    path = folder(keys.model, [CONFIG, TENSORS], "networks.structure.model")
    network = pretrained(partial(ViTModel.from_pretrained, add_pooling_layer=False), path)
    blocks, patch = network.config.num_hidden_layers, network.config.patch_size
    if not 0 <= keys.layer < blocks or keys.side % patch:
        raise ValueError(f"networks.structure: {keys.model} has {blocks} blocks and patches of {patch}: {keys}")
    told = keys.name, keys.layer, keys.side, "bilinear, antialiased", MEAN, STD, VERSION
    return network.to(pick_device(keys.device)), digest([path / CONFIG, path / TENSORS], told)
