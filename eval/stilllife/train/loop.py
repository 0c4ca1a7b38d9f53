"""One training loop for every part: exact resume, EMA, validation scores, a sheet of pictures."""

import io
import json
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from diffedit.io.checks import Count, Seed, settings
from diffedit.io.files import write
from diffedit.io.images import write_picture
from eval.stilllife.render import render
from eval.stilllife.scene import SPLITS, Scene, sample

log = logging.getLogger(__name__)
T = TypeVar("T")


@settings
class TrainingSchedule:
    """How long and how fast.

    Attributes:
        steps: of the optimiser.
        batch: images a step.
        rate: peak learning rate; rises over `warmup` steps, falls by a half cosine to 2 % of it.
        warmup: steps.
        decay: of the exponential moving average of the weights.
        validate: steps between validations (and exports).
        minutes: between checkpoints.
        workers: processes that render.
        seed: of weights and batches.
    """

    steps: Count
    batch: Count
    rate: Annotated[float, Gt(0)]
    warmup: Annotated[int, Ge(0)] = 100
    decay: Annotated[float, Ge(0), Le(1)] = 0.999
    validate: Count = 500
    minutes: Annotated[float, Ge(0)] = 3
    workers: Annotated[int, Ge(0)] = 1
    seed: Seed = 0

    def factor(self, step: int) -> float:
        """Share of the peak rate at this step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2


SceneSampler = Callable[[TrainingSchedule, int], list[Scene]]
"""The scenes of a step."""


class Part(ABC):
    """A network to train.

    Attributes:
        module: holds every weight that is trained.
    """

    module: nn.Module

    def batches(self, schedule: TrainingSchedule, begin: int, out: Path) -> Iterator[tuple[Tensor, list[Scene]]]:
        """What `loss` takes, from step `begin` on: new renders; `out` may keep what is costly to make again."""
        return render_batches(schedule, begin)

    @abstractmethod
    def loss(self, inputs: Tensor, scenes: Sequence[Scene], rng: torch.Generator) -> Tensor:
        """The loss of one batch; all randomness from `rng`."""

    @abstractmethod
    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """Scores on the validation split, and pictures to look at; called with the averaged weights."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the averaged weights in their final layout."""

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def half_state(self) -> dict[str, Tensor]:
        """The weights in half precision, and the counters, on the CPU."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.module.state_dict().items()}
        return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def sample_split(split: str, first: int, count: int, two_kinds: float = 0.3) -> list[Scene]:
    """Scenes of `train`, `validation` or `test`, by their place in it; a share of them with two kinds of fruit."""
    return [sample(seed, two_kinds) for seed in SPLITS[split][first : first + count]]


def sample_step(schedule: TrainingSchedule, step: int) -> list[Scene]:
    """Scenes that no other step has."""
    return sample_split("train", step * schedule.batch, schedule.batch)


def render_scenes(scenes: Sequence[Scene]) -> Tensor:
    """Their pictures, uint8 (b, 3, 64, 64)."""
    return torch.from_numpy(np.stack([render(scene).image for scene in scenes])).permute(0, 3, 1, 2).contiguous()


class Steps(Dataset):
    """Step by step, the pictures of a batch and their scenes: the same whatever step is begun at."""

    def __init__(self, schedule: TrainingSchedule, begin: int, sampler: SceneSampler) -> None:
        self.schedule, self.begin, self.sampler = schedule, begin, sampler

    def __len__(self) -> int:
        return self.schedule.steps - self.begin

    def __getitem__(self, i: int) -> tuple[Tensor, list[Scene]]:
        scenes = self.sampler(self.schedule, self.begin + i)
        return render_scenes(scenes), scenes


def render_batches(
    schedule: TrainingSchedule, begin: int, sampler: SceneSampler = sample_step
) -> Iterator[tuple[Tensor, list[Scene]]]:
    """Pictures in [0, 1] from step `begin` on, rendered in the background."""
    background = {"num_workers": schedule.workers, "prefetch_factor": 4} if schedule.workers else {}
    for images, scenes in DataLoader(Steps(schedule, begin, sampler), batch_size=None, **background):
        yield images.float() / 255, scenes


def chunk(items: Sequence[T], size: int = 8) -> list[Sequence[T]]:
    """Parts of up to `size` items: rows of a sheet, batches of a network."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def train(part: Part, schedule: TrainingSchedule, out: Path, device: torch.device, bfloat16: bool) -> None:
    """Train to the end, going on from `out/checkpoint.pt` where there is one; a finished training is left alone."""
    module = part.module.to(device).train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=schedule.rate, betas=(0.9, 0.99), weight_decay=0.01)
    ema = EMAModel(module.parameters(), decay=schedule.decay, use_ema_warmup=True, inv_gamma=1, power=0.75)
    begin = resume(out, module, optimiser, ema)
    if begin >= schedule.steps:
        log.info("%s: done already", out)
        return
    saved = time.monotonic()
    with tqdm(total=schedule.steps, initial=begin, unit="step") as bar:
        for step, (inputs, scenes) in enumerate(part.batches(schedule, begin, out), begin):
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate * schedule.factor(step)
            rng = torch.Generator().manual_seed(schedule.seed * 10**9 + step)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss = part.loss(inputs.to(device), scenes, rng)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            ema.step(module.parameters())
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
            last = step + 1 == schedule.steps
            if last or (step + 1) % schedule.validate == 0:
                with use_average(module, ema):
                    report(part, step + 1, out)
            if last or time.monotonic() - saved > 60 * schedule.minutes:
                save_checkpoint(out, step + 1, module, optimiser, ema)
                saved = time.monotonic()


@contextmanager
def use_average(module: nn.Module, ema: EMAModel) -> Iterator[None]:
    """The averaged weights while inside."""
    ema.store(module.parameters())
    ema.copy_to(module.parameters())
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        ema.restore(module.parameters())
        module.train()


def report(part: Part, step: int, out: Path) -> None:
    """Validate, write down the scores, draw the sheet, export."""
    scores, sheet = part.validate()
    log.info("step %d: %s", step, ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "figures.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **scores}) + "\n")
    write_picture(out / f"sheet_{step:06d}.png", sheet)
    part.export(out / "export")


def save_checkpoint(out: Path, step: int, module: nn.Module, optimiser: torch.optim.Optimizer, ema: EMAModel) -> None:
    """Write everything that going on needs, whole or not at all."""
    states = {"step": step, "module": module.state_dict(), "optimiser": optimiser.state_dict(), "ema": ema.state_dict()}
    data = io.BytesIO()
    torch.save(states, data)
    write(out / "checkpoint.pt", data.getvalue())


def resume(out: Path, module: nn.Module, optimiser: torch.optim.Optimizer, ema: EMAModel) -> int:
    """Load the checkpoint (tensors and plain values only), where there is one; the step to go on from."""
    path = out / "checkpoint.pt"
    if not path.exists():
        return 0
    states = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(states["module"])
    optimiser.load_state_dict(states["optimiser"])
    ema.load_state_dict(states["ema"])
    ema.to(next(module.parameters()).device)
    log.info("going on from step %d", states["step"])
    return states["step"]
