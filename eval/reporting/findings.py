"""What the scores of a comparison say, in numbers and a sentence each."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from eval.reporting.compare import compare_at_equal, correct_together, describe_difference, explain_gaps
from eval.reporting.tables import MISSING, name_methods

NAMES = {
    "diffedit": "DiffEdit",
    "diffedit_no_encode": "DiffEdit w/o Encode",
    "encode_decode": "Encode-Decode",
    "sdedit": "SDEdit",
    "blended_latent": "Blended Latent Diffusion",
    "blended_diffusion": "Blended Diffusion",
    "copy": "the input itself",
}


class Figure(NamedTuple):
    """A number: what it is of, its value, and a sentence on what it says."""

    what: str
    value: str
    sentence: str


class Question(NamedTuple):
    """A metric that two methods are compared by where another one is equal.

    Attributes:
        metric: the compared one.
        match: the matched one.
        values: of it, those that are tried.
        what: the compared one in words.
        at: the matched one in words.
        phrase: as of `describe_difference`.
        unit: as of `describe_difference`.
        most: values that are told of, those farthest apart.
    """

    metric: str
    match: str
    values: Sequence[float]
    what: str
    at: str
    phrase: tuple[str, str]
    unit: str = ""
    most: int = 1


TENTHS = [i / 10 for i in range(1, 10)]
QUESTIONS = (
    Question(
        *("lpips", "accuracy", TENTHS, "LPIPS to the input", "an accuracy"),
        (
            "{method} leaves the picture closer to the input than {other} by {by}",
            "{method} leaves the picture farther from the input than {other} by {by}",
        ),
        *(" LPIPS", 2),
    ),
    Question(
        *("accuracy", "lpips", [i / 5 for i in range(1, 20)], "accuracy", "an LPIPS to the input"),
        (
            "{method} makes fewer of the edits that were asked for than {other}: the share is lower by {by}",
            "{method} makes more of the edits that were asked for than {other}: the share is higher by {by}",
        ),
    ),
    Question(
        *("cf_lpips", "accuracy", TENTHS, "LPIPS to the true edit", "an accuracy"),
        (
            "{method} comes closer to the true edit than {other} by {by}",
            "{method} stays farther from the true edit than {other} by {by}",
        ),
        " LPIPS",
    ),
)


def name_editor(editor: str) -> str:
    """What a method is called where people read."""
    return NAMES.get(editor, editor)


def find_figures(scores: pd.DataFrame, method: str) -> list[Figure]:
    """What can be said of a method and the others at this n, each with a sentence that follows from its numbers.

    The p values are corrected over all comparisons that are told of. Which these are depends on the values that both
    methods reach, and on no p.
    """
    methods = scores[~scores.is_bound & (scores.run != "")]
    if methods.empty or method not in set(name_methods(methods)):
        return []
    scored = set(scores.metric)
    asked = [question for question in QUESTIONS if {question.metric, question.match} <= scored]
    comparisons = [choose_rows(question, scores, method) for question in asked]
    figures = [
        figure
        for question, rows in zip(asked, correct_together(comparisons), strict=True)
        for figure in answer(question, rows, method)
    ]
    return figures + list(tell_mask(scores, method))


def choose_rows(question: Question, scores: pd.DataFrame, method: str) -> pd.DataFrame:
    """Of each other method the outermost values that both reach; or the nearest to that."""
    comparison = compare_at_equal(scores, method, question.match, question.values, question.metric)
    chosen = []
    for _, part in comparison.groupby("other", sort=False):
        known = part.index[part.low.notna()]
        outermost = sorted({*known[:1], *known[-1:]})[-question.most :]
        chosen += outermost or [part.reached.idxmax()]
    return comparison.loc[chosen]


def answer(question: Question, rows: pd.DataFrame, method: str) -> Iterator[Figure]:
    """What each of the chosen rows says, or why there is nothing to say."""
    name = name_editor(method)
    for i in range(len(rows)):
        one = rows.iloc[[i]].assign(other=rows.other.iloc[[i]].map(name_editor))
        (row,) = one.itertuples()
        if pd.isna(row.low):
            reason = explain_gaps(one, name, question.match)[0]
            yield Figure(f"{question.what} at equal {question.match}", MISSING, f"{reason}.")
            continue
        yield Figure(
            f"{question.what} at {question.at} of {row.at:g}",
            f"{name} {row.first:.2f}, {row.other} {row.second:.2f}",
            describe_difference(row, name, question.at, question.phrase, question.unit, question.what),
        )


def tell_mask(scores: pd.DataFrame, method: str) -> Iterator[Figure]:
    """How well a method's masks cover the true regions, where it has masks."""
    rows = scores[(scores.editor == method) & (scores.metric == "mask_iou")]
    if rows.empty:
        return
    row = rows.iloc[0]
    sentence = (
        f"From the two texts alone {name_editor(method)} finds regions that share {row.value:.0%} of their union "
        f"with the true ones, n = {row.n} (100%: the very pixels that the true edit changes)."
    )
    yield Figure("IoU of the mask with the true one", f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]", sentence)
