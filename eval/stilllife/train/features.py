"""The feature network of Still Life: classifies what a picture holds; its activations measure."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from eval.reporting.contact_sheet import sheet
from eval.stilllife.network import StillLifeFeatures, agreement, labels
from eval.stilllife.scene import SPLITS, Scene, sample
from eval.stilllife.train.loop import Schedule, rendered, stack


class FeaturesPart:
    """Cross-entropy on every attribute, fruit as independent yes or no.

    Pictures are disturbed a little (noise, blur by down- and upsampling, brightness), so that the features also fit
    what an autoencoder and a diffusion model draw.

    Args:
        channels: of the stages.
        validation: images to validate on.
        seed: of the weights.
    """

    def __init__(self, channels: Sequence[int], validation: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.module = StillLifeFeatures(tuple(channels))
        self.validation = validation

    def batches(self, schedule: Schedule, begin: int, out: Path) -> Iterator[tuple[Tensor, list[Scene]]]:
        """Fresh renders."""
        return rendered(schedule, begin)

    def loss(self, images: Tensor, scenes: Sequence[Scene], draw: torch.Generator) -> Tensor:
        """Sum over the attributes."""
        seen = self.module(disturbed(images, draw))
        fruits, values = labels(list(scenes))
        loss = F.binary_cross_entropy_with_logits(seen.fruits, fruits.to(seen.fruits)) * 4
        return loss + sum(
            F.cross_entropy(logits, values[name].to(images.device)) for name, logits in seen.choices.items()
        )

    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """Accuracy of each attribute, and the pictures it got wrong."""
        device = next(self.module.parameters()).device
        scenes = [sample(SPLITS["validation"][i]) for i in range(self.validation)]
        right: dict[str, list[Tensor]] = {}
        wrong = []
        for i in range(0, len(scenes), 128):
            part = scenes[i : i + 128]
            pictures = stack(part)
            for name, good in agreement(self.module(pictures.to(device).float() / 255), part).items():
                right.setdefault(name, []).append(good.float())
                missed = zip(good, pictures, part, strict=True)
                wrong += [(name, to_pil(image), scene) for ok, image, scene in missed if not ok]
        shown = [(f"{name}: {scene.caption()}", image) for name, image, scene in wrong[:24]]
        page = sheet(
            [shown[i : i + 8] for i in range(0, len(shown), 8)] or [[("none is wrong", Image.new("RGB", (64, 64)))]]
        )
        return {name: torch.cat(each).mean().item() for name, each in right.items()}, page

    def export(self, folder: Path) -> None:
        """features.safetensors, in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half() if value.is_floating_point() else value for name, value in self.state().items()}
        save_file(weights, folder / "features.safetensors")

    def state(self) -> dict[str, Tensor]:
        """The weights and statistics, on the CPU."""
        return {name: value.detach().cpu().contiguous() for name, value in self.module.state_dict().items()}


def to_pil(image: Tensor) -> Image.Image:
    """One uint8 (3, h, w) picture."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def disturbed(images: Tensor, draw: torch.Generator) -> Tensor:
    """Half of the pictures blurred (down and up again), all a little noisy and of another brightness."""
    blurred = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
    count = len(images)
    blur, bright, noise = (torch.rand(count, 1, 1, 1, generator=draw).to(images) for _ in range(3))
    grain = torch.randn(images.shape, generator=draw).to(images)
    out = torch.where(blur < 0.5, blurred, images) * (0.92 + 0.16 * bright) + 0.05 * noise * grain
    return out.clamp(0, 1)
