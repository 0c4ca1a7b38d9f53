"""CompVis' class-conditional latent diffusion models in diffusers' names: configs and weights, key by key.

The original is a yaml and one state dict: `model.diffusion_model.*` (UNet), `first_stage_model.*` (VQ autoencoder),
`cond_stage_model.embedding` (classes), and `model_ema.*`, a moving average of the UNet under names without dots.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

Config = Mapping[str, Any]
State = Mapping[str, Tensor]

UNET, AUTOENCODER, EMA = "model.diffusion_model.", "first_stage_model.", "model_ema."
CLASS_EMBEDDER = "cond_stage_model."
CLASSES = f"{CLASS_EMBEDDER}embedding.weight"

RESNET = {
    **{"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj"},
    **{"out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut"},
}
VQ_RESNET = {**{name: name for name in ("norm1", "conv1", "norm2", "conv2")}, "nin_shortcut": "conv_shortcut"}
VQ_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}

# What the original can be told and diffusers' blocks do otherwise: refused at any other value.
UNET_AS = {"use_spatial_transformer": True, "resblock_updown": False, "use_scale_shift_norm": False, "dims": 2}
UNET_AS |= {"num_classes": None, "conv_resample": True, "n_embed": None}
PARAMS_AS = {"parameterization": "eps", "beta_schedule": "linear", "scale_by_std": False}
PARAMS_AS |= {"conditioning_key": "crossattn"}
AUTOENCODER_AS = {"double_z": False, "attn_type": "vanilla", "use_linear_attn": False, "resamp_with_conv": True}
AUTOENCODER_AS |= {"give_pre_end": False, "tanh_out": False}
NOT_WEIGHTS = ("loss.", "colorize")  # of an autoencoder's state dict
COUNTERS = {f"{EMA}decay", f"{EMA}num_updates"}


class Converted(NamedTuple):
    """A model in diffusers' layout."""

    unet_config: dict[str, Any]
    unet: dict[str, Tensor]
    vqvae_config: dict[str, Any]
    vqvae: dict[str, Tensor]
    class_embedding: Tensor
    scheduler_config: dict[str, Any]
    is_average: bool  # whether the UNet is the moving average


def convert(config: Config, state: State) -> Converted:
    """A model of CompVis in diffusers' names.

    Args:
        config: the yaml that belongs to the checkpoint.
        state: its state dict.

    Raises:
        ValueError: the config is of another kind of model, or a weight is left over. One that is missing is found when
            the networks load theirs.
    """
    try:
        return convert_parts(config, state)
    except KeyError as error:
        raise ValueError(f"the config is none of a latent diffusion model over a VQ autoencoder: no {error}") from error


def convert_parts(config: Config, state: State) -> Converted:
    """The same; a KeyError where the config lacks a setting."""
    if not isinstance(config["model"], Mapping):
        raise KeyError("model")
    params = config["model"]["params"]
    unet, first_stage = params["unet_config"]["params"], params["first_stage_config"]["params"]
    autoencoder = {**first_stage["ddconfig"], **{key: first_stage[key] for key in ("embed_dim", "n_embed")}}
    kinds = {"model": (params, PARAMS_AS), "unet_config": (unet, UNET_AS), "ddconfig": (autoencoder, AUTOENCODER_AS)}
    refuse_other_kinds(kinds)
    if CLASSES not in state:
        raise ValueError(f"no {CLASSES} in the checkpoint: the model is not conditional on classes")
    refuse_left("class embedding", [key for key in state if key.startswith(CLASS_EMBEDDER) and key != CLASSES])
    # The class of the original averages its weights unless it is told not to.
    is_average = params.get("use_ema", True) and any(key.startswith(EMA) for key in state)
    return Converted(
        make_unet_config(unet),
        rename(read_unet(state, is_average), dict(rename_unet(unet)), "UNet"),
        make_autoencoder_config(autoencoder) | {"scaling_factor": params.get("scale_factor", 1.0)},
        rename(read_autoencoder(state), dict(rename_autoencoder(autoencoder)), "autoencoder"),
        state[CLASSES],
        make_scheduler_config(params),
        is_average,
    )


def refuse_other_kinds(parts: Mapping[str, tuple[Config, Config]]) -> None:
    """Refuse a config with a setting that changes what the networks compute and has no counterpart."""
    for name, (config, known) in parts.items():
        for key, value in known.items():
            if config.get(key, value) != value:
                raise ValueError(f"{name}: {key} = {config[key]} cannot be converted, only {value}")


def read_unet(state: State, is_average: bool) -> dict[str, Tensor]:
    """The UNet's weights by the original's names, without the prefix."""
    plain = {key.removeprefix(UNET): value for key, value in state.items() if key.startswith(UNET)}
    if not is_average:
        return plain
    averaged = {key: f"{EMA}{(UNET + key).removeprefix('model.').replace('.', '')}" for key in plain}
    if missing := sorted(key for key in averaged.values() if key not in state):
        raise ValueError(f"the moving average lacks {len(missing)} weights: {', '.join(missing[:3])}")
    left = {key for key in state if key.startswith(EMA)} - set(averaged.values()) - COUNTERS
    refuse_left("moving average", left)
    return {key: state[name] for key, name in averaged.items()}


def read_autoencoder(state: State) -> dict[str, Tensor]:
    """The autoencoder's weights by the original's names, without the prefix and without its discriminator."""
    named = {key.removeprefix(AUTOENCODER): value for key, value in state.items() if key.startswith(AUTOENCODER)}
    return {key: value for key, value in named.items() if not key.startswith(NOT_WEIGHTS)}


def rename(weights: State, names: Mapping[str, str], what: str) -> dict[str, Tensor]:
    """Weights under other names: `names` are of modules or of whole prefixes, of which each weight has one.

    A convolution of one place becomes a matrix where diffusers has a linear layer.
    """
    renamed, left = {}, []
    for key, value in weights.items():
        module, _, kind = key.rpartition(".")
        if module not in names:
            left.append(key)
            continue
        is_matrix = value.ndim == 4 and names[module].endswith((".to_q", ".to_k", ".to_v", ".to_out.0"))
        renamed[f"{names[module]}.{kind}"] = value[:, :, 0, 0] if is_matrix else value
    refuse_left(what, left)
    return renamed


def refuse_left(what: str, left: Collection[str]) -> None:
    """Refuse weights that a conversion would lose."""
    if left:
        raise ValueError(f"{what}: {len(left)} weights of the checkpoint have no place: {', '.join(sorted(left)[:3])}")


# --------------------------------------------------------------------------------------------------------------- UNet


def has_attention(unet: Config, level: int) -> bool:
    """Whether the blocks of a level attend; `attention_resolutions` are factors that latents are reduced by."""
    return 2**level in unet["attention_resolutions"]


def make_unet_config(unet: Config) -> dict[str, Any]:
    """Of a UNet2DConditionModel."""
    levels = range(len(unet["channel_mult"]))
    channels = [unet["model_channels"] * factor for factor in unet["channel_mult"]]
    width = unet.get("num_head_channels", -1)
    # What diffusers calls attention_head_dim is the number of heads.
    heads = unet.get("num_heads", -1) if width in (-1, None) else [count // width for count in channels]
    kinds = ["CrossAttnDownBlock2D" if has_attention(unet, level) else "DownBlock2D" for level in levels]
    return {
        **{"sample_size": unet["image_size"], "in_channels": unet["in_channels"], "out_channels": unet["out_channels"]},
        **{"block_out_channels": channels, "layers_per_block": unet["num_res_blocks"], "down_block_types": kinds},
        "up_block_types": [kind.replace("Down", "Up") for kind in reversed(kinds)],
        **{"cross_attention_dim": unet["context_dim"], "attention_head_dim": heads},
        "transformer_layers_per_block": unet.get("transformer_depth", 1),
    }


def rename_unet(unet: Config) -> Iterator[tuple[str, str]]:
    """(module of the original, module of a UNet2DConditionModel)."""
    count, levels = unet["num_res_blocks"], len(unet["channel_mult"])
    yield from (("time_embed.0", "time_embedding.linear_1"), ("time_embed.2", "time_embedding.linear_2"))
    yield from (("input_blocks.0.0", "conv_in"), ("out.0", "conv_norm_out"), ("out.2", "conv_out"))
    for level in range(levels):
        attends = has_attention(unet, level)
        for j in range(count):
            place = f"input_blocks.{1 + level * (count + 1) + j}"
            yield from rename_layer(unet, place, f"down_blocks.{level}", j, attends)
        if level < levels - 1:
            yield f"input_blocks.{(level + 1) * (count + 1)}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
    yield from rename_resnet("middle_block.0", "mid_block.resnets.0")
    yield from rename_transformer(unet, "middle_block.1", "mid_block.attentions.0")
    yield from rename_resnet("middle_block.2", "mid_block.resnets.1")
    for i in range(levels):
        attends = has_attention(unet, levels - 1 - i)
        for j in range(count + 1):
            place = f"output_blocks.{i * (count + 1) + j}"
            yield from rename_layer(unet, place, f"up_blocks.{i}", j, attends)
            if j == count and i < levels - 1:
                yield f"{place}.{1 + attends}.conv", f"up_blocks.{i}.upsamplers.0.conv"


def rename_layer(unet: Config, place: str, block: str, j: int, attends: bool) -> Iterator[tuple[str, str]]:
    """A residual block, and the transformer behind it, where there is one."""
    yield from rename_resnet(f"{place}.0", f"{block}.resnets.{j}")
    if attends:
        yield from rename_transformer(unet, f"{place}.1", f"{block}.attentions.{j}")


def rename_resnet(old: str, new: str) -> Iterator[tuple[str, str]]:
    """A residual block of the UNet."""
    yield from ((f"{old}.{before}", f"{new}.{after}") for before, after in RESNET.items())


def rename_transformer(unet: Config, old: str, new: str) -> Iterator[tuple[str, str]]:
    """A spatial transformer: diffusers kept the names."""
    modules = ["norm", "proj_in", "proj_out"]
    for k in range(unet.get("transformer_depth", 1)):
        block = f"transformer_blocks.{k}"
        parts = [f"{attn}.{part}" for attn in ("attn1", "attn2") for part in ("to_q", "to_k", "to_v", "to_out.0")]
        parts += ["ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3"]
        modules += [f"{block}.{part}" for part in parts]
    yield from ((f"{old}.{module}", f"{new}.{module}") for module in modules)


# -------------------------------------------------------------------------------------------------------- autoencoder


def find_attending(autoencoder: Config) -> list[bool]:
    """Whether the blocks of each level attend; `attn_resolutions` are sides of the feature maps."""
    sides = [autoencoder["resolution"] // 2**level for level in range(len(autoencoder["ch_mult"]))]
    return [side in autoencoder["attn_resolutions"] for side in sides]


def make_autoencoder_config(autoencoder: Config) -> dict[str, Any]:
    """Of a VQModel."""
    attending = find_attending(autoencoder)
    return {
        **{"in_channels": autoencoder["in_channels"], "out_channels": autoencoder["out_ch"]},
        "block_out_channels": [autoencoder["ch"] * factor for factor in autoencoder["ch_mult"]],
        "layers_per_block": autoencoder["num_res_blocks"],
        "down_block_types": [f"{'Attn' * attends}DownEncoderBlock2D" for attends in attending],
        "up_block_types": [f"{'Attn' * attends}UpDecoderBlock2D" for attends in reversed(attending)],
        **{"latent_channels": autoencoder["z_channels"], "vq_embed_dim": autoencoder["embed_dim"]},
        **{"num_vq_embeddings": autoencoder["n_embed"], "sample_size": autoencoder["resolution"]},
    }


def rename_autoencoder(autoencoder: Config) -> Iterator[tuple[str, str]]:
    """(module of the original, module of a VQModel)."""
    attending, count = find_attending(autoencoder), autoencoder["num_res_blocks"]
    levels = len(attending)
    yield from ((name, name) for name in ("quant_conv", "post_quant_conv", "quantize.embedding"))
    for side in ("encoder", "decoder"):
        yield from ((f"{side}.{name}", f"{side}.{name}") for name in ("conv_in", "conv_out"))
        yield f"{side}.norm_out", f"{side}.conv_norm_out"
        yield from rename_parts(VQ_RESNET, f"{side}.mid.block_1", f"{side}.mid_block.resnets.0")
        yield from rename_parts(VQ_ATTENTION, f"{side}.mid.attn_1", f"{side}.mid_block.attentions.0")
        yield from rename_parts(VQ_RESNET, f"{side}.mid.block_2", f"{side}.mid_block.resnets.1")
    for level in range(levels):
        # The original counts the decoder's levels as the encoder's, and goes through them backwards.
        sides = [("encoder.down", f"encoder.down_blocks.{level}", count)]
        sides += [("decoder.up", f"decoder.up_blocks.{levels - 1 - level}", count + 1)]
        for old, new, blocks in sides:
            for j in range(blocks):
                yield from rename_parts(VQ_RESNET, f"{old}.{level}.block.{j}", f"{new}.resnets.{j}")
                if attending[level]:
                    yield from rename_parts(VQ_ATTENTION, f"{old}.{level}.attn.{j}", f"{new}.attentions.{j}")
        yield f"encoder.down.{level}.downsample.conv", f"encoder.down_blocks.{level}.downsamplers.0.conv"
        yield f"decoder.up.{level}.upsample.conv", f"decoder.up_blocks.{levels - 1 - level}.upsamplers.0.conv"


def rename_parts(parts: Mapping[str, str], old: str, new: str) -> Iterator[tuple[str, str]]:
    """The modules of a block."""
    yield from ((f"{old}.{before}", f"{new}.{after}") for before, after in parts.items())


# ----------------------------------------------------------------------------------------------------------- schedule


def make_scheduler_config(params: Config) -> dict[str, Any]:
    """Of a DDIMScheduler with the levels of the original's sampler.

    What is called linear there is linear in the square roots of beta: diffusers' `scaled_linear`. Its DDIM begins at
    timestep 1 and ends at the first level of training.
    """
    return {
        **{"beta_start": params["linear_start"], "beta_end": params["linear_end"], "beta_schedule": "scaled_linear"},
        **{"num_train_timesteps": params.get("timesteps", 1000), "steps_offset": 1, "set_alpha_to_one": False},
        **{"clip_sample": False, "prediction_type": "epsilon", "timestep_spacing": "leading"},
    }
