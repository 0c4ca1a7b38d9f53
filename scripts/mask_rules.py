"""Which rule finds the mask of a contrast map best: IoU by area, of the settings and of rules that were tried and left.

By default on maps of Still Life's validation split; `--synthetic` on synthetic maps of objects of known area, on grids
of 16 x 16 and 64 x 64. Maps cost 20 evaluations a picture and are kept in OUT, so that another call costs none. Printed
are tables in Markdown, `±` half a 95 % interval over the pictures; OUT/<split>.csv or OUT/synthetic.csv has all of it.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from skimage.filters import threshold_otsu, threshold_triangle
from torch import Tensor

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.engine.queries import run_alone
from diffedit.io.files import resolve_path, write
from diffedit.mask import (
    ContrastMask,
    KeepOutliers,
    MeanClamp,
    Otsu,
    Quantile,
    TwoClasses,
    compute_agreement,
    to_latent_grid,
)
from diffedit.sampling.noise import RequestNoise
from diffedit.types import Backbone, EditRequest
from eval.benchmarks.synthetic_maps import AREAS, draw_differences
from eval.metrics import ground_truth
from eval.scoring.bootstrap import Bootstrap, estimate_mean
from eval.stilllife.benchmarks import StillLifeClasses, StillLifeScenes
from eval.stilllife.sizes import StillLifeSizes

NOISES, STEPS = 10, 20
SIZES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)  # edges of the ranges of stilllife_sizes
DRAWS = 6
DIFFERENCE = "default minus the default before"
AGREEMENT = "agreement of the noises under the default's mask"
EXAMPLE = "example: python scripts/mask_rules.py --count 96 --out mask_rules"
Maps = Float[ndarray, "n h w"]  # one a noise
Rule = Callable[[Maps], Bool[ndarray, "h w"]]


# --------------------------------------------------------------------------------------------------------------- rules


def by_settings(finder: ContrastMask) -> Rule:
    """The rule of these settings."""
    return lambda maps: finder.binarise(torch.from_numpy(maps.mean(0)))[0, 0].numpy()


def above(find: Callable[[Float[ndarray, "h w"]], float]) -> Rule:
    """A rule that gives a value of the mean map."""

    def rule(maps: Maps) -> Bool[ndarray, "h w"]:
        mean = maps.mean(0)
        return mean > find(mean)

    return rule


def clamp_noises(q: float, finder: ContrastMask) -> Rule:
    """Each noise's map clamped at a quantile of its own before the mean."""
    return lambda maps: by_settings(finder)(np.minimum(maps, np.quantile(maps, q, axis=(1, 2), keepdims=True)))


def find_mixture(mean: Float[ndarray, "h w"]) -> float:
    """The least value that two normal populations of the logarithm, by EM, give to the higher one."""
    logs = np.log(mean).ravel().astype(np.float64)
    cut = np.quantile(logs, 0.8)
    members = np.stack([logs <= cut, logs > cut]).astype(np.float64)
    for _ in range(100):
        counts = members.sum(1) + 1e-9
        means = members @ logs / counts
        spreads = np.sqrt((members * (logs - means[:, None]) ** 2).sum(1) / counts) + 1e-3
        scores = np.log(counts / spreads)[:, None] - 0.5 * ((logs - means[:, None]) / spreads[:, None]) ** 2
        members = np.exp(scores - scores.max(0))
        members /= members.sum(0)
    higher = means.argmax()
    chosen = logs[(members[higher] > 0.5) & (logs > means[1 - higher])]
    return float(np.exp(chosen.min())) - 1e-9 if chosen.size else float(mean.max())


def find_knee(mean: Float[ndarray, "h w"]) -> float:
    """Where the sorted values lie farthest below the line from their first to their last."""
    values = np.sort(mean, axis=None)
    line = np.linspace(values[0], values[-1], len(values))
    return float(values[(line - values).argmax()])


def find_deviation(mean: Float[ndarray, "h w"]) -> float:
    """Four normal-consistent median deviations above the median."""
    median = np.median(mean)
    return float(median + 4 * 1.4826 * np.median(np.abs(mean - median)))


RULES: dict[str, Rule] = {
    "two_classes (default)": by_settings(ContrastMask()),
    "quantile 0.95 (default before)": by_settings(ContrastMask(outliers=Quantile())),
    "mean_clamp 3": by_settings(ContrastMask(outliers=MeanClamp())),
    "none, threshold=otsu": by_settings(ContrastMask(outliers=KeepOutliers(), threshold=Otsu())),
    "Otsu of the logarithm": above(lambda mean: float(np.exp(threshold_otsu(np.log(mean))))),
    "two_classes without clamp": by_settings(ContrastMask(outliers=TwoClasses(clamp=1.0))),
    "mixture of two, of the logarithm": above(find_mixture),
    "knee of the sorted values": above(find_knee),
    "triangle": above(lambda mean: float(threshold_triangle(mean))),
    "median + 4 MAD": above(find_deviation),
    "each noise clamped at 0.95, otsu": clamp_noises(0.95, ContrastMask(outliers=KeepOutliers(), threshold=Otsu())),
    "each noise clamped at 0.95, quantile": clamp_noises(0.95, ContrastMask(outliers=Quantile())),
    "each noise clamped at 0.95, two_classes": clamp_noises(0.95, ContrastMask()),
}


# ---------------------------------------------------------------------------------------------------------------- maps


def find_differences(backbone: Backbone, request: EditRequest) -> Float[Tensor, "n c h w"]:
    """The differences of the noise estimates that `ContrastMask` makes its map of."""
    target, reference = backbone.embed([request.target, request.source or ""])
    x0 = backbone.encode(request.image()[None])
    texts, noise = (target, reference), RequestNoise(0, request.id)
    program = ContrastMask(NOISES).find_differences(x0, *texts, backbone.schedule(STEPS), noise)
    return run_alone(program, backbone)


def read_benchmark(name: str, split: str, count: int, out: Path) -> tuple[Float[ndarray, "b n c h w"], ndarray]:
    """(differences of every noise, exact masks) of a benchmark's requests; made where OUT has none."""
    path = out / f"{name}-{split}-{count}.npz"
    if not path.exists():
        benchmarks = {
            "scenes": StillLifeScenes(size=count, split=split),
            "classes": StillLifeClasses(per_class=max(1, count // 12), split=split),
            "sizes": StillLifeSizes(size=count, split=split),
        }
        backbone = StableDiffusion.from_pretrained(str(resolve_path("weights/stilllife")))
        requests = list(benchmarks[name].requests(backbone.resolution))
        with torch.no_grad():
            differences = np.stack([find_differences(backbone, request).numpy() for request in requests])
        exact = np.stack([request.true_mask()[0].numpy() > 0.5 for request in requests])
        out.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, differences=differences, exact=exact)
    data = np.load(path)
    return data["differences"], data["exact"]


def draw_synthetic(side: int, area: float, contrast: float, seed: int) -> tuple[Maps, Bool[ndarray, "h w"]]:
    """Maps, one a noise, of an object of this area."""
    differences, inside = draw_differences(side, area, contrast, seed, NOISES)
    return differences.abs().mean(1).numpy(), inside.numpy()


# -------------------------------------------------------------------------------------------------------------- tables


def compute_iou(mask: Bool[ndarray, "h w"], exact: Bool[ndarray, "H W"]) -> float:
    """Intersection over union, the mask brought to the size of the exact one."""
    block = exact.shape[0] // mask.shape[0]
    mask = mask.repeat(block, 0).repeat(block, 1)
    return ground_truth.compute_iou(*(torch.from_numpy(one)[None, None] for one in (mask, exact))).item()


def reduce_exact(exact: Bool[ndarray, "H W"], side: int) -> Bool[ndarray, "h w"]:
    """An exact mask on the latent grid: the best that a rule could do, as `mask_ceiling` has it."""
    return to_latent_grid(torch.from_numpy(exact)[None], (side, side))[0, 0].numpy()


def find_best(maps: Maps, exact: Bool[ndarray, "H W"]) -> float:
    """The largest IoU that a value of the mean map gives: what a rule could do that knew the answer."""
    mean = maps.mean(0)
    return max(compute_iou(mean >= value, exact) for value in np.unique(mean))


def measure_benchmark(name: str, split: str, count: int, out: Path) -> pd.DataFrame:
    """A row for each rule over all pictures (range `all`) and in each range of `sizes` or quarter of area."""
    differences, exact = read_benchmark(name, split, count, out)
    maps, areas = np.abs(differences).mean(2), exact.mean((1, 2))
    edges = np.array(SIZES) if name == "sizes" else np.quantile(areas, [0, 0.25, 0.5, 0.75, 1])
    part = np.clip(np.searchsorted(edges, areas, "right") - 1, 0, len(edges) - 2)
    spans = [f"{low:.0%} to {high:.0%}" for low, high in pairwise(edges)]
    side = maps.shape[-1]
    ious = {"what the grid allows": [compute_iou(reduce_exact(one, side), one) for one in exact]}
    ious["the best value for each picture"] = [find_best(*pair) for pair in zip(maps, exact, strict=True)]
    ious |= {label: list(measure(rule, maps, exact)) for label, rule in RULES.items()}
    first, second, *_ = RULES
    ious[DIFFERENCE] = list(np.subtract(ious[first], ious[second]))
    bootstrap, rows = Bootstrap(len(maps)), []
    for label, values in ious.items():
        value, low, high = bootstrap.interval(estimate_mean(np.array(values)))
        rows.append((label, "all", value, low, high, len(maps)))
        rows += [(label, span, *average(np.array(values)[part == k])) for k, span in enumerate(spans)]
    agreement = [measure_agreement(one) for one in differences]
    for span, value in zip(("least", "5 %", "median"), np.quantile(agreement, [0, 0.05, 0.5]), strict=True):
        rows.append((AGREEMENT, span, value, np.nan, np.nan, len(maps)))
    return pd.DataFrame(rows, columns=["rule", "range", "value", "low", "high", "n"]).assign(benchmark=name)


def average(values: Float[ndarray, " n"]) -> tuple[float, float, float, int]:
    """(mean, no interval, count)."""
    return float(values.mean()), np.nan, np.nan, len(values)


def print_benchmark(table: pd.DataFrame, split: str) -> None:
    """The table of one benchmark: over all, and by ranges of area."""
    ranges = table[table.rule == DIFFERENCE].set_index("range").n
    spans = list(ranges.index[1:])
    print(
        f"\n`stilllife_{table.benchmark[0]}`, {split} split, n = {ranges['all']} ({', '.join(map(str, ranges[1:]))})\n"
    )
    print(f"| rule | all | {' | '.join(spans)} |\n|{' --- |' * (len(spans) + 2)}")
    for label, rows in table.groupby("rule", sort=False):
        rows = rows.set_index("range")
        if label == AGREEMENT:
            found = ", ".join(f"{span} {row.value:.2f}" for span, row in rows.iterrows())
            print(f"{AGREEMENT}: {found}")
            continue
        value, low, high = rows.loc["all", ["value", "low", "high"]]
        if label == DIFFERENCE:
            print(f"\n{DIFFERENCE}: {value:+.3f} [{low:+.3f}, {high:+.3f}]")
            continue
        means = " | ".join(f"{rows.value[span]:.3f}" for span in spans)
        print(f"| {label} | {value:.3f} ± {(high - low) / 2:.3f} | {means} |")


def measure_agreement(differences: Float[ndarray, "n c h w"]) -> float:
    """What `editor.mask.floor` is compared with."""
    signed = torch.from_numpy(differences)
    mask = ContrastMask().binarise(signed.abs().mean(1).mean(0))
    return compute_agreement(signed, mask[0, 0])


def measure(rule: Rule, maps: Float[ndarray, "b n h w"], exact: Bool[ndarray, "b H W"]) -> Iterator[float]:
    """The IoU of a rule on each picture."""
    yield from (compute_iou(rule(one), mask) for one, mask in zip(maps, exact, strict=True))


def measure_synthetic(side: int, contrast: float) -> pd.DataFrame:
    """A row for each rule and area, on maps of one grid and contrast."""
    draws = {area: [draw_synthetic(side, area, contrast, seed) for seed in range(DRAWS)] for area in AREAS}
    rows = [
        (side, contrast, label, area, float(np.mean([compute_iou(rule(maps), inside) for maps, inside in draws[area]])))
        for label, rule in RULES.items()
        for area in AREAS
    ]
    return pd.DataFrame(rows, columns=["side", "contrast", "rule", "area", "value"])


def print_synthetic(table: pd.DataFrame) -> None:
    """The table of one grid and contrast."""
    side, contrast = table.side[0], table.contrast[0]
    print(f"\n{side} × {side}, {contrast:g} times the background, {DRAWS} maps each\n")
    print(f"| rule | {' | '.join(f'{area:.0%}' for area in AREAS)} |\n|{' --- |' * (len(AREAS) + 1)}")
    for label, rows in table.groupby("rule", sort=False):
        print(f"| {label} | {' | '.join(f'{value:.2f}' for value in rows.value)} |")


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--benchmarks", nargs="*", default=["scenes", "classes", "sizes"], metavar="NAME")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--count", type=int, default=96, help="pictures of each benchmark")
    parser.add_argument("--synthetic", action="store_true", help="synthetic maps instead")
    parser.add_argument("--out", type=Path, default=Path("mask_rules"), help="folder of the maps")
    options = parser.parse_args()
    if options.synthetic:
        tables = [measure_synthetic(side, contrast) for side in (64, 16) for contrast in (4, 2)]
        for table in tables:
            print_synthetic(table)
    else:
        tables = [measure_benchmark(name, options.split, options.count, options.out) for name in options.benchmarks]
        for table in tables:
            print_benchmark(table, options.split)
    path = options.out / f"{'synthetic' if options.synthetic else options.split}.csv"
    write(path, pd.concat(tables).to_csv(index=False).encode())
    print(f"\n{path}")


if __name__ == "__main__":
    main()
