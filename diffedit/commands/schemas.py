"""What each command's own settings may be: the top of its config in conf/, without the classes that are chosen there.

Nothing is imported here that takes its time, so that a mistake is told in a moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from diffedit.io.checks import Count, Ratio, Seed
from diffedit.io.schema import NOTHING, Made, check_config

if TYPE_CHECKING:
    from omegaconf import DictConfig

Names = str | tuple[str, ...]
"""One or more."""

Strength = Annotated[float, Gt(0)]
Resamples = Count
Pixels = Count | None
Columns = Annotated[tuple[Literal["benchmark", "backbone"], ...], MinLen(1)]


@dataclass
class Batch:
    """engine.batch of a run."""

    predict: Count | Literal["default", "auto"]
    encode: Count | Literal["default", "auto"]
    decode: Count | Literal["default", "auto"]
    embed: Count | Literal["default", "auto"]
    custom: Count | Literal["default", "auto"]
    requests: Count | None = None


@dataclass
class Engine:
    """engine of a run."""

    batch: Batch | Literal["default", "auto"]
    max_live: Count | None
    embedding_cache: Annotated[int, Ge(0)]
    threads: Count
    cpu_threads: Count | None
    progress: bool


@dataclass
class Shards:
    """shards of a run."""

    size: Count | None


@dataclass
class Claims:
    """claims of a run."""

    timeout: Annotated[float, Gt(0)]


@dataclass
class Method:
    """What `run` and `edit` have in common."""

    backbone: Made
    editor: Made
    reconstruct: Made
    rank: Made
    benchmark: Made
    samples: Count
    ratios: Annotated[tuple[Ratio, ...], MinLen(1)]
    steps: Count
    seed: Seed
    max_pixels: Pixels


@dataclass
class Run(Method):
    """diffedit run."""

    launcher: Made
    on_error: Literal["skip", "stop"]
    verify: Literal["size", "content", "none"]
    wait: bool
    plan: bool
    together: bool
    refine: str | None
    refine_score: tuple[str, ...]
    cache: str | None
    cache_gigabytes: Annotated[float, Gt(0)]
    cache_edits: bool
    shard: str | None
    shards: Shards
    claims: Claims
    runs: str
    name: Any  # checked when the folder is named (`diffedit.runs.names`): a number is a name, too
    engine: Engine


@dataclass
class EditBatch:
    """engine.batch of an edit."""

    predict: Count
    encode: Count
    decode: Count
    embed: Count
    custom: Count
    requests: Count | None = None


@dataclass
class EditEngine:
    """engine of an edit."""

    batch: EditBatch
    cpu_threads: Count | None
    progress: bool


@dataclass
class Edit(Method):
    """diffedit edit."""

    resize: Made
    engine: EditEngine


@dataclass
class Score:
    """diffedit score."""

    networks: Mapping[str, Made]
    metric: Mapping[str, Made]
    logger: Made
    launcher: Made
    runs: str
    folder: str | None
    against: str | None
    reference: str | None
    resolution: Pixels
    resamples: Resamples
    seed: Seed
    batch: Count
    threads: Count
    cpu_threads: Count | None
    max_pixels: Pixels
    cache: str
    shard: str | None
    columns: tuple[str, ...] | None
    group: Columns
    agree: str | None
    published: str | None
    out: str | None


@dataclass
class Plot:
    """diffedit plot."""

    draw: Literal["tradeoff", "proposition1"]
    runs: str
    x: Names
    y: Names
    match: str
    match_at: tuple[float, ...] | None
    compare: tuple[str, ...]
    method: str
    by_area: tuple[str, ...]
    areas: tuple[Annotated[float, Ge(0)], ...]
    resamples: Resamples
    seed: Seed
    published: str | dict[str, str] | None
    panels: Literal["benchmark"] | None
    width: str | float
    height: Annotated[float, Gt(0.5)] | None
    formats: Annotated[tuple[Literal["png", "pdf", "svg"], ...], MinLen(1)]
    title: str | None
    out: str
    names: dict[str, str] | None


@dataclass
class Table:
    """diffedit table."""

    runs: Names
    rows: Literal["all", "ratio", "equal"]
    at: Strength | None
    match: str | None
    match_at: tuple[float, ...] | float
    columns: Names | None
    group: Literal["benchmark", "backbone"] | Columns
    interval: Literal["half", "range", "none"]
    published: str | dict[str, str] | None
    title: str | None
    label: str | None
    float: bool
    format: Literal["markdown", "latex", "csv", "html"] | None
    out: Names | None
    resamples: Resamples
    seed: Seed
    names: dict[str, str] | None


@dataclass
class Report:
    """diffedit report."""

    logger: Made
    runs: Names
    out: str
    paired: bool
    x: str
    y: Names
    method: str
    published: str | None
    thumbs: Annotated[int, Ge(16)]
    count: Count | None
    copy: bool
    single_file: bool
    limit: Annotated[float, Ge(0.001)]
    open: bool
    threads: Count
    resamples: Resamples
    seed: Seed


@dataclass
class Doctor:
    """diffedit doctor."""

    backbone: Made
    pictures: str
    count: Count
    source: str | None
    target: str | None
    steps: Annotated[tuple[Count, ...], MinLen(1)]
    ratios: Annotated[tuple[Ratio, ...], MinLen(1)]
    guidance: float
    seed: Seed
    levels: Annotated[tuple[Count, ...], MinLen(1)] | None
    max_pixels: Pixels


@dataclass
class CheckBenchmark:
    """diffedit check-benchmark."""

    benchmark: Made
    backbone: Made
    threads: Count
    max_pixels: Pixels
    show: Annotated[int, Ge(0)]


@dataclass
class ReferenceStats:
    """diffedit reference-stats."""

    networks: Mapping[str, Made]
    benchmark: Made
    folder: str | None
    without: Names | None
    resolution: Count
    resize: Made
    per_class: Count | None
    size: Count
    held: Annotated[int, Ge(0)]
    keep: Count
    extractors: Annotated[tuple[str, ...], MinLen(1)]
    max_pixels: Pixels
    batch: Count
    threads: Count
    out: str


@dataclass
class Schedule:
    """training.schedule: `TrainingSchedule` says more of it."""

    steps: Count
    batch: Count
    rate: Annotated[float, Gt(0)]
    warmup: Annotated[int, Ge(0)]
    decay: Annotated[float, Ge(0)]
    validate: Count
    minutes: Annotated[float, Ge(0)]
    workers: Annotated[int, Ge(0)]
    seed: Seed


@dataclass
class Training:
    """training of scripts/train_stilllife.py."""

    network: Made
    schedule: Schedule


@dataclass
class Train:
    """scripts/train_stilllife.py."""

    training: Training
    out: str
    device: str
    bfloat16: bool


SCHEMAS: Mapping[str, type] = {
    "run": Run,
    "edit": Edit,
    "score": Score,
    "plot": Plot,
    "paper_table": Table,
    "report": Report,
    "doctor": Doctor,
    "check_benchmark": CheckBenchmark,
    "reference_stats": ReferenceStats,
    "train": Train,
}
"""By the names of yaml in conf/."""


def check_command(
    cfg: "DictConfig", name: str, *, is_whole: bool = True, spelled: Mapping[str, str] | None = None
) -> None:
    """Refuse a config of conf/<name>.yaml as `diffedit.io.schema.check_config` does, or ratios that mean no level.

    Raises:
        ValueError: a sentence for each key at fault.
    """
    schema = SCHEMAS[name]
    check_config(cfg, schema, is_whole=is_whole, defaults=partial(find_default, name), spelled=spelled)
    if is_whole and issubclass(schema, Method):
        from diffedit.sampling.schedule import check_ratios

        check_ratios(list(cfg.ratios), cfg.steps)


def find_default(name: str, key: str) -> Any:
    """What conf/<name>.yaml has for a key of its own."""
    value: Any = read_yaml(name)
    try:
        for part in key.split("."):
            value = value[part]
    except (KeyError, TypeError):  # of a group, or it is composed of others
        return NOTHING
    return value


@lru_cache
def read_yaml(name: str) -> Any:
    """conf/<name>.yaml as it is written."""
    import yaml

    from diffedit.io.files import find_shipped

    return yaml.safe_load((find_shipped("conf") / f"{name}.yaml").read_text(encoding="utf-8"))
