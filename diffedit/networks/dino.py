"""DINO's keys, which say what lies where in a picture and little of what it looks like (Splice, PIE-Bench)."""

from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional as V
from transformers import ViTModel

from diffedit.io.checks import Count, settings
from diffedit.io.device import pick_device
from diffedit.networks.base import FrozenNetwork
from diffedit.networks.weights import CONFIG, TENSORS, find_checkpoint, hash_files, load_pretrained

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet
VERSION = "1"


@settings
class DinoKeys(FrozenNetwork):
    """Pictures to the keys of one attention block, a vector for each patch.

    Attributes:
        model: a folder, or a name of the Hugging Face hub.
        layer: block, counted from 0.
        side: that pictures are resized to, square; positions are interpolated where the network knows another.
        device: "auto" takes CUDA where there is one.
    """

    model: str = "facebook/dino-vitb8"
    layer: Annotated[int, Ge(0)] = 11
    side: Count = 224
    device: str = "auto"
    name: ClassVar[str] = "dino-keys"

    @torch.no_grad()
    def tokens(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b t d"]:
        """The keys of the class token and then of every patch, all heads beside each other, on the network's device.

        Pictures should be in [0, 1], and are not checked: PIE-Bench feeds values up to 255, and its caller must, too.
        """
        outputs: list[Tensor] = []
        projection = self.network.layers[self.layer].attention.k_proj
        hook = projection.register_forward_hook(lambda module, args, output: outputs.append(output))
        try:
            self.encode(images)
        finally:
            hook.remove()
        return outputs[0]

    def encode(self, images: Float[Tensor, "b 3 H W"]) -> Any:
        """What the transformer makes of pictures, resized and normalised, on the network's device."""
        images = V.resize(images.to(pick_device(self.device)), [self.side, self.side], antialias=True)
        return self.network(V.normalize(images, MEAN, STD), interpolate_pos_encoding=True)

    def load(self) -> tuple[Any, str]:
        """The vision transformer; a ValueError for a block that it does not have."""
        path = find_checkpoint(self.model, [CONFIG, TENSORS], "networks.structure.model")
        network = load_pretrained(partial(ViTModel.from_pretrained, add_pooling_layer=False), path)
        blocks, patch = network.config.num_hidden_layers, network.config.patch_size
        if not 0 <= self.layer < blocks or self.side % patch:
            raise ValueError(f"networks.structure: {self.model} has {blocks} blocks and patches of {patch}: {self}")
        identity = self.name, self.layer, self.side, "bilinear, antialiased", MEAN, STD, VERSION
        return network.to(pick_device(self.device)), hash_files([path / CONFIG, path / TENSORS], identity)
