"""Their side: diffusers' pipelines for DiffEdit, SDEdit (img2img) and blended latents (inpaint), same weights."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionDiffEditPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from torch import Tensor

from diffedit.io.images import to_pil
from diffedit.sampling.schedule import find_level
from diffedit.types import EditRequest

WITHOUT = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
PARTS = ("vae", "text_encoder", "tokenizer", "unet")
Pictures = list[Tensor]
"""Edits of a batch, ratio by ratio: one call of a pipeline knows one strength."""


def find_strength(ratio: float, steps: int) -> float:
    """The strength at which they begin at our level of a ratio: they truncate strength * steps, which may fall short.

    0.58 * 50 is 28.999...: they would begin a level below.
    """
    level = find_level(ratio, steps)
    strength = level / steps
    return strength if int(steps * strength) == level else math.nextafter(strength, 2)


def make_peer(pipe: StableDiffusionPipeline) -> StableDiffusionDiffEditPipeline:
    """The DiffEdit of diffusers with the networks of a pipeline, and the two schedulers that it is documented with."""
    inverse = DDIMInverseScheduler.from_config(pipe.scheduler.config)
    return make_pipeline(StableDiffusionDiffEditPipeline, pipe, inverse_scheduler=inverse)


def make_pipeline(kind: type[DiffusionPipeline], pipe: StableDiffusionPipeline, **more: Any) -> Any:
    """Another pipeline with the same networks, silent, with a DDIM scheduler of its own."""
    parts = {name: getattr(pipe, name) for name in PARTS}
    made = kind(**parts, scheduler=DDIMScheduler.from_config(pipe.scheduler.config), **more, **WITHOUT)
    made.set_progress_bar_config(disable=True)
    return made


class Theirs:
    """The pipelines over one set of networks of their own.

    Args:
        path: folder of the weights.
        device: where they run.
        dtype: of all networks.
        memory_format: of the UNet's convolutions, `channels_last` or `contiguous`.
        steps: N.
    """

    def __init__(self, path: str, device: torch.device, dtype: torch.dtype, memory_format: str, steps: int) -> None:
        pipe = StableDiffusionPipeline.from_pretrained(path, dtype=dtype, **WITHOUT).to(device)
        formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        pipe.unet.to(memory_format=formats[memory_format])
        self.unet, self.vae, self.steps = pipe.unet, pipe.vae, steps
        self.diffedit = make_peer(pipe)
        self.img2img = make_pipeline(StableDiffusionImg2ImgPipeline, pipe)
        self.inpaint = make_pipeline(StableDiffusionInpaintPipeline, pipe)

    def edit_as_documented(self, requests: Sequence[EditRequest], ratios: Sequence[float]) -> list[Image.Image]:
        """Image by image, the three calls of their documentation: guided inversion, one a ratio; the mask once."""
        edited, steps = [], {"num_inference_steps": self.steps}
        for request in requests:
            image = to_pil(request.image())
            mask = self.diffedit.generate_mask(image, request.target, source_prompt=request.source, **steps)
            for ratio in ratios:
                share = {"inpaint_strength": find_strength(ratio, self.steps)}
                latents = self.diffedit.invert(request.source, image, **share, **steps).latents
                edited += self.diffedit(request.target, mask, latents, **share, **steps).images
        return edited

    def edit_batched(
        self, requests: Sequence[EditRequest], ratios: Sequence[float], batch: int, is_guided: bool, is_shared: bool
    ) -> Pictures:
        """The same with many pictures a call.

        Args:
            requests: of the pictures.
            ratios: each a call of its own.
            batch: pictures a call.
            is_guided: the inversion is, their default; else it is the paper's, without a text.
            is_shared: one inversion, to the highest ratio, serves all; else one a ratio.
        """
        edited, steps = [], {"num_inference_steps": self.steps}
        strengths = [find_strength(ratio, self.steps) for ratio in ratios]
        for some in split(requests, batch):
            images, sources, targets = gather(some)
            mask = self.diffedit.generate_mask(images, targets, source_prompt=sources, **steps)

            def invert(strength: float, images=images, sources=sources) -> Tensor:
                how = {"prompt": sources} if is_guided else {"prompt": [""] * len(images), "guidance_scale": 1}
                return self.diffedit.invert(image=images, inpaint_strength=strength, **how, **steps).latents

            whole = invert(max(strengths)) if is_shared else None
            for strength in strengths:
                latents = invert(strength) if whole is None else whole[:, -int(self.steps * strength) :]
                share = {"inpaint_strength": strength, "output_type": "pt"}
                edited += self.diffedit(targets, mask, latents, **share, **steps).images
        return edited

    def edit_by_img2img(self, requests: Sequence[EditRequest], ratios: Sequence[float], batch: int) -> Pictures:
        """SDEdit: one call a ratio, `batch` pictures each."""
        edited = []
        for some in split(requests, batch):
            images, _, targets = gather(some)
            for ratio in ratios:
                edited += self.img2img(targets, image=images, **self.describe(ratio)).images
        return edited

    def edit_by_inpaint(self, requests: Sequence[EditRequest], ratios: Sequence[float], batch: int) -> Pictures:
        """Blended latents under the given masks: one call a ratio, `batch` pictures each."""
        edited = []
        for some in split(requests, batch):
            images, _, targets = gather(some)
            masks = torch.stack([request.mask() for request in some])
            size = dict(zip(("height", "width"), images.shape[-2:], strict=True))
            for ratio in ratios:
                made = self.inpaint(targets, image=images, mask_image=masks, **size, **self.describe(ratio))
                edited += made.images
        return edited

    def describe(self, ratio: float) -> dict[str, Any]:
        """What img2img and inpaint are told."""
        strength = find_strength(ratio, self.steps)
        return {"strength": strength, "num_inference_steps": self.steps, "output_type": "pt"}


def split(requests: Sequence[EditRequest], batch: int) -> list[Sequence[EditRequest]]:
    """In batches; the last one may be smaller."""
    return [requests[i : i + batch] for i in range(0, len(requests), batch)]


def gather(requests: Sequence[EditRequest]) -> tuple[Tensor, list[str], list[str]]:
    """Pictures in [0, 1], source texts and target texts."""
    images = torch.stack([request.image() for request in requests])
    return images, [request.source or "" for request in requests], [request.target for request in requests]
