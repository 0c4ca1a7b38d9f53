"""Ours against diffusers' pipelines on the same weights: seconds and evaluations at 1, 4 and 10 ratios.

DiffEdit against StableDiffusionDiffEditPipeline as it is documented (image by image, guided inversion), batched,
batched with the paper's unguided inversion, and with one inversion shared over the ratios by hand; SDEdit against
img2img; blended latents against inpaint. Both sides have networks of their own, and are first checked to compute the
same edits. A batch of theirs is the best of --batches, by a trial at one ratio.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from bench_parts.agreement import make_inpaint_editor, measure_agreement
from bench_parts.measure import Spread, Timing, divide, interleave, measure_seconds
from bench_parts.networks import RowCount
from bench_parts.ours import (
    RATIOS,
    Ours,
    add_model_arguments,
    count_evaluations,
    find_weights,
    load_scenes,
    parse_counts,
)
from bench_parts.report import Report, Table
from bench_parts.theirs import Theirs
from diffedit.api.choose import make_editor
from diffedit.types import Editor, EditRequest

EXAMPLE = "python scripts/bench.py peers --pictures 32 --ratios 10 --set engine.batch.predict=64"
TINY = {
    "weights": "tiny",
    "pictures": 2,
    "steps": 10,
    "repeats": 1,
    "ratios": [1, 4],
    "batches": [2],
    "checked": 1,
}
METHODS = ("diffedit", "sdedit", "blended_latent")
NOISES = 10  # of a mask, both sides' default
OURS = "ours"


def add_arguments(parser: ArgumentParser) -> None:
    """Beside what all sub-commands have."""
    add_model_arguments(parser)
    parser.add_argument("--pictures", type=int, default=8, help="scenes of Still Life (default %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="N (default %(default)s)")
    parser.add_argument("--ratios", type=int, nargs="+", default=[1, 4, 10], choices=list(RATIOS), help="how many")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="ours by name")
    parser.add_argument("--sides", nargs="+", metavar="NAME", help="of theirs: documented batched unguided shared one")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16, 32], help="pictures in a call of theirs")
    parser.add_argument("--their-format", default="contiguous", choices=["contiguous", "channels_last"])
    parser.add_argument("--no-pad", action="store_true", help="our calls only as full as they are")
    parser.add_argument("--checked", type=int, default=2, help="pictures on which both sides are compared")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="largest difference of two pictures in [0, 1]")


@dataclass(frozen=True)
class Side:
    """One way to make the edits.

    Attributes:
        edit: makes all edits of some requests at some ratios; returns the evaluations that it knows of, or None.
        count: evaluations a picture in closed form, of the start levels of the edits.
        is_batched: whether it takes the best of --batches.
    """

    edit: Callable[[Sequence[EditRequest], Sequence[float]], int | None]
    count: Callable[[Sequence[int]], int]
    is_batched: bool = False


def count_ours(levels: Sequence[int]) -> int:
    """DiffEdit here: a mask of two texts, one inversion, guided decodings."""
    return 2 * NOISES + max(levels) + 2 * sum(levels)


def count_documented(levels: Sequence[int]) -> int:
    """Theirs: a guided mask, a guided inversion and a guided decoding a ratio."""
    return 4 * NOISES + 2 * sum(levels) + 2 * sum(levels)


def count_unguided(levels: Sequence[int]) -> int:
    """An inversion a ratio without guidance."""
    return 4 * NOISES + sum(levels) + 2 * sum(levels)


def count_shared(levels: Sequence[int]) -> int:
    """One inversion for all ratios."""
    return 4 * NOISES + max(levels) + 2 * sum(levels)


def count_decoding(levels: Sequence[int]) -> int:
    """Guided decodings alone: SDEdit and blended latents, on both sides."""
    return 2 * sum(levels)


def make_sides(method: str, ours: Ours, theirs: Theirs, batch: int) -> dict[str, Side]:
    """Ours first, then theirs."""

    def edit_ours(editor: Editor, requests: Sequence[EditRequest], ratios: Sequence[float]) -> int:
        return count_evaluations(ours.edit(editor, requests, ratios, theirs.steps))

    def edit_theirs(edit: Callable[..., Any], requests: Sequence[EditRequest], ratios: Sequence[float]) -> None:
        edit(requests, ratios)

    def batched(is_guided: bool, is_shared: bool) -> Callable[..., None]:
        how = {"batch": batch, "is_guided": is_guided, "is_shared": is_shared}
        return partial(edit_theirs, partial(theirs.edit_batched, **how))

    if method == "diffedit":
        return {
            OURS: Side(partial(edit_ours, make_editor("diffedit")), count_ours),
            "documented": Side(partial(edit_theirs, theirs.edit_as_documented), count_documented),
            "batched": Side(batched(True, False), count_documented, True),
            "unguided": Side(batched(False, False), count_unguided, True),
            "shared": Side(batched(False, True), count_shared, True),
        }
    editor = make_editor("sdedit") if method == "sdedit" else make_inpaint_editor()
    pipeline = theirs.edit_by_img2img if method == "sdedit" else theirs.edit_by_inpaint
    return {
        OURS: Side(partial(edit_ours, editor), count_decoding),
        "one": Side(partial(edit_theirs, partial(pipeline, batch=1)), count_decoding),
        "batched": Side(partial(edit_theirs, partial(pipeline, batch=batch)), count_decoding, True),
    }


def choose_batch(theirs: Theirs, requests: Sequence[EditRequest], candidates: Sequence[int]) -> tuple[int, dict]:
    """The pictures a call that make theirs fastest: a batched call at one ratio each, the second of two counts."""
    sizes = sorted({min(size, len(requests)) for size in candidates})
    rates: dict[int, float] = {}
    for size in tqdm(sizes, desc="their best batch"):
        call = partial(theirs.edit_batched, requests[:size], RATIOS[1], size, True, False)
        call()
        rates[size] = size / measure_seconds(call)
    return max(rates, key=rates.__getitem__), rates


def measure(args: Namespace, report: Report) -> None:
    """All methods at all numbers of ratios."""
    ratios = parse_counts(args)
    with find_weights(args.weights) as path:
        ours = Ours.load(path, args.set, not args.no_pad)
        backbone = ours.backbone
        theirs = Theirs(path, backbone.device, backbone.dtype, args.their_format, args.steps)
    requests = load_scenes(args.pictures, backbone.resolution)
    results: dict[str, Any] = {
        "agreement": measure_agreement(ours, theirs, args.methods, requests[: args.checked], args)
    }
    batch, rates = choose_batch(theirs, requests, args.batches)
    results |= {
        "their_batch": batch,
        "their_batch_trial": rates,
        "our_batch": vars(ours.choose_sizes(len(requests))),
        "sides": [],
    }
    report.notes = list_notes(args, results)
    for method in args.methods:
        sides = make_sides(method, ours, theirs, batch)
        sides = {name: side for name, side in sides.items() if name == OURS or not args.sides or name in args.sides}
        for count, values in ratios.items():
            title = f"{method}, {count} ratio{'s' * (count > 1)}"
            results["sides"] += measure_sides(title, sides, ours, theirs, requests, values, args)
            report.save(results, make_tables(results["sides"]), partial(draw, results["sides"]))


def measure_sides(
    title: str,
    sides: Mapping[str, Side],
    ours: Ours,
    theirs: Theirs,
    requests: Sequence[EditRequest],
    ratios: Sequence[float],
    args: Namespace,
) -> list[dict[str, Any]]:
    """One row a side: seconds, rows of the UNet by a hook, evaluations in closed form, and its ratio to ours."""
    rows = RowCount({"ours": ours.backbone.denoiser, "theirs": theirs.unet})
    counted: dict[str, int] = {}

    def call(name: str) -> None:
        rows.take()
        known = sides[name].edit(requests, ratios)
        counted[name] = sum(rows.take().values())
        if known is not None:
            counted[f"{name} asked"] = known

    few = {name: partial(side.edit, requests[:1], ratios[:1]) for name, side in sides.items()}
    timings = interleave({name: partial(call, name) for name in sides}, args.repeats, title, few)
    rows.close()
    levels = ours.backbone.schedule(args.steps).start_levels(list(ratios))
    described = []
    for name, side in sides.items():
        asked = counted.get(f"{name} asked", counted[name])
        row = {"method": title.partition(",")[0], "ratios": len(ratios), "side": name, "pictures": len(requests)}
        row |= {"evaluations": asked, "rows": counted[name], "closed_form": side.count(levels) * len(requests)}
        row |= {"seconds": timings[name].describe(), "evaluations_a_second": asked / timings[name].spread.median}
        described.append(row | compare_to_ours(timings, name))
    return described


def compare_to_ours(timings: Mapping[str, Timing], name: str) -> dict[str, Any]:
    """How many times as long as ours a side takes, repeat by repeat."""
    times = divide(timings[name], timings[OURS])
    return {"times_ours": {"raw": times, **vars(Spread.of(times))}}


def list_notes(args: Namespace, results: Mapping[str, Any]) -> list[str]:
    """What has to be known beside the table."""
    found = "; ".join(
        f"{method} {', '.join(f'{name} {value:.1e}' for name, value in differences.items())}"
        for method, differences in results["agreement"].items()
    )
    return [
        f"{args.pictures} pictures, {args.steps} steps, {args.repeats} repeats, {torch.get_num_threads()} threads",
        f"largest differences between both sides told the same: {found}",
        f"pictures in a call of theirs: {results['their_batch']}; rows in a call of ours: "
        f"{results['our_batch']['predict']}" + ", as full as they are" * args.no_pad,
        "their seconds over ours: paired by repeat, median [range]; more than 1: ours is faster",
        "rows: of the UNet, by a hook; ours hold padding and one repeated call",
    ]


def make_tables(sides: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table a method."""
    header = ("side", "ratios", "seconds", "evaluations", "rows", "a second", "their seconds / ours")
    tables = []
    for method in dict.fromkeys(side["method"] for side in sides):
        rows = [
            (
                side["side"],
                str(side["ratios"]),
                f"{side['seconds']['median']:.2f}",
                str(side["evaluations"]),
                str(side["rows"]),
                f"{side['evaluations_a_second']:.0f}",
                ""
                if side["side"] == OURS
                else str(Spread(*(side["times_ours"][k] for k in ("median", "low", "high")))),
            )
            for side in sides
            if side["method"] == method
        ]
        tables.append(Table(method, header, rows))
    return tables


def draw(sides: Sequence[Mapping[str, Any]], figure: Figure) -> None:
    """Their seconds over ours: a panel a method, a bar a side and number of ratios."""
    methods = list(dict.fromkeys(side["method"] for side in sides))
    for axes, method in zip(figure.subplots(1, len(methods), squeeze=False)[0], methods, strict=True):
        shown = [side for side in sides if side["method"] == method and side["side"] != OURS]
        names = [f"{side['side']}, {side['ratios']}" for side in shown]
        middle = [side["times_ours"]["median"] for side in shown]
        reach = [
            [side["times_ours"]["median"] - side["times_ours"]["low"] for side in shown],
            [side["times_ours"]["high"] - side["times_ours"]["median"] for side in shown],
        ]
        axes.barh(names, middle, xerr=reach, color="#4878a8", error_kw={"lw": 1})
        axes.axvline(1, color="0.2", lw=1)
        axes.invert_yaxis()
        axes.set_title(method, fontsize=10)
        axes.tick_params(labelsize=8)
    figure.supxlabel("their seconds / ours (side, number of ratios)", fontsize=9)
