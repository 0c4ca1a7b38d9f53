"""What a model costs: memory, and seconds a call."""

import os
import resource
import sys
from collections.abc import Iterator

import torch

from diffedit.commands.checkup.finding import Finding, judge
from diffedit.commands.checkup.patient import Patient
from diffedit.engine.measure import time_call

EDIT = 95  # evaluations: 20 of a mask, 25 up to r = 0.5 of 50 steps, and 50 down with guidance
SLOW = 1.0  # seconds an evaluation from which on there is advice
MOST = 0.9  # of the memory: what else runs needs the rest
CALLS = {"predict": "seconds an evaluation", "encode": "seconds to encode", "decode": "seconds to decode"}


def check_seconds(patient: Patient) -> Iterator[Finding]:
    """Of one row in a call, the median of three calls."""
    backbone, level = patient.backbone, patient.find_level(0.5)
    image, latent, cond = patient.samples[0].image[None], patient.latents[:1], patient.sources[:1]
    calls = {
        "predict": lambda rows: backbone.predict(latent, [level], cond),
        "encode": lambda rows: backbone.encode(image),
        "decode": lambda rows: backbone.decode(latent),
    }
    with torch.no_grad():
        seconds = {name: time_call(call, 1, patient.device)[0] for name, call in calls.items()}
    for name, text in CALLS.items():
        measured = f"{seconds[name]:.3g}"
        if name == "predict":
            measured += f"; an edit takes {EDIT}: {EDIT * seconds[name]:.3g} s"
        yield Finding(text, measured, f"below {SLOW:g}", advice=advise(patient) if seconds[name] > SLOW else "")


def advise(patient: Patient) -> str:
    """What makes a model faster where it is."""
    if patient.device.type == "cpu":
        return "slow on a CPU: backbone.device=cuda, a smaller backbone.resolution, or fewer steps"
    return "backbone.dtype=bfloat16 (or float16), backbone.memory_format=channels_last, backbone.compile=default"


def check_memory(patient: Patient) -> Iterator[Finding]:
    """The most so far: of the device, or of the process on a CPU; and of how much there is."""
    device = patient.device
    if device.type == "cuda":
        peak, whole = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        where, advice = "on the device", "fewer rows: engine.batch.predict; backbone.dtype=bfloat16"
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        where, advice = "of the process", "fewer rows: engine.batch.predict; or another machine"
    measured = f"{peak / 2**30:.2f} GiB of {whole / 2**30:.0f} {where}"
    yield judge("peak memory", measured, f"below {MOST:.0%}", peak < MOST * whole, advice)


COSTS = (check_seconds, check_memory)
