"""Loggers list their settings, and TensorBoard's files carry the scores, pictures and HParams over as they are."""

import logging
import sys
from pathlib import Path

import pandas as pd
import pytest
from hydra.utils import instantiate
from made_report import make_benchmark, make_run
from omegaconf import OmegaConf

from diffedit.types import Variant
from eval.reporting.collect import collect
from eval.reporting.loggers import Logger, NoLogger, PageLogger, Tensorboard, Wandb
from eval.reporting.loggers.tensorboard import list_hparams, pick_samples, read_variant

ROOT = Path(__file__).parents[3]
IDS = ["b", "a/z", "a/b"]
RATIOS = [0.3, 1.0]
MORE = {"editor": {"_target_": "a.B", "guidance": 7.5, "exact": True, "spans": [1, 2]}, "engine": {"threads": 2}}


@pytest.fixture
def runs(tmp_path):
    make_benchmark(tmp_path / "b", 3, ids=IDS)
    places = "copy/default", "diffedit/editor.guidance=7.5"
    roots = [tmp_path / "runs/scenes/tiny" / place for place in places]
    return [make_run(root, tmp_path / "b", IDS, RATIOS, seed=i, **MORE) for i, root in enumerate(roots)]


def scored(runs):
    table = collect(runs)
    return table[table.run != ""]


def test_samples_are_the_first_ids_at_the_largest_strength(runs, tmp_path):
    assert pick_samples(runs[0], 2) == [runs[0] / "images/1/a%2Fb.png", runs[0] / "images/1/a%2Fz.png"]
    assert len(pick_samples(runs[0], 8)) == 3
    assert pick_samples(tmp_path, 8) == []
    for variant in (Variant(2.0, "guidance"), Variant(10.0, "guidance")):
        folder = tmp_path / "images" / variant.folder
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
        assert read_variant(folder) == variant
    assert pick_samples(tmp_path, 8) == [folder / "a.png"]


@pytest.mark.parametrize(("name", "logger"), [("none", NoLogger), ("wandb", Wandb), ("tensorboard", Tensorboard)])
def test_a_yaml_lists_every_field_with_its_default(name, logger):
    settings = OmegaConf.load(ROOT / f"conf/logger/{name}.yaml")
    built = instantiate(settings, _convert_="all")
    assert isinstance(built, Logger)
    assert isinstance(built, PageLogger) == (name != "tensorboard")
    assert built == logger()
    assert set(settings) - {"_target_"} == set(vars(built))


def test_no_logger_does_nothing(runs, tmp_path):
    assert NoLogger().log(scored(runs)) == NoLogger().log_page(tmp_path / "index.html", runs, {}) == []


@pytest.mark.parametrize(
    ("logger", "module", "package"),
    [(Wandb(), "wandb", "wandb"), (Tensorboard(), "torch.utils.tensorboard", "tensorboard")],
)
def test_a_missing_package_is_named(runs, monkeypatch, logger, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'needs {package}: pip install "diffedit\[{package}\]"; or use logger=none'):
        logger.log(scored(runs))


# ------------------------------------------------------------------------------------------------------- tensorboard


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_tensorboard_has_scores_pictures_and_the_config(runs):
    scores = scored(runs)
    scores.loc[(scores.metric == "accuracy") & (scores.strength == 0.3), "value"] = None
    for _ in range(2):  # a second call replaces
        folders = Tensorboard(samples=2).log(scores)
        assert folders == [run / "tensorboard" for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        assert len(list(folder.iterdir())) == 1
        logged = events(folder)
        lpips = scores[(scores.run == str(run)) & (scores.metric == "lpips")]
        for name, column in {"lpips": "value", "lpips/low": "low", "lpips/high": "high"}.items():
            scalars = logged.Scalars(name)
            assert [event.step for event in scalars] == [30, 100]
            assert [event.value for event in scalars] == pytest.approx(list(lpips[column]))
        assert [event.step for event in logged.Scalars("accuracy")] == [100]
        assert set(logged.Tags()["images"]) == {"samples/a/b", "samples/a/z"}
        (picture,) = logged.Images("samples/a/z")
        assert (picture.step, picture.width, picture.height) == (100, 16, 16)
        (text,) = logged.Tensors("config/text_summary")
        assert (run / "config.yaml").read_text() in text.tensor_proto.string_val[0].decode()


def test_tensorboard_in_a_folder_leaves_other_files_alone(runs, tmp_path, caplog):
    scores = scored(runs)
    other = tmp_path / "logs/scenes/tiny/copy/default/events.out.tfevents.1.host"
    other.parent.mkdir(parents=True)
    other.touch()
    folders = Tensorboard(folder=str(tmp_path / "logs")).log(scores)
    assert folders == [other.parent, tmp_path / "logs/scenes/tiny/diffedit/editor.guidance=7.5"]
    assert other.exists()
    close = pd.concat([scores, scores[scores.strength == 0.3].assign(strength=0.301)])
    with caplog.at_level(logging.WARNING):
        Tensorboard().log(close)
    assert "some fall together" in caplog.text


def test_hparams_are_the_settings_that_decide_a_result():
    config = MORE | {"seed": 3, "runs": "elsewhere", "name": "n", "refine": None}
    assert list_hparams(["b", "m", "e", "n"], config) == {
        **{"benchmark": "b", "backbone": "m", "editor": "e", "name": "n", "seed": 3},
        **{"editor._target_": "a.B", "editor.guidance": 7.5, "editor.exact": True},
    }


def test_tensorboard_joins_the_hparams_of_runs_that_were_logged_one_by_one(runs, tmp_path):
    """As its own dashboard asks for them."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS, ListSessionGroupsRequest
    from tensorboard.plugins.hparams.backend_context import Context
    from tensorboard.plugins.hparams.list_session_groups import Handler

    scores, logs = scored(runs), str(tmp_path / "logs")
    first, second = (scores[scores.run == str(run)] for run in runs)
    Tensorboard(folder=logs).log(first[first.metric == "lpips"])
    Tensorboard(folder=logs).log(second)
    multiplexer = EventMultiplexer().AddRunsFromDirectory(logs)
    multiplexer.Reload()
    backend, asked = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, logs))), RequestContext()
    found = backend.hparams_metadata(asked, "")
    experiment = backend.experiment_from_metadata(asked, "", True, found, [])
    names = {info.name for info in experiment.hparam_infos}
    assert {"benchmark", "backbone", "editor", "name", "editor.guidance", "editor.exact", "steps", "seed"} <= names
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert {f"ratio={ratio}/{metric}" for ratio in RATIOS for metric in ("lpips", "accuracy")} <= metrics
    request = ListSessionGroupsRequest(allowed_statuses=[STATUS_SUCCESS], start_index=0, slice_size=10)
    request.col_params.extend([])
    groups = Handler(asked, backend, "", request).run().session_groups
    assert {group.name for group in groups} == {"scenes/tiny/copy/default", "scenes/tiny/diffedit/editor.guidance=7.5"}
    for group, run in zip(sorted(groups, key=lambda group: group.name), runs, strict=True):
        values = {value.name.tag: value.value for value in group.metric_values}
        rows = scores[(scores.run == str(run)) & (scores.metric == "lpips")]
        assert [values[f"ratio={ratio}/lpips"] for ratio in RATIOS] == pytest.approx(list(rows.value))
        assert group.hparams["editor.guidance"].number_value == 7.5
        assert group.hparams["editor.exact"].bool_value is True
