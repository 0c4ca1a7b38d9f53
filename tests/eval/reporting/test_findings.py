"""What the scores of a comparison say in sentences, for each way that it may end."""

import numpy as np
import pandas as pd
import pytest
from helpers import make_scores

from diffedit.types import UNEDITED, Variant
from eval.reporting.findings import find_figures

RATIOS = (0.5, 1.0)
MEASURED = np.array([0.2, 0.4, 0.6, 0.8, 1.0])  # of those that are compared
SUCCESS = np.array([0, 0.2, 0.45, 0.65, 0.75])


@pytest.fixture
def set_lpips(monkeypatch):
    """Says what was measured: accuracy rises alike for both methods, LPIPS as given, an image's own noise apart."""

    def set_lpips(first, second, spread=0.02, top=1.0):
        random = np.random.default_rng(0)
        noise = random.normal(0, spread, (64, len(MEASURED)))

        def read(root, metric):
            values = (np.arange(64)[:, None] < 64 * SUCCESS * top).astype(float)
            if metric != "accuracy":
                last = first if root.name == "diffedit" else second
                values = 0.1 + (last - 0.1) * (MEASURED - MEASURED[0]) / np.ptp(MEASURED) + noise
                values = values + random.normal(0, spread, noise.shape)
            index = pd.MultiIndex.from_product([map(str, range(64)), [""]], names=["id", "label"])
            return pd.DataFrame(values, index, columns=list(MEASURED))

        monkeypatch.setattr("eval.reporting.seeds.read_pseudo_values", read)

    return set_lpips


def scores(*more):
    bounds = {"low": 0.4, "high": 0.6, "n": 64}
    rows = [
        (editor, Variant(ratio), metric, ratio, bounds | {"higher_is_better": metric == "accuracy"})
        for editor in ("diffedit", "sdedit")
        for ratio in RATIOS
        for metric in ("accuracy", "lpips")
    ]
    floor = {"is_bound": True, "run": "", "n": 64, "higher_is_better": False}
    return make_scores(*rows, ("copy", UNEDITED, "lpips", 0.0, floor), *more)


@pytest.mark.parametrize(
    ("first", "second", "spread", "sentence"),
    [
        (0.5, 1.0, 0.02, "DiffEdit leaves the picture closer to the input than SDEdit by 0."),
        (1.0, 0.5, 0.02, "DiffEdit leaves the picture farther from the input than SDEdit by 0."),
        (0.7, 0.7, 0.4, "no difference in LPIPS to the input can be seen between DiffEdit and SDEdit at n = 64"),
    ],
)
def test_a_sentence_for_each_outcome(set_lpips, first, second, spread, sentence):
    set_lpips(first, second, spread)
    figures = [figure for figure in find_figures(scores(), "diffedit") if figure.what.startswith("LPIPS")]
    assert len(figures) == 2  # at the smallest and at the largest accuracy that both have
    assert [figure.what.rpartition(" ")[2] for figure in figures] == ["0.1", "0.6"]
    assert all(sentence in figure.sentence for figure in figures)


def test_more_and_fewer_edits(set_lpips):
    set_lpips(0.5, 1.0)
    (figure,) = (figure for figure in find_figures(scores(), "diffedit") if figure.what.startswith("accuracy"))
    assert "DiffEdit makes more of the edits that were asked for than SDEdit: the share is higher by" in figure.sentence


def test_where_nothing_is_reached_it_is_said(set_lpips):
    set_lpips(0.5, 1.0, top=0.05)
    (figure,) = (figure for figure in find_figures(scores(), "diffedit") if figure.what.startswith("LPIPS"))
    assert figure.value == "–"
    assert "SDEdit: nothing to compare at accuracy 0.1: over the strengths of these runs" in figure.sentence


def test_masks_are_told_of_where_there_are_some(set_lpips):
    set_lpips(0.5, 1.0)
    mask = ("diffedit", Variant(0.5), "mask_iou", 0.63, {"n": 64, "low": 0.6, "high": 0.66})
    figure = find_figures(scores(mask), "diffedit")[-1]
    assert figure.value == "0.63 [0.60, 0.66]"
    assert "share 63% of their union with the true ones, n = 64" in figure.sentence


def test_of_bounds_alone_and_of_a_method_that_is_not_there_nothing_is_said(set_lpips):
    set_lpips(0.5, 1.0)
    assert find_figures(scores(), "nobody") == []
    assert find_figures(scores()[lambda table: table.is_bound], "diffedit") == []
