"""How far two sets of networks agree about the same edits: on the order of methods, and picture by picture.

A score by one network says as much of that network as of the edits, until one that was trained apart says so too.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import kendalltau, rankdata, spearmanr
from torchmetrics.functional.classification import binary_cohen_kappa

from diffedit.types import UNEDITED, Variant
from eval.reporting.tables import MISSING, WIDTH, FittedTable, fold, make_table
from eval.scoring.bootstrap import Estimate
from eval.scoring.finished_run import FinishedRun
from eval.scoring.metric import Metric
from eval.scoring.per_image import measure, measure_features
from eval.scoring.score import Settings, prepare

log = logging.getLogger(__name__)

LEVEL = 0.95  # of the intervals
FEWEST = 3  # points or pictures, below which a rank correlation is none
NAN = float("nan")

Pair = tuple[Mapping[str, Metric], Mapping[str, Metric]]  # the same metrics by the networks of either
Floats = Sequence[float] | Float[ndarray, " points"]


class Figure(NamedTuple):
    """A number with the 95 % interval that resampling the pictures gives; NaN where it is not defined."""

    value: float = NAN
    low: float = NAN
    high: float = NAN

    def with_interval(
        self,
        statistic: Callable[[ndarray, ndarray], float],
        first: Float[ndarray, "n points"],
        second: Float[ndarray, "n points"],
        settings: Settings,
    ) -> "Figure":
        """The same number with the interval of a statistic of two judges; without where it is often not defined.

        Args:
            statistic: of the values of both.
            first: of a judge, for each picture at each point.
            second: of the other.
            settings: how often, and by which seed, pictures are drawn, each with all values that it has of both.
        """
        draws = np.random.default_rng(settings.seed).integers(len(first), size=(settings.resamples, len(first)))
        resampled = np.array([statistic(first[rows], second[rows]) for rows in draws])
        known = resampled[np.isfinite(resampled)]
        if len(known) < LEVEL * len(draws):
            return self
        low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        return Figure(self.value, float(low), float(high))


@dataclass(frozen=True)
class Agreement:
    """What two judges say of one score.

    Attributes:
        score: its name.
        points: methods times strengths, bounds left out.
        spearman: rank correlation of the points' scores.
        kendall: likewise.
        pictures: of each point.
        kind: `kappa`, Cohen's of the verdicts on every picture at every point, where values are verdicts; else `rho`,
            the rank correlation over the pictures of a point, mean over the points.
        by_picture: that.
    """

    score: str
    points: int
    spearman: Figure
    kendall: Figure
    pictures: int
    kind: str
    by_picture: Figure


def compare_judges(roots: Sequence[Path], pair: Pair, settings: Settings) -> list[Agreement]:
    """Measure runs by either networks, and compare what they say; nothing is written beside the runs.

    Args:
        roots: finished runs of the same requests; those of bounds are left out.
        pair: metrics by name, by the networks of the one and of the other; what both measure alike is left out.
        settings: of scoring; the features of pictures are kept in its cache.

    Returns:
        one for each score that both define.

    Raises:
        ValueError: no metric is measured differently, no run is of a method, or they are of different requests.
    """
    first, second = pair
    names = [name for name in first if first[name].fingerprint() != second[name].fingerprint()]
    if not names:
        raise ValueError(f"{', '.join(first)}: measured alike by both networks, so there is no agreement to speak of")
    runs = [run for root in roots if not (run := FinishedRun(root, settings.resolution)).config["is_bound"]]
    if not runs:
        raise ValueError("agreement is over methods and strengths: there are bounds alone, such as copy, or no run")
    refuse_different(runs)
    judged = []
    for metrics in pair:
        points = [measure_points(run, {name: metrics[name] for name in names}, settings) for run in runs]
        judged.append([point for of_run in points for point in of_run])
    scores = dict.fromkeys(score for name in names for score in first[name].higher_is_better)
    pairs = ((score, *(pick(points, score) for points in judged)) for score in scores)
    return [compare_score(score, *both, settings) for score, *both in pairs if all(both)]


def refuse_different(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs of different requests: a ValueError that names two of them."""
    for run in runs[1:]:
        if [request.id for request in run.requests] != [request.id for request in runs[0].requests]:
            raise ValueError(
                f"{runs[0].root} and {run.root} are of different requests: agreement is over runs of the same ones; "
                "choose among them by runs="
            )


class Judgement(NamedTuple):
    """What one judge says of a method at a strength, by one score.

    Attributes:
        score: its value, and each picture's pseudo-value.
        values: what was measured on each picture; None where it is no number.
    """

    score: Estimate
    values: Float[ndarray, " n"] | None


UNDEFINED = Judgement(Estimate(NAN), None)
Point = dict[str, Judgement]  # by the name of the score


def measure_points(run: FinishedRun, metrics: Mapping[str, Metric], settings: Settings) -> list[Point]:
    """Every strength of a run."""
    run.check()
    context, batches, reasons = prepare(run, metrics, settings)
    of_pictures = {name: metric for name, metric in metrics.items() if metric.input_kind == "pictures"}
    more_reasons, values = measure(run, of_pictures, settings.batch)
    points: dict[Variant, Point] = {variant: {} for variant in run.variants}
    for name, metric in metrics.items():
        if reasons.get(name) or more_reasons.get(name):
            continue
        measured = values[name].items() if name in of_pictures else measure_features(run, metric, batches)
        for variant, columns in measured:
            if variant == UNEDITED:
                continue
            for score, estimate in metric.aggregate(columns, context).items():
                own = columns.get(score)
                points[variant][score] = Judgement(estimate, own if np.ndim(own) == 1 else None)
    return list(points.values())


def pick(points: Iterable[Point], score: str) -> list[Judgement]:
    """Those of one score at every point; none where it is not defined at all of them."""
    picked = [point.get(score, UNDEFINED) for point in points]
    return picked if all(np.isfinite(judgement.score.value) for judgement in picked) else []


# ---------------------------------------------------------------------------------------------------------- statistics


def compare_score(score: str, first: Sequence[Judgement], second: Sequence[Judgement], settings: Settings) -> Agreement:
    """What two judges say of one score at the same points."""
    pair = first, second
    spearman, kendall = (
        Figure(correlate(*([judgement.score.value for judgement in judged] for judged in pair), statistic))
        for statistic in (spearmanr, kendalltau)
    )
    pseudo_values = [stack([judgement.score.pseudo_values for judgement in judged]) for judged in pair]
    if known := all(len(columns) for columns in pseudo_values):
        spearman = spearman.with_interval(correlate_means, *pseudo_values, settings)
        kendall = kendall.with_interval(partial(correlate_means, statistic=kendalltau), *pseudo_values, settings)
    pictures = len(pseudo_values[0]) if known else 0
    one, other = (stack([judgement.values for judgement in judged]) for judged in pair)
    if not len(one) or not len(other):
        return Agreement(score, len(first), spearman, kendall, pictures, "", Figure())
    is_verdict = set(np.unique(one)) | set(np.unique(other)) <= {0.0, 1.0}
    statistic = compute_kappa if is_verdict else correlate_pictures
    by_picture = Figure(statistic(one, other)).with_interval(statistic, one, other, settings)
    kind = "kappa" if is_verdict else "rho"
    return Agreement(score, len(first), spearman, kendall, len(one), kind, by_picture)


def stack(columns: Sequence[Float[ndarray, " n"] | None]) -> Float[ndarray, "n points"]:
    """A column a point; empty where one is not known."""
    return (
        np.zeros((0, len(columns))) if any(column is None for column in columns) else np.stack(columns, 1).astype(float)
    )


def correlate(first: Floats, second: Floats, statistic: Callable = spearmanr) -> float:
    """A rank correlation; NaN for few values, or where either are all the same."""
    if len(first) < FEWEST or np.ptp(first) == 0 or np.ptp(second) == 0:
        return NAN
    return float(statistic(first, second).statistic)


def correlate_means(first: ndarray, second: ndarray, statistic: Callable = spearmanr) -> float:
    """A rank correlation of the points' means over pictures."""
    return correlate(first.mean(0), second.mean(0), statistic)


def correlate_pictures(first: Float[ndarray, "n points"], second: Float[ndarray, "n points"]) -> float:
    """Spearman's over the pictures of a point, mean over the points where there is one."""
    one, other = (rankdata(values, axis=0) - (len(values) + 1) / 2 for values in (first, second))
    spread = np.sqrt((one**2).sum(0) * (other**2).sum(0))
    is_known = spread > 0
    if len(first) < FEWEST or not is_known.any():
        return NAN
    return float(((one * other).sum(0)[is_known] / spread[is_known]).mean())


def compute_kappa(first: Float[ndarray, "n points"], second: Float[ndarray, "n points"]) -> float:
    """Cohen's, of the verdicts on every picture at every point; NaN where both always say the same one thing."""
    pair = (torch.from_numpy(values.ravel().astype(int)) for values in (first, second))
    return binary_cohen_kappa(*pair).item()


# ------------------------------------------------------------------------------------------------------- for a terminal


def build_agreement_table(
    rows: Sequence[Agreement], names: tuple[str, str], width: int = WIDTH, title: str = ""
) -> FittedTable:
    """What `compare_judges` returned, for a terminal; `names` are those of the networks."""
    heads = ("score", "points", "Spearman", "Kendall", "pictures", "by picture")
    cells = [
        (
            row.score,
            str(row.points),
            format_figure(row.spearman),
            format_figure(row.kendall),
            str(row.pictures) if row.pictures else MISSING,
            {"kappa": "κ ", "rho": "ρ ", "": ""}[row.kind] + format_figure(row.by_picture),
        )
        for row in rows
    ]
    notes = [
        "points: methods times strengths, without bounds; Spearman, Kendall: rank correlation of their scores",
        "by picture: Cohen's κ of the verdicts at all points, or Spearman's ρ within a point, mean over them",
        "[95 % intervals over pictures]",
    ]
    what = f"agreement of networks={names[0]} and networks={names[1]}"
    title = f"{title}: {what}" if title else what
    return FittedTable(fold(title, width), make_table(heads, cells), [fold(note, width) for note in notes])


def format_figure(figure: Figure) -> str:
    """A number with its interval, as far as they are defined."""
    if not np.isfinite(figure.value):
        return MISSING
    interval = f" [{figure.low:.2f}, {figure.high:.2f}]" if np.isfinite(figure.low) else ""
    return f"{figure.value:.2f}{interval}"
