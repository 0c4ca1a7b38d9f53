"""Tables: what stands in them, in which order, and beside what is published."""

import logging

import pytest
from helpers import CONF, make_scores, render

from diffedit.types import UNEDITED, Variant
from eval.reporting.collect import NotComparableError, check_comparable
from eval.reporting.tables import build_table, pivot_scores, print_tables, read_published


def test_published_rows_are_marked():
    published = read_published(CONF / "table/bld.csv")
    variant = Variant(0.75)
    scores = make_scores(("blended_latent", variant, "precision", 0.8), ("blended_latent", variant, "seconds", 1.0))
    text = render(build_table(scores, "title", ["precision", "precision_best", "seconds"], published))
    assert "Blended Latent Diffusion (published)" in text
    line = next(line for line in text.splitlines() if "Blended Latent Diffusion (published)" in line)
    assert "0.287" in line
    assert "0.540" in line
    assert "0.800 ±0.400" in text  # the larger half of the interval
    assert text.index("blended_latent") < text.index("(published)")
    assert "diversity" not in text


def test_the_printed_ratio_of_a_published_point_is_its_variant():
    text = render(build_table(make_scores(("diffedit", Variant(0.5), "lpips", 0.2)), "", None, read_published(
        CONF / "table/imagenet_tradeoff.csv"
    )))  # fmt: skip
    assert [line.count("ratio=0.5") for line in text.splitlines() if "diffedit" in line] == [1]
    assert any("DiffEdit (published)" in line and "ratio=0.6" in line for line in text.splitlines())


def test_a_bad_table_of_published_values_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"published = .*no.csv: no such file"):
        read_published(tmp_path / "no.csv")
    (tmp_path / "bad.csv").write_text("method,value\na,1\n")
    with pytest.raises(ValueError, match="no column metric, source"):
        read_published(tmp_path / "bad.csv")


BOUND = {"is_bound": True}
EDITORS = [
    *[("sdedit", Variant(ratio), "lpips", ratio) for ratio in (0.5, 1.0, 0.25)],
    *[("mean_colour", Variant(ratio), "lpips", 0.9, BOUND) for ratio in (0.5, 1.0)],
    *[("oracle", Variant(ratio), "lpips", 0.3, BOUND) for ratio in (0.5, 1.0)],
    ("copy", UNEDITED, "lpips", 0.0, BOUND | {"run": ""}),
]


def test_bounds_come_first_and_one_row_each_whatever_their_names():
    frame = pivot_scores(make_scores(*EDITORS))
    assert frame.method.tolist() == ["copy", "oracle", "mean_colour", "sdedit", "sdedit", "sdedit"]
    assert frame.variant.tolist() == ["", "", "", "ratio=0.25", "ratio=0.5", "ratio=1.0"]
    assert frame.strength.dropna().tolist() == [0.25, 0.5, 1.0]
    assert frame.is_bound.tolist() == [True] * 3 + [False] * 3


def test_columns_have_the_order_asked_for_and_arrows():
    rows = [("a", Variant(0.5), name, 1.0) for name in ("accuracy", "fid")]
    rows.append(("a", Variant(0.5), "lpips", 1.0, {"higher_is_better": False}))
    table = build_table(make_scores(*rows), "", ["lpips", "kid", "accuracy"])
    assert [column.header for column in table.columns] == ["method", "variant", "lpips ↓", "accuracy ↑"]
    table = build_table(make_scores(*rows), "")
    assert [column.header for column in table.columns][2:] == ["accuracy ↑", "fid ↑", "lpips ↓"]


def test_a_table_for_each_group_and_set(capsys, caplog):
    scores = make_scores(
        *EDITORS,
        ("sdedit", Variant(0.5), "lpips", 0.5, {"set": "t", "n": 7}),
        ("sdedit", Variant(0.5), "lpips", 0.5, {"benchmark": "c"}),
        ("other", Variant(0.5), "lpips", 0.5, {"benchmark": "c", "made_by": "y"}),
    )
    with caplog.at_level(logging.INFO):
        assert print_tables(scores, ["benchmark", "backbone"]) == 1
    text = capsys.readouterr().out
    assert "b, m, n = 4" in text
    assert "b, m, n = 7" in text
    assert "b, m: 2 sets of requests (other n, settings or version), not compared: a table each" in caplog.text
    assert "c, m: no table: lpips was measured in different ways" in caplog.text
    assert "no round_trip there: run editor=round_trip for floor and ceiling" in caplog.text
    with pytest.raises(NotComparableError, match="b: runs of different n are not compared; choose among them by runs="):
        check_comparable(scores)


def test_nothing_scored_prints_nothing(capsys):
    assert print_tables(make_scores(*EDITORS)[:0], ["benchmark", "backbone"]) == 0
    assert capsys.readouterr().out == ""
