"""A loaded diffusers pipeline as the backbone: shared as its user set it, and left alone."""

import copy

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from peft import LoraConfig

import diffedit
from diffedit.backbones.stable_diffusion import StableDiffusion, expand_tokens
from diffedit.testing import TinyPipeline


@pytest.fixture
def pipe(tiny_folder):
    return StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None, requires_safety_checker=False)


def predict(backbone, text="a cat"):
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return backbone.predict(x, [backbone.schedule(10)[5]], backbone.embed([text])).eps


def test_it_shares_the_networks_and_equals_what_is_loaded_from_the_folder(pipe, tiny):
    backbone = StableDiffusion.from_pipeline(pipe)
    assert backbone.unet is pipe.unet
    assert backbone.vae is pipe.vae
    assert backbone.text_encoder is pipe.text_encoder
    assert backbone.tokenizer is pipe.tokenizer
    assert torch.equal(predict(backbone), predict(tiny))
    assert (backbone.fingerprint, backbone.resolution) == (tiny.fingerprint, tiny.resolution)
    assert [backbone.schedule(7)[i] for i in range(8)] == [tiny.schedule(7)[i] for i in range(8)]


def test_it_changes_nothing_about_the_pipeline(pipe):
    """Scheduler, weights, gradients, modes and the tokenizer are after an edit what they were."""
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.scheduler.set_timesteps(13)

    def look():
        networks = (pipe.unet, pipe.vae, pipe.text_encoder)
        return {
            "weights": [p.detach().clone() for network in networks for p in network.parameters()],
            "grad": [p.requires_grad for network in networks for p in network.parameters()],
            "mode": [module.training for network in networks for module in network.modules()],
            "times": pipe.scheduler.timesteps.clone(),
            "config": dict(pipe.scheduler.config),
            "tokenizer": (pipe.tokenizer.model_max_length, len(pipe.tokenizer)),
            "identity": [id(part) for part in pipe.components.values()],
        }

    before = look()
    diffedit.edit(pipe, torch.rand(3, 32, 32), "a dog", num_inference_steps=4)
    after = look()
    for one, other in zip(before.pop("weights"), after.pop("weights"), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(before.pop("times"), after.pop("times"))
    assert before == after


def test_the_schedule_is_the_networks_whatever_sampler_is_set(pipe, tiny):
    """Betas, spacing and prediction type are the model's; Euler's own sigmas are not asked."""
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    assert [level.alpha for level in StableDiffusion.from_pipeline(pipe).schedule(10)] == [
        level.alpha for level in tiny.schedule(10)
    ]


def test_a_lora_is_in_the_edit_and_out_of_it_again(pipe):
    plain = predict(StableDiffusion.from_pipeline(pipe))
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False), "a")
    backbone = StableDiffusion.from_pipeline(pipe)
    with_lora = predict(backbone)
    assert not torch.allclose(with_lora, plain, atol=1e-4)
    pipe.disable_lora()
    assert torch.equal(predict(backbone), plain)


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_textual_inversion_is_read_as_the_pipeline_reads_it(pipe, vectors):
    embedding = torch.randn(vectors, 16, generator=torch.Generator().manual_seed(0))
    pipe.load_textual_inversion({"<toy>": embedding})
    backbone = StableDiffusion.from_pipeline(pipe)
    with torch.no_grad():
        theirs, _ = pipe.encode_prompt("a <toy>", "cpu", 1, do_classifier_free_guidance=False)
        (ours,) = backbone.embed(["a <toy>"])
        (plain,) = backbone.embed(["a cat"])
    assert torch.equal(ours, theirs[0])
    assert not torch.equal(ours, plain)


@pytest.mark.parametrize("text", ["a <toy>", "<toy>, <toy> and <one>", "<toy> beside a <toys>", "a cat", "", "<toy>_1"])
def test_texts_are_expanded_as_diffusers_expands_them(pipe, text):
    """Each token of several vectors to all of them."""
    draw = torch.Generator().manual_seed(0)
    for token, vectors in {"<toy>": 4, "<one>": 1, "<toys>": 2}.items():
        pipe.load_textual_inversion({token: torch.randn(vectors, 16, generator=draw)})
    assert expand_tokens(text, pipe.tokenizer) == pipe.maybe_convert_prompt(text, pipe.tokenizer)
    if text == "a <toy>":
        assert expand_tokens(text, pipe.tokenizer) == "a <toy> <toy>_1 <toy>_2 <toy>_3"


def test_a_textual_inversion_is_read_from_a_folder_too(pipe, tmp_path):
    """All its vectors; they count as tokens."""
    pipe.load_textual_inversion({"<toy>": torch.randn(4, 16, generator=torch.Generator().manual_seed(0))})
    pipe.save_pretrained(tmp_path, safe_serialization=True)
    backbone = StableDiffusion.from_pretrained(str(tmp_path), device="cpu")
    with torch.no_grad():
        theirs, _ = pipe.encode_prompt("a <toy>", "cpu", 1, do_classifier_free_guidance=False)
        (ours,) = backbone.embed(["a <toy>"])
    assert torch.equal(ours, theirs[0])
    with pytest.raises(ValueError, match=r"the prompt has 34 tokens, .* takes 32: '<toy> <toy>_1"):
        backbone.embed(["<toy>" * 8])


def test_dtypes_stay_as_they_were_set(pipe, tiny):
    pipe.unet.to(torch.bfloat16)
    backbone = StableDiffusion.from_pipeline(pipe)
    assert (backbone.dtype, backbone.vae_dtype, pipe.text_encoder.dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.float32,
    )
    torch.testing.assert_close(predict(backbone), predict(tiny), atol=0.1, rtol=0.1)
    pipe.to(torch.bfloat16)
    result = diffedit.edit(pipe, torch.rand(3, 32, 32), "a dog", num_inference_steps=4)
    assert result.error is None


def test_pipelines_of_another_layout_are_refused(pipe, tmp_path):
    pixels = copy.copy(pipe)
    pixels.register_modules(vae=None)
    with pytest.raises(ValueError, match="StableDiffusionPipeline has no vae: a pipeline in Stable Diffusion's layout"):
        StableDiffusion.from_pipeline(pixels)
    nine = TinyPipeline().write(tmp_path)
    inpainting = StableDiffusionPipeline.from_pretrained(nine, safety_checker=None, requires_safety_checker=False)
    inpainting.unet.register_to_config(in_channels=9)
    with pytest.raises(ValueError, match="StableDiffusionPipeline: the UNet takes 9 channels"):
        StableDiffusion.from_pipeline(inpainting)


def test_a_network_that_wants_more_than_a_text_is_refused(pipe):
    """Stable Diffusion XL's, say: the error is at the door, not deep in a network."""
    pipe.unet.register_to_config(addition_embed_type="text_time")
    with pytest.raises(ValueError, match="its UNet wants 'text_time' beside a text"):
        StableDiffusion.from_pipeline(pipe)


def test_parts_that_no_family_has_are_refused(pipe):
    parts = {name: getattr(pipe, name) for name in StableDiffusion.parts}
    with pytest.raises(TypeError, match=r"takes the parts unet, vae, .*: text_encoder_2"):
        StableDiffusion(**parts, text_encoder_2=None)
