"""The CLIP of Still Life that scores edits: open_clip's model, loss and layout; never what conditions the diffusion."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from open_clip import ClipLoss
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from eval.reporting.contact_sheet import draw_sheet
from eval.stilllife.scene import SPLITS, Scene, changes, generator, sample
from eval.stilllife.train.captions import LIMIT, shortened, write_tokenizer
from eval.stilllife.train.features import disturbed, to_pil
from eval.stilllife.train.loop import Schedule, rendered, stack

FIRST = len(SPLITS["train"]) // 2  # its seeds lie apart from those of the other networks
RIVALS = 16


class ClipPart:
    """Contrastive training on scenes and their edits: half of a batch differs from the other half in one phrase each.

    Args:
        width: of the embedding, and of the text tower.
        vision: channels of the residual network's stem.
        text_layers: of the text tower.
        validation: scenes to validate on.
        seed: of the weights.
    """

    def __init__(self, width: int, vision: int, text_layers: int, validation: int, seed: int) -> None:
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory() as folder:
            self.tokenizer = write_tokenizer(Path(folder))
        self.config = {
            "embed_dim": width,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": vision, "head_width": 64},
            "text_cfg": {
                "context_length": LIMIT,
                "vocab_size": len(self.tokenizer),
                "hf_tokenizer_name": "clip-still-life",  # with local-dir: the files beside the config
                "width": width,
                "heads": 4,
                "layers": text_layers,
                "pool_type": "eos",
                "eos_id": self.tokenizer.eos_token_id,
                "pad_id": self.tokenizer.pad_token_id,
            },
        }
        self.module = CLIP(**self.config)
        self.criterion, self.validation = ClipLoss(), validation

    def batches(self, schedule: Schedule, begin: int, out: Path) -> Iterator[tuple[Tensor, list[Scene]]]:
        """Fresh renders of scenes and of one edit of each, no caption twice in a batch."""
        return rendered(schedule, begin, pairs)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(b, 32) token ids."""
        return self.tokenizer(
            list(texts), padding="max_length", max_length=LIMIT, truncation=True, return_tensors="pt"
        ).input_ids

    def loss(self, images: Tensor, scenes: Sequence[Scene], draw: torch.Generator) -> Tensor:
        """CLIP's symmetric cross-entropy; a few captions are shortened."""
        words = np.random.default_rng(int(torch.randint(2**31, (1,), generator=draw)))
        texts = [shortened(scene, words) if words.random() < 0.1 else scene.caption() for scene in scenes]
        seen, said, scale = self.module(disturbed(images, draw) * 2 - 1, self.tokens(texts).to(images.device))
        return self.criterion(seen, said, scale)

    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """Share of pictures whose caption wins against 15 that differ in one phrase; the pictures that went wrong."""
        device = next(self.module.parameters()).device
        shown, right = [], []
        scenes = [sample(SPLITS["validation"][i]) for i in range(self.validation)]
        for i in range(0, len(scenes), 64):
            part = scenes[i : i + 64]
            pictures = stack(part)
            images = self.module.encode_image(pictures.to(device).float() / 127.5 - 1, normalize=True)
            for scene, picture, image in zip(part, pictures, images, strict=True):
                texts = [each.caption() for each in rivals(scene)]
                chosen = (
                    (self.module.encode_text(self.tokens(texts).to(device), normalize=True) @ image).argmax().item()
                )
                right.append(chosen == 0)
                if chosen and len(shown) < 24:
                    shown.append((f"{texts[chosen]} (is: {texts[0]})", to_pil(picture)))
        page = [shown[i : i + 6] for i in range(0, len(shown), 6)] or [[("none is wrong", Image.new("RGB", (64, 64)))]]
        return {"right_of_16": float(np.mean(right)), "scale": self.module.logit_scale.exp().item()}, draw_sheet(page)

    def export(self, folder: Path) -> None:
        """open_clip's layout (`local-dir:`), in half precision."""
        write_tokenizer(folder)
        scaling = {
            "size": 64,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        }
        config = {"model_cfg": self.config, "preprocess_cfg": scaling}
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
        weights = {name: value.detach().cpu().contiguous() for name, value in self.module.state_dict().items()}
        half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
        save_file(half, folder / "open_clip_model.safetensors")


def pairs(schedule: Schedule, step: int) -> list[Scene]:
    """Scenes of one step: each with one of its edits, none with the caption of another."""
    start = SPLITS["train"][FIRST + step * schedule.batch // 2]
    found: dict[str, Scene] = {}
    for seed in range(start, start + schedule.batch // 2):
        scene = sample(seed)
        draw = generator(seed, "pair")
        attribute = str(draw.choice(sorted({name for name, _ in changes(scene)})))
        edits = [each for name, each in changes(scene) if name == attribute]
        for each in (scene, edits[int(draw.integers(len(edits)))]):
            found.setdefault(each.caption(), each)
    return list(found.values())


def rivals(scene: Scene) -> list[Scene]:
    """The scene, then 15 of its one-phrase edits: every attribute, as evenly as it goes."""
    draw = generator(scene.seed, "rivals")
    ways: dict[str, list[Scene]] = {}
    for name, each in changes(scene):
        ways.setdefault(name, []).append(each)
    small = [each for name, edits in ways.items() if name != "fruits" for each in edits]
    fruits = [ways["fruits"][i] for i in draw.permutation(len(ways["fruits"]))]
    return [scene, *small, *fruits[: RIVALS - 1 - len(small)]]
