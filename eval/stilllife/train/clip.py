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
from safetensors.torch import save
from torch import Tensor

from diffedit.io.files import write
from diffedit.io.images import to_pil
from eval.reporting.contact_sheet import draw_sheet
from eval.stilllife.scene import SPLITS, Scene, list_changes, make_generator
from eval.stilllife.train.captions import LIMIT, shorten_caption, write_tokenizer
from eval.stilllife.train.features import disturb
from eval.stilllife.train.loop import Part, TrainingSchedule, chunk, render_batches, render_scenes, sample_split

FIRST = len(SPLITS["train"]) // 2  # its seeds lie apart from those of the other networks
RIVALS = 16


class ClipPart(Part):
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

    def batches(self, schedule: TrainingSchedule, begin: int, out: Path) -> Iterator[tuple[Tensor, list[Scene]]]:
        """New renders of scenes and of one edit of each, no caption twice in a batch."""
        return render_batches(schedule, begin, sample_pairs)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(b, 32) token ids."""
        return self.tokenizer(
            list(texts), padding="max_length", max_length=LIMIT, truncation=True, return_tensors="pt"
        ).input_ids

    def loss(self, inputs: Tensor, scenes: Sequence[Scene], rng: torch.Generator) -> Tensor:
        """CLIP's symmetric cross-entropy; a few captions are shortened."""
        words = np.random.default_rng(int(torch.randint(2**31, (1,), generator=rng)))
        texts = [shorten_caption(scene, words) if words.random() < 0.1 else scene.caption() for scene in scenes]
        images = disturb(inputs, rng) * 2 - 1
        return self.criterion(*self.module(images, self.tokens(texts).to(inputs.device)))

    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """Share of pictures whose caption wins against 15 that differ in one phrase; the pictures that went wrong."""
        shown, right = [], []
        scenes = sample_split("validation", 0, self.validation)
        for i in range(0, len(scenes), 64):
            part = scenes[i : i + 64]
            pictures = render_scenes(part).float()
            embeddings = self.module.encode_image(pictures.to(self.device) / 127.5 - 1, normalize=True)
            for scene, picture, embedding in zip(part, pictures, embeddings, strict=True):
                texts = [rival.caption() for rival in list_rivals(scene)]
                rivals = self.module.encode_text(self.tokens(texts).to(self.device), normalize=True)
                winner = (rivals @ embedding).argmax().item()
                right.append(winner == 0)
                if winner and len(shown) < 24:
                    shown.append((f"{texts[winner]} (is: {texts[0]})", to_pil(picture / 255)))
        page = draw_sheet(chunk(shown, 6) or [[("none is wrong", Image.new("RGB", (64, 64)))]])
        return {"right_of_16": float(np.mean(right)), "scale": self.module.logit_scale.exp().item()}, page

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
        write(folder / "open_clip_config.json", json.dumps(config, indent=1).encode())
        write(folder / "open_clip_model.safetensors", save(self.half_state()))


def sample_pairs(schedule: TrainingSchedule, step: int) -> list[Scene]:
    """Scenes of one step: each with one of its edits, none with the caption of another."""
    by_caption: dict[str, Scene] = {}
    for scene in sample_split("train", FIRST + step * schedule.batch // 2, schedule.batch // 2):
        rng = make_generator(scene.seed, "pair")
        attribute = str(rng.choice(sorted({name for name, _ in list_changes(scene)})))
        edits = [edit for name, edit in list_changes(scene) if name == attribute]
        for member in (scene, edits[int(rng.integers(len(edits)))]):
            by_caption.setdefault(member.caption(), member)
    return list(by_caption.values())


def list_rivals(scene: Scene) -> list[Scene]:
    """The scene, then 15 of its one-phrase edits: every attribute, as evenly as it goes."""
    rng = make_generator(scene.seed, "rivals")
    edits: dict[str, list[Scene]] = {}
    for name, edit in list_changes(scene):
        edits.setdefault(name, []).append(edit)
    fruits = edits.pop("fruits")
    others = [edit for group in edits.values() for edit in group]
    fruits = [fruits[i] for i in rng.permutation(len(fruits))]
    return [scene, *others, *fruits[: RIVALS - 1 - len(others)]]
