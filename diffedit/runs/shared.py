"""What a run shares with others: where it lies, and what decides its bits."""

import logging
from typing import TYPE_CHECKING, Any

import torch

from diffedit.engine.engine import Engine, LiveProgram
from diffedit.engine.shared import SharedWork
from diffedit.io.disk_cache import DiskCache
from diffedit.runs.describe import describe
from diffedit.runs.environment import describe_environment
from diffedit.runs.take_over import hash_code
from diffedit.types import Backbone

if TYPE_CHECKING:
    from diffedit.runs.loop import RunSettings

log = logging.getLogger("run")


def share_work(
    backbone: Backbone, settings: "RunSettings", are_several: bool = False
) -> SharedWork[LiveProgram] | None:
    """What programs ask each other and earlier runs for; None where nothing is shared.

    Args:
        backbone: the networks.
        settings: of the runs.
        are_several: whether there is more than one, so that programs have something to share without a cache on disk.
    """
    if settings.cache is None:
        return SharedWork({}) if are_several and settings.batch.requests is None else None
    if settings.batch.requests is not None:
        log.warning("cache = %s: not used, as calls are fitted to few requests (engine.batch.requests)", settings.cache)
        return None
    disk = DiskCache(settings.cache, settings.cache_gigabytes * 1e9)
    return SharedWork(describe_context(backbone, settings), disk)


def describe_context(backbone: Backbone, settings: "RunSettings") -> dict[str, Any]:
    """What decides the bits of an answer, beside the question: weights, code, versions, device, sizes of a call."""
    environment = {key: value for key, value in describe_environment().items() if key != "git"}
    return {
        "weights": dict(backbone.fingerprint),
        "backbone": describe(backbone),
        "numerics": getattr(backbone, "numerics", {}),
        "matmul": torch.get_float32_matmul_precision(),
        "batch": vars(settings.batch),
        "code": hash_code(),
        **environment,
    }


def log_evaluations(engine: Engine) -> None:
    """Say what was evaluated, and what did not have to be, by what it was for."""
    if engine.made:
        log.info("evaluations made: %s", describe_counts(engine.made))
    if engine.shared is not None and engine.shared.recalled:
        log.info("evaluations not made again: %s", describe_counts(engine.shared.recalled))


def describe_counts(counts: Any) -> str:
    """Each count, and their sum."""
    return ", ".join(f"{count:,} {purpose}" for purpose, count in sorted(counts.items())) + f" ({counts.total():,})"
