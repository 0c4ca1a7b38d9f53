"""Methods at equal values of a metric."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import make_scores, render
from omegaconf import OmegaConf

from diffedit.commands.plot import write_comparisons
from diffedit.types import UNEDITED, Variant
from eval.reporting.compare import build_comparison_table, compare_at_equal, correct_together, describe_difference

LPIPS = {"diffedit": 0.1, "sdedit": 0.3}
RATIOS = (0.25, 0.5, 0.75, 1.0)
SUCCESSES = np.array([0, 3, 5, 6])  # of eight pictures, at each ratio


@pytest.fixture
def scores(monkeypatch):
    """Of two methods, a bound, and a method whose LPIPS was measured on no image."""
    accuracy = (np.arange(8)[:, None] < SUCCESSES).astype(float)

    def read(root, metric):
        if metric == "lpips" and root.name == "unmeasured":
            raise KeyError("nothing measured lpips on each image")
        values = accuracy if metric == "accuracy" else np.tile(LPIPS.get(root.name, 0.0) * SUCCESSES / 6, (8, 1))
        index = pd.MultiIndex.from_product([map(str, range(8)), [""]], names=["id", "label"])
        return pd.DataFrame(values, index, columns=list(RATIOS))

    monkeypatch.setattr("eval.reporting.seeds.read_pseudo_values", read)
    return make_scores(
        *[
            (editor, Variant(ratio), metric, 0.5, {"is_bound": editor == "oracle"})
            for editor in ("diffedit", "sdedit", "oracle", "unmeasured")
            for ratio in RATIOS
            for metric in ("accuracy", "lpips")
        ],
        ("copy", UNEDITED, "lpips", 0.0, {"is_bound": True, "run": ""}),
    )


def test_methods_are_compared_where_they_reach_the_same_accuracy(scores):
    comparison = compare_at_equal(scores, "diffedit", "accuracy", [0.375, 0.9], "lpips", 100)
    assert comparison.other.tolist() == ["sdedit", "sdedit"]  # floor and ceiling are no methods
    assert comparison["first"].tolist() == pytest.approx([0.05, np.nan], nan_ok=True)
    assert comparison["second"].tolist() == pytest.approx([0.15, np.nan], nan_ok=True)
    assert comparison.difference.tolist() == pytest.approx([-0.1, np.nan], nan_ok=True)
    assert comparison["low"].iloc[0] <= comparison.difference.iloc[0] <= comparison["high"].iloc[0]
    assert comparison.interpolation.iloc[0] == 0  # a ratio that was run
    assert comparison.bracket.iloc[0] == comparison.other_bracket.iloc[0] == (0.5, 0.5)


def test_what_interpolation_may_err_by_is_in_the_interval(scores):
    row = compare_at_equal(scores, "diffedit", "accuracy", [0.45], "lpips", 100).iloc[0]
    assert row.bracket == (0.5, 0.75)
    assert row.step == pytest.approx(0.3 * 2 / 6)  # SDEdit's, the larger one
    assert 0 < row.interpolation < row.step
    assert row.low + row.interpolation <= row.difference + 1e-9
    assert row.high - row.interpolation >= row.difference - 1e-9


def test_a_comparison_as_a_table(scores):
    comparison = compare_at_equal(scores, "diffedit", "accuracy", [0.375, 0.9], "lpips", 100)
    fitted = build_comparison_table(comparison, "diffedit", "accuracy", "lpips", title="scenes")
    text = render(fitted)
    (line,) = (line for line in text.splitlines() if line.startswith("sdedit  "))
    assert line.split()[1:5] == ["0.375", "0.050", "0.150", "-0.100"]
    assert "scenes: lpips at equal accuracy: diffedit minus the other" in text
    assert "nan" not in text
    assert "sdedit: nothing to compare at accuracy 0.9: over the strengths of these runs" in text
    assert "diffedit goes from 0 to 0.75, sdedit from 0 to 0.75" in " ".join(text.split())
    assert "sparse" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_difference_smaller_than_the_step_around_it_is_warned_of(scores):
    comparison = compare_at_equal(scores, "diffedit", "accuracy", [0.3, 0.375, 0.45], "lpips", 100)
    text = " ".join(render(build_comparison_table(comparison, "diffedit", "accuracy", "lpips")).split())
    assert (
        "sparse strengths: around these values of accuracy, lpips changes by more than the difference from one "
        "strength to the next (up to 0.15, from 0.25 to 0.5); the interval allows for an error of up to" in text
    )
    assert "make it narrower: sdedit 0.3 p (Holm)" in text


def test_p_is_corrected_over_all_that_is_compared_together(scores):
    more = make_scores(
        *[
            (name, Variant(ratio), metric, 0.5)
            for name in ("a", "b")
            for ratio in RATIOS
            for metric in ("accuracy", "lpips")
        ]
    )
    scores = pd.concat([scores, more])
    comparison = compare_at_equal(scores, "diffedit", "accuracy", [0.375, 0.45, 0.9], "lpips", 100)
    assert comparison.comparisons.unique() == [6]  # three others at two values: 0.9 is reached by none
    known = comparison[comparison.p.notna()]
    assert (known.p_holm == np.minimum(known.p.min() * 6, 1)).any()
    assert (known.p_holm >= known.p).all()
    assert comparison.p_holm.isna().sum() == 3
    one, other = correct_together([comparison, comparison])
    assert one.comparisons.unique() == other.comparisons.unique() == [12]
    assert one.p_holm.min() == pytest.approx(min(1, 12 * known.p.min()))
    assert correct_together([]) == []
    text = " ".join(render(build_comparison_table(comparison, "diffedit", "accuracy", "lpips", resamples=100)).split())
    assert "p (Holm): corrected for the 6 comparisons of this call, all tables together; 100 resamples can" in text
    assert "none below 0.059: resamples=200, or compare less at once" in text
    assert "resamples" not in render(build_comparison_table(comparison, "diffedit", "accuracy", "lpips", resamples=200))


def test_where_nothing_can_be_compared_there_is_no_table(scores):
    comparison = compare_at_equal(scores, "diffedit", "accuracy", [0.9, 0.95], "lpips", 100)
    fitted = build_comparison_table(comparison, "diffedit", "accuracy", "lpips", 60)
    assert fitted.table is None
    assert len(fitted.notes) == 1
    assert "0.9, 0.95" in render(fitted)
    assert max(map(len, render(fitted).splitlines())) <= 60


PHRASE = "{method} is closer than {other} by {by}", "{method} is farther than {other} by {by}"


@pytest.mark.parametrize(
    ("difference", "low", "high", "sentence"),
    [
        (-0.13, -0.18, -0.08, "At an accuracy of 0.7 A is closer than b by 0.13 LPIPS [0.08, 0.18], n = 96."),
        (0.13, 0.08, 0.18, "At an accuracy of 0.7 A is farther than b by 0.13 LPIPS [0.08, 0.18], n = 96."),
        (-0.004, -0.007, -0.001, "A is closer than b by 0.004 LPIPS [0.001, 0.007]"),
        (-0.05, -0.11, 0.01, "no difference can be seen between A and b at n = 96: it lies in [-0.11, +0.01] LPIPS."),
        (-0.05, np.nan, np.nan, "nothing can be said of A and b: n = 96 is too few"),
        (np.nan, np.nan, np.nan, "there is nothing to compare: not both of A and b have it."),
    ],
)
def test_a_sentence_follows_from_the_interval(difference, low, high, sentence):
    numbers = {"difference": difference, "low": low, "high": high, "p_holm": 0.05, "comparisons": 4, "n": 96}
    row = SimpleNamespace(other="b", at=0.7, **numbers)
    said = describe_difference(row, "A", "an accuracy", PHRASE, " LPIPS")
    assert sentence in said
    assert "chance" not in said


def test_a_sentence_says_what_may_be_chance_among_many():
    numbers = {"difference": -0.13, "low": -0.18, "high": -0.08, "p_holm": 0.06, "comparisons": 4, "n": 96}
    row = SimpleNamespace(other="b", at=0.7, **numbers)
    sentence = describe_difference(row, "A", "an accuracy", PHRASE)
    assert sentence.endswith("n = 96; but among 4 comparisons this may be chance (p = 0.06 by Holm).")


def test_what_cannot_be_compared_is_said(scores, caplog):
    with caplog.at_level("INFO"):
        assert compare_at_equal(scores, "ilvr", "accuracy", [0.5], "lpips", 100).empty
    assert "nothing to compare: method=ilvr is none of diffedit, sdedit" in caplog.text
    assert "not compared: 'nothing measured lpips on each image'" in caplog.text


def test_what_is_compared_is_written_with_what_it_is_of(tmp_path):
    rows = {
        ("a, b", metric): pd.DataFrame({"other": ["sdedit"], "at": [0.7], "p_holm": [p]})
        for metric, p in (("lpips", 0.01), ("csfid", 0.5))
    }
    cfg = OmegaConf.create({"out": str(tmp_path), "match": "accuracy", "method": "diffedit"})
    write_comparisons(cfg, rows)
    written = pd.read_csv(tmp_path / "comparisons.csv")
    assert list(written) == ["of", "metric", "match", "method", "other", "at", "p_holm"]
    assert list(written.metric) == ["lpips", "csfid"]
    assert list(written.p_holm) == [0.01, 0.5]
    write_comparisons(OmegaConf.merge(cfg, {"out": str(tmp_path / "none")}), {})
    assert not (tmp_path / "none").exists()
