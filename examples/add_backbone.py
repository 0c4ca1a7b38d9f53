"""A family of backbones of one's own: Stable Diffusion XL, whose texts have two encoders and a pooled vector.

diffedit run --include examples backbone=sdxl benchmark=folder benchmark.path=edits.csv
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from diffedit.backbones.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """As Stable Diffusion, but for the texts and what its UNet is given of the picture's size."""

    parts = (*StableDiffusion.parts, "text_encoder_2", "tokenizer_2")
    takes_shapes = False  # its UNet is told the size, below: a square

    @classmethod
    def load_parts(cls, folder: Any, *dtypes: Any) -> dict[str, Any]:
        encoder = folder.load(CLIPTextModelWithProjection, "text_encoder_2")
        more = {"text_encoder_2": encoder, "tokenizer_2": folder.load_tokenizer(encoder.config, "tokenizer_2")}
        return super().load_parts(folder, *dtypes) | more

    def embed(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """Both encoders' states before the last, side by side, and the second's pooled vector, for each text."""
        one = self.encode_texts(self.tokenizer, self.text_encoder, texts, output_hidden_states=True)
        two = self.encode_texts(self.tokenizer_2, self.text_encoder_2, texts, output_hidden_states=True)
        states = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1)
        return list(zip(states, two.text_embeds, strict=True))

    def condition(self, conds: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        """States, pooled vectors, and the size: original and target as the resolution, nothing cropped."""
        states, pooled = (torch.stack(part) for part in zip(*conds, strict=True))
        sizes = torch.tensor([[self.resolution, self.resolution, 0, 0] + [self.resolution] * 2]).to(pooled)
        added = {"text_embeds": pooled, "time_ids": sizes.expand(len(pooled), -1)}
        return {"encoder_hidden_states": states, "added_cond_kwargs": added}
