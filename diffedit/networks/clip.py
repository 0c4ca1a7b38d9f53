"""Any open_clip model: scores, rankings and guidance by text."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import open_clip
import torch
import torch.nn.functional as F
from huggingface_hub.constants import HF_HUB_CACHE
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from diffedit.io.checks import check_choices
from diffedit.io.files import resolve_path
from diffedit.networks import Domain, pick_device, prepare_all

log = logging.getLogger(__name__)

TOKENIZING = Lock()  # a tokenizer keeps its padding as state, and texts are prepared in threads

# open_clip writes what it loads to the root logger
logging.getLogger("root").addFilter(lambda record: "open_clip" not in record.pathname or record.levelno > logging.INFO)


@dataclass(frozen=True)
class OpenClip:
    """A model and its tokenizer, loaded once and shared by all who ask for the same; an extractor of embeddings.

    Attributes:
        model: a name of open_clip, or a folder in its layout with `local-dir:` before it.
        pretrained: tag or file of the weights; not for a folder.
        device: "auto" takes CUDA where there is one.
        domain: what it was trained on; one that knows `stilllife` is not asked about photographs.
    """

    model: str = "local-dir:weights/stilllife_clip"
    pretrained: str | None = None
    device: str = "auto"
    domain: Domain = "stilllife"

    def __post_init__(self) -> None:
        check_choices(self)
        loaded(self)  # a missing file stops before any work

    @property
    def name(self) -> str:
        """The model's."""
        return f"clip {self.model}"

    @property
    def config(self) -> dict[str, Any]:
        """How the model wants its pictures."""
        return open_clip.get_model_preprocess_cfg(loaded(self).network)

    @property
    def resize(self) -> str:
        """The model's own preparation, by open_clip."""
        return f"{self.config['resize_mode']} {self.config['interpolation']} to {self.side} (open_clip)"

    @property
    def range(self) -> tuple[float, float]:
        """Black and white, normalised, over all channels."""
        pairs = list(zip(self.config["mean"], self.config["std"], strict=True))
        return min(-m / s for m, s in pairs), max((1 - m) / s for m, s in pairs)

    @property
    def reader(self) -> "ClipReader":
        """Of texts."""
        return ClipReader(self)

    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 side side"]:
        """As open_clip prepares it."""
        return loaded(self).prepare(Image.fromarray(picture.permute(1, 2, 0).numpy()))

    @torch.no_grad()
    def features(self, prepared: Float[Tensor, "b 3 side side"]) -> Float[Tensor, "b width"]:
        """Embeddings, not normalised."""
        network = loaded(self).network
        return network.encode_image(prepared.to(device_of(network))).float().cpu()

    def __call__(self, pictures: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b width"]:
        """Embeddings of pictures."""
        return self.features(prepare_all(self, pictures))

    @property
    def hash(self) -> str:
        """Names the weights, the preparation of pictures and the tokenizer."""
        return loaded(self).hash

    @property
    def side(self) -> int:
        """Of the pictures that the model takes."""
        size = self.config["size"]
        return size if isinstance(size, int) else size[0]

    def images(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b width"]:
        """Unit embeddings of pictures in [0, 1]; differentiable."""
        network, config = loaded(self).network, self.config
        if images.shape[-1] != self.side:
            images = F.interpolate(images, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(config[name], device=images.device).view(1, 3, 1, 1) for name in ("mean", "std"))
        return network.encode_image(((images - mean) / std).to(device_of(network)), normalize=True)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "b width"]:
        """Unit embeddings."""
        return F.normalize(self.reader.features(torch.stack([self.reader.prepare(text) for text in texts])))


@dataclass(frozen=True)
class ClipReader:
    """An extractor of the embeddings of texts.

    Attributes:
        clip: the model.
    """

    clip: OpenClip

    @property
    def name(self) -> str:
        """The model's."""
        return f"texts by {self.clip.name}"

    @property
    def hash(self) -> str:
        """Names the weights and the tokenizer."""
        return f"{self.clip.hash}-text"

    def prepare(self, text: str) -> Int[Tensor, " tokens"]:
        """Its tokens; a warning where the end is cut."""
        tokenizer = loaded(self.clip).tokenizer
        with TOKENIZING:
            check_length(tokenizer, text)
            return tokenizer([text])[0]

    @torch.no_grad()
    def features(self, prepared: Int[Tensor, "b tokens"]) -> Float[Tensor, "b width"]:
        """Embeddings, not normalised."""
        network = loaded(self.clip).network
        return network.encode_text(prepared.to(device_of(network))).float().cpu()


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


class Loaded(NamedTuple):
    """A network, its tokenizer, what prepares pictures for it, and the hash of all three."""

    network: Any
    tokenizer: Any
    prepare: Callable[[Image.Image], Tensor]
    hash: str


def loaded(clip: OpenClip) -> Loaded:
    """The model; a FileNotFoundError where there are no such weights."""
    return load_model(clip.model, clip.pretrained, pick_device(clip.device))


@lru_cache(4)
def load_model(model: str, pretrained: str | None, device: torch.device) -> Loaded:
    """From a folder, or from open_clip's places."""
    name = model
    if model.startswith("local-dir:"):
        name = f"local-dir:{resolve_path(model.removeprefix('local-dir:'))}"
    try:
        network, _, prepare = open_clip.create_model_and_transforms(
            name, pretrained=pretrained, device=device, require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(name)
    except (OSError, RuntimeError, ValueError) as error:
        raise FileNotFoundError(
            f"clip model = {model}, pretrained = {pretrained} (networks.clip, networks.cmmd, rank.clip): no such "
            f"weights. {places(model, pretrained)} ({error})"
        ) from error
    network = network.eval().requires_grad_(False)
    # two networks of the same weights differ in what has none: QuickGELU, the number of heads
    told = [open_clip.get_model_preprocess_cfg(network), tokenizer(["a bowl of two red apples"]).tolist()]
    told += [str(network), [m.num_heads for m in network.modules() if hasattr(m, "num_heads")]]
    digest = hashlib.sha256(repr(told).encode())
    for value in network.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return Loaded(network, tokenizer, prepare, digest.hexdigest()[:16])


def places(model: str, pretrained: str | None) -> str:
    """Where the weights of a model are looked for."""
    if model.startswith("local-dir:"):
        folder = resolve_path(model.removeprefix("local-dir:"))
        return f"{folder} must hold open_clip_config.json and open_clip_model.safetensors"
    if pretrained and (config := open_clip.get_pretrained_cfg(model, pretrained)):
        hub = config.get("hf_hub", "").rstrip("/")
        source = f"open_clip_model.safetensors of the hub's {hub}" if hub else config.get("url", "")
        return f"open_clip takes {source}, from its cache ({HF_HUB_CACHE}) or the hub; local-dir:FOLDER names a folder"
    tags = open_clip.list_pretrained_tags_by_model(model)
    return f"open_clip knows these pretrained= of it: {', '.join(tags) or 'none'}"
