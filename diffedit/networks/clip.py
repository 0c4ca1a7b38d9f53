"""Any open_clip model: scores, rankings and guidance by text."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub.constants import HF_HUB_CACHE
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.io.device import pick_device
from diffedit.io.files import resolve_path
from diffedit.io.hashing import hash_text, hash_tokenizer
from diffedit.networks.base import FrozenExtractor, compute_range

log = logging.getLogger(__name__)

TOKENIZING = Lock()  # a tokenizer keeps its padding as state, and texts are prepared in threads
LOCAL = "local-dir:"  # begins the name of a folder in open_clip's layout
WEIGHTS = "open_clip_model.safetensors"

# open_clip writes what it loads to the root logger
logging.getLogger("root").addFilter(lambda record: "open_clip" not in record.pathname or record.levelno > logging.INFO)


class Clip(NamedTuple):
    """The two towers of a model, its tokenizer, what prepares a picture for it, and how."""

    towers: Any
    tokenizer: Any
    prepare: Callable[[Image.Image], Tensor]
    config: dict[str, Any]


@settings
class OpenClip(FrozenExtractor):
    """A model and its tokenizer, loaded once and shared by all who ask for the same; an extractor of embeddings.

    Attributes:
        model: a name of open_clip, or a folder in its layout with `local-dir:` before it.
        pretrained: tag or file of the weights; not for a folder.
        device: "auto" takes CUDA where there is one.
        domain: what it was trained on: "anything", or the only pictures that it knows.
    """

    model: str = "local-dir:weights/stilllife_clip"
    pretrained: str | None = None
    device: str = "auto"
    domain: str = field(default="stilllife", compare=False)  # the network is shared whatever it may be asked about

    @property
    def name(self) -> str:
        return f"clip {self.model}"

    @property
    def config(self) -> dict[str, Any]:
        """How the model wants its pictures."""
        return self.network.config

    @property
    def resize(self) -> str:
        """The model's own preparation, by open_clip."""
        return f"{self.config['resize_mode']} {self.config['interpolation']} to {self.side} (open_clip)"

    @property
    def range(self) -> tuple[float, float]:
        """The lowest value of black pictures and the highest of white ones."""
        return compute_range(self.config["mean"], self.config["std"])

    @property
    def side(self) -> int:
        """Of the pictures that the model takes, in pixels."""
        size = self.config["size"]
        return size if isinstance(size, int) else size[0]

    @property
    def reader(self) -> "ClipReader":
        """The extractor of its texts."""
        return ClipReader(self)

    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 side side"]:
        """As open_clip prepares it."""
        return self.network.prepare(Image.fromarray(picture.permute(1, 2, 0).numpy()))

    def forward(self, prepared: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b width"]:
        """Embeddings, not normalised."""
        return self.network.towers.encode_image(prepared)

    def images(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b width"]:
        """Unit embeddings of pictures in [0, 1]; differentiable."""
        config = self.config
        if images.shape[-2:] != (self.side, self.side):
            images = F.interpolate(images, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(config[name], device=images.device).view(1, 3, 1, 1) for name in ("mean", "std"))
        images = ((images - mean) / std).to(pick_device(self.device))
        return self.network.towers.encode_image(images, normalize=True)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "b width"]:
        """Unit embeddings."""
        return F.normalize(self.reader.features(torch.stack([self.reader.prepare(text) for text in texts])))

    def load(self) -> tuple[Clip, str]:
        """The model, from a folder or from open_clip's places."""
        import open_clip  # takes seconds, and every command reads this file

        name = self.model
        if name.startswith(LOCAL):
            folder = resolve_path(name.removeprefix(LOCAL))
            name = f"{LOCAL}{folder}"
        try:
            if name.startswith(LOCAL) and not (folder / WEIGHTS).is_file():
                raise FileNotFoundError("open_clip would look for a pickle")
            towers, _, prepare = open_clip.create_model_and_transforms(
                name, pretrained=self.pretrained, device=pick_device(self.device), require_pretrained=True
            )
            tokenizer = open_clip.get_tokenizer(name)
        except (OSError, RuntimeError, ValueError) as error:
            raise FileNotFoundError(
                f"clip model = {self.model}, pretrained = {self.pretrained} (networks.clip, networks.cmmd, rank.clip): "
                f"no such weights. {describe_weights(self.model, self.pretrained)} ({error})"
            ) from error
        towers = towers.eval().requires_grad_(False)
        # two networks of the same weights differ in what has none: QuickGELU, the number of heads
        config = open_clip.get_model_preprocess_cfg(towers)
        identity = [config, hash_vocabulary(tokenizer), tokenizer(["a bowl of two red apples"]).tolist()]
        identity += [str(towers), [module.num_heads for module in towers.modules() if hasattr(module, "num_heads")]]
        digest = hashlib.sha256(repr(identity).encode())
        for value in towers.state_dict().values():
            digest.update(value.cpu().numpy().tobytes())
        return Clip(towers, tokenizer, prepare, config), digest.hexdigest()[:16]


def hash_vocabulary(tokenizer: Any) -> str:
    """Of a tokenizer of open_clip: one of transformers within, or its own dictionaries."""
    if (inner := getattr(tokenizer, "tokenizer", None)) is not None:
        return hash_tokenizer(inner)
    return hash_text(repr([sorted(tokenizer.encoder.items()), sorted(tokenizer.bpe_ranks.items())]))


@dataclass(frozen=True)
class ClipReader:
    """An extractor of the embeddings of texts, by the same model."""

    clip: OpenClip

    @property
    def name(self) -> str:
        return f"texts by {self.clip.name}"

    @property
    def hash(self) -> str:
        return f"{self.clip.hash}-text"

    def prepare(self, text: str) -> Int[Tensor, " tokens"]:
        """Its tokens; a warning where the end is cut."""
        tokenizer = self.clip.network.tokenizer
        with TOKENIZING:
            warn_if_cut(tokenizer, text)
            return tokenizer([text])[0]

    @torch.no_grad()
    def features(self, prepared: Int[Tensor, "b tokens"]) -> Float[Tensor, "b width"]:
        """Embeddings, not normalised."""
        return self.clip.network.towers.encode_text(prepared.to(pick_device(self.clip.device))).float().cpu()


@lru_cache(4096)
def warn_if_cut(tokenizer: Any, text: str) -> None:
    """Warn where a text is longer than the model reads: open_clip cuts it without a word."""
    limit = tokenizer.context_length
    tokens = tokenizer([text], context_length=4 * limit)[0]
    if (tokens[limit:] != tokens[-1]).any():  # the last of them is padding
        log.warning("CLIP reads %d tokens, and the end of this text is cut: %r", limit, text)


def describe_weights(model: str, pretrained: str | None) -> str:
    """Where the weights of a model are looked for."""
    import open_clip  # as in `OpenClip.load`

    if model.startswith(LOCAL):
        folder = resolve_path(model.removeprefix(LOCAL))
        return f"{folder} must hold open_clip_config.json and {WEIGHTS}"
    if pretrained and (config := open_clip.get_pretrained_cfg(model, pretrained)):
        hub = config.get("hf_hub", "").rstrip("/")
        source = f"open_clip_model.safetensors of the hub's {hub}" if hub else config.get("url", "")
        return f"open_clip takes {source}, from its cache ({HF_HUB_CACHE}) or the hub; {LOCAL}FOLDER names a folder"
    tags = open_clip.list_pretrained_tags_by_model(model)
    return f"open_clip knows these pretrained= of it: {', '.join(tags) or 'none'}"
