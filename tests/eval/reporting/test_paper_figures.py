"""The paper's figures: overlays, published points in our units, and how a plot shows both."""

import logging
from fnmatch import fnmatch

import pandas as pd
import pytest
from helpers import CONF, call, composed, names, said
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from diffedit.runs.names import name_run, register_resolvers, slugify
from diffedit.stages.pipeline import build_pipeline
from diffedit.types import UNEDITED, Variant
from eval.reporting.curves import draw_curves, plot_pairs
from eval.reporting.figures import FigureSettings
from eval.reporting.tables import name_methods, pivot_published, read_published

register_resolvers()

TABLES = CONF / "table"
STILLLIFE = ["benchmark=stilllife_classes", "backbone=stilllife"]


# ----------------------------------------------------------------------------------------------------------- overlays


def compose_jobs(experiment, *overrides):
    """The configs of a sweep's runs by what their directories are called, as Hydra's sweeper makes them."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        swept = compose("run", [f"experiment={experiment}"], return_hydra_config=True).hydra.sweeper.params
        sweeps = [[]]
        for key, values in swept.items():
            sweeps = [[*sweep, f"{key}={value}"] for sweep in sweeps for value in str(values).split(",")]
        for sweep in sweeps:
            cfg = compose("run", [*sweep, f"experiment={experiment}", *overrides], return_hydra_config=True)
            yield name_run(cfg.hydra.job.override_dirname, cfg.benchmark._target_), cfg


def test_proposition_1_takes_the_runs_of_its_editor_unscored():
    (_, cfg), *others = compose_jobs("proposition1")
    assert not others
    runs = composed("figure=proposition1", name="plot", backbone=False).runs
    choices = cfg.hydra.runtime.choices
    assert fnmatch(f"runs/{choices.benchmark}/{choices.backbone}/{choices.editor}/any", runs)
    assert not fnmatch(f"runs/{choices.benchmark}/{choices.backbone}/diffedit/any", runs)
    head = (CONF / "experiment/proposition1.yaml").read_text()
    assert "diffedit plot figure=proposition1" in head
    assert "diffedit score" not in head


@pytest.mark.parametrize("figure", [name for name in names("figure") if name != "proposition1"])
def test_an_experiment_its_table_and_its_figure_fit_by_name(figure):
    """Also where the benchmark's files have long names: those are not part of a run's."""
    keys = {"coco": ("images", "bison", "captions"), "imag": ("images", "queries", "classes")}.get(figure[:4], ())
    files = [f"benchmark.{key}=/a/long/way/to/where/the/files/of/it/lie" for key in keys]
    name, cfg = next(compose_jobs(figure, *files))
    assert f"experiment={figure}" in name.split(",")
    assert cfg.steps == 50
    sd15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    others = {"coco": sd15, "gene": sd15, "refe": "weights/stilllife"}  # the others are of ImageNet
    assert cfg.backbone.path == others.get(figure[:4], "models/cin256-v2")
    runs = composed(f"figure={figure}", name="plot", backbone=False).runs
    matched = [
        other
        for other in names("experiment")
        if fnmatch(f"runs/{cfg.hydra.runtime.choices.benchmark}/b/c/experiment={other},steps=4", runs)
    ]
    assert set(matched) - {f"{figure}_bounds"} == {figure}
    head = (CONF / f"experiment/{figure}.yaml").read_text()
    assert f"diffedit score table={figure}" in head
    assert f"diffedit plot figure={figure}" in head


@pytest.mark.parametrize("experiment", ["imagenet_thresholds", "ablation_extremes", "generated_reference_text"])
def test_the_command_line_wins_over_an_overlay(experiment):
    """Its twin on Still Life, with other settings, whose editors and benchmark can be made."""
    for name, cfg in compose_jobs(experiment, *STILLLIFE, "benchmark.per_class=1", "steps=4"):
        assert name.endswith(f"experiment={experiment},steps=4")
        assert (cfg.steps, cfg.backbone.path) == (4, "weights/stilllife")
        assert len(instantiate(cfg.benchmark, _convert_="all")) == 12
        build_pipeline(cfg)


def test_the_command_line_wins_over_a_table_and_a_figure():
    table = composed("table=coco_tradeoff", name="score", backbone=False)
    assert table.networks.lpips.net == "alex"  # photographs'
    table = composed(
        "table=coco_tradeoff", "networks=stilllife", "metric=[lpips]", "published=a.csv", name="score", backbone=False
    )
    assert table.networks.lpips.path == "weights/stilllife_features"
    assert list(table.metric) == ["lpips"]
    assert table.published == "a.csv"
    figure = composed("figure=coco_tradeoff", "published=null", "x=lpips", "match_at=[]", name="plot", backbone=False)
    assert (figure.published, figure.x, figure.match_at) == (None, "lpips", [])


def test_the_guidance_of_an_overlay_is_a_default():
    assert {cfg.editor.guidance for _, cfg in compose_jobs("imagenet_tradeoff")} == {5.0}
    assert [cfg.editor.guidance for _, cfg in compose_jobs("ablation_guidance")] == [1, 2, 3, 5, 7.5]
    assert next(compose_jobs("imagenet_tradeoff", "editor.guidance=3"))[1].editor.guidance == 3


def test_filtered_coco_has_its_limit_and_a_twin():
    assert next(compose_jobs("coco_filtered"))[1].benchmark.max_changed == 0.25
    twin = ["benchmark=stilllife_scenes", "backbone=stilllife", "~benchmark.max_changed"]
    instantiate(next(compose_jobs("coco_filtered", *twin))[1].benchmark, _convert_="all")


def test_generated_pictures_have_a_twin():
    name, cfg = next(compose_jobs("generated_reference_text", "benchmark=stilllife_generated", "backbone=stilllife"))
    assert name == "experiment=generated_reference_text"
    assert len(instantiate(cfg.benchmark, _convert_="all")) == 384


def test_flexits_resolution_is_measured_where_its_values_stand_beneath():
    for table in names("table"):
        cfg = composed(f"table={table}", name="score", backbone=False)
        assert cfg.resolution == (256 if table.startswith(("imagenet", "ablation")) else None)


@pytest.mark.parametrize("experiment", names("experiment"))
def test_a_name_keeps_what_is_swept_beside_what_a_device_wants(experiment):
    more = ["backbone.dtype=float16", "backbone.path=/data/models/sd15", "engine.batch.predict=64"]
    runs = [name for name, _ in compose_jobs(experiment, *more)]
    assert all(f"experiment={experiment}" in name for name in runs)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        swept = compose("run", [f"experiment={experiment}"], return_hydra_config=True).hydra.sweeper.params
    for key, values in swept.items():
        every = str(values).split(",")
        for value in every if key != "editor" else ():
            assert sum(f"{slugify(f'{key}={value}')}," in f"{name}," for name in runs) == len(runs) / len(every)


def test_a_long_name_keeps_the_experiment():
    name = slugify("benchmark.limit=100,editor.mask.outliers.q=0.97,editor.mask.blur=1.5,experiment=coco_tradeoff," * 3)
    assert name.startswith("experiment=coco_tradeoff,")
    assert len(name) < 201


def test_reference_texts_are_left_out_by_name():
    (with_text, without) = (cfg.editor for name, cfg in list(compose_jobs("coco_tradeoff"))[:2])
    assert (with_text.reference, without.reference) == ("auto", "empty")


@pytest.mark.slow
def test_three_commands_give_the_figure(tmp_path):
    """experiment, table and figure of one name, shrunk, on Still Life."""
    small = ["benchmark.per_class=1", "steps=4", "ratios=[0.5,1.0]", "editor=encode_decode,sdedit"]
    done = call("run.py", "experiment=imagenet_tradeoff", *STILLLIFE, *small, f"runs={tmp_path}/runs")
    assert done.returncode == 0, said(done)
    roots = sorted(path.parent for path in tmp_path.rglob("manifest.parquet"))
    name = "benchmark.per_class=1,experiment=imagenet_tradeoff,ratios=0.5,1.0,steps=4"
    folder = tmp_path / "runs/stilllife_classes/stilllife"
    assert roots == [folder / editor / name for editor in ("encode_decode", "sdedit")]
    runs = f"runs={tmp_path}/runs/*/*/*/*imagenet_tradeoff*"
    overrides = [f"cache={tmp_path}/cache", "resamples=50", "networks=stilllife", "resolution=null"]
    scored = call("score.py", "table=imagenet_tradeoff", runs, *overrides)
    assert scored.returncode == 0, said(scored)
    for words in ("encode_decode", "DiffEdit (published)", "40.2", "published: FlexIT's table (Couairon et al. 2022)"):
        assert words in said(scored)
    drawn = call("plot.py", "figure=imagenet_tradeoff", runs, f"out={tmp_path}/plots", "match_at=[1.0]")
    assert drawn.returncode == 0, said(drawn)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"stilllife_classes_stilllife_csfid_over_lpips.{ending}" for ending in ("png", "pdf", "svg")
    }


# ---------------------------------------------------------------------------------------------------- published points

PAIRS = {
    "imagenet_tradeoff": [("lpips", "csfid", 34)],
    "imagenet_thresholds": [("lpips", "csfid", 14)],
    "coco_tradeoff": [("lpips", "clip_score", 12), ("fid", "clip_score", 12)],
    "generated_reference_text": [("clip_score", "fid", 17)],
}


SUMS = {  # of all x, of all y
    ("coco", "fid", "clip_score"): (372.7, 351.11),
    ("coco", "lpips", "clip_score"): (3.617, 351.11),
    ("generated", "clip_score", "fid"): (503.99, 645.9),
    ("imagenet", "lpips", "csfid"): (14.744, 1744.1),
}


def read(table):
    return read_published(TABLES / f"{table}.csv")


PUBLISHED = read("imagenet_tradeoff")


def test_every_digitised_point_is_there_in_our_units():
    """84, for DiffEdit's own curve is also that of the threshold 0.5."""
    points = set()
    for table, pairs in PAIRS.items():
        for x, y, count in pairs:
            rows = pivot_published(read(table)).reindex(columns=[x, y]).dropna()
            assert len(rows) == count
            points |= {((table.split("_")[0], x, y), *row) for row in rows.itertuples(index=False)}
    assert len(points) == 84
    for pair, totals in SUMS.items():
        rows = [row for kind, *row in points if kind == pair]
        assert [sum(column) for column in zip(*rows, strict=True)] == pytest.approx(totals)


def test_values_as_the_paper_has_them():
    points = pivot_published(read("imagenet_tradeoff")).set_index("method")
    curve = points.loc["DiffEdit"]
    assert curve.lpips.tolist() == [0.181, 0.211, 0.251, 0.299, 0.342]
    assert curve.csfid.tolist() == [40.2, 34.2, 28.7, 24.4, 23.7]
    assert curve.ratio.fillna(0).tolist() == [0.5, 0.6, 0, 0, 0.9]  # where it was printed
    assert set(curve.editor) == {"diffedit"}
    assert points.loc["ILVR", "editor"].tolist() == [""] * 5
    assert points.loc["Copy, FlexIT's table", ["lpips", "csfid", "sfid"]].tolist() == [0, 106, 0.2]
    coco = pivot_published(read("coco_tradeoff"))
    assert coco.iloc[0][["lpips", "fid", "clip_score", "ratio"]].tolist() == [0.084, 28.8, 27.5, 0.4]
    thresholds = pivot_published(read("imagenet_thresholds")).set_index("editor")
    assert thresholds.loc["diffedit (editor.mask.threshold.value=0.75)"].lpips.iloc[0] == 0.114
    same = thresholds.loc["diffedit (editor.mask.threshold.value=0.5)"]
    assert same.csfid.tolist() == curve.csfid.tolist()


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("a,lpips,high,b,1", "line 3: value is no number"),
        ("a,lpips,,b,1", "line 3: no value"),
        ("a,lpips,inf,b,1", "line 3: value is no number"),
        ("a,,1,b,2", "line 3: no metric"),
        ("a,lpips,1,,2", "line 3: no source"),
        ("a,lpips,1,b,one", "line 3: point is no number"),
        ("a,lpips,1,b,1", "line 3: a metric that this point of the method has already"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, fault):
    (tmp_path / "a.csv").write_text(f"method,metric,value,source,point\na,lpips,1,b,1\n{row}\n")
    with pytest.raises(ValueError, match=rf"a\.csv, {fault}"):
        read_published(tmp_path / "a.csv")


# --------------------------------------------------------------------------------------------------------------- plots


def scores(*runs, scale=1.0):
    """Scores of runs (editor, name, [(ratio, lpips, csfid)]), and of the inputs."""
    rows = []
    for editor, name, values in [*runs, ("copy", "", [(None, 0.0, 106.0 * scale)])]:
        for ratio, *numbers in values:
            variant = UNEDITED if ratio is None else Variant(ratio)
            run, is_bound = f"runs/{editor}/{name}" if name else "", editor in ("copy", "mean_colour")
            for metric, value in zip(("lpips", "csfid"), numbers, strict=True):
                key = editor, name, run, is_bound, str(variant), ratio, metric
                rows.append((*key, value, value - 0.01, value + 0.01))
    columns = ["editor", "name", "run", "is_bound", "variant", "strength", "metric", "value", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns).astype({"strength": float})
    shared = {"benchmark": "imagenet", "backbone": "sd15", "set": "s", "version": "1", "n": 4, "made_by": "m"}
    return frame.assign(**shared, higher_is_better=False)


CURVE = [(0.5, 0.2, 45.0), (0.7, 0.3, 30.0), (0.9, 0.4, 25.0)]


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def inside(axes):
    """Whether every point of every line is to be seen."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    drawn = [point for line in lines(axes).values() for point in line.get_xydata()]
    return all(left <= x <= right and low <= y <= high for x, y in drawn if x > 0 or y > 0)


def test_published_points_lie_hollow_beneath_in_the_colour_of_their_runs():
    runs = scores(("sdedit", "default", CURVE), ("diffedit", "default", CURVE))
    figure = draw_curves(runs, "lpips", "csfid", "a", PUBLISHED, FigureSettings(width=12))  # labels have room
    (axes,) = figure.axes
    drawn = lines(axes)
    for run, published in (("diffedit", "DiffEdit (published)"), ("sdedit", "SDEdit (published)")):
        assert drawn[published].get_color() == drawn[run].get_color()
        assert drawn[published].get_markerfacecolor() == "none"
        assert drawn[published].get_linestyle() == "--"
        assert drawn[published].get_linewidth() < drawn[run].get_linewidth()
        assert drawn[published].get_zorder() < drawn[run].get_zorder()
    used = {drawn[name].get_color() for name in ("diffedit", "sdedit", "ILVR (published)", "FlexIT (published)")}
    assert len(used) == 4
    assert drawn["DiffEdit (published)"].get_xydata().tolist()[0] == [0.181, 40.2]
    assert drawn["Copy, FlexIT's table (published)"].get_marker() == drawn["copy"].get_marker()
    beside = [text.get_text() for text in axes.texts if text.xy == (0.181, 40.2)]
    assert beside == ["0.5"]
    assert not [text for text in axes.texts if text.xy == (0.251, 28.7)]  # the paper prints no ratio there
    assert "published (hollow): ImageNet, class-conditional LDM 256" in axes.get_title()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(legend) == set(drawn)
    assert inside(axes)


def test_axes_may_be_swapped():
    (axes,) = draw_curves(scores(("diffedit", "default", CURVE)), "csfid", "lpips", "a", PUBLISHED).axes
    assert lines(axes)["DiffEdit (published)"].get_xydata().tolist()[0] == [40.2, 0.181]


@pytest.mark.parametrize(("far", "scale"), [(1.0, 0.02), (5.0, 1.0)])
def test_another_scale_gets_a_panel_of_its_own(far, scale):
    """Still Life's networks have other distances: common axes would have a blot, or two heaps apart."""
    other = [(ratio, far * x, scale * y) for ratio, x, y in CURVE]
    runs = scores(("diffedit", "default", other), scale=scale)
    run_panel, other_panel = draw_curves(runs, "lpips", "csfid", "a", PUBLISHED).axes
    assert set(lines(run_panel)) == {"diffedit", f"copy: 0, {106 * scale:.4g} (beyond)"}
    assert set(lines(other_panel)) == {f"{name} (published)" for name in PUBLISHED.method}
    assert lines(other_panel)["DiffEdit (published)"].get_color() == lines(run_panel)["diffedit"].get_color()
    assert "published" in other_panel.get_title()
    assert "published" not in run_panel.get_title()
    assert inside(run_panel)
    assert inside(other_panel)


def test_thresholds_have_the_colours_of_their_runs():
    runs = [("diffedit", f"editor.mask.threshold.value={value},experiment=a", CURVE) for value in (0.25, 0.5, 0.75)]
    (axes,) = draw_curves(scores(*runs), "lpips", "csfid", "a", read("imagenet_thresholds")).axes
    drawn = lines(axes)
    for value in ("0.25", "0.5", "0.75"):
        run, published = f"diffedit (editor.mask.threshold.value={value})", f"DiffEdit, threshold {value} (published)"
        assert drawn[run].get_color() == drawn[published].get_color()


def test_a_pair_that_nobody_published_is_plotted_without_and_said(tmp_path, caplog):
    runs, names = scores(("diffedit", "default", CURVE)), ("imagenet", "sd15")
    with pytest.raises(KeyError, match="no published point has lpips and csfid; there are clip_score, fid, lpips"):
        draw_curves(runs, "lpips", "csfid", "", read("coco_tradeoff"))
    with caplog.at_level(logging.INFO):
        paths = plot_pairs(runs, ["lpips"], ["csfid", "fid"], names, tmp_path, read("coco_tradeoff"))
    assert "nothing published of csfid over lpips" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {
        f"imagenet_sd15_csfid_over_lpips.{x}" for x in ("png", "pdf", "svg")
    }
    assert set(paths) == set(tmp_path.iterdir())
    with caplog.at_level(logging.INFO):
        assert plot_pairs(runs, ["lpips"], ["fid"], names, tmp_path) == []
    assert "imagenet, sd15: no plot: fid over lpips was not scored; there are csfid, lpips" in caplog.text


def test_a_bound_of_ones_own_has_a_mark_and_no_line():
    """Nothing lists it but its editor's `is_bound`."""
    runs = scores(("diffedit", "default", CURVE), ("mean_colour", "default", [(0.5, 0.3, 40.0), (0.9, 0.3, 40.0)]))
    (axes,) = draw_curves(runs, "lpips", "csfid").axes
    bound = lines(axes)["mean_colour"]
    assert (bound.get_marker(), bound.get_linestyle()) == ("P", "None")
    assert bound.get_xydata().tolist() == [[0.3, 40.0]]


@pytest.mark.parametrize(
    ("given", "called"),
    [
        (["a=1,experiment=x", "a=2,experiment=x"], ["diffedit (a=1)", "diffedit (a=2)"]),
        (["experiment=x", "experiment=x,steps=4"], ["diffedit", "diffedit (steps=4)"]),
        (["a=0.3,0.5,steps=4", "a=0.3,0.9,steps=4"], ["diffedit (a=0.3,0.5)", "diffedit (a=0.3,0.9)"]),
        (["default", "a=1"], ["diffedit (default)", "diffedit (a=1)"]),
    ],
)
def test_methods_are_called_by_what_tells_them_apart(given, called):
    frame = scores(*(("diffedit", name, CURVE) for name in given))
    assert list(dict.fromkeys(name_methods(frame[frame.editor == "diffedit"]))) == called
