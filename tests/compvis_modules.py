"""The class-conditional latent diffusion model of CompVis once more, as plain functions: what conversions are held to.

Written from the published architecture, for tests alone. A network here is a function of its state dict: it asks for
each weight by the original's name and says of what shape it is. Where none is there yet, a random one is made: so a
first pass makes a state dict in the original's layout at any width, and later passes read it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

UNET, AUTOENCODER, AVERAGE = "model.diffusion_model.", "first_stage_model.", "model_ema."
CLASSES = "cond_stage_model.embedding.weight"
GROUPS = 32  # of every group norm: widths are multiples of it


@dataclass(frozen=True)
class Weights:
    """A part of a state dict: `/` leads to a part of it.

    Attributes:
        state: the whole, by the original's names.
        path: of this part.
        generator: of the weights that are not there; None where all have to be.
    """

    state: dict[str, Tensor]
    path: str = ""
    generator: Generator | None = None

    def __truediv__(self, name: str) -> "Weights":
        return replace(self, path=f"{self.path}{name}.")

    def take(self, name: str, shape: tuple[int, ...], mean: float, scale: float, dtype: torch.dtype) -> Tensor:
        """A weight of this part in this dtype; a KeyError where it is missing, an AssertionError on another shape."""
        key = self.path + name
        if key not in self.state and self.generator is not None:
            self.state[key] = mean + scale * torch.randn(shape, generator=self.generator)
        assert self.state[key].shape == shape, key
        return self.state[key].to(dtype)


# ------------------------------------------------------------------------------------------------------------- layers


def conv(w: Weights, x: Tensor, width: int, side: int = 3, stride: int = 1, padding: int | None = None) -> Tensor:
    kernel = w.take("weight", (width, x.shape[1], side, side), 0, 1 / math.sqrt(x.shape[1] * side**2), x.dtype)
    bias = w.take("bias", (width,), 0, 0.1, x.dtype)
    return F.conv2d(x, kernel, bias, stride, side // 2 if padding is None else padding)


def linear(w: Weights, x: Tensor, width: int, has_bias: bool = True) -> Tensor:
    out = x @ w.take("weight", (width, x.shape[-1]), 0, 1 / math.sqrt(x.shape[-1]), x.dtype).T
    return out + w.take("bias", (width,), 0, 0.1, x.dtype) if has_bias else out


def group_norm(w: Weights, x: Tensor, eps: float = 1e-6) -> Tensor:
    """Each group of neighbouring channels to mean 0 and variance 1, over all places; then each channel by itself."""
    grouped = x.unflatten(1, (GROUPS, -1))
    variance, mean = torch.var_mean(grouped, dim=(2, 3, 4), correction=0, keepdim=True)
    normal = ((grouped - mean) / (variance + eps).sqrt()).flatten(1, 2)
    return affine(w, normal.movedim(1, -1)).movedim(-1, 1)


def layer_norm(w: Weights, x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return affine(w, (x - mean) / (variance + 1e-5).sqrt())


def affine(w: Weights, x: Tensor) -> Tensor:
    scale, shift = (w.take(name, x.shape[-1:], mean, 0.1, x.dtype) for name, mean in (("weight", 1), ("bias", 0)))
    return x * scale + shift


def double(x: Tensor) -> Tensor:
    """Twice the side, each pixel four times."""
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


# --------------------------------------------------------------------------------------------------------------- UNet


def embed_times(times: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of periods that grow geometrically up to 2 pi 10000."""
    angles = times[:, None].float() * torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def run_unet(w: Weights, params: dict[str, Any], x: Tensor, times: Tensor, context: Tensor) -> Tensor:
    """The noise that the UNet of `unet_config.params` sees in latents at timesteps."""
    width, factors, count = (params[key] for key in ("model_channels", "channel_mult", "num_res_blocks"))
    hidden = F.silu(linear(w / "time_embed.0", embed_times(times, width).to(x.dtype), 4 * width))
    emb = F.silu(linear(w / "time_embed.2", hidden, 4 * width))

    def run_layer(w: Weights, h: Tensor, level: int) -> Tensor:
        h = residual(w / "0", h, emb, width * factors[level])
        return transform(w / "1", params, h, context) if 2**level in params["attention_resolutions"] else h

    h = conv(w / "input_blocks.0.0", x, width)
    passed = [h]
    for level in range(len(factors)):
        for _ in range(count):
            h = run_layer(w / f"input_blocks.{len(passed)}", h, level)
            passed.append(h)
        if level + 1 < len(factors):
            h = conv(w / f"input_blocks.{len(passed)}.0.op", h, h.shape[1], stride=2)
            passed.append(h)
    h = residual(w / "middle_block.0", h, emb, h.shape[1])
    h = transform(w / "middle_block.1", params, h, context)
    h = residual(w / "middle_block.2", h, emb, h.shape[1])
    total = len(passed)
    for level in reversed(range(len(factors))):
        for i in range(count + 1):
            block = w / f"output_blocks.{total - len(passed)}"
            h = run_layer(block, torch.cat([h, passed.pop()], dim=1), level)
            if level and i == count:
                place = 1 + (2**level in params["attention_resolutions"])
                h = conv(block / f"{place}.conv", double(h), h.shape[1])
    return conv(w / "out.2", F.silu(group_norm(w / "out.0", h, 1e-5)), params["out_channels"])


def residual(w: Weights, x: Tensor, emb: Tensor, width: int) -> Tensor:
    """A residual block to which the time is added between its convolutions."""
    h = conv(w / "in_layers.2", F.silu(group_norm(w / "in_layers.0", x, 1e-5)), width)
    h = h + linear(w / "emb_layers.1", emb, width)[:, :, None, None]
    h = conv(w / "out_layers.3", F.silu(group_norm(w / "out_layers.0", h, 1e-5)), width)
    return h + (x if x.shape[1] == width else conv(w / "skip_connection", x, width, side=1))


def transform(w: Weights, params: dict[str, Any], x: Tensor, context: Tensor) -> Tensor:
    """A spatial transformer: places attend to places, then to the context; then each by itself, gated."""
    width = x.shape[1]
    heads = width // params["num_head_channels"] if "num_head_channels" in params else params["num_heads"]
    tokens = conv(w / "proj_in", group_norm(w / "norm", x), width, side=1).flatten(2).mT
    for k in range(params["transformer_depth"]):
        block = w / f"transformer_blocks.{k}"
        normal = layer_norm(block / "norm1", tokens)
        tokens = tokens + attend(block / "attn1", normal, normal, heads)
        tokens = tokens + attend(block / "attn2", layer_norm(block / "norm2", tokens), context, heads)
        both = linear(block / "ff.net.0.proj", layer_norm(block / "norm3", tokens), 8 * width)
        value, gate = both[..., : 4 * width], both[..., 4 * width :]
        tokens = tokens + linear(block / "ff.net.2", value * F.gelu(gate), width)
    return x + conv(w / "proj_out", tokens.mT.unflatten(2, x.shape[2:]), width, side=1)


def attend(w: Weights, tokens: Tensor, context: Tensor, heads: int) -> Tensor:
    """Attention in heads, which are runs of neighbouring channels."""
    width = tokens.shape[-1]
    q = linear(w / "to_q", tokens, width, has_bias=False).unflatten(-1, (heads, -1))
    k, v = (linear(w / name, context, width, has_bias=False).unflatten(-1, (heads, -1)) for name in ("to_k", "to_v"))
    scores = torch.einsum("bqhd, bkhd -> bhqk", q, k) * (width // heads) ** -0.5
    return linear(w / "to_out.0", torch.einsum("bhqk, bkhd -> bqhd", scores.softmax(-1), v).flatten(2), width)


# -------------------------------------------------------------------------------------------------------- autoencoder


def run_level(w: Weights, config: dict[str, Any], x: Tensor, level: int, count: int) -> Tensor:
    """The blocks of a level of encoder or decoder."""
    for j in range(count):
        x = plain_residual(w / f"block.{j}", x, config["ch"] * config["ch_mult"][level])
        if config["resolution"] // 2**level in config["attn_resolutions"]:
            x = attend_to_places(w / f"attn.{j}", x)
    return x


def run_middle(w: Weights, x: Tensor) -> Tensor:
    x = plain_residual(w / "block_1", x, x.shape[1])
    return plain_residual(w / "block_2", attend_to_places(w / "attn_1", x), x.shape[1])


def run_encoder(w: Weights, first_stage: dict[str, Any], images: Tensor) -> Tensor:
    """Latents before they are quantised, of images in [-1, 1]."""
    config, side = first_stage["ddconfig"], w / "encoder"
    h = conv(side / "conv_in", images, config["ch"])
    for level in range(len(config["ch_mult"])):
        h = run_level(side / f"down.{level}", config, h, level, config["num_res_blocks"])
        if level + 1 < len(config["ch_mult"]):  # padded on the right and below alone
            h = conv(side / f"down.{level}.downsample.conv", F.pad(h, (0, 1, 0, 1)), h.shape[1], stride=2, padding=0)
    h = F.silu(group_norm(side / "norm_out", run_middle(side / "mid", h)))
    return conv(w / "quant_conv", conv(side / "conv_out", h, config["z_channels"]), first_stage["embed_dim"], side=1)


def run_decoder(w: Weights, first_stage: dict[str, Any], latents: Tensor) -> Tensor:
    """Images of latents, which are quantised first."""
    config, side = first_stage["ddconfig"], w / "decoder"
    h = conv(w / "post_quant_conv", quantise(w / "quantize", latents, first_stage["n_embed"]), config["z_channels"], 1)
    h = run_middle(side / "mid", conv(side / "conv_in", h, config["ch"] * config["ch_mult"][-1]))
    for level in reversed(range(len(config["ch_mult"]))):
        h = run_level(side / f"up.{level}", config, h, level, config["num_res_blocks"] + 1)
        if level:
            h = conv(side / f"up.{level}.upsample.conv", double(h), h.shape[1])
    return conv(side / "conv_out", F.silu(group_norm(side / "norm_out", h)), config["out_ch"])


def plain_residual(w: Weights, x: Tensor, width: int) -> Tensor:
    """A residual block that knows no time."""
    h = conv(w / "conv1", F.silu(group_norm(w / "norm1", x)), width)
    h = conv(w / "conv2", F.silu(group_norm(w / "norm2", h)), width)
    return h + (x if x.shape[1] == width else conv(w / "nin_shortcut", x, width, side=1))


def attend_to_places(w: Weights, x: Tensor) -> Tensor:
    """Attention in one head; queries, keys and values by convolutions of one place."""
    normal = group_norm(w / "norm", x)
    q, k, v = (conv(w / name, normal, x.shape[1], side=1).flatten(2) for name in "qkv")
    scores = (q.mT @ k / math.sqrt(x.shape[1])).softmax(-1)
    return x + conv(w / "proj_out", (scores @ v.mT).mT.unflatten(2, x.shape[2:]), x.shape[1], side=1)


def quantise(w: Weights, latents: Tensor, count: int) -> Tensor:
    """Each place's nearest code."""
    codes = w.take("embedding.weight", (count, latents.shape[1]), 0, 1, latents.dtype)
    places = latents.movedim(1, -1)
    nearest = (places[..., None, :] - codes).square().sum(-1).argmin(-1)
    return codes[nearest].movedim(-1, 1)


# -------------------------------------------------------------------------------------------------------- checkpoints


@dataclass(frozen=True)
class Original:
    """A checkpoint in the original's layout, and what its networks compute.

    Attributes:
        config: the yaml.
        state: the state dict.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]

    def predict(self, x: Tensor, times: Tensor, numbers: list[int], is_average: bool = False) -> Tensor:
        """The noise in latents of these classes."""
        plain = [key for key in self.state if key.startswith(UNET)]
        state = {key: self.state[average_name(key) if is_average else key] for key in plain}
        context = self.state[CLASSES][numbers][:, None].to(x.dtype)  # one token a class
        return run_unet(Weights(state, UNET), self.unet, x, times, context)

    def encode(self, images: Tensor) -> Tensor:
        return run_encoder(Weights(self.state, AUTOENCODER), self.first_stage, images)

    def decode(self, latents: Tensor) -> Tensor:
        return run_decoder(Weights(self.state, AUTOENCODER), self.first_stage, latents)

    @property
    def params(self) -> dict[str, Any]:
        return self.config["model"]["params"]

    @property
    def unet(self) -> dict[str, Any]:
        return self.params["unet_config"]["params"]

    @property
    def first_stage(self) -> dict[str, Any]:
        return self.params["first_stage_config"]["params"]

    @property
    def side(self) -> int:
        """Of the images."""
        return self.first_stage["ddconfig"]["resolution"]


def average_name(key: str) -> str:
    """Under which a weight's moving average is kept: names of buffers cannot have dots."""
    return AVERAGE + key.removeprefix("model.").replace(".", "")


def make_original(config: dict[str, Any], rows: int, has_average: bool, seed: int = 0) -> Original:
    """A checkpoint with random weights of a config, with what else is in one.

    Args:
        config: the yaml.
        rows: of the class embedding.
        has_average: whether the moving average of the UNet is there too.
        seed: of the weights.
    """
    draw = Generator().manual_seed(seed)
    model = Original(config, {})
    width, channels = model.unet["context_dim"], model.unet["in_channels"]
    made = Weights(model.state, "", draw)
    x, side = torch.zeros(1, channels, 8, 8), model.side
    run_unet(replace(made, path=UNET), model.unet, x, torch.zeros(1), torch.zeros(1, 1, width))
    latents = run_encoder(replace(made, path=AUTOENCODER), model.first_stage, torch.zeros(1, 3, side, side))
    run_decoder(replace(made, path=AUTOENCODER), model.first_stage, latents)
    if has_average:
        averaged = {average_name(key): value * 0.9 for key, value in model.state.items() if key.startswith(UNET)}
        model.state.update(averaged, **{f"{AVERAGE}decay": torch.tensor(0.9999)})
        model.state[f"{AVERAGE}num_updates"] = torch.tensor(7, dtype=torch.int)
    model.state[CLASSES] = torch.randn(rows, width, generator=draw)
    for name in ("discriminator.main.0.weight", "perceptual_loss.lin0.model.1.weight", "logvar"):
        model.state[f"{AUTOENCODER}loss.{name}"] = torch.zeros(2)
    betas, alphas = make_levels(model.params)
    model.state.update({"betas": betas.float(), "alphas_cumprod": alphas.float(), "sqrt_alphas_cumprod": alphas.sqrt()})
    return model


def make_levels(params: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Betas, whose roots are evenly spaced, and the products of one minus them, in float64."""
    ends = [params[key] ** 0.5 for key in ("linear_start", "linear_end")]
    betas = torch.linspace(*ends, params["timesteps"], dtype=torch.float64) ** 2
    return betas, (1 - betas).cumprod(0)


def shrink_f4(factors: tuple[int, ...] = (1, 2, 3, 5), count: int = 2, rows: int = 1001) -> dict[str, Any]:
    """cin256-v2.yaml at a sixth of its width: 1001 classes, one head, no attention at the first level."""
    unet = {
        **{"image_size": 8, "in_channels": 3, "out_channels": 3, "model_channels": 32, "channel_mult": [*factors]},
        **{"attention_resolutions": [8, 4, 2], "num_res_blocks": count, "num_heads": 1},
    }
    autoencoder = {"z_channels": 3, "resolution": 32, "ch_mult": [1, 2, 4], "attn_resolutions": []}
    classes = {"n_classes": rows, "embed_dim": 24, "key": "class_label"}
    return fill_config(unet, {"embed_dim": 3, "n_embed": 64}, autoencoder, classes, {"use_ema": False})


def shrink_f8(factors: tuple[int, ...] = (1, 2, 4), count: int = 2) -> dict[str, Any]:
    """cin-ldm-vq-f8.yaml at an eighth of its width: 1000 classes, heads of 32 channels, attention by levels."""
    unet = {
        **{"image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 32, "channel_mult": [*factors]},
        **{"attention_resolutions": [4, 2, 1], "num_res_blocks": count, "num_head_channels": 32},
    }
    autoencoder = {"z_channels": 4, "resolution": 64, "ch_mult": [1, 2, 2, 4], "attn_resolutions": [8]}
    classes = {"embed_dim": 24, "key": "class_label"}
    return fill_config(unet, {"embed_dim": 4, "n_embed": 64}, autoencoder, classes, {"monitor": "val/loss_simple_ema"})


def widen(config: dict[str, Any]) -> dict[str, Any]:
    """A config back at the widths of the public model of its kind: on the meta device it takes no memory."""
    model = Original(config, {})
    is_f4 = "num_heads" in model.unet
    model.unet.update(model_channels=192 if is_f4 else 256, context_dim=512)
    model.first_stage.update(n_embed=8192 if is_f4 else 16384)
    model.first_stage["ddconfig"].update(ch=128, resolution=256, attn_resolutions=[] if is_f4 else [32])
    model.params["cond_stage_config"]["params"].update(embed_dim=512)
    return config


def fill_config(unet, first_stage, autoencoder, classes, settings) -> dict[str, Any]:
    """What the two have alike."""
    shared = {"use_spatial_transformer": True, "transformer_depth": 1, "context_dim": classes["embed_dim"]}
    plain = {"double_z": False, "in_channels": 3, "out_ch": 3, "ch": 32, "num_res_blocks": 2, "dropout": 0.0}
    parts = {
        "unet_config": ("ldm.modules.diffusionmodules.openaimodel.UNetModel", unet | shared),
        "first_stage_config": (
            "ldm.models.autoencoder.VQModelInterface",
            first_stage | {"ddconfig": autoencoder | plain, "lossconfig": {"target": "torch.nn.Identity"}},
        ),
        "cond_stage_config": ("ldm.modules.encoders.modules.ClassEmbedder", classes),
    }
    params = {
        **{"linear_start": 0.0015, "linear_end": 0.0195, "num_timesteps_cond": 1, "log_every_t": 200},
        **{
            "timesteps": 1000,
            "first_stage_key": "image",
            "cond_stage_key": "class_label",
            "cond_stage_trainable": True,
        },
        **{"image_size": unet["image_size"], "channels": unet["in_channels"], "conditioning_key": "crossattn"},
        **{name: {"target": target, "params": settings} for name, (target, settings) in parts.items()},
    }
    target = "ldm.models.diffusion.ddpm.LatentDiffusion"
    return {"model": {"base_learning_rate": 1e-6, "target": target, "params": params | settings}}
