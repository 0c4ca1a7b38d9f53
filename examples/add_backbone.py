"""A family of backbones of one's own: Stable Diffusion XL, whose texts have two encoders and a pooled vector.

python scripts/run.py --include examples backbone=sdxl benchmark=folder benchmark.path=edits.csv
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from diffedit.backbones.loading import read_tokenizer
from diffedit.backbones.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """As Stable Diffusion, but for the texts and what its UNet is given of the picture's size."""

    def load_text_encoders(self, path: str) -> None:
        """CLIP's encoder, and OpenCLIP's with its projection."""
        super().load_text_encoders(path)
        self.text_encoder_2 = self.load(CLIPTextModelWithProjection, path, "text_encoder_2", self.dtype)
        self.tokenizer_2 = read_tokenizer(path, self.text_encoder_2.config, self.hub, "tokenizer_2")

    def embed(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """(both encoders' states before the last, side by side, and the second's pooled vector) for each text."""
        pairs = ((self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2))
        one, two = (self.encode_texts(*pair, texts, output_hidden_states=True) for pair in pairs)
        states = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1)
        return list(zip(states, two.text_embeds, strict=True))

    def condition(self, conds: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """States, pooled vectors, and the size: original and target as the resolution, nothing cropped."""
        states, pooled = (torch.stack(part) for part in zip(*conds, strict=True))
        side = self.resolution
        sizes = torch.tensor([[side, side, 0, 0, side, side]], device=self.device, dtype=pooled.dtype)
        added = {"text_embeds": pooled, "time_ids": sizes.expand(len(pooled), -1)}
        return {"encoder_hidden_states": states, "added_cond_kwargs": added}
