"""Figures for papers: their files, the look of each method, labels, panels, and what is said of bad input."""

import logging
import math
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers import composed
from made_runs import write_scored_run
from matplotlib.colors import to_rgb
from pdf import check_fonts, find_size

from diffedit.commands.plot import main
from diffedit.types import UNEDITED, Variant
from eval.reporting.collect import NotComparableError
from eval.reporting.curves import NoPointsError, draw_curves, plot_pairs
from eval.reporting.figures import WIDTHS, FigureSettings, find_width, save_figure, use_style
from eval.reporting.looks import KNOWN, OTHERS, SHAPES, assign_looks
from eval.reporting.panels import draw_panels, plot_panels, read_panels
from eval.reporting.report.summary import list_methods

CURVE = [(0.3, 0.1, 0.2), (0.5, 0.2, 0.5), (0.7, 0.4, 0.7), (0.9, 0.6, 0.9)]
NAN = float("nan")


def scores(*runs, n=4, benchmark="scenes", metrics=("lpips", "accuracy")):
    """Scores of runs (editor, name, [(ratio, lpips, accuracy)]), and of the inputs."""
    rows = []
    for editor, name, values in [*runs, ("copy", "", [(None, 0.0, 0.0)])]:
        for ratio, *numbers in values:
            run, variant = f"runs/{editor}/{name}" if name else "", UNEDITED if ratio is None else Variant(ratio)
            for metric, value in zip(metrics, numbers, strict=True):
                key = editor, name, run, editor == "copy", str(variant), ratio, metric
                rows.append((*key, value, value - 0.01, value + 0.01))
    columns = ["editor", "name", "run", "is_bound", "variant", "strength", "metric", "value", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns).astype({"strength": float})
    shared = {"benchmark": benchmark, "backbone": "sd15", "set": f"s{n}", "version": "1", "n": n, "made_by": "m"}
    return frame.assign(**shared, higher_is_better=frame.metric != "lpips", note="")


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def look_of(line):
    return line.get_color(), line.get_marker(), str(line._dash_pattern)


def luminance(colour):
    return np.dot([0.2126, 0.7152, 0.0722], [((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)])


# --------------------------------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def drawn():
    """A figure with letters of three scripts in it, and what is else no mathematics."""
    others = [(r, x + 0.2, y - 0.1) for r, x, y in CURVE]
    runs = scores(("diffedit", "default", CURVE), ("sdedit", "a=$x_1$", others), ("sdedit", "a=Жë↓", CURVE[:1]))
    return draw_curves(runs, "lpips", "accuracy", "10% of $5_a", settings=FigureSettings(names={"lpips": "LPIPS ↓"}))


def test_every_font_of_a_pdf_is_embedded_as_truetype(drawn, tmp_path):
    (path,) = save_figure(drawn, tmp_path / "a", ["pdf"])
    data = path.read_bytes()
    assert check_fonts(data) >= 1
    assert b"STIXGeneral" in data
    with matplotlib.rc_context({"pdf.fonttype": 3}):  # the check sees what it is for
        drawn.savefig(tmp_path / "other.pdf")
    with pytest.raises(AssertionError):
        check_fonts((tmp_path / "other.pdf").read_bytes())


def test_the_same_figure_gives_the_same_bytes(drawn, tmp_path):
    first, second = ([path.read_bytes() for path in save_figure(drawn, tmp_path / name)] for name in "ab")
    assert first == second
    assert all(b"Date" not in data for data in first)


def test_texts_are_what_they_are(drawn, tmp_path):
    _, _, svg = save_figure(drawn, tmp_path / "a", caption="accuracy <over> lpips")
    text = svg.read_text()
    for words in ("sdedit (a=$x_1$)", "sdedit (a=Жë↓)", "10% of $5_a", "r = 0.3"):
        assert f"<!-- {words} -->" in text  # above the outlines of its letters
    assert "accuracy &lt;over&gt; lpips" in text
    assert "<text" not in text


@pytest.mark.parametrize("width", [*WIDTHS, 4.1])
def test_a_figure_is_as_wide_as_was_asked(width, tmp_path):
    runs = scores(("diffedit", "default", CURVE))
    figure = draw_curves(runs, "lpips", "accuracy", settings=FigureSettings(width=width))
    (path,) = save_figure(figure, tmp_path / "a", ["pdf"])
    assert find_size(path.read_bytes())[0] == pytest.approx(72 * find_width(width))
    sizes = {text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()}
    assert min(sizes) >= 6.5
    assert max(sizes) <= 8


def test_a_height_is_kept():
    runs = scores(("diffedit", "default", CURVE))
    figure = draw_curves(runs, "lpips", "accuracy", settings=FigureSettings(height=3))
    assert figure.get_figheight() == 3


def test_the_style_is_nobody_elses():
    before = dict(matplotlib.rcParams)
    with use_style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
    draw_curves(scores(("diffedit", "default", CURVE)), "lpips", "accuracy")
    assert dict(matplotlib.rcParams) == before


# --------------------------------------------------------------------------------------------------------------- looks


def test_neighbours_differ_in_grey_or_in_mark_and_line():
    looks = [*KNOWN.values(), *OTHERS]
    assert len({(look.mark, look.dash) for look in KNOWN.values()}) == len(KNOWN)
    assert not {look[2:] for look in OTHERS} & {look[2:] for look in KNOWN.values()}
    for one, other in pairwise(looks):
        differs = abs(luminance(one.colour) - luminance(other.colour)) > 0.1
        assert differs or (one.mark != other.mark and one.dash != other.dash)
    assert {look.mark for look in looks} <= set(SHAPES)


def test_a_method_looks_the_same_in_every_figure_and_in_the_report():
    mine, sdedit = ("mine", "default", CURVE), ("sdedit", "default", CURVE)
    figures = [
        draw_curves(scores(*runs), "lpips", "accuracy")
        for runs in (
            [mine, sdedit],
            [("encode_decode", "default", CURVE), sdedit, ("diffedit", "default", CURVE), mine],
        )
    ]
    parts = {"a": scores(sdedit), "b": scores(mine)}
    figures.append(draw_panels(dict(read_panels(parts, "lpips", "accuracy", {})), "lpips", "accuracy"))
    known = assign_looks(["sdedit", "mine"])
    for method in ("sdedit", "mine"):
        found = {
            look_of(line) for figure in figures for axes in figure.axes if (line := lines(axes).get(method)) is not None
        }
        assert len(found) == 1
        assert next(iter(found))[:2] == (known[method].colour, known[method].mark)
    told = {entry["name"]: entry for entry in list_methods(scores(mine, sdedit), None)}
    for method in ("sdedit", "mine"):
        look = known[method]
        assert (told[method]["colour"], told[method]["dark"], told[method]["mark"]) == (
            look.colour,
            look.dark,
            look.shape,
        )
    assert told["copy"]["mark"] == "square"


def test_settings_of_an_editor_are_shades_of_it_with_other_lines():
    methods = [f"diffedit (g={i})" for i in range(5)]
    looks = assign_looks([*methods, "sdedit"])
    assert {looks[name].mark for name in methods} == {"o"}
    assert len({looks[name].dash for name in methods}) == len({looks[name].colour for name in methods}) == 5
    assert looks[methods[0]] == assign_looks(["diffedit"])["diffedit"]
    shades = sorted(luminance(looks[name].colour) for name in methods)
    assert min(np.diff(shades)) > 0.02


def test_looks_are_seen_on_dark_paper():
    paper = luminance("#1b1f26")
    for editor in (*KNOWN, "mine"):
        for look in assign_looks(f"{editor} (g={i})" for i in range(5)).values():
            assert (luminance(look.dark) + 0.05) / (paper + 0.05) > 3


def test_names_are_those_of_the_tables():
    plot, table = (composed(name=name, backbone=False).names for name in ("plot", "paper_table"))
    assert plot == table
    assert FigureSettings(names=dict(plot)).write_name("diffedit (a=1)") == "DiffEdit (a=1)"


# -------------------------------------------------------------------------------------------------------------- labels


def test_labels_are_not_over_points_nor_each_other():
    runs = [("diffedit", "default", CURVE), ("sdedit", "default", [(r, x + 0.1, y - 0.1) for r, x, y in CURVE])]
    for width in ("column", "text"):
        figure = draw_curves(scores(*runs), "lpips", "accuracy", settings=FigureSettings(width=width))
        (axes,) = figure.axes
        boxes = [text.get_window_extent() for text in axes.texts]
        points = [axes.transData.transform(point) for line in lines(axes).values() for point in line.get_xydata()]
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
        assert not any(box.contains(*point) for box in boxes for point in points)
        assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
        texts = [text.get_text() for text in axes.texts]
        assert "r = 0.3" in texts
        assert texts.count("0.9") == 2


def test_one_ratio_is_a_point():
    figure = draw_curves(scores(("diffedit", "default", CURVE[:1])), "lpips", "accuracy")
    (axes,) = figure.axes
    assert lines(axes)["diffedit"].get_xydata().tolist() == [[0.1, 0.2]]
    assert [text.get_text() for text in axes.texts] == ["r = 0.3"]


# ----------------------------------------------------------------------------------------------------------- bad input


def test_a_point_without_a_score_is_left_out_and_said(caplog):
    runs = scores(("diffedit", "default", [*CURVE[:2], (0.7, 0.4, NAN), (0.9, math.inf, 0.9)]))
    (axes,) = draw_curves(runs, "lpips", "accuracy").axes
    assert len(lines(axes)["diffedit"].get_xydata()) == 2
    assert "diffedit ratio=0.7: no point, for accuracy has no value" in caplog.text
    assert "diffedit ratio=0.9: no point, for lpips has no value" in caplog.text


def test_no_point_at_all_is_refused_or_said(tmp_path, caplog):
    runs = scores(("diffedit", "default", [(0.5, NAN, 0.5)]))
    runs = runs[runs.editor != "copy"]
    with pytest.raises(NoPointsError, match="no run has a value of lpips and of accuracy"):
        draw_curves(runs, "lpips", "accuracy")
    assert plot_pairs(runs, ["lpips"], ["accuracy"], ["scenes"], tmp_path) == []
    assert "scenes: no plot: no run has a value" in caplog.text


def test_an_interval_that_is_not_known_is_not_drawn():
    runs = scores(("diffedit", "default", CURVE))
    runs.loc[(runs.metric == "accuracy") & (runs.strength == 0.5), ["low", "high"]] = NAN
    (axes,) = draw_curves(runs, "lpips", "accuracy").axes
    assert sorted(len(bars.get_segments()) for bars in axes.collections) == [3, 4]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"width": "huge"}, r"width = huge: column \(3.25\), text \(6.75\), .*, or inches from 1.5 to 40"),
        ({"width": 0.2}, "width = 0.2: column"),
        ({"width": NAN}, "width = nan: it should be a text or a finite number"),
        ({"height": -1}, "height = -1"),
        ({"formats": ["jpg"]}, "formats = .*jpg"),
        ({"formats": []}, r"formats = \[\]: at least one of png, pdf, svg"),
    ],
)
def test_a_bad_setting_is_named(settings, fault):
    with pytest.raises(ValueError, match=fault):
        FigureSettings(**settings)


# -------------------------------------------------------------------------------------------------------------- panels


def test_panels_are_of_different_benchmarks_and_share_a_legend(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    parts = {
        "scenes": scores(("diffedit", "default", CURVE), n=4),
        "photographs": scores(
            ("diffedit", "default", CURVE), ("sdedit", "default", CURVE), n=9, benchmark="photographs"
        ),
        "coco": scores(("diffedit", "default", CURVE), metrics=("lpips", "fid"), benchmark="coco"),
    }
    panels = dict(read_panels(parts, "lpips", "accuracy", {}))
    assert "coco: no panel of accuracy over lpips: accuracy was not scored" in caplog.text
    figure = draw_panels(panels, "lpips", "accuracy")
    assert [axes.get_title() for axes in figure.axes] == ["scenes", "photographs"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["diffedit", "copy", "sdedit"]
    paths = plot_panels(parts, ["lpips"], ["accuracy", "fid"], tmp_path, settings=FigureSettings(formats=["pdf"]))
    assert [path.name for path in paths] == ["panels_accuracy_over_lpips.pdf", "panels_fid_over_lpips.pdf"]
    check_fonts(paths[0].read_bytes())


def test_one_panel_has_no_mixture():
    mixed = pd.concat([scores(("diffedit", "default", CURVE)), scores(("sdedit", "default", CURVE), n=9)])
    with pytest.raises(NotComparableError, match="the panel of scenes: scenes: runs of different n are not compared"):
        dict(read_panels({"scenes": mixed}, "lpips", "accuracy", {}))


def test_the_command_draws_panels_of_what_is_on_disk(tmp_path, capfd):
    draw = np.random.default_rng(0)
    for benchmark, n in (("scenes", 6), ("it's $5_a", 8)):
        for editor in ("diffedit", "sdedit"):
            measured = {r: draw.random(n) for r in (0.5, 0.8)}
            write_scored_run(
                tmp_path / "runs" / benchmark / "sd15" / editor / "default",
                {"lpips": (False, measured), "accuracy": (True, {r: v.round() for r, v in measured.items()})},
                requests=benchmark,
            )
    words = [
        f"runs={tmp_path}/runs/*/*/*/*",
        "y=[accuracy]",
        "match_at=[]",
        f"out={tmp_path}/plots",
        "panels=benchmark",
    ]
    assert main([*words, "formats=[pdf,svg]"]) == 0
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"panels_accuracy_over_lpips.{ending}" for ending in ("pdf", "svg")
    }
    assert "it's $5_a" in (tmp_path / "plots/panels_accuracy_over_lpips.svg").read_text()
    capfd.readouterr()
    assert main([*words, "published=conf/table/imagenet_tradeoff.csv"]) == 2
    assert "say of which, as published={" in capfd.readouterr().err
    assert main([*words, "published={nobody: a.csv}"]) == 2
    assert "published: nobody: no such benchmark" in capfd.readouterr().err
    assert main([*words, "panels=rows"]) == 2
    assert "panels = 'rows': it should be 'benchmark', or null" in capfd.readouterr().err
    assert main(["runs=nowhere", "width=huge"]) == 2
    assert "width = huge" in capfd.readouterr().err
