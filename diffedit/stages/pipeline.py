"""What can stand around any editor: several samples of a request, a reconstruction of each, a ranking of all."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge
from hydra.utils import instantiate
from torch import Tensor

from diffedit.conditions import describe_unread
from diffedit.engine.queries import run_together
from diffedit.io.checks import settings
from diffedit.sampling.ddim import WHOLE, describe_low_guidance, is_guided
from diffedit.stages.background import NoReconstruction, Reconstruct, find_decoder, mask_in_pixels
from diffedit.stages.rank import KeepFirst, Rank
from diffedit.types import (
    Backbone,
    Custom,
    Editor,
    EditRequest,
    EditResult,
    Noise,
    Program,
    Schedule,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleNoise:
    """The noise of the k-th sample; that of the first is the noise of a request without samples."""

    noise: Noise
    sample: int

    def randn_like(self, x: Tensor, purpose: str, count: int = 1) -> Tensor:
        """`count` standard normal samples of the shape x[0]."""
        return self.noise.randn_like(x, f"{purpose}, sample {self.sample}" if self.sample else purpose, count)


@settings
class EditPipeline:
    """An editor with stages around it.

    Attributes:
        editor: makes the edits.
        reconstruct: the stage after it, for every sample.
        rank: chooses the best of several samples, for each ratio by itself.
        samples: how many; each has noise of its own, and is the same whatever their number.
    """

    editor: Editor
    reconstruct: Reconstruct = NoReconstruction()
    rank: Rank = KeepFirst()
    samples: Annotated[int, Ge(1)] = 1

    def check(self, backbone: Backbone) -> None:
        """Refuse, before any work, stages that this editor or this backbone cannot serve."""
        name = type(self.editor).__name__
        if self.reconstruct.needs_mask and not self.editor.has_mask:
            raise ValueError(f"reconstruct needs a mask, and {name} has none: reconstruct=none, or editor/mask=given")
        if self.samples > 1 and self.rank.needs_mask and not self.editor.has_mask:
            raise ValueError(f"rank.region=mask needs a mask, and {name} has none: rank.region=whole")
        if self.reconstruct.needs_decoder:
            find_decoder(backbone)

    def check_levels(self, schedule: Schedule, ratios: Sequence[float]) -> None:
        """Refuse, before any work, ratios and a noise of the mask that are of no level."""
        schedule.start_levels(ratios)
        strength = getattr(getattr(self.editor, "mask", None), "noise_strength", None)
        if strength is not None:
            try:
                schedule.find_level(strength)
            except ValueError as error:
                raise ValueError(f"editor.mask.noise_strength = {strength:g}: {error}") from None

    def warn(self, schedule: Schedule) -> None:
        """Log, once for all requests, what is seldom meant: a guidance below 1, what is not read or does nothing."""
        interval = getattr(self.editor, "guidance_interval", WHOLE)
        given = {"editor.guidance": getattr(self.editor, "guidance", 1.0)}
        given |= {f"editor.guidances[{i}]": each for i, each in enumerate(getattr(self.editor, "guidances", ()))}
        for key, guidance in given.items():
            if warning := describe_low_guidance(guidance, interval, key):
                log.warning("%s", warning)
        if interval != WHOLE and not any(is_guided(i, schedule, interval) for i in range(1, len(schedule))):
            low, high = interval
            place = "none of the levels lies there: nothing is guided"
            log.warning("editor.guidance_interval = [%g, %g]: %s", low, high, place)
        for warning in describe_unread(self.editor):
            log.warning("%s", warning)
        if self.samples == 1 and not isinstance(self.rank, KeepFirst):
            log.warning("rank = %s ranks several samples, and samples = 1: it is not asked", type(self.rank).__name__)

    @property
    def networks(self) -> dict[str, str]:
        """What else than the backbone decides the pictures: the networks of editor and ranking, by their hashes."""
        parts = {"editor": self.editor.networks, "rank": self.rank.networks if self.samples > 1 else ()}
        return {name: " ".join(network.hash for network in networks) for name, networks in parts.items() if networks}

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """The samples ask together; the picture is opened once."""
        image = request.image()
        request = replace(request, image=lambda: image)
        noises = [SampleNoise(noise, k) for k in range(self.samples)]
        results = yield from run_together([self.sample(request, ratios, schedule, one) for one in noises])
        return results[0] if self.samples == 1 else (yield from self.mark_best(request, results))

    def sample(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """One sample, reconstructed."""
        result = yield from self.editor(request, ratios, schedule, noise)
        return (yield from self.reconstruct(request, result))

    def mark_best(self, request: EditRequest, results: list[EditResult]) -> Program[EditResult]:
        """The best sample of each ratio; all of them, with their scores, as `samples`."""
        pixel_masks = [mask_in_pixels(result) for result in results]
        masks = None if any(mask is None for mask in pixel_masks) else torch.stack(pixel_masks)
        scored = [list(result.edits) for result in results]
        for i in range(len(results[0].edits)):
            images = torch.stack([result.edits[i].image.cpu() for result in results])
            if (images == images[0]).all():
                log.warning("request %s: all %d samples are the same picture", request.id, self.samples)
            scores = yield Custom(lambda _, images=images: self.rank(request, images, masks))
            for k, score in enumerate(scores):
                scored[k][i] = replace(scored[k][i], sample=k, score=float(score))
        best = [max(row, key=lambda edit: (edit.score, -edit.sample)) for row in zip(*scored, strict=True)]
        samples = [replace(result, edits=edits) for result, edits in zip(results, scored, strict=True)]
        return replace(results[best[0].sample], edits=best, samples=samples)


def build_pipeline(cfg: Any) -> EditPipeline:
    """The method of a config with the keys editor, reconstruct, rank and samples."""
    parts = (instantiate(cfg[name], _convert_="all") for name in ("editor", "reconstruct", "rank"))
    return EditPipeline(*parts, samples=cfg.samples)
