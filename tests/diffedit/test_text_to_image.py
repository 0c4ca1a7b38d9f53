"""Pictures from texts: the same as diffusers draws, made once, and edited like any other."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers import config
from PIL import Image

from diffedit.engine.queries import run_alone
from diffedit.sampling.noise import RequestNoise
from diffedit.text_to_image import TextToImage, sample
from eval.benchmarks.generated import Generated
from eval.benchmarks.grammar import Grammar


def test_a_sample_is_diffusers_sample(tiny, tiny_folder):
    """Their pipeline with the same noise; `set_alpha_to_one: false` is the schedule of both."""
    like, noise = torch.zeros(1, 4, 8, 8), RequestNoise(0, "a")
    schedule = tiny.schedule(10)
    image = run_alone(sample("a cat", like, schedule, noise, 5.0), tiny).edits[0].image
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    # They begin at unit variance, we at sigma of the noisiest level.
    latents = noise.randn_like(like, "sample") * schedule[10].sigma
    expected = pipeline("a cat", latents=latents, num_inference_steps=10, guidance_scale=5.0, output_type="pt").images
    torch.testing.assert_close(image, expected[0], atol=1e-4, rtol=1e-4)


def test_a_full_device_is_told_with_what_may_help(tiny_folder, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("diffedit.backbones.stable_diffusion.StableDiffusion.predict", full)
    with pytest.raises(RuntimeError, match=r"out of memory: one row in a call.*backbone\.dtype"):
        dict(TextToImage(config(tiny_folder), steps=2, batch=4)({"a": "a cat"}))


def test_a_picture_does_not_depend_on_the_others(tiny_folder):
    texts = {"a": "a cat", "b": "a dog", "c": "a cat"}
    text_to_image = TextToImage(config(tiny_folder), steps=3, batch=4)
    together = dict(text_to_image(texts))
    assert torch.equal(dict(text_to_image({"b": "a dog"}))["b"], together["b"])
    assert not torch.equal(together["a"], together["c"])


def test_a_guidance_interval_is_the_samplers(tiny_folder):
    """And the fingerprint of before stays where there is none: what was drawn need not be drawn again."""
    settings = {"backbone": config(tiny_folder), "steps": 4, "batch": 4}
    whole, part = (
        dict(TextToImage(**settings, guidance_interval=bounds)({"a": "a cat"}))["a"] for bounds in ((0, 1), (0.5, 1))
    )
    assert torch.equal(dict(TextToImage(**settings)({"a": "a cat"}))["a"], whole)
    assert not torch.equal(whole, part)
    assert TextToImage({"_target_": "a.B"}).fingerprint == "44f69c3ae96b4e7e"
    assert TextToImage({"_target_": "a.B"}, guidance_interval=(0.5, 1)).fingerprint != "44f69c3ae96b4e7e"
    assert TextToImage({"_target_": "a.B", "timestep_spacing": None}).fingerprint == "44f69c3ae96b4e7e"
    assert TextToImage({"_target_": "a.B", "timestep_spacing": "trailing"}).fingerprint != "44f69c3ae96b4e7e"


def test_the_fingerprint_names_settings_and_weights(tiny_folder, tmp_path):
    from diffedit.testing import TinyPipeline

    names = {
        TextToImage(config(tiny_folder)).fingerprint,
        TextToImage(config(tiny_folder), steps=7).fingerprint,
        TextToImage(config(tiny_folder), seed=7).fingerprint,
        TextToImage(config(TinyPipeline(seed=1).write(tmp_path / "other"))).fingerprint,
    }
    assert len(names) == 4
    before = TextToImage(config(tmp_path / "other")).fingerprint
    TinyPipeline(seed=2).write(tmp_path / "other")
    assert TextToImage(config(tmp_path / "other")).fingerprint != before


@pytest.fixture
def benchmark(tmp_path):
    from diffedit.testing import TinyPipeline

    folder = TinyPipeline(latent=16, tokens=77).write(tmp_path / "tiny")
    text_to_image = TextToImage(config(folder), steps=2, batch=4)
    grammar = Grammar("{fruit}", {"fruit": ["apples", "pears", "plums"]})
    return Generated(text_to_image, grammar, limit=3, cache=str(tmp_path / "cache"))


def test_generated_pictures_are_drawn_once(benchmark, monkeypatch):
    requests = list(benchmark.requests(64))
    assert sorted(request.id for request in requests) == ["0-fruit", "1-fruit", "2-fruit"]
    assert all(request.source != request.target for request in requests)
    assert all(request.mask is None and request.true_edit is None for request in requests)
    images = [request.image() for request in requests]
    assert images[0].shape == (3, 64, 64)
    assert not torch.equal(images[0], images[1])
    files = {path: path.stat().st_mtime_ns for path in benchmark_files(benchmark)}
    monkeypatch.setattr(TextToImage, "__call__", None)
    again = list(benchmark.requests(64))
    assert all(torch.equal(one, request.image()) for one, request in zip(images, again, strict=True))
    assert files == {path: path.stat().st_mtime_ns for path in benchmark_files(benchmark)}
    assert again[0].image().shape == (3, 64, 64)
    assert next(iter(benchmark.requests(32))).image().shape == (3, 32, 32)


def test_a_missing_picture_alone_is_drawn_again_and_is_the_same(benchmark):
    list(benchmark.requests(64))
    path = benchmark_files(benchmark)[1]
    before = path.read_bytes()
    path.unlink()
    list(benchmark.requests(64))
    assert path.read_bytes() == before
    assert Image.open(path).size == (64, 64)


def test_a_score_never_draws(benchmark):
    """What was edited is compared, not a picture drawn for the occasion."""
    reader = replace(benchmark, generate_missing=False)
    request = next(iter(reader.requests(64)))
    with pytest.raises(FileNotFoundError, match=r"\.png: no such file"):
        request.image()
    assert not benchmark_files(benchmark)


def benchmark_files(benchmark):
    from pathlib import Path

    return sorted(Path(benchmark.cache).rglob("*.png"))


def test_the_fingerprint_names_the_class_and_not_how_it_is_loaded():
    """Pictures that were drawn when the class itself took the path need not be drawn again."""
    name = "diffedit.backbones.stable_diffusion.StableDiffusion"
    one, other = ({"_target_": target, "path": "nowhere"} for target in (name, f"{name}.from_pretrained"))
    assert TextToImage(one).fingerprint == TextToImage(other).fingerprint
