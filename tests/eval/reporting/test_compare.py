"""Methods at equal values of a metric."""

import numpy as np
import pandas as pd
import pytest
from helpers import make_scores, render

from diffedit.types import UNEDITED, Variant
from eval.reporting.compare import build_comparison_table, compare_at_equal

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
    table = build_comparison_table(comparison, "diffedit", "accuracy", "lpips")
    cells = [list(column.cells) for column in table.columns]
    assert [column.header for column in table.columns][:4] == ["other", "accuracy", "diffedit", "other's"]
    assert cells[0] == ["sdedit", "sdedit"]
    assert cells[2] == ["0.0500", "nan"]
    assert cells[3] == ["0.1500", "nan"]
    assert cells[4] == ["-0.1000", "nan"]
    assert "lpips at equal accuracy: diffedit - other" in render(table)


def test_what_cannot_be_compared_is_said(scores, caplog):
    with caplog.at_level("INFO"):
        assert compare_at_equal(scores, "ilvr", "accuracy", [0.5], "lpips", 100).empty
    assert "nothing to compare: method=ilvr is none of diffedit, sdedit" in caplog.text
    assert "not compared: 'nothing measured lpips on each image'" in caplog.text
