"""What dtype, memory format and compilation do to the edits: how fast, and how far from float32.

The same scenes are edited by DiffEdit in each way. Told are evaluations a second as a ratio to the first way, paired
within a repeat, and how far the results are: the largest difference of pixels, LPIPS between both edits of a picture,
IoU of both masks, and how the trade-off shifts (mean LPIPS to the input, accuracy). The first way is float32,
contiguous, not compiled; what two seeds of its own noise do stands beside the others, as a measure of what is much.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from bench_parts.measure import Spread, Timing, divide, interleave
from bench_parts.ours import Ours, add_model_arguments, count_evaluations, find_weights, load_scenes
from bench_parts.report import Report, Table
from diffedit.api.choose import make_editor
from diffedit.engine.queries import Outcome
from diffedit.types import EditRequest
from eval.metrics.functional.pairwise import PerceptualDistance
from eval.metrics.ground_truth import compute_iou
from eval.stilllife.network import StillLifeExtractor, load

EXAMPLE = "python scripts/bench.py numerics --ways bfloat16 bfloat16,channels_last float32,compiled"
TINY = {"weights": "tiny", "pictures": 2, "steps": 10, "repeats": 1, "ratios": [0.4, 0.8], "ways": ["bfloat16"]}
WORDS = {
    "float32": ("dtype=float32", "vae_dtype=float32"),
    "bfloat16": ("dtype=bfloat16", "vae_dtype=bfloat16"),
    "float16": ("dtype=float16", "vae_dtype=float32"),  # some autoencoders overflow in float16
    "channels_last": ("memory_format=channels_last",),
    "compiled": ("compile=default",),
}
SMALLEST = 64  # pixels a side
FIRST, RESEEDED = "float32", "float32, another seed"
MEASURES = {
    "pixels": "largest",
    "lpips": "LPIPS",
    "iou": "mask IoU",
    "lpips_shift": "to input",
    "accuracy_shift": "accuracy",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Beside what all sub-commands have."""
    add_model_arguments(parser)
    parser.add_argument("--pictures", type=int, default=8, help="scenes of Still Life (default %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="N (default %(default)s)")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.3, 0.5, 0.7, 0.9], help="encoding ratios")
    parser.add_argument(
        "--ways",
        nargs="+",
        default=["bfloat16", "channels_last"],
        metavar="WORDS",
        help=f"to call the networks: of {', '.join(WORDS)}, joined by commas",
    )


def load_way(words: str, path: str, overrides: Sequence[str]) -> Ours:
    """The model, called in one way; a ValueError for a word that is not known."""
    settings = list(overrides)
    for word in words.split(","):
        if word not in WORDS:
            raise ValueError(f"--ways {words}: {word!r} is none of {', '.join(WORDS)}")
        settings += [f"backbone.{setting}" for setting in WORDS[word]]
    return Ours.load(path, settings)


@dataclass(frozen=True)
class Made:
    """The results of one way, request by request: pictures (ratios, 3, H, W) and a mask."""

    pictures: dict[str, Tensor]
    masks: dict[str, Tensor]
    evaluations: int

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> "Made":
        """As the engine gave them."""
        results = {outcome.id: outcome.result for outcome in outcomes}
        pictures = {name: torch.stack([edit.image for edit in result.edits]) for name, result in results.items()}
        masks = {name: result.mask for name, result in results.items()}
        return cls(pictures, masks, count_evaluations(outcomes))


def measure(args: Namespace, report: Report) -> None:
    """All ways by turns; the first and the last repeat of a way are the same to the bit, so the last is compared."""
    editor, made = make_editor("diffedit"), {}
    with find_weights(args.weights) as path:
        ways = {words: load_way(words, path, args.set) for words in dict.fromkeys([FIRST, *args.ways])}
    first = ways[FIRST]
    requests = load_scenes(args.pictures, first.backbone.resolution)

    def edit(name: str, ours: Ours) -> None:
        made[name] = Made.of(ours.edit(editor, requests, args.ratios, args.steps))

    edit(RESEEDED, replace(first, settings=replace(first.settings, seed=first.settings.seed + 1)))
    calls = {words: partial(edit, words, ours) for words, ours in ways.items()}
    few = {
        words: partial(ours.edit, editor, requests[:1], args.ratios[-1:], args.steps) for words, ours in ways.items()
    }
    timings = interleave(calls, args.repeats, "ways", few)
    judge = Judge()
    seen = {name: judge.look(requests, one) for name, one in made.items()}
    rows = [
        compare(name, made[name], made[FIRST], judge) | shift(seen[name], seen[FIRST]) | rate(name, timings)
        for name in made
    ]
    report.notes = [
        f"DiffEdit, {args.pictures} pictures, r = {', '.join(map(str, args.ratios))}, {args.steps} steps, "
        f"{args.repeats} repeats; {made[FIRST].evaluations:,} evaluations a repeat",
        "speed: over that of float32 in the same repeat, median [range]; largest: difference of a pixel, in [0, 1]; "
        "LPIPS and mask IoU: means over pictures, against float32; to input (LPIPS) and accuracy: means, less its own",
    ]
    report.save({"ways": rows}, [make_table(rows)], partial(draw, rows, args.ratios))


class Judge:
    """Looks at edits by the networks of Still Life."""

    def __init__(self) -> None:
        self.distance = PerceptualDistance(load("weights/stilllife_features", "cpu"))
        self.classifier = StillLifeExtractor(output="logits", device="cpu")

    @torch.no_grad()
    def look(self, requests: Sequence[EditRequest], made: Made) -> dict[str, list[float]]:
        """The trade-off, a number a ratio: mean LPIPS to the input, and accuracy."""
        lpips, accuracy = [], []
        for request in requests:
            edits = enlarge(made.pictures[request.id].cpu())
            lpips.append(self.distance(enlarge(request.image()[None]).expand_as(edits).contiguous(), edits))
            logits = self.classifier.features(edits)
            seen = [request.ground_truth.judge(row, self.classifier.labels)[0] for row in logits]
            accuracy.append(torch.tensor(seen, dtype=torch.float32))
        return {"lpips": torch.stack(lpips).mean(0).tolist(), "accuracy": torch.stack(accuracy).mean(0).tolist()}


@torch.no_grad()
def compare(name: str, made: Made, first: Made, judge: Judge) -> dict[str, Any]:
    """How far the pictures and masks of one way are from those of the first."""
    pixels = [(made.pictures[k] - first.pictures[k]).abs().max().item() for k in first.pictures]
    pairs = [(enlarge(made.pictures[k].cpu()), enlarge(first.pictures[k].cpu())) for k in first.pictures]
    lpips = torch.stack([judge.distance(*pair) for pair in pairs])
    iou = [compute_iou(made.masks[k].cpu(), first.masks[k].cpu()).item() for k in first.masks]
    distances = {"pixels": max(pixels), "lpips": lpips.mean().item(), "iou": fmean(iou)}
    return {"way": name, **distances, "lpips_by_ratio": lpips.mean(0).tolist()}


def enlarge(pictures: Tensor) -> Tensor:
    """Pictures that the judges take: those of a tiny pipeline are too small for them."""
    side = pictures.shape[-1]
    return pictures if side >= SMALLEST else F.interpolate(pictures, scale_factor=-(-SMALLEST // side))


def shift(seen: Mapping[str, list[float]], first: Mapping[str, list[float]]) -> dict[str, Any]:
    """The trade-off, and its mean shift."""
    shifts = {f"{name}_shift": fmean(seen[name]) - fmean(first[name]) for name in seen}
    return shifts | {"curve": dict(seen)}


def rate(name: str, timings: Mapping[str, Timing]) -> dict[str, Any]:
    """Speed over that of the first way; nothing for what was not timed."""
    if name not in timings:
        return {"speed": None, "seconds": None}
    return {"speed": vars(Spread.of(divide(timings[FIRST], timings[name]))), "seconds": timings[name].describe()}


def make_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A line a way."""
    lines = [
        (
            row["way"],
            str(Spread(**row["speed"])) if row["speed"] else "",
            f"{row['pixels']:.1e}",
            f"{row['lpips']:.4f}",
            f"{row['iou']:.4f}",
            f"{row['lpips_shift']:+.4f}",
            f"{row['accuracy_shift']:+.3f}",
        )
        for row in rows
    ]
    return Table("Against float32", ("way", "speed", *MEASURES.values()), lines)


def draw(rows: Sequence[Mapping[str, Any]], ratios: Sequence[float], figure: Figure) -> None:
    """The trade-off of each way, and how far its edits are from those of float32."""
    curves, distances = figure.subplots(1, 2)
    for row in rows:
        dashed = "--" if row["way"] == RESEEDED else "-"
        curve = row["curve"]
        curves.plot(curve["lpips"], curve["accuracy"], dashed, marker="o", label=row["way"])
        distances.plot(ratios, row["lpips_by_ratio"], dashed, marker="o", label=row["way"])
    curves.set_xlabel("LPIPS to the input")
    curves.set_ylabel("accuracy")
    distances.set_xlabel("encoding ratio")
    distances.set_ylabel("LPIPS to the edit in float32")
    distances.set_ylim(0)
    distances.legend(frameon=False, fontsize=8)
