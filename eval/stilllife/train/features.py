"""The feature network of Still Life: classifies what a picture holds; its activations measure."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from diffedit.io.files import write
from diffedit.io.images import to_pil
from eval.reporting.contact_sheet import draw_sheet
from eval.stilllife.modules import FeatureModule, StillLifeFeatures, name_architecture
from eval.stilllife.network import FILE as WEIGHTS
from eval.stilllife.network import FIRST_ARCHITECTURE, build, check_attributes, encode_labels
from eval.stilllife.scene import Scene
from eval.stilllife.train.loop import Part, chunk, render_scenes, sample_split
from eval.stilllife.whitening import FILE, fit_whitening, hash_weights


class FeaturesPart(Part):
    """Cross-entropy on every attribute, fruit as independent yes or no.

    Pictures are disturbed a little (noise, blur by down- and upsampling, brightness), so that the features also fit
    what an autoencoder and a diffusion model draw.

    Args:
        channels: of the stages.
        validation: images to validate on.
        seed: of the weights.
        whitening: renders of the training split, the first ones it may see, by which features are whitened.
    """

    kind: ClassVar[type[FeatureModule]] = StillLifeFeatures
    first: ClassVar[int] = 0  # of the training split
    first_validation: ClassVar[int] = 0  # of the validation split

    def __init__(self, channels: Sequence[int], validation: int, seed: int, whitening: int) -> None:
        torch.manual_seed(seed)
        self.module = self.kind(tuple(channels))
        self.validation, self.whitening = validation, whitening

    def loss(self, inputs: Tensor, scenes: Sequence[Scene], rng: torch.Generator) -> Tensor:
        """Sum over the attributes."""
        output = self.module(self.augment(inputs, rng))
        fruits, indices = encode_labels(list(scenes))
        loss = F.binary_cross_entropy_with_logits(output.fruits, fruits.to(output.fruits)) * 4
        return loss + sum(
            F.cross_entropy(logits, indices[name].to(inputs.device)) for name, logits in output.choices.items()
        )

    def augment(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """The pictures as the network is trained on them."""
        return disturb(images, rng)

    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """Accuracy of each attribute, and the pictures it got wrong."""
        scenes = sample_split("validation", self.first_validation, self.validation)
        right: dict[str, list[Tensor]] = {}
        wrong = []
        for i in range(0, len(scenes), 128):
            part = scenes[i : i + 128]
            pictures = render_scenes(part).float() / 255
            for name, column in check_attributes(self.module(pictures.to(self.device)), part).items():
                right.setdefault(name, []).append(column.float())
                triples = zip(column, pictures, part, strict=True)
                wrong += [(f"{name}: {scene.caption()}", picture) for ok, picture, scene in triples if not ok]
        shown = [(caption, to_pil(picture)) for caption, picture in wrong[:24]]
        page = draw_sheet(chunk(shown) or [[("none is wrong", Image.new("RGB", (64, 64)))]])
        return {name: torch.cat(columns).mean().item() for name, columns in right.items()}, page

    def export(self, folder: Path) -> None:
        """features.safetensors and the whitening of its features, in half precision."""
        state, architecture = self.half_state(), name_architecture(self.kind)
        data = save(state, None if architecture == FIRST_ARCHITECTURE else {"architecture": architecture})
        write(folder / WEIGHTS, data)
        network = build(state, hash_weights(data), architecture=architecture)
        parts = chunk(sample_split("train", self.first, self.whitening), 128)
        features = torch.cat([network(render_scenes(part).float() / 255).features for part in parts])
        write(folder / FILE, fit_whitening(features).to_bytes(network.hash))


def disturb(images: Tensor, rng: torch.Generator) -> Tensor:
    """Half of the pictures blurred (down and up again), all a little noisy and of another brightness."""
    blurred = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
    count = len(images)
    blur, bright, noise = (torch.rand(count, 1, 1, 1, generator=rng).to(images) for _ in range(3))
    grain = torch.randn(images.shape, generator=rng).to(images)
    out = torch.where(blur < 0.5, blurred, images) * (0.92 + 0.16 * bright) + 0.05 * noise * grain
    return out.clamp(0, 1)
