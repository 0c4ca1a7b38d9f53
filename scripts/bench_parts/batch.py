"""Rows a second of the bare networks over rows a call, by memory format and dtype.

The knee is the fewest rows whose rate is within 5 % of the best. More rows than that gain nothing and pad more.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from bench_parts.measure import Timing
from bench_parts.networks import KINDS, WORDS, find_best, find_knee, find_modules, scan_rows
from bench_parts.ours import Ours, add_model_arguments, find_weights
from bench_parts.report import Report, Table
from diffedit.backbones.latent import MEMORY_FORMATS

EXAMPLE = "python scripts/bench.py batch --dtypes float32 bfloat16 --formats contiguous channels_last"
TINY = {"weights": "tiny", "rows": [1, 4], "repeats": 2, "formats": ["contiguous", "channels_last"]}
FORMATS, DTYPES = ("contiguous", "channels_last"), ("float32", "bfloat16", "float16")


def add_arguments(parser: ArgumentParser) -> None:
    """Beside what all sub-commands have."""
    add_model_arguments(parser)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128], help="in a call")
    parser.add_argument("--kinds", nargs="+", default=["predict", "encode", "decode"], choices=KINDS)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS, help="of memory, of the UNet")
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=DTYPES, help="of all networks")
    parser.add_argument("--compile", metavar="MODE", help="of torch.compile, of the UNet; every shape is compiled")


def measure(args: Namespace, report: Report) -> None:
    """Each format and dtype by itself; within one, all kinds and rows by turns."""
    if args.compile:
        torch._dynamo.config.automatic_dynamic_shapes = False
        torch._dynamo.config.recompile_limit = 2 * len(args.rows)
    curves: list[dict[str, Any]] = []
    note = f"{args.repeats} interleaved repeats, medians; knee: the fewest rows within 5 % of the best"
    with find_weights(args.weights) as path:
        for dtype, form in product(args.dtypes, args.formats):
            how = [f"backbone.dtype={dtype}", f"backbone.vae_dtype={dtype}", f"backbone.memory_format={form}"]
            how += [f"backbone.compile={args.compile}"] * bool(args.compile)
            backbone = Ours.load(path, [*how, *args.set]).backbone
            modules = find_modules(backbone)
            kinds = [kind for kind in args.kinds if form == args.formats[0] or has_format(modules[kind], form)]
            found = scan_rows(backbone, kinds, sorted(args.rows), args.repeats, f"{dtype}, {form}")
            curves += [describe(dtype, form, kind, timings) for kind, timings in found.items()]
            results = {"curves": curves, "suggested": suggest(curves)}
            report.notes = [note, *(f"{name}: `{words}`" for name, words in results["suggested"].items())]
            report.save(results, [make_table(curves)], partial(draw, curves))


def has_format(module: nn.Module, form: str) -> bool:
    """Whether the setting reached this network: its convolutions lie so in memory."""
    weights = [weight for weight in module.parameters() if weight.ndim == 4 and weight.shape[-1] > 1]
    return any(weight.is_contiguous(memory_format=MEMORY_FORMATS[form]) for weight in weights)


def describe(dtype: str, form: str, kind: str, timings: Mapping[int, Timing]) -> dict[str, Any]:
    """One curve: rates, the best and the knee."""
    rates = {n: n / timing.spread.median for n, timing in timings.items()}
    seconds = {n: timing.describe() for n, timing in timings.items()}
    marks = {"best": find_best(timings), "knee": find_knee(timings)}
    return {"dtype": dtype, "format": form, "kind": kind, **marks, "rows_a_second": rates, "seconds": seconds}


def suggest(curves: list[dict[str, Any]]) -> dict[str, str]:
    """For each dtype, since results differ between them: the settings of its fastest curves."""
    suggested = {}
    for dtype in dict.fromkeys(curve["dtype"] for curve in curves):
        words = []
        for kind in dict.fromkeys(curve["kind"] for curve in curves):
            mine = [curve for curve in curves if (curve["dtype"], curve["kind"]) == (dtype, kind)]
            best = max(mine, key=lambda curve: max(curve["rows_a_second"].values()))
            words.append(f"engine.batch.{kind}={best['knee']}")
            if kind == "predict":
                words.append(f"backbone.memory_format={best['format']}")
        suggested[dtype] = " ".join(words)
    return suggested


def make_table(curves: list[dict[str, Any]]) -> Table:
    """Rows a second."""
    rows = list(curves[0]["rows_a_second"])
    cells = [
        (
            f"{WORDS[curve['kind']]}, {curve['dtype']}, {curve['format']}",
            *(f"{curve['rows_a_second'][n]:.0f}" for n in rows),
            str(curve["knee"]),
        )
        for curve in curves
    ]
    return Table("Rows a second, by rows a call", ("network", *map(str, rows), "knee"), cells)


def draw(curves: list[dict[str, Any]], figure: Figure) -> None:
    """A panel a kind; the knee is the filled point."""
    kinds = list(dict.fromkeys(curve["kind"] for curve in curves))
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for curve in (curve for curve in curves if curve["kind"] == kind):
            rates = curve["rows_a_second"]
            (line,) = axes.plot(
                list(rates), list(rates.values()), marker="o", mfc="white", label=f"{curve['dtype']}\n{curve['format']}"
            )
            axes.plot(curve["knee"], rates[curve["knee"]], marker="o", color=line.get_color())
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_ylim(0)
        axes.set_title(WORDS[kind], fontsize=10)
        axes.tick_params(labelsize=8)
        axes.legend(frameon=False, fontsize=7)
    figure.supxlabel("rows a call (filled: the knee)", fontsize=9)
    figure.supylabel("rows a second", fontsize=9)
