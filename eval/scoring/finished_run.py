"""A finished run as it is read back: its requests, what was made of each, and the pictures."""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffedit.io.data import make_of_data, read_data
from diffedit.io.files import hash_file, quote_file_name, read_regular
from diffedit.io.images import get_path, open_file, open_image, resize_to, to_tensor, with_resolution
from diffedit.io.prefetch import prefetch
from diffedit.runs.archive import refuse_archived
from diffedit.runs.cut import get_shard_path, list_shards, read_cut
from diffedit.runs.directory import find_changed_fields
from diffedit.runs.migrate import migrate_config
from diffedit.runs.records import find_changed_sources, find_damage, read_whole_record
from diffedit.runs.shapes import is_square
from diffedit.runs.shards import PackedRecords
from diffedit.types import UNEDITED, EditRequest, Variant
from eval.scoring.batch import Batch
from eval.scoring.features import chunk

LARGEST_FILE = 2**28  # bytes of a mask or map
MARKS = ("benchmark_version", "is_bound", "strength_name")  # of a config, beside what is asked for
MEASURED = ("source", "mask", "map", "seconds", "error")  # of a record, beside what makes it whole


class IncompleteRunError(ValueError):
    """The run misses edits that its benchmark asks for: a score of the others would compare different sets."""


class CompactRecords(Mapping[str, dict[str, Any]]):
    """Records by id, as JSON until one is asked for: as objects, many of them take ten times the memory.

    Args:
        records: (id, record) of each.
    """

    def __init__(self, records: Iterable[tuple[str, dict[str, Any]]]) -> None:
        self.texts = {name: json.dumps(record).encode() for name, record in records}

    def __getitem__(self, name: str) -> dict[str, Any]:
        return json.loads(self.texts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)


class RecordsInOrder(Sequence[dict[str, Any]]):
    """The records of some requests; each is looked up when it is asked for."""

    def __init__(self, records: Mapping[str, dict[str, Any]], requests: Sequence[EditRequest]) -> None:
        self.records, self.requests = records, requests

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.records[self.requests[i].id]

    def __len__(self) -> int:
        return len(self.requests)


class FinishedRun:
    """One run directory; of any release, in today's names.

    Args:
        root: the directory.
        resolution: to which pictures and masks are brought before anything is measured; None leaves them as they are.
            Pictures that are not square are left so.

    Attributes:
        config: of the run.
        variants: what was made of each picture.
        benchmark: where its requests come from; it draws and downloads nothing.
        requests: in the benchmark's order.
        records: what the run says of each request, by id.

    Raises:
        FileNotFoundError: that is no run directory.
        IncompleteRunError: there is no edit.
        ValueError: the benchmark has another version now, or is no longer there; or the pictures are in a tar.
    """

    def __init__(self, root: Path, resolution: int | None = None) -> None:
        self.root = root
        self.config = read_config(root)
        refuse_archived(root)
        self.variants = [Variant(float(ratio), self.config["strength_name"]) for ratio in self.config["ratios"]]
        self.benchmark = make_of_data(self.config["benchmark"], str(root / "config.yaml")).read_only()
        if self.benchmark.version != (begun := self.config["benchmark_version"]):
            raise ValueError(
                f"{root} was run on version {begun} of its benchmark, which now has {self.benchmark.version}"
            )
        self.is_square = is_square(self.benchmark)
        self.resolution = resolution or self.edit_resolution
        if not self.is_square and self.resolution != self.edit_resolution:
            raise ValueError(
                f"resolution = {resolution}: {root} has pictures that are not square, and they are measured as they "
                "are: resolution=null"
            )
        self.requests = list(self.benchmark.requests(self.edit_resolution))
        if self.is_square:
            self.requests = [with_resolution(request, self.resolution) for request in self.requests]
        packed, cut = PackedRecords(root), read_cut(root)
        self.records: Mapping[str, dict[str, Any]] = CompactRecords(
            (request.id, read_record(root, request.id, self.variants, packed, i // cut.size if cut else None))
            for i, request in enumerate(self.requests)
        )

    @cached_property
    def edit_resolution(self) -> int:
        """Of the backbone, by the edits on disk."""
        first = next(self.root.glob("images/*/*.png"), None)
        if first is None:
            raise IncompleteRunError(f"{self.root}: no edits there")
        try:
            with open_file(first) as picture:  # its head alone: what is cut short below is named when it is scored
                return getattr(self.benchmark, "find_resolution", min)(picture.size)
        except OSError as error:
            raise OSError(f"{first}: {error}; delete it and start the run again") from error

    def check(self) -> None:
        """Refuse a run with missing or failed edits, or whose benchmark has come to ask for something else."""
        failed = [f"{name}: {record['error']}" for name, record in self.records.items() if record["status"] != "done"]
        if failed:
            lines = "\n  ".join(failed[:10] + [f"and {len(failed) - 10} more"] * (len(failed) > 10))
            raise IncompleteRunError(
                f"{self.root}: {len(failed)} of {len(self.records)} requests have no edits{self.describe_shards()}; "
                f"start it again:\n  {lines}"
            )
        for request in self.requests:
            if changes := find_changes(self.records[request.id], request):
                raise ValueError(
                    f"{self.root}: {request.id} is not what was edited: {'; '.join(changes)}; run it again"
                )
        measured = (record | {"map": None} for record in self.records.values())  # maps are drawn, and checked there
        if damage := [fault for record in measured for fault in find_damage(self.root, record)]:
            lines = "\n  ".join(damage[:10] + [f"and {len(damage) - 10} more"] * (len(damage) > 10))
            raise IncompleteRunError(
                f"{self.root}: gone, truncated or changed after the run wrote it; start the run again:\n  {lines}"
            )

    def describe_shards(self) -> str:
        """How many files of shards there are; "" for a run that is not cut."""
        cut = read_cut(self.root)
        return "" if cut is None else f" ({len(list_shards(self.root))} of {cut.shards} shards are there)"

    def pick(self, requests: Sequence[EditRequest]) -> "FinishedRun":
        """The same, of some of its requests alone."""
        _ = self.latent_grid  # of all: a part may have no map
        part = copy(self)
        for name in ("other_hash", "written"):  # what was kept of all
            part.__dict__.pop(name, None)
        part.requests = list(requests)
        part.records = CompactRecords((request.id, self.records[request.id]) for request in requests)
        return part

    def edit(self, request_id: str, variant: Variant) -> Mapping[str, Any]:
        """What the record says of one edit."""
        return next(edit for edit in self.records[request_id]["edits"] if edit["variant"] == str(variant))

    def hashes(self, variant: Variant) -> list[str]:
        """The content hash of each edit of a variant."""
        return [self.edit(request.id, variant)["sha256"] for request in self.requests]

    @cached_property
    def other_hash(self) -> str:
        """Names what a run holds beside its edits: masks, samples, seconds."""
        digest = hashlib.sha256()
        for record in self.records.values():
            samples = [[sample["sha256"], sample["best"]] for sample in record.get("samples", ())]
            digest.update(json.dumps([record["seconds"], samples]).encode())
            masks = {record["mask"], *(edit.get("mask") for edit in record["edits"])} - {None}
            for file in sorted(masks):
                digest.update(read_regular(self.root / file, LARGEST_FILE))
        return digest.hexdigest()

    # ----------------------------------------------------------------------------------------------------- pictures

    def batches(self, size: int, unedited: bool = False) -> Iterator[dict[Variant, Batch]]:
        """All requests in order, `size` at a time: a batch for each variant, with the same inputs.

        Where these are of several shapes, those of each shape are a batch, in the order of the first of each.

        Args:
            size: requests in a batch.
            unedited: whether to add, at `UNEDITED`, a batch in which nothing was edited.
        """
        with ThreadPoolExecutor(2, "decoder") as decoders, ThreadPoolExecutor(1, "batches") as ahead:
            load = partial(self.load_shapes, unedited=unedited, decoders=decoders)
            for batches in prefetch(chunk(self.requests, size), load, 1, ahead):
                yield from batches

    def load_shapes(
        self, requests: list[EditRequest], unedited: bool, decoders: ThreadPoolExecutor
    ) -> list[dict[Variant, Batch]]:
        """Some requests, their pictures loaded, those of a shape together."""
        groups: dict[tuple[int, ...], list[tuple[EditRequest, Tensor]]] = {}
        for request, image in zip(requests, decoders.map(lambda request: request.image(), requests), strict=True):
            groups.setdefault(tuple(image.shape), []).append((request, image))
        pairs = [tuple(map(list, zip(*group, strict=True))) for group in groups.values()]
        return [self.load_batches(some, torch.stack(images), unedited, decoders) for some, images in pairs]

    def load_batches(
        self,
        requests: list[EditRequest],
        inputs: Float[Tensor, "b 3 H W"],
        unedited: bool,
        decoders: ThreadPoolExecutor,
    ) -> dict[Variant, Batch]:
        """What was made of some inputs of one shape."""
        records = [self.records[request.id] for request in requests]
        has_samples = all("samples" in record for record in records)
        batches = {}
        for variant in self.variants:
            files = [self.edit(request.id, variant) for request in requests]
            load = partial(self.load_edit, shape=inputs.shape[1:])
            batches[variant] = Batch(
                requests,
                inputs,
                edits=torch.stack(list(decoders.map(load, files))),
                masks=self.load_masks(requests, variant),
                domain=self.benchmark.domain,
                records=records,
                variant=variant,
                samples=partial(self.load_samples, records, variant) if has_samples else None,
                grid=self.latent_grid if self.is_square else self.find_grid(records),
            )
        if unedited:
            batches[UNEDITED] = Batch(requests, inputs, inputs, None, self.benchmark.domain)
        return batches

    def find_grid(self, records: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
        """Of the contrast maps of pictures of one shape; None where they have none."""
        files = (record["map"] for record in records if record.get("map"))
        return next((read_map(self.root / file).shape for file in files), None)

    @cached_property
    def latent_grid(self) -> tuple[int, int] | None:
        """Of the contrast maps, those of the first shape; None where the method makes none."""
        return self.find_grid(list(self.records.values()))

    def load_edit(self, edit: Mapping[str, Any], shape: Sequence[int] | None = None) -> Float[Tensor, "3 H W"]:
        """The picture of an edit; an OSError where it is not what the run wrote, or of another shape than its input."""
        path = self.find_written(edit["file"])
        picture = read_picture(path)
        if not self.is_square:
            if shape is not None and picture.shape != tuple(shape):
                size, wanted = (tuple(one[1:]) for one in (picture.shape, shape))
                raise OSError(f"{path}: {size} pixels, and its input has {wanted}")
            return picture
        if picture.shape[1:] != (self.edit_resolution, self.edit_resolution):
            raise OSError(f"{path}: {tuple(picture.shape[1:])} pixels, and other edits have {self.edit_resolution}")
        return resize_to(picture, self.resolution)

    def load(self, file: str) -> Float[Tensor, "c H W"]:
        """A picture or mask of the run, as it is measured; an OSError where it is not what the run wrote."""
        picture = read_picture(self.find_written(file))
        return resize_to(picture, self.resolution) if self.is_square else picture

    def find_written(self, file: str) -> Path:
        """Where a file of the run lies; an OSError where its content is not what the run wrote."""
        return check_written(self.root, file, self.written)

    @cached_property
    def written(self) -> dict[str, str]:
        """The content hash of each file, as far as the records have it: those of before know that of edits alone."""
        return {file: sha256 for record in self.records.values() for file, sha256 in list_written(record)}

    def load_samples(
        self, records: Sequence[Mapping[str, Any]], variant: Variant
    ) -> tuple[Float[Tensor, "b n 3 H W"], Float[Tensor, "b n"]]:
        """Every sample of these requests of one variant, and which is the best."""
        rows = [[entry for entry in record["samples"] if entry["variant"] == str(variant)] for record in records]
        images = torch.stack([torch.stack([self.load(entry["file"]) for entry in row]) for row in rows])
        return images, torch.tensor([[float(entry["best"]) for entry in row] for row in rows])

    def load_masks(self, requests: list[EditRequest], variant: Variant) -> Float[Tensor, "b 1 H W"] | None:
        """The masks that the run used, or None; of several samples, each with a mask, that of the best."""
        files = [self.edit(request.id, variant).get("mask", self.records[request.id]["mask"]) for request in requests]
        return None if None in files else torch.stack([self.load(file) for file in files])


def list_written(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(file, hash of its content) of what a record says that was written."""
    for entry in [*record.get("edits", ()), *record.get("samples", ())]:
        yield entry["file"], entry["sha256"]
    for file, written in record.get("files", {}).items():
        yield file, written["sha256"]


def check_written(root: Path, file: str, written: Mapping[str, str]) -> Path:
    """Where a file of a run lies; an OSError where its content is not what was written."""
    path = root / file
    if path.exists() and not path.is_file():
        raise OSError(f"{path}: not a regular file; delete it and start the run again")
    if path.is_file() and file in written and hash_file(path) != written[file]:
        raise OSError(f"{path}: truncated or changed after the run wrote it; delete it and start the run again")
    return path


def find_changes(record: Mapping[str, Any], request: EditRequest) -> list[str]:
    """Where a request, or a file that it is loaded from, is no longer what its record says."""
    return find_changed_fields(record, request) or find_changed_sources(record, request)


def read_config(root: Path) -> dict[str, Any]:
    """The config of a run in today's names.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is damaged, or no config of a run; the message names it.
        ValueError: the benchmark of a run of before is no longer there.
    """
    path = root / "config.yaml"
    if not path.exists():
        raise FileNotFoundError(f"{root}: no config.yaml there, so not a run directory")
    try:
        config = read_data(path)
        check_config(config)
    except (ValueError, TypeError) as error:
        text = str(error).removeprefix(f"{path}: ")
        raise OSError(f"{path}: damaged ({text}): put back what the run wrote") from error
    try:
        config = migrate_config(config)
    except (TypeError, AttributeError, KeyError) as error:
        raise OSError(f"{path}: damaged ({error!r}): put back what the run wrote") from error
    if lacking := [key for key in MARKS if key not in config]:
        raise OSError(f"{path}: damaged (no {', '.join(lacking)}): put back what the run wrote")
    return config


def check_config(config: Any) -> None:
    """Refuse what is no config of a run, of any release: a ValueError or TypeError that says why."""
    if not isinstance(config, Mapping):
        raise TypeError("no names and values")
    benchmark, ratios = config.get("benchmark"), config.get("ratios")
    if not isinstance(benchmark, Mapping) or "_target_" not in benchmark:
        raise ValueError("no benchmark")
    numbers = ratios if isinstance(ratios, list) else []
    if not numbers or any(isinstance(ratio, bool) or not isinstance(ratio, int | float) for ratio in numbers):
        raise ValueError(f"ratios = {ratios!r}")


def read_record(
    root: Path, request_id: str, variants: Sequence[Variant], packed: PackedRecords, number: int | None = None
) -> dict[str, Any]:
    """What a run says of one request, in today's fields; whatever is wrong with it is its `error`.

    Args:
        root: of the run.
        request_id: of the request.
        variants: that the run asks for.
        packed: the records of its shards.
        number: the shard that the request belongs to; None where that is not known.
    """
    path = root / "records" / f"{quote_file_name(request_id)}.json"
    if path.exists() and not path.is_file():
        return {"status": "missing", "error": f"{path} is not a regular file"}
    record = read_whole_record(path)
    if record is None:
        place, record = packed.find_place(request_id), packed.find(request_id)
        if record is None:
            return {"status": "missing", "error": explain_missing(path, place, packed, number)}
        path = place
    if lacking := find_lacking(record):
        return {"status": "missing", "error": f"{path} has no {lacking}"}
    for entry in [*record["edits"], *record.get("samples", ())]:
        entry["variant"] = str(Variant.parse(entry["variant"]))  # a strength of 1 and of 1.0 are one
    there = {edit["variant"] for edit in record["edits"]}
    if record["status"] == "done" and (gone := [str(variant) for variant in variants if str(variant) not in there]):
        return {"status": "missing", "error": f"{path} has no edit of {', '.join(gone)}"}
    return record


def explain_missing(loose: Path, place: Path | None, packed: PackedRecords, number: int | None) -> str:
    """Why there is no whole record of a request: the file that should have it, and what is wrong with it.

    Args:
        loose: where it lies if its shard is not done.
        place: of the shard that has its rows; None where none has.
        packed: the records of all shards, as they were read.
        number: the shard that the request belongs to, if that is known.
    """
    if loose.exists():
        return f"{loose} is damaged"
    if place is not None:
        return packed.damaged.get(place, f"{place} has no whole record of it")
    own = next(iter(packed.damaged), None) if number is None else get_shard_path(packed.root, number)
    return packed.damaged.get(own, "not run yet")


def find_lacking(record: Mapping[str, Any]) -> str:
    """The fields that a record of a run does not have, and that are read of it; "" for none."""
    return ", ".join(key for key in MEASURED if key not in record)


def read_picture(path: Path) -> Float[Tensor, "c H W"]:
    """A picture that a run wrote, in [0, 1]; whatever is wrong with it is an OSError that names it."""
    with open_image(path) as picture:
        return to_tensor(picture)


def read_map(path: Path) -> Float[ndarray, "h w"]:
    """A contrast map that a run wrote; an OSError names one that is none."""
    try:
        return np.load(io.BytesIO(read_regular(path, LARGEST_FILE)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise OSError(f"{path}: no contrast map ({error}); delete it and start the run again") from error


def stamp_files(request: EditRequest) -> list[Any]:
    """Tells whether a picture's file, and its mask's, are still the same; of drawn ones the origin tells it."""
    stamp: list[Any] = [request.origin]
    for path in map(get_path, (request.image, request.mask)):
        if path is not None and path.is_file():
            stamp += [path.stat().st_size, path.stat().st_mtime_ns]
    return stamp
