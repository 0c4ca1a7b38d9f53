"""`diffedit cite` prints what runs are made of, each entry once, and says what it does not know."""

import json
import re

import pytest
import yaml
from helpers import composed
from omegaconf import OmegaConf

from diffedit.commands.cite import main
from eval.metrics.functional.frechet import Fid
from eval.metrics.set_distance import SetDistance
from eval.scoring.score import list_parts
from eval.stilllife.network import StillLifeExtractor

SCORE = {"higher_is_better": {}, "undefined": None}


@pytest.fixture
def make_run(tmp_path):
    def make(name, *overrides, scores=None, config=None):
        root = tmp_path / name
        (root / "scores").mkdir(parents=True)
        (root / "scores" / "inputs.json").write_text("{}")
        config = config or OmegaConf.to_container(composed("name=x", *overrides, backbone=False))
        (root / "config.yaml").write_text(yaml.safe_dump(config))
        for metric, content in (scores or {}).items():
            (root / "scores" / f"{metric}.json").write_text(json.dumps(SCORE | content))
        return root

    return make


def cited(capsys, *roots):
    """By key: what it is cited for."""
    assert main([str(root) for root in roots]) == 0
    out = capsys.readouterr().out
    found = dict(re.findall(r"^@\w+\{(\S+),()$", out, re.MULTILINE))
    comments = re.findall(r"^% (.*)\n@\w+\{(\S+),$", out, re.MULTILINE)
    assert len(comments) == len(found)  # each once, each with its reason
    return {key: comment for comment, key in comments}, re.findall("^% Not known here: (.*)$", out, re.MULTILINE)


def test_method_data_and_model(capsys, make_run):
    root = make_run("a", "backbone=sd15", "benchmark=pie_bench", "benchmark.path=x", "editor/mask/threshold=otsu")
    entries, unknown = cited(capsys, root)
    works = {
        "couairon2023diffedit",
        "song2021ddim",
        "ho2022guidance",
        "otsu1979threshold",
        "ju2024pnp",
        "kurita1992maximum",
    }
    assert set(entries) == works | {"diffedit_framework", "rombach2022latent"}
    assert entries["rombach2022latent"] == "backbone: latent diffusion; backbone: Stable Diffusion 1.5"
    assert unknown == []


def test_several_runs_share_their_entries(capsys, make_run):
    both = [make_run("a", "editor=sdedit"), make_run("b", "editor=blended_latent", "reconstruct=poisson")]
    entries, _ = cited(capsys, *both)
    assert entries["song2021ddim"] == "editor: the sampler"
    assert {"meng2022sdedit", "avrahami2023blended", "perez2003poisson"} < set(entries)
    everything, _ = cited(capsys, both[0].parent / "*")
    assert everything == entries


def test_metrics_are_cited_with_the_networks_that_scored(capsys, make_run):
    inception = {"_target_": "diffedit.networks.inception.Inception", "resize": "clean"}
    fid = {"parts": [{"_target_": "eval.metrics.functional.frechet.Fid"}, inception]}
    squeeze = {"parts": [{"_target_": "diffedit.networks.lpips.Lpips", "net": "squeeze"}]}
    gone = {"parts": [{"_target_": "eval.metrics.functional.mmd.Kid"}], "undefined": "no pictures"}
    entries, unknown = cited(capsys, make_run("a", scores={"fid": fid, "lpips": squeeze, "kid": gone}))
    assert entries["parmar2022cleanfid"] == "metric fid: the resizing before Inception"
    assert {"heusel2017fid", "szegedy2016inception", "zhang2018lpips", "iandola2016squeezenet"} < set(entries)
    assert {"krizhevsky2014alexnet", "binkowski2018kid"} & set(entries) == set()
    assert unknown == []


def test_scores_name_their_parts():
    parts = list_parts(SetDistance(Fid(), StillLifeExtractor()))
    assert [part["_target_"].rpartition(".")[2] for part in parts] == ["SetDistance", "Fid", "StillLifeExtractor"]
    assert parts[2]["weights"] == "weights/stilllife_features"


def test_what_is_not_known_is_said(capsys, make_run):
    config = {"editor": {"_target_": "mine.Method"}, "backbone": {"path": "me/model"}, "format": 3}
    entries, unknown = cited(capsys, make_run("a", config=config, scores={"clip_score": {}}))
    assert "hessel2021clipscore" in entries  # an older score: by the metric's own yaml
    assert unknown == [
        "editor: mine.Method; its author says what to cite",
        "backbone: the weights me/model; their authors say what to cite",
        "metric clip_score: its networks, as an earlier release scored it",
    ]


def test_runs_of_before(capsys, make_run):
    entries, unknown = cited(capsys, make_run("a", config={"editor": {"_target_": "diffedit.editor.DiffEdit"}}))
    assert "couairon2023diffedit" in entries
    assert unknown == []


def test_no_run_is_refused(capsys, tmp_path):
    assert main([str(tmp_path)]) == 2
    assert f"{tmp_path}: no run directory: it holds no config.yaml" in capsys.readouterr().err
    assert main([str(tmp_path / "no*")]) == 2
