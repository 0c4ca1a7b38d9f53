"""Where the time of a run goes: inside the networks, or outside in batching, programs and masks."""

import argparse
import tempfile
import time
from collections import defaultdict

import torch

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.sampling.noise import RequestNoise
from diffedit.testing import TinyPipeline
from diffedit.types import EditRequest

RATIOS = [i / 10 for i in range(1, 11)]


def clock(backbone: StableDiffusion) -> dict[str, float]:
    """Seconds spent in each network from now on, by hooks around its forward pass."""
    seconds: dict[str, float] = defaultdict(float)
    began: dict[torch.nn.Module, float] = {}

    def now() -> float:
        if backbone.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def enter(module, args):
        began[module] = now()

    parts = {
        "UNet": [backbone.unet],
        "autoencoder": [backbone.vae.encoder, backbone.vae.decoder],
        "text encoder": [backbone.text_encoder],
    }
    for name, modules in parts.items():
        for module in modules:
            module.register_forward_pre_hook(enter)

            def leave(module, args, output, name=name):
                seconds[name] += now() - began[module]

            module.register_forward_hook(leave)
    return seconds


def time_engine(args: argparse.Namespace) -> None:
    """Time one run of DiffEdit at ten ratios; print the share of the wall time that is not the networks'."""
    tiny = TinyPipeline((64, 128, 192), (24, 48, 96), latent=16, width=128, tokens=77)
    with tempfile.TemporaryDirectory() as folder:
        backbone = StableDiffusion.from_pretrained(str(tiny.write(folder)))
    schedule = backbone.schedule(args.steps)
    editor = DiffEdit()
    size = args.requests, 3, backbone.resolution, backbone.resolution
    images = torch.rand(size, generator=torch.Generator().manual_seed(0))
    requests = [EditRequest(str(i), lambda i=i: images[i], f"picture {i}", "a picture") for i in range(args.requests)]
    engine = Engine(backbone, BatchSizes(predict=args.batch, encode=4, decode=8, embed=8), progress=args.progress)
    programs = [(request.id, editor(request, RATIOS, schedule, RequestNoise(0, request.id))) for request in requests]
    seconds = clock(backbone)

    began = time.perf_counter()
    outcomes = list(engine.run(programs, len(programs), len(RATIOS)))
    wall = time.perf_counter() - began
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        raise failed[0].error
    evaluations = sum(outcome.evaluations.total() for outcome in outcomes)
    print(
        f"DiffEdit, {args.requests} images x {len(RATIOS)} ratios, {args.steps} steps; UNet 64-128-192 on 16 x 16 "
        f"latents, batch {args.batch}, {backbone.device}, {torch.get_num_threads()} threads"
    )
    print(f"{evaluations} evaluations ({evaluations / len(programs):g} an image), {evaluations / wall:.0f} a second")
    for name, part in seconds.items():
        print(f"  {name:13s} {part:7.2f} s  {part / wall:6.1%}")
    outside = wall - sum(seconds.values())
    print(f"  {'outside':13s} {outside:7.2f} s  {outside / wall:6.1%}")
    print(f"  {'wall':13s} {wall:7.2f} s")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python scripts/bench.py engine --requests 8")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("engine", help="share of the wall time outside the networks, random weights")
    one.add_argument("--requests", type=int, default=8)
    one.add_argument("--steps", type=int, default=20)
    one.add_argument("--batch", type=int, default=64, help="rows in a UNet call")
    one.add_argument("--progress", action="store_true", help="show the bar")
    one.set_defaults(command=time_engine)
    args = parser.parse_args()
    args.command(args)


if __name__ == "__main__":
    main()
