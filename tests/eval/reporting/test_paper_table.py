"""Tables for papers: what is bold, what stands where, golden files of every format, and whatever names may hold.

The golden files are written anew by RECORD_GOLDEN=1; look at what changed before it is committed.
"""

import io
import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import kept_log
from made_runs import write_scored_run

from diffedit.commands import main
from eval.reporting.collect import NotComparableError, collect
from eval.reporting.paper_table.best import Contest, compare_means, judge
from eval.reporting.paper_table.build import TableSettings, build_paper_table
from eval.reporting.paper_table.description import Cell, clean, count_digits, format_cell
from eval.reporting.paper_table.formats import ENDINGS, FORMATS, find_format, render
from eval.reporting.paper_table.latex import render_latex
from eval.reporting.seeds import merge_seeds
from eval.reporting.tables import read_published
from eval.scoring.bootstrap import Bootstrap

GOLDEN = Path(__file__).parent / "golden"
N = 40
SPREAD = np.sin(np.arange(N) * 12.9898)  # of pictures: no draws, whose bits a release of numpy may change
NOISE = np.cos(np.arange(N) * 78.233)
STRENGTHS = (0.5, 0.7, 0.9)
# LPIPS and the share that succeeds at each strength.
METHODS = {
    "diffedit": ((0.10, 0.15, 0.20), (0.3, 0.6, 0.8)),
    "sdedit": ((0.12, 0.20, 0.30), (0.3, 0.65, 0.85)),
    "encode_decode": ((0.101, 0.152, 0.203), (0.1, 0.2, 0.3)),
}
NAMES = {"diffedit": "DiffEdit", "sdedit": "SDEdit", "encode_decode": "Encode-Decode", "lpips": "LPIPS"}
RATIO = TableSettings(rows="ratio", at=0.7, names=NAMES)
EQUAL = TableSettings(rows="equal", match="lpips", match_at=[0.11, 0.16], columns=["accuracy"], names=NAMES)


def measure(distances, shares, shift=0.0):
    """LPIPS and accuracy of each image; methods are paired, so that small differences are seen."""
    lpips = {s: d * (1 + 0.3 * SPREAD) + 0.004 * NOISE + shift for s, d in zip(STRENGTHS, distances, strict=True)}
    succeed = {
        s: (np.argsort(np.argsort(NOISE)) < share * N).astype(float) for s, share in zip(STRENGTHS, shares, strict=True)
    }
    return {"lpips": (False, lpips), "accuracy": (True, succeed)}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Of two benchmarks: in the second one method has no accuracy, and another was not run."""
    folder, roots = tmp_path_factory.mktemp("paper") / "runs", []
    for benchmark, shift in (("scenes", 0.0), ("strokes", 0.05)):
        for editor, numbers in METHODS.items():
            scores = measure(*numbers, shift)
            if (benchmark, editor) == ("strokes", "encode_decode"):
                continue
            if (benchmark, editor) == ("strokes", "sdedit"):
                del scores["accuracy"]
            roots.append(write_scored_run(folder / benchmark / "tiny" / editor / "default", scores, requests=benchmark))
        same = {"lpips": (False, dict.fromkeys([None, *STRENGTHS], np.zeros(N)))}
        place = folder / benchmark / "tiny/copy/default"
        roots.append(write_scored_run(place, same, is_bound=True, requests=benchmark))
    return roots


@pytest.fixture
def scores(roots):
    return merge_seeds(collect(roots))


@pytest.fixture
def scenes(scores):
    return scores[scores.benchmark == "scenes"]


def find_rows(table, kind="method"):
    return {(row.label, row.setting): row.cells for row in table.rows if row.kind == kind}


def find_bold(table):
    """(label, setting, metric) of what is bold."""
    return {
        (row.label, row.setting, column.metric)
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell.is_bold
    }


# ------------------------------------------------------------------------------------------------------- what is bold


def test_bold_is_what_a_corrected_comparison_tells_apart(scenes):
    table = build_paper_table(scenes, RATIO)
    assert [row.label for row in table.rows] == ["copy", "DiffEdit", "Encode-Decode", "SDEdit"]
    assert find_bold(table) == {
        ("DiffEdit", "", "lpips"),  # Encode-Decode is by 1 % farther at every picture: that is told apart
        ("SDEdit", "", "accuracy"),
        ("DiffEdit", "", "accuracy"),  # two pictures fewer of 40: a tie
    }
    cells = find_rows(table)
    assert [cell.is_best for cell in cells["DiffEdit", ""]] == [False, True]
    assert [cell.is_tied for cell in cells["DiffEdit", ""]] == [True, False]
    assert "Holm's correction over the 6 pairs" in " ".join(table.caption)


def test_floor_and_ceiling_are_never_bold(scenes):
    table = build_paper_table(scenes, RATIO)
    (cells,) = find_rows(table, "bound").values()
    lpips = cells[[column.metric for column in table.columns].index("lpips")]
    assert lpips.value == 0  # better than any method
    assert not lpips.is_bold


def test_what_is_compared_at_every_ratio_is_what_has_that_ratio(scenes):
    table = build_paper_table(scenes, TableSettings(names=NAMES, columns=["lpips"]))
    assert table.setting == "ratio"
    assert find_bold(table) == {("DiffEdit", f"{ratio}", "lpips") for ratio in STRENGTHS}
    assert [row.setting for row in table.rows] == ["", *[f"{ratio}" for ratio in STRENGTHS for _ in range(3)]]
    assert "9 pairs" in " ".join(table.caption)


def test_methods_at_equal_fidelity(scenes):
    table = build_paper_table(scenes, EQUAL)
    rows = find_rows(table)
    assert rows["DiffEdit", "0.16"][0].value == pytest.approx(0.63, abs=0.03)
    assert rows["SDEdit", "0.16"][0].value == pytest.approx(0.46, abs=0.03)
    assert rows["SDEdit", "0.16"][0].low < 0.46 < rows["SDEdit", "0.16"][0].high
    assert find_bold(table) == {("DiffEdit", "0.11", "accuracy")} | {
        (name, "0.16", "accuracy")
        for name in ("DiffEdit", "SDEdit")  # a tie: SDEdit's ratios lie far apart
    }
    assert ("SDEdit", "0.11") not in rows
    assert any("not reached at LPIPS 0.11: SDEdit (0.123 to 0.308)" in text for _, text in table.notes)


def test_nothing_is_bold_where_nothing_is_told_apart(scenes):
    same = scenes[scenes.editor.isin(["diffedit", "sdedit"])]
    table = build_paper_table(same, TableSettings(rows="ratio", at=0.5, columns=["accuracy"]))
    assert not find_bold(table)
    assert "Nothing is bold, as no method is told apart from the best" in " ".join(table.caption)


def test_one_method_alone_is_not_bold(scenes):
    table = build_paper_table(scenes[scenes.editor == "diffedit"], RATIO)
    assert not find_bold(table)
    assert "Nothing is bold, as no two methods could be compared" in " ".join(table.caption)


def test_the_best_is_one_of_all_pairs():
    """Three methods: the best beats the last, ties with the second; all three pairs are corrected for."""
    p = {frozenset("ab"): 0.3, frozenset("ac"): 0.016, frozenset("bc"): 0.04}
    values = {"a": 3.0, "b": 2.0, "c": 1.0}
    contest = Contest(True, values, lambda *pair: p[frozenset(pair)], lambda name: True)
    (verdict,), count = judge([contest])
    assert (verdict.best, verdict.tied, count) == ("a", {"b"}, 3)
    p[frozenset("ac")] = 0.02  # times three: no longer
    (verdict,), _ = judge([contest])
    assert (verdict.best, verdict.tied) == (None, frozenset())
    (verdict,), _ = judge([contest._replace(higher_is_better=False)])
    assert verdict.best is None


def test_a_best_that_nothing_is_known_of_is_not_bold_and_neither_is_the_second():
    contest = Contest(True, {"a": 3.0, "b": 2.0, "c": 1.0}, lambda *pair: 0.001, lambda name: name != "a")
    assert judge([contest])[0][0].best is None


def test_of_equal_methods_hardly_any_is_ever_bold():
    """Five of them, four metrics: in at most 5 % of tables anything is bold, although the best is picked by its value.

    Of 100 tables; more than 10 of them have a chance of 1 %.
    """
    random, bold = np.random.default_rng(0), 0
    bootstrap = Bootstrap(50, resamples=1000)
    for _ in range(100):
        contests = []
        for _ in range(4):
            measured = dict(enumerate(random.normal(size=(5, 50))))
            values = {k: float(column.mean()) for k, column in measured.items()}

            def test(one, other, measured=measured):
                return compare_means(measured[one], measured[other], bootstrap)

            contests.append(Contest(True, values, test, lambda name: True))
        bold += any(verdict.best is not None for verdict in judge(contests)[0])
    assert bold <= 10


# -------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("half", "digits"), [(0.021, 3), (0.0996, 2), (0.0994, 3), (1.4, 1), (9.96, 0), (14, 0), (140, -1), (1e-9, 4)]
)
def test_two_digits_of_half_the_interval_are_shown(half, digits):
    assert count_digits(half) == digits


@pytest.mark.parametrize(
    ("cell", "style", "texts"),
    [
        (Cell(0.1349, 0.12, 0.156), "half", ("0.135", "±0.021")),
        (Cell(0.1349, 0.12, 0.156), "range", ("0.135", "[0.120, 0.156]")),
        (Cell(0.1349, 0.12, 0.156), "none", ("0.135", "")),
        (Cell(1234.0, 1100.0, 1374.0), "half", ("1230", "±140")),
        (Cell(-0.0001, -0.2, 0.2), "half", ("0.00", "±0.20")),
        (Cell(0.0, 0.0, 0.0), "half", ("0.000", "±0")),
        (Cell(0.5), "half", ("0.500", "")),
        (Cell(40.2, is_published=True), "half", ("40.2", "")),
        (Cell(), "half", ("–", "")),
        (Cell(float("inf")), "half", ("–", "")),
    ],
)
def test_a_cell_as_text(cell, style, texts):
    assert format_cell(cell, style) == texts


# --------------------------------------------------------------------------------------------------------- golden files


def build_golden(scores, folder):
    """Two benchmarks side by side, with published rows of two sources: all that a table can hold."""
    lines = [
        "method,metric,value,source,ratio",
        'DiffEdit,lpips,0.13,"Doe & Roe, 100 % <b>",0.7',
        "X,accuracy,0.5,_y_,",
    ]
    (folder / "published.csv").write_text("\n".join(lines))
    settings = TableSettings(names=NAMES | {"scenes": "Scenes"}, columns=["lpips", "accuracy"])
    published = {"scenes": read_published(folder / "published.csv")}
    return build_paper_table(scores, settings, published, "diffedit table out=golden")


def check_golden(name, text):
    """Compare with a golden file, or write it."""
    if os.environ.get("RECORD_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


@pytest.mark.parametrize("ending", [".md", ".tex", ".csv", ".html"])
def test_golden_files(scores, ending, tmp_path):
    check_golden(f"paper_table{ending}", render(build_golden(scores, tmp_path), ENDINGS[ending], "tab:golden"))


@pytest.mark.parametrize(("kind", "settings"), [("ratio", RATIO), ("equal", EQUAL)])
def test_golden_rows(scenes, kind, settings):
    check_golden(f"paper_table_{kind}.md", render(build_paper_table(scenes, settings), "markdown"))


def test_all_formats_show_the_same_values(scores, tmp_path):
    table = build_golden(scores, tmp_path)
    texts = {name: render(table, name) for name in FORMATS}
    tidy = pd.read_csv(io.StringIO(texts["csv"]))
    cells = [cell for row in table.rows for cell in row.cells if np.isfinite(cell.value)]
    assert len(tidy) == len(cells)
    assert tidy.value.tolist() == [cell.value for cell in cells]  # in full precision
    for cell in cells:
        value, _ = format_cell(cell, "half")
        assert all(value in texts[name] for name in ("markdown", "latex", "html"))
    bold = int((tidy.is_best | tidy.is_tied).sum())
    counts = [texts["markdown"].count("**") // 2, texts["latex"].count(r"\bfseries "), texts["html"].count("<strong>")]
    assert counts == [bold] * 3
    assert bold > 0


def test_a_tabular_alone_has_its_caption_as_a_comment(scenes):
    text = render_latex(build_paper_table(scenes, RATIO), is_float=False)
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines[0].startswith(r"\begin{tabular}")
    assert lines[-1] == r"\end{tabular}"
    assert any(line.startswith("% Methods at ratio 0.7 on scenes") for line in text.splitlines())


# ----------------------------------------------------------------------------------------------------------- garbage in


EVIL = [
    "<script>alert('x')</script>",
    'a "quoted" id, with a comma',
    "pipe | and `code` and *stars*",
    r"\input{/etc/passwd} $x$ 50% & # _ ^ ~ {",
    "[1] --- two\nlines\r\n| --- |\t\x1b[31m",
    "=1+1",
]


def write_evil_runs(folder):
    """The scores of a run for each evil word in what it overrides."""
    evil = {f"steps={i}": f"benchmark.prompt={word}" for i, word in enumerate(EVIL)}
    roots = [
        write_scored_run(folder / "scenes/tiny/diffedit" / name, measure(*METHODS["diffedit"], shift=i / 100), seed=i)
        for i, name in enumerate(evil)
    ]
    scores = collect(roots)
    return scores.assign(name=scores["name"].map(evil))


class Tags(HTMLParser):
    """Which elements a page has, and the texts in its row heads."""

    def __init__(self):
        super().__init__()
        self.tags, self.heads, self.is_head = [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.is_head = ("scope", "row") in attrs
        if self.is_head:
            self.heads.append("")

    def handle_endtag(self, tag):
        self.is_head = False if tag == "th" else self.is_head

    def handle_data(self, data):
        if self.is_head:
            self.heads[-1] += data


def test_whatever_a_name_holds_it_is_text(tmp_path):
    table = build_paper_table(write_evil_runs(tmp_path), RATIO, command="diffedit table\n\\input{x}")
    labels = [row.label for row in table.rows if row.kind == "method"]
    assert len(labels) == len(EVIL)
    page = Tags()
    page.feed(render(table, "html"))
    assert page.heads == labels
    allowed = {"html", "meta", "title", "style", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "br"}
    assert {tag for tag, _ in page.tags} <= allowed | {"span", "strong", "sup"}
    assert not {name for _, names in page.tags for name in names if name.startswith("on")}
    lines = [line for line in render(table, "markdown").splitlines() if line.startswith("|")]
    assert {len(line.replace("\\\\", "").replace("\\|", "").split("|")) for line in lines} == {len(table.columns) + 3}
    assert len(lines) == 2 + len(table.rows)
    assert (
        pd.read_csv(io.StringIO(render(table, "csv")), keep_default_na=False).label.drop_duplicates().tolist() == labels
    )
    latex = render(table, "latex")
    assert r"\textbackslash{}input\{" in latex
    assert "-{}-{}-" in latex
    assert "--" not in "".join(line for line in latex.splitlines() if line.startswith("DiffEdit"))
    assert all(line.startswith("%") or r"\input" not in line for line in latex.splitlines())


def test_a_text_is_one_line_without_control_characters():
    assert clean("a\x00b\r\n\u202ec\x1b[0m") == "a b c [0m"


@pytest.mark.parametrize("value", [np.nan, None])
def test_a_score_that_is_not_there_is_a_dash_and_is_compared_with_nothing(scenes, value):
    is_gone = (scenes.editor == "sdedit") & (scenes.metric == "accuracy")
    for scores in (scenes.assign(value=scenes.value.where(~is_gone, value).astype(float)), scenes[~is_gone]):
        table = build_paper_table(scores, RATIO)
        assert render(table, "markdown").count("| –") == 2  # and of the copies
        assert ("DiffEdit", "", "accuracy") in find_bold(table)
        assert "–: not defined for this method, or not known" in [text for _, text in table.notes]


def test_scores_without_what_was_measured_are_not_compared(scenes):
    scores = scenes.assign(run="gone/" + scenes.editor).drop(columns="runs")
    table = build_paper_table(scores, RATIO)
    assert not find_bold(table)
    notes = " ".join(text for _, text in table.notes)
    assert "LPIPS: not compared, as nothing was measured on each picture: DiffEdit, Encode-Decode, SDEdit" in notes


def test_one_ratio_alone_need_not_be_named(scenes):
    one = scenes[scenes.strength.isin([0.7]) | scenes.strength.isna()]
    assert build_paper_table(one, TableSettings(rows="ratio")).caption[0].startswith("Methods at ratio 0.7")
    every = build_paper_table(one, TableSettings())
    assert len(every.rows) == 3 + 1


def test_a_method_that_lacks_the_ratio_is_left_out_and_named(scenes):
    scores = scenes[(scenes.editor != "sdedit") | (scenes.strength == 0.5)]
    table = build_paper_table(scores, RATIO)
    assert "SDEdit" not in {row.label for row in table.rows}


def test_other_numbers_of_pictures_are_columns_of_their_own(scenes, tmp_path, caplog):
    few = {"lpips": (False, {0.7: SPREAD[:8] ** 2})}
    root = write_scored_run(tmp_path / "scenes/tiny/sdedit/few", few, requests="other")
    table = build_paper_table(pd.concat([scenes, merge_seeds(collect([root]))]), RATIO)
    assert [group.title for group in table.groups] == ["scenes, tiny (scenes, n = 40)", "scenes, tiny (other, n = 8)"]
    assert "2 sets of requests" in caplog.text
    assert "n = 40 (scenes, tiny (scenes, n = 40)), 8" in " ".join(table.caption)


def test_what_may_not_stand_side_by_side_is_refused(scenes):
    with pytest.raises(NotComparableError, match="scenes: runs of different n are not compared"):
        build_paper_table(scenes.assign(n=np.where(scenes.editor == "sdedit", 8, 40)), RATIO)
    with pytest.raises(NotComparableError, match="accuracy was measured in different ways"):
        build_paper_table(scenes.assign(made_by=scenes.editor), RATIO)


def test_one_picture_tells_nothing_apart(tmp_path):
    roots = [
        write_scored_run(tmp_path / f"scenes/tiny/{editor}/x", {"lpips": (False, {0.7: np.array([value])})})
        for editor, value in (("a", 0.1), ("b", 0.9))
    ]
    scores = merge_seeds(collect(roots))
    assert not find_bold(build_paper_table(scores, RATIO))
    equal = TableSettings(rows="equal", match="lpips", match_at=[0.1], columns=["lpips"])
    assert not find_bold(build_paper_table(scores, equal))


def test_seeds_are_merged_and_said(tmp_path):
    roots = []
    for seed in range(3):
        scores = measure(*METHODS["diffedit"], shift=seed / 1000)
        roots.append(write_scored_run(tmp_path / f"scenes/tiny/diffedit/seed={seed}", scores, seed=seed))
    roots.append(write_scored_run(tmp_path / "scenes/tiny/sdedit/default", measure(*METHODS["sdedit"])))
    table = build_paper_table(merge_seeds(collect(roots)), RATIO)
    caption = " ".join(table.caption)
    assert "n = 40 pictures; one seed: SDEdit; means over 3 seeds: DiffEdit." in caption
    assert "bootstrap interval over pictures and seeds" in caption
    assert ("DiffEdit", "", "lpips") in find_bold(table)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": "ratio"}, "at = null: rows=ratio needs one of the strengths that were run: 0.5, 0.7, 0.9"),
        ({"rows": "ratio", "at": 0.6}, "at = 0.6: no method was run there; there is 0.5, 0.7, 0.9"),
        ({"rows": "ratio", "at": float("nan")}, "TableSettings: at = nan: it should be a finite number, or null"),
        ({"at": 0.6}, "at = 0.6: of rows=ratio; rows = all"),
        ({"rows": "equal"}, "match = null: rows=equal needs a metric that was scored: accuracy, lpips"),
        ({"rows": "equal", "match": "lpips"}, "match_at = []: rows=equal needs values of lpips"),
        (
            {"rows": "equal", "match": "lpips", "match_at": [9]},
            "match_at = 9: no method has these values of lpips",
        ),
        ({"columns": ["fid"]}, "columns = fid: not scored; there are accuracy, lpips"),
        ({"columns": []}, "columns = []: a table needs one metric at least, of accuracy, lpips"),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(scenes, settings, message):
    with pytest.raises(ValueError, match=f"^{message}".replace("[", r"\[")):
        build_paper_table(scenes, TableSettings(**settings))


def test_bounds_alone_are_no_table(scenes):
    with pytest.raises(ValueError, match="no method among copy: bounds alone make no table"):
        build_paper_table(scenes[scenes.is_bound], TableSettings())


def test_too_few_resamples_are_told_with_how_many_would_do(scenes):
    table = build_paper_table(scenes, TableSettings(resamples=100))
    assert not find_bold(table)
    text = "100 resamples cannot tell any two methods apart after 18 comparisons: resamples=400 would"
    assert ("", text) in table.notes


def test_published_values_of_a_benchmark_that_there_is_not(scenes, tmp_path):
    (tmp_path / "a.csv").write_text("method,metric,value,source\nX,lpips,1,Doe")
    published = read_published(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"published.coco: there is no such benchmark among the runs; there is scenes"):
        build_paper_table(scenes, RATIO, {"coco": published})
    table = build_paper_table(scenes, EQUAL, {"scenes": published})
    assert not find_rows(table, "published")
    assert any("published values are left out" in text for _, text in table.notes)


@pytest.mark.parametrize("label", ["a b", "x}y", "%", "\\ref"])
def test_a_label_that_would_break_the_page_is_refused(scenes, label):
    with pytest.raises(ValueError, match="label = "):
        render_latex(build_paper_table(scenes, RATIO), label)


def test_the_format_is_that_of_the_ending():
    assert [find_format(None, Path(name)) for name in ("a.md", "a.TEX", "a.csv", "a.htm")] == [*FORMATS]
    assert find_format("csv", Path("a.txt")) == "csv"
    assert find_format(None) == "markdown"
    with pytest.raises(ValueError, match=r"out = a.docx: it should end in .md, .tex"):
        find_format(None, Path("a.docx"))
    with pytest.raises(ValueError, match="format = 'pdf' is none of markdown"):
        find_format("pdf")


# ---------------------------------------------------------------------------------------------------------- the command


def enter(capsys, *words):
    """(exit code, standard output, standard error) of `diffedit table`."""
    with kept_log():
        code = main(["table", *map(str, words)])
    return code, *capsys.readouterr()


def test_the_command_writes_files_or_prints_the_table_alone(roots, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = f"runs={roots[0].parents[3]}/*/*/*/*"
    code, out, _ = enter(capsys, runs, "columns=lpips", "format=csv")
    assert code == 0
    assert set(pd.read_csv(io.StringIO(out)).benchmark) == {"scenes", "strokes"}  # nothing else on the screen
    words = [runs, "rows=ratio", "at=0.7", "label=tab:x", "out=[a.md,b/a.tex,a.html,a.csv]"]
    code, out, _ = enter(capsys, *words)
    assert (code, out) == (0, "")
    assert (tmp_path / "b/a.tex").read_text().startswith("% diffedit table 'runs=")
    assert r"\label{tab:x}" in (tmp_path / "b/a.tex").read_text()
    assert "**" in (tmp_path / "a.md").read_text()
    code, out, _ = enter(capsys, runs, "rows=equal", "match=lpips", "match_at=0.2", "columns=[accuracy]")
    assert code == 0
    assert "Methods where LPIPS is 0.2." in out


def test_the_command_leaves_damaged_runs_out_and_says_so(roots, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(roots[0].parents[3], tmp_path / "runs")
    (tmp_path / "runs/scenes/tiny/sdedit/default/scores/lpips.parquet").write_bytes(b"x")
    code, out, told = enter(capsys, "runs=runs/scenes/*/*/*", "columns=[lpips]")
    assert code == 1
    assert "sdedit/default: left out:" in told
    assert "1 of 4 runs were left out" in told
    assert "DiffEdit" in out
    assert "SDEdit" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rows=some"], "rows = 'some': it should be 'all', 'ratio' or 'equal'"),
        (
            ["published=no.csv"],
            "published = no.csv: there are scenes, strokes: say of which, as published={scenes: no.csv}",
        ),
        (["published={scenes: no.csv}"], "published = no.csv: no such file"),
        (["out=a.docx"], "out = a.docx: it should end in .md"),
        (["columns=[fid]"], "columns = fid: not scored; there are accuracy, lpips"),
        (["runs=nowhere"], "runs = nowhere: no run directory there"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(roots, words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, told = enter(capsys, f"runs={roots[0].parents[3]}/*/*/*/*", *words)
    assert (code, out) == (2, "")
    assert message in told
    assert "Traceback" not in told
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------------------------- TeX


DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage{siunitx}
\begin{document}
%s
\end{document}
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex: apt-get install texlive-latex-recommended texlive-science"
)
def test_latex_compiles(scores, tmp_path):
    """Golden, at equal values with both ends of intervals, without intervals, evil names, the tabular alone."""
    scenes = scores[scores.benchmark == "scenes"]
    golden = build_golden(scores, tmp_path)
    parts = [render_latex(golden, "tab:a_b"), render_latex(golden, is_float=False)]
    parts += [render_latex(build_paper_table(scenes, EQUAL)._replace(interval=name)) for name in ("range", "none")]
    parts += [render_latex(build_paper_table(write_evil_runs(tmp_path / "evil"), RATIO))]
    (tmp_path / "tables.tex").write_text(DOCUMENT % "\n".join(parts))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "tables.pdf").read_bytes().startswith(b"%PDF")
    assert "siunitx Warning" not in done.stdout
