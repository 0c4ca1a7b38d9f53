"""A run that was put together in Python, as the config that makes it again."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Backbone, Benchmark

if TYPE_CHECKING:
    from diffedit.runs.loop import RunSettings


def describe_run(
    benchmark: Benchmark, pipeline: EditPipeline, backbone: Backbone, settings: "RunSettings"
) -> dict[str, Any]:
    """The config of a run that was put together in Python: what `conf/run.yaml` would say."""
    stages = {name: describe(getattr(pipeline, name)) for name in ("editor", "reconstruct", "rank")}
    return {
        "benchmark": describe(benchmark),
        **stages,
        "backbone": describe(backbone),
        "samples": pipeline.samples,
        "ratios": list(settings.ratios),
        "steps": settings.steps,
        "seed": settings.seed,
        "engine": {"batch": vars(settings.batch)},
    }


def read_fingerprint(backbone: Backbone) -> dict[str, str]:
    """The hashes of a backbone's parts as they are now: loaded networks may have been changed since it was last asked.

    Not at every look, though: whether something is a `Backbone` at all is told by looking at each of its attributes.
    """
    if isinstance(getattr(type(backbone), "fingerprint", None), cached_property):
        vars(backbone).pop("fingerprint", None)
    return dict(backbone.fingerprint)


def describe(part: Any) -> Any:
    """An object as a config that makes it again: a dataclass by its class and fields, containers item by item.

    Anything else that is not plain stands there by the name of its class alone: its hash names what it holds.
    """
    if isinstance(part, str | int | float | bool | None):
        return part
    if isinstance(part, Mapping):
        return {str(key): describe(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [describe(value) for value in part]
    kind = type(part)
    names = [field.name for field in fields(part) if field.init] if is_dataclass(part) else []
    values = {name: describe(getattr(part, name)) for name in names}
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **values}
