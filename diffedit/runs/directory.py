"""The run directory: what was asked, what came out, and how a run that was killed goes on.

    config.yaml            the resolved config
    environment.json       versions, git revision and device of the first start
    images/<strength>/<id>.png
    masks/<id>.png         white = edited, at image resolution
    samples/<k>/...        images and masks of every sample, where there are several; those above are the best
    maps/<id>.npy          the raw contrast map, float32, on the latent grid
    records/<id>.json      one a request, written last, with the size and hash of every file and of what it was made of
    shards/<k>.parquet     the records of a shard of requests that were all edited, in the place of those files
    manifest.parquet       one row per request and variant, made from the records

Every file appears by write-then-rename. The records are the truth; the manifest is a view of them, made again at every
end of a run. Names are ids, percent-quoted where a file name needs it.
"""

import hashlib
import io
import json
import logging
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch.nn.functional as F
from omegaconf import OmegaConf

from diffedit.engine.queries import Outcome
from diffedit.io.data import DamagedError, read_data
from diffedit.io.files import Writer, quote_file_name, read_json, sweep, write, write_new
from diffedit.io.hashing import hash_text
from diffedit.io.images import encode_png
from diffedit.io.tables import encode_table
from diffedit.runs.claim import list_at_work, name_holder
from diffedit.runs.cut import FOLDER, Cut, Stamp, get_shard_path, list_shards, read_cut, stamp, write_cut
from diffedit.runs.environment import describe_environment
from diffedit.runs.manifest import build_manifest, merge_manifest
from diffedit.runs.migrate import FORMAT, migrate_config
from diffedit.runs.names import RUNTIME_KEYS
from diffedit.runs.records import (
    Verify,
    find_changed_sources,
    find_damage,
    hash_sources,
    parse_record,
    read_whole_record,
    stamp_sources,
)
from diffedit.runs.schema import check_metadata, list_files
from diffedit.runs.shards import PackedRecords, encode_shard
from diffedit.types import Edit, EditRequest, EditResult, Variant

log = logging.getLogger(__name__)

FOLDERS = {  # and what may be a folder below each
    "images": ("*",),
    "masks": (),
    "maps": (),
    "records": (),
    "shards": (),
    "samples": ("*", "*/*", "*/images/*"),
}
KEPT = ("edits", "mask", "map", "metadata", "files", "sources", "samples")  # of a record whose request fails later


class ConfigChangedError(ValueError):
    """The directory holds a run with other settings."""


class RunGoneError(RuntimeError):
    """Somebody removed the directory of a run that is under way."""

    exit_code = 1


class RunDirectory:
    """One run on disk.

    Args:
        root: the directory; made where absent.
        config: the resolved config, plain containers.
        benchmark_version: compared like a setting.
        is_bound: whether the editor is a floor or ceiling, for tables.
        strength_name: what the editor calls its strengths (`ratios` in the config).
        verify: how closely a resume looks at the files of what is done.
        size_keys: settings of the benchmark of which a larger value only adds requests.

    Raises:
        ConfigChangedError: the directory was begun with other settings; the message names them. More strengths than it
            was begun with, or a larger benchmark, extend it.
        ValueError: a folder of it is none, or a link that leads out of it.
    """

    def __init__(
        self,
        root: Path,
        config: Mapping[str, Any],
        benchmark_version: str = "",
        is_bound: bool = False,
        strength_name: str = "ratio",
        verify: Verify = "size",
        size_keys: Collection[str] = (),
    ) -> None:
        self.root, self.verify, self.size_keys = root, verify, size_keys
        self.config = complete_config(config, benchmark_version, is_bound, strength_name)
        self.variants = [Variant(strength, strength_name) for strength in config["ratios"]]
        self.root.mkdir(parents=True, exist_ok=True)
        check_folders(self.root)
        if not any(list_at_work(root)):  # each of many processes would go through all files
            sweep(self.root)
        self.check_config()
        self.noted = stamp_config(root)
        self.writer = Writer()
        self.packed, self.lock = PackedRecords(root), threading.Lock()
        self.shards: dict[str, int] = {}  # of requests that are asked for, by id
        self.listed = False  # whether these are all
        self.done_here: set[int] = set()  # shards that this process edited
        self.kept: dict[str, dict[str, Any]] = {}  # records of requests that are done but for some strengths
        self.stamps: dict[str, dict[str, dict[str, Any]]] = {}  # of the files of requests that are under way
        self.damage: dict[str, list[str]] = {}  # what is not whole at the end, by request that is done

    def check_config(self) -> None:
        """Note the config of a new directory; refuse one of another. Another environment only gets a warning."""
        path, surroundings = self.root / "config.yaml", self.root / "environment.json"
        if not os.path.lexists(path):
            overwrite(surroundings, json.dumps(describe_environment(), indent=1).encode())
            write_new(path, OmegaConf.to_yaml(OmegaConf.create(self.config)).encode())
        # Also where another start made it between our two calls.
        self.extended = refuse_other_config(self.root, self.config, self.size_keys)
        self.compare_environment(surroundings)

    def compare_environment(self, path: Path) -> None:
        """Warn where the directory was begun with other versions or another device; a damaged note is written anew."""
        try:
            before = read_json(path)
            if not isinstance(before, Mapping):
                raise ValueError("no names and values")
            lines = find_changed_settings(before, describe_environment(), ())
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s: damaged or gone (%s): it is written anew, with what there is now", path, error)
            overwrite(path, json.dumps(describe_environment(), indent=1).encode())
            return
        if lines:
            log.warning("%s was begun with another environment, bits may differ: %s", self.root, "; ".join(lines))

    @contextmanager
    def there(self, made: Path) -> Iterator[None]:
        """Write only into the directory as it was opened: nothing counts as done where somebody removed it.

        Args:
            made: what the block writes; removed where the directory went in that moment, and came back by it.

        Raises:
            RunGoneError: it was removed, before the block or while that wrote.
            ConfigChangedError: a run of other settings lies in its place.
        """
        self.check_there()
        try:
            yield
        except OSError:
            self.check_there()
            raise
        if stamp_config(self.root) is None:
            made.unlink(missing_ok=True)
            self.check_there()

    def check_there(self) -> None:
        """Look whether the directory is still that of this run; errors are those of `there`."""
        now = stamp_config(self.root)
        if now == self.noted:
            return
        if now is None:
            raise RunGoneError(
                f"{self.root}: its config.yaml is gone: somebody removed the run while it was edited. Nothing more is "
                "written; the same command begins it anew, once whoever removes it has ended"
            )
        refuse_other_config(self.root, self.config, self.size_keys)
        self.noted = now

    # ------------------------------------------------------------------------------------------------------- resume

    def cut(self, ids: Sequence[str], size: int, is_alone: Callable[[], None]) -> Cut:
        """Cut the run into shards, as it was before; what its files have of other shards becomes records beside them.

        Args:
            ids: of all requests, in order.
            size: requests in a shard of a run that is not cut yet.
            is_alone: raises where another process is at a shard of the run.

        Raises:
            ConfigChangedError: what is done is no longer asked for by a config that asks for more.
        """
        before = read_cut(self.root)
        cut = Cut.of(ids, before.size if before else size)
        self.shards = {name: i // cut.size for i, name in enumerate(ids)}
        self.listed = True
        if self.extended:
            is_alone()
            self.check_extension()
        if before != cut:
            shards = list_shards(self.root)
            if before or shards or os.path.lexists(self.root / FOLDER / "cut.json"):
                is_alone()
            for path in shards:
                if any(self.shards.get(name) != int(path.stem) for name in self.packed.read_ids(path)):
                    self.unpack(path)
            write_cut(self.root, cut)
        self.packed.is_cut = True
        return cut

    def find_pending(self, requests: Iterable[EditRequest]) -> Iterator[EditRequest]:
        """The requests that are not done yet. Failed ones are tried again: their file may have been mended.

        Raises:
            ConfigChangedError: a request is done under the same id with other texts or another picture or mask.
        """
        for request in requests:
            self.shards.setdefault(request.id, 0)
            if not self.is_done(request):
                self.stamps[request.id] = stamp_sources(request)
                yield request
        if not self.packed.is_cut:  # these are all, of a directory that is only looked at
            self.listed = True
            if self.extended:
                self.check_extension()

    def stamp_shard(self, number: int, requests: Iterable[EditRequest]) -> int:
        """Tells whether somebody wrote a record of a shard since."""
        paths = [get_shard_path(self.root, number)]
        paths += [self.path("records", request.id, "json") for request in requests]
        return hash(tuple(map(read_time, paths)))

    def is_packed(self, number: int, requests: Iterable[EditRequest]) -> bool:
        """Whether a shard has its file, and no record of it lies beside that, where a kill left it."""
        loose = (self.path("records", request.id, "json") for request in requests)
        return get_shard_path(self.root, number).exists() and not any(map(os.path.lexists, loose))

    def warn_of_kept(self) -> None:
        """Say so where an extension that was stopped goes on, or somebody took an edit out of a record."""
        if self.kept and not self.extended:
            log.warning(
                "not all edits of %d requests are there, as of %s: they are made", len(self.kept), min(self.kept)
            )

    def check_extension(self) -> None:
        """Refuse, with a ConfigChangedError, to ask for more where what is done is no longer asked for."""
        paths = sorted((self.root / "records").glob("*.json"))
        records = [record for path in paths if (record := read_whole_record(path)) is not None]
        done = {record["id"] for record in records} | self.packed.list_ids()
        if lost := sorted(done - set(self.shards)):
            raise ConfigChangedError(
                f"{self.root}: {'; '.join(self.extended)} leaves out {len(lost)} requests that are done, as {lost[0]}: "
                "a run can be extended, not changed; give this one a directory of its own (name=...)"
            )

    def extend(self) -> None:
        """Note the config that asks for more, before anything of it is made."""
        if not self.extended:
            return
        log.info("%s is extended: %s", self.root, "; ".join(self.extended))
        overwrite(self.root / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.config)).encode())
        self.noted = stamp_config(self.root)

    def choose_missing(self, request: str) -> list[float]:
        """The strengths at which a pending request is to be edited: all, or those that its record lacks."""
        present = {edit["variant"] for edit in self.kept.get(request, {"edits": ()})["edits"]}
        return [variant.strength for variant in self.variants if str(variant) not in present]

    def is_done(self, request: EditRequest) -> bool:
        """Whether a request is done, and all of it is there; a ConfigChangedError where it was another one."""
        record = self.record(request.id)
        if record is None or record["status"] != "done":
            return False
        if lines := find_changed_fields(record, request) or find_changed_sources(record, request):
            raise ConfigChangedError(
                f"{self.root}: request {request.id} is done, and now asks for something else: {'; '.join(lines)}. "
                "Give it another id, or the run another name"
            )
        if damage := find_damage(self.root, record, self.verify):
            log.warning("request %s: %s; it is edited again", request.id, "; ".join(damage))
            return False
        present = {Variant.parse(edit["variant"]) for edit in record["edits"]}
        if present == set(self.variants):
            return True
        if record["files"] and present < set(self.variants):
            self.kept[request.id] = record
        else:
            log.warning("request %s: its record has other edits; it is edited again", request.id)
        return False

    def record(self, request: str) -> dict[str, Any] | None:
        """What is known of a request, or None: beside the shards, where it was edited last, or in its shard."""
        record = read_whole_record(self.path("records", request, "json"))
        if record is not None and record["id"] == request:
            return record
        return self.packed.find(request, self.shards.get(request))

    # --------------------------------------------------------------------------------------------------------- save

    def path(self, kind: str, request: str, ending: str) -> Path:
        """Where the file of this kind for this request lies."""
        return self.root / kind / f"{quote_file_name(request)}.{ending}"

    def write_outcome(self, request: EditRequest, outcome: Outcome, check: Callable[[], None] = lambda: None) -> None:
        """Write one outcome now. A failure takes nothing from what an earlier start left of the request.

        Args:
            request: it.
            outcome: what came of it.
            check: raises where its record is no longer ours to write.
        """
        result, error, sources = outcome.result, outcome.error, {}
        if result is not None:
            try:
                check_metadata(result.metadata)
                sources = hash_sources(request, self.stamps.pop(request.id, {}))
            except (OSError, TypeError) as fault:
                result, error = None, fault
        record = {
            "id": request.id,
            "status": "failed" if error else "done",
            **identify_request(request),
            "error": describe_error(error),
            "seconds": round(outcome.seconds, 4),
            "shared_evaluations": outcome.evaluations[None],
            "edits": [],
            "mask": None,
            "map": None,
            "metadata": {},
            "files": {},
            "sources": sources,
        }
        kept = self.kept.get(request.id)
        if result is not None:
            record |= self.write_result(request.id, result, outcome.evaluations, kept)
            if kept is not None:
                record = join_records(kept, record, self.variants)
        elif before := self.record(request.id):
            record |= {key: before[key] for key in KEPT if key in before}
        check()
        overwrite(self.path("records", request.id, "json"), json.dumps(record, indent=1).encode())

    def write_result(
        self,
        request: str,
        result: EditResult,
        evaluations: Counter[int | None],
        kept: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The pictures, the mask and the map of one request; returns what the record says of them.

        Mask and map are those of the first strength: where that is done already, they stay as they are.
        """
        files: dict[str, dict[str, Any]] = {}
        record: dict[str, Any] = {"edits": [], "metadata": dict(result.metadata), "files": files}
        for edit in result.edits:
            entry = {"variant": str(edit.variant), "level": edit.level, "evaluations": evaluations[edit.level]}
            record["edits"].append(entry | self.write_image(request, "", edit, files))
        for k, sample in enumerate(result.samples):
            mask = self.write_mask(request, f"samples/{k}/", sample, files)
            for i, edit in enumerate(sample.edits):
                entry = {"sample": k, "score": edit.score, "mask": mask}
                best = result.edits[i].sample == k
                if best:
                    record["edits"][i] |= entry
                entry |= {"variant": str(edit.variant), "best": best} | self.write_image(
                    request, f"samples/{k}/", edit, files
                )
                record.setdefault("samples", []).append(entry)
        if kept is not None and leads(kept, self.variants):
            return record
        record["mask"] = self.write_mask(request, "", result, files)
        if result.contrast_map is not None:
            path = self.path("maps", request, "npy")
            array = io.BytesIO()
            np.save(array, result.contrast_map.numpy().astype(np.float32))
            record["map"] = self.write_file(path, array.getvalue(), files)
        return record

    def write_image(self, request: str, under: str, edit: Edit, files: dict[str, dict[str, Any]]) -> dict[str, str]:
        """One picture, in the folder of its variant; returns its name and the hash of its content."""
        path = self.path(f"{under}images/{edit.variant.folder}", request, "png")
        name = self.write_file(path, encode_png(edit.image), files)
        return {"file": name, "sha256": files[name]["sha256"]}

    def write_mask(self, request: str, under: str, result: EditResult, files: dict[str, dict[str, Any]]) -> str | None:
        """The mask at image resolution; returns its name, None where there is no mask."""
        if result.mask is None:
            return None
        pixels = F.interpolate(result.mask.float(), result.edits[0].image.shape[-2:])[0]
        return self.write_file(self.path(f"{under}masks", request, "png"), encode_png(pixels), files)

    def write_file(self, path: Path, data: bytes, files: dict[str, dict[str, Any]]) -> str:
        """One file of a record, which notes its size and hash; returns its name."""
        overwrite(path, data)
        name = self.get_relative_path(path)
        files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return name

    def get_relative_path(self, path: Path) -> str:
        """A file's name inside the run."""
        return path.relative_to(self.root).as_posix()

    # --------------------------------------------------------------------------------------------------------- pack

    def pack(self, number: int, ids: Sequence[str], note: Mapping[str, Any]) -> bool:
        """Put the records of a shard into one file; False where one of them is gone: all stay where they are.

        Args:
            number: of the shard.
            ids: of its requests, in order.
            note: what is said of the shard beside its counts.
        """
        records = [record for name in ids if (record := self.record(name)) is not None]
        if len(records) < len(ids):
            return False
        path = get_shard_path(self.root, number)
        overwrite(path, encode_shard(records, self.variants, self.config.get("seed"), note))
        self.packed.forget(number)
        self.done_here.add(number)
        for name in ids:
            self.path("records", name, "json").unlink(missing_ok=True)
        return True

    def unpack(self, path: Path) -> None:
        """Put the records of a shard's file beside it, where they are not there already, and remove it."""
        texts = self.packed.read(path)
        if path in self.packed.damaged:  # whoever edits its requests again writes it anew
            return
        for name, text in texts.items():
            record = self.path("records", name, "json")
            if parse_record(text, path, name) is not None and read_whole_record(record) is None:
                overwrite(record, json.dumps(json.loads(text), indent=1).encode())
        path.unlink(missing_ok=True)
        self.packed.forget(int(path.stem))

    # -------------------------------------------------------------------------------------------------------- close

    def close(self) -> pd.DataFrame | None:
        """Wait for all writes, make the manifest of the requests that are asked for, return it.

        None, and no new manifest, where these were never all known: a start that failed early says nothing.
        """
        self.writer.close()
        if not self.listed:
            return None
        self.check_there()
        loose = self.read_loose_records()
        table = build_manifest(loose, self.variants, self.config.get("seed"))
        table = merge_manifest(list_shards(self.root), table, self.shards)
        overwrite(self.root / "manifest.parquet", encode_table(table))
        self.damage = self.find_losses(loose)
        return table

    def find_losses(self, loose: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
        """What is not whole of the requests that are done, by id; by size at the closest, so that no file is read.

        Of the shards, of those that this process edited: others were looked at by who did.
        """
        verify: Verify = "none" if self.verify == "none" else "size"
        here = (name for name, number in self.shards.items() if number in self.done_here)
        packed = (self.packed.find(name, self.shards[name]) for name in here)
        done = (record for record in chain(loose, packed) if record is not None and record["status"] == "done")
        return {record["id"]: faults for record in done if (faults := find_damage(self.root, record, verify))}

    def read_loose_records(self) -> list[dict[str, Any]]:
        """What is known beside the shards of the requests that are asked for; what is not stays where it lies."""
        there = {path.name for path in (self.root / "records").glob("*.json")}
        paths = (self.path("records", name, "json") for name in sorted(self.shards) if there)
        found = ((path, read_whole_record(path)) for path in paths if path.name in there)
        return [record for _, record in found if record is not None and record["id"] in self.shards]


def stamp_config(root: Path) -> Stamp | None:
    """Tells whether somebody has written the config of a run since; None where there is none."""
    try:
        return stamp(root / "config.yaml")
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_time(path: Path) -> int | None:
    """When a file was written, in nanoseconds; None where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def leads(record: Mapping[str, Any], variants: Sequence[Variant]) -> bool:
    """Whether a record has the first of the variants."""
    return str(variants[0]) in {edit["variant"] for edit in record["edits"]}


def join_records(kept: Mapping[str, Any], now: Mapping[str, Any], variants: Sequence[Variant]) -> dict[str, Any]:
    """The record of a request that was edited at some strengths before, and at the others now: that of all at once.

    What all strengths share (the mask, the encoding up to the highest level) is counted as often as the one that needs
    most of it has it.
    """
    order = {str(variant): k for k, variant in enumerate(variants)}
    first = kept if leads(kept, variants) else now
    joined = dict(now) | {key: first[key] for key in ("mask", "map", "metadata")}
    joined["edits"] = sorted([*kept["edits"], *now["edits"]], key=lambda edit: order[edit["variant"]])
    if samples := [*kept.get("samples", ()), *now.get("samples", ())]:
        joined["samples"] = sorted(samples, key=lambda entry: (entry["sample"], order[entry["variant"]]))
    joined["shared_evaluations"] = max(kept["shared_evaluations"], now["shared_evaluations"])
    joined["seconds"] = round(kept["seconds"] + now["seconds"], 4)
    files = {**kept["files"], **now["files"]}
    return joined | {"files": {name: files[name] for name in list_files(joined)}}


# ------------------------------------------------------------------------------------------------------------ helpers


def describe_error(error: Exception | None) -> str | None:
    """What went wrong, as text that any file takes: a path may hold bytes of no encoding."""
    return f"{type(error).__name__}: {error}".encode(errors="backslashreplace").decode() if error else None


def overwrite(path: Path, data: bytes) -> None:
    """Write a file of a run, also where a folder lies in its place: that is set aside, whatever it holds."""
    try:
        write(path, data)
    except IsADirectoryError:
        aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.aside")
        path.rename(aside)
        log.warning("%s: a folder lay there; it is called %s now", path, aside.name)
        write(path, data)


def check_folders(root: Path) -> None:
    """Refuse a run one of whose folders is a file, or leads elsewhere: nothing is written there."""
    inside = Path(os.path.realpath(root))
    for name, below in FOLDERS.items():
        top = root / name
        for folder in chain([top], *map(top.glob, below)):
            target = Path(os.path.realpath(folder))
            if inside not in target.parents:
                raise ValueError(f"{folder}: a link out of the run, to {target}: put a folder in its place")
        if top.exists() and not top.is_dir():
            raise ValueError(f"{top}: a run keeps a folder there: remove what lies in its place")


def complete_config(
    config: Mapping[str, Any], benchmark_version: str, is_bound: bool, strength_name: str
) -> dict[str, Any]:
    """A run's config with what else identifies it."""
    marks = {"benchmark_version": benchmark_version, "is_bound": is_bound, "strength_name": strength_name}
    return dict(config) | marks | {"format": FORMAT}


def refuse_other_config(root: Path, config: Mapping[str, Any], size_keys: Collection[str] = ()) -> list[str]:
    """Refuse a directory that was begun with another config: a ConfigChangedError that names what differs.

    Returns:
        what is asked for beyond what it was begun with: more strengths, a larger benchmark (by its `size_keys`).
    """
    path = root / "config.yaml"
    if not os.path.lexists(path):
        return []
    before = read_run_config(path)
    if isinstance(before.get("weights"), str):
        raise ConfigChangedError(
            f"{root} was begun when only some of the weights were hashed: whether these are the same cannot be told. "
            "It can be scored as it is; to go on, start anew under another name=..."
        )
    grown = find_growth(before, config, size_keys)
    if lines := find_changed_settings(before, config, [*RUNTIME_KEYS, *grown]):
        raise ConfigChangedError(
            f"{root} holds a run with other settings (config.yaml -> now):\n  " + "\n  ".join(lines) + "\n"
            "Give this one a directory of its own (name=...), or delete that one."
        )
    return [f"{key}: {old} -> {new}" for key, (old, new) in grown.items()]


def find_growth(
    before: Mapping[str, Any], after: Mapping[str, Any], size_keys: Collection[str]
) -> dict[str, tuple[Any, Any]]:
    """The settings, before and after, that ask for all that was asked for, and for more."""
    pairs = {"ratios": (before.get("ratios"), after.get("ratios"))}
    grown = {key: pair for key, pair in pairs.items() if is_larger_set(*pair)}
    old, new = (config.get("benchmark") for config in (before, after))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        sizes = {f"benchmark.{key}": (old.get(key), new.get(key)) for key in size_keys if key in old and key in new}
        grown |= {key: pair for key, pair in sizes.items() if is_larger_size(*pair)}
    return grown


def is_larger_set(old: Any, new: Any) -> bool:
    """Whether one list of strengths holds another, and more."""
    return isinstance(old, Sequence) and isinstance(new, Sequence) and set(old) < set(new)


def is_larger_size(old: int | None, new: int | None) -> bool:
    """Whether one number of requests is more than another; None is all."""
    return old is not None and (new is None or new > old)


def hash_config(config: Mapping[str, Any]) -> str:
    """Of what identifies a run and is known before its first call of a network: a claim carries it."""
    left_out = (*RUNTIME_KEYS, "engine.batch")  # its sizes may have to be measured
    compared = {key: value for key, value in flatten(config).items() if not is_below(key, left_out)}
    return hash_text(json.dumps(compared, sort_keys=True, default=str))


def refuse_other_claim(root: Path, identity: str, holder: Mapping[str, Any]) -> None:
    """Refuse what a process that is at a directory has begun with another config: a ConfigChangedError.

    Args:
        root: of the run.
        identity: the hash of our config.
        holder: what the claim says of the other.
    """
    if holder.get("config", identity) != identity:
        raise ConfigChangedError(
            f"{root}: {name_holder(holder)} is at a run with other settings there: give this one a directory of its "
            "own (name=...)"
        )


def read_run_config(path: Path) -> dict[str, Any]:
    """The config that a directory was begun with, in today's names; a ConfigChangedError where its file is damaged."""
    try:
        return migrate_config(read_data(path))
    except (OSError, DamagedError, AttributeError, TypeError) as error:
        why = str(error).removeprefix(f"{path}: ").splitlines()[0]
        raise ConfigChangedError(
            f"{path}: damaged ({why}): what was edited here cannot be told. Put it back; a run "
            "that is new takes another name=..."
        ) from error


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    if not isinstance(config, Mapping):
        return {prefix: config}
    return {k: v for key, value in config.items() for k, v in flatten(value, f"{prefix}.{key}".lstrip(".")).items()}


def find_changed_settings(before: Mapping[str, Any], after: Mapping[str, Any], but: Sequence[str]) -> list[str]:
    """`key: before -> after` for each dotted key that changed, but for the keys in `but` and all below them."""
    old, new = flatten(before), flatten(after)
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    compared = [key for key in changed if not is_below(key, but)]
    return [f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}" for key in compared]


def is_below(key: str, names: Sequence[str]) -> bool:
    """Whether a dotted key is one of these, or below one."""
    return any(f"{key}.".startswith(f"{name}.") for name in names)


def find_changed_fields(record: Mapping[str, Any], request: EditRequest) -> list[str]:
    """Where a request is no longer what its record says."""
    facts = identify_request(request)
    return find_changed_settings({key: record[key] for key in facts}, facts, ())


def identify_request(request: EditRequest) -> dict[str, str | None]:
    """What a record says of its request, and a resumed run compares."""
    return {"source": request.source, "target": request.target, "origin": request.origin}
