"""What the trained networks of Still Life can do, on the test split."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.io.images import to_pil
from diffedit.text_to_image import TextToImage
from eval.metrics.functional.frechet import between
from eval.metrics.functional.pairwise import psnr
from eval.reporting.contact_sheet import draw_sheet
from eval.stilllife.network import agreement, load
from eval.stilllife.scene import SPLITS, Scene, sample
from eval.stilllife.train.clip import rivals
from eval.stilllife.train.loop import stack

FIRST = 2 * 10**6  # of the test split: apart from the benchmarks' scenes


def scenes(count: int, first: int = FIRST) -> list[Scene]:
    """Scenes of the test split."""
    return [sample(SPLITS["test"][first + i]) for i in range(count)]


def renders(chosen: list[Scene], size: int = 64) -> Iterator[Tensor]:
    """Their pictures in [0, 1], some at a time."""
    for i in range(0, len(chosen), size):
        yield stack(chosen[i : i + size]).float() / 255


def autoencoder(weights: Path, count: int) -> dict[str, float]:
    """Mean PSNR of the round trip in dB."""
    backbone = StableDiffusion(str(weights))
    values = [psnr(x, backbone.decode(backbone.encode(x)).cpu()) for x in renders(scenes(count))]
    return {"psnr": torch.cat(values).mean().item()}


def classifier(weights: Path, count: int) -> dict[str, float]:
    """Share of pictures in which each attribute is seen right; for fruit, exactly the kinds there are."""
    network = load(str(weights), "cpu")
    chosen, found = scenes(count), []
    for i, x in enumerate(renders(chosen)):
        found.append(agreement(network(x), chosen[64 * i : 64 * (i + 1)]))
    return {name: torch.cat([each[name] for each in found]).float().mean().item() for name in found[0]}


def clip(weights: Path, count: int) -> dict[str, float]:
    """Share of pictures whose caption wins against 15 that differ in one phrase."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{weights}", require_pretrained=True)
    tokenizer, right = open_clip.get_tokenizer(f"local-dir:{weights}"), []
    chosen = scenes(count)
    seen = torch.cat([model.eval().encode_image(x * 2 - 1, normalize=True) for x in renders(chosen)])
    for scene, image in zip(chosen, seen, strict=True):
        said = model.encode_text(tokenizer([each.caption() for each in rivals(scene)]), normalize=True)
        right.append((said @ image).argmax().item() == 0)
    return {"right_of_16": float(np.mean(right))}


def diffusion(
    weights: Path, features: Path, count: int, steps: int, guidance: float
) -> tuple[dict[str, float], Image.Image]:
    """How often samples show what their caption says, how far they are from renders; and a sheet of samples."""
    chosen = scenes(count)
    config = {"_target_": "diffedit.backbones.stable_diffusion.StableDiffusion", "path": str(weights)}
    text_to_image = TextToImage(config, steps, guidance)
    drawn = dict(text_to_image({f"{i:05d}": scene.caption() for i, scene in enumerate(chosen)}))
    images = torch.stack([drawn[f"{i:05d}"].cpu() for i in range(count)])
    network = load(str(features), "cpu")
    seen = [network(x) for x in images.split(64)]
    right = [agreement(each, chosen[64 * i : 64 * (i + 1)]) for i, each in enumerate(seen)]
    by_name = {name: torch.cat([each[name] for each in right]) for name in right[0]}
    real, others = (
        torch.cat([network(x).features for x in renders(each)]) for each in (chosen, scenes(4 * count, FIRST + count))
    )
    fid, floor = (between(own.numpy(), others.numpy()) for own in (torch.cat([each.features for each in seen]), real))
    figures = {name: good.float().mean().item() for name, good in by_name.items()}
    figures |= {"all_four": torch.stack(list(by_name.values())).all(0).float().mean().item()}
    shown = [(scene.caption(), to_pil(x)) for scene, x in zip(chosen[:24], images, strict=False)]
    page = draw_sheet([shown[i : i + 8] for i in range(0, len(shown), 8)])
    return figures | {"fid": fid, "fid_of_renders": floor}, page


def pixels(weights: Path, features: Path, count: int, steps: int) -> dict[str, float]:
    """How far samples of the pixel model are from renders, as `diffusion` measures it."""
    config = {"_target_": "diffedit.backbones.pixel.PixelDiffusion", "path": str(weights)}
    network, chosen = load(str(features), "cpu"), scenes(4 * count, FIRST + count)
    drawn = torch.stack(
        [image.cpu() for _, image in TextToImage(config, steps, 1.0)({f"{i:05d}": "" for i in range(count)})]
    )
    real = torch.cat([network(x).features for x in renders(chosen)])
    seen = torch.cat([network(x).features for x in drawn.split(64)])
    return {"fid": between(seen.numpy(), real.numpy())}
