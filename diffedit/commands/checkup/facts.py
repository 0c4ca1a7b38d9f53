"""What was detected of a model: its parts, its noise schedule, what its conditions are."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from diffedit.commands.checkup.finding import Finding
from diffedit.commands.checkup.patient import STEPS, Patient
from diffedit.io.device import name_device
from diffedit.io.hashing import hash_text
from diffedit.types import Backbone, Level

ZERO = 1e-6  # an alpha below it is none


def describe_model(patient: Patient) -> Iterator[Finding]:
    """Family, and where it comes from."""
    yield Finding("model", f"{type(patient.backbone).__name__} of {patient.place}")


def describe_parts(patient: Patient) -> Iterator[Finding]:
    """Networks with their sizes and dtypes."""
    backbone = patient.backbone
    for name in getattr(backbone, "parts", ("unet",)):
        part = getattr(backbone, name, None)
        if isinstance(part, nn.Module):
            count = sum(weight.numel() for weight in part.parameters())
            dtypes = sorted({str(weight.dtype).removeprefix("torch.") for weight in part.parameters()})
            yield Finding(name, f"{type(part).__name__}, {describe_count(count)} parameters, {', '.join(dtypes)}")


def describe_count(count: int) -> str:
    """In thousands or millions."""
    return f"{count / 1e6:,.1f} million" if count >= 1e5 else f"{count:,}"


def describe_conditions(patient: Patient) -> Iterator[Finding]:
    """Texts with their limit, or classes."""
    yield Finding("conditions", name_conditions(patient.backbone))


def name_conditions(backbone: Any) -> str:
    """In words."""
    if backbone.conditions == "class":
        null, classes = backbone.null_class, backbone.classes
        named = f"{len(classes.names)} with names" if classes.names else "without names (no class index)"
        ending = "no null class" if null is None else f"null class {null}"
        return f"classes, {classes.count} of them, {named}; {ending}"
    if is_unconditional(backbone):
        return "none: texts mean nothing to it"
    if getattr(backbone, "text_encoder", None) is None:
        return "texts"
    from diffedit.backbones.stable_diffusion import find_token_limit

    limit = find_token_limit(backbone.tokenizer, backbone.text_encoder)
    return f"texts of {limit} tokens at most, start and end included"


def is_unconditional(backbone: Backbone) -> bool:
    """Whether no condition is anything to it."""
    return backbone.conditions == "text" and backbone.embed([""]) == [None]


def describe_pictures(patient: Patient) -> Iterator[Finding]:
    """Resolution and latents."""
    side = patient.backbone.resolution
    scaling = getattr(getattr(getattr(patient.backbone, "vae", None), "config", None), "scaling_factor", None)
    shape = " x ".join(map(str, patient.latents.shape[1:]))
    scaled = "" if scaling is None else f", scaled by {scaling:g}"
    yield Finding("pictures", f"{side} x {side}; latents {shape}{scaled}")


def describe_scheduler(patient: Patient) -> Iterator[Finding]:
    """What decides levels and how outputs are read."""
    if (scheduler := getattr(patient.backbone, "scheduler", None)) is None:
        return
    config = scheduler.config
    betas = f"{config.beta_schedule}, {config.beta_start:g} to {config.beta_end:g}"
    trained = "" if config.trained_betas is None else " (given one by one: trained_betas)"
    clean = "1" if config.set_alpha_to_one else "that of time 0"
    yield Finding("prediction type", config.prediction_type)
    yield Finding("betas", f"{betas}, {config.num_train_timesteps} times{trained}")
    yield Finding("spacing", f"{config.timestep_spacing}, offset {config.steps_offset}; level 0 has alpha {clean}")


def describe_levels(patient: Patient) -> Iterator[Finding]:
    """First and last of `STEPS` levels."""
    schedule = patient.backbone.schedule(STEPS)
    first, last = schedule[1], schedule[len(schedule) - 1]
    ends = [f"{find_log_snr(level):.2f} at t = {level.timestep:g}" for level in (first, last)]
    terminal = ", which is zero terminal SNR" if last.alpha < ZERO else ""
    yield Finding("log-SNR", f"{ends[0]} (level 1) to {ends[1]} (level {len(schedule) - 1}){terminal}")


def find_log_snr(level: Level) -> float:
    """log(alpha² / sigma²)."""
    if level.alpha == 0 or level.sigma == 0:
        return -math.inf if level.alpha == 0 else math.inf
    return 2 * math.log(level.alpha / level.sigma)


def describe_device(patient: Patient) -> Iterator[Finding]:
    """Where the networks are, and what that is sold as."""
    device = patient.device
    yield Finding("device", f"{device} ({name_device(device)}), PyTorch {torch.__version__}")


def describe_hash(patient: Patient) -> Iterator[Finding]:
    """Of all that a run records of the model."""
    yield Finding("hash", hash_text(repr(sorted(patient.backbone.fingerprint.items()))))


FACTS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    describe_model,
    describe_parts,
    describe_conditions,
    describe_pictures,
    describe_scheduler,
    describe_levels,
    describe_device,
    describe_hash,
)
