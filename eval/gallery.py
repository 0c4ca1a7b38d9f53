"""A finished run as the metrics see it: inputs and edits, request by request."""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from jaxtyping import Float
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from diffedit.runs import changed_facts, file_name
from diffedit.types import Benchmark, EditRequest
from eval.images import opened, to_tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """b requests and their edits at one ratio.

    Attributes:
        requests: what was asked.
        inputs: the pictures before, in [0, 1].
        edits: the pictures after.
        masks: the masks that the method used, at image resolution; None where it has none.
        truths: what Still Life knows of each request.
        benchmark: where they come from.
        records: what the run says of each request.
        ratio: of the edits.
        samples: loads all samples of each request, and 1 for the best one, 0 for the others; None where each request
            has one edit.
    """

    requests: list[EditRequest]
    inputs: Float[Tensor, "b 3 H W"]
    edits: Float[Tensor, "b 3 H W"]
    masks: Float[Tensor, "b 1 H W"] | None
    truths: list[Any] | None = None
    benchmark: Any = None
    records: list[Mapping[str, Any]] = field(default_factory=list)
    ratio: float = 0.0
    samples: Callable[[], tuple[Float[Tensor, "b n 3 H W"], Float[Tensor, "b n"]]] | None = None


class IncompleteRunError(ValueError):
    """The run misses edits that its benchmark asks for: a score of the others would compare different sets."""


class Gallery:
    """One run directory.

    Args:
        root: the directory.

    Raises:
        IncompleteRunError: an edit is missing or failed; the message names the first ones.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if not (root / "config.yaml").is_file():
            raise FileNotFoundError(f"{root}: no config.yaml there, so not a run directory")
        self.config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
        settings = dict(self.config["benchmark"])
        if "draw_missing" in settings:
            settings["draw_missing"] = False  # the pictures that were edited, not others drawn for the occasion
        self.benchmark: Benchmark = instantiate(settings, _convert_="all")
        if self.benchmark.version != (begun := self.config["benchmark_version"]):
            raise ValueError(
                f"{root} was run on version {begun} of its benchmark, which now has {self.benchmark.version}"
            )
        self.ratios = [float(ratio) for ratio in self.config["ratios"]]
        self.requests = list(self.benchmark.requests(self.resolution))
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
            if lines := changed_facts(self.records[request.id], request):
                raise ValueError(f"{self.root}: {request.id} is not what was edited: {'; '.join(lines)}; run it again")

    def hashes(self, ratio: float) -> list[str]:
        """The content hash of each edit at this ratio."""
        return [self.edit(request.id, ratio)["sha256"] for request in self.requests]

    def edit(self, request: str, ratio: float) -> Mapping[str, Any]:
        """What the record says of one edit."""
        return next(each for each in self.records[request]["edits"] if each["ratio"] == ratio)

    def batches(self, size: int) -> Iterator[dict[float, Batch]]:
        """All requests in order, `size` at a time: a batch for each ratio, with the same inputs."""
        with ThreadPoolExecutor(2) as pool:
            for i in range(0, len(self.requests), size):
                part = self.requests[i : i + size]
                inputs = torch.stack(list(pool.map(lambda request: request.image(), part)))
                truths = [self.truths[request.id] for request in part] if self.truths else None
                found = {}
                for ratio in self.ratios:
                    masks = self.masks(part, ratio)
                    files = [self.root / self.edit(request.id, ratio)["file"] for request in part]
                    edits = torch.stack(list(pool.map(load, files)))
                    records = [self.records[request.id] for request in part]
                    samples = (
                        partial(self.samples, records, ratio) if all("samples" in each for each in records) else None
                    )
                    about = {"records": records, "ratio": ratio, "samples": samples}
                    found[ratio] = Batch(part, inputs, edits, masks, truths, self.benchmark, **about)
                yield found

    def samples(
        self, records: list[Mapping[str, Any]], ratio: float
    ) -> tuple[Float[Tensor, "b n 3 H W"], Float[Tensor, "b n"]]:
        """Every sample of these requests at one ratio, and which is the best."""
        rows = [[each for each in record["samples"] if each["ratio"] == ratio] for record in records]
        images = torch.stack([torch.stack([load(self.root / each["file"]) for each in row]) for row in rows])
        return images, torch.tensor([[float(each["best"]) for each in row] for row in rows])

    def masks(self, part: list[EditRequest], ratio: float) -> Float[Tensor, "b 1 H W"] | None:
        """The masks that the run used, or None; of several samples, each with a mask, that of the best."""
        files = [self.edit(request.id, ratio).get("mask", self.records[request.id]["mask"]) for request in part]
        return None if None in files else torch.stack([load(self.root / file) for file in files])


def load(path: Path) -> Float[Tensor, "c H W"]:
    """A picture that a run wrote, in [0, 1]; whatever is wrong with it is an OSError that names it."""
    with opened(path) as picture:
        return to_tensor(picture)
