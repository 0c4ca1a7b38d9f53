"""One training loop for every part: exact resume, EMA, validation figures, a sheet of pictures."""

import io
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from diffedit.io.files import write
from eval.stilllife.render import render
from eval.stilllife.scene import SPLITS, Scene, sample

log = logging.getLogger("train")


@runtime_checkable
class Part(Protocol):
    """A network to train. `module` holds every weight that is trained."""

    module: nn.Module

    def batches(self, schedule: "Schedule", begin: int, out: Path) -> Iterator[tuple[Tensor, list[Scene]]]:
        """What `loss` takes, from step `begin` on; `out` may keep what is costly to make again."""

    def loss(self, inputs: Tensor, scenes: Sequence[Scene], draw: torch.Generator) -> Tensor:
        """The loss of one batch; all randomness from `draw`."""

    def validate(self) -> tuple[dict[str, float], Image.Image]:
        """Figures on the validation split, and pictures to look at; called with the averaged weights."""

    def export(self, folder: Path) -> None:
        """Write the averaged weights in their final layout."""


@dataclass(frozen=True)
class Schedule:
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

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    decay: float = 0.999
    validate: int = 500
    minutes: float = 3
    workers: int = 1
    seed: int = 0

    def factor(self, step: int) -> float:
        """Share of the peak rate at this step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2


Choice = Callable[[Schedule, int], list[Scene]]
"""The scenes of a step."""


def fresh(schedule: Schedule, step: int) -> list[Scene]:
    """Scenes that no other step has."""
    first = step * schedule.batch
    return [sample(SPLITS["train"][first + k]) for k in range(schedule.batch)]


class Scenes(Dataset):
    """Step by step, the scenes of a batch and their pictures; the same at every start, whatever the step begun at."""

    def __init__(self, schedule: Schedule, begin: int, scenes: Choice) -> None:
        self.schedule, self.begin, self.scenes = schedule, begin, scenes

    def __len__(self) -> int:
        return self.schedule.steps - self.begin

    def __getitem__(self, i: int) -> tuple[Tensor, list[Scene]]:
        scenes = self.scenes(self.schedule, self.begin + i)
        return stack(scenes), scenes


def stack(scenes: Sequence[Scene]) -> Tensor:
    """Renders as a batch, uint8 (b, 3, 64, 64)."""
    return torch.from_numpy(np.stack([render(scene).image for scene in scenes])).permute(0, 3, 1, 2).contiguous()


def rendered(schedule: Schedule, begin: int, scenes: Choice = fresh) -> Iterator[tuple[Tensor, list[Scene]]]:
    """Pictures in [0, 1] from step `begin` on, rendered in the background."""
    ahead = {"num_workers": schedule.workers, "prefetch_factor": 4} if schedule.workers else {}
    loader = DataLoader(Scenes(schedule, begin, scenes), batch_size=None, **ahead)
    for images, chosen in loader:
        yield images.float() / 255, chosen


def train(part: Part, schedule: Schedule, out: Path, device: torch.device, bfloat16: bool) -> None:
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
            draw = torch.Generator().manual_seed(schedule.seed * 10**9 + step)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss = part.loss(inputs.to(device), scenes, draw)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            ema.step(module.parameters())
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
            last = step + 1 == schedule.steps
            if last or (step + 1) % schedule.validate == 0:
                with averaged(module, ema):
                    report(part, step + 1, out)
            if last or time.monotonic() - saved > 60 * schedule.minutes:
                checkpoint(out, step + 1, module, optimiser, ema)
                saved = time.monotonic()


@contextmanager
def averaged(module: nn.Module, ema: EMAModel) -> Iterator[None]:
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
    """Validate, note the figures, draw the sheet, export."""
    figures, sheet = part.validate()
    log.info("step %d: %s", step, ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "figures.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **figures}) + "\n")
    sheet.save(out / f"sheet_{step:06d}.png")
    part.export(out / "export")


def checkpoint(out: Path, step: int, module: nn.Module, optimiser: torch.optim.Optimizer, ema: EMAModel) -> None:
    """Everything that going on needs, whole or not at all."""
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
