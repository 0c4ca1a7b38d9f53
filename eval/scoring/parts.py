"""A run measured part by part: what is measured on the pictures of a part is kept until the scores are written.

    scores/parts/<metric>/<number>.parquet  what a metric measured on each image of a part, and the key of what it is of
    scores/parts/inputs/<number>.json       the content of its inputs
    scores/parts/measured/<number>          it was measured ahead, by `diffedit score shard=k/N`

So a process that is killed goes on where it was, and several share a run: each measures the parts of its share, and the
one that comes after them finds all there.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from diffedit.io.files import read_regular, write
from diffedit.runs.cut import Share, count_records, read_cut
from diffedit.types import EditRequest, Variant
from eval.scoring.features import chunk
from eval.scoring.files import LARGEST, get_parts_path
from eval.scoring.finished_run import FinishedRun, IncompleteRunError
from eval.scoring.metric import Metric
from eval.scoring.per_image import Values, ValuesInParts, measure, split_values

log = logging.getLogger("score")

SMALLEST = 64  # requests in a part, or more, so that its batches are whole
KEY = b"key"  # of a file's own metadata
DONE = "measured"  # folder of the numbers of parts that were measured by a share
ALL = Share()


def cut_requests(requests: Sequence[EditRequest], batch: int) -> list[list[EditRequest]]:
    """The parts of a run: whole batches, so that measuring them apart or in one go measures the same batches."""
    return list(chunk(requests, count_requests(batch)))


def count_requests(batch: int) -> int:
    """How many requests are in a part."""
    return -(-SMALLEST // batch) * batch


@dataclass(eq=False)
class Parts:
    """The parts of a run, and what was measured on them.

    Attributes:
        run: that is measured.
        batch: requests in a batch.
        make_key: names everything that decides what a metric measures on some requests of the run.
    """

    run: FinishedRun
    batch: int
    make_key: Callable[[FinishedRun, Metric], str]

    def measure(self, metrics: Mapping[str, Metric]) -> tuple[dict[str, str | None], dict[str, dict[Variant, Values]]]:
        """As `per_image.measure` of the whole run; what was measured before is read."""
        if not metrics:
            return {}, {}
        reasons: dict[str, str | None] = dict.fromkeys(metrics)
        parts = ValuesInParts()
        with self.show_progress() as bar:
            for number, requests in enumerate(cut_requests(self.run.requests, self.batch)):
                left = {name: metric for name, metric in metrics.items() if reasons[name] is None}
                of_part, values = self.measure_part(number, requests, left, bar)
                reasons |= of_part
                for name, by_variant in values.items():
                    for variant, by_key in by_variant.items():
                        for key, column in by_key.items():
                            parts.add(name, variant, key, column)
        return reasons, parts.join(reasons)

    def measure_part(
        self, number: int, requests: Sequence[EditRequest], metrics: Mapping[str, Metric], bar: tqdm
    ) -> tuple[dict[str, str | None], dict[str, dict[Variant, Values]]]:
        """(why a metric is not defined, values) of one part: read as far as they are there, and else kept."""
        part = self.run.pick(requests)
        keys = {name: self.make_key(part, metric) for name, metric in metrics.items()}
        values = {}
        for name in metrics:
            if (known := read_part(self.run.root, name, number, keys[name])) is not None:
                values[name] = known
        missing = {name: metric for name, metric in metrics.items() if name not in values}
        if not missing:
            bar.update(len(requests))
            return {}, values
        reasons, measured = measure(part, missing, self.batch, bar)
        for name in missing:
            if reasons[name] is None:
                write_part(self.run.root, name, number, keys[name], measured[name])
        return reasons, values | measured

    def iterate(self, share: Share) -> Iterator[tuple[int, FinishedRun]]:
        """(number, part) of a share; parts that miss edits are named in the log, and left out."""
        for number, requests in enumerate(cut_requests(self.run.requests, self.batch)):
            if share.has(number):
                part = self.run.pick(requests)
                try:
                    part.check()
                except IncompleteRunError as error:
                    log.warning("part %d is not measured: %s", number, error)
                    continue
                yield number, part

    def show_progress(self, share: Share = ALL) -> tqdm:
        """A bar over the requests of a share."""
        parts = enumerate(cut_requests(self.run.requests, self.batch))
        total = sum(len(requests) for number, requests in parts if share.has(number))
        return tqdm(total=total, desc=str(self.run.root), unit="request", leave=False)

    def __len__(self) -> int:
        return len(cut_requests(self.run.requests, self.batch))


def write_part(root: Path, name: str, number: int, key: str, values: Mapping[Variant, Values]) -> None:
    """Keep what a metric measured on the images of a part."""
    tables = [
        pd.DataFrame(
            {"variant": str(variant)}
            | {key: list(column) if column.ndim > 1 else column for key, column in by_key.items()}
        )
        for variant, by_key in values.items()
        if by_key
    ]
    table = pa.Table.from_pandas(pd.concat(tables), preserve_index=False).replace_schema_metadata({KEY: key.encode()})
    data = pa.BufferOutputStream()
    pq.write_table(table, data, compression="zstd", write_page_checksum=True)
    write(get_parts_path(root) / name / f"{number:06d}.parquet", data.getvalue().to_pybytes())


def read_part(root: Path, name: str, number: int, key: str) -> dict[Variant, Values] | None:
    """What a metric measured on the images of a part; None where that is not there, or of something else."""
    path = get_parts_path(root) / name / f"{number:06d}.parquet"
    try:
        table = pq.read_table(pa.BufferReader(read_regular(path, LARGEST)), page_checksum_verification=True)
        if (table.schema.metadata or {}).get(KEY) != key.encode():
            return None
        return split_values(table.to_pandas())
    except FileNotFoundError:
        return None
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        log.warning("%s: damaged (%s): measured again", path, error)
        return None


def mark_measured(root: Path, number: int) -> None:
    """Note that a part was measured, for whoever shows how far a share is."""
    write(get_parts_path(root) / DONE / f"{number:06d}", b"")


def count_measured(root: Path) -> int:
    """How many parts of a run were measured for whoever scores it."""
    return sum(1 for _ in (get_parts_path(root) / DONE).glob("*"))


def count_parts(root: Path, batch: int) -> int:
    """How many parts a run has, without its benchmark."""
    cut = read_cut(root)
    requests = count_records(root) if cut is None else cut.requests
    return -(-requests // count_requests(batch))


def remove_parts(root: Path, metrics: Sequence[str]) -> None:
    """Remove what was kept of these metrics, once their scores are written."""
    for name in [*metrics, "inputs", DONE]:
        shutil.rmtree(get_parts_path(root) / name, ignore_errors=True)
    with suppress(OSError):  # others may be at parts of other metrics
        get_parts_path(root).rmdir()
