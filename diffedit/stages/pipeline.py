"""What can stand around any editor: several samples of a request, a reconstruction of each, a ranking of all."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor

from diffedit.engine.queries import together
from diffedit.mask import Everywhere
from diffedit.stages.background import Bare, Fit, Reconstruct, decoding, enlarged
from diffedit.stages.rank import First, Rank
from diffedit.types import (
    Backbone,
    Call,
    Editor,
    EditRequest,
    EditResult,
    Levels,
    Noise,
    Walk,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleNoise:
    """The noise of the k-th sample; that of the first is the noise of a request without samples."""

    noise: Noise
    sample: int

    def like(self, x: Tensor, purpose: str, count: int = 1) -> Tensor:
        """`count` standard normal samples of the shape x[0]."""
        return self.noise.like(x, f"{purpose}, sample {self.sample}" if self.sample else purpose, count)


@dataclass(frozen=True)
class Staged:
    """An editor with stages around it.

    Attributes:
        editor: makes the edits.
        reconstruct: the stage after it, for every sample.
        rank: chooses the best of several samples, for each ratio by itself.
        samples: how many; each has noise of its own, and is the same whatever their number.
    """

    editor: Editor
    reconstruct: Reconstruct = Bare()
    rank: Rank = First()
    samples: int = 1

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples = {self.samples}: at least one is wanted")

    def check(self, backbone: Backbone) -> None:
        """Refuse, before any work, stages that this editor or this backbone cannot serve."""
        masked = not isinstance(getattr(self.editor, "mask", Everywhere()), Everywhere)
        name = type(self.editor).__name__
        if not masked and not isinstance(self.reconstruct, Bare):
            raise ValueError(f"reconstruct needs a mask, and {name} has none: reconstruct=none, or editor/mask=given")
        if not masked and self.samples > 1 and getattr(self.rank, "region", None) == "mask":
            raise ValueError(f"rank.region=mask needs a mask, and {name} has none: rank.region=whole")
        if isinstance(self.reconstruct, Fit):
            decoding(backbone)

    def weights(self) -> dict[str, str]:
        """What else than the backbone decides the pictures: the CLIP models of editor and ranking."""
        parts = {"editor": self.editor, "rank": self.rank if self.samples > 1 else None}
        return {name: part.clip.hash for name, part in parts.items() if hasattr(part, "clip")}

    def reads(self) -> set[str]:
        """The fields of a request that it calls, to be loaded ahead."""
        masks = {"given": {"mask"}, "oracle": {"oracle_mask"}}
        return {"image"} | masks.get(getattr(getattr(self.editor, "mask", None), "which", None), set())

    def __call__(self, request: EditRequest, ratios: Sequence[float], levels: Levels, noise: Noise) -> Walk[EditResult]:
        """The samples are walked together; the picture is opened once."""
        image = request.image()
        request = replace(request, image=lambda: image)
        noises = [SampleNoise(noise, k) for k in range(self.samples)]
        results = yield from together([self.sample(request, ratios, levels, each) for each in noises])
        return results[0] if self.samples == 1 else (yield from self.best(request, results))

    def sample(self, request: EditRequest, ratios: Sequence[float], levels: Levels, noise: Noise) -> Walk[EditResult]:
        """One sample, reconstructed."""
        result = yield from self.editor(request, ratios, levels, noise)
        return (yield from self.reconstruct(request, result))

    def best(self, request: EditRequest, results: list[EditResult]) -> Walk[EditResult]:
        """The best sample of each ratio; all of them, with their scores, as `samples`."""
        pixels = [enlarged(result) for result in results]
        masks = None if any(each is None for each in pixels) else torch.stack(pixels)
        scored = [list(result.edits) for result in results]
        for i in range(len(results[0].edits)):
            images = torch.stack([result.edits[i].image.cpu() for result in results])
            if (images == images[0]).all():
                log.warning("request %s: all %d samples are the same picture", request.id, self.samples)
            scores = yield Call(lambda _, images=images: self.rank(request, images, masks))
            for k, score in enumerate(scores):
                scored[k][i] = replace(scored[k][i], sample=k, score=float(score))
        best = [max(row, key=lambda edit: (edit.score, -edit.sample)) for row in zip(*scored, strict=True)]
        samples = [replace(result, edits=edits) for result, edits in zip(results, scored, strict=True)]
        return replace(results[best[0].sample], edits=best, samples=samples)


def staged(cfg: Any) -> Staged:
    """The method of a config with the keys editor, reconstruct, rank and samples."""
    parts = (instantiate(cfg[name], _convert_="all") for name in ("editor", "reconstruct", "rank"))
    return Staged(*parts, samples=cfg.samples)
