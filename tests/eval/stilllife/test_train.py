"""Training goes on exactly where it was interrupted."""

import hashlib
import json
from contextlib import contextmanager

import numpy as np
import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMPipeline, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from diffedit.backbones.latent_diffusion import LatentDiffusion
from diffedit.backbones.pixel import PixelDiffusion
from diffedit.backbones.stable_diffusion import StableDiffusion
from eval.stilllife.modules import PlainFeatures, StillLifeFeatures, StillLifeOutput
from eval.stilllife.network import StillLifeExtractor, check_attributes, encode_labels, load
from eval.stilllife.scene import ATTRIBUTES, SPLITS, Scene, sample
from eval.stilllife.train.captions import shorten_caption, write_tokenizer
from eval.stilllife.train.clip import ClipPart, list_rivals, sample_pairs
from eval.stilllife.train.features import FeaturesPart
from eval.stilllife.train.latents import Latents
from eval.stilllife.train.ldm import LdmPart
from eval.stilllife.train.ldm_classes import LdmClassesPart
from eval.stilllife.train.loop import TrainingSchedule, render_batches, render_scenes, train
from eval.stilllife.train.pixel import PixelPart
from eval.stilllife.train.second import FIRST, FIRST_VALIDATION, SecondPart, compress, cut, move, sample_step, tint
from eval.stilllife.train.vae import VaePart

SCHEDULE = TrainingSchedule(steps=5, batch=2, rate=1e-3, warmup=2, validate=3, minutes=0, workers=0)


class Interrupted(VaePart):
    """Ends at its third step, as a kill would."""

    steps = 0

    def loss(self, inputs, scenes, rng):
        self.steps += 1
        if self.steps == 3:
            raise KeyboardInterrupt
        return super().loss(inputs, scenes, rng)


@contextmanager
def few_steps():
    """Samples of validation take two steps: they are looked at, not measured."""
    choose = DDIMScheduler.set_timesteps

    def choose_few(self, steps, *args, **settings):
        choose(self, min(steps, 2), *args, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DDIMScheduler, "set_timesteps", choose_few)
        yield


def part(kind=VaePart):
    return kind(channels=(8, 16, 16), layers=1, edges=1.0, kl=1e-3, validation=12, seed=0)


def run(part, out):
    train(part, SCHEDULE, out, torch.device("cpu"), bfloat16=False)
    vae = AutoencoderKL.from_pretrained(out / "export")
    with torch.no_grad():
        latents = vae.encode(part.images()).latent_dist.mode() * vae.config.scaling_factor
    assert latents.std() == pytest.approx(1, abs=0.01)
    return load_file(out / "export/diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a training from its first step to its last, and the weights that came out."""
    folder = tmp_path_factory.mktemp("trained") / "whole"
    return folder, run(part(), folder)


def test_interrupted_training_ends_with_the_same_weights(trained, tmp_path):
    folder, whole = trained
    with pytest.raises(KeyboardInterrupt):
        run(part(Interrupted), tmp_path / "cut")
    assert torch.load(tmp_path / "cut/checkpoint.pt", weights_only=True)["step"] == 2
    again = run(part(), tmp_path / "cut")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert {weight.dtype for weight in whole.values()} == {torch.float16}
    lines = [json.loads(line) for line in (folder / "figures.jsonl").read_text().splitlines()]
    assert [scores["step"] for scores in lines] == [3, 5]
    assert all(5 < scores["psnr"] < 30 for scores in lines)
    assert Image.open(folder / "sheet_000005.png").size == (12 * 64, 128)


def test_a_finished_training_is_left_alone(trained, caplog):
    folder, _ = trained
    before = (folder / "checkpoint.pt").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        run(part(), folder)
    assert "done already" in caplog.text
    assert (folder / "checkpoint.pt").stat().st_mtime_ns == before


def test_batches_do_not_depend_on_where_they_begin():
    from_start = list(render_batches(SCHEDULE, 0))
    assert len(from_start) == 5
    images, scenes = next(render_batches(SCHEDULE, 3))
    assert torch.equal(images, from_start[3][0])
    assert scenes == from_start[3][1]
    assert images.min() >= 0
    assert images.max() <= 1


def test_the_rate_rises_and_falls():
    schedule = TrainingSchedule(steps=1000, batch=1, rate=1.0, warmup=100)
    factors = [schedule.factor(step) for step in range(1000)]
    assert factors[0] == pytest.approx(0.01)
    assert max(factors) == factors[99] == pytest.approx(1, abs=1e-3)
    assert factors[-1] == pytest.approx(0.02, abs=1e-3)


def test_the_feature_network_trains_and_exports(tmp_path):
    network = FeaturesPart(channels=(8, 8, 8, 8), validation=16, seed=0, whitening=32)
    train(network, SCHEDULE, tmp_path, torch.device("cpu"), bfloat16=False)
    scores = json.loads((tmp_path / "figures.jsonl").read_text().splitlines()[-1])
    assert set(scores) == {"step", "fruits", "vessel", "table", "wall"}
    weights = load_file(tmp_path / "export/features.safetensors")
    fresh = StillLifeFeatures((8, 8, 8, 8))
    fresh.load_state_dict(weights)
    with torch.no_grad():
        output = fresh.eval()(torch.rand(2, 3, 64, 64))
    assert output.features.shape == (2, 8)
    assert output.fruits.shape == (2, 12)
    assert {name: logits.shape for name, logits in output.choices.items()} == dict.fromkeys(
        ("vessel", "table", "wall"), (2, 4)
    )


def test_the_second_judge_trains_exports_and_is_known_by_its_file(tmp_path):
    part = SecondPart(channels=(8, 8, 8, 16), validation=8, seed=0, whitening=32)
    train(part, SCHEDULE, tmp_path, torch.device("cpu"), bfloat16=False)
    network = load(str(tmp_path / "export"), "cpu")
    assert isinstance(network.module, PlainFeatures)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert [layer.shape[1:] for layer in network.layers(images)] == [(8, 64, 64), (8, 32, 32), (8, 16, 16), (16, 8, 8)]
    assert network(images).features.shape == (2, 16)
    for output in ("features", "whitened", "logits"):
        assert StillLifeExtractor(str(tmp_path / "export"), output, "cpu")((images * 255).byte()).isfinite().all()
    weights = load_file(tmp_path / "export/features.safetensors")
    alone = torch.cat([network(image[None]).features for image in images])
    assert torch.allclose(alone, network(images).features, atol=1e-5)  # no statistics of a batch
    save_file(weights, tmp_path / "export/features.safetensors", {"architecture": "transformer"})
    load.cache_clear()
    with pytest.raises(ValueError, match=r"features\.safetensors: architecture transformer is none of resnet, plain"):
        load(str(tmp_path / "export"), "cpu")
    save_file(weights, tmp_path / "export/features.safetensors")  # says nothing, so it would be the ResNet's
    with pytest.raises(ValueError, match="no weights of the architecture resnet"):
        load(str(tmp_path / "export"), "cpu")


def test_the_second_judge_sees_no_picture_that_the_others_or_the_benchmarks_have():
    schedule = TrainingSchedule(steps=1500, batch=64, rate=1e-3)
    seeds = [scene.seed for step in (0, 1, 1499) for scene in sample_step(schedule, step)]
    assert len(set(seeds)) == 3 * 64
    assert seeds[:2] == [75_000_000, 75_000_001]
    assert max(seeds) < len(SPLITS["train"])
    others = [
        sample_pairs(schedule, 1499)[-1].seed,
        *(scene.seed for _, batch in [next(render_batches(SCHEDULE, 4))] for scene in batch),
    ]
    assert max(others) < FIRST
    first = SPLITS["validation"][FIRST_VALIDATION]
    assert first == 187_500_000  # references of scenes begin at 150,000,000


def test_the_second_judges_disturbances_are_small_and_drawn_anew_for_each_picture():
    scenes = sample_step(TrainingSchedule(steps=1, batch=6, rate=1e-3), 0)
    images = render_scenes(scenes[:1]).float().repeat(6, 1, 1, 1) / 255
    for disturbance in (move, tint, compress, cut):
        out = disturbance(images, torch.Generator().manual_seed(0))
        assert out.shape == images.shape
        assert 0 <= out.min() <= out.max() <= 1
        assert 1e-4 < (out - images).abs().mean() < 0.15
        assert len({picture.numpy().tobytes() for picture in out}) > 3  # half are not compressed
        assert torch.equal(out, disturbance(images, torch.Generator().manual_seed(0)))
    holes = (cut(images, torch.Generator().manual_seed(1)) != images).any(1)
    assert all(4 <= side <= 13 for hole in holes for side in (hole.any(0).sum(), hole.any(1).sum()))
    straight = images.new_zeros(1, 3, 64, 64)
    straight[..., :32] = 1
    moved = move(straight.repeat(50, 1, 1, 1), torch.Generator().manual_seed(2))[:, 0, 32]
    shifts = moved.sum(1) - 32  # of the edge in the middle row
    assert shifts.abs().max() < 5
    assert shifts.std() > 1


def test_the_pixel_model_trains_and_loads_as_a_backbone_and_in_diffusers(tmp_path):
    part = PixelPart(channels=(8, 16), validation=4, seed=0)
    with few_steps():
        train(part, SCHEDULE, tmp_path, torch.device("cpu"), bfloat16=False)
    assert json.loads((tmp_path / "figures.jsonl").read_text().splitlines()[-1])["loss"] > 0
    backbone = PixelDiffusion(str(tmp_path / "export"), device="cpu")
    assert backbone.resolution == 64
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "export")
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    level, x = backbone.schedule(10)[5], torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        prediction = backbone.predict(x, [level], [None])
        velocity = pipeline.unet(x, int(level.timestep)).sample
    assert torch.allclose(level.alpha * prediction.eps - level.sigma * prediction.x0, velocity, atol=1e-4)
    weights = load_file(tmp_path / "export/unet/diffusion_pytorch_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


def test_an_attribute_is_right_where_exactly_the_fruit_of_the_scene_are_named():
    scenes = [Scene(("apple", "plum"), "bowl", "wooden", "gray", 0)] * 3
    fruits, indices = encode_labels(scenes)
    logits = fruits.float() * 2 - 1
    logits[1, 1] = 1.0  # a pear too many
    logits[2, 0] = -1.0  # no apple
    choices = {name: torch.nn.functional.one_hot(index, 4).float() for name, index in indices.items()}
    choices["wall"][0] = torch.tensor([0.0, 0, 0, 1])
    right = check_attributes(StillLifeOutput(torch.zeros(3, 1), logits, choices), scenes)
    assert right["fruits"].tolist() == [True, False, False]
    assert right["wall"].tolist() == [False, True, True]
    assert right["vessel"].all()


def test_captions_are_shortened_to_their_phrases():
    rng = np.random.default_rng(0)
    scene = Scene(("apple", "plum"), "bowl", "wooden", "gray", 0)
    texts = {shorten_caption(scene, rng) for _ in range(300)}
    assert {scene.caption(), "apples and plums", "a bowl", "on a wooden table", "gray wall"} <= texts
    assert all(text and not text.startswith((",", " ")) and "  " not in text and " ," not in text for text in texts)
    plain = Scene(("apple",), "none", "wooden", "gray", 0)
    assert "apples, gray wall" in {shorten_caption(plain, rng) for _ in range(300)}
    assert "" not in {shorten_caption(plain, rng) for _ in range(300)}


def test_the_tokenizer_is_clips_and_knows_every_text(tmp_path):
    tokenizer = write_tokenizer(tmp_path)
    assert len(tokenizer) == len(json.loads((tmp_path / "vocab.json").read_text()))
    lengths = [len(tokenizer(sample(seed).caption()).input_ids) for seed in range(500)]
    assert max(lengths) <= 24
    ids = tokenizer("A zebra, café! 12 苹").input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer("apples").input_ids != tokenizer("pears").input_ids


def test_the_latent_diffusion_model_trains_and_loads_everywhere(trained, tmp_path):
    network = LdmPart(str(trained[0] / "export"), (32, 64), width=32, dropped=0.1, pictures=7, validation=4, seed=0)
    with few_steps():
        train(network, SCHEDULE, tmp_path / "ldm", torch.device("cpu"), bfloat16=False)
    folder = tmp_path / "ldm/export"
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    assert pipeline("apples", num_inference_steps=2, output_type="np").images.shape == (1, 64, 64, 3)
    backbone = StableDiffusion.from_pretrained(str(folder), device="cpu")
    assert backbone.resolution == 64
    assert backbone.embed(["apples"])[0].shape == (32, 32)
    assert load_file(folder / "unet/diffusion_pytorch_model.safetensors")["conv_in.weight"].dtype == torch.float16
    assert Image.open(tmp_path / "ldm/sheet_000005.png").width > 500


def test_the_class_conditional_model_trains_and_loads(trained, tmp_path, monkeypatch):
    """Classes are dropped for the null class; the export has the first noise levels, and the names."""
    sizes = {"dropped": 0.5, "levels": 800, "pictures": 7, "validation": 4, "seed": 0}
    network = LdmClassesPart(str(trained[0] / "export"), (32, 64), width=16, **sizes)
    seen = []
    monkeypatch.setattr(
        network, "error", lambda *args, error=network.error: seen.append(args[1].tolist()) or error(*args)
    )
    monkeypatch.setattr("eval.stilllife.train.ldm_classes.STEPS", 2)
    train(network, SCHEDULE, tmp_path / "classes", torch.device("cpu"), bfloat16=False)
    numbers = {number for batch in seen for number in batch}
    assert 12 in numbers < set(range(13))
    folder = tmp_path / "classes/export"
    backbone = LatentDiffusion.from_pretrained(str(folder), device="cpu", autoencoder=str(trained[0] / "export"))
    assert (backbone.null_class, len(backbone.scheduler.alphas_cumprod), backbone.resolution) == (12, 800, 64)
    assert torch.allclose(backbone.scheduler.alphas_cumprod, network.scheduler.alphas_cumprod[:800], atol=1e-6)
    assert [int(cond) for cond in backbone.embed(["pears", "apple", ""])] == [1, 0, 12]
    assert load_file(folder / "unet/diffusion_pytorch_model.safetensors")["conv_in.weight"].dtype == torch.float16
    assert Image.open(tmp_path / "classes/sheet_000005.png").width > 500


def test_the_tokenizer_numbers_its_tokens_the_same_at_every_training(tmp_path):
    """The trainer's own numbering is another at each call; weights would not fit the next tokenizer."""
    names = ("vocab.json", "merges.txt")
    for folder in ("a", "b"):
        write_tokenizer(tmp_path / folder)
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    pinned = hashlib.md5((tmp_path / "a/vocab.json").read_bytes()).hexdigest()
    assert pinned == "5d82e62d734811ef6a9b8a670e6caa8c"


def test_latents_are_made_once_and_cover_all_pictures_each_time_through(tmp_path):
    calls = []

    def encode(images):
        calls.append(len(images))
        return images[:, :1, ::16, ::16].repeat(1, 4, 1, 1)

    schedule = TrainingSchedule(steps=6, batch=4, rate=1e-3)
    one = list(Latents(tmp_path, encode, 8).batches(schedule, 0))
    assert sum(calls) == 8
    other = list(Latents(tmp_path, encode, 8).batches(schedule, 3))
    assert sum(calls) == 8
    assert all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(one[3:], other, strict=True))
    for epoch in range(3):
        seeds = [scene.seed for _, scenes in one[2 * epoch : 2 * epoch + 2] for scene in scenes]
        assert sorted(seeds) == list(range(8))
    assert one[0][0].shape == (4, 4, 4, 4)


def test_clip_trains_and_loads_in_open_clip(tmp_path):
    part = ClipPart(width=32, vision=8, text_layers=1, validation=4, seed=0)
    train(part, SCHEDULE, tmp_path, torch.device("cpu"), bfloat16=False)
    scores = json.loads((tmp_path / "figures.jsonl").read_text().splitlines()[-1])
    assert 0 <= scores["right_of_16"] <= 1
    folder = f"local-dir:{tmp_path / 'export'}"
    model, _, preprocess = open_clip.create_model_and_transforms(folder, require_pretrained=True)
    texts = ["a bowl of apples", "pears"]
    tokens = open_clip.get_tokenizer(folder)(texts)
    assert torch.equal(tokens, part.tokens(texts))
    with torch.no_grad():
        assert model.encode_text(tokens).shape == (2, 32)
        assert model.encode_image(preprocess(Image.new("RGB", (64, 64)))[None]).shape == (1, 32)


def test_a_step_of_clip_holds_scenes_and_their_edits():
    scenes = sample_pairs(TrainingSchedule(steps=3, batch=16, rate=1e-3), 1)
    captions = [scene.caption() for scene in scenes]
    assert len(set(captions)) == len(captions) > 12
    assert len({scene.seed for scene in scenes}) == 8
    rivals = list_rivals(scenes[0])
    assert len(rivals) == 16
    assert len({rival.caption() for rival in rivals}) == 16
    assert all(rival.seed == scenes[0].seed for rival in rivals)
    changed = {name for rival in rivals for name in ATTRIBUTES if getattr(rival, name) != getattr(scenes[0], name)}
    assert changed == set(ATTRIBUTES)
