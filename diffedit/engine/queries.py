"""Queries as rows, and their answers: what a batch is made of, and how a backbone is called."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from diffedit.io.checks import check_finite
from diffedit.types import (
    Backbone,
    Credit,
    Custom,
    CustomBatch,
    Decode,
    EditResult,
    Embed,
    Encode,
    Keep,
    Predict,
    Prediction,
    Program,
    Query,
    Recall,
)

Row = tuple[Any, ...]
Kind = Any
"""What one batch holds: a type of query, or the function of a `CustomBatch`."""
Shape = tuple[int, ...]


class Outcome(NamedTuple):
    """How one program ended: with a result or with an error."""

    id: str
    result: EditResult | None
    error: Exception | None
    evaluations: Counter[int | None]  # of the denoiser, by start level of the edit served; None: shared by all edits
    seconds: float  # share of the wall time, by rows in each network call


def get_kind(query: Query) -> Kind:
    """What the query is batched by."""
    return query.fn if isinstance(query, CustomBatch) else type(query)


def count_evaluations(query: Query) -> int:
    """Evaluations of the denoiser for each row of a query."""
    return query.evaluations if isinstance(query, CustomBatch) else int(isinstance(query, Predict))


def split(query: Query) -> list[Row]:
    """A query as the rows that batches are made of."""
    match query:
        case Encode():
            return [(query.image, query.spread)]
        case Decode():
            return [(latent,) for latent in query.latents]
        case Embed():
            return [(text,) for text in query.texts]
        case Predict():
            if len(query.edits) not in (0, len(query.x)):
                raise ValueError(f"Predict of {len(query.x)} latents names {len(query.edits)} edits")
            return [(x, query.level, cond) for x, cond in zip(query.x, query.conds, strict=True)]
        case CustomBatch():
            return [(row,) for row in query.rows]
    raise TypeError(f"a program yields queries, not {type(query).__name__}")


def find_shape(row: Any) -> Shape:
    """What the rows of one call have to have alike: the shape of a row's first tensor; () where it has none."""
    if isinstance(row, Tensor):
        return tuple(row.shape)
    return next(filter(None, map(find_shape, row)), ()) if isinstance(row, tuple) else ()


@torch.no_grad()
def call_network(backbone: Backbone, kind: Kind, batch: Sequence[Row]) -> list[Any]:
    """One network call; its answer row by row."""
    first, *rest = zip(*batch, strict=True)
    if not isinstance(kind, type):
        with torch.enable_grad():
            return list(kind(backbone, first))
    if kind is Encode:
        return encode(backbone, stack(first), rest[0])
    if kind is Decode:
        return list(backbone.decode(stack(first)))
    if kind is Embed:
        return backbone.embed(first)
    return list(zip(*backbone.predict(stack(first), *rest), strict=True))


def encode(backbone: Backbone, images: Tensor, spread: Sequence[bool]) -> list[Tensor]:
    """The latent of each image, (1, c, h, w), or with its standard deviation, (2, c, h, w)."""
    if not any(spread):
        return list(backbone.encode(images)[:, None])
    both = torch.stack(backbone.posterior(images), 1)
    return [row if wanted else row[:1] for row, wanted in zip(both, spread, strict=True)]


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """One batch; a TypeError for mixed dtypes, which `torch.stack` would silently make one."""
    dtypes = sorted({str(tensor.dtype) for tensor in tensors})
    if len(dtypes) > 1:
        raise TypeError(f"a batch of mixed dtypes: {', '.join(dtypes)}")
    return torch.stack(list(tensors))


def gather(query: Query, answers: Sequence[Any]) -> Any:
    """The rows' answers as the query's; a FloatingPointError where a latent or an image holds a NaN."""
    match query:
        case Encode():
            return check_finite(answers[0], "the encoded latent")
        case Decode():
            check_finite(query.latents, "the latent to decode")  # clipping to [0, 1] would hide an infinity
            return check_finite(torch.stack(answers), "the decoded image")
        case Predict():
            return Prediction(*(torch.stack(part) for part in zip(*answers, strict=True)))
    return list(answers)


def run_custom(query: Custom, backbone: Backbone) -> Any:
    """Answer a `Custom`: alone, with gradients."""
    with torch.enable_grad():
        return query.fn(backbone)


@torch.no_grad()
def run_alone(program: Program[Any], backbone: Backbone) -> Any:
    """Run one program to its end, each query a batch of its own, and return its result. For tests and notebooks."""
    answer = None
    while True:
        try:
            query = program.send(answer)
        except StopIteration as stop:
            return stop.value
        if isinstance(query, Custom):
            answer = run_custom(query, backbone)
        elif isinstance(query, Recall | Keep | Credit):
            answer = [] if isinstance(query, Recall) else None  # there are no others
        else:
            answer = gather(query, call_network(backbone, get_kind(query), split(query)))


T = TypeVar("T")


def route_queries(program: Program[T], ask: Callable[[Query], Program[Any]]) -> Program[T]:
    """The same program, each of whose queries is asked by `ask`: noted on the way, or something else in its place."""
    answer = None
    with closing(program):
        while True:
            try:
                query = program.send(answer)
            except StopIteration as stop:
                return stop.value
            answer = yield from ask(query)


ORDER = (
    Keep,
    Credit,
    Recall,
    Encode,
    Embed,
    Predict,
    Decode,
    CustomBatch,
    Custom,
)  # which kind goes first, so that programs meet in later queries


def run_together(programs: Sequence[Program[T]]) -> Program[list[T]]:
    """Several programs of one request as one program: queries that can be merged become one."""
    results: dict[int, T] = {}
    waiting: dict[int, Query] = {}

    def send(k: int, answer: Any) -> None:
        try:
            waiting[k] = programs[k].send(answer)
        except StopIteration as stop:
            results[k] = stop.value

    try:
        for k in range(len(programs)):
            send(k, None)
        while waiting:
            first = min(waiting, key=lambda k: (ORDER.index(type(waiting[k])), k))
            like = [k for k, query in waiting.items() if can_merge(waiting[first], query)]
            answer = yield merge([waiting[k] for k in like])
            for k, part in zip(like, split_answer(answer, [waiting.pop(k) for k in like]), strict=True):
                send(k, part)
    finally:
        for program in programs:
            program.close()
    return [results[k] for k in range(len(programs))]


def can_merge(one: Query, other: Query) -> bool:
    """Whether one query can stand for both."""
    match one, other:
        case (Encode(), Encode()):
            return one.image is other.image and one.spread == other.spread
        case (Embed(), Embed()):
            return one.texts == other.texts
        case (Predict(), Predict()):
            alike = one.level == other.level and one.purpose == other.purpose
            return alike and bool(one.edits) == bool(other.edits)
        case (CustomBatch(), CustomBatch()):
            return (one.fn, one.evaluations, bool(one.edits)) == (other.fn, other.evaluations, bool(other.edits))
    return type(one) is type(other) is Decode or one is other


def merge(queries: Sequence[Query]) -> Query:
    """Queries that are alike as one."""
    first = queries[0]
    match first:
        case Decode():
            return Decode(torch.cat([query.latents for query in queries]))
        case Predict():
            conds = tuple(cond for query in queries for cond in query.conds)
            edits = tuple(edit for query in queries for edit in query.edits)
            return replace(first, x=torch.cat([query.x for query in queries]), conds=conds, edits=edits)
        case CustomBatch():
            rows = [row for query in queries for row in query.rows]
            return replace(first, rows=rows, edits=tuple(edit for query in queries for edit in query.edits))
    return first


def split_answer(answer: Any, queries: Sequence[Query]) -> list[Any]:
    """The answer to merged queries, each its part."""
    match queries[0]:
        case Decode():
            return list(answer.split([len(query.latents) for query in queries]))
        case Predict():
            counts = [len(query.x) for query in queries]
            return [Prediction(*parts) for parts in zip(*(part.split(counts) for part in answer), strict=True)]
        case CustomBatch():
            rest = iter(answer)
            return [[next(rest) for _ in query.rows] for query in queries]
    return [answer] * len(queries)
