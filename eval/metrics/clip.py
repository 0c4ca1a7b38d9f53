"""CLIP score by any open_clip model."""

import hashlib
import logging
from typing import ClassVar, Literal

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.files import located
from eval.gallery import Batch
from eval.metrics import means

# open_clip writes what it loads to the root logger
logging.getLogger("root").addFilter(lambda record: "open_clip" not in record.pathname or record.levelno > logging.INFO)


class ClipScore:
    """100 * max(cosine(picture, target text), 0), each image for itself (Hessel et al., 2021, without their 2.5).

    Args:
        model: a name of open_clip, or a folder in its layout with `local-dir:` before it.
        pretrained: tag or file of the weights; not for a folder.
        knows: what the model was trained on; one that knows `stilllife` only is not asked about anything else.
        device: "auto" takes CUDA where there is one.
    """

    better: ClassVar = {"clip_score": "higher"}
    figures = staticmethod(means)

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        knows: Literal["anything", "stilllife"] = "anything",
        device: str = "auto",
    ) -> None:
        if knows not in ("anything", "stilllife"):
            raise ValueError(f"metric.clip_score.knows = {knows!r} is neither anything nor stilllife")
        self.knows = knows
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if model.startswith("local-dir:"):
            model = f"local-dir:{located(model.removeprefix('local-dir:'))}"
        try:
            self.model, _, _ = open_clip.create_model_and_transforms(
                model, pretrained=pretrained, device=self.device, require_pretrained=True
            )
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(f"metric.clip_score.model = {model}: no such weights: {error}") from error
        self.model = self.model.eval().requires_grad_(False)
        self.tokenizer = open_clip.get_tokenizer(model)
        config = open_clip.get_model_preprocess_cfg(self.model)
        self.size, self.mean, self.std = config["size"], config["mean"], config["std"]
        digest = hashlib.sha256(repr([config, self.tokenizer(["a bowl of two red apples"]).tolist()]).encode())
        for value in self.model.state_dict().values():
            digest.update(value.cpu().numpy().tobytes())
        self.hash = digest.hexdigest()[:16]

    def fingerprint(self) -> str:
        """The weights, the preparation of pictures and the tokenizer."""
        return f"clip-score-1-{self.hash}"

    def missing(self, batch: Batch) -> str | None:
        """Defined for every target text, as far as the model knows what it is about."""
        return (
            None
            if self.knows == "anything" or batch.truths
            else "this CLIP knows only Still Life; metric.clip_score.model= names another"
        )

    @torch.no_grad()
    def facts(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One score an image."""
        seen = self.model.encode_image(self.prepare(batch.edits), normalize=True)
        tokens = self.tokenizer([request.target for request in batch.requests]).to(self.device)
        said = self.model.encode_text(tokens, normalize=True)
        return {"clip_score": 100 * (seen * said).sum(1).clamp(min=0).cpu()}

    def prepare(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 size size"]:
        """Square pictures at the model's size (bicubic, antialiased), normalised."""
        side = self.size if isinstance(self.size, int) else self.size[0]
        if images.shape[-1] != side:
            images = torch.nn.functional.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (self.mean, self.std))
        return ((images - mean) / std).to(self.device)
