"""What can stand around any editor: several samples of a request, a reconstruction of each, a ranking of all."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from hydra.utils import instantiate
from jaxtyping import Bool, Float
from torch import Tensor

from diffedit.mask import Everywhere
from diffedit.reconstruct import Bare, Fit, Reconstruct, decoding, enlarged
from diffedit.types import (
    Backbone,
    BatchCall,
    Call,
    Decode,
    Editor,
    EditRequest,
    EditResult,
    Embed,
    Encode,
    Levels,
    Noise,
    Predict,
    Prediction,
    Query,
    Walk,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

ORDER = (Encode, Embed, Predict, Decode, BatchCall, Call)  # what is asked first, so that walks meet in later queries


@runtime_checkable
class Rank(Protocol):
    """Says which of several edits is the best."""

    def __call__(
        self, request: EditRequest, images: Float[Tensor, "n 3 H W"], masks: Bool[Tensor, "n 1 H W"] | None
    ) -> Sequence[float]:
        """A score for each, higher is better."""


@dataclass(frozen=True)
class First:
    """No ranking: the first sample is the one."""

    def __call__(
        self, request: EditRequest, images: Float[Tensor, "n 3 H W"], masks: Bool[Tensor, "n 1 H W"] | None
    ) -> list[float]:
        """Falls with the place."""
        return [-float(k) for k in range(len(images))]


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


def together(walks: Sequence[Walk[T]]) -> Walk[list[T]]:
    """Several walks of one request as one walk: queries that can be asked at once are asked in one query."""
    results: dict[int, T] = {}
    waiting: dict[int, Query] = {}

    def send(k: int, answer: Any) -> None:
        try:
            waiting[k] = walks[k].send(answer)
        except StopIteration as stop:
            results[k] = stop.value

    try:
        for k in range(len(walks)):
            send(k, None)
        while waiting:
            first = min(waiting, key=lambda k: (ORDER.index(type(waiting[k])), k))
            like = [k for k, query in waiting.items() if alike(waiting[first], query)]
            answer = yield merged([waiting[k] for k in like])
            for k, part in zip(like, parted(answer, [waiting.pop(k) for k in like]), strict=True):
                send(k, part)
    finally:
        for walk in walks:
            walk.close()
    return [results[k] for k in range(len(walks))]


def alike(one: Query, other: Query) -> bool:
    """Whether two queries can be asked as one."""
    match one, other:
        case (Encode(), Encode()):
            return one.image is other.image and one.spread == other.spread
        case (Embed(), Embed()):
            return one.texts == other.texts
        case (Predict(), Predict()):
            return one.level == other.level and bool(one.edits) == bool(other.edits)
        case (BatchCall(), BatchCall()):
            return (one.fn, one.evaluations, bool(one.edits)) == (other.fn, other.evaluations, bool(other.edits))
    return type(one) is type(other) is Decode or one is other


def merged(queries: Sequence[Query]) -> Query:
    """Queries that are alike as one."""
    first = queries[0]
    match first:
        case Decode():
            return Decode(torch.cat([query.latents for query in queries]))
        case Predict():
            conds = tuple(cond for query in queries for cond in query.conds)
            edits = tuple(edit for query in queries for edit in query.edits)
            return Predict(torch.cat([query.x for query in queries]), first.level, conds, edits)
        case BatchCall():
            rows = [row for query in queries for row in query.rows]
            return replace(first, rows=rows, edits=tuple(edit for query in queries for edit in query.edits))
    return first


def parted(answer: Any, queries: Sequence[Query]) -> list[Any]:
    """The answer to merged queries, each its part."""
    match queries[0]:
        case Decode():
            return list(answer.split([len(query.latents) for query in queries]))
        case Predict():
            counts = [len(query.x) for query in queries]
            return [Prediction(*each) for each in zip(*(part.split(counts) for part in answer), strict=True)]
        case BatchCall():
            rest = iter(answer)
            return [[next(rest) for _ in query.rows] for query in queries]
    return [answer] * len(queries)
