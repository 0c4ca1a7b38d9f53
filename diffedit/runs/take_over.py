"""Edits that an earlier run made of the same inputs are taken over: one list of one item a strength, like other work.

What is kept of an edit is what a run writes of it: the picture in 8 bits, mask and map, and what it cost.
"""

import inspect
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffedit.engine.queries import route_queries
from diffedit.io.hashing import hash_text
from diffedit.io.images import to_pil
from diffedit.runs.describe import describe
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import (
    Credit,
    CustomBatch,
    Edit,
    EditRequest,
    EditResult,
    Keep,
    Predict,
    Program,
    Query,
    Recall,
    Schedule,
    Variant,
)

Item = Mapping[str, Tensor]
Count = Counter[tuple[str, int | None]]
"""Evaluations by purpose, and by the start level of the edit that they served; None where all were served."""


class Cost(NamedTuple):
    """The evaluations behind one edit: those of its own, and those that edits of other strengths share, by purpose."""

    level: int
    own: int
    shared: Mapping[str, int]


def take_over(
    pipeline: EditPipeline, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: RequestNoise
) -> Program[EditResult]:
    """What the pipeline makes of a request; edits that are kept are not made again, and those that are made are kept.

    Evaluations are counted as if all had been made.
    """
    request, contents = open_inputs(request, pipeline.editor.inputs)
    levels = [schedule[i] for i in range(len(schedule))]
    identity = identify_method(pipeline), noise.seed, levels, contents, identify_request(request)
    recalls = {ratio: Recall("edit", (*identity, ratio)) for ratio in sorted(ratios)}
    found: dict[float, Item] = {}
    for ratio, recall in recalls.items():
        if items := (yield recall):
            found[ratio] = items[0]
            yield Keep(recall, items)  # nobody else need wait for it
    missing = [ratio for ratio in ratios if ratio not in found]
    parts = {ratio: unpack(item) for ratio, item in found.items()}
    if missing:
        count: Count = Counter()
        try:
            made = yield from count_evaluations(pipeline(request, missing, schedule, noise), count)
        except Exception:
            if found:  # the record of a request that fails has its cost, too
                spent = Cost(0, 0, {purpose: n for (purpose, edit), n in count.items() if edit is None})
                yield Credit("edit", sum_costs([cost for _, cost in parts.values()], [spent]))
            raise
        for i, ratio in enumerate(missing):
            parts[ratio] = select_edit(made, i), pick_cost(count, made.edits[i].level)
            yield Keep(recalls[ratio], [pack(*parts[ratio])])
    if found:
        yield Credit("edit", sum_costs([parts[r][1] for r in found], [parts[r][1] for r in missing]))
    return join([parts[ratio][0] for ratio in ratios])


def can_take_over(pipeline: EditPipeline) -> bool:
    """Whether the method is told by its settings: a class that hides what it holds might look like another."""
    stages = pipeline.editor, pipeline.reconstruct, pipeline.rank
    return all(is_dataclass(stage) for stage in stages)


# ------------------------------------------------------------------------------------------------------------ identity


def identify_method(pipeline: EditPipeline) -> str:
    """Its settings, its networks, and the files that its classes lie in; our own code is part of all that is shared."""
    stages = {name: describe(getattr(pipeline, name)) for name in ("editor", "reconstruct", "rank", "samples")}
    modules = {inspect.getmodule(type(stage)) for stage in (pipeline.editor, pipeline.reconstruct, pipeline.rank)}
    files = sorted({file for module in modules if (file := getattr(module, "__file__", None))})
    return json.dumps([stages, pipeline.networks, [hash_text(Path(file).read_text()) for file in files]])


@lru_cache
def hash_code() -> str:
    """Of the methods' own code: what was made by other code is not taken over."""
    package = Path(__file__).parents[1]
    files = [*package.rglob("*.py"), *(package.parent / "baselines").rglob("*.py")]
    return hash_text("".join(hash_text(file.read_text(encoding="utf-8")) for file in sorted(files)))


def identify_request(request: EditRequest) -> dict[str, Any]:
    """What a method may read of a request, beside pictures; a TypeError of what cannot be hashed comes later."""
    names = ("id", "source", "target", "label")
    classes = {name: str(getattr(request, name)) for name in ("source_class", "target_class")}
    return {name: getattr(request, name) for name in names} | classes | {"extras": dict(request.extras)}


def open_inputs(request: EditRequest, inputs: Collection[str]) -> tuple[EditRequest, dict[str, Tensor]]:
    """The request with its pictures opened, and these by name."""
    loads = {name: getattr(request, name) for name in sorted({"image", *inputs})}
    opened = {name: load() for name, load in loads.items() if load is not None}
    return replace(request, **{name: lambda value=value: value for name, value in opened.items()}), opened


# ------------------------------------------------------------------------------------------------------------ counting


def count_evaluations(program: Program[EditResult], count: Count) -> Program[EditResult]:
    """The same program; what it costs by itself is counted on the way."""

    def ask(query: Query) -> Program[Any]:
        add_cost(query, count)
        return (yield query)

    return route_queries(program, ask)


def add_cost(query: Query, count: Count) -> None:
    """Count a query's evaluations by purpose, and by the start level of the edit that each serves."""
    match query:
        case Credit():
            count.update({(query.purpose, edit): n for edit, n in query.evaluations.items()})
        case Predict():
            count.update((query.purpose, edit) for edit in query.edits or [None] * len(query.x))
        case CustomBatch():
            for edit in query.edits or [None] * len(query.rows):
                count["decoding", edit] += query.evaluations


def pick_cost(count: Count, level: int) -> Cost:
    """What an edit that starts at this level costs by itself: of an inversion the part up to there."""
    top = max((edit for _, edit in count if edit is not None), default=level)
    shared = {purpose: n for (purpose, edit), n in count.items() if edit is None}
    if "inversion" in shared:
        shared["inversion"] = shared["inversion"] * level // top
    return Cost(level, sum(n for (_, edit), n in count.items() if edit == level), shared)


def sum_costs(found: Sequence[Cost], made: Sequence[Cost]) -> dict[int | None, int]:
    """The evaluations behind edits that were found, beside others that were made: what all share counts once."""
    purposes = {purpose for cost in found for purpose in cost.shared}
    missing = 0
    for purpose in purposes:
        most, paid = (max((cost.shared.get(purpose, 0) for cost in costs), default=0) for costs in (found, made))
        missing += max(most - paid, 0)
    return {None: missing} | {cost.level: cost.own for cost in found}


# ------------------------------------------------------------------------------------------------- results as tensors


def select_edit(result: EditResult, i: int) -> EditResult:
    """The result with one of its edits, and all that a run of this strength alone would have given."""
    samples = [select_edit(sample, i) for sample in result.samples]
    base = result.samples[result.edits[i].sample] if samples else result
    return replace(base, edits=[result.edits[i]], samples=samples)


def join(parts: Sequence[EditResult]) -> EditResult:
    """One result of several that have an edit each; the best sample of the first strength lends mask and map."""
    samples = [join(ones) for ones in zip(*(part.samples for part in parts), strict=True)]
    return replace(parts[0], edits=[part.edits[0] for part in parts], samples=samples)


def pack(result: EditResult, cost: Cost) -> dict[str, Tensor]:
    """A result of one edit as tensors."""
    tensors: dict[str, Tensor] = {}
    facts = {"cost": cost, "results": []}
    for k, one in enumerate([result, *result.samples]):
        edit = one.edits[0]
        images = {"image": torch.from_numpy(np.array(to_pil(edit.image))), "mask": one.mask, "map": one.contrast_map}
        images["pixel_mask"] = one.pixel_mask
        tensors |= {f"{k}.{name}": value.cpu() for name, value in images.items() if value is not None}
        facts["results"].append(
            {"metadata": dict(one.metadata), "variant": asdict(edit.variant), "level": edit.level}
            | {"sample": edit.sample, "score": edit.score}
        )
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8).copy()
    return tensors | {"facts": torch.from_numpy(text)}


def unpack(item: Item) -> tuple[EditResult, Cost]:
    """The result of such tensors, and what it cost."""
    facts = json.loads(item["facts"].cpu().numpy().tobytes())
    results = []
    for k, fact in enumerate(facts["results"]):
        image = item[f"{k}.image"].cpu().permute(2, 0, 1).float() / 255
        edit = Edit(Variant(**fact["variant"]), fact["level"], image, fact["sample"], fact["score"])
        parts = (item.get(f"{k}.{name}") for name in ("mask", "map", "pixel_mask"))
        results.append(EditResult([edit], *parts, metadata=fact["metadata"]))
    return replace(results[0], samples=results[1:]), Cost(*facts["cost"])
