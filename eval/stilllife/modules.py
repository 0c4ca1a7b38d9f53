"""The architectures of Still Life's judges: what they share, a small ResNet, and one that is built otherwise.

A file of weights says in its metadata which it is of; one that says nothing is of the ResNet, which came first.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from eval.stilllife.scene import ATTRIBUTES, CHOICES


class StillLifeOutput(NamedTuple):
    """What a network gives for b pictures.

    Attributes:
        features: pooled activations, (b, width): what Inception's pool3 is for photographs.
        fruits: a logit for each kind, (b, 12).
        choices: logits of vessel, table and wall.
    """

    features: Float[Tensor, "b width"]
    fruits: Float[Tensor, "b kinds"]
    choices: dict[str, Float[Tensor, "b values"]]


class FeatureModule(nn.Module):
    """Pictures (b, 3, 64, 64) in [0, 1] to a `StillLifeOutput`; a subclass says what its stages are.

    Attributes:
        stages: each gives what LPIPS compares; the third has 16 x 16 places, which are the tokens.
        heads: a classifier for each attribute on the pooled output of the last stage.
    """

    stages: nn.ModuleList
    heads: nn.ModuleDict

    @classmethod
    @abstractmethod
    def shaped_as(cls, weights: Mapping[str, Tensor]) -> "FeatureModule":
        """A module that has the channels of these weights, which it is not given yet."""

    @property
    def width(self) -> int:
        """Of the features."""
        return self.heads["fruits"].in_features

    def enter(self, images: Float[Tensor, "b 3 H W"]) -> Tensor:
        """What the first stage is given."""
        return images * 2 - 1

    def activations(self, images: Float[Tensor, "b 3 H W"]) -> list[Tensor]:
        """The output of every stage: what LPIPS compares."""
        x, out = self.enter(images), []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def forward(self, images: Float[Tensor, "b 3 64 64"]) -> StillLifeOutput:
        return self.classify(self.activations(images)[-1])

    def classify(self, last: Float[Tensor, "b c h w"]) -> StillLifeOutput:
        """Features and logits from the last stage's output."""
        features = last.mean((2, 3))
        choices = {name: self.heads[name](features) for name in CHOICES}
        return StillLifeOutput(features, self.heads["fruits"](features), choices)


def make_heads(width: int) -> nn.ModuleDict:
    """A linear classifier for each attribute."""
    return nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in ATTRIBUTES.items()})


# -------------------------------------------------------------------------------------------------------- the first one


class Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut; the first may halve the side."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels_out), nn.BatchNorm2d(channels_out)])
        is_same = (channels_in, 1) == (channels_out, stride)
        self.shortcut = nn.Identity() if is_same else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "b channels_in h w"]) -> Float[Tensor, "b channels_out _ _"]:
        out = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(out)) + self.shortcut(x))


class StillLifeFeatures(FeatureModule):
    """A ResNet with batch norm.

    Args:
        channels: of the stages; each but the first halves the side.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 3, 1, 1)
        pairs = zip((channels[0], *channels[:-1]), channels, strict=True)
        self.stages = nn.ModuleList([Block(a, b, 2 if i else 1) for i, (a, b) in enumerate(pairs)])
        self.heads = make_heads(channels[-1])

    @classmethod
    def shaped_as(cls, weights: Mapping[str, Tensor]) -> "FeatureModule":
        """The channels of the stages' first convolutions."""
        return cls([weights[f"stages.{i}.first.weight"].shape[0] for i in range(4)])

    def enter(self, images: Float[Tensor, "b 3 H W"]) -> Tensor:
        """The stem's output."""
        return self.stem(images * 2 - 1)


# ------------------------------------------------------------------------------------------------------- the second one


class PlainFeatures(FeatureModule):
    """A VGG-like network with group norm and GELU: no shortcut, no batch statistics, max pooling between its stages.

    Args:
        channels: of the stages, multiples of 8; each but the first begins with a pooling that halves the side.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 96, 160)) -> None:
        super().__init__()
        pairs = enumerate(zip((3, *channels[:-1]), channels, strict=True))
        self.stages = nn.ModuleList([self.make_stage(a, b, 2 if i else 1) for i, (a, b) in pairs])
        self.heads = make_heads(channels[-1])

    @staticmethod
    def make_stage(channels_in: int, channels_out: int, depth: int) -> nn.Sequential:
        """One convolution at full size, where they are costly; two behind each pooling."""
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if depth > 1 else []
        for i in range(depth):
            convolution = nn.Conv2d(channels_out if i else channels_in, channels_out, 3, 1, 1, bias=False)
            layers += [convolution, nn.GroupNorm(8, channels_out), nn.GELU()]
        return nn.Sequential(*layers)

    @classmethod
    def shaped_as(cls, weights: Mapping[str, Tensor]) -> "FeatureModule":
        """The channels of the stages' last normalisations."""
        return cls([weights[f"stages.{i}.{5 if i else 1}.weight"].shape[0] for i in range(4)])


ARCHITECTURES: dict[str, type[FeatureModule]] = {"resnet": StillLifeFeatures, "plain": PlainFeatures}


def name_architecture(kind: type[FeatureModule]) -> str:
    """What the metadata of its weights say."""
    return next(name for name, known in ARCHITECTURES.items() if kind is known)
