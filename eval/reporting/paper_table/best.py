"""Which method is the best of a column, and which are not told apart from it: all pairs, corrected together."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eval.reporting.compare import SIGNIFICANT
from eval.scoring import holm
from eval.scoring.bootstrap import NAN, Bootstrap
from eval.scoring.matched import bound

ROUNDING = 1e-9  # of values: what differs by less is the same


class Contest(NamedTuple):
    """Methods that are compared with one another in one metric.

    Attributes:
        higher_is_better: of the metric.
        values: of all methods, by whatever names a method here; also of those that cannot be compared.
        test: p of no difference of two methods; NaN where nothing can be said.
        is_testable: whether anything is known of a method beside its value.
    """

    higher_is_better: bool
    values: Mapping[Hashable, float]
    test: Callable[[Hashable, Hashable], float]
    is_testable: Callable[[Hashable], bool]


class Verdict(NamedTuple):
    """What may be bold: the best (None: nothing), and what is not told apart from it."""

    best: Hashable | None
    tied: frozenset[Hashable] = frozenset()


def judge(contests: Sequence[Contest]) -> tuple[list[Verdict], int]:
    """(the verdict of each contest, how many comparisons p was corrected over).

    The best is found by looking at the values, so all pairs are corrected for, by Holm: then it does not matter which
    of them are looked at. No verdict where no method is told apart from the best, or where that cannot be compared.
    """
    pairs, p = [], []
    for contest in contests:
        known = [name for name, value in contest.values.items() if np.isfinite(value) and contest.is_testable(name)]
        pairs.append(list(combinations(known, 2)))
        p += [contest.test(*pair) for pair in pairs[-1]]
    p = np.array(p, dtype=float)
    count, corrected = int(np.isfinite(p).sum()), iter(holm.correct(p))
    return [decide(contest, {frozenset(pair): next(corrected) for pair in part}) for contest, part in
            zip(contests, pairs, strict=True)], count  # fmt: skip


def decide(contest: Contest, p: Mapping[frozenset[Hashable], float]) -> Verdict:
    """The verdict of one contest, by the corrected p of each pair."""
    values = {name: value for name, value in contest.values.items() if np.isfinite(value)}
    if not values:
        return Verdict(None)
    best = (max if contest.higher_is_better else min)(values, key=lambda name: values[name])
    tested = {name: p[frozenset((best, name))] for name in values if frozenset((best, name)) in p and name != best}
    tied = frozenset(name for name, number in tested.items() if not number <= SIGNIFICANT)
    return Verdict(best, tied) if len(tied) < len(tested) else Verdict(None)


def compare_means(one: Float[ndarray, " n"], other: Float[ndarray, " n"], bootstrap: Bootstrap) -> float:
    """The p of no difference of two means over the same pictures; NaN for one picture, or where one lacks a value."""
    differences = one - other
    if bootstrap.n < 2 or not np.isfinite(differences).all():
        return NAN
    if np.abs(differences).max() <= ROUNDING * max(np.abs(one).max(), np.abs(other).max()):
        return 1.0
    value = float(differences.mean())
    return bound(value, bootstrap.means(differences) - value, 0.0, bootstrap.level)[1]
