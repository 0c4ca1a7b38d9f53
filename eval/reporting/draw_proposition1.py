"""The figure of Proposition 1: measured distances under both bounds, over r and tau; the constants by noise level."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eval.reporting.looks import BLUE, GREEN, VERMILLION
from eval.reporting.proposition1 import WAYS, Measured
from eval.reporting.tables import WIDTH, FittedTable, fold, make_table
from eval.theory.bounds import Constants, bound_encoding, bound_noising

BOUNDS = {"encoding": bound_encoding, "noising": bound_noising}
COLOUR = dict(zip(WAYS, (BLUE, VERMILLION), strict=True))
NAMES = {"encoding": "encoded, decoded", "noising": "noise, decoded"}
STYLES = {"quotient": "--", "jacobian": ":", "paper": "-."}
ORIGINS = {"quotient": "K₁ by quotients", "jacobian": "K₁ by Jacobians", "paper": "paper's C, K₁, K₂"}
MARKS = {"quotient": ("*", 9), "jacobian": ("D", 6), "paper": ("X", 6)}
SHORT = {"quotient": "quot.", "jacobian": "jac."}
LEAST = 1e-5  # of that, below which nothing is shown
ABOVE = 8  # times the largest bound of SDEdit up to which a panel goes


def draw_proposition1(measured: Measured, result: Mapping[str, Any]) -> Figure:
    """A panel a guidance, and one of the constants.

    Args:
        measured: of the run.
        result: as `eval.reporting.proposition1.summarise` returns it.
    """
    panels = result["panels"]
    figure = Figure(figsize=(5.2 * (len(panels) + 1), 6.2), layout="constrained")
    *left, last = figure.subplots(1, len(panels) + 1)
    for axes, (guidance, panel) in zip(left, panels.items(), strict=True):
        draw_panel(axes, measured, panel)
        axes.set_title(f"guidance {guidance}", fontsize=10)
    draw_constants(last, measured, result["constants"])
    for axes in (*left, last):
        add_axes(axes, measured)
    figure.suptitle(f"Proposition 1: {measured.about}, n = {measured.n}, {len(measured.tau)} steps", fontsize=11)
    return figure


def draw_panel(axes: Axes, measured: Measured, panel: Mapping[str, Any]) -> None:
    """Means with their intervals; bounds as lines; their crossing as a star."""
    ratios, taus = np.arange(1, len(measured.tau) + 1) / len(measured.tau), measured.tau
    rows = panel["rows"]
    for way in WAYS:
        means = np.array([row[way]["value"] for row in rows])
        errors = [[abs(row[way]["value"] - row[way][end]) for row in rows] for end in ("low", "high")]
        style = {"color": COLOUR[way], "markersize": 4, "linewidth": 1.5, "elinewidth": 1, "zorder": 3}
        axes.errorbar(measured.ratios, means, errors, fmt="o-", label=f"{NAMES[way]} (mean, 95 %)", **style)
    drawn = set()
    for origin, judged in panel["bounds"].items():
        constants = Constants(**judged["constants"])
        for way in WAYS:
            line = bound_line(way, origin)
            if line in drawn:  # C is the same whatever K1 is
                continue
            drawn.add(line)
            style = "-" if line == "bound of noise" else STYLES[origin]
            axes.plot(ratios, BOUNDS[way](taus, constants), linestyle=style, color=COLOUR[way], linewidth=1, label=line)
        mark_crossing(axes, judged, origin)
    values = [row[way]["value"] for row in rows for way in WAYS]
    largest = max([value for judged in panel["bounds"].values() for value in judged["noising"]["values"]] or values)
    values += [mark[1] for judged in panel["bounds"].values() if (mark := find_mark(judged)) is not None]
    axes.set_ylim(max(min(values), LEAST * largest) / 3, ABOVE * largest)
    axes.set_ylabel("‖x₀ − D_r‖ / √dim")


def bound_line(way: str, origin: str) -> str:
    """What a line is called."""
    if way == "noising":
        return "bound of noise, paper's C" if origin == "paper" else "bound of noise"
    return f"bound of encoding, {ORIGINS[origin]}"


def find_mark(judged: Mapping[str, Any]) -> tuple[float, float] | None:
    """Where in a panel a pair of bounds crosses; None for nowhere in it."""
    crossing = judged["crossing"]
    if crossing is None or np.isnan(crossing["ratio"]):
        return None
    return crossing["ratio"], float(bound_noising(crossing["tau"], Constants(**judged["constants"])))


def mark_crossing(axes: Axes, judged: Mapping[str, Any], origin: str) -> None:
    """A mark where the bounds cross; said in the legend where that is beyond the schedule, or nowhere."""
    place, crossing = find_mark(judged), judged["crossing"]
    where = "nowhere" if crossing is None else f"at τ = {crossing['tau']:.3g}" + " (beyond)" * (place is None)
    mark, size = MARKS[origin]
    style = {"color": "black", "markersize": size, "linestyle": "", "zorder": 4}
    axes.plot(*(place or ([], [])), marker=mark, label=f"they cross {where} ({ORIGINS[origin]})", **style)


def draw_constants(axes: Axes, measured: Measured, constants: Mapping[str, Any]) -> None:
    """What C, K2 and K1 are at each noise level."""
    ratios = np.arange(1, len(measured.tau) + 1) / len(measured.tau)
    for k, (guidance, c) in enumerate(constants["C"].items()):
        style = {"color": VERMILLION, "linestyle": ("-", "--", ":")[k % 3]}
        axes.plot(ratios, c["per_level"], label=f"‖ε(x, Q)‖, guidance {guidance}: root mean square", **style)
    gaps = ("at the encoded", "-", measured.gap), ("with noise", "--", measured.gap_noised)
    for where, line, gap in gaps:
        axes.plot(ratios, gap.mean(0), line, color=GREEN, label=f"‖ε(x, Q) − ε(x, ∅)‖ {where}: mean")
    for (origin, k1), mark in zip(constants["K1"].items(), (".-", "D"), strict=False):
        places = np.array(list(k1["per_level"]), dtype=int) / len(measured.tau)
        style = {"color": BLUE, "markersize": 5}
        axes.plot(places, list(k1["per_level"].values()), mark, label=f"{ORIGINS[origin]}: largest of all", **style)
    axes.set_title("constants by noise level", fontsize=10)


def add_axes(axes: Axes, measured: Measured) -> None:
    """Ratios below, tau above; a legend under them."""
    axes.set_yscale("log")
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("encoding ratio r")
    top = axes.secondary_xaxis("top")
    marks = measured.levels[:: max(1, len(measured.levels) // 5)]
    top.set_xticks(marks / len(measured.tau), [f"{measured.tau[i - 1]:.2g}" for i in marks])
    top.set_xlabel("τ = √(1/ᾱ − 1)", fontsize=9)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    shown = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda pair: isinstance(pair[0], Line2D))
    axes.legend(*zip(*shown, strict=True), loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False, fontsize=7.5)


# --------------------------------------------------------------------------------------------------------------- table


def build_proposition_table(result: Mapping[str, Any], guidance: str, width: int = WIDTH) -> FittedTable:
    """One panel for a terminal: both distances over r, and what each bound is to them."""
    panel = result["panels"][guidance]
    heads = ["r", "τ", "encoded", "noise"]
    columns = [
        [f"{row['ratio']:g}" for row in panel["rows"]],
        [f"{row['tau']:.3g}" for row in panel["rows"]],
        *([format_interval(row[way]) for row in panel["rows"]] for way in WAYS),
    ]
    parts = [("encoding", origin, judged) for origin, judged in panel["bounds"].items()]
    parts += [("noising", "own C", judged) for origin, judged in panel["bounds"].items() if origin != "paper"][:1]
    for way, origin, judged in parts:
        pairs = zip(judged[way]["times_the_mean"], judged[way]["pictures_above"], strict=True)
        heads.append(f"{'enc.' if way == 'encoding' else 'noise'}/{SHORT.get(origin, origin)}")
        columns.append([f"{times:.2g}×" + f" ({above})" * (above > 0) for times, above in pairs])
    notes = ["behind a slash: how many times the mean that bound is, and in brackets the pictures above it"]
    notes += [describe_judged(origin, judged) for origin, judged in panel["bounds"].items()]
    title = f"{result['about']}, guidance {guidance}, n = {result['pictures']}"
    table = make_table(heads, zip(*columns, strict=True))
    return FittedTable(fold(title, width), table, [fold(note, width) for note in notes])


def format_interval(interval: Mapping[str, float]) -> str:
    """A mean and the larger half of its interval."""
    half = max(interval["high"] - interval["value"], interval["value"] - interval["low"])
    return f"{interval['value']:.3f}±{half:.3f}" if not np.isnan(half) else f"{interval['value']:.3f}"


def describe_judged(origin: str, judged: Mapping[str, Any]) -> str:
    """Constants, crossing and order of a pair of bounds, as a sentence."""
    constants, crossing, order = judged["constants"], judged["crossing"], judged["order"]
    where = "the bounds do not cross"
    if crossing is not None:
        beyond = "beyond the schedule" if np.isnan(crossing["ratio"]) else f"r = {crossing['ratio']:.2f}"
        where = f"the bounds cross at τ = {crossing['tau']:.3g} (ᾱ = {crossing['abar']:.3g}, {beyond})"
    return (
        f"{origin}: C = {constants['c']:.3g}, K1 = {constants['k1']:.3g}, K2 = {constants['k2']:.3g}; {where}; their "
        f"order is that of the means at {order['right']} of {order['ratios']} ratios, at {order['clear_and_right']} of "
        f"the {order['clear']} where the interval of the difference is clear of 0"
    )
