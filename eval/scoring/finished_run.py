"""A finished run as the metrics see it: inputs and edits, request by request."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from jaxtyping import Float
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from diffedit.io.files import file_name, write
from diffedit.io.images import at_side, open_image, resize_to, to_tensor
from diffedit.runs.directory import changed_request
from diffedit.types import Benchmark, EditRequest
from eval.scoring.batch import Batch, Role
from eval.scoring.features import FeatureStore, Item, content, pixels
from eval.scoring.reference import References


class IncompleteRunError(ValueError):
    """The run misses edits that its benchmark asks for: a score of the others would compare different sets."""


class FinishedRun:
    """One run directory.

    Args:
        root: the directory.
        store: keeps features.
        side: to which pictures and masks are brought before anything is measured; None leaves them as they are.

    Raises:
        IncompleteRunError: an edit is missing or failed; the message names the first ones.
    """

    def __init__(self, root: Path, store: FeatureStore | None = None, side: int | None = None) -> None:
        self.root, self.store, self.asked_side = root, store, side
        self.filled: set[tuple[str, str]] = set()
        if not (root / "config.yaml").is_file():
            raise FileNotFoundError(f"{root}: no config.yaml there, so not a run directory")
        self.config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
        settings = dict(self.config["benchmark"])
        if "generate_missing" in settings:
            settings["generate_missing"] = False  # the pictures that were edited, not others drawn for the occasion
        self.benchmark: Benchmark = instantiate(settings, _convert_="all")
        if self.benchmark.version != (begun := self.config["benchmark_version"]):
            raise ValueError(
                f"{root} was run on version {begun} of its benchmark, which now has {self.benchmark.version}"
            )
        self.ratios = [float(ratio) for ratio in self.config["ratios"]]
        self.requests = [at_side(request, self.side) for request in self.benchmark.requests(self.resolution)]
        known = getattr(self.benchmark, "truths", None)
        self.truths = dict(known()) if known else None
        self.records = {request.id: self.record(request.id) for request in self.requests}

    @cached_property
    def resolution(self) -> int:
        """Side of the edits."""
        first = next(self.root.glob("images/*/*.png"), None)
        if first is None:
            raise IncompleteRunError(f"{self.root}: no edits there")
        with Image.open(first) as picture:
            return picture.width

    @property
    def side(self) -> int:
        """Of the pictures that are measured."""
        return self.asked_side or self.resolution

    def record(self, request: str) -> Mapping[str, Any]:
        """What the run says of one request."""
        path = self.root / "records" / f"{file_name(request)}.json"
        said = json.loads(path.read_bytes()) if path.is_file() else {"status": "missing", "error": "not run yet"}
        return said

    def check(self) -> None:
        """Refuse a run with missing or failed edits, or whose benchmark has come to ask for something else."""
        wrong = [f"{name}: {said['error']}" for name, said in self.records.items() if said["status"] != "done"]
        if wrong:
            listed = "\n  ".join(wrong[:10] + [f"and {len(wrong) - 10} more"] * (len(wrong) > 10))
            raise IncompleteRunError(
                f"{self.root}: {len(wrong)} of {len(self.records)} requests have no edits; start it again:\n  {listed}"
            )

        for request in self.requests:
            if lines := changed_request(self.records[request.id], request):
                raise ValueError(f"{self.root}: {request.id} is not what was edited: {'; '.join(lines)}; run it again")
        files = [edit["file"] for record in self.records.values() for edit in record["edits"]]
        if gone := [file for file in files if not (self.root / file).is_file()]:
            listed = "\n  ".join(gone[:10])
            raise IncompleteRunError(f"{self.root}: {len(gone)} edits are gone; start the run again:\n  {listed}")

    def hashes(self, ratio: float) -> list[str]:
        """The content hash of each edit at this ratio."""
        return [self.edit(request.id, ratio)["sha256"] for request in self.requests]

    @cached_property
    def others(self) -> str:
        """Names what a run holds beside its edits: masks, samples, seconds."""
        digest = hashlib.sha256()
        for record in self.records.values():
            samples = [[each["sha256"], each["best"]] for each in record.get("samples", ())]
            digest.update(json.dumps([record["seconds"], samples]).encode())
            files = {record["mask"], *(each.get("mask") for each in record["edits"])} - {None}
            for file in sorted(files):
                digest.update((self.root / file).read_bytes())
        return digest.hexdigest()

    def edit(self, request: str, ratio: float) -> Mapping[str, Any]:
        """What the record says of one edit."""
        return next(each for each in self.records[request]["edits"] if each["ratio"] == ratio)

    def batches(self, size: int, copies: bool = False) -> Iterator[dict[float | None, Batch]]:
        """All requests in order, `size` at a time: a batch for each ratio, with the same inputs.

        Args:
            size: requests in a batch.
            copies: whether to add, at None, a batch in which nothing was edited.
        """
        with ThreadPoolExecutor(2, "decoder") as pool, ThreadPoolExecutor(1, "batches") as ahead:
            parts = [self.requests[i : i + size] for i in range(0, len(self.requests), size)]
            coming = ahead.submit(self.batch_of, parts[0], copies, pool)
            for part in [*parts[1:], None]:
                found = coming.result()
                if part is not None:
                    coming = ahead.submit(self.batch_of, part, copies, pool)
                yield found

    def batch_of(self, part: list[EditRequest], copies: bool, pool: ThreadPoolExecutor) -> dict[float | None, Batch]:
        """Some requests, their pictures loaded."""
        inputs = torch.stack(list(pool.map(lambda request: request.image(), part)))
        truths = [self.truths[request.id] for request in part] if self.truths else None
        records = [self.records[request.id] for request in part]
        several = all("samples" in each for each in records)
        found: dict[float | None, Batch] = {}
        for ratio in self.ratios:
            edits = torch.stack(list(pool.map(self.load_edit, [self.edit(each.id, ratio) for each in part])))
            samples = partial(self.samples, records, ratio) if several else None
            about = {"records": records, "ratio": ratio, "samples": samples}
            found[ratio] = Batch(part, inputs, edits, self.masks(part, ratio), truths, self.benchmark, **about)
        if copies:
            found[None] = Batch(part, inputs, inputs, None, truths, self.benchmark, ratio=float("nan"))
        return found

    def whole(self, references: References | None) -> dict[float | None, Batch]:
        """All requests, for metrics that read features alone: a batch for each ratio, and the unedited inputs."""
        truths = [self.truths[request.id] for request in self.requests] if self.truths else None
        shared = Batch(self.requests, None, None, None, truths, self.benchmark, references=references)
        records = [self.records[request.id] for request in self.requests]
        found: dict[float | None, Batch] = {
            ratio: replace(shared, records=records, ratio=ratio, kept=partial(self.features, ratio))
            for ratio in self.ratios
        }
        return found | {None: replace(shared, ratio=float("nan"), kept=partial(self.features, None))}

    # ----------------------------------------------------------------------------------------------------- features

    def features(self, ratio: float | None, extractor: Any, of: Role) -> Float[Tensor, "n d"]:
        """Features of all requests at one ratio (None: nothing edited); the first call computes those of all ratios."""
        of = "inputs" if of == "edits" and ratio is None else of
        if (extractor.hash, of) not in self.filled:
            ratios = self.ratios if of == "edits" else [None]
            self.store.fill(extractor, [item for each in ratios for item in self.items(of, each)])
            self.filled.add((extractor.hash, of))
        return torch.from_numpy(self.store.read(extractor, [item.key for item in self.items(of, ratio)]))

    def items(self, of: Role, ratio: float | None) -> list[Item]:
        """What to take features of, in the order of the requests."""
        if of == "edits":
            edits = [self.edit(request.id, ratio) for request in self.requests]
            return [
                Item(self.key(edit), str(self.root / edit["file"]), lambda edit=edit: pixels(self.load_edit(edit)))
                for edit in edits
            ]
        if of == "inputs":
            return [
                Item(self.inputs[each.id], f"input of {each.id}", lambda each=each: pixels(each.image()))
                for each in self.requests
            ]
        texts = [(each.id, each.target if of == "targets" else each.source) for each in self.requests]
        return [
            Item(hashlib.sha256(b"text:" + text.encode()).hexdigest(), f"{of[:-1]} of {name}", lambda text=text: text)
            for name, text in texts
        ]

    def key(self, edit: Mapping[str, Any]) -> str:
        """Names an edit's picture as it is measured."""
        return edit["sha256"] if self.side == self.resolution else f"{edit['sha256']}-{self.side}"

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The hash of each input's pixels by id: read once, and kept while its file stays the same."""
        path, asked = self.root / "scores" / "inputs.json", [self.config["benchmark"], self.side]
        known = json.loads(path.read_bytes()) if path.is_file() else {}
        past = known.get("inputs", {}) if known.get("asked") == asked else {}
        stamps = {request.id: stamp(request) for request in self.requests}
        todo = [request for request in self.requests if past.get(request.id, [0, 0])[0] != stamps[request.id]]
        with ThreadPoolExecutor(2, "decoder") as pool:
            found = pool.map(lambda request: content(pixels(request.image())), todo)
            past |= {request.id: [stamps[request.id], each] for request, each in zip(todo, found, strict=True)}
        if todo:
            write(path, json.dumps({"asked": asked, "inputs": past}).encode())
        return {name: each for name, (_, each) in past.items()}

    # ----------------------------------------------------------------------------------------------------- pictures

    def load_edit(self, edit: Mapping[str, Any]) -> Float[Tensor, "3 H W"]:
        """The picture of an edit; an OSError where it is not what the run wrote."""
        path = self.root / edit["file"]
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != edit["sha256"]:
            raise OSError(f"{path}: truncated or changed after the run wrote it; delete it and start the run again")
        picture = load(path)
        if picture.shape[1:] != (self.resolution, self.resolution):
            raise OSError(f"{path}: {tuple(picture.shape[1:])} pixels, and other edits have {self.resolution}")
        return resize_to(picture, self.side)

    def load(self, file: str) -> Float[Tensor, "c side side"]:
        """A picture or mask of the run, at the side that is measured."""
        return resize_to(load(self.root / file), self.side)

    def samples(
        self, records: list[Mapping[str, Any]], ratio: float
    ) -> tuple[Float[Tensor, "b n 3 H W"], Float[Tensor, "b n"]]:
        """Every sample of these requests at one ratio, and which is the best."""
        rows = [[each for each in record["samples"] if each["ratio"] == ratio] for record in records]
        images = torch.stack([torch.stack([self.load(each["file"]) for each in row]) for row in rows])
        return images, torch.tensor([[float(each["best"]) for each in row] for row in rows])

    def masks(self, part: list[EditRequest], ratio: float) -> Float[Tensor, "b 1 H W"] | None:
        """The masks that the run used, or None; of several samples, each with a mask, that of the best."""
        files = [self.edit(request.id, ratio).get("mask", self.records[request.id]["mask"]) for request in part]
        return None if None in files else torch.stack([self.load(file) for file in files])


def load(path: Path) -> Float[Tensor, "c H W"]:
    """A picture that a run wrote, in [0, 1]; whatever is wrong with it is an OSError that names it."""
    with open_image(path) as picture:
        return to_tensor(picture)


def stamp(request: EditRequest) -> list[Any]:
    """Tells whether a picture's file, and its mask's, are still the same; rendered ones are told by their benchmark."""
    told: list[Any] = [request.origin]
    for each in (request.image, request.mask):
        path = getattr(each, "path", None)
        if path is not None and Path(path).is_file():
            told += [Path(path).stat().st_size, Path(path).stat().st_mtime_ns]
    return told
