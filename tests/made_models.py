"""Folders of models that cannot be used: each a tiny pipeline, and what is done to it."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from diffedit.testing import TinyDiT, TinyPipeline

FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler"}


def change(name, **settings):
    """What changes a JSON file of a folder."""

    def apply(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return apply


def rename_weights(folder):
    """As their fp16 variant is named."""
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))


def misname_weights(folder):
    """Of the UNet, as those of a text encoder are named."""
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    path.rename(path.with_name("model.safetensors"))


def pickle_weights(folder):
    """As they were published before safetensors."""
    for path in folder.rglob("*.safetensors"):
        name = "pytorch_model.bin" if path.parent.name == "text_encoder" else f"{path.stem}.bin"
        torch.save(load_file(path), path.with_name(name))
        path.unlink()


def keep_alone(name, **weights):
    """A folder with nothing but a file of weights."""

    def apply(folder):
        shutil.rmtree(folder)
        folder.mkdir()
        save_file({key: torch.zeros(size) for key, size in weights.items()}, folder / name)

    return apply


def become_flux(folder):
    """Of a family that has no UNet."""
    shutil.rmtree(folder / "unet")
    change("model_index.json", _class_name="FluxPipeline")(folder)


def become_dit(folder):
    """Of another family here."""
    shutil.rmtree(folder)
    TinyDiT().write(folder)


def become_checkpoint(folder):
    """Three files, and no folder of a model."""
    keep_alone("model.safetensors", **{"model.diffusion_model.out.2.bias": 4})(folder)
    save_file({"cond_stage_model.embedding.weight": torch.zeros(3)}, folder / "classes.safetensors")
    (folder / "model.ckpt").write_bytes(b"\x80\x02")


MODELS = {
    "plain": lambda folder: None,
    "sample": change("scheduler/scheduler_config.json", prediction_type="sample"),
    "flow": lambda folder: (folder / "scheduler/scheduler_config.json").write_text(json.dumps(FLOW)),
    "xl": change("unet/config.json", addition_embed_type="text_time"),
    "unclip": change("unet/config.json", class_embed_type="projection"),
    "inpainting": change("unet/config.json", in_channels=9),
    "depth": change("unet/config.json", in_channels=5),
    "unconditional": change("unet/config.json", _class_name="UNet2DModel"),
    "fp16": rename_weights,
    "bin": pickle_weights,
    "empty": lambda folder: (folder / "vae/diffusion_pytorch_model.safetensors").unlink(),
    "misnamed": misname_weights,
    "consistency": change("unet/config.json", time_cond_proj_dim=256),
    "no_vae": lambda folder: shutil.rmtree(folder / "vae"),
    "no_texts": lambda folder: shutil.rmtree(folder / "text_encoder"),
    "no_words": lambda folder: shutil.rmtree(folder / "tokenizer"),
    "no_noise": lambda folder: shutil.rmtree(folder / "scheduler"),
    "no_unet": lambda folder: shutil.rmtree(folder / "unet"),
    "betas": change("scheduler/scheduler_config.json", beta_schedule="foo"),
    "spaced": change("scheduler/scheduler_config.json", timestep_spacing="foo"),
    "times": change("scheduler/scheduler_config.json", num_train_timesteps="1000"),
    "torn": lambda folder: (folder / "unet/config.json").write_text("{"),
    "lora": keep_alone("pytorch_lora_weights.safetensors", **{"unet.mid.lora_A.weight": 2}),
    "named_lora": keep_alone("style.safetensors", **{"lora_unet_mid.lora_up.weight": 2}),
    "checkpoint": become_checkpoint,
    "flux": become_flux,
    "dit": become_dit,
    "blank": change("scheduler/scheduler_config.json", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
}


def write_models(folder):
    """All of them."""
    plain = TinyPipeline().write(Path(folder) / "plain")
    for name, do in MODELS.items():
        if name != "plain":
            do(shutil.copytree(plain, Path(folder) / name))
