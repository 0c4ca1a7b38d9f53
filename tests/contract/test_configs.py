"""Contract: every yaml composes, and every editor runs on the exact model. New files join by themselves."""

import inspect
from dataclasses import MISSING, fields
from pydoc import locate

import pytest
import torch
from helpers import CONF, composed, names
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from diffedit.commands.launchers import Here
from diffedit.commands.plot import DRAWN
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.background import Reconstruct
from diffedit.stages.pipeline import build_pipeline
from diffedit.stages.rank import Rank
from diffedit.types import Editor, EditRequest
from eval.reporting.loggers import Logger
from eval.reporting.tables import pivot_published, read_published
from eval.scoring.metric import Metric

RATIOS = [0.3, 1.0]


def run(*overrides):
    """Compose, instantiate, and edit two requests (one with a source, both with a mask) on the exact model."""
    cfg = composed("benchmark=folder", "benchmark.path=none", *overrides)
    editor, backbone = (instantiate(cfg[key], _convert_="all") for key in ("editor", "backbone"))
    assert isinstance(editor, Editor)
    mask = torch.zeros(1, 16, 16)
    mask[0, 4:12, 4:12] = 1
    image = backbone.decode(backbone.means[0, 0][None])[0]
    settings = {"mask": lambda: mask, "true_mask": lambda: mask, "true_edit": lambda: 1 - image}
    settings["retrieved"] = lambda: image.flip(2)
    requests = [
        EditRequest(str(i), lambda: image, "pear", source, **settings) for i, source in enumerate(("apple", None))
    ]
    schedule = backbone.schedule(10)
    programs = [
        (request.id, editor(request, RATIOS, schedule, RequestNoise(cfg.seed, request.id))) for request in requests
    ]
    outcomes = list(Engine(backbone, BatchSizes(), progress=False).run(programs))
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        assert [edit.variant.strength for edit in outcome.result.edits] == RATIOS
        assert [edit.level for edit in outcome.result.edits] == [3, 10]
        assert all(edit.image.shape == (3, 16, 16) for edit in outcome.result.edits)
        assert all(edit.image.min() >= 0 and edit.image.max() <= 1 for edit in outcome.result.edits)
        copies = all(torch.equal(edit.image, image) for edit in outcome.result.edits)
        assert copies == (overrides in (("editor=copy",), ("editor=round_trip",)))  # the exact model has no autoencoder
    return outcomes


@pytest.mark.parametrize("editor", names("editor"))
def test_every_editor_runs_on_the_exact_model(editor):
    run(f"editor={editor}")


@pytest.mark.parametrize("mask", names("editor/mask"))
def test_every_mask(mask):
    run("editor=diffedit", f"editor/mask={mask}")


@pytest.mark.parametrize("mask", ["given", "oracle", "everywhere"])
def test_sdedits_masks(mask):
    run("editor=sdedit", f"editor/mask={mask}")


@pytest.mark.parametrize("outliers", names("editor/mask/outliers"))
@pytest.mark.parametrize("threshold", names("editor/mask/threshold"))
def test_every_rule(outliers, threshold):
    run(f"editor/mask/outliers={outliers}", f"editor/mask/threshold={threshold}")


@pytest.mark.parametrize("backbone", names("backbone"))
def test_every_backbone_composes(backbone):
    cfg = composed(f"backbone={backbone}", "benchmark=folder", "benchmark.path=none")
    assert cfg.backbone._target_.startswith("diffedit.backbones.")


@pytest.mark.parametrize("benchmark", names("benchmark"))
def test_every_benchmark_composes(benchmark):
    target = composed(f"benchmark={benchmark}").benchmark._target_
    assert target.startswith(("eval.benchmarks.", "eval.stilllife."))


@pytest.mark.parametrize("grammar", names("benchmark/grammar"))
def test_every_grammar_makes_a_benchmark(grammar):
    benchmark = instantiate(composed("benchmark=generated", f"benchmark/grammar={grammar}").benchmark, _convert_="all")
    assert len(benchmark) == len(benchmark.grammar)


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_composes_for_each_of_its_editors(experiment):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("run", [f"experiment={experiment}"], return_hydra_config=True)
        assert cfg.hydra.mode.name == "MULTIRUN"
        editors = cfg.hydra.sweeper.params.editor.split(",")
        assert set(editors) <= set(names("editor"))
        for editor in editors:
            run_cfg = compose("run", [f"experiment={experiment}", f"editor={editor}"])
            build_pipeline(run_cfg)
            is_other = run_cfg.editor._target_ != cfg.editor._target_
            assert is_other or editor.startswith("diffedit") or editors == [editor]


@pytest.mark.parametrize("table", names("table"))
def test_every_table_composes_and_its_published_rows_are_there(table):
    """By Still Life's networks: the weights of photographs' are not here."""
    cfg = composed(f"table={table}", "networks=stilllife", name="score", backbone=False)
    scores = {name for metric in cfg.metric.values() for name in instantiate(metric, _convert_="all").higher_is_better}
    assert set(cfg.columns) <= scores
    if cfg.published:
        published = read_published(CONF.parent / cfg.published)
        assert set(published.metric) <= scores
        assert published.source.str.len().min() > 10


@pytest.mark.parametrize("figure", names("figure"))
def test_every_figure_composes_and_its_pairs_are_scored_and_published(figure):
    cfg = composed(f"figure={figure}", name="plot", backbone=False)
    if cfg.draw != "tradeoff":  # of what is not scored
        assert cfg.draw in DRAWN
        assert cfg.published is None
        return
    table = composed(f"table={figure}", name="score", backbone=False)
    pairs = [{x, y} for x in ([cfg.x] if isinstance(cfg.x, str) else cfg.x) for y in cfg.y]
    assert cfg.runs == table.runs
    assert cfg.published == table.published
    assert set().union(*pairs) | {cfg.match, *cfg.compare} <= set(table.columns)
    for pair in pairs if cfg.published else ():
        assert not pivot_published(read_published(CONF.parent / cfg.published))[[*pair]].dropna().empty


def test_every_group_is_under_contract():
    groups = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")} - {"."}
    masks = {"editor/mask", "editor/mask/outliers", "editor/mask/threshold"}
    covered = {"backbone", "benchmark", "editor", "metric", "training", "rank", "reconstruct", "experiment", "table"}
    covered |= {"networks", "logger", "figure", "benchmark/grammar", "launcher", "names"}
    assert groups == covered | masks


@pytest.mark.parametrize("group", names("names"))
def test_every_name_is_of_a_method_a_metric_or_a_benchmark(group):
    shown = composed(f"names={group}", name="plot", backbone=False).names
    assert shown == composed(f"names={group}", name="paper_table", backbone=False).names
    score = composed(f"metric=[{','.join(names('metric'))}]", name="score", backbone=False)
    columns = {
        column for metric in score.metric.values() for column in instantiate(metric, _convert_="all").higher_is_better
    }
    assert set(shown) <= {*names("editor"), *names("benchmark"), *columns}


@pytest.mark.parametrize("metric", names("metric"))
def test_every_metric_is_one_and_says_which_way_is_better(metric):
    cfg = composed(f"metric=[{metric}]", name="score", backbone=False).metric
    assert list(cfg) == [metric]
    built = instantiate(cfg[metric], _convert_="all")
    assert isinstance(built, Metric)
    assert set(built.higher_is_better.values()) <= {True, False}
    assert built.fingerprint() == instantiate(cfg[metric], _convert_="all").fingerprint()


@pytest.mark.parametrize("group", names("networks"))
def test_every_network_has_the_settings_of_its_class(group):
    """Without making it: the weights of photographs' networks are not here."""
    cfg = composed(f"networks={group}", "metric=[lpips]", name="score", backbone=False).networks
    assert set(cfg) == {"fid", "csfid", "kid", "lpips", "clip", "cmmd", "classifier", "structure"}
    for name in cfg:
        settings = OmegaConf.to_container(cfg[name], resolve=True)
        network_class = locate(settings.pop("_target_"))
        parameters = inspect.signature(network_class).parameters
        assert set(settings) == set(parameters), name
        if group == "stilllife":
            defaults = {
                key: parameter.default for key, parameter in parameters.items() if key not in ("output", "path")
            }
            assert {key: settings[key] for key in defaults} == defaults


def test_weights_that_are_not_there_stop_before_any_work(monkeypatch, tmp_path):
    """The message names the file and the place, whatever the network."""
    for name in ("TORCH_HOME", "HF_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cfg = composed("networks=photographs", "metric=[lpips,fid]", name="score", backbone=False)
    for metric, file in (("lpips", "alexnet-owt-7be5be79.pth"), ("fid", "inception-2015-12-05.pt")):
        with pytest.raises(InstantiationException, match=rf"networks\.{metric}\.weights.*{file}"):
            instantiate(cfg.metric[metric], _convert_="all")


@pytest.mark.parametrize("name", names("logger"))
def test_every_logger_is_one(name):
    cfg = composed(f"logger={name}", name="score", backbone=False).logger
    assert isinstance(instantiate(cfg), Logger)


@pytest.mark.parametrize("name", names("launcher"))
def test_every_launcher_lists_its_settings_with_their_defaults(name):
    cfg = composed(f"launcher={name}").launcher
    built = instantiate(cfg, _convert_="all")
    assert isinstance(built, Here) or callable(built.start)
    assert set(cfg) - {"_target_"} == set(vars(built))
    assert built == type(built)()


def test_reference_statistics_compose():
    cfg = composed("out=elsewhere", name="reference_stats", backbone=False)
    assert set(cfg.extractors) <= set(cfg.networks)


@pytest.mark.parametrize("name", names("reconstruct"))
def test_every_reconstruction_is_one(name):
    cfg = composed("benchmark=folder", "benchmark.path=none", f"reconstruct={name}")
    built = instantiate(cfg.reconstruct, _convert_="all")
    assert isinstance(built, Reconstruct)
    assert built == type(built)()
    assert set(cfg.reconstruct) - {"_target_"} == set(vars(built))


@pytest.mark.parametrize("name", names("rank"))
def test_every_ranking_is_one(name):
    cfg = composed("benchmark=folder", "benchmark.path=none", f"rank={name}")
    assert isinstance(instantiate(cfg.rank, _convert_="all"), Rank)


@pytest.mark.parametrize("editor", names("editor"))
def test_a_yaml_lists_every_field_of_its_class_with_its_default(editor):
    """What a user sees in the yaml is what there is."""
    cfg = composed(f"editor={editor}", "benchmark=folder", "benchmark.path=none")
    built = instantiate(cfg.editor, _convert_="all")
    settings = OmegaConf.to_container(cfg.editor)
    assert set(settings) - {"_target_"} == set(vars(built))
    if "_target_" in (CONF / f"editor/{editor}.yaml").read_text():  # the others are presets
        needed = [field.name for field in fields(built) if field.default is MISSING]
        assert built == type(built)(**{name: getattr(built, name) for name in needed})


def test_edit_has_the_settings_of_a_run_and_no_texts():
    """Texts and names of files are options of the command: they never pass the grammar of overrides."""
    one, run = composed(name="edit"), composed()
    assert {"image", "target", "source", "mask", "out"}.isdisjoint(one)
    for key in ("samples", "ratios", "steps", "seed", "editor", "backbone"):
        assert one[key] == run[key]
