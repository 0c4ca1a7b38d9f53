"""What backbones share: networks, schedules and tokenizers from a folder or the hub.

diffusers and transformers are imported where they are first needed: it takes seconds, and settings are checked before.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from diffedit.backbones.recognise import MISSING, check_scheduler
from diffedit.io.checks import refuse_adapter
from diffedit.sampling.schedule import NoiseSchedule, Spacing, TrainedTimes

SPACING = "backbone.timestep_spacing"


@dataclass(frozen=True)
class ModelFolder:
    """A folder or hub id that holds a pipeline, and how its parts are loaded.

    Attributes:
        path: of the folder, or the id.
        dtype: of a network, where `load` is given no other.
        device: that networks are put on.
        revision: git revision on the hub.
        variant: weights variant, such as "fp16" for *.fp16.safetensors.
    """

    path: str
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")
    revision: str | None = None
    variant: str | None = None

    def load(self, kind: Any, part: str, dtype: torch.dtype | None = None) -> Any:
        """One network; an OSError where the file holds no value for one of its weights."""
        self.check_files(part)
        weights = {"revision": self.revision, "variant": self.variant, "use_safetensors": True}
        model, info = kind.from_pretrained(
            self.path, subfolder=part, dtype=dtype or self.dtype, output_loading_info=True, **weights
        )
        if missing := sorted(info["missing_keys"]):
            named = ", ".join(missing[:5])
            raise OSError(f"{self.path}/{part}: {len(missing)} weights are missing from the file: {named} ...")
        return model.eval().requires_grad_(False).to(self.device)

    def check_files(self, part: str) -> None:
        """Refuse a part that is not there, or weights in several files of which one is not safetensors.

        Such a file would be unpickled.

        Raises:
            FileNotFoundError: the folder has no such part.
            ValueError: an index names such a file, or one outside its folder; or it is no index; or an adapter is
                there, which would be loaded from a folder that its file names.
        """
        folder = self.fetch_configs(part)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{self.path}/{part}: no config.json there: {MISSING}")
        refuse_adapter(folder)
        for path in sorted(folder.glob("*index*.json")):
            try:
                files = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}: not an index of weights ({error!r})") from error
            if wrong := [name for name in files if not str(name).endswith(".safetensors") or "/" in str(name)]:
                raise ValueError(
                    f"{path}: names {', '.join(map(str, wrong[:3]))}: only safetensors beside it are read, since other "
                    "files of weights can hold code that runs; convert them"
                )

    def fetch_configs(self, part: str) -> Path:
        """The folder of a part with its JSON files, which are downloaded where the path is a hub id."""
        if Path(self.path).is_dir():
            return Path(self.path, part)
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(self.path, revision=self.revision, allow_patterns=[f"{part}/*.json"]), part)

    def fetch(self, name: str, optional: bool = False) -> Path:
        """A file of the folder, downloaded where the path is a hub id.

        Args:
            name: of the file.
            optional: whether it may be missing: the path is then of no file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if Path(self.path).is_dir():
            path = Path(self.path, name)
            if not path.is_file() and not optional:
                raise FileNotFoundError(f"{path}: no such file; the folder of this backbone has one")
            return path
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return Path(hf_hub_download(self.path, name, revision=self.revision))
        except EntryNotFoundError:
            if not optional:
                raise
            return Path(self.path, name)

    def read_index(self) -> dict[str, Any]:
        """Of model_index.json; {} where there is none."""
        return self.read_json("model_index.json", optional=True)

    def read_json(self, name: str, optional: bool = False) -> dict[str, Any]:
        """A file of settings; {} where it may be missing and is."""
        path = self.fetch(name, optional)
        return json.loads(path.read_bytes()) if path.is_file() else {}

    def load_scheduler(self) -> Any:
        """The noise schedule, whatever sampler the folder names."""
        from diffusers import DDIMScheduler

        if Path(self.path).is_dir() and not Path(self.path, "scheduler/scheduler_config.json").is_file():
            raise FileNotFoundError(f"{self.path}/scheduler: no scheduler_config.json there: {MISSING}")
        try:
            config = DDIMScheduler.load_config(self.path, subfolder="scheduler", revision=self.revision)
        except OSError as error:
            raise OSError(
                f"backbone.path = {self.path}: neither a folder here nor a model that the hub gives: {error}"
            ) from error
        return make_scheduler(config, f"{self.path}/scheduler")

    def load_tokenizer(self, text_config: Any, part: str = "tokenizer") -> Any:
        """The tokenizer; a missing file would give an empty vocabulary without a word, so its size is checked."""
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(self.path, subfolder=part, revision=self.revision)
        if len(tokenizer) != text_config.vocab_size:
            raise OSError(
                f"{self.path}/{part} has {len(tokenizer)} tokens, the text encoder {text_config.vocab_size}: "
                "vocab.json, merges.txt or tokenizer.json missing?"
            )
        return tokenizer


def respace(scheduler: Any, spacing: Spacing | None) -> Any:
    """The scheduler with another spacing of the times that are visited; None for its own."""
    return scheduler if spacing is None else type(scheduler).from_config(scheduler.config, timestep_spacing=spacing)


def make_schedule(scheduler: Any, steps: int, clean: float) -> NoiseSchedule:
    """`steps` levels of a DDIMScheduler, at the times of its spacing.

    Args:
        scheduler: as `make_scheduler` returns it.
        steps: N.
        clean: the cumulative product at level 0.
    """
    config, alphas_cumprod = scheduler.config, scheduler.alphas_cumprod
    times = TrainedTimes(config.num_train_timesteps, config.timestep_spacing, config.steps_offset, SPACING)
    chosen, warning = times.choose(steps), times.describe_gap(steps, alphas_cumprod)
    return NoiseSchedule.discrete(alphas_cumprod, chosen, clean, config.prediction_type != "epsilon", warning)


def make_scheduler(config: Mapping[str, Any], name: str) -> Any:
    """A DDIMScheduler of its own with the noise schedule of a config; a ValueError where it is no discrete DDPM one.

    Args:
        config: of any of diffusers' schedulers.
        name: of it, for the error.
    """
    from diffusers import DDIMScheduler

    check_scheduler(config, name)
    keys = set(DDIMScheduler().config)
    return DDIMScheduler.from_config({key: value for key, value in config.items() if key in keys})


Dtype = Literal["float32", "float16", "bfloat16"]
Compile = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
"""Modes of `torch.compile`."""


def read_dtype(name: str) -> torch.dtype:
    """The dtype of this name."""
    if name not in get_args(Dtype):
        raise ValueError(f"dtype {name!r} is none of float32, float16, bfloat16")
    return getattr(torch, name)
