"""Pictures from texts, by the schedule and engine of the edits: the input of benchmarks of generated images."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor

from diffedit.engine.engine import BatchSizes, Engine
from diffedit.io.checks import Seed, settings
from diffedit.io.files import resolve_path
from diffedit.sampling.ddim import WHOLE, GuidanceInterval, ddim_sample, decode_edits, describe_low_guidance
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import open_schedule
from diffedit.types import EditResult, Embed, Noise, Program, Schedule

log = logging.getLogger(__name__)


def sample(
    text: str,
    like: Tensor,
    schedule: Schedule,
    noise: Noise,
    guidance: float,
    interval: GuidanceInterval = WHOLE,
) -> Program[EditResult]:
    """DDIM from pure noise of the shape `like` (1, c, h, w), under classifier-free guidance."""
    top = len(schedule) - 1
    target, empty = yield Embed((text, ""))
    x = noise.randn_like(like, "sample") * schedule[top].sigma
    latents = yield from ddim_sample({top: x}, schedule, target, empty, guidance, interval=interval)
    return EditResult((yield from decode_edits(latents, [1.0], [top])))


@settings
class TextToImage:
    """Draws one picture a text. The model is loaded when it is first needed.

    Attributes:
        backbone: its config (`_target_` and settings).
        steps: of DDIM.
        guidance: classifier-free guidance scale.
        guidance_interval: (low, high], the ratios of the schedule that are guided, as in `DiffEdit`.
        seed: with the id of a picture, it fixes its noise.
        batch: rows of a network call.
    """

    backbone: Mapping[str, Any]
    steps: Annotated[int, Ge(1)] = 25
    guidance: float = 5.0
    guidance_interval: GuidanceInterval = WHOLE
    seed: Seed = 0
    batch: Annotated[int, Ge(1)] = 64

    @cached_property
    def fingerprint(self) -> str:
        """Names everything that decides what is drawn, the content of local files included.

        Of a hub id it is the name and the revision: pin backbone.revision where the repository may move.
        """
        backbone = dict(self.backbone)
        if "_target_" in backbone:  # the class alone: pictures that were drawn before need not be drawn again
            backbone["_target_"] = backbone["_target_"].removesuffix(".from_pretrained")
        if backbone.get("timestep_spacing", "") is None:  # the folder's own, as before there was the setting
            del backbone["timestep_spacing"]
        settings = asdict(self) | {"backbone": backbone}
        if self.guidance_interval == WHOLE:  # likewise: it was drawn so before there was the setting
            del settings["guidance_interval"]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=dict).encode())
        if path := self.backbone.get("path"):
            files = [
                file
                for file in sorted(resolve_path(path).rglob("*"))
                if file.suffix in (".safetensors", ".json", ".txt")
            ]
            for file in files:
                digest.update(hash_with_change(file, file.stat().st_mtime_ns))
        return digest.hexdigest()[:16]

    def __call__(self, texts: Mapping[str, str]) -> Iterator[tuple[str, Float[Tensor, "3 H W"]]]:
        """(id, picture) for each id and text, as they get ready; raises what went wrong with one."""
        backbone = instantiate(dict(self.backbone), _convert_="all")
        schedule = open_schedule(backbone, self.steps)
        schedule.find_level(1.0)  # where pictures are begun
        with torch.no_grad():
            like = backbone.encode(torch.zeros(1, 3, backbone.resolution, backbone.resolution))
        engine = Engine(backbone, BatchSizes(self.batch, 1, min(self.batch, 4), 16))
        guidance = self.guidance, self.guidance_interval
        if warning := describe_low_guidance(*guidance, "benchmark.text_to_image.guidance"):
            log.warning("%s", warning)
        programs: Iterator[Any] = (
            (name, sample(text, like, schedule, RequestNoise(self.seed, name), *guidance))
            for name, text in texts.items()
        )
        for outcome in engine.run(programs, len(texts), 1):
            if outcome.error is not None:
                raise outcome.error
            yield outcome.id, outcome.result.edits[0].image


@lru_cache(256)
def hash_with_change(path: Path, changed: int) -> bytes:
    """Of a file's content, once a process while it was `changed` last at the same time: weights are large."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").digest()
