"""What a folder, a file or a hub id is, told by names and JSON files before any network is loaded.

What no family of backbones loads is refused here, in one place and in a moment, with what to do about it.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit.backbones.compvis import CLASSES, UNET
from diffedit.io.files import resolve_path
from diffedit.sampling.schedule import SPACINGS

log = logging.getLogger(__name__)

PREDICTION_TYPES = ("epsilon", "v_prediction")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")  # of DDIMScheduler
WEIGHTS = re.compile(
    r"(?P<name>diffusion_pytorch_model|pytorch_model|model)(?:-\d+-of-\d+)?(?:\.(?P<variant>[\w-]+?))?(?:-\d+-of-\d+)?\.safetensors"
)
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
NETWORKS = ("unet", "transformer", "vae", "vqvae", "text_encoder", "text_encoder_2")
LORA = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin", "adapter_config.json")
# What model_index.json of a family says, the yaml of its backbone, and the part that tells it from most others.
FAMILIES = {
    "StableDiffusionPipeline": ("stable_diffusion", "text_encoder"),
    "LatentDiffusion": ("latent_diffusion", "class_embedding"),
    "DiTPipeline": ("dit", "transformer"),
    "DDPMPipeline": ("pixel_diffusion", "unet"),
}
MISSING = "this part of the model is missing (a download that was stopped?): get the model again"
# What a UNet can want beside a latent, a time and a text.
ADDED = ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
FUSE = (
    "load its model in diffusers, then pipe.load_lora_weights(...), pipe.fuse_lora(), pipe.save_pretrained(FOLDER), "
    "and give that folder; or give the pipeline itself to diffedit.edit, which takes what is loaded into it"
)


@dataclass(frozen=True)
class Layout:
    """What a family of backbones is made of.

    Attributes:
        denoiser: the part that has to be there.
        parts: all of them, by the names of their folders.
        unet: the class of its UNet in diffusers; "" for a family without one.
        takes_added: whether its denoiser is given more than a latent, a time and texts.
    """

    denoiser: str = "unet"
    parts: Sequence[str] = ("unet", "scheduler")
    unet: str = "UNet2DConditionModel"
    takes_added: bool = False


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model.

    Attributes:
        place: what is loaded: a folder or a hub id.
        settings: folder with its JSON files.
        names: of all files, relative to it.
        path: as the user gave it.
    """

    place: str
    settings: Path
    names: frozenset[str]
    path: str

    @property
    def said(self) -> str:
        """As messages begin."""
        return f"backbone.path = {self.path}"

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file; {} where it is not there. A ValueError where it is not whole."""
        path = self.settings / name
        if not path.is_file():
            return {}
        try:
            return dict(json.loads(path.read_bytes()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: not a JSON file of settings ({error}): get it again") from error


def find_model(path: str, layout: Layout, revision: str | None = None, variant: str | None = None) -> str:
    """The folder or hub id that is loaded, where it holds a model of this layout.

    Args:
        path: of the folder, or the id.
        layout: of the family.
        revision: of the hub.
        variant: of the weights.

    Raises:
        OSError: there is nothing, or the hub does not give it.
        ValueError: it is something else, or the model wants what this family does not give it.
    """
    files = list_files(path, revision)
    kind = files.read("model_index.json").get("_class_name")
    family, part = FAMILIES.get(kind, ("", ""))
    if family and part not in layout.parts:
        raise ValueError(f"{files.said}: it is of another family ({kind}): backbone={family}")
    if family and f"{layout.denoiser}/config.json" not in files.names:
        raise FileNotFoundError(f"{files.said}: no {layout.denoiser}/config.json there: {MISSING}")
    if f"{layout.denoiser}/config.json" not in files.names:
        raise FileNotFoundError(f"{files.said}: no {layout.denoiser}/config.json there; {describe_other(files)}")
    check_denoiser(files, layout)
    check_scheduler(files.read("scheduler/scheduler_config.json"), f"{files.place}/scheduler")
    for part in layout.parts:
        if part in NETWORKS and f"{part}/config.json" in files.names:
            check_weights(files, part, variant)
    return files.place


def list_files(path: str, revision: str | None = None) -> ModelFiles:
    """The files of a folder here, or of a hub id; a file of weights is refused, with what makes a folder of it."""
    if not path.strip():
        raise ValueError("backbone.path is empty: a folder is wanted, or a hub id")
    folder = resolve_path(path)
    if folder.is_file():
        raise ValueError(f"backbone.path = {path}: {describe_file(folder)}")
    if path.startswith((".", "/", "~")) and not folder.exists():
        raise FileNotFoundError(f"backbone.path = {path}: no such folder")
    if folder.exists():
        if revision is not None:
            log.warning("backbone.revision = %s is of the hub, and not read: %s is a folder here", revision, path)
        inner = [*folder.glob("*"), *folder.glob("*/*")]
        names = frozenset(file.relative_to(folder).as_posix() for file in inner if file.is_file())
        return ModelFiles(str(folder), folder, names, path)
    from diffedit.backbones.hub import open_hub_model

    return ModelFiles(*open_hub_model(path, revision), path)


# ------------------------------------------------------------------------------------------------- what is no pipeline


def describe_file(path: Path) -> str:
    """What a single file of weights is, and what makes a folder of it."""
    if path.suffix in PICKLES:
        return (
            f"one file, which is a pickle and can hold code that runs: a folder is wanted. {convert_file(path)}, where "
            "you trust its source"
        )
    keys = read_keys(path)
    if any("lora" in key for key in keys):
        return f"a LoRA, which changes a model and is none: {FUSE}"
    if CLASSES in keys:
        return (
            "one file, of a class-conditional latent diffusion model: python scripts/convert_ldm.py --config YAML "
            f"--checkpoint {path} --out FOLDER makes a folder of it, for backbone=latent_diffusion"
        )
    if any(key.startswith("conditioner.embedders") for key in keys):
        return (
            "one file of Stable Diffusion XL, which has a backbone of its own: diffusers makes a folder of it, "
            f"StableDiffusionXLPipeline.from_single_file('{path.name}').save_pretrained(FOLDER), for "
            "diffedit run --include examples backbone=sdxl"
        )
    if any(key.startswith(UNET) for key in keys):
        return f"one file, and a folder is wanted. {convert_file(path)}"
    return "a file, and the folder of a model is wanted, or a hub id"


def convert_file(path: Path) -> str:
    """What makes a folder of a checkpoint in one file."""
    return f"diffusers makes one: StableDiffusionPipeline.from_single_file('{path.name}').save_pretrained(FOLDER)"


def read_keys(path: Path) -> list[str]:
    """The names of the weights in a file of safetensors; none where it is something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as weights:
            return list(weights.keys())
    except (SafetensorError, OSError):
        return []


def describe_other(files: ModelFiles) -> str:
    """What a folder without a denoiser is, and what to do."""
    top = sorted(name for name in files.names if "/" not in name)
    kind, own = files.read("model_index.json").get("_class_name"), files.read("config.json").get("_class_name")
    single = [name for name in top if name.endswith((".safetensors", *PICKLES))]
    if set(LORA) & set(top):
        return f"a LoRA, which changes a model and is none: {FUSE}"
    if kind is not None:
        return (
            f"it is a {kind}, which no backbone here loads: there are stable_diffusion (1.x and 2.x), "
            "latent_diffusion, dit and pixel_diffusion, and docs/extending.md says how one is added"
        )
    if own is not None:
        return f"it is a {own} alone, one part of a model: give the folder of a whole pipeline, often the one above"
    if single and (files.settings / single[0]).is_file():
        return f"{single[0]} in it is {describe_file(files.settings / single[0])}"
    if single:
        return f"{single[0]} in it is one file, and a folder is wanted: {convert_file(Path(single[0]))}"
    return "not a folder that this backbone loads"


# ------------------------------------------------------------------------------------------------- what is not given


def check_denoiser(files: ModelFiles, layout: Layout) -> None:
    """Refuse a denoiser of another class, or one that wants what this family does not give it."""
    config = files.read(f"{layout.denoiser}/config.json")
    kind = config.get("_class_name", layout.unet)
    if layout.denoiser == "unet" and kind in ("UNet2DModel", "UNet2DConditionModel") and kind != layout.unet:
        family = "pixel_diffusion" if kind == "UNet2DModel" else "stable_diffusion or latent_diffusion"
        raise ValueError(f"{files.said}: its UNet is a {kind}, of another family: backbone={family}")
    check_added(config, files.said, layout.takes_added)
    autoencoder = next((part for part in ("vae", "vqvae") if part in layout.parts), None)
    if autoencoder and (other := files.read(f"{autoencoder}/config.json")):
        latent = other.get("vq_embed_dim") or other.get("latent_channels", 4)
        check_channels(config.get("in_channels", 4), latent, files.said, layout.denoiser)


def check_added(config: Mapping[str, Any], said: str, takes_added: bool = False) -> None:
    """Refuse a UNet that wants more than a latent, a time and a text.

    Args:
        config: of the UNet.
        said: as the message begins.
        takes_added: whether it is given more.
    """
    wanted = {name: config.get(name) for name in ADDED if config.get(name) is not None}
    if takes_added:
        return
    if config.get("time_cond_proj_dim") is not None:
        raise ValueError(
            f"{said}: its UNet wants the guidance beside a text (time_cond_proj_dim: {config['time_cond_proj_dim']}; a "
            "latent consistency model), and would be given none: take the model that it was distilled from"
        )
    if not wanted:
        return
    names = ", ".join(f"{name}: {value}" for name, value in wanted.items())
    remedy = "take weights in the layout of Stable Diffusion 1.x or 2.x, or a backbone of its family"
    if wanted.get("addition_embed_type") == "text_time":
        remedy += " (Stable Diffusion XL's: diffedit run --include examples backbone=sdxl)"
    raise ValueError(
        f"{said}: its UNet wants {next(iter(wanted.values()))!r} beside a text ({names}), and would be given none: "
        f"{remedy}"
    )


def check_channels(taken: int, latent: int, said: str, denoiser: str = "unet") -> None:
    """Refuse a denoiser that takes more than a latent, or another one.

    Args:
        taken: channels that it takes.
        latent: channels of a latent.
        said: as the message begins.
        denoiser: which part it is.
    """
    if taken == latent:
        return
    kind = "UNet" if denoiser == "unet" else denoiser
    if taken == 2 * latent + 1:
        advice = (
            "an inpainting model, which is given a mask and a picture too: take the text-to-image weights of the same "
            "model; editor=diffedit_given, blended_latent and inpaint_diffusers edit under a given mask with them"
        )
    elif taken > latent:
        advice = "it is given more than a latent, such as a depth map or a second picture: take text-to-image weights"
    else:
        advice = "is the autoencoder of another model?"
    raise ValueError(f"{said}: the {kind} takes {taken} channels, latents have {latent}: {advice}")


def check_scheduler(config: Mapping[str, Any], name: str) -> None:
    """Refuse a noise schedule that is no discrete one of DDPM, or a prediction type that is not read.

    Args:
        config: of any of diffusers' schedulers; an empty one is told when it is loaded.
        name: of it, for the error.
    """
    if not config:
        return
    if "beta_schedule" not in config and config.get("trained_betas") is None:
        raise ValueError(
            f"{name}: {config.get('_class_name')} has no betas: not a DDPM noise schedule (a model of flow matching?); "
            "take weights that were trained with one, as Stable Diffusion 1.x and 2.x"
        )
    count, betas = config.get("num_train_timesteps", 1000), config.get("beta_schedule")
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"{name}: num_train_timesteps {count!r} is no whole number from 1 on: get the file again")
    if config.get("trained_betas") is None and betas not in BETA_SCHEDULES:
        raise ValueError(f"{name}: beta_schedule {betas!r} is none of {', '.join(BETA_SCHEDULES)}, which are read")
    if (spacing := config.get("timestep_spacing")) not in (None, *SPACINGS):
        raise ValueError(
            f"{name}: timestep_spacing {spacing!r} is none of {', '.join(SPACINGS)}: backbone.timestep_spacing says "
            "another"
        )
    kind = config.get("prediction_type", PREDICTION_TYPES[0])
    if kind not in PREDICTION_TYPES:
        raise ValueError(
            f"{name}: prediction_type {kind!r} is neither epsilon nor v_prediction, and no other is read: where the "
            "weights were trained for one of these, say so in scheduler_config.json; else take other weights"
        )


def check_weights(files: ModelFiles, part: str, variant: str | None = None) -> None:
    """Refuse a part whose weights are there as another variant alone, as pickles, or not at all."""
    own = [name.removeprefix(f"{part}/") for name in sorted(files.names) if name.startswith(f"{part}/")]
    if any(name.endswith(".json") and "index" in name for name in own):
        return  # several files, which are looked at before they are loaded
    matches = [match for name in own if (match := WEIGHTS.fullmatch(name))]
    read = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
    there = sorted({match["variant"] or "" for match in matches if match["name"] == read})
    if (variant or "") in there:
        return
    place = f"{files.place}/{part}"
    if matches and not there:
        raise FileNotFoundError(
            f"{place}: {matches[0][0]}: weights of this part are read as {read}.safetensors: rename it"
        )
    if there and variant is None:
        raise ValueError(f"{place}: the weights are there as the variant {there[0]} alone: backbone.variant={there[0]}")
    if there:
        named = " and ".join(name or "null (those without one)" for name in there)
        raise ValueError(f"{place}: no weights of backbone.variant = {variant} there: what there is, is {named}")
    if pickles := [name for name in own if name.endswith(PICKLES)]:
        raise ValueError(
            f"{place}: {pickles[0]} is a pickle, which can hold code that runs, and only safetensors are read. Where "
            "you trust its source, diffusers converts it: DiffusionPipeline.from_pretrained('" + files.path + "', "
            "use_safetensors=False).save_pretrained(FOLDER)"
        )
    raise FileNotFoundError(f"{place}: no weights there ({read}.safetensors): get them again")
