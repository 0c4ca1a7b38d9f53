"""`diffedit doctor`: trained models are normal, and each fault is found, named with its file or setting."""

import json
import math
import shlex
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.configuration_utils import FrozenDict
from helpers import ROOT, composed, kept_log
from hydra.utils import instantiate
from skimage.metrics import peak_signal_noise_ratio

from diffedit.backbones.base import read_output
from diffedit.backbones.classes import ClassList
from diffedit.commands import main
from diffedit.commands.checkup import checks, facts, pictures
from diffedit.commands.checkup.cost import COSTS, check_memory
from diffedit.commands.checkup.finding import Finding
from diffedit.commands.checkup.patient import Patient
from diffedit.commands.checkup.pictures import PHOTOGRAPHS, find_samples
from diffedit.commands.doctor import look
from diffedit.testing import TinyDiT, TinyLatentDiffusion, TinyPipeline
from diffedit.types import Level

QUICK = ["count=1", "steps=[4]", "ratios=[0.5]"]


@pytest.fixture(scope="module")
def trained():
    """Still Life's own model; no test changes it for good."""
    return instantiate(settings().backbone, _convert_="all")


def settings(*words):
    return composed(*QUICK, *words, name="doctor", backbone=False)


def show(backbone, *words, keep=lambda sample: sample):
    cfg = settings(*words)
    return Patient(backbone, [keep(sample) for sample in find_samples(cfg, backbone)], cfg)


def load(*words):
    return show(instantiate(settings(*words).backbone, _convert_="all"), *words)


def find(found, name):
    (finding,) = [one for one in found if one.name == name]
    return finding


def wrong(found):
    return {finding.name for finding in found if finding.verdict == "look"}


def configured(backbone, monkeypatch, **scheduler):
    """The model with another noise schedule."""
    config = dict(backbone.scheduler.config) | scheduler
    monkeypatch.setattr(backbone, "scheduler", DDIMScheduler.from_config(config))
    return show(backbone)


def enter(capsys, *words):
    with kept_log("doctor"):
        code = main(["doctor", *map(str, words)])
    return code, "\n".join(reversed(capsys.readouterr()))  # what is printed at the end


# --------------------------------------------------------------------------------------------------- the whole command


def test_a_trained_model_is_normal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, told = enter(capsys, *QUICK, "steps=[10]")
    assert code == 0, told
    assert told.rstrip().endswith("all normal")
    assert max(map(len, told[told.index("Detected") :].splitlines())) <= 100
    assert "Advice" not in told
    for fact in ("StableDiffusion of weights/stilllife", "epsilon", "scaled_linear, 0.00085 to 0.012, 1000 times"):
        assert fact in told
    assert "leading, offset 1" in told
    assert "texts of 32 tokens" in told
    assert "64 x 64; latents 4 x 16 x 16, scaled by 0.926" in told
    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    for time in (1, 981):
        assert f"{math.log(alphas[time] / (1 - alphas[time])):.2f} at t = {time}" in told


def test_the_table_of_levels_is_that_of_the_page(capsys):
    page = (ROOT / "docs/fidelity.md").read_text()
    (command,) = [line for line in page.splitlines() if line.startswith("diffedit doctor")]
    code, told = enter(capsys, *shlex.split(command)[2:])
    table = told[told.index("| steps |") :].strip()
    assert (code, len(table.splitlines())) == (0, 14)
    assert f"\n\n{table}\n\n" in page


def test_a_trained_model_of_classes_is_normal(capsys):
    code, told = enter(capsys, *QUICK, "steps=[10]", "backbone=stilllife_classes")
    assert code == 0, told
    assert "classes, 12 of them, 12 with names; null class 12" in told
    assert "'0' against '1'" in told  # apples for pears


def test_memory_that_is_nearly_full_is_told(trained, monkeypatch):
    monkeypatch.setattr("diffedit.commands.checkup.cost.MOST", 1e-4)
    (found,) = look([check_memory], show(trained))
    assert (found.verdict, found.name) == ("look", "peak memory")
    assert "engine.batch.predict" in found.advice


def test_a_swapped_prediction_type_is_found_in_the_file(tmp_path, capsys):
    """A copy of the weights whose scheduler says v_prediction."""
    for name in ("unet", "vae", "text_encoder", "tokenizer"):
        (tmp_path / name).symlink_to(ROOT / "weights/stilllife" / name)
    shutil.copytree(ROOT / "weights/stilllife/scheduler", tmp_path / "scheduler")
    path = tmp_path / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    code, told = enter(capsys, "backbone=stable_diffusion", f"backbone.path={tmp_path}", *QUICK)
    assert code == 1
    assert "not normal: error of noise estimates" in told
    advice = " ".join(told.split())
    assert "prediction_type: epsilon in" in advice
    assert "(now v_prediction): so read, it is 0." in advice
    assert "contrast inside / outside" in told


@pytest.mark.parametrize(
    ("tiny", "backbone"),
    [
        (TinyPipeline(), "stable_diffusion"),
        (TinyPipeline(prediction_type="v_prediction"), "stable_diffusion"),
        (TinyLatentDiffusion(), "latent_diffusion"),
        (TinyDiT(), "dit"),
    ],
)
def test_random_weights_are_not_normal(tiny, backbone, tmp_path, capsys):
    code, told = enter(capsys, f"backbone={backbone}", f"backbone.path={tiny.write(tmp_path)}", *QUICK)
    assert code == 1
    (last,) = [line for line in told.splitlines() if "not normal: " in line]
    assert "autoencoder, there and back" in last
    assert "error of noise estimates" in last
    assert "failed" not in told, told
    assert str(tmp_path) in "".join(told.split())  # a long path is folded


# ------------------------------------------------------------------------------------------------------- single faults


@pytest.mark.parametrize(
    "betas", [{"beta_schedule": "linear"}, {"beta_schedule": "squaredcos_cap_v2"}], ids=["linear", "cosine"]
)
def test_betas_of_another_model_are_found(betas, trained, monkeypatch):
    finding = find(checks.check_estimates(configured(trained, monkeypatch, **betas)), "timestep that fits best")
    assert finding.verdict == "look"
    assert "weights/stilllife/scheduler/scheduler_config.json (beta_schedule" in finding.advice


def test_a_level_without_signal_is_found(trained, monkeypatch):
    patient = configured(trained, monkeypatch, timestep_spacing="trailing", rescale_betas_zero_snr=True)
    (finding,) = checks.check_ends(patient)
    assert finding.verdict == "look"
    assert "rescale_betas_zero_snr: false" in finding.advice
    assert "zero terminal SNR" in find(facts.describe_levels(patient), "log-SNR").measured


def test_a_type_that_is_not_read_is_named_with_its_file(trained, monkeypatch):
    (finding,) = look([checks.check_estimates], configured(trained, monkeypatch, prediction_type="sample"))
    assert "'sample' is neither" in finding.measured
    assert finding.advice == "prediction_type in weights/stilllife/scheduler/"


def test_a_scale_of_latents_is_found(trained, monkeypatch):
    """The advice is the factor that makes the deviation 1."""
    own = find(checks.check_autoencoder(show(trained)), "spread of latents")
    monkeypatch.setattr(trained.vae, "_internal_dict", FrozenDict({**trained.vae.config, "scaling_factor": 0.926 / 5}))
    finding = find(checks.check_autoencoder(show(trained)), "spread of latents")
    assert (own.verdict, finding.verdict) == ("ok", "look")
    factor = float(finding.advice.partition("config.json: ")[2].split()[0])
    assert factor == pytest.approx(0.926 / float(own.measured), rel=0.01)


def test_an_autoencoder_that_overflows_stops_no_other_check(trained, monkeypatch):
    decode = type(trained).decode
    monkeypatch.setattr(type(trained), "decode", lambda self, x: decode(self, x) * math.nan)
    patient = show(trained)
    found = look([checks.check_autoencoder, checks.check_inversion, checks.check_ends], patient)
    assert wrong(found) == {"autoencoder", "inversion"}
    assert all("backbone.vae_dtype=float32" in finding.advice for finding in found[:2])
    assert found[-1].verdict == "ok"


def test_a_denoiser_that_overflows_is_told_by_its_own_dtype(trained, monkeypatch):
    predict = type(trained).predict

    def overflow(self, *words):
        return type(predict(self, *words))(*(part * math.nan for part in predict(self, *words)))

    monkeypatch.setattr(type(trained), "predict", overflow)
    found = look(checks.CHECKS, show(trained))
    assert {"estimates", "estimate at ratio 1", "inversion", "mask"} <= wrong(found)
    assert "backbone.dtype=float32" in find(found, "estimates").advice
    assert find(found, "autoencoder, there and back").verdict == "ok"


def test_what_was_found_before_a_failure_is_kept(trained):
    def check_halves(patient):
        yield Finding("one", "1")
        raise RuntimeError("no more")

    found = look([check_halves], show(trained))
    assert [(one.name, one.measured, one.verdict) for one in found] == [
        ("one", "1", ""),
        ("halves", "failed: no more", "look"),
    ]


def test_a_model_without_a_null_class(tmp_path):
    path = TinyLatentDiffusion(has_null=False).write(tmp_path)
    patient = load("backbone=latent_diffusion", f"backbone.path={path}")
    found = look((*checks.CHECKS, *COSTS), patient)
    finding = find(found, "null condition")
    assert finding.verdict == "look"
    for remedy in ("editor.inversion.condition=source_class", "editor.guidance=1", "editor.negative=source_class"):
        assert remedy in finding.advice
    assert not [one for one in found if one.measured.startswith("failed")]
    assert "no null class" in find(facts.describe_conditions(patient), "conditions").measured
    (sample,) = patient.samples
    assert sample.source != sample.target


def test_a_null_condition_that_was_not_trained(trained, monkeypatch):
    embed = type(trained).embed
    draw = 30 * torch.randn(32, 128, generator=torch.Generator().manual_seed(0))

    def swap(self, texts):
        return [
            cond if text else draw[:, : cond.shape[1]] for text, cond in zip(texts, embed(self, texts), strict=True)
        ]

    assert find(checks.check_guidance(show(trained)), "null condition").verdict == "ok"
    monkeypatch.setattr(type(trained), "embed", swap)
    finding = find(checks.check_guidance(show(trained)), "null condition")
    assert finding.verdict == "look", finding
    assert "the text encoder is wrong" in finding.advice


def test_conditions_that_change_nothing(trained, monkeypatch):
    embed = type(trained).embed
    monkeypatch.setattr(type(trained), "embed", lambda self, texts: embed(self, [""] * len(texts)))
    patient = show(trained)
    assert {"target against source", "null condition", "guidance 7.5"} <= wrong(checks.check_guidance(patient))
    assert "noises agree on the mask" in wrong(checks.check_mask(patient))


def test_a_mask_in_another_place_is_found(trained):
    assert not wrong(checks.check_mask(show(trained)))
    moved = show(trained, keep=lambda sample: type(sample)(**{**vars(sample), "mask": ~sample.mask}))
    assert wrong(checks.check_mask(moved)) == {"contrast inside / outside"}


# --------------------------------------------------------------------------------------------------------- what is seen


def test_a_model_of_pixels_knows_no_conditions():
    patient = load("backbone=stilllife_pixel")
    found = [*checks.check_autoencoder(patient), *checks.check_guidance(patient), *checks.check_mask(patient)]
    assert [finding.verdict for finding in found] == ["", "", ""]
    assert "texts mean nothing" in find(facts.describe_conditions(patient), "conditions").measured


def test_pictures_of_ones_own(tmp_path, trained):
    from PIL import Image

    Image.fromarray(np.zeros((80, 100, 3), np.uint8)).save(tmp_path / "a.png")
    (sample,) = show(trained, f"pictures={tmp_path}", "source=a cat", "target=a dog").samples
    assert (sample.source, sample.target, sample.mask, sample.is_known) == ("a cat", "a dog", None, True)
    (sample,) = show(trained, f"pictures={tmp_path}").samples
    assert (sample.source, sample.is_known) == ("", False)
    found = look([checks.check_mask], show(trained, f"pictures={tmp_path}"))
    assert "not known" in find(found, "contrast inside / outside").measured


def test_photographs_and_their_classes(trained):
    """All come with scikit-image; a list in ImageNet's order and names has their classes."""
    names = {967: "espresso", 925: "consomme", 281: "tabby, tabby cat", 207: "golden retriever"}
    wnids = {967: "n07920052", 925: "n07584110", 281: "n02123045", 207: "n02099601"}
    classes = ClassList(1000, names, wnids, "here")
    assert {classes.match(one) for photo in PHOTOGRAPHS for one in photo.classes} == set(names)
    samples = show(trained, "pictures=photographs", "count=3").samples
    assert [sample.id for sample in samples] == ["coffee", "chelsea", "astronaut"]
    assert all(sample.image.std() > 0.1 and sample.is_known for sample in samples)
    assert samples[0].mask.float().mean() == pytest.approx(0.6 * 0.76, abs=0.02)
    assert pictures.choose_pictures("auto", 256) == "photographs"


def test_costs_are_told(trained):
    found = look(COSTS, show(trained))
    assert [finding.verdict for finding in found] == ["", "", "", "ok"]
    assert [finding.normal for finding in found] == ["below 1"] * 3 + ["below 90%"]
    assert float(found[0].measured.split(";")[0]) > 0
    assert "GiB" in found[-1].measured


# ------------------------------------------------------------------------------------------------------------- numbers


def test_decibels_are_those_of_scikit_image():
    one, other = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    known = [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1) for a, b in zip(one, other, strict=True)]
    assert checks.compute_psnr(one, other) == pytest.approx(np.mean(known), abs=1e-4)


def test_the_other_reading_is_the_other_prediction_type(trained, monkeypatch):
    """Of one output of a network, whichever type the config names."""
    patient = show(trained)
    level = patient.find_level(0.5)
    x, out = patient.noised(level), torch.randn(patient.latents.shape)
    numbers = [torch.tensor(part)[None, None, None, None] for part in level[:2]]
    read = {kind: read_output(kind, x, out, *numbers) for kind in ("epsilon", "v_prediction")}
    torch.testing.assert_close(checks.read_otherwise(patient, read["epsilon"], level), read["v_prediction"].eps)
    patient = configured(trained, monkeypatch, prediction_type="v_prediction")
    torch.testing.assert_close(checks.read_otherwise(patient, read["v_prediction"], level), read["epsilon"].eps)


def test_a_guess_is_the_best_multiple_of_what_is_seen():
    """Its error is that of a regression of the noise on the noised latent."""
    draw = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(1, 4, 200, 200, generator=draw, dtype=torch.float64) for _ in range(2))
    x0 *= 0.7
    level = Level(0.8, 0.6, 0)
    x = (x0 * level.alpha + noise * level.sigma).reshape(-1, 1)
    fit = x @ torch.linalg.lstsq(x, noise.reshape(-1, 1)).solution
    assert checks.find_guess_error(x0, level) == pytest.approx(
        checks.compute_error(fit, noise.reshape(-1, 1)), rel=0.02
    )
