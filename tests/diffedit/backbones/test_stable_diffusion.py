import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffedit.backbones.loading import ModelFolder, read_dtype
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.testing import TinyPipeline


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def change(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def predict(backbone, k=3):
    x = torch.randn(k, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    schedule = backbone.schedule(10)
    with torch.no_grad():
        return (
            x,
            schedule,
            backbone.predict(x, [schedule[i] for i in (1, 5, 10)][:k], backbone.embed(["a", "b", ""])[:k]),
        )


def test_the_schedule_is_the_folders_own(copy):
    base = StableDiffusion.from_pretrained(str(copy), device="cpu").schedule(10)
    assert [level.timestep for level in base.levels] == [0, *range(1, 1000, 100)]
    assert base[0].alpha < 1
    change(copy / "scheduler/scheduler_config.json", timestep_spacing="trailing", set_alpha_to_one=True, beta_end=0.02)
    other = StableDiffusion.from_pretrained(str(copy), device="cpu").schedule(10)
    assert [level.timestep for level in other.levels] == [0, *range(99, 1000, 100)]
    assert other[0] == (1, 0, 0)
    assert other[10].alpha < base[10].alpha


def test_a_pndm_folder_as_stable_diffusion_1_5_ships_it(copy):
    """SD 1.5's own scheduler_config.json names PNDM and has keys that DDIM does not know; no clip, offset 1."""
    shipped = {
        "_class_name": "PNDMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    }
    (copy / "scheduler/scheduler_config.json").write_text(json.dumps(shipped))
    schedule = StableDiffusion.from_pretrained(str(copy), device="cpu").schedule(50)
    assert [schedule[i].timestep for i in (1, 2, 50)] == [1, 21, 981]
    assert schedule[0].alpha ** 2 == pytest.approx(0.99915)
    change(copy / "scheduler/scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler")
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    (copy / "scheduler/scheduler_config.json").write_text(json.dumps(flow))
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no betas"):
        StableDiffusion.from_pretrained(str(copy), device="cpu")


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_predictions_are_consistent(tiny_folder, tmp_path, kind):
    """x = alpha * x0 + sigma * eps at each row's own level; the raw output is eps, or v = alpha * eps - sigma * x0."""
    backbone = StableDiffusion.from_pretrained(str(TinyPipeline(prediction_type=kind).write(tmp_path)), device="cpu")
    x, schedule, prediction = predict(backbone)
    alpha, sigma = (torch.tensor([schedule[i][k] for i in (1, 5, 10)]).float()[:, None, None, None] for k in (0, 1))
    torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, x, atol=1e-5, rtol=1e-5)
    hidden = torch.stack(backbone.embed(["a", "b", ""]))
    with torch.no_grad():
        raw = backbone.unet(x, torch.tensor([1, 401, 901]), encoder_hidden_states=hidden).sample
    expected = prediction.eps if kind == "epsilon" else alpha * prediction.eps - sigma * prediction.x0
    torch.testing.assert_close(raw, expected, atol=1e-4, rtol=1e-4)


def test_weights_named_as_the_published_files_name_them(copy, tiny):
    """Stable Diffusion 1.5's own files are of 2022: other names for the same weights, and a buffer no longer used."""
    path = copy / "text_encoder/model.safetensors"
    old = {f"text_model.{name.removeprefix('text_model.')}": weight for name, weight in load_file(path).items()}
    old["text_model.embeddings.position_ids"] = torch.arange(32)[None]
    save_file(old, path, metadata={"format": "pt"})

    path = copy / "vae/diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, weight in load_file(path).items():
        for new, before in names.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{before}.")
        old[name] = weight
    assert "decoder.mid_block.attentions.0.proj_attn.weight" in old
    save_file(old, path, metadata={"format": "pt"})

    for name in ("unet", "vae", "text_encoder"):
        config = json.loads((copy / name / "config.json").read_text())
        config["_diffusers_version"], config["transformers_version"] = "0.6.0", "4.22.0.dev0"
        (copy / name / "config.json").write_text(json.dumps(config))
    backbone = StableDiffusion.from_pretrained(str(copy), device="cpu")
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(predict(backbone)[2].eps, predict(tiny)[2].eps)
    with torch.no_grad():
        assert torch.equal(backbone.encode(image), tiny.encode(image))
        assert torch.equal(backbone.decode(backbone.encode(image)), tiny.decode(tiny.encode(image)))


def test_an_unknown_prediction_type_is_refused(copy):
    change(copy / "scheduler/scheduler_config.json", prediction_type="sample")
    with pytest.raises(ValueError, match="'sample' is neither"):
        predict(StableDiffusion.from_pretrained(str(copy), device="cpu"))


def test_texts(tiny):
    """Each at its own length, padded to the limit; the empty one too; long ones refused with their count."""
    long = "x" * 40
    assert [embedding.shape for embedding in tiny.embed(["a", ""])] == [(32, 16)] * 2
    with pytest.raises(
        ValueError, match="the prompt has 42 tokens, start and end included, and the text encoder takes 32"
    ):
        tiny.embed(["a", long])


def test_long_texts_are_cut_with_a_warning_where_asked(tiny_folder, caplog):
    backbone = StableDiffusion.from_pretrained(str(tiny_folder), device="cpu", long_prompts="truncate")
    one, two, other = backbone.embed(["x" * 40, "x" * 35, "y" * 40])
    assert "the last 10 are cut" in caplog.text
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_weights_come_from_safetensors_only(copy):
    (copy / "unet/diffusion_pytorch_model.safetensors").rename(copy / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="is a pickle, which can hold code that runs, and only safetensors are read"):
        StableDiffusion.from_pretrained(str(copy), device="cpu")


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"])
def test_a_missing_weight_is_named(copy, part):
    path = copy / f"{part}.safetensors"
    weights = load_file(path)
    name = sorted(weights)[3]
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(OSError, match=f"{part.split('/')[0]}: 1 weights are missing from the file: {name}"):
        StableDiffusion.from_pretrained(str(copy), device="cpu")


def test_a_missing_tokenizer_is_an_error(copy):
    for path in (copy / "tokenizer").glob("*"):
        path.unlink()
    with pytest.raises(OSError, match="tokenizer"):
        StableDiffusion.from_pretrained(str(copy), device="cpu")


def test_a_folder_without_a_pipeline(tmp_path):
    for path, said in ((tmp_path, r"no unet/config\.json there"), (tmp_path / "nowhere", "no such folder")):
        with pytest.raises(FileNotFoundError, match=said):
            StableDiffusion.from_pretrained(str(path))


def test_an_inpainting_unet_is_refused(copy):
    change(copy / "unet/config.json", in_channels=9)
    path = copy / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"] = torch.zeros(16, 9, 3, 3)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="takes 9 channels, latents have 4"):
        StableDiffusion.from_pretrained(str(copy), device="cpu")


def test_the_resolution_is_the_unets_or_the_users(tiny_folder, tiny):
    assert tiny.resolution == 32
    assert StableDiffusion.from_pretrained(str(tiny_folder), device="cpu", resolution=48).resolution == 48
    with pytest.raises(ValueError, match=r"resolution = 50 is not a multiple of 8"):
        StableDiffusion.from_pretrained(str(tiny_folder), device="cpu", resolution=50)


@pytest.mark.parametrize(
    "settings", [{"dtype": "bfloat16", "vae_dtype": "bfloat16"}, {"memory_format": "channels_last"}]
)
def test_other_dtypes_and_layouts_agree(tiny_folder, tiny, settings):
    backbone = StableDiffusion.from_pretrained(str(tiny_folder), device="cpu", **settings)
    tolerance = 0.1 if "dtype" in settings else 1e-5
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents, expected = backbone.encode(image), tiny.encode(image)
        assert backbone.unet.dtype == getattr(torch, settings.get("dtype", "float32"))
        assert latents.dtype == backbone.decode(latents).dtype == torch.float32
        torch.testing.assert_close(latents, expected, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(backbone.decode(latents), tiny.decode(expected), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(predict(backbone)[2].eps, predict(tiny)[2].eps, atol=tolerance, rtol=tolerance)
    with pytest.raises(ValueError, match="none of float32, float16, bfloat16"):
        read_dtype("int8")


@pytest.mark.slow
def test_compiled_agrees(tiny_folder, tiny):
    backbone = StableDiffusion.from_pretrained(str(tiny_folder), device="cpu", compile="default")
    torch.testing.assert_close(predict(backbone)[2].eps, predict(tiny)[2].eps, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_agrees(tiny_folder, tiny):
    backbone = StableDiffusion.from_pretrained(str(tiny_folder), device="cuda")
    schedule = backbone.schedule(10)
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        conds = backbone.embed(["a", "b", ""])
        eps = backbone.predict(x.cuda(), [schedule[i] for i in (1, 5, 10)], conds).eps.cpu()
    torch.testing.assert_close(eps, predict(tiny)[2].eps, atol=1e-2, rtol=1e-2)


class Evil:
    """What runs where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    ("part", "stem"),
    [("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")],
)
@pytest.mark.parametrize("index", ["bin", "outside", "torn"])
def test_shards_that_are_not_safetensors_are_refused_before_anything_is_read(copy, part, stem, index):
    """An index that names a pickle, or a file elsewhere; the pickle is not opened."""
    weights = copy / part / f"{stem}.safetensors"
    names = list(load_file(weights))
    weights.unlink()
    torch.save({"a": Evil(copy / "ran")}, copy / part / f"{stem}.bin")
    file = {"bin": f"{stem}.bin", "outside": "../evil.safetensors", "torn": ""}[index]
    text = json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, file)}) if file else '{"weight_map"'
    (copy / part / f"{stem}.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"only safetensors beside it are read|not an index of weights"):
        StableDiffusion.from_pretrained(str(copy), device="cpu")
    assert not (copy / "ran").exists()


def test_weights_in_several_safetensors_are_read(copy, tiny):
    """As large models are saved."""
    weights = load_file(copy / "unet/diffusion_pytorch_model.safetensors")
    (copy / "unet/diffusion_pytorch_model.safetensors").unlink()
    names = sorted(weights)
    files = {name: f"diffusion_pytorch_model-{i % 2 + 1:05d}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: weights[name] for name in names if files[name] == file}
        save_file(part, copy / "unet" / file, metadata={"format": "pt"})
    size = sum(value.numel() * 4 for value in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": files}
    (copy / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert StableDiffusion.from_pretrained(str(copy), device="cpu").fingerprint == tiny.fingerprint


def test_shards_of_a_hub_id_are_looked_at_too(copy, monkeypatch):
    """Of its JSON files, which are fetched before any weights are."""
    fetched = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: fetched.append(name) or str(copy))
    (copy / "unet/a.safetensors.index.json").write_text('{"weight_map": {"a": "evil.bin"}}')
    with pytest.raises(ValueError, match=r"names evil.bin: only safetensors"):
        ModelFolder("somebody/model").check_files("unet")
    assert fetched == ["somebody/model"]


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_an_adapter_that_names_another_model_is_refused(copy, part):
    """transformers would load that one, by whatever files it has."""
    (copy / part / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(copy / "elsewhere")}))
    with pytest.raises(ValueError, match=rf"{part}/adapter_config\.json: an adapter"):
        StableDiffusion.from_pretrained(str(copy), device="cpu")


def test_a_pickle_under_the_name_of_safetensors_is_not_unpickled(copy):
    torch.save({"a": Evil(copy / "ran")}, copy / "unet/diffusion_pytorch_model.safetensors")
    with pytest.raises(Exception, match=r"(?i)safetensor|header|corrupt"):
        StableDiffusion.from_pretrained(str(copy), device="cpu")
    assert not (copy / "ran").exists()
