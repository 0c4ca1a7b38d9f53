"""Any open_clip model: scores, rankings and guidance by text."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from diffedit.files import located
from diffedit.settings import check_choices
from diffedit.types import EditRequest

log = logging.getLogger(__name__)

# open_clip writes what it loads to the root logger
logging.getLogger("root").addFilter(lambda record: "open_clip" not in record.pathname or record.levelno > logging.INFO)


@dataclass(frozen=True)
class OpenClip:
    """A model and its tokenizer, loaded at the first use and shared by all who ask for the same.

    Attributes:
        model: a name of open_clip, or a folder in its layout with `local-dir:` before it.
        pretrained: tag or file of the weights; not for a folder.
        device: "auto" takes CUDA where there is one.
    """

    model: str = "local-dir:weights/stilllife_clip"
    pretrained: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        loaded(self)  # a missing file stops before any work

    @property
    def hash(self) -> str:
        """Names the weights, the preparation of pictures and the tokenizer."""
        return loaded(self)[2]

    @property
    def side(self) -> int:
        """Of the pictures that the model takes."""
        size = open_clip.get_model_preprocess_cfg(loaded(self)[0])["size"]
        return size if isinstance(size, int) else size[0]

    def images(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b width"]:
        """Unit embeddings of pictures in [0, 1]; differentiable."""
        network = loaded(self)[0]
        config = open_clip.get_model_preprocess_cfg(network)
        if images.shape[-1] != self.side:
            images = F.interpolate(images, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(config[name], device=images.device).view(1, 3, 1, 1) for name in ("mean", "std"))
        return network.encode_image(((images - mean) / std).to(device_of(network)), normalize=True)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "b width"]:
        """Unit embeddings."""
        network, tokenizer, _ = loaded(self)
        for text in texts:
            check_length(tokenizer, text)
        return network.encode_text(tokenizer(list(texts)).to(device_of(network)), normalize=True)


@lru_cache(4096)
def check_length(tokenizer: Any, text: str) -> None:
    """Warn where a text is longer than the model reads: open_clip cuts it without a word."""
    limit = tokenizer.context_length
    whole = tokenizer([text], context_length=4 * limit)[0]
    if (whole[limit:] != whole[-1]).any():  # the last of them is padding
        log.warning("CLIP reads %d tokens, and the end of this text is cut: %r", limit, text)


def device_of(network: Any) -> torch.device:
    """Where its weights lie."""
    return next(network.parameters()).device


@lru_cache(2)
def loaded(clip: OpenClip) -> tuple[Any, Any, str]:
    """(network, tokenizer, hash); a FileNotFoundError where there are no such weights."""
    name = clip.model
    if name.startswith("local-dir:"):
        name = f"local-dir:{located(name.removeprefix('local-dir:'))}"
    device = ("cuda" if torch.cuda.is_available() else "cpu") if clip.device == "auto" else clip.device
    try:
        network, _, _ = open_clip.create_model_and_transforms(
            name, pretrained=clip.pretrained, device=device, require_pretrained=True
        )
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f"clip.model = {clip.model}: no such weights: {error}") from error
    network, tokenizer = network.eval().requires_grad_(False), open_clip.get_tokenizer(name)
    told = [open_clip.get_model_preprocess_cfg(network), tokenizer(["a bowl of two red apples"]).tolist()]
    digest = hashlib.sha256(repr(told).encode())
    for value in network.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return network, tokenizer, digest.hexdigest()[:16]


@dataclass(frozen=True)
class ClipRank:
    """Ranks samples by the cosine of picture and target text (Blended Latent Diffusion, §3.5).

    Attributes:
        clip: the model.
        region: `mask` makes the picture black outside the mask, as the official code does; `whole` takes all of it.
    """

    clip: OpenClip
    region: Literal["mask", "whole"] = "mask"

    def __post_init__(self) -> None:
        check_choices(self)

    @torch.no_grad()
    def __call__(
        self, request: EditRequest, images: Float[Tensor, "n 3 H W"], masks: Bool[Tensor, "n 1 H W"] | None
    ) -> list[float]:
        """One cosine a picture; a ValueError where a mask is needed and the editor has none."""
        if self.region == "mask":
            if masks is None:
                raise ValueError(f"request {request.id}: rank.region=mask and the editor has no mask: take whole")
            images = torch.where(masks, images, 0)
        return (self.clip.images(images) @ self.clip.texts([request.target])[0]).tolist()
