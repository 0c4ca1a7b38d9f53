"""Strips of edits: texts and outlines over pictures at their own size, and how the requests were chosen."""

import re

import matplotlib
import numpy as np
import pytest
from made_report import make_benchmark, make_run
from pdf import check_fonts, find_pictures, find_size, read_objects

from diffedit.commands.sheet import main
from eval.reporting import figure_texts
from eval.reporting.figure_texts import StruckText, choose_fonts, clean
from eval.reporting.figures import FigureSettings, save_figure
from eval.reporting.strip import EXACT, MASK, draw_strip
from eval.reporting.strip_content import Cell, choose_by_quantile, choose_strengths, read_entries
from eval.scoring.finished_run import FinishedRun

IDS = ["r0", 'it\'s "r1" 100%', "r2_$a$"]
TARGETS = ["a bowl of pears", r"$x_1$ & \frac{1}{2} <b> 50% #1", "яблоки, عنب"]
SOURCES = ["a bowl of apples", "x_1 {y} ^z", "груши"]
SIDE = 16


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs with odd ids and texts; one has masks."""
    folder = tmp_path_factory.mktemp("strip")
    ids = make_benchmark(folder / "b", 3, SIDE, IDS, TARGETS, SOURCES)
    place = folder / "runs/scenes/sd15"
    make_run(place / "diffedit/default", folder / "b", ids, [0.5, 0.8], masks=True)
    make_run(place / "sdedit/default", folder / "b", ids, [0.5, 0.8], seed=1)
    return [FinishedRun(place / editor / "default") for editor in ("diffedit", "sdedit")]


@pytest.fixture
def call(runs, monkeypatch, capsys):
    """Calls the command on these runs, whose records are made up; returns exit code and what it said."""
    monkeypatch.setattr(FinishedRun, "check", lambda self: None)

    def call(*words):
        try:
            code = main([*(str(run.root) for run in runs), "--form", "strip", *map(str, words)])
        except SystemExit as error:
            code = error.code
        return code, "".join(capsys.readouterr())

    return call


def draw(runs, strengths=(0.5, 0.8), width="text", caption=""):
    return draw_strip(list(read_entries(runs, range(3), strengths)), FigureSettings(width=width), caption)


def list_texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("width", ["text", "column"])
def test_a_pdf_has_texts_and_outlines_over_pictures_of_their_own_size(runs, tmp_path, width):
    figure = draw(runs, width=width, caption='Requests it\'s "r1" 100%.')
    (path,) = save_figure(figure, tmp_path / "a", ["pdf"])
    data = path.read_bytes()
    check_fonts(data)
    assert find_size(data)[0] == pytest.approx(72 * {"text": 6.75, "column": 3.25}[width])
    pictures = find_pictures(data)
    assert set(pictures) == {(SIDE, SIDE)}
    assert len(pictures) >= 3 * 2  # equal ones may be embedded once
    assert any(re.search(r"T[jJ]\b", stream) for _, stream in read_objects(data))
    (again,) = save_figure(draw(runs, width=width, caption='Requests it\'s "r1" 100%.'), tmp_path / "b", ["pdf"])
    assert again.read_bytes() == data


def test_texts_stand_there_as_they_are_and_changed_words_are_marked(runs, tmp_path):
    figure = draw(runs)
    texts = list_texts(figure)
    for words in (r"$x_1$ & \frac{1}{2} <b> 50% #1", "a bowl of", "pears", "яблоки, عنب", "DiffEdit", "SDEdit"):
        assert words in texts
    struck = [area._text.get_text() for area in figure.findobj(lambda artist: isinstance(artist, StruckText))]
    assert struck == ["apples", "x_1 {y} ^z", "груши"]
    (pears,) = (text for text in figure.findobj(matplotlib.text.Text) if text.get_text() == "pears")
    assert pears.get_fontweight() == "bold"
    assert [text for text in texts if text.startswith(("r =", "mask"))][:3] == ["mask", "r = 0.5", "r = 0.8"]
    (svg,) = save_figure(figure, tmp_path / "a", ["svg"])
    assert "<!-- a bowl of -->" in svg.read_text()


def test_masks_are_outlined_and_exact_ones_are_dashed(runs):
    figure = draw(runs)
    outlined = [axes for axes in figure.axes if axes.collections]
    assert len(outlined) == 3  # of one method a request
    (entry, *_) = read_entries(runs, range(1), [0.5])
    exact = np.zeros((SIDE, SIDE), bool)
    exact[2:9, 3:9] = True
    figure = draw_strip([entry._replace(true=Cell(entry.image.picture, exact=exact))], FigureSettings())
    (outline,) = figure.axes[-1].collections
    (path,) = outline.get_paths()
    assert path.get_extents().bounds == pytest.approx((3 / SIDE, 2 / SIDE, 6 / SIDE, 7 / SIDE), abs=0.01)
    assert MASK["linestyles"] != EXACT["linestyles"]
    assert {"mask of the method", "exact mask"} <= set(list_texts(figure))


def test_characters_that_no_font_has_are_warned_of_by_the_request(caplog, monkeypatch):
    monkeypatch.setattr(figure_texts, "list_installed", lambda: iter(()))
    families = choose_fonts({"r7": "りんご apple", "r8": "pear"})
    assert families == ["STIXGeneral", "DejaVu Sans"]
    assert "r7: no font here has りんご: install a TrueType font" in caplog.text
    assert "r8" not in caplog.text


def test_what_has_no_picture_is_no_text():
    assert clean("a\x07b\u200b  c\nd\ud800") == "a b c d"


def test_how_requests_were_chosen_is_said(call, tmp_path):
    code, said = call("--count", 2, "--out", tmp_path / "a.svg")
    assert (code, 'Requests r0, it\'s "r1" 100%: the first 2 of 3, not chosen by hand.' in said) == (0, True)
    assert "the first 2 of 3, not chosen by hand" in (tmp_path / "a.svg").read_text()
    code, said = call("--id", IDS[2], IDS[1], "--ratio", 0.8, "--no-caption", "--out", tmp_path / "b.pdf")
    assert (code, "chosen by id" in said) == (0, True)
    assert "chosen by id" in "".join(head for head, _ in read_objects((tmp_path / "b.pdf").read_bytes()))
    code, said = call("--count", 2, "--quantile", "lpips", "--out", tmp_path / "c.png")
    assert code == 0
    assert "at the percentiles 25, 75 of lpips of DiffEdit, mean over its strengths, not chosen by hand" in said


def test_quantiles_are_those_of_the_first_run(runs):
    places, _ = choose_by_quantile(runs, 3, "lpips")
    values = figure_values(runs[0])
    assert [IDS[place] for place in places] == sorted(IDS, key=values.get)


def figure_values(run):
    from eval.scoring.per_image import read_all_values

    values = read_all_values(run.root)
    return values[(values.name == "lpips") & values.strength.notna()].groupby("id").value.mean().to_dict()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--id", "r9"], "--id r9: no such request; there are 3, such as 'r0'"),
        (["--ratio", "0.6"], "--ratio 0.6: no run has it; there are 0.5, 0.8"),
        (["--quantile", "beauty"], "--quantile beauty: not measured on each picture of"),
        (["--width", "huge"], "width = huge: column (3.25)"),
        (["--width", "1.5"], "4 pictures side by side are"),
        (["--out", "a.jpg"], "--out a.jpg: a strip is written as png, pdf, svg"),
        (["--id", "r0", "--quantile", "lpips"], "--id, --quantile: one of them"),
        (["--form", "sheet", "--id", "r0"], "--id: of --form strip"),
    ],
)
def test_what_cannot_be_is_refused(call, tmp_path, words, fault):
    code, said = call("--out", tmp_path / "a.pdf", *words)
    assert (code, fault in said) == (2, True), said
    assert not list(tmp_path.iterdir())


def test_runs_of_other_requests_are_refused(runs, tmp_path, call):
    ids = make_benchmark(tmp_path / "b", 2, SIDE)
    root = make_run(tmp_path / "runs/scenes/sd15/sdedit/default", tmp_path / "b", ids, [0.5])
    assert call(root, "--out", tmp_path / "a.pdf")[0] == 2
    assert choose_strengths(runs, None) == [0.5, 0.8]
