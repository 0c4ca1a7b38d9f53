"""Contract: what a model cannot do is said once, before any request, in words that help; a refusal makes nothing.

The cases are in model_cases.py, a line each.
"""

import shlex
import time
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import kept_log
from huggingface_hub import errors
from made_models import write_models
from model_cases import CASES, HUB, WARNED
from PIL import Image

from diffedit.backbones.hub import open_hub_model
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.commands import main
from diffedit.commands.launch import HINT

ALL = [case for cases in CASES.values() for case in cases]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture
def door(models, tmp_path, monkeypatch, capsys):
    """Calls a command in this process; returns its exit code and what it says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(models)
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{'ab'[i]}.png")
    (tmp_path / "edits.csv").write_text("image,target,source\na.png,pear,apple\nb.png,plum,apple\n")

    def enter(*words):
        with kept_log():
            code = main(list(words))
        return code, "".join(capsys.readouterr())

    return enter


@pytest.mark.parametrize("case", ALL, ids=[case.words for case in ALL])
def test_what_is_said(case, door, tmp_path):
    before = list_files(tmp_path)
    code, told = door(*shlex.split(case.words))
    assert told.count(case.said) == 1, told  # once a run, not once a request
    assert code == case.code, told
    if case.done != WARNED:
        assert told.endswith(f"{HINT}\n")
        assert "Traceback" not in told
        assert list_files(tmp_path) == before


def list_files(folder):
    """All but empty folders."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


# -------------------------------------------------------------------------------------------------------------- the hub


def make_error(name):
    """What huggingface_hub raises, as the library itself makes it."""
    if (kind := getattr(errors, name, None)) is None:  # of the library of HTTP below
        return getattr(__import__(errors.HTTPError.__module__), name)("502")
    if issubclass(kind, errors.HfHubHTTPError):
        return kind("502", response=SimpleNamespace(headers={}, request=None))
    return kind("502")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Sets what the hub answers, with an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def answer(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
        monkeypatch.setattr("huggingface_hub.hf_api.HfApi.repo_info", fail)

    return answer


@pytest.mark.parametrize(("name", "said"), HUB, ids=[name for name, _ in HUB])
def test_what_is_said_of_a_hub_id(name, said, hub):
    hub(make_error(name))
    start = time.process_time()
    with pytest.raises(OSError, match=r"^backbone\.path = somebody/model: ") as told:
        StableDiffusion.from_pretrained("somebody/model", revision="v2", device="cpu")
    assert said in str(told.value)
    assert time.process_time() - start < 2


def test_a_name_that_is_none(hub):
    hub(errors.HFValidationError("Repo id must be ..."))
    with pytest.raises(FileNotFoundError, match=r"no such folder here, and no name of a model on the hub"):
        StableDiffusion.from_pretrained("a/b/c", device="cpu")


def test_a_gated_model_whose_list_of_files_is_open(hub, monkeypatch):
    """As the hub has it for most: the page is for all, the files are not."""
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: SimpleNamespace(sha="0" * 40, siblings=[]))

    def fail(*_, **__):
        raise make_error("GatedRepoError")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(OSError, match="accept it on"):
        StableDiffusion.from_pretrained("somebody/model", device="cpu")


@pytest.mark.parametrize("name", ["ConnectError", "OfflineModeIsEnabled", "RepositoryNotFoundError"])
def test_what_was_downloaded_before_is_taken(name, hub, models, tmp_path, caplog):
    """Without a network, or where it was withdrawn: from the cache, and nothing more is asked of the hub."""
    hub(make_error(name))
    place = tmp_path / "cache/models--somebody--model"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text("0" * 40)
    (place / "snapshots").mkdir()
    (place / "snapshots" / ("0" * 40)).symlink_to(models / "plain")
    assert open_hub_model("somebody/model").place == str(place / "snapshots" / ("0" * 40))
    assert ("taken as it was downloaded before" in caplog.text) == (name != "OfflineModeIsEnabled")
    assert StableDiffusion.from_pretrained("somebody/model", device="cpu").resolution == 32


def test_files_of_the_hub_are_looked_at_as_those_of_a_folder(hub, models, monkeypatch):
    """By their names, before any weights are downloaded."""
    names = [path.relative_to(models / "fp16").as_posix() for path in (models / "fp16").rglob("*")]
    found = SimpleNamespace(sha="0" * 40, siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: found)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(models / "fp16"))
    with pytest.raises(ValueError, match=r"somebody/model/unet: .* backbone\.variant=fp16"):
        StableDiffusion.from_pretrained("somebody/model", device="cpu")
