"""The feature network of Still Life: a small ResNet that names fruit, vessel, table and wall of a picture."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn

from diffedit.io.checks import check_choices
from diffedit.io.files import resolve_path
from diffedit.networks import Domain, pick_device, prepare_all
from eval.benchmarks.imagenet_classes import Classes
from eval.stilllife.scene import ATTRIBUTES, CHOICES, FRUITS, Scene


class Seen(NamedTuple):
    """What the network sees in b pictures.

    Attributes:
        features: pooled activations, (b, width): what Inception's pool3 is for photographs.
        fruits: a logit for each kind, (b, 12).
        choices: logits of vessel, table and wall.
    """

    features: Float[Tensor, "b width"]
    fruits: Float[Tensor, "b kinds"]
    choices: dict[str, Float[Tensor, "b values"]]


class Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut; the first may halve the side."""

    def __init__(self, taken: int, given: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(taken, given, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(given, given, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(given), nn.BatchNorm2d(given)])
        self.shortcut = (
            nn.Conv2d(taken, given, 1, stride, bias=False) if (taken, 1) != (given, stride) else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, taken, h, w) to (b, given, h / stride, w / stride)."""
        out = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(out)) + self.shortcut(x))


class StillLifeFeatures(nn.Module):
    """Pictures (b, 3, 64, 64) in [0, 1] to `Seen`.

    Args:
        channels: of the stages; each but the first halves the side.
    """

    def __init__(self, channels: tuple[int, ...] | list[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 3, 1, 1)
        pairs = zip((channels[0], *channels[:-1]), channels, strict=True)
        self.stages = nn.ModuleList([Block(a, b, 2 if i else 1) for i, (a, b) in enumerate(pairs)])
        self.heads = nn.ModuleDict({name: nn.Linear(channels[-1], len(values)) for name, values in ATTRIBUTES.items()})

    def activations(self, images: Float[Tensor, "b 3 64 64"]) -> list[Tensor]:
        """The output of every stage: what LPIPS compares."""
        x, out = self.stem(images * 2 - 1), []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def forward(self, images: Float[Tensor, "b 3 64 64"]) -> Seen:
        """Features and logits."""
        return self.judge(self.activations(images)[-1])

    def judge(self, last: Float[Tensor, "b c h w"]) -> Seen:
        """Features and logits from the last stage's output."""
        features = last.mean((2, 3))
        choices = {name: self.heads[name](features) for name in CHOICES}
        return Seen(features, self.heads["fruits"](features), choices)


def labels(scenes: list[Scene]) -> tuple[Bool[Tensor, "b kinds"], dict[str, Int[Tensor, " b"]]]:
    """(which fruit are there, index of vessel, table and wall) of some scenes."""
    fruits = torch.tensor([[kind in scene.fruits for kind in ATTRIBUTES["fruits"]] for scene in scenes])
    values = {name: [ATTRIBUTES[name].index(getattr(scene, name)) for scene in scenes] for name in CHOICES}
    return fruits, {name: torch.tensor(each) for name, each in values.items()}


def agreement(seen: Seen, scenes: list[Scene]) -> dict[str, Bool[Tensor, " b"]]:
    """For each attribute, whether the network sees what the scene holds: for fruit, exactly its kinds."""
    fruits, values = labels(scenes)
    device = seen.features.device
    right = {"fruits": ((seen.fruits > 0) == fruits.to(device)).all(1)}
    return right | {name: seen.choices[name].argmax(1) == values[name].to(device) for name in CHOICES}


class StillLifeNetwork:
    """The trained network, and what it said of the last few batches: several metrics ask about the same pictures.

    It is a `Perceptual`: LPIPS compares its stages, all channels alike.

    Args:
        network: in evaluation mode.
        hash: of its weights.
        domain: what pictures it may be asked about.
        keep: batches to remember.
    """

    def __init__(self, network: StillLifeFeatures, hash: str, domain: Domain = "stilllife", keep: int = 3) -> None:
        self.network, self.hash, self.domain, self.keep = network, hash, domain, keep
        self.device = next(network.parameters()).device
        self.past: OrderedDict[int, tuple[Tensor, list[Tensor]]] = OrderedDict()

    smallest, heads = 64, None

    @torch.no_grad()
    def layers(self, images: Float[Tensor, "b 3 64 64"]) -> list[Tensor]:
        """The output of every stage. A batch is known again by being the same object, which must not be changed."""
        if id(images) not in self.past:
            self.past[id(images)] = images, self.network.activations(images.to(self.device))
            if len(self.past) > self.keep:
                self.past.popitem(last=False)
        self.past.move_to_end(id(images))
        return self.past[id(images)][1]

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 64 64"]) -> Seen:
        """Features and logits, on the CPU."""
        seen = self.network.judge(self.layers(images)[-1])
        return Seen(seen.features.cpu(), seen.fruits.cpu(), {name: each.cpu() for name, each in seen.choices.items()})


@lru_cache(2)
def load(path: str, device: str = "auto", domain: Domain = "stilllife") -> StillLifeNetwork:
    """The trained network, one for all who ask; a FileNotFoundError where the file is not there."""
    file = resolve_path(path) / "features.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; train it by scripts/train_stilllife.py training=features")
    weights = {name: value.float() if value.is_floating_point() else value for name, value in load_file(file).items()}
    channels = [weights[f"stages.{i}.first.weight"].shape[0] for i in range(4)]
    network = StillLifeFeatures(channels)
    network.load_state_dict(weights)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return StillLifeNetwork(network.eval().requires_grad_(False).to(pick_device(device)), digest, domain)


@dataclass(frozen=True)
class StillLifeExtractor:
    """The feature network as an extractor: of pooled features, or of the logits that it judges by.

    Attributes:
        weights: folder of the network.
        output: `features`, what Inception's pool3 is for photographs; `logits`, of all its `labels`.
        device: "auto" takes CUDA where there is one.
        classes: class index whose names are the plurals of the kinds: their logits are then labelled by its wnids.
        domain: `anything` where the pictures are Still Life's and their benchmark does not say so: those of files.
    """

    weights: str = "weights/stilllife_features"
    output: Literal["features", "logits"] = "features"
    device: str = "auto"
    classes: str | None = None
    domain: Domain = "stilllife"

    resize = "none: pictures are 64 x 64"
    range = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_choices(self)
        load(self.weights, self.device)  # a missing file stops before any work

    @property
    def name(self) -> str:
        """Of network and output."""
        return f"stilllife-{self.output}"

    @property
    def hash(self) -> str:
        """Names weights and output."""
        return f"{load(self.weights, self.device).hash}-{self.output}"

    @property
    def labels(self) -> tuple[str, ...]:
        """What each logit is of: the kinds of fruit, then vessel:bowl and so on."""
        others = (f"{name}:{value}" for name in CHOICES for value in ATTRIBUTES[name])
        if self.classes is None:
            return (*ATTRIBUTES["fruits"], *others)
        wnids = {each.name: wnid for wnid, each in Classes(resolve_path(self.classes)).by_wnid.items()}
        if lacking := sorted(set(FRUITS.values()) - set(wnids)):
            raise ValueError(f"networks.classifier.classes = {self.classes}: no class named {', '.join(lacking)}")
        return (*(wnids[FRUITS[kind]] for kind in ATTRIBUTES["fruits"]), *others)

    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 64 64"]:
        """In [0, 1]; a ValueError for another size, which the network would take and misjudge."""
        if picture.shape[1:] != (64, 64):
            raise ValueError(f"{self.name} takes pictures of 64 x 64, not {tuple(picture.shape[1:])} (side=64)")
        return picture.float() / 255

    @torch.no_grad()
    def features(self, prepared: Float[Tensor, "b 3 64 64"]) -> Float[Tensor, "b d"]:
        """Features, or logits."""
        judge = load(self.weights, self.device)
        seen = judge.network(prepared.to(judge.device))
        found = [seen.features] if self.output == "features" else [seen.fruits, *(seen.choices[n] for n in CHOICES)]
        return torch.cat(found, 1).cpu()

    def __call__(self, pictures: UInt8[Tensor, "b 3 64 64"]) -> Float[Tensor, "b d"]:
        """Of pictures."""
        return self.features(prepare_all(self, pictures))


@dataclass(frozen=True)
class StillLifeTokens:
    """Places of the third stage (16 x 16) as tokens: plays the keys of DINO in the structure distance.

    Attributes:
        weights: folder of the network.
        device: "auto" takes CUDA where there is one.
    """

    weights: str = "weights/stilllife_features"
    device: str = "auto"

    domain = "stilllife"

    @property
    def hash(self) -> str:
        """Names the weights."""
        return f"{load(self.weights, self.device).hash}-tokens"

    def tokens(self, images: Float[Tensor, "b 3 64 64"]) -> Float[Tensor, "b places channels"]:
        """One vector a place."""
        return load(self.weights, self.device).layers(images)[2].flatten(2).transpose(1, 2)
