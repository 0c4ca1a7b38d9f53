"""Where the time of a run goes, and how `diffedit.edit` compares with the calls of diffusers."""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    StableDiffusionDiffEditPipeline,
    StableDiffusionPipeline,
)
from PIL import Image

import diffedit
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.io.files import resolve_path
from diffedit.io.images import to_pil
from diffedit.sampling.noise import RequestNoise
from diffedit.testing import TinyPipeline
from diffedit.types import EditRequest
from eval.stilllife.benchmarks import StillLifeScenes

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


def time_call(args: argparse.Namespace) -> None:
    """Time `diffedit.edit` against diffusers' three calls as documented: one picture, the same networks.

    Theirs finds the mask once; each ratio is an inversion (guided, its default) and a decoding. Repeats come after a
    warm-up and are interleaved; what is printed is the median of the paired ratios, and their range.
    """
    image, scene = draw_scene()
    pipe = StableDiffusionPipeline.from_pretrained(resolve_path("weights/stilllife"), safety_checker=None)
    peer = make_peer(pipe)
    texts, settings = {"source": scene.source, "target": scene.target}, {"num_inference_steps": args.steps}

    def call_ours(ratios: Sequence[float]) -> None:
        diffedit.edit(pipe, image, **texts, ratio=ratios, **settings)

    def call_theirs(ratios: Sequence[float]) -> None:
        mask = peer.generate_mask(image, scene.target, source_prompt=scene.source, **settings)
        for ratio in ratios:
            share = {"inpaint_strength": ratio}
            latents = peer.invert(scene.source, image, **share, **settings).latents
            peer(scene.target, mask, latents, **share, **settings)

    print(f"{args.steps} steps, {torch.get_num_threads()} threads, {args.repeats} repeats, medians")
    for ratios in (RATIOS[4:5], RATIOS[2::2]):
        calls = call_ours, call_theirs
        pairs = [[measure_seconds(call, ratios) for call in calls] for _ in range(args.repeats + 1)]
        ours, theirs = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
        share = [one / other for one, other in pairs[1:]]
        print(
            f"{len(ratios)} ratios: diffedit.edit {ours:.2f} s, diffusers {theirs:.2f} s; "
            f"{statistics.median(share):.2f} of theirs [{min(share):.2f}, {max(share):.2f}]"
        )


def draw_scene() -> tuple[Image.Image, EditRequest]:
    """A rendered picture and its texts."""
    scene = next(StillLifeScenes(size=1).requests(64))
    return to_pil(scene.image()), scene


def make_peer(pipe: StableDiffusionPipeline) -> StableDiffusionDiffEditPipeline:
    """The DiffEdit of diffusers with the networks of a pipeline, and the two schedulers that it is documented with."""
    inverse = DDIMInverseScheduler.from_config(pipe.scheduler.config)
    parts = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    schedulers = {"scheduler": DDIMScheduler.from_config(pipe.scheduler.config), "inverse_scheduler": inverse}
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    peer = StableDiffusionDiffEditPipeline(**parts, **schedulers, **none)
    peer.set_progress_bar_config(disable=True)
    return peer


def measure_seconds(call: Callable[[Sequence[float]], None], ratios: Sequence[float]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    call(ratios)
    return time.perf_counter() - began


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
    one = commands.add_parser("call", help="diffedit.edit of one picture against diffusers' calls, on Still Life")
    one.add_argument("--steps", type=int, default=50)
    one.add_argument("--repeats", type=int, default=5)
    one.set_defaults(command=time_call)
    args = parser.parse_args()
    args.command(args)


if __name__ == "__main__":
    main()
