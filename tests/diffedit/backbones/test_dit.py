"""DiT against diffusers' own pipeline on the same weights and noise."""

import json

import pytest
import torch
from diffusers import DDIMScheduler, DiTPipeline

from diffedit.backbones.dit import DiT
from diffedit.engine.queries import run_alone
from diffedit.sampling.ddim import ddim_sample
from diffedit.testing import CLASSES, TinyDiT

N = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return TinyDiT().write(tmp_path_factory.mktemp("dit"))


@pytest.fixture(scope="module")
def backbone(folder):
    return DiT.from_pretrained(str(folder), device="cpu")


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_decoding_is_diffusers_pipeline(folder, backbone, guidance, monkeypatch):
    """From the same noise, with all channels guided, as theirs does; its null class is ImageNet's 1000."""
    pipe = DiTPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    forward = pipe.transformer.forward

    def at_home(*args, class_labels, **more):
        return forward(*args, class_labels=class_labels.clamp(max=len(CLASSES)), **more)

    monkeypatch.setattr(pipe.transformer, "forward", at_home)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("diffusers.pipelines.dit.pipeline_dit.randn_tensor", lambda *_, **__: noise.clone())
    theirs = pipe([1], guidance_scale=guidance, num_inference_steps=N, output_type="np").images[0]

    cond, null = backbone.embed(["pear", ""])
    ours = run_alone(ddim_sample({N: noise}, backbone.schedule(N), cond, null, guidance), backbone)[N]
    image = backbone.decode(ours)[0].permute(1, 2, 0).numpy()
    assert image.std() > 0.01
    assert abs(image - theirs).max() < 1e-5


def test_a_row_does_not_depend_on_the_classes_and_times_beside_it(backbone):
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    levels, conds = [backbone.schedule(N)[i] for i in (1, 5, 10)], backbone.embed(["apple", "", "plum"])
    together = backbone.predict(x, levels, conds)
    for i in range(3):
        alone = backbone.predict(x[i : i + 1], levels[i : i + 1], conds[i : i + 1])
        assert torch.allclose(alone.eps[0], together.eps[i], atol=1e-5)
    assert together.eps.shape == x.shape  # the variance is dropped


def test_its_levels_are_those_of_linear_betas(backbone):
    schedule = backbone.schedule(10)
    alphas = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    assert [schedule[i].timestep for i in (1, 2, 10)] == [0, 100, 900]
    assert schedule[10].alpha ** 2 == pytest.approx(alphas[900].item(), rel=1e-4)


def test_classes_by_number_and_name(backbone):
    assert [int(cond) for cond in backbone.embed(["1", "pear", "pyrus", "Apple", " ", "2"])] == [1, 1, 1, 0, 3, 2]
    with pytest.raises(ValueError, match="class 3: the model's classes are 0 to 2"):
        backbone.embed(["3"])


def test_a_loaded_pipeline_is_the_same(folder, backbone):
    other = DiT.from_pipeline(DiTPipeline.from_pretrained(folder))
    assert other.fingerprint == backbone.fingerprint
    assert [int(cond) for cond in other.embed(["Pyrus", "plum", ""])] == [1, 2, 3]


def test_another_resolution_is_refused(folder):
    with pytest.raises(ValueError, match=r"backbone\.resolution = 64: .* knows the places of 32 alone"):
        DiT.from_pretrained(str(folder), device="cpu", resolution=64)


def test_a_name_of_two_classes_stays_one_in_a_loaded_pipeline(tmp_path):
    folder = TinyDiT().write(tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(
        json.dumps(index | {"id2label": {"0": "crane", "1": "crane", "2": "plum"}})
    )
    for backbone in (DiT.from_pipeline(DiTPipeline.from_pretrained(folder)), DiT.from_pretrained(str(folder))):
        with pytest.raises(ValueError, match=r"crane \(0\), crane \(1\)"):
            backbone.embed(["crane"])
