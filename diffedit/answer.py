"""Queries as rows, and their answers: what a batch is made of, and how a backbone is asked."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffedit.types import Backbone, Call, Decode, Embed, Encode, Predict, Prediction, Query, Walk

Row = tuple[Any, ...]


def rows(query: Query) -> list[Row]:
    """A query as the rows that batches are made of."""
    match query:
        case Encode():
            return [(query.image,)]
        case Decode():
            return [(latent,) for latent in query.latents]
        case Embed():
            return [(text,) for text in query.texts]
        case Predict():
            if len(query.edits) not in (0, len(query.x)):
                raise ValueError(f"Predict of {len(query.x)} latents names {len(query.edits)} edits")
            return [(x, query.level, cond) for x, cond in zip(query.x, query.conds, strict=True)]
    raise TypeError(f"a walk yields queries, not {type(query).__name__}")


@torch.no_grad()
def ask(backbone: Backbone, kind: type, batch: Sequence[Row]) -> list[Any]:
    """One network call; its answer row by row."""
    first, *rest = zip(*batch, strict=True)
    if kind is Encode:
        return list(backbone.encode(stack(first)))
    if kind is Decode:
        return list(backbone.decode(stack(first)))
    if kind is Embed:
        return backbone.embed(first)
    return list(zip(*backbone.predict(stack(first), *rest), strict=True))


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """One batch; a TypeError for mixed dtypes, which `torch.stack` would silently make one."""
    if len({each.dtype for each in tensors}) > 1:
        raise TypeError(f"a batch of mixed dtypes: {', '.join(sorted({str(each.dtype) for each in tensors}))}")
    return torch.stack(list(tensors))


def join(query: Query, answers: Sequence[Any]) -> Any:
    """The rows' answers as the query's; a FloatingPointError where a latent or an image holds a NaN."""
    match query:
        case Encode():
            return finite(torch.stack(answers), "the encoded latent")
        case Decode():
            finite(query.latents, "the latent to decode")  # clipping to [0, 1] would hide an infinity
            return finite(torch.stack(answers), "the decoded image")
        case Predict():
            return Prediction(*(torch.stack(part) for part in zip(*answers, strict=True)))
    return list(answers)


def call(query: Call, backbone: Backbone) -> Any:
    """Answer a `Call`: alone, with gradients."""
    with torch.enable_grad():
        return query.fn(backbone)


@torch.no_grad()
def drive(walk: Walk[Any], backbone: Backbone) -> Any:
    """Run one walk to its end, each query a batch of its own, and return its result. For tests and notebooks."""
    answer = None
    while True:
        try:
            query = walk.send(answer)
        except StopIteration as stop:
            return stop.value
        if isinstance(query, Call):
            answer = call(query, backbone)
        else:
            answer = join(query, ask(backbone, type(query), rows(query)))


def finite(x: Tensor, what: str) -> Tensor:
    """`x` itself; a FloatingPointError that says `what` it is where it holds a NaN or an infinity."""
    if not torch.isfinite(x).all():
        raise FloatingPointError(f"{what} is not finite (NaN or infinity): try a wider dtype")
    return x
