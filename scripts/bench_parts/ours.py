"""Our side: the model and the engine as `diffedit run` makes them of its settings, and scenes kept in memory."""

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hydra.utils import instantiate
from torch import Tensor

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.commands.run import read_settings
from diffedit.engine.engine import Engine
from diffedit.engine.queries import Outcome
from diffedit.engine.sizes import BatchSizes, choose_sizes
from diffedit.io.compose import compose
from diffedit.io.files import resolve_path
from diffedit.runs.loop import RunSettings
from diffedit.sampling.noise import RequestNoise
from diffedit.testing import TinyPipeline
from diffedit.types import Editor, EditRequest
from eval.stilllife.benchmarks import StillLifeScenes

TINY = "tiny"  # as --weights: a tiny pipeline with random weights
RATIOS = {1: (0.8,), 4: (0.3, 0.5, 0.7, 0.9), 10: tuple(i / 10 for i in range(1, 11))}


def add_model_arguments(parser: ArgumentParser) -> None:
    """What most sub-commands ask of the model and the engine."""
    parser.add_argument(
        "--weights", default="weights/stilllife", help="folder in Stable Diffusion's layout (default %(default)s)"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of `diffedit run`: engine.batch.predict=64"
    )


@contextmanager
def find_weights(path: str) -> Iterator[str]:
    """The folder of some weights; for `tiny` one that is made, and removed at the end."""
    if path != TINY:
        yield str(resolve_path(path))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(TinyPipeline(tokens=128).write(Path(folder)))


@dataclass(frozen=True)
class Ours:
    """A model and how it is called.

    Attributes:
        backbone: the networks.
        settings: of a run.
        pad: whether calls are padded to one size, as in a run.
    """

    backbone: StableDiffusion
    settings: RunSettings
    pad: bool = True

    @classmethod
    def load(cls, weights: str, overrides: Sequence[str] = (), pad: bool = True) -> "Ours":
        """As `diffedit run backbone.path=WEIGHTS OVERRIDES` loads it."""
        cfg = compose("run", ["name=bench", "backbone=stable_diffusion", f"backbone.path={weights}", *overrides])
        backbone = instantiate(cfg.backbone, _convert_="all")
        return cls(backbone, replace(read_settings(cfg)[1], progress=False), pad)

    def choose_sizes(self, requests: int) -> BatchSizes:
        """Rows a call that a run of so many requests has."""
        return choose_sizes(self.settings.batch, self.backbone, requests)

    def edit(
        self, editor: Editor, requests: Sequence[EditRequest], ratios: Sequence[float], steps: int
    ) -> list[Outcome]:
        """Edit requests in memory; raises what went wrong with any of them."""
        settings, schedule = self.settings, self.backbone.schedule(steps)
        batch = self.choose_sizes(len(requests))
        engine = Engine(self.backbone, batch, settings.max_live, settings.embedding_cache, progress=False, pad=self.pad)
        programs = (
            (request.id, editor(request, ratios, schedule, RequestNoise(settings.seed, request.id)))
            for request in requests
        )
        outcomes = list(engine.run(programs, len(requests), len(ratios)))
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        return outcomes


def load_scenes(count: int, resolution: int) -> list[EditRequest]:
    """Rendered still lifes with their texts and masks, drawn beforehand: calling them costs nothing."""
    return [
        replace(request, image=keep(request.image()), mask=keep(request.mask()))
        for request in StillLifeScenes(size=count).requests(resolution)
    ]


def keep(picture: Tensor) -> Callable[[], Tensor]:
    """A loader of what is in memory."""
    return partial(give, picture)


def give(picture: Tensor) -> Tensor:
    """It."""
    return picture


def count_evaluations(outcomes: Sequence[Outcome]) -> int:
    """Evaluations of the denoiser that the methods asked for, as the engine counts them."""
    return sum(outcome.evaluations.total() for outcome in outcomes)


def choose_ratios(counts: Sequence[int], steps: int) -> dict[int, tuple[float, ...]]:
    """The encoding ratios of 1, 4 or 10 of them; a ValueError where two are one level of so few steps."""
    chosen = {}
    for count in counts:
        levels = {round(ratio * steps) for ratio in RATIOS[count]}
        if len(levels) < count or 0 in levels:
            raise ValueError(f"--steps {steps} is too few for {count} ratios: take a multiple of 10, or fewer --ratios")
        chosen[count] = RATIOS[count]
    return chosen


def parse_counts(args: Namespace) -> dict[int, tuple[float, ...]]:
    """`choose_ratios` of a command line."""
    return choose_ratios(args.ratios, args.steps)
