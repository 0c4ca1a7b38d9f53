"""The networks of a backbone called by themselves, the rows that they are asked, and the seconds they take."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from bench_parts.measure import Timing, interleave, measure_seconds, synchronize
from diffedit.backbones.stable_diffusion import StableDiffusion

KINDS = ("predict", "encode", "decode", "embed")
WORDS = {"predict": "UNet", "encode": "encoder", "decode": "decoder", "embed": "text encoder"}


def find_modules(backbone: StableDiffusion) -> dict[str, nn.Module]:
    """The module behind each kind of call; a compiled UNet as it is called."""
    vae = backbone.vae
    return {
        "predict": backbone.denoiser,
        "encode": vae.encoder,
        "decode": vae.decoder,
        "embed": backbone.text_encoder,
    }


class RowCount:
    """Rows that modules were called with, by hooks before their forward pass; `close` takes the hooks away."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.rows: dict[str, int] = dict.fromkeys(modules, 0)
        self.handles = [
            module.register_forward_pre_hook(self.make_hook(name), with_kwargs=True) for name, module in modules.items()
        ]

    def make_hook(self, name: str) -> Callable[..., None]:
        """A hook that adds the rows of the first tensor."""

        def count(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.rows[name] += len(args[0] if args else next(iter(kwargs.values())))

        return count

    def take(self) -> dict[str, int]:
        """The rows since the last time."""
        taken, self.rows = self.rows, dict.fromkeys(self.rows, 0)
        return taken

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self.handles:
            handle.remove()


@contextmanager
def clock_modules(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, float]]:
    """Seconds inside each module while the block runs, by hooks around its forward pass."""
    seconds: dict[str, float] = defaultdict(float)
    began: dict[str, float] = {}

    def enter(name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            synchronize()
            began[name] = time.perf_counter()

        return note

    def leave(name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            synchronize()
            seconds[name] += time.perf_counter() - began[name]

        return note

    handles = [module.register_forward_pre_hook(enter(name)) for name, module in modules.items()]
    handles += [module.register_forward_hook(leave(name)) for name, module in modules.items()]
    try:
        yield seconds
    finally:
        for handle in handles:
            handle.remove()


def make_call(backbone: StableDiffusion, kind: str, rows: int) -> Callable[[], Any]:
    """A call of one bare network with so many rows of noise: no scheduler, no copy, nothing around it."""
    device, vae = backbone.device, backbone.vae
    if kind == "embed":
        ids = torch.zeros(rows, backbone.text_encoder.config.max_position_embeddings, dtype=torch.long, device=device)
        return torch.no_grad()(partial(backbone.text_encoder, ids))
    draw = torch.Generator().manual_seed(0)
    if kind == "encode":
        pixels = torch.rand(rows, 3, backbone.resolution, backbone.resolution, generator=draw)
        return torch.no_grad()(partial(vae.encode, pixels.to(device, backbone.vae_dtype)))
    side = backbone.resolution // 2 ** (len(vae.config.block_out_channels) - 1)
    latents = torch.randn(rows, vae.config.latent_channels, side, side, generator=draw).to(device)
    if kind == "decode":
        return torch.no_grad()(partial(vae.decode, latents.to(backbone.vae_dtype)))
    with torch.no_grad():
        conditions = backbone.condition(backbone.embed([""]) * rows)
    x = latents.to(backbone.dtype, memory_format=backbone.memory_format)
    return torch.no_grad()(partial(backbone.denoiser, x, torch.full((rows,), 500, device=device), **conditions))


def scan_rows(
    backbone: StableDiffusion, kinds: Sequence[str], rows: Sequence[int], repeats: int, title: str
) -> dict[str, dict[int, Timing]]:
    """Seconds of a call of each network at each number of rows."""
    calls = {f"{kind} {n}": make_call(backbone, kind, n) for kind in kinds for n in rows}
    timings = interleave(calls, repeats, title)
    return {kind: {n: timings[f"{kind} {n}"] for n in rows} for kind in kinds}


def find_best(timings: Mapping[int, Timing]) -> int:
    """The number of rows with the least time a row, by the median."""
    return min(timings, key=lambda n: timings[n].spread.median / n)


def find_knee(timings: Mapping[int, Timing], within: float = 0.05) -> int:
    """The fewest rows whose rate is within 5 % of the best."""
    rates = {n: n / timing.spread.median for n, timing in timings.items()}
    return min(n for n, rate in rates.items() if rate >= (1 - within) * max(rates.values()))


def time_row(call: Callable[[], object], rows: int, least: float) -> float:
    """Seconds a row, over as many calls as take at least so long."""
    spent, count = 0.0, 0
    while spent < least or not count:
        spent += measure_seconds(call)
        count += 1
    return spent / (count * rows)
