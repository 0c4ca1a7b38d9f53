"""Tables: what stands in them, in which order, and beside what is published."""

import logging

import pytest
from helpers import CONF, make_scores, render

from diffedit.types import UNEDITED, Variant
from eval.reporting.collect import NotComparableError, check_comparable
from eval.reporting.tables import build_table, format_value, pivot_scores, print_tables, read_published


def test_published_rows_are_marked():
    published = read_published(CONF / "table/bld.csv")
    variant = Variant(0.75)
    scores = make_scores(("blended_latent", variant, "precision", 0.8), ("blended_latent", variant, "seconds", 1.0))
    text = render(build_table(scores, "title", ["precision", "precision_best", "seconds"], published))
    assert "Blended Latent Diffusion (published)" in text
    line = next(line for line in text.splitlines() if "Blended Latent Diffusion (published)" in line)
    assert "0.287" in line
    assert "0.540" in line
    assert "0.80 ±0.40" in text  # the larger half of the interval
    assert text.index("blended_latent") < text.index("(published)")
    assert "diversity" not in text


def test_the_printed_ratio_of_a_published_point_is_its_variant():
    text = render(build_table(make_scores(("diffedit", Variant(0.5), "lpips", 0.2)), "", None, read_published(
        CONF / "table/imagenet_tradeoff.csv"
    )))  # fmt: skip
    assert [line.split()[1] for line in text.splitlines() if line.startswith("diffedit")] == ["0.5"]
    assert any("DiffEdit (published)" in line and " 0.6 " in line for line in text.splitlines())


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
    assert heads(table) == ["method", "ratio", "lpips ↓", "accuracy ↑"]
    assert table.notes == ["also scored: fid: in the CSV, out=scores.csv"]
    assert heads(build_table(make_scores(*rows), ""))[2:] == ["accuracy ↑", "fid ↑", "lpips ↓"]


def heads(fitted):
    return [str(column.header) for column in fitted.table.columns]


LONG = "guidance=3,editor.mask.num_noises=11,engine.batch={predict:64,encode:4},steps=20"
WIDE = [
    *[
        (
            editor,
            Variant(ratio),
            f"metric_{i}",
            ratio * 10.0**i,
            {"low": 0.9 * ratio * 10.0**i, "high": ratio * 10.0**i} | more,
        )
        for editor, more in (
            ("diffedit", {}),
            ("sdedit", {"name": LONG, "run": "long"}),
            ("sdedit", {"name": "steps=20"}),
        )
        for ratio in (0.3, 0.5)
        for i in range(12)
    ],
    *[("copy", UNEDITED, f"metric_{i}", 0.0, BOUND | {"low": 0.0, "high": 0.0}) for i in range(12)],
    ("real", UNEDITED, "metric_11", 5.0, BOUND | {"run": ""}),
]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_wide_table_fits(width):
    """One line a method and ratio; the last metrics are left out and named, long names stand below."""
    fitted = build_table(make_scores(*WIDE), f"{LONG}, {LONG}", width=width)
    text = render(fitted)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    shown, left_out = heads(fitted)[2:], " ".join(text.split()).partition("also scored: ")[2]
    assert shown == [f"metric_{i} ↑" for i in range(len(shown))]
    assert left_out.startswith(f"metric_{len(shown)}, ")
    assert left_out.endswith("in the CSV, out=scores.csv")
    lines = [line.split() for line in text.splitlines() if line.startswith(("diffedit", "sdedit", "copy"))]
    assert [line[0] for line in lines][:3] == ["copy", "diffedit", "diffedit"]  # of sdedit the names, and #1
    assert len(lines) == 1 + 3 * 2 + 1  # and the name below
    assert "sdedit #1: sdedit (guidance=3," in text
    assert "without any of these: " in text
    assert "real" in text.partition("without any of these: ")[2].splitlines()[0]


def test_a_wide_table_fits_a_file(capsys):
    print_tables(make_scores(*WIDE), ["benchmark", "backbone"])
    lines = capsys.readouterr().out.splitlines()
    assert 80 < max(map(len, lines)) <= 100


def test_what_is_not_defined_is_no_column_and_said():
    rows = [("a", Variant(0.5), "lpips", 1.0), ("a", Variant(0.5), "kid", float("nan"))]
    rows += [("b", Variant(0.5), "lpips", 1.0), ("b", Variant(0.5), "mask_iou", 0.5)]
    fitted = build_table(make_scores(*rows), "", ["lpips", "kid", "fid", "mask_iou"], asked=["kid", "fid", "csfid"])
    assert heads(fitted) == ["method", "ratio", "lpips ↑", "mask_iou ↑"]
    assert "nan" not in render(fitted)
    assert "not defined here: kid, fid" in fitted.notes
    assert "–: not defined for this method, or not known" in fitted.notes


def test_names_are_no_markup():
    bold = ("a", Variant(0.5), "lpips", 1.0, {"name": "x=[bold]", "run": "r"})
    scores = make_scores(bold, ("a", Variant(0.5), "lpips", 1.0))
    assert "a (x=[bold])" in render(build_table(scores, "[red]"))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-7942.1, 17311.0, "-8000 ±17000"),
        (0.74512, 0.0771, "0.745 ±0.077"),
        (-0.001, 0.4, "0.00 ±0.40"),
        (12.3456, 1e-12, "12.3 ±0"),
        (1.0, 0.0, "1.000 ±0"),
        (123.456, None, "123.5"),
        (float("nan"), 1.0, "–"),
    ],
)
def test_a_number_has_the_digits_that_its_error_leaves(value, error, text):
    assert format_value(value, error) == text


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


def test_why_a_score_has_no_interval_is_said_below_the_table_once():
    reason = "no interval: 12 of 12 classes have fewer than 4 pictures"
    note = {"low": float("nan"), "high": float("nan"), "note": reason}
    rows = [("sdedit", Variant(ratio), "csfid", 900 * ratio, note) for ratio in (0.5, 1.0)]
    fitted = build_table(make_scores(*rows, ("sdedit", Variant(0.5), "lpips", 0.2)), "", ["lpips", "csfid"])
    assert fitted.notes.count(f"csfid: {reason}") == 1
    assert "450.0" in render(fitted)
    assert "450.0 ±" not in render(fitted)
    assert not any("no interval" in line for line in build_table(make_scores(*rows), "", ["lpips"]).notes)


def kid_scores(copy, half):
    """KID of real pictures, copies and a method; intervals of the method and the copies are 2 * half wide."""
    around = lambda value, half: {"low": value - half, "high": value + half, "higher_is_better": False}  # noqa: E731
    return make_scores(
        ("real", UNEDITED, "kid", 0.1, around(0.1, 0.5) | {"run": "", "is_bound": True}),
        ("copy", UNEDITED, "kid", copy, around(copy, half) | {"run": "", "is_bound": True}),
        ("sdedit", Variant(0.5), "kid", 3.0, around(3.0, half)),
        ("sdedit", Variant(0.9), "kid", 2.0, around(2.0, 1.0)),
        *[("sdedit", Variant(ratio), "lpips", ratio) for ratio in (0.5, 0.9)],
    )


def test_a_kid_whose_interval_is_wider_than_from_real_to_copy_is_not_shown_and_says_what_n_would_do():
    shown = build_table(kid_scores(10.1, 2.0), "", ["lpips", "kid"])
    assert "3.0 ±2.0" in render(shown)
    assert not any("kid" in note for note in shown.notes)

    fitted = build_table(kid_scores(10.1, 20.0), "", ["lpips", "kid"], asked=["lpips", "kid"])
    text = render(fitted)
    assert "3.0 ±" not in text
    assert "2.0 ±1.0" in text  # of this one the interval is narrow enough
    (note,) = [note for note in fitted.notes if "kid" in note]
    assert note.startswith("kid: not shown where its interval is wider than from real (0.1) to copy (10.1)")
    assert note.replace("\n  ", " ").endswith("not told apart, and no n is known that would do")

    fitted = build_table(kid_scores(10.1, 8.0), "", ["lpips", "kid"])  # n = 4; 16 is 1.6 times 10
    (note,) = [note for note in fitted.notes if "kid" in note]
    assert note.replace("\n  ", " ").endswith("about n = 11 would do")


def test_a_column_that_is_not_shown_is_not_called_undefined():
    fitted = build_table(kid_scores(0.2, 20.0).query("strength != 0.9"), "", ["lpips", "kid"], asked=["lpips", "kid"])
    assert "kid ↓" not in render(fitted)
    assert not any(note.startswith("not defined here") for note in fitted.notes)
    assert any(note.startswith("kid: not shown") for note in fitted.notes)


@pytest.mark.parametrize(("oracle", "shown"), [(19.3, False), (15.0, True)])
def test_a_distance_of_sets_that_sees_no_edit_is_left_out_and_says_why(oracle, shown):
    around = lambda value: {"low": value - 1, "high": value + 1, "higher_is_better": False}  # noqa: E731
    fitted = build_table(
        make_scores(
            ("copy", UNEDITED, "fid", 19.3, around(19.3) | {"run": "", "is_bound": True}),
            ("oracle", Variant(0.5), "fid", oracle, around(oracle) | {"is_bound": True}),
            ("sdedit", Variant(0.5), "fid", 20.4, around(20.4)),
            ("sdedit", Variant(0.5), "lpips", 0.4),
        ),
        "",
        ["lpips", "fid"],
        asked=["lpips", "fid"],
    )
    assert ("20.4 ±1.0" in render(fitted)) == shown
    reason = "fid: not shown: it does not tell copy (19.3) and oracle (19.3) apart, so it does not measure edits here"
    assert any(reason == note.replace("\n  ", " ") for note in fitted.notes) != shown
    assert not any(note.startswith("not defined here") for note in fitted.notes)


def test_without_an_oracle_a_distance_of_sets_stands_as_it_is():
    scores = make_scores(("copy", UNEDITED, "fid", 1.1), ("sdedit", Variant(0.5), "fid", 0.9))
    assert "0.90 ±0.40" in render(build_table(scores, ""))
