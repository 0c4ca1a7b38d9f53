"""Text-driven image editing with diffusion models: `diffedit.edit(pipe, image, target="a photo of a dog").image`.

The names below are loaded when they are first used.
"""

from importlib import import_module
from typing import Any

CONTENTS = {
    "BatchSizes": "diffedit.engine.engine",
    "DiffEdit": "diffedit.diffedit",
    "EditPipeline": "diffedit.stages.pipeline",
    "EditRequest": "diffedit.types",
    "EditResult": "diffedit.types",
    "Engine": "diffedit.engine.engine",
    "RequestNoise": "diffedit.sampling.noise",
    "RunSettings": "diffedit.runs.loop",
    "StableDiffusion": "diffedit.backbones.stable_diffusion",
    "TextToImage": "diffedit.text_to_image",
    "Variant": "diffedit.types",
    "edit": "diffedit.api.edit",
    "find_mask": "diffedit.api.edit",
    "load_run": "eval.reporting.load_run",
    "run": "diffedit.api.run",
    "run_alone": "diffedit.engine.queries",
    "run_benchmark": "diffedit.runs.loop",
    "score": "eval.scoring.folders",
}
__all__ = list(CONTENTS)


def __getattr__(name: str) -> Any:
    if name not in CONTENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(CONTENTS)}")
    return getattr(import_module(CONTENTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *CONTENTS])
