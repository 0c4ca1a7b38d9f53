"""Features of a finished run: of its edits, inputs and texts, kept by their content."""

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.io.files import write
from diffedit.types import UNEDITED, Variant
from eval.scoring.batch import Batch, Role
from eval.scoring.features import Encoder, FeatureStore, Item, hash_pixels, make_text_item, to_uint8
from eval.scoring.files import get_inputs_path, read_json
from eval.scoring.finished_run import FinishedRun, RecordsInOrder, stamp_files
from eval.scoring.reference import References

log = logging.getLogger("score")


class RunFeatures:
    """What metrics that read features alone are given of a run.

    Args:
        run: the run.
        store: keeps features.
        number: of the part of a run that this is; None for a whole one.
        known: stamp and hash of inputs by id, as they were noted before; None reads them.
    """

    def __init__(
        self,
        run: FinishedRun,
        store: FeatureStore,
        number: int | None = None,
        known: Mapping[str, list[Any]] | None = None,
    ) -> None:
        self.run, self.store, self.number, self.known = run, store, number, known
        self.filled: set[tuple[str, Role]] = set()

    def batches(self, references: References | None) -> dict[Variant, Batch]:
        """All requests, without pictures: a batch for each variant, and the unedited inputs."""
        run = self.run
        shared = Batch(run.requests, None, None, None, run.benchmark.domain, references=references)
        records = RecordsInOrder(run.records, run.requests)
        batches = {
            variant: replace(shared, records=records, variant=variant, kept=partial(self.read, variant))
            for variant in run.variants
        }
        return batches | {UNEDITED: replace(shared, kept=partial(self.read, UNEDITED))}

    def read(self, variant: Variant, encoder: Encoder, role: Role) -> Float[Tensor, "n d"]:
        """Features of all requests of one variant; the first call computes those of all variants."""
        role = "inputs" if role == "edits" and variant == UNEDITED else role
        if (encoder.hash, role) not in self.filled:
            variants = self.run.variants if role == "edits" else [UNEDITED]
            self.store.fill(encoder, [item for variant in variants for item in self.items(role, variant)])
            self.filled.add((encoder.hash, role))
        return torch.from_numpy(self.store.read(encoder, [item.key for item in self.items(role, variant)]))

    def items(self, role: Role, variant: Variant) -> list[Item]:
        """What to take features of, in the order of the requests."""
        run = self.run
        if role == "edits":
            edits = [run.edit(request.id, variant) for request in run.requests]
            return [
                Item(
                    self.name_edit(edit), str(run.root / edit["file"]), lambda edit=edit: to_uint8(run.load_edit(edit))
                )
                for edit in edits
            ]
        if role == "inputs":
            return [
                Item(
                    self.input_hashes[request.id],
                    f"input of {request.id}",
                    lambda request=request: to_uint8(request.image()),
                )
                for request in run.requests
            ]
        texts = [(request.id, request.target if role == "targets" else request.source) for request in run.requests]
        return [make_text_item(text, f"{role[:-1]} of {name}") for name, text in texts]

    def name_edit(self, edit: Mapping[str, Any]) -> str:
        """Names an edit's picture as it is measured."""
        run = self.run
        return edit["sha256"] if run.resolution == run.edit_resolution else f"{edit['sha256']}-{run.resolution}"

    @cached_property
    def input_hashes(self) -> dict[str, str]:
        """The hash of each input's pixels by id: computed once, and kept while its file stays the same."""
        run = self.run
        stamps = {request.id: stamp_files(request) for request in run.requests}
        path = get_inputs_path(run.root, self.number)
        noted = read_noted_inputs(path, name_inputs(run))
        known = read_all_noted_inputs(run) if self.known is None else {**self.known, **noted}
        entries = {name: entry for name, entry in known.items() if name in stamps}
        changed = [request for request in run.requests if entries.get(request.id, [0, 0])[0] != stamps[request.id]]
        with ThreadPoolExecutor(2, "decoder") as pool:
            hashes = pool.map(lambda request: hash_pixels(to_uint8(request.image())), changed)
            entries |= {request.id: [stamps[request.id], hash] for request, hash in zip(changed, hashes, strict=True)}
        entries = {name: entries[name] for name in stamps}
        if entries != noted:
            write(path, json.dumps({"asked": name_inputs(run), "inputs": entries}).encode())
        return {name: hash for name, (_, hash) in entries.items()}


def name_inputs(run: FinishedRun) -> list[Any]:
    """What decides the content of inputs, beside their files."""
    return [run.config["benchmark"], run.resolution]


def read_all_noted_inputs(run: FinishedRun) -> dict[str, list[Any]]:
    """Stamp and hash of each input by id, as they were noted of the whole run, and of its parts."""
    entries = {}
    for path in [get_inputs_path(run.root), *sorted(get_inputs_path(run.root, 0).parent.glob("*.json"))]:
        entries |= read_noted_inputs(path, name_inputs(run))
    return entries


def read_noted_inputs(path: Path, source: list[Any]) -> dict[str, list[Any]]:
    """Stamp and hash of each input's file by id, as they were noted; none, with a warning, where the note is damaged.

    Args:
        path: of the note.
        source: benchmark and resolution that it has to be of.
    """
    if not path.exists():
        return {}
    try:
        kept = read_json(path)
        if not isinstance(kept, Mapping) or not isinstance(kept.get("inputs"), Mapping):
            raise OSError(f"{path}: damaged (no inputs)")
        if not all(isinstance(entry, list) and len(entry) == 2 for entry in kept["inputs"].values()):
            raise OSError(f"{path}: damaged (no stamp and hash of each input)")
    except OSError as error:
        log.warning("%s: it is made again", error)
        return {}
    return dict(kept["inputs"]) if kept.get("asked") == source else {}
