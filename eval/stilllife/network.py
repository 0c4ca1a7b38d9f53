"""The judges of Still Life: networks that name fruit, vessel, table and wall of a picture, loaded and asked."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from diffedit.io.cache import BatchCache
from diffedit.io.checks import settings
from diffedit.io.device import pick_device
from diffedit.io.files import resolve_path
from diffedit.networks import FrozenExtractor, FrozenNetwork
from eval.benchmarks.imagenet_classes import Classes
from eval.stilllife.modules import ARCHITECTURES, FeatureModule, StillLifeOutput
from eval.stilllife.render import RESOLUTION
from eval.stilllife.scene import ATTRIBUTES, CHOICES, FRUITS, Scene
from eval.stilllife.whitening import Whitening, hash_weights, load_whitening

FILE = "features.safetensors"
FIRST_ARCHITECTURE = "resnet"  # of files that name none


def encode_labels(scenes: list[Scene]) -> tuple[Bool[Tensor, "b kinds"], dict[str, Int[Tensor, " b"]]]:
    """(which fruit are there, index of vessel, table and wall) of some scenes."""
    fruits = torch.tensor([[kind in scene.fruits for kind in ATTRIBUTES["fruits"]] for scene in scenes])
    indices = {name: [ATTRIBUTES[name].index(getattr(scene, name)) for scene in scenes] for name in CHOICES}
    return fruits, {name: torch.tensor(column) for name, column in indices.items()}


def check_attributes(output: StillLifeOutput, scenes: list[Scene]) -> dict[str, Bool[Tensor, " b"]]:
    """For each attribute, whether the network names what the scene holds: for fruit, exactly its kinds."""
    fruits, indices = encode_labels(scenes)
    device = output.features.device
    right = {"fruits": ((output.fruits > 0) == fruits.to(device)).all(1)}
    return right | {name: output.choices[name].argmax(1) == indices[name].to(device) for name in CHOICES}


class StillLifeNetwork:
    """The trained network, and its activations of the last few batches: several metrics ask about the same pictures.

    It is a `Perceptual`: LPIPS compares its stages, all channels alike.

    Args:
        module: in evaluation mode.
        hash: of its weights.
    """

    domain: ClassVar = "stilllife"
    smallest: ClassVar = RESOLUTION
    heads: ClassVar = None

    def __init__(self, module: FeatureModule, hash: str) -> None:
        self.module, self.hash = module, hash
        self.device = next(module.parameters()).device
        self.cache = BatchCache(5e8)

    @torch.no_grad()
    def layers(self, images: Float[Tensor, "b 3 H W"]) -> list[Tensor]:
        """The output of every stage, on the network's device; kept for the same object, which must not be changed."""
        return self.cache.get("layers", images, lambda: self.module.activations(images.to(self.device)))

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 64 64"]) -> StillLifeOutput:
        """Features and logits, on the CPU."""
        output = self.module.classify(self.layers(images)[-1])
        choices = {name: logits.cpu() for name, logits in output.choices.items()}
        return StillLifeOutput(output.features.cpu(), output.fruits.cpu(), choices)


@lru_cache(4)
def load(path: str, device: str = "auto") -> StillLifeNetwork:
    """The trained network, one for all who ask.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is of an architecture that this code does not have, or does not fit its own.
    """
    file = resolve_path(path) / FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; train it by scripts/train_stilllife.py training=features")
    kind = read_architecture(file)
    try:
        return build(load_file(file), hash_weights(file.read_bytes()), device, kind)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{file}: no weights of the architecture {kind} ({error})") from error


def read_architecture(file: Path) -> str:
    """What the metadata of a file of weights say that they are of; the ResNet where they say nothing."""
    with safe_open(file, "pt") as opened:
        name = (opened.metadata() or {}).get("architecture", FIRST_ARCHITECTURE)
    if name not in ARCHITECTURES:
        raise ValueError(f"{file}: architecture {name} is none of {', '.join(ARCHITECTURES)}; a newer release has it")
    return name


def build(
    weights: Mapping[str, Tensor], hash: str, device: str = "cpu", architecture: str = FIRST_ARCHITECTURE
) -> StillLifeNetwork:
    """A network of these weights, in any precision."""
    weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    module = ARCHITECTURES[architecture].shaped_as(weights)
    module.load_state_dict(weights)
    return StillLifeNetwork(module.eval().requires_grad_(False).to(pick_device(device)), hash)


@settings
class StillLifeExtractor(FrozenExtractor):
    """The feature network as an extractor: of pooled features, or of the logits that it classifies by.

    Attributes:
        weights: folder of the network.
        output: `features`, what Inception's pool3 is for photographs; `whitened`, these by the fixed whitening beside
            the network, for kernels; `logits`, of all its `labels`.
        device: "auto" takes CUDA where there is one.
        classes: class index whose names are the plurals of the kinds: their logits are then labelled by its wnids.
    """

    weights: str = "weights/stilllife_features"
    output: Literal["features", "whitened", "logits"] = "features"
    device: str = "auto"
    classes: str | None = None

    domain: ClassVar[str] = "stilllife"
    resize: ClassVar[str] = "none: pictures are 64 x 64, and of others the middle"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def name(self) -> str:
        return f"stilllife-{self.output}"

    @property
    def labels(self) -> tuple[str, ...]:
        """What each logit is of: the kinds of fruit, then vessel:bowl and so on."""
        choices = (f"{name}:{value}" for name in CHOICES for value in ATTRIBUTES[name])
        if self.classes is None:
            return (*ATTRIBUTES["fruits"], *choices)
        wnids = {entry.name: wnid for wnid, entry in Classes(resolve_path(self.classes)).by_wnid.items()}
        if lacking := sorted(set(FRUITS.values()) - set(wnids)):
            raise ValueError(f"networks.classifier.classes = {self.classes}: no class named {', '.join(lacking)}")
        return (*(wnids[FRUITS[kind]] for kind in ATTRIBUTES["fruits"]), *choices)

    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 64 64"]:
        """The middle square in [0, 1]; a ValueError for another scale, which the network would take and misjudge."""
        height, width = picture.shape[1:]
        if min(height, width) != RESOLUTION:
            size = (height, width)
            raise ValueError(f"{self.name} takes pictures of 64 x 64, not {size} (resolution={RESOLUTION})")
        top, left = (height - RESOLUTION) // 2, (width - RESOLUTION) // 2
        return picture[:, top : top + RESOLUTION, left : left + RESOLUTION].float() / 255

    def forward(self, prepared: Float[Tensor, "b 3 64 64"]) -> Float[Tensor, "b d"]:
        output = self.network.module(prepared)
        if self.output == "features":
            return output.features
        if self.output == "whitened":
            return self.whitening(output.features)
        return torch.cat([output.fruits, *(output.choices[name] for name in CHOICES)], 1)

    def load(self) -> tuple[StillLifeNetwork, str]:
        """The network that all share; the hash names its output, too, and the whitening that it went through."""
        network = load(self.weights, self.device)
        if self.output != "whitened":
            return network, f"{network.hash}-{self.output}"
        width = network.module.width
        return network, f"{network.hash}-whitened-{load_whitening(self.weights, network.hash, width).hash}"

    @property
    def whitening(self) -> Whitening:
        """That of the network's folder."""
        return load_whitening(self.weights, self.network.hash, self.network.module.width)


@settings
class StillLifeTokens(FrozenNetwork):
    """Places of the third stage (16 x 16) as tokens: plays the keys of DINO in the structure distance.

    Attributes:
        weights: folder of the network.
        device: "auto" takes CUDA where there is one.
    """

    weights: str = "weights/stilllife_features"
    device: str = "auto"

    domain: ClassVar[str] = "stilllife"

    def tokens(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b places channels"]:
        """One vector a place."""
        return self.network.layers(images)[2].flatten(2).transpose(1, 2)

    def load(self) -> tuple[StillLifeNetwork, str]:
        """The network that all share."""
        network = load(self.weights, self.device)
        return network, f"{network.hash}-tokens"
