"""scripts/convert_ldm.py on small checkpoints in the original's layout, and the backbone on the folders it writes."""

import importlib.util
import json
import logging
import sys

import pytest
import torch
import yaml
from compvis_modules import AUTOENCODER, CLASSES, UNET, Weights, make_original, quantise, shrink_f4, shrink_f8
from helpers import ROOT
from safetensors.torch import save_file

from diffedit.backbones.latent_diffusion import LatentDiffusion

# Of ImageNet's own index; the rest stands in.
KNOWN = {
    **{0: ("n01440764", "tench"), 1: ("n01443537", "goldfish"), 134: ("n02012849", "crane")},
    **{207: ("n02099601", "golden_retriever"), 517: ("n03126707", "crane")},
    **{638: ("n03710637", "maillot"), 639: ("n03710721", "maillot")},
}
INDEX = {str(number): KNOWN.get(number, (f"n{number:08}", f"thing_{number}")) for number in range(1000)}


class Callback:
    """Stands for what a trainer pickles beside the weights."""


@pytest.fixture(scope="module")
def run():
    """Run the script with these arguments; returns its exit code."""
    spec = importlib.util.spec_from_file_location("convert_ldm", ROOT / "scripts/convert_ldm.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def call(*args):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["convert_ldm.py", *map(str, args)])
            return script.main()

    return call


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Configs, checkpoints and a class index as they are downloaded, and what is in them."""
    folder = tmp_path_factory.mktemp("downloaded")
    f4 = make_original(shrink_f4((1, 2), 1), 1001, True)
    f8 = make_original(shrink_f8((1, 2), 1), 1000, True)
    (folder / "f4.yaml").write_text(yaml.safe_dump(f4.config))
    (folder / "f8.yaml").write_text(yaml.safe_dump(f8.config))
    (folder / "imagenet_class_index.json").write_text(json.dumps(INDEX))
    save_file(f4.state, folder / "f4.safetensors")
    torch.save({"epoch": 3, "global_step": 178000, "callbacks": {}, "state_dict": f8.state}, folder / "f8.ckpt")
    return folder, f4, f8


@pytest.fixture(scope="module")
def with_null(files, run):
    """The model of 1001 rows, from safetensors, with names; and the original."""
    folder, original, _ = files
    args = ["--config", folder / "f4.yaml", "--checkpoint", folder / "f4.safetensors", "--out", folder / "out/f4"]
    assert run(*args, "--classes", folder / "imagenet_class_index.json") == 0
    return LatentDiffusion.from_pretrained(str(folder / "out/f4"), device="cpu"), original


@pytest.fixture(scope="module")
def without_null(files, run):
    """The model of 1000 rows, from a .ckpt, without names; and the original."""
    folder, _, original = files
    args = ["--config", folder / "f8.yaml", "--checkpoint", folder / "f8.ckpt", "--out", folder / "out/f8"]
    assert run(*args, "--allow-ckpt") == 0
    return LatentDiffusion.from_pretrained(str(folder / "out/f8"), device="cpu"), original


@pytest.fixture(params=["with_null", "without_null"])
def model(request):
    return request.getfixturevalue(request.param)


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_noise_is_the_originals(model):
    """Each row at a level and of a class of its own; averaged weights where the config does not say otherwise."""
    backbone, original = model
    is_average = "use_ema" not in original.params
    x, schedule, numbers = draw(3, original.unet["in_channels"], 8, 8), backbone.schedule(10), [207, 0, 999]
    levels = [schedule[i] for i in (1, 5, 10)]
    prediction = backbone.predict(x, levels, backbone.embed([str(number) for number in numbers]))
    times = torch.tensor([level.timestep for level in levels])
    assert times.tolist() == [1, 401, 901]
    wanted = original.predict(x, times, numbers, is_average)
    torch.testing.assert_close(prediction.eps, wanted, atol=1e-5, rtol=1e-5)
    other = original.predict(x, times, numbers, not is_average)
    assert (wanted - other).abs().max() > 1e-2
    alpha, sigma = (torch.tensor([level[k] for level in levels]).float()[:, None, None, None] for k in (0, 1))
    torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, x, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_latents_are_not_quantised_until_they_are_decoded(model):
    backbone, original = model
    assert backbone.resolution == original.side
    images = draw(2, 3, original.side, original.side).sigmoid()
    latents, std = backbone.posterior(images)
    torch.testing.assert_close(latents, original.encode(images * 2 - 1), atol=1e-5, rtol=1e-5)
    assert not std.any()
    noise = draw(*latents.shape)
    wanted = original.decode(noise) * 0.5 + 0.5
    torch.testing.assert_close(backbone.render(noise), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.decode(noise), wanted.clamp(0, 1), atol=1e-5, rtol=1e-5)
    nearer = 0.5 * noise + 0.5 * quantise(Weights(original.state, f"{AUTOENCODER}quantize."), noise, 64)
    assert (nearer - noise).abs().max() > 0.1
    torch.testing.assert_close(backbone.decode(nearer), wanted.clamp(0, 1), atol=1e-5, rtol=1e-5)


def test_the_gradient_of_a_picture_passes_the_codes(with_null):
    backbone, original = with_null
    latents = draw(1, original.unet["in_channels"], 8, 8).requires_grad_()
    backbone.render(latents).square().sum().backward()
    assert latents.grad.abs().min() > 0


@torch.no_grad()
def test_the_empty_text_is_the_last_of_1001_classes(with_null):
    backbone, original = with_null
    conds = backbone.embed(["", " ", "tench"])
    assert [int(cond) for cond in conds] == [1000, 1000, 0]
    x, level = draw(2, 3, 8, 8), backbone.schedule(10)[5]
    eps = backbone.predict(x, [level] * 2, backbone.embed(["", "goldfish"])).eps
    torch.testing.assert_close(eps, original.predict(x, torch.full((2,), 401), [1000, 1]), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="class 1000: the model's classes are 0 to 999"):
        backbone.embed(["1000"])


@torch.no_grad()
def test_a_model_of_1000_classes_has_no_empty_text(without_null):
    """It is the use that is refused: there may be none."""
    backbone, _ = without_null
    conds = backbone.embed(["", "999"])
    x, levels = draw(2, 4, 8, 8), [backbone.schedule(10)[5]] * 2
    assert backbone.predict(x[:1], levels[:1], conds[1:]).eps.isfinite().all()
    with pytest.raises(ValueError, match=r"no null class.*editor\.guidance=1"):
        backbone.predict(x, levels, conds)
    with pytest.raises(ValueError, match="'tench' is none of the model's by number, and there are no names at"):
        backbone.embed(["tench"])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("n03710721", 639), ("517", 517), ("Golden Retriever", 207), ("golden_retriever", 207), ("thing 998", 998)),
        ("goldfish", 1),
    ],
)
def test_names_wnids_and_numbers(with_null, text, number):
    assert int(with_null[0].embed([text])[0]) == number


@pytest.mark.parametrize(
    ("name", "both"),
    [
        ("crane", r"crane \(134, n02012849\), crane \(517, n03126707\)"),
        ("Maillot", r"maillot \(638, n03710637\), maillot \(639, n03710721\)"),
    ],
)
def test_a_name_of_two_classes_lists_both(with_null, name, both):
    with pytest.raises(ValueError, match=f"class '{name}' is the name of several: {both}; say which by its number"):
        with_null[0].embed([name])


def test_an_unknown_name_offers_the_three_nearest(with_null):
    with pytest.raises(ValueError, match=r"class 'godlfish' is none of the model's: is it (.*)\?") as caught:
        with_null[0].embed(["godlfish"])
    offered = str(caught.value).partition(": is it ")[2].split(" or ")
    assert len(offered) == 3
    assert offered[0] == "goldfish (1, n01443537)"


@torch.no_grad()
def test_codes_may_be_narrower_than_what_the_decoder_takes(run, tmp_path):
    """The denoiser's latents are as wide as codes."""
    config = shrink_f4((1, 2), 1, 11)
    config["model"]["params"]["first_stage_config"]["params"]["ddconfig"]["z_channels"] = 8
    original = make_original(config, 11, False)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    save_file(original.state, tmp_path / "model.safetensors")
    args = ["--config", tmp_path / "config.yaml", "--checkpoint", tmp_path / "model.safetensors"]
    assert run(*args, "--out", tmp_path / "out", "--null-class", "10") == 0
    backbone = LatentDiffusion.from_pretrained(str(tmp_path / "out"), device="cpu")
    assert int(backbone.embed([""])[0]) == 10
    images = draw(1, 3, 32, 32).sigmoid()
    latents = backbone.encode(images)
    assert latents.shape == (1, 3, 8, 8)
    torch.testing.assert_close(latents, original.encode(images * 2 - 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.render(latents), original.decode(latents) / 2 + 0.5, atol=1e-5, rtol=1e-5)
    index = json.loads((tmp_path / "out/model_index.json").read_text())
    (tmp_path / "out/model_index.json").write_text(json.dumps(index | {"null_class": 0}))
    with pytest.raises(ValueError, match="null_class = 0: 10, the last of 11 rows, or none"):
        LatentDiffusion.from_pretrained(str(tmp_path / "out"), device="cpu")


def test_a_folder_says_what_it_holds(files, with_null, without_null):
    folder, original, _ = files
    for name, null in (("f4", 1000), ("f8", None)):
        index = json.loads((folder / "out" / name / "model_index.json").read_text())
        assert (index["_class_name"], index["null_class"]) == ("LatentDiffusion", null)
    parts = {path.relative_to(folder / "out/f4").as_posix() for path in (folder / "out/f4").rglob("*.*")}
    assert parts == {
        *("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vqvae/config.json", "classes.json"),
        *("vqvae/diffusion_pytorch_model.safetensors", "class_embedding.safetensors", "model_index.json"),
        "scheduler/scheduler_config.json",
    }
    assert torch.equal(with_null[0].class_embedding.weight, original.state[CLASSES])
    assert with_null[0].fingerprint != without_null[0].fingerprint


def test_the_script_says_which_weights_it_took(files, run, tmp_path, caplog):
    folder, _, _ = files
    args = ["--config", folder / "f4.yaml", "--checkpoint", folder / "f4.safetensors", "--out", tmp_path / "out"]
    with caplog.at_level(logging.INFO):
        assert run(*args, "--null-class", "none") == 0
    assert "weights as they were trained last; 1001 rows of classes, null class: None" in caplog.text
    assert json.loads((tmp_path / "out/model_index.json").read_text())["null_class"] is None


def test_all_names_of_a_class_are_kept(files, run, tmp_path, capsys):
    folder, _, _ = files
    (tmp_path / "mapping.txt").write_text("n01440764 : tench, Tinca tinca\nn01443537 : goldfish, Carassius auratus\n")
    args = ["--config", folder / "f4.yaml", "--checkpoint", folder / "f4.safetensors", "--out", tmp_path / "out"]
    assert run(*args, "--classes", tmp_path / "mapping.txt") == 0
    classes = LatentDiffusion.from_pretrained(str(tmp_path / "out"), device="cpu").classes
    assert run(*args) == 2
    assert "classes.json: names of another conversion" in capsys.readouterr().err
    assert [classes.find(text) for text in ("tench", "tinca tinca", "Carassius auratus", "n01443537")] == [0, 0, 1, 1]


def refuse(run, capsys, *args):
    """What the script says when it refuses."""
    assert run(*args) == 2
    return capsys.readouterr().err


def test_pickles(files, run, tmp_path, capsys):
    folder, _, original = files
    args = ["--config", folder / "f8.yaml", "--out", tmp_path / "out", "--checkpoint"]
    assert "f8.ckpt: a pickle, which can hold code that runs: take a .safetensors, or give --allow-ckpt" in refuse(
        run, capsys, *args, folder / "f8.ckpt"
    )
    torch.save({"state_dict": {CLASSES: torch.zeros(2)}, "callbacks": {Callback: {}}}, tmp_path / "code.ckpt")
    said = refuse(run, capsys, *args, tmp_path / "code.ckpt", "--allow-ckpt")
    assert "code.ckpt: more than tensors and plain values is in it" in said
    assert "save its state_dict as .safetensors in an environment that you can lose" in said
    assert "none.ckpt: no such file" in refuse(run, capsys, *args, tmp_path / "none.ckpt", "--allow-ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert "a list, and no state dict" in refuse(run, capsys, *args, tmp_path / "list.ckpt", "--allow-ckpt")
    assert not (tmp_path / "out").exists()
    torch.save(original.state, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert run(*args, tmp_path / "old.ckpt", "--allow-ckpt") == 0


def test_what_does_not_fit_is_refused_before_anything_is_written(files, run, tmp_path, capsys):
    folder, original, _ = files
    args = ["--config", folder / "f4.yaml", "--out", tmp_path / "out", "--checkpoint"]
    lacking = {key: value for key, value in original.state.items() if key != f"{UNET}out.2.bias"}
    save_file(lacking, tmp_path / "lacking.safetensors")
    assert "unet: the weights are not those of the config" in (
        said := refuse(run, capsys, *args, tmp_path / "lacking.safetensors")
    )
    assert "conv_out.bias" in said
    save_file(original.state | {f"{UNET}out.3.bias": torch.zeros(2)}, tmp_path / "more.safetensors")
    assert "no place: out.3.bias" in refuse(run, capsys, *args, tmp_path / "more.safetensors")
    right = [*args, folder / "f4.safetensors"]
    config = yaml.safe_load((folder / "f4.yaml").read_text())
    del config["model"]["params"]["linear_start"]
    for wrong, lacks in ((config, "linear_start"), (None, "model"), ({"model": None}, "model")):
        (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
        said = refuse(run, capsys, *right, "--config", tmp_path / "wrong.yaml")
        assert f"the config is none of a latent diffusion model over a VQ autoencoder: no '{lacks}'" in said
    assert "1000, the last of 1001 rows, or none" in refuse(run, capsys, *right, "--null-class", "0")
    (tmp_path / "index.json").write_text(json.dumps({"1000": ["n00000001", "nothing"]}))
    said = refuse(run, capsys, *right, "--classes", tmp_path / "index.json")
    assert "the classes are 0 to 999, and number 1000 has a name" in said
    assert not (tmp_path / "out").exists()
