"""`diffedit.edit` of one picture against diffusers' three calls as documented, on the same networks.

Theirs finds the mask once; each ratio is an inversion (guided, its default) and a decoding.
"""

from argparse import ArgumentParser, Namespace
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure

import diffedit
from bench_parts.measure import Spread, divide, interleave
from bench_parts.ours import choose_ratios, find_weights, load_scenes
from bench_parts.report import Report, Table
from bench_parts.theirs import Theirs
from diffedit.io.images import to_pil

EXAMPLE = "python scripts/bench.py call --repeats 5"
TINY = {"weights": "tiny", "steps": 10, "repeats": 1}


def add_arguments(parser: ArgumentParser) -> None:
    """Beside what all sub-commands have."""
    parser.add_argument("--weights", default="weights/stilllife", help="folder of the networks (default %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="N (default %(default)s)")


def measure(args: Namespace, report: Report) -> None:
    """One and four ratios."""
    chosen = choose_ratios([1, 4], args.steps)
    with find_weights(args.weights) as path:
        theirs = Theirs(path, torch.device("cpu"), torch.float32, "contiguous", args.steps)
    (scene,) = load_scenes(1, theirs.unet.config.sample_size * theirs.diffedit.vae_scale_factor)
    image, rows = to_pil(scene.image()), []
    for ratios in chosen.values():
        calls = {
            "diffedit.edit": partial(
                *(diffedit.edit, theirs.img2img, image, scene.target, scene.source),
                ratio=ratios,
                num_inference_steps=args.steps,
            ),
            "diffusers": partial(theirs.edit_as_documented, [scene], ratios),
        }
        timings = interleave(calls, args.repeats, f"{len(ratios)} ratios")
        times = divide(timings["diffedit.edit"], timings["diffusers"])
        row = {name: timing.describe() for name, timing in timings.items()}
        rows.append({"ratios": len(ratios), **row, "share_of_theirs": {"raw": times, **vars(Spread.of(times))}})
    report.notes = [f"{args.steps} steps, {args.repeats} repeats; paired by repeat, median [range]"]
    report.save({"calls": rows}, [make_table(rows)], partial(draw, rows))


def make_table(rows: list[dict[str, Any]]) -> Table:
    """A row a number of ratios."""
    cells = [
        (
            str(row["ratios"]),
            *(f"{row[name]['median']:.2f}" for name in ("diffedit.edit", "diffusers")),
            str(Spread(*(row["share_of_theirs"][k] for k in ("median", "low", "high")))),
        )
        for row in rows
    ]
    return Table("One picture", ("ratios", "diffedit.edit, s", "diffusers, s", "ours / theirs"), cells)


def draw(rows: list[dict[str, Any]], figure: Figure) -> None:
    """Seconds over ratios."""
    axes = figure.subplots()
    for name, marker in (("diffedit.edit", "o"), ("diffusers", "s")):
        axes.plot([row["ratios"] for row in rows], [row[name]["median"] for row in rows], marker=marker, label=name)
    axes.set(xlabel="ratios", ylabel="seconds", xticks=[row["ratios"] for row in rows])
    axes.set_ylim(0)
    axes.legend(frameon=False)
