"""The mapping of CompVis' class-conditional models to diffusers, against plain functions of the original's weights.

In float64, so that what is equal is so to many digits, and the small number of a norm would show.
"""

import copy

import pytest
import torch
from compvis_modules import (
    AUTOENCODER,
    AVERAGE,
    CLASSES,
    UNET,
    average_name,
    make_levels,
    make_original,
    shrink_f4,
    shrink_f8,
    widen,
)

from diffedit.backbones.compvis import convert

EXACT = {"atol": 1e-9, "rtol": 1e-9}


@pytest.fixture(scope="module", params=["f4", "f8"])
def original(request):
    """The two public models in small."""
    return make_original(shrink_f4(), 1001, False) if request.param == "f4" else make_original(shrink_f8(), 1000, True)


@pytest.fixture(scope="module")
def converted(original):
    return convert(original.config, original.state)


@pytest.fixture(scope="module")
def small():
    """The least that has every kind of part, with both plain and averaged weights; not to be changed."""
    return make_original(shrink_f4((1, 2), 1, 11), 11, True)


def load(kind, config, weights):
    """A network of diffusers: a RuntimeError where a weight is missing or left over."""
    network = kind.from_config(config)
    network.load_state_dict(weights)
    return network.double().eval()


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def test_the_unet_is_the_original(original, converted):
    from diffusers import UNet2DConditionModel

    x, times, numbers = draw(3, original.unet["in_channels"], 8, 8), torch.tensor([1, 401, 981]), [0, 998, 999]
    network = load(UNet2DConditionModel, converted.unet_config, converted.unet)
    context = converted.class_embedding[numbers][:, None].double()
    wanted = original.predict(x, times, numbers, converted.is_average)
    torch.testing.assert_close(network(x, times, context).sample, wanted, **EXACT)
    assert wanted.std() > 0.1
    assert (wanted - original.predict(x, times, [0, 0, 0], converted.is_average)).abs().max() > 1e-3


@torch.no_grad()
def test_the_autoencoder_is_the_original(original, converted):
    """Latents as they are before they are quantised, which decoding does."""
    from diffusers import VQModel

    network = load(VQModel, converted.vqvae_config, converted.vqvae)
    images = draw(1, 3, original.side, original.side).tanh()
    latents = network.encode(images).latents
    torch.testing.assert_close(latents, original.encode(images), **EXACT)
    noise = draw(*latents.shape)
    assert latents.shape[1:] == (original.unet["in_channels"], 8, 8)
    torch.testing.assert_close(network.decode(noise).sample, original.decode(noise), **EXACT)
    codes = converted.vqvae["quantize.embedding.weight"].double()
    nearest = codes[torch.cdist(noise.movedim(1, -1).reshape(-1, codes.shape[1]), codes).argmin(1)]
    quantised = nearest.reshape(1, 8, 8, -1).movedim(-1, 1)
    torch.testing.assert_close(network.decode(quantised).sample, network.decode(noise).sample, **EXACT)
    assert network.config.scaling_factor == 1


def test_every_weight_has_its_place(original, converted):
    """None is there twice; of the checkpoint only losses, buffers and weights that an average stands for are not."""
    unet = {key for key in original.state if key.startswith(UNET)}
    autoencoder = {key for key in original.state if key.startswith(AUTOENCODER) and ".loss." not in key}
    assert (len(converted.unet), len(converted.vqvae)) == (len(unet), len(autoencoder))
    rest = set(original.state) - unet - autoencoder - {CLASSES}
    assert {key.split(".")[0] for key in rest} <= {
        *("betas", "alphas_cumprod", "sqrt_alphas_cumprod", "model_ema", "first_stage_model")
    }
    assert torch.equal(converted.class_embedding, original.state[CLASSES])


def test_heads(original, converted):
    """One head whatever the width, or heads of one width: diffusers counts them under another name."""
    assert converted.unet_config["attention_head_dim"] == (1 if "num_heads" in original.unet else [1, 2, 4])


@pytest.mark.parametrize("part", ["f4", "f8"])
def test_the_public_models_at_full_width(part):
    """Names and shapes alone; the original's notebook prints 400.92 M for the UNet of cin256-v2."""
    from diffusers import UNet2DConditionModel, VQModel

    with torch.device("meta"):
        original = make_original(*((widen(shrink_f4()), 1001) if part == "f4" else (widen(shrink_f8()), 1000)), False)
        converted = convert(original.config, original.state)
        unet = load(UNet2DConditionModel, converted.unet_config, converted.unet)
        load(VQModel, converted.vqvae_config, converted.vqvae)
    assert round(sum(weight.numel() for weight in unet.parameters()) / 1e6, 2) == (400.92 if part == "f4" else 394.98)
    assert converted.unet_config["attention_head_dim"] == (1 if part == "f4" else [8, 16, 32])
    assert converted.class_embedding.shape == (1001 if part == "f4" else 1000, 512)


def find_converter(name):
    utils = pytest.importorskip("diffusers.loaders.single_file_utils")
    if not hasattr(utils, name):
        pytest.skip(f"diffusers has no {name} any more, which is private")
    return getattr(utils, name)


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_unet_as_diffusers_converts_it(original, converted):
    convert_unet = find_converter("convert_ldm_unet_checkpoint")
    theirs = convert_unet(dict(original.state), converted.unet_config, extract_ema=converted.is_average)
    assert_same_weights(converted.unet, theirs)


def test_the_autoencoder_as_diffusers_converts_it(original, converted):
    """Which drops the codes, and does not know the attention of levels."""
    convert_vae = find_converter("convert_ldm_vae_checkpoint")
    theirs = convert_vae(dict(original.state), converted.vqvae_config)
    unknown = {key for key in converted.vqvae if "blocks" in key and "attentions" in key}
    assert len(unknown) == (50 if original.first_stage["ddconfig"]["attn_resolutions"] else 0)
    left = {key: value for key, value in converted.vqvae.items() if key not in unknown}
    assert left.pop("quantize.embedding.weight").shape == (64, original.unet["in_channels"])
    assert_same_weights(left, {key: value for key, value in theirs.items() if ".attn." not in key})


def test_the_config_as_diffusers_makes_it():
    """Of the model with one head alone: of heads of one width it makes none."""
    make_config = find_converter("create_unet_diffusers_config_from_ldm")
    original = make_original(shrink_f4((1, 2), 1, 11), 11, False)
    theirs = make_config(original.config, dict(original.state))
    ours = convert(original.config, original.state).unet_config
    for key in ours.keys() & theirs.keys() - {"sample_size"}:  # theirs is guessed from the kind of the model
        kind = list if isinstance(ours[key], list) else type(ours[key])
        assert kind(theirs[key]) == ours[key], key


def test_the_average_is_taken_unless_the_config_says_not(small):
    key, name = f"{UNET}middle_block.2.in_layers.2.weight", "mid_block.resnets.1.conv1.weight"
    config = copy.deepcopy(small.config)
    config["model"]["params"]["use_ema"] = False
    plain = convert(config, small.state)
    assert not plain.is_average
    assert torch.equal(plain.unet[name], small.state[key])
    del config["model"]["params"]["use_ema"]
    averaged = convert(config, small.state)
    assert averaged.is_average
    assert torch.equal(averaged.unet[name], small.state[average_name(key)])
    assert not torch.equal(averaged.unet[name], plain.unet[name])
    without = {key: value for key, value in small.state.items() if not key.startswith(AVERAGE)}
    assert not convert(config, without).is_average


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("model", "parameterization", "x0"),
        ("model", "beta_schedule", "cosine"),
        ("model", "conditioning_key", "concat"),
        ("model", "scale_by_std", True),
        ("unet_config", "use_spatial_transformer", False),
        ("unet_config", "use_scale_shift_norm", True),
        ("unet_config", "resblock_updown", True),
        ("unet_config", "num_classes", 1000),
        ("ddconfig", "attn_type", "linear"),
        ("ddconfig", "tanh_out", True),
        ("ddconfig", "double_z", True),
    ],
)
def test_other_kinds_are_refused_by_name(small, part, key, value):
    config = copy.deepcopy(small.config)
    params = config["model"]["params"]
    places = {"model": params, "unet_config": params["unet_config"]["params"]}
    places["ddconfig"] = params["first_stage_config"]["params"]["ddconfig"]
    places[part][key] = value
    with pytest.raises(ValueError, match=f"{part}: {key} = {value} cannot be converted"):
        convert(config, small.state)


def test_other_models_are_refused(small):
    for lacking in ("unet_config", "first_stage_config"):
        config = copy.deepcopy(small.config)
        del config["model"]["params"][lacking]
        with pytest.raises(ValueError, match=f"none of a latent diffusion model over a VQ autoencoder: no '{lacking}'"):
            convert(config, small.state)
    text = {key: value for key, value in small.state.items() if key != CLASSES}
    text["cond_stage_model.transformer.token_emb.weight"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"no cond_stage_model\.embedding\.weight .* not conditional on classes"):
        convert(small.config, text)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (f"{UNET}input_blocks.1.1.proj_in.weight", "UNet"),
        (f"{UNET}label_emb.weight", "UNet"),
        (f"{AUTOENCODER}encoder.down.0.attn.0.q.weight", "autoencoder"),
        (f"{AUTOENCODER}model_ema.decay", "autoencoder"),
        ("cond_stage_model.second.weight", "class embedding"),
        (f"{AVERAGE}diffusion_modelmiddle_block3weight", "moving average"),
    ],
)
def test_a_weight_left_over_is_named(small, key, what):
    config = copy.deepcopy(small.config)
    config["model"]["params"]["use_ema"] = True
    state = small.state | {key: torch.zeros(2)}
    if key.startswith(UNET):
        state[average_name(key)] = torch.zeros(2)
    with pytest.raises(ValueError, match=f"{what}: 1 weights? of the checkpoint .*{key.split('.')[-1]}"):
        convert(config, state)


def test_an_average_that_is_not_whole_is_refused(small):
    config = copy.deepcopy(small.config)
    config["model"]["params"]["use_ema"] = True
    name = average_name(f"{UNET}out.2.bias")
    with pytest.raises(ValueError, match=f"moving average lacks 1 weights?: {name}"):
        convert(config, {key: value for key, value in small.state.items() if key != name})


@pytest.mark.parametrize("steps", [10, 20, 50, 200])
def test_the_levels_are_those_of_the_originals_ddim(small, steps):
    """Timesteps from 1 on; the level below the first is the first of training, not a clean one."""
    from diffusers import DDIMScheduler

    from diffedit.backbones.latent import LatentBackbone

    backbone = LatentBackbone()
    backbone.scheduler = DDIMScheduler.from_config(convert(small.config, small.state).scheduler_config)
    _, alphas = make_levels(small.params)
    times = [1 + t for t in range(0, 1000, 1000 // steps)]
    schedule = backbone.schedule(steps)
    assert [level.timestep for level in schedule.levels[1:]] == times
    wanted = alphas[[0, *times]]
    squares = torch.tensor([(level.alpha**2, level.sigma**2) for level in schedule.levels], dtype=torch.float64)
    torch.testing.assert_close(squares[:, 0], wanted, rtol=2e-5, atol=0)
    torch.testing.assert_close(squares[:, 1], 1 - wanted, rtol=2e-4, atol=0)
