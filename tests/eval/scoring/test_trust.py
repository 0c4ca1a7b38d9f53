"""The config of a run directory is data: whatever it names, nothing runs that is not asked for here.

A new way in is a line in `WAYS_IN`.
"""

import shutil
import sys

import pytest
from helpers import edit_few_scenes
from omegaconf import OmegaConf

import diffedit
from baselines.bounds import Copy
from diffedit.commands.include import include_packages
from diffedit.io import trust as trusted
from diffedit.io.trust import UntrustedError, trust
from eval.metrics.cost import Cost
from eval.scoring.finished_run import FinishedRun, IncompleteRunError
from eval.scoring.score import Settings, score_runs
from eval.stilllife.benchmarks import StillLifeScenes

EVIL = """
from pathlib import Path
Path(__file__).with_name("imported").touch()


class Evil:
    def __init__(self, *args, **kwargs):
        Path(__file__).with_name("ran").touch()


def evil(*args, **kwargs):
    Evil()
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a copying editor."""
    return edit_few_scenes(tmp_path_factory.mktemp("finished"), Copy())


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of it, and a module beside it that leaves a trace when it is imported, and another when it is called."""
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trusted, "REGISTERED", set())
    sys.modules.pop("evil", None)
    return shutil.copytree(finished, tmp_path / "runs/stilllife_scenes/tiny/copy/default")


def rewrite(root, **fields):
    config = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
    config["benchmark"] |= fields
    (root / "config.yaml").write_text(OmegaConf.to_yaml(config))


TARGETS = ["evil.Evil", "evil.evil", "os.system", "builtins.eval", "hydra.utils.get_method", "subprocess.Popen"]
MODEL = {"_target_": "diffedit.backbones.stable_diffusion.StableDiffusion.from_pretrained", "path": "evil/model"}
DRAWN = {
    "_target_": "eval.benchmarks.generated.Generated",
    "grammar": {"_target_": "eval.benchmarks.grammar.Grammar", "template": "{a}", "slots": {"a": ["pear", "plum"]}},
    "text_to_image": {"_target_": "diffedit.text_to_image.TextToImage", "backbone": MODEL},
}
WAYS_IN = {
    **{f"the benchmark is {target}": {"_target_": target} for target in TARGETS},
    **{f"a setting is {target}": {"size": {"_target_": target}} for target in TARGETS},
    "in a list": {"attributes": ["fruits", {"_target_": "evil.Evil"}]},
    "deep": {"attributes": [{"a": {"b": [{"_target_": "evil.Evil"}]}}]},
    "in part": {"size": {"_target_": "evil.Evil", "_partial_": True}},
    "an editor of the project": {"_target_": "baselines.bounds.Copy"},
    "a function of the project": {"_target_": "diffedit.io.files.write"},
    "a path of the project with another end": {"_target_": "eval.stilllife.benchmarks.os.system"},
    "to be resolved": {"split": "${oc.env:HOME}"},
    "to be resolved by a resolver of ours": {"split": "${run_name:a,evil.Evil}"},
    "no text": {"_target_": ["evil.Evil"]},
    "a model as a setting": {"size": MODEL},
    "a model as the benchmark": MODEL,
    "a model as a grammar": DRAWN | {"grammar": MODEL},
    "a model that holds a model": DRAWN | {"text_to_image": DRAWN["text_to_image"] | {"backbone": {"a": MODEL}}},
    "a generator as a setting": {"size": DRAWN["text_to_image"]},
    "a benchmark as a setting": {"size": DRAWN},
    "arguments without names": {"_args_": ["evil"]},
    "in part, of the project": {"_partial_": True},
}


@pytest.mark.parametrize("name", WAYS_IN)
def test_what_a_config_names_is_not_run(run, tmp_path, name):
    rewrite(run, **WAYS_IN[name])
    for open_run in (FinishedRun, lambda root: diffedit.load_run(root).input("00000-fruits")):
        with pytest.raises((UntrustedError, ValueError)) as raised:
            open_run(run)
        assert "config.yaml" in str(raised.value)
    assert not {"imported", "ran"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("words", [{}, {"_recursive_": True}, {"_recursive_": False}, {"_convert_": "object"}])
def test_a_model_stays_data(run, monkeypatch, words):
    """A benchmark of pictures that a model drew is scored without the model, whatever the config says."""
    monkeypatch.setattr(diffedit.StableDiffusion, "from_pretrained", lambda *args, **kwargs: pytest.fail("loaded"))
    config = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    config["benchmark"] = DRAWN | {"text_to_image": DRAWN["text_to_image"] | words}
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))
    opened = FinishedRun(run)
    assert opened.benchmark.text_to_image.backbone == MODEL
    assert [request.target for request in opened.requests] == ["plum", "pear"]
    with pytest.raises(IncompleteRunError, match="2 of 2 requests have no edits"):
        opened.check()


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
TEXTS = {
    "aliases that unfold": (BOMB, "an anchor or alias, 'a0', in line 1"),
    "too deep": ("a: " + "[" * 100_000, "config.yaml"),
    "a tag of Python": ("a: !!python/object/apply:evil.evil []\n", "could not determine a constructor"),
    "too large": ("# " + "x" * 2**20 + "\n", "1,048,576"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_config_holds_is_not_unfolded(run, tmp_path, name):
    text, words = TEXTS[name]
    (run / "config.yaml").write_text(text + (run / "config.yaml").read_text())
    with pytest.raises(OSError, match=r"config\.yaml") as raised:
        FinishedRun(run)
    assert words in str(raised.value)
    assert "another name" not in str(raised.value)  # to score it, none helps
    assert not {"imported", "ran"} & {path.name for path in tmp_path.iterdir()}


def test_the_others_are_scored(run, tmp_path, caplog):
    """One bad run does not stop them; it is named."""
    bad = shutil.copytree(run, run.with_name("bad"))
    rewrite(bad, _target_="evil.Evil")
    scored = score_runs([bad, run], {"cost": Cost()}, Settings(tmp_path / "cache"))
    assert scored == [run]
    assert f"{bad}: not scored" in caplog.text
    assert "'evil.Evil' at benchmark, which is not of this project: nothing of it was run" in caplog.text


def test_what_this_program_registers_is_trusted(run, tmp_path):
    rewrite(run, _target_="evil.Evil")
    trust("evil.Evil")
    with pytest.raises(AttributeError):  # it is made, and is no benchmark
        FinishedRun(run)
    assert (tmp_path / "ran").exists()


def test_what_a_command_includes_is_trusted(run, tmp_path, monkeypatch):
    rewrite(run, _target_="evil.Evil")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "conf/benchmark").mkdir(parents=True)
    (tmp_path / "conf/benchmark/mine.yaml").write_text("_target_: evil.Evil\n")
    include_packages(["--include", str(tmp_path)])
    with pytest.raises(AttributeError):
        FinishedRun(run)
    assert (tmp_path / "ran").exists()


def test_a_class_of_ones_own_is_trusted_by_the_program_that_ran_it(run, tmp_path):
    class Mine(StillLifeScenes):
        """As it is, under another name."""

    name = f"{Mine.__module__}.{Mine.__qualname__}"
    assert ("", name) not in trusted.REGISTERED
    backbone = diffedit.StableDiffusion.from_pretrained("weights/stilllife")
    diffedit.run(Mine(size=1), "copy", backbone, tmp_path / "own/a/b/c", ratio=[0.5], progress=False)
    assert ("", name) in trusted.REGISTERED
