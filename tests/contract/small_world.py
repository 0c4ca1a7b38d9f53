"""A process that runs what the documentation shows, as it is written, in a small world: `python small_world.py`.

It reads a task a line from stdin, `{"words": [...]}` of a command or `{"code": "..."}` of Python, and answers a line
with exit code and output. Words stay as they are; the world is smaller: two requests of each benchmark, ten steps, few
reference pictures; and what is not here is stood in for: weights of photographs by Still Life's.
"""

import functools
import itertools
import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
REQUESTS, STEPS, ROWS, REFERENCES = 2, 10, 8, 72
# Scripts that develop the project are given less to do; the last value of an option counts.
LESS = {
    "bench.py": ["--tiny"],
    "check_stilllife.py": ["--count", "4", "--steps", "2"],
    "export_stilllife.py": ["--per-class", "1", "--scenes", "2", "--train", "60"],
    "train_stilllife.py": [
        *("training.schedule.steps=1", "training.schedule.batch=2", "training.schedule.workers=0"),
        *("training.network.validation=2", "bfloat16=false"),
    ],
}


def count_requests():
    """How many a benchmark has; `diffedit edit` takes one of them, whichever the documentation likes."""
    return 10 * REQUESTS if sys.argv[1:2] == ["edit"] else REQUESTS


def wrap(owner, name, make):
    """Replace a method that the class itself defines by what is made of it."""
    if name in vars(owner):
        function = vars(owner)[name]
        setattr(owner, name, functools.wraps(function)(make(function)))


def shrink_benchmarks():
    """Two requests of each benchmark, and few reference pictures."""
    import eval.benchmarks.coco
    import eval.benchmarks.folder
    import eval.benchmarks.imagenet
    import eval.stilllife.benchmarks
    import eval.stilllife.generated  # noqa: F401 (classes are found by their base)
    from eval.benchmarks.base import BaseBenchmark
    from eval.benchmarks.generated import Generated

    def few(function):
        return lambda self, *args, **more: itertools.islice(function(self, *args, **more), count_requests())

    def draw_few(function):
        def __post_init__(self):
            function(self)
            object.__setattr__(self, "changes", self.changes[:REQUESTS])

        return __post_init__

    kinds = [BaseBenchmark]
    for kind in kinds:
        kinds += kind.__subclasses__()
        wrap(kind, "requests", few)
        wrap(kind, "ground_truths", few)
        wrap(kind, "__len__", lambda function: lambda self: min(function(self), count_requests()))
        wrap(kind, "reference", lambda function: lambda self, size, side: function(self, min(size, REFERENCES), side))
    wrap(Generated, "__post_init__", draw_few)


def shrink_models():
    """Ten steps of each schedule, few rows in a call; Still Life's weights for those that are not here, by any name."""
    from diffusers import DiffusionPipeline

    from diffedit.backbones import latent_diffusion, pixel, stable_diffusion
    from diffedit.engine.engine import BatchSizes
    from diffedit.io.files import find_shipped, resolve_path
    from diffedit.stages import background

    stand_in = str(find_shipped("weights") / "stilllife")

    def is_here(path):
        return resolve_path(path).is_dir()

    for kind in (stable_diffusion.StableDiffusion, pixel.PixelDiffusion):
        owner = next(parent for parent in kind.__mro__ if "schedule" in vars(parent))
        wrap(owner, "schedule", lambda function: lambda self, steps: function(self, min(steps, STEPS)))
    load, load_pipeline = stable_diffusion.StableDiffusion.from_pretrained, DiffusionPipeline.from_pretrained.__func__

    @functools.lru_cache(2)
    def load_once(path, settings):
        return load(path, **dict(settings))

    def from_pretrained(cls, path, **settings):
        return load_once(str(path) if is_here(path) else stand_in, tuple(sorted(settings.items())))

    def pipeline_from_pretrained(cls, path, **settings):
        return load_pipeline(cls, path if is_here(path) else stand_in, safety_checker=None)

    stable_diffusion.StableDiffusion.from_pretrained = classmethod(from_pretrained)
    stand_in_for_classes(latent_diffusion.LatentDiffusion, is_here)
    DiffusionPipeline.from_pretrained = classmethod(pipeline_from_pretrained)
    DiffusionPipeline.to = lambda self, *args, **settings: self
    wrap(
        *(BatchSizes, "__init__"),
        lambda function: lambda self, predict=ROWS, *rest, **more: function(self, min(predict, ROWS), *rest, **more),
    )
    for kind in (background.DecoderWeights, background.Latents):
        wrap(kind, "__init__", lambda function: lambda self, **settings: function(self, **{**settings, "steps": 2}))


def stand_in_for_classes(kind, is_here):
    """A tiny model with random weights and as many classes as ImageNet has, for those that are not here."""
    from diffedit.testing import TinyLatentDiffusion

    load = kind.from_pretrained

    @functools.lru_cache(1)
    def write():
        return str(TinyLatentDiffusion(count=1000).write(tempfile.mkdtemp()))

    def from_pretrained(cls, path, **settings):
        return load(path if is_here(path) else write(), **settings)

    kind.from_pretrained = classmethod(from_pretrained)


def run_words(words):
    """Run one command in this process; returns its exit code."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    program, *rest = words
    arguments, path = sys.argv, list(sys.path)
    try:
        if program == "diffedit":
            from diffedit.commands import main

            sys.argv = words
            return main() or 0
        assert program == "python", words
        script = ROOT / rest[0]
        sys.argv = [str(script), *rest[1:], *LESS.get(script.name, [])]
        sys.path.insert(0, str(script.parent))  # as `python FILE` does
        runpy.run_path(str(script), run_name="__main__")
        return 0
    finally:
        sys.argv, sys.path[:] = arguments, path


def run_task(task):
    """The exit code of a task."""
    try:
        if "code" in task:
            exec(compile(task["code"], task["name"], "exec"), {"__name__": "__main__"})
            return 0
        return run_words(task["words"])
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def run_captured(task):
    """Its exit code, and all that it wrote to stdout and stderr; answers go to the stdout that was there before."""
    with tempfile.TemporaryFile("w+") as file:
        kept = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            code = run_task(task)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in zip((1, 2), kept, strict=True):
                os.dup2(saved, number)
                os.close(saved)
        file.seek(0)
        return code, file.read()


def main():
    """Serve until stdin ends."""
    shrink_benchmarks()
    shrink_models()
    for line in sys.stdin:
        task = json.loads(line)
        os.chdir(task["folder"])
        code, output = run_captured(task)
        sys.stdout.write(json.dumps({"code": code, "output": output}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
