"""Methods at equal values of a metric: what is compared at the same edit strength, or the same fidelity."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from eval.reporting.collect import check_comparable
from eval.reporting.seeds import list_seeds, read_mean_pseudo_values
from eval.reporting.tables import MISSING, WIDTH, FittedTable, fold, make_table, name_methods, shorten_names
from eval.scoring import holm
from eval.scoring.bootstrap import SHARES, Bootstrap
from eval.scoring.matched import Curve, MatchedDifference, compare_at

log = logging.getLogger(__name__)

COLUMNS = [
    *("other", "at", "first", "second", "difference", "low", "high", "p", "p_holm", "comparisons", "reached"),
    *("range", "other_range", "bracket", "other_bracket", "step", "interpolation", "n", "seeds"),
]
SIGNIFICANT = 0.05
LONGEST_HEAD = 20  # characters of a method's name above its column


def compare_at_equal(
    scores: pd.DataFrame,
    method: str,
    match: str,
    match_at: Sequence[float],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """A metric of one method and of each other one where both have the same value of a matched metric.

    Args:
        scores: as `eval.reporting.collect.collect` returns them, of one benchmark and backbone; what was measured on
            each image is read from the runs that they name.
        method: the one, as `eval.reporting.tables.name_methods` calls it.
        match: the matched metric.
        match_at: its values.
        metric: the compared one.
        resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Returns:
        A row for each other method and value. Columns:

        - other; at (the value); first, second (the compared metric of the method and of the other one); difference
          (first - second) with its interval (low, high), in which is what interpolation may err by; p, p_holm (after
          Holm's correction over the `comparisons` that were made together: those of this call, see `correct_together`)
        - reached (share of resamples in which both methods reach the value); range, other_range (values of the matched
          metric that the method and the other one have, from its smallest strength on)
        - bracket, other_bracket (strengths around the point of each), step (the larger change of the compared metric
          from one to the other), interpolation (by what it may err, which the interval covers)
        - n (images); seeds (how many of them the interval covers, the smaller number of both; 0: none is known of)

        No rows, and why in the log, where nothing is comparable.

    Raises:
        NotComparableError: the runs are of different requests, or measured in different ways.
    """
    scores = check_comparable(scores[scores.metric.isin((match, metric)) & (scores.run != "")])
    seeds = list_seeds(scores.assign(method=name_methods(scores)))
    methods = dict(read_methods(scores[~scores.is_bound], match, metric))
    if method not in methods:
        log.info("nothing to compare: method=%s is none of %s", method, ", ".join(methods) or "those that were scored")
        return pd.DataFrame(columns=COLUMNS)
    first = methods.pop(method)
    index = first[0].index
    bootstrap = Bootstrap.of_labels(list(index.get_level_values("label")), resamples, seed)
    rows = []
    for name, second in methods.items():
        pair = [make_curve(tables, index, match, metric) for tables in (first, second)]
        count = min(len(seeds[method]), len(seeds[name]))
        rows += [make_row(name, pair, value, bootstrap) | {"n": len(index), "seeds": count} for value in match_at]
    (corrected,) = correct_together([pd.DataFrame(rows, columns=COLUMNS)])
    return corrected


def make_curve(tables: tuple[pd.DataFrame, pd.DataFrame], index: pd.MultiIndex, match: str, metric: str) -> Curve:
    """What was measured on each image of a method, in both metrics, as a curve."""
    matched, compared = (table.reindex(index).to_numpy(float) for table in tables)
    return Curve(tables[0].columns.to_numpy(float), matched, compared, match in SHARES, metric in SHARES)


def make_row(name: str, pair: Sequence[Curve], value: float, bootstrap: Bootstrap) -> dict[str, Any]:
    """A method against another at one value, as a row of `compare_at_equal`."""
    found: MatchedDifference = compare_at(*pair, value, bootstrap)
    one, other = found.first, found.second
    return {
        **{"other": name, "at": value, "first": one.value, "second": other.value},
        **{"difference": found.difference.value, "low": found.difference.low, "high": found.difference.high},
        **{"p": found.p, "reached": found.reached},
        **{"range": find_range(pair[0].matched), "other_range": find_range(pair[1].matched)},
        **{"bracket": one.bracket, "other_bracket": other.bracket, "step": max(one.step, other.step)},
        "interpolation": one.error + other.error,
    }


def correct_together(comparisons: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The same comparisons, their p values corrected over all of them: what was looked at together.

    Args:
        comparisons: as `compare_at_equal` returns them.
    """
    if not comparisons:
        return []
    p = np.concatenate([part.p.to_numpy(float) for part in comparisons])
    count, corrected = int(np.isfinite(p).sum()), holm.correct(p)
    ends = np.cumsum([len(part) for part in comparisons])[:-1]
    return [
        part.assign(p_holm=numbers, comparisons=count)
        for part, numbers in zip(comparisons, np.split(corrected, ends), strict=True)
    ]


def read_methods(
    scores: pd.DataFrame, match: str, metric: str
) -> Iterator[tuple[str, tuple[pd.DataFrame, pd.DataFrame]]]:
    """(method, each image's pseudo-values in both metrics) of each method that has them; the log names the others."""
    rows = scores.assign(method=name_methods(scores)).drop_duplicates("method")
    for row in rows.itertuples():
        try:
            matched, compared = read_mean_pseudo_values(row, match), read_mean_pseudo_values(row, metric)
        except KeyError as error:
            log.info("not compared: %s", error)
            continue
        strengths = matched.columns.intersection(compared.columns)  # a run that was extended may lack some of one
        if len(strengths):
            yield row.method, (matched[strengths], compared[strengths])


def find_range(matched: Float[ndarray, "n strengths"]) -> tuple[float, float]:
    """The mean at the smallest strength, and what lies farthest from it."""
    means = matched.mean(0)
    return float(means[0]), float(max(means, key=lambda mean: abs(mean - means[0])))


def build_comparison_table(
    comparison: pd.DataFrame,
    method: str,
    match: str,
    metric: str,
    width: int = WIDTH,
    title: str = "",
    resamples: int | None = None,
) -> FittedTable:
    """What `compare_at_equal` returned, for a terminal; what cannot be compared is said below, and is no row.

    Args:
        comparison: the rows.
        method: as of `compare_at_equal`.
        match: as of `compare_at_equal`.
        metric: as of `compare_at_equal`.
        width: in characters.
        title: above it.
        resamples: of the bootstrap; to say where they are too few for so many comparisons.
    """
    labels = shorten_names(comparison.other)
    notes = [f"{label}: {name}" for name, label in labels.items() if label != name]
    notes += explain_gaps(comparison, method, match)
    known = comparison[comparison.difference.notna()]
    rows = [
        (labels[row.other], f"{row.at:g}", f"{row.first:.3f}", f"{row.second:.3f}", *format_difference(row))
        for row in known.itertuples()
    ]
    if rows:
        notes += [*explain_steps(known, match, metric), explain_correction(comparison, resamples)]
    name = method if len(method) <= LONGEST_HEAD else "method"
    what = f"{metric} at equal {match}: {method} minus the other (95 % paired bootstrap{name_seeds(comparison)})"
    title = f"{title}: {what}" if title else what
    heads = ("other", match, name, "other's", "difference", "interval", "p", "p (Holm)")
    table = make_table(heads, rows) if rows else None
    return FittedTable(fold(title, width), table, [fold(note, width) for note in filter(None, notes)])


def name_seeds(comparison: pd.DataFrame) -> str:
    """What an interval covers beside pictures: "" for one seed."""
    counts = sorted(set(comparison.seeds))
    return "" if max(counts, default=0) < 2 else f" over pictures and {' or '.join(map(str, counts))} seeds"


def format_difference(row: Any) -> tuple[str, str, str, str]:
    """Difference, interval and both p of a row of `compare_at_equal`."""
    if pd.isna(row.low):
        return f"{row.difference:+.3f}", MISSING, MISSING, MISSING
    return f"{row.difference:+.3f}", f"[{row.low:+.3f}, {row.high:+.3f}]", f"{row.p:.3f}", f"{row.p_holm:.3f}"


def explain_gaps(comparison: pd.DataFrame, method: str, match: str) -> list[str]:
    """Why there is no difference, or no interval of it, at some values; a sentence for each other method."""
    sentences = []
    for other, part in comparison.groupby("other", sort=False):
        if not (gaps := part[part.difference.isna()]).empty:
            (low, high), (other_low, other_high) = gaps.iloc[0][["range", "other_range"]]
            sentences.append(
                f"{other}: nothing to compare at {match} {list_values(gaps['at'])}: over the strengths of these runs "
                f"{method} goes from {low:.2g} to {high:.2g}, {other} from {other_low:.2g} to {other_high:.2g}"
            )
        if not (gaps := part[part.difference.notna() & part.low.isna()]).empty:
            sentences.append(
                f"{other}: no interval at {match} {list_values(gaps['at'])}: {gaps.reached.min():.0%} of the resamples "
                f"reach it for both, and {Bootstrap.level:.0%} are needed (more pictures, or strengths farther out)"
            )
    return sentences


def explain_steps(comparison: pd.DataFrame, match: str, metric: str) -> list[str]:
    """Where the difference found is smaller than what lies between the two strengths around the point.

    There the interval rests on how the curve goes between them. One sentence, or none.
    """
    wide = comparison[comparison.step > comparison.difference.abs()]
    if wide.empty:
        return []
    widest = wide.loc[wide.step.idxmax()]
    pairs = {pair for pair in (widest.bracket, widest.other_bracket) if pair[0] < pair[1]}
    between = " and ".join(f"{low:g} to {high:g}" for low, high in sorted(pairs))
    points = [f"{other} {list_values(part['at'])}" for other, part in wide.groupby("other", sort=False)]
    return [
        f"sparse strengths: around these values of {match}, {metric} changes by more than the difference from one "
        f"strength to the next (up to {widest.step:.2g}, from {between}); the interval allows for an error of up to "
        f"{wide.interpolation.max():.2g}, and strengths in between make it narrower: {'; '.join(points)}"
    ]


def explain_correction(comparison: pd.DataFrame, resamples: int | None) -> str:
    """Over how many comparisons the p values are corrected; "" where there is none."""
    count = int(comparison.comparisons.max())
    if count == 0:
        return ""
    if count == 1:
        return "p (Holm): one comparison, nothing to correct for"
    text = f"p (Holm): corrected for the {count} comparisons of this call, all tables together"
    if resamples is not None and (least := count / (1 + resamples)) > SIGNIFICANT:
        needed = round_up(count / SIGNIFICANT)
        text += f"; {resamples} resamples can show none below {least:.2g}: resamples={needed}, or compare less at once"
    return text


def round_up(number: float) -> int:
    """To a round number: one digit, and zeros."""
    unit = 10 ** int(np.log10(number))
    return int(np.ceil(number / unit)) * unit


def list_values(values: Iterable[float]) -> str:
    """Numbers, with commas."""
    return ", ".join(f"{value:g}" for value in values)


def describe_difference(
    row: Any, method: str, match: str, phrase: tuple[str, str], unit: str = "", what: str = ""
) -> str:
    """One row of `compare_at_equal` in a sentence that follows from its interval.

    Args:
        row: of `DataFrame.itertuples`.
        method: the one that others are compared with.
        match: the matched metric in words, as "an accuracy".
        phrase: what it says that the metric is smaller, and that it is larger, with `{method}`, `{other}` and `{by}`.
        unit: of the difference, behind the number.
        what: the compared metric in words, where none of the phrases names it; "": it is known.
    """
    start, pair = f"At {match} of {row.at:g} ", f"{method} and {row.other}"
    if pd.isna(row.difference):
        return f"{start}there is nothing to compare: not both of {pair} have it."
    if pd.isna(row.low):
        return f"{start}nothing can be said of {pair}: n = {row.n} is too few for an interval."
    if row.low <= 0 <= row.high:
        between = f"[{row.low:+.2f}, {row.high:+.2f}]{unit}"
        of = f" in {what}" if what else ""
        return f"{start}no difference{of} can be seen between {pair} at n = {row.n}: it lies in {between}."
    low, high = sorted((abs(row.low), abs(row.high)))
    digits = next((digits for digits in (2, 3) if low >= 10**-digits), 4)  # an end above 0 is not printed as 0
    by = f"{abs(row.difference):.{digits}f}{unit} [{low:.{digits}f}, {high:.{digits}f}], n = {row.n}"
    sentence = start + phrase[row.difference > 0].format(method=method, other=row.other, by=by)
    if row.p_holm > SIGNIFICANT:
        return f"{sentence}; but among {row.comparisons} comparisons this may be chance (p = {row.p_holm:.2f} by Holm)."
    return f"{sentence}."
