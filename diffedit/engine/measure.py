"""How many rows a second each network answers, over the rows in a call; kept for the next run of the same networks."""

import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diffedit.conditions import any_text
from diffedit.io.device import is_out_of_memory, name_device, wait_for
from diffedit.io.files import write
from diffedit.io.hashing import hash_text
from diffedit.types import Backbone

log = logging.getLogger(__name__)

Rates = dict[int, float]
"""Rows a second by rows in a call."""

MOST = 256  # rows in a call
REPEATS = 3  # timed calls of a size, after one that is not
SECONDS = 20.0  # for all sizes of a kind
GAIN = 1.1  # of the best rate so far, by fewer rows: less is not worth twice the memory
SHARE = 0.8  # of the free memory that a call may take


def find_knee(rates: Rates) -> int:
    """The fewest rows in a call that come near the best rate."""
    best = max(rates.values())
    return min(rows for rows, rate in rates.items() if rate * GAIN >= best)


def find_rates(backbone: Backbone, device: torch.device, names: Sequence[str]) -> dict[str, Rates]:
    """The rates of some networks: `predict`, `encode`, `decode`, `embed`; measured where the cache has none."""
    path, facts = find_cache(), describe_networks(backbone, device)
    key = hash_text(json.dumps(facts, sort_keys=True))
    known = read_cache(path)
    entry = known.get(key, {"of": facts, "rates": {}})
    found = {name: {int(rows): rate for rows, rate in rates.items()} for name, rates in entry["rates"].items()}
    missing = [name for name in names if name not in found]
    if missing:
        log.info("measuring how many rows a call of %s should have", ", ".join(missing))
        calls = make_calls(backbone)
        found |= {name: measure(calls[name], device) for name in missing}
        for name in missing:
            log.info("%s: %s", name, ", ".join(f"{rate:.3g}/s at {rows}" for rows, rate in found[name].items()))
        keep(path, {**known, key: {"of": facts, "rates": found}})
    return {name: found[name] for name in names}


@torch.no_grad()
def make_calls(backbone: Backbone) -> dict[str, Callable[[int], Any]]:
    """A call of each network, for a number of rows."""
    side = backbone.resolution
    image = torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(0))
    latent, conds, level = backbone.encode(image), backbone.embed([any_text(backbone)]), backbone.schedule(10)[5]
    return {
        "predict": lambda rows: backbone.predict(latent.repeat(rows, 1, 1, 1), [level] * rows, conds * rows),
        "encode": lambda rows: backbone.encode(image.repeat(rows, 1, 1, 1)),
        "decode": lambda rows: backbone.decode(latent.repeat(rows, 1, 1, 1)),
        "embed": lambda rows: backbone.embed([any_text(backbone)] * rows),
    }


@torch.no_grad()
def measure(call: Callable[[int], Any], device: torch.device) -> Rates:
    """Rates at powers of two, until two in a row gain little, or the next would not fit the memory or the time."""
    rates: Rates = {}
    began, rows, best_rows = time.perf_counter(), 1, 1
    while rows <= MOST:
        try:
            seconds, taken, free = time_call(call, rows, device)
        except Exception as error:
            if not is_out_of_memory(error) or not rates:
                raise
            break
        rates[rows] = rows / seconds
        if rates[rows] > GAIN * rates[best_rows]:
            best_rows = rows
        spent = time.perf_counter() - began
        if rows >= 4 * best_rows or 2 * taken > SHARE * free or spent + 2 * seconds * (REPEATS + 1) > SECONDS:
            break
        rows *= 2
    return rates


def time_call(call: Callable[[int], Any], rows: int, device: torch.device) -> tuple[float, float, float]:
    """Seconds of a call (the median), bytes that it takes at its peak, bytes free for it; on a CPU none and no end."""
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device) if is_cuda else 0
    free = torch.cuda.mem_get_info(device)[0] if is_cuda else float("inf")
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        call(rows)
        wait_for(device)
        times.append(time.perf_counter() - began)
    taken = torch.cuda.max_memory_allocated(device) - held if is_cuda else 0
    return statistics.median(times[1:]), taken, free


# --------------------------------------------------------------------------------------------------------------- cache


def describe_networks(backbone: Backbone, device: torch.device) -> dict[str, Any]:
    """What a rate depends on."""
    kinds = ("dtype", "vae_dtype", "memory_format")
    return {
        "weights": dict(backbone.fingerprint),
        "device": name_device(device),
        "resolution": backbone.resolution,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "denoiser": type(getattr(backbone, "denoiser", backbone)).__name__,  # it may be compiled
        **{kind: str(getattr(backbone, kind, "")) for kind in kinds},
    }


def find_cache() -> Path:
    """The user's file of rates."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "diffedit" / "batch_rates.json"


def read_cache(path: Path) -> dict[str, Any]:
    """All that was measured; nothing where the file is not there, or damaged."""
    try:
        known = json.loads(path.read_bytes())
        return {key: entry for key, entry in known.items() if all(map(is_rates, entry["rates"].values()))}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: damaged (%s): it is measured anew", path, error)
        return {}


def is_rates(rates: Mapping[str, Any]) -> bool:
    """Whether they can be read as such."""
    return bool(rates) and all(rows.isdigit() and rate > 0 for rows, rate in rates.items())


def keep(path: Path, known: Mapping[str, Any]) -> None:
    """Write the cache; a disk that takes none only costs the next run a measurement."""
    try:
        write(path, json.dumps(known, indent=1).encode())
    except OSError as error:
        log.warning("the measured batch sizes are not kept: %s", error)
