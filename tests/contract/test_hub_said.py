"""Contract: what is said of a model that the hub does not give. What commands say of models: test_nothing_silent.py."""

import time
from types import SimpleNamespace

import pytest
from huggingface_hub import errors
from model_cases import HUB

from diffedit.backbones.hub import open_hub_model
from diffedit.backbones.stable_diffusion import StableDiffusion

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
