"""The page of runs, without a browser: its data and pictures, what is missing or hostile, sizes, and its command."""

import base64
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import kept_log
from hypothesis import given, settings
from hypothesis import strategies as st
from made_report import make_benchmark, make_run
from omegaconf import OmegaConf
from PIL import Image

from diffedit.commands import main
from diffedit.commands.report import name_copy, show
from diffedit.io.compose import compose
from diffedit.runs.cut import get_shard_path
from eval.reporting.collect import collect
from eval.reporting.findings import NAMES
from eval.reporting.paper_table.build import TableSettings, build_paper_table
from eval.reporting.paper_table.latex import render_latex
from eval.reporting.report.foot import find_command, flatten, write_value
from eval.reporting.report.outlines import trace
from eval.reporting.report.requests import mark_changes
from eval.reporting.report.scripts import encode_script
from eval.reporting.report.sets import choose_requests
from eval.reporting.report.site import PageSettings, write_report
from eval.reporting.seeds import merge_seeds

RATIOS = [0.3, 0.5, 0.8]
HACK = '</script><script>window.hacked=1</script><img src=x onerror="x">\u2028'
ODD = 'it\'s "<b>" 50% #1/?'
SETTINGS = PageSettings(y=("accuracy",), threads=1, resamples=100)


@pytest.fixture
def world(tmp_path):
    """Makes runs of six requests; returns what was written of a page."""

    class World:
        folder = tmp_path
        ids = (*(f"r{i}" for i in range(5)), ODD)

        def __init__(self):
            targets = [*(f"pears {i} on a table" for i in range(5)), HACK]
            make_benchmark(tmp_path / "b", 6, ids=list(self.ids), targets=targets)

        def run(self, editor, ratios=RATIOS, **more):
            return make_run(tmp_path / f"runs/folder/tiny/{editor}/a", tmp_path / "b", list(self.ids), ratios, **more)

        def write(self, out="report", settings=SETTINGS, **more):
            roots = sorted(tmp_path.glob("runs/*/*/*/*"))
            return write_report(tmp_path / out, roots, settings, **more)

        def read(self, name="index", out="report"):
            return read_script(tmp_path / out / "data" / f"{name}.js")

    return World()


def read_script(path):
    """The data of a script."""
    found = re.fullmatch(r'Report\.receive\("([^"]+)",(.*)\);\n', path.read_text(), re.DOTALL)
    return json.loads(found[2])


def read_numbers(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def read_metric(world, name):
    """The numbers of a metric, a row for each strength of each run, and of the inputs."""
    (shown,) = world.read()["sets"]
    place = [one["name"] for one in shown["measured"]].index(name)
    return read_numbers(world.read(f"set0/values/{place}")).reshape(-1, shown["shown"])


# ----------------------------------------------------------------------------------------------------------- content


def test_curves_have_values_intervals_and_n(world):
    root = world.run("diffedit", masks=True)
    world.run("sdedit", RATIOS[:2], seed=1)
    assert world.write().problems == []
    (shown,) = world.read()["sets"]
    assert (shown["strengths"], shown["strength_name"], shown["n"]) == (RATIOS, "r", 6)
    assert shown["axes"] == {"x": "lpips", "y": "accuracy"}
    methods = {method["name"]: method for method in shown["methods"]}
    assert set(methods) == {"copy", "diffedit", "sdedit"}
    assert methods["diffedit"]["runs"] == [str(root)]
    scores = pd.read_parquet(root / "scores.parquet")
    scores = scores[(scores.metric == "lpips") & (scores.run != "")]
    for point in methods["diffedit"]["points"]:
        (row,) = scores[
            (scores.strength == point["strength"]) & (scores.metric == "lpips") & (scores.run != "")
        ].itertuples()
        assert point["values"]["lpips"] == pytest.approx([row.value, row.low, row.high, 6])
    assert [len(method["points"]) for method in methods.values()] == [1, 3, 2]
    assert shown["metrics"]["accuracy"]["higher"] is True


def test_every_number_of_a_picture_is_there(world):
    world.run("diffedit", masks=True)
    root = world.run("sdedit", RATIOS[:2], seed=1)
    world.write()
    numbers = read_metric(world, "lpips")
    assert numbers.shape == (2 * 3 + 1, 6)
    table = pd.read_parquet(root / "scores/lpips.parquet")
    for row, variant in ((3, "ratio=0.3"), (4, "ratio=0.5"), (6, "unedited")):
        measured = table[table.variant == variant].set_index("id").lpips.loc[list(world.ids)]
        assert numbers[row] == pytest.approx(measured.to_numpy(), abs=1e-6)
    assert np.isnan(numbers[5]).all()  # a ratio that this run does not have
    assert (read_metric(world, "mask_area")[:3] == 0.25).all()
    assert (read_metric(world, "evaluations")[3] == 5).all()


def test_thumbnails_lie_where_the_page_looks(world):
    world.run("diffedit", masks=True)
    world.run("sdedit", RATIOS[:2], seed=1, errors={2: "no memory"})
    world.write()
    (shown,) = world.read()["sets"]
    assert shown["tiles"] == {"side": 16, "columns": 5, "rows": 3, "before": 2, "chunk": 50}
    with Image.open(world.folder / "report/tiles/set0" / shown["sprites"][0]) as sprite:
        assert sprite.size == (5 * 16, 3 * 16)
        picture = sprite.convert("RGBA")

    def look(column, row):
        return picture.getpixel((column * 16 + 8, row * 16 + 8))

    assert look(0, 0) == pytest.approx((200, 40, 30, 255), abs=14)  # the input
    assert look(2, 1)[:3] == pytest.approx((40, 105, 90), abs=14)  # DiffEdit at 0.3
    assert look(4, 1)[:3] == pytest.approx((40, 180, 90), abs=14)  # at 0.8
    assert look(3, 2)[:3] == pytest.approx((70, 135, 90), abs=14)  # SDEdit at 0.5
    assert look(4, 2)[3] == 0  # and nothing at 0.8
    assert look(1, 1)[0] > look(0, 0)[0] * 0.8  # the mask, red over the input
    with Image.open(world.folder / "report/inputs/set0" / shown["sprites"][0].replace(".webp", "-input.webp")) as image:
        assert image.getpixel((8, 8)) == (200, 40, 30)  # small ones without loss
    outlines = world.read("set0/outlines/0")
    assert len(outlines) == 6
    assert outlines[0] == [[], [16, 16, outlines[0][1][2]], []]


def test_requests_are_told_with_what_became_of_them(world):
    world.run("diffedit", masks=True, flags={1: "empty", 3: "full"})
    world.run("sdedit", seed=1, errors={2: "no <memory>"})
    world.write()
    requests = world.read("set0/requests")
    assert requests["ids"] == list(world.ids)
    assert requests["errors"] == [{}, {"2": "no <memory>"}]
    assert requests["flags"] == [{"1": "empty", "3": "full"}, {}]
    assert requests["words"][0] == [["a bowl of apples", 1], ["pears 0", 2], ["on a table", 0]]
    assert requests["files"] == {}
    (shown,) = world.read()["sets"]
    assert [(run["n"], run["done"]) for run in shown["runs"]] == [(6, 6), (6, 5)]
    base = world.folder / "report" / shown["runs"][0]["base"]
    file = base / "images" / shown["runs"][0]["folders"][1] / f"{requests['stems'][5]}.png"
    assert file.is_file()
    assert shown["runs"][0]["cost"] == {"evaluations": 5.0, "all": 11.0, "seconds": pytest.approx(1 / 6)}


def test_published_points_and_rows(world):
    world.run("diffedit")
    lines = ["method,metric,value,source,point,ratio,editor,setting"]
    lines += [
        f"DiffEdit <b>,{metric},{value},a,1,0.5,diffedit,photographs"
        for metric, value in (("lpips", 0.2), ("accuracy", 0.7))
    ]
    (world.folder / "p.csv").write_text("\n".join(lines))
    from eval.reporting.tables import read_published

    world.write(published=read_published(world.folder / "p.csv"))
    (shown,) = world.read()["sets"]
    (point,) = shown["published"]
    assert (point["key"], point["strength"], point["values"]) == ("diffedit", 0.5, {"lpips": 0.2, "accuracy": 0.7})
    assert shown["table"]["rows"][-1]["label"] == "DiffEdit <b> (published)"


def test_seeds_are_one_curve_and_columns_of_their_own(world):
    roots = [
        make_run(world.folder / f"runs/folder/tiny/sdedit/seed={k}", world.folder / "b", world.ids, RATIOS, k)
        for k in (0, 1)
    ]
    for k, root in enumerate(roots):
        config = yaml.safe_load((root / "config.yaml").read_text())
        (root / "config.yaml").write_text(yaml.safe_dump(config | {"seed": k}))
    world.write()
    (shown,) = world.read()["sets"]
    (method,) = (method for method in shown["methods"] if not method["is_bound"])
    assert (method["name"], method["runs"]) == ("sdedit", list(map(str, roots)))
    assert [run["method"] for run in shown["runs"]] == ["sdedit (seed=0)", "sdedit (seed=1)"]


@pytest.fixture
def two_reports(world):
    """The same two methods, made twice: one to the byte, one with other pictures and scores; by another model."""
    roots = {}
    for side, model, seeds in (("A", "tiny", (1, 2)), ("B", "small", (1, 7))):
        for editor, seed in zip(("diffedit", "sdedit"), seeds, strict=True):
            root = world.folder / side / f"folder/{model}/{editor}/a"
            roots[make_run(root, world.folder / "b", list(world.ids), RATIOS, seed)] = side
    return {str(root): side for root, side in roots.items()}


def test_two_reports_are_compared_run_by_run(world, two_reports):
    write_report(world.folder / "report", list(map(Path, two_reports)), SETTINGS, sides=two_reports)
    (shown,) = world.read()["sets"]
    names = [run["method"] for run in shown["runs"]]
    assert names == [f"{editor} (report={side})" for editor in ("diffedit", "sdedit") for side in "AB"]
    assert shown["names"] == ["folder", "tiny and small"]
    assert shown["pairs"] == [[0, 1], [2, 3]]
    assert {method["name"] for method in shown["methods"]} >= set(names)
    rows = {(row["first"], row["strength"], row["metric"]): row for row in shown["compared"]}
    assert len(rows) == 2 * 3 * 2
    same, other = rows[0, 0.5, "lpips"], rows[2, 0.5, "lpips"]
    assert (same["difference"], same["low"], same["high"], same["p"], same["identical"]) == (0, 0, 0, 1, 6)
    places = ("A/folder/tiny/sdedit/a", "B/folder/small/sdedit/a")
    tables = [pd.read_parquet(world.folder / place / "scores/lpips.parquet") for place in places]
    means = [table[table.variant == "ratio=0.5"].lpips.mean() for table in tables]
    assert [other["a"], other["b"]] == pytest.approx(means)
    assert other["difference"] == pytest.approx(means[1] - means[0])
    assert other["low"] < other["difference"] < other["high"]
    assert (other["identical"], other["label"]) == (0, "SDEdit")
    order = [(row["p"] > 0.05, row["p"]) for row in shown["compared"]]
    assert order == sorted(order)


def test_scores_made_in_other_ways_are_not_compared(world, two_reports):
    path = world.folder / "B/folder/small/sdedit/a/scores/lpips.json"
    path.write_text(path.read_text().replace("lpips-1", "lpips-2"))
    told = write_report(world.folder / "report", list(map(Path, two_reports)), SETTINGS, sides=two_reports).problems
    assert any("lpips was measured in another way than in" in problem for problem in told)
    (shown,) = world.read()["sets"]
    assert {row["metric"] for row in shown["compared"] if row["first"] == 2} == {"accuracy"}


def test_a_run_without_its_like_is_shown_alone(world, two_reports):
    roots = [root for root in two_reports if not root.endswith("B/folder/small/sdedit/a")]
    write_report(world.folder / "report", list(map(Path, roots)), SETTINGS, sides=two_reports)
    (shown,) = world.read()["sets"]
    assert (len(shown["runs"]), shown["pairs"]) == (3, [[0, 1]])


# --------------------------------------------------------------------------------------------------- texts of others


def test_no_text_leaves_its_data(world):
    world.run("diffedit", masks=True, errors={0: HACK})
    path = world.write().path
    assert HACK not in path.read_text()
    for script in (world.folder / "report/data").rglob("*.js"):
        assert "<" not in script.read_text()
        assert script.read_text().isascii()
    words = " ".join(text for text, _ in world.read("set0/requests")["words"][5])
    assert HACK.split()[0] in words


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_is_data(text):
    script = encode_script("a", {"b": text})
    assert "<" not in script
    assert script.isascii()
    assert json.loads(script.removeprefix('Report.receive("a",').removesuffix(");\n")) == {"b": text}


def test_the_page_asks_for_nothing_from_elsewhere(world):
    world.run("diffedit")
    path = world.write().path
    for file in (path, *(path.parent / "page").iterdir()):
        links = re.findall(r"https?://[^\s\"'`)]+", file.read_text())
        assert set(links) <= {"http://www.w3.org/2000/svg"}, file
        assert not re.search(r"@import|\binnerHTML\b|\beval\(|insertAdjacentHTML|document\.write", file.read_text()), (
            file
        )
    page = path.read_text()
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert name == "data:," or (path.parent / name).is_file(), name


# --------------------------------------------------------------------------------------------------- what is missing


def test_runs_without_scores_are_shown(world):
    world.run("diffedit", scores={})
    assert world.write().problems == []
    (shown,) = world.read()["sets"]
    assert shown["problem"].startswith("Not scored: diffedit score")
    assert (shown["methods"], shown["axes"], shown["table"]) == ([], None, None)
    assert {one["name"] for one in shown["measured"]} == {"evaluations", "seconds"}


def test_one_ratio_and_one_metric(world):
    world.run("diffedit", [0.5], scores={"accuracy": True})
    world.write()
    (shown,) = world.read()["sets"]
    assert shown["axes"] == {"x": "accuracy", "y": "accuracy"}
    assert shown["tiles"]["columns"] == 3


def test_what_was_asked_for_and_is_not_there_is_said(world):
    world.run("diffedit")
    settings = PageSettings(x="lpipss", y=("accuracy", "fid", "both"), method="sdedt", threads=1, resamples=100)
    assert world.write(settings=settings).problems == [
        "x = lpipss: not scored; there are accuracy, lpips",
        "y = both: not scored; there are accuracy, lpips",
        "method = sdedt: not scored; there are diffedit",
    ]
    (shown,) = world.read()["sets"]
    assert shown["axes"] == {"x": "accuracy", "y": "lpips"}


def test_requests_that_are_not_done_are_told_of(world):
    root = world.run("diffedit")
    (get_shard_path(root, 0)).unlink()
    world.run("sdedit", seed=1)
    world.write()
    errors, none = world.read("set0/requests")["errors"]
    assert (len(errors), none) == (6, {})
    assert "not run yet" in errors["0"]


def test_what_is_no_number_is_none(world):
    root = world.run("diffedit")
    path = root / "scores/lpips.json"
    told = json.loads(path.read_text())
    told["rows"][0] |= {"low": None, "high": None}
    told["rows"][1] |= {"value": float("nan"), "low": float("inf")}
    path.write_text(json.dumps(told))
    table = pd.read_parquet(root / "scores/lpips.parquet")
    table.loc[0, "lpips"] = np.inf
    table.to_parquet(root / "scores/lpips.parquet", index=False)
    world.write()
    (shown,) = world.read()["sets"]
    first, second = (point["values"]["lpips"] for point in shown["methods"][1]["points"][:2])
    assert first[1:3] == [None, None]
    assert second[:2] == [None, None]
    assert np.isnan(read_metric(world, "lpips")[0, 0])


def test_runs_of_other_requests_are_another_set(world):
    world.run("diffedit")
    make_benchmark(world.folder / "other", 4)
    ids = [f"r{i:04}" for i in range(4)]
    make_run(world.folder / "runs/folder/tiny/sdedit/small", world.folder / "other", ids, RATIOS)
    world.write()
    assert [shown["title"] for shown in world.read()["sets"]] == ["folder, tiny, n = 6", "folder, tiny, n = 4"]
    assert len(world.read("set1/requests")["ids"]) == 4


def test_scores_that_cannot_be_compared_are_told_of(world):
    world.run("diffedit")
    root = world.run("sdedit")
    path = root / "scores/lpips.json"
    path.write_text(path.read_text().replace("lpips-1", "lpips-2"))
    world.write()
    (shown,) = world.read()["sets"]
    assert "lpips was measured in different ways; score these runs again" in shown["problem"]
    assert len(shown["runs"]) == 2


def test_what_is_damaged_is_named_and_the_rest_is_shown(world):
    root = world.run("diffedit", masks=True)
    other = world.run("sdedit", seed=1)
    for path in ((root / "images/0.5/r2.png"), (root / "masks/r3.png"), (root / "maps/r3.npy")):
        path.unlink()
        path.write_bytes(b"no picture")
    (other / "scores/lpips.parquet").write_bytes(b"PAR1")
    told = "\n".join(world.write().problems)
    assert all(name in told for name in ("images/0.5/r2.png", "masks/r3.png", "maps/r3.npy", "lpips.parquet"))
    (shown,) = world.read()["sets"]
    assert len(shown["sprites"]) == 6


def test_runs_that_cannot_be_read_are_left_out(world):
    world.run("diffedit")
    gone = world.run("sdedit")
    config = yaml.safe_load((gone / "config.yaml").read_text())
    config["benchmark"]["path"] = str(world.folder / "gone.csv")
    (gone / "config.yaml").write_text(yaml.safe_dump(config))
    (problem,) = world.write().problems
    assert str(gone) in problem
    assert "gone.csv" in problem
    assert len(world.read()["sets"][0]["runs"]) == 1
    with pytest.raises(ValueError, match="no run can be shown"):
        write_report(world.folder / "none", [gone], SETTINGS)


# ---------------------------------------------------------------------------------------------------- files and sizes


def test_a_second_page_writes_what_is_new_and_removes_its_own(world):
    world.run("diffedit", masks=True)
    out = world.folder / "report"
    world.write()
    own = out / "pictures"
    own.mkdir()
    (own / "mine.png").write_bytes(b"x")
    (out / "data/mine.js").write_text("x")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "files.txt"}
    world.write()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    world.run("sdedit", seed=1)
    world.write()
    tiles = list((out / "tiles/set0").iterdir())
    assert len(tiles) == 6
    assert not set(tiles) & set(before)
    assert (own / "mine.png").exists()
    assert (out / "data/mine.js").exists()


def test_a_torn_thumbnail_is_drawn_again(world):
    world.run("diffedit", masks=True)
    world.write()
    torn, *_ = sorted((world.folder / "report/tiles/set0").iterdir())
    whole = torn.read_bytes()
    torn.write_bytes(whole[:40])
    world.write()
    assert torn.read_bytes() == whole
    assert not list((world.folder / "report").rglob("*.tmp"))


def test_pictures_are_copied_where_that_is_asked_for(world):
    world.run("diffedit", masks=True)
    world.write(settings=PageSettings(copy=True, threads=1))
    (shown,) = world.read()["sets"]
    assert shown["runs"][0]["base"] == "pictures/set0/0"
    assert len(list((world.folder / "report/pictures/set0/0").rglob("*.png"))) == 6 * 4
    world.write()
    assert not list((world.folder / "report/pictures").rglob("*.png"))


def test_a_single_file(world):
    world.run("diffedit", masks=True)
    single = PageSettings(single_file=True, threads=1, resamples=100)
    path = world.write("page", single).path
    assert path == world.folder / "page.html"
    assert not (world.folder / "page").exists()
    page = path.read_text()
    assert "src=" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert page.count("Report.receive(") >= 6 + 3
    assert page.count("</script>") == page.count("<script>")
    small = PageSettings(single_file=True, limit=0.02, threads=1, resamples=100)
    with pytest.raises(ValueError, match=r"single_file = true: .* more than limit = 0\.02: .*runs= or count=.*limit="):
        world.write("large", small)
    assert not (world.folder / "large.html").exists()


def test_few_requests_are_spread_over_all(world):
    world.run("diffedit")
    world.write(settings=PageSettings(count=2, threads=1))
    (shown,) = world.read()["sets"]
    assert (shown["n"], shown["shown"]) == (6, 2)
    assert world.read("set0/requests")["ids"] == ["r0", "r3"]
    assert read_metric(world, "lpips").shape == (4, 2)


def test_a_large_picture_is_shrunk(tmp_path):
    make_benchmark(tmp_path / "b", 2, side=300)
    root = make_run(tmp_path / "runs/folder/tiny/sdedit/a", tmp_path / "b", ["r0000", "r0001"], [0.5], side=256)
    write_report(tmp_path / "report", [root], PageSettings(thumbs=64, threads=1))
    for path in (tmp_path / "report/tiles/set0").iterdir():
        assert path.stat().st_size < 20_000
        with Image.open(path) as sprite:
            assert sprite.size == (3 * 64, 2 * 64)
    with Image.open(next((tmp_path / "report/inputs/set0").iterdir())) as picture:
        assert picture.size == (256, 256)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"thumbs": 3}, "thumbs = 3: at least 16"),
        ({"count": 0}, "count = 0: at least one request"),
        ({"copy": True, "single_file": True}, "copy = true"),
    ],
)
def test_settings_without_sense_are_refused(given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        PageSettings(**given)


# -------------------------------------------------------------------------------------------------------------- parts


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_an_outline_has_every_edge_of_a_mask(rows):
    mask = np.array(rows)
    outline = trace(mask)
    edges = set()
    for x, y, kind, end in re.findall(r"M(\d+) (\d+)([HV])(\d+)", outline.path):
        start = int(x if kind == "H" else y)
        edges |= {(kind, int(y), i) if kind == "H" else (kind, int(x), i) for i in range(start, int(end))}
    padded = np.pad(mask, 1)
    expected = {("H", y, x) for y in range(len(mask) + 1) for x in range(5) if padded[y, x + 1] != padded[y + 1, x + 1]}
    expected |= {("V", x, y) for y in range(len(mask)) for x in range(6) if padded[y + 1, x] != padded[y + 1, x + 1]}
    assert edges == expected
    assert (outline.width, outline.height) == (5, len(mask))


def test_a_fine_mask_is_thinned():
    mask = np.zeros((512, 512), bool)
    mask[128:256, 128:256] = True
    assert trace(mask)[:2] == (128, 128)
    assert trace(mask).path == "M32 32H64M32 64H64M32 32V64M64 32V64"


def test_its_table_in_latex_is_that_of_diffedit_table(world):
    root = world.run("diffedit", masks=True)
    world.run("sdedit", RATIOS[:2], seed=1)
    world.write()
    (shown,) = world.read()["sets"]
    latex = shown["table"]["latex"]
    roots = sorted(root.parents[1].glob("*/*"))
    columns = tuple(head["name"] for head in shown["table"]["heads"])
    table = build_paper_table(merge_seeds(collect(roots), 1000, 0), TableSettings(columns=columns, names=NAMES))
    assert latex == render_latex(table)
    assert r"\toprule" in latex
    assert "DiffEdit & 0.3 & " in latex


def test_a_run_is_made_again_by_its_command(tmp_path):
    """The config of what the command composes is that of the run, wherever the run lies."""
    words = [
        "editor=sdedit",
        "benchmark=folder",
        "benchmark.path=it's [a, b].csv",
        "backbone=sd15",
        "backbone.path=x y",
    ]
    words = [words[0], words[1], "benchmark.path='it\\'s [a, b].csv'", words[3], "backbone.path='x y'"]
    cfg = compose("run", [*words, "ratios=[0.5,0.7]", "steps=20", "editor.guidance=3"])
    config = OmegaConf.to_container(cfg, resolve=False)
    config = {key: value for key, value in config.items() if key not in ("hydra", "runs", "name", "seeds")}
    root = tmp_path / "folder/sd15/sdedit/a"
    command = find_command(root, config)
    assert command.startswith("diffedit run benchmark=folder backbone=sd15 editor=sdedit ")
    again = compose("run", shlex.split(command)[2:])
    again = OmegaConf.to_container(again, resolve=False)
    keys = ("benchmark", "editor", "backbone", "steps", "ratios")
    was, now = (dict(flatten({key: part[key] for key in keys})) for part in (config, again))
    assert was == now
    assert find_command(tmp_path / "own/sd15/sdedit/a", config) == ""
    assert write_value({"a": [1, None, True, "b c"]}) == "{a:[1,null,true,'b c']}"


def test_requests_are_spread_over_all_kinds():
    chosen = choose_requests(192, 8)
    assert len(chosen) == 8
    assert {i % 4 for i in chosen} == {0, 1, 2, 3}  # the benchmark changes four attributes in turn
    assert choose_requests(3, 8) == [0, 1, 2]
    assert choose_requests(16, 8)[-1] < 16


def test_words_that_change_are_marked():
    assert mark_changes("a plate of pears, gray wall", "pears, dark wall") == [
        ("a plate of", "del"), ("pears,", ""), ("gray", "del"), ("dark", "ins"), ("wall", ""),
    ]  # fmt: skip
    assert mark_changes(None, "a dog") == [("a dog", "")]


# ------------------------------------------------------------------------------------------------------------ command


@pytest.fixture
def call(world, monkeypatch, capsys):
    """Calls `diffedit report` where the runs lie; returns its exit code and what it says."""
    monkeypatch.chdir(world.folder)

    def call(*words):
        with kept_log():
            code = main(["report", "threads=1", *words])
        return code, "".join(capsys.readouterr())

    return call


def test_the_command(world, call, monkeypatch):
    world.run("diffedit", masks=True)
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    for name in ("SSH_CONNECTION", "SLURM_JOB_ID", "SLURM_SUBMIT_HOST"):
        monkeypatch.delenv(name, raising=False)
    code, told = call("open=true")
    assert code == 0, told
    assert "report/index.html" in told
    assert opened == [(world.folder / "report/index.html").as_uri()]
    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4 5 6.7.8.9 22")
    code, told = call("open=true", "runs=[runs/folder/tiny/diffedit/*,runs/*/*/*/*]")
    assert f":{world.folder}/report .\n" in told
    assert len(opened) == 1
    assert len(world.read()["sets"][0]["runs"]) == 1


def test_the_command_tells_what_it_could_not_show(world, call):
    root = world.run("diffedit")
    (root / "images/0.5/r2.png").unlink()
    code, told = call()
    assert code == 1
    assert "1 things could not be shown; the page lists them" in told
    assert (world.folder / "report/index.html").is_file()
    (world.folder / "site").mkdir()
    (world.folder / "site/index.html").write_text("mine")
    code, told = call("out=site")
    assert (code, "did not write the index.html there" in told) == (2, True)
    assert (world.folder / "site/index.html").read_text() == "mine"
    code, told = call("single_file=true", "limit=0.01", "out=page")
    assert (code, "more than limit = 0.01" in told) == (2, True)


def test_the_command_compares_two_reports(world, call, two_reports):
    code, told = call("runs=[A/*/*/*/*,B/*/*/*/*]", "paired=true")
    assert code == 0, told
    assert len(world.read()["sets"][0]["compared"]) == 12
    code, told = call("runs=A/*/*/*/*", "paired=true")
    assert (code, "two are compared: runs=[A,B]" in told) == (2, True)
    code, told = call("runs=[A/*/*/*/*,A/*/*/sdedit/*]", "paired=true")
    assert (code, "is in both globs" in told) == (2, True)


def test_the_line_that_copies_a_page(tmp_path):
    line = name_copy(tmp_path / "my report" / "index.html", {"USER": "ann", "SLURM_SUBMIT_HOST": "login1"})
    assert line == f"scp -r 'ann@login1:{tmp_path}/my report' ."
    assert name_copy(tmp_path / "a.html", {"SLURM_SUBMIT_HOST": "h"}) == f"scp -r h:{tmp_path}/a.html ."


def test_where_there_is_no_browser_the_place_is_printed(tmp_path, monkeypatch, capsys):
    for name in ("SSH_CONNECTION", "SLURM_JOB_ID", "SLURM_SUBMIT_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    show(tmp_path / "index.html")
    assert f"open {tmp_path / 'index.html'}" in capsys.readouterr().out
