"""Methods at equal values of a metric."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import make_scores, render

from diffedit.types import UNEDITED, Variant
from eval.reporting.compare import build_comparison_table, compare_at_equal, describe_difference

LPIPS = {"diffedit": 0.1, "sdedit": 0.3}


@pytest.fixture
def scores(monkeypatch):
    """Of two methods, a bound, and a method whose LPIPS was measured on no image."""
    accuracy = np.tile([0.0, 1.0], (8, 1)) * (np.arange(8) < 6)[:, None]

    def read(root, metric):
        if metric == "lpips" and root.name == "unmeasured":
            raise KeyError("nothing measured lpips on each image")
        values = accuracy if metric == "accuracy" else np.tile([0.0, LPIPS.get(root.name, 0.0)], (8, 1))
        index = pd.MultiIndex.from_product([map(str, range(8)), [""]], names=["id", "label"])
        return pd.DataFrame(values, index, columns=[0.5, 1.0])

    monkeypatch.setattr("eval.reporting.compare.read_pseudo_values", read)
    return make_scores(
        *[
            (editor, Variant(ratio), metric, 0.5, {"is_bound": editor == "oracle"})
            for editor in ("diffedit", "sdedit", "oracle", "unmeasured")
            for ratio in (0.5, 1.0)
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
    assert max(map(len, text.splitlines())) <= 100


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
        (-0.004, -0.007, -0.001, "A is closer than b by 0.0040 LPIPS [0.0010, 0.0070]"),
        (-0.05, -0.11, 0.01, "no difference can be seen between A and b at n = 96: it lies in [-0.11, +0.01] LPIPS."),
        (-0.05, np.nan, np.nan, "nothing can be said of A and b: n = 96 is too few"),
        (np.nan, np.nan, np.nan, "there is nothing to compare: not both of A and b have it."),
    ],
)
def test_a_sentence_follows_from_the_interval(difference, low, high, sentence):
    row = SimpleNamespace(other="b", at=0.7, difference=difference, low=low, high=high, n=96)
    assert sentence in describe_difference(row, "A", "an accuracy", PHRASE, " LPIPS")


def test_what_cannot_be_compared_is_said(scores, caplog):
    with caplog.at_level("INFO"):
        assert compare_at_equal(scores, "ilvr", "accuracy", [0.5], "lpips", 100).empty
    assert "nothing to compare: method=ilvr is none of diffedit, sdedit" in caplog.text
    assert "not compared: 'nothing measured lpips on each image'" in caplog.text
