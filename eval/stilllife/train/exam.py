"""What the trained networks of Still Life can do, on the test split."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.io.images import to_pil
from diffedit.networks.clip import OpenClip
from diffedit.text_to_image import TextToImage
from eval.metrics.functional.frechet import frechet_of_sets
from eval.metrics.functional.pairwise import psnr
from eval.reporting.contact_sheet import draw_sheet
from eval.stilllife.network import check_attributes, load
from eval.stilllife.scene import Scene
from eval.stilllife.train.clip import list_rivals
from eval.stilllife.train.loop import chunk, render_scenes, sample_split

FIRST = 2 * 10**6  # of the test split: apart from the benchmarks' scenes
PART = 64  # pictures in a network call
BACKBONES = "diffedit.backbones"


@torch.no_grad()
def examine(weights: Path, count: int, steps: int, guidance: float) -> tuple[dict[str, Any], Image.Image]:
    """Scores of all networks, by network; and a sheet of samples.

    Args:
        weights: folder of the networks' folders.
        count: test pictures for each network, four times as many for the two judges.
        steps: of DDIM, four times as many for the pixel model.
        guidance: classifier-free guidance.
    """
    names = ("", "_classes", "_features", "_second", "_clip", "_pixel")
    model, classes, features, second, clip, pixel = (weights / f"stilllife{name}" for name in names)
    scores: dict[str, Any] = {
        "autoencoder": examine_autoencoder(model, count),
        "features": examine_features(features, 4 * count),
        "second": examine_features(second, 4 * count),
        "clip": examine_clip(clip, count),
        "pixel": examine_pixels(pixel, features, count, 4 * steps),
        "classes": examine_classes(classes, model / "vae", features, count, steps, guidance),
    }
    scores["diffusion"], sheet = examine_diffusion(model, features, count, steps, guidance)
    scores["settings"] = {"count": count, "steps": steps, "guidance": guidance}
    return scores, sheet


def examine_autoencoder(weights: Path, count: int) -> dict[str, float]:
    """Mean PSNR of the round trip in dB."""
    backbone = StableDiffusion.from_pretrained(str(weights))
    scenes = sample_split("test", FIRST, count)
    values = [psnr(x, backbone.decode(backbone.encode(x)).cpu()) for x in render_parts(scenes)]
    return {"psnr": torch.cat(values).mean().item()}


def examine_features(weights: Path, count: int) -> dict[str, float]:
    """Share of pictures in which each attribute is named right; for fruit, exactly the kinds there are."""
    scenes = sample_split("test", FIRST, count)
    right = check_parts(weights, render_parts(scenes), scenes)
    return {name: column.float().mean().item() for name, column in right.items()}


def examine_clip(weights: Path, count: int) -> dict[str, float]:
    """Share of pictures whose caption wins against 15 that differ in one phrase."""
    clip, scenes = OpenClip(f"local-dir:{weights}"), sample_split("test", FIRST, count)
    embeddings = torch.cat([clip.images(x) for x in render_parts(scenes)]).cpu()
    captions = ([rival.caption() for rival in list_rivals(scene)] for scene in scenes)
    pairs = zip(captions, embeddings, strict=True)
    right = [(clip.texts(texts) @ embedding).argmax().item() == 0 for texts, embedding in pairs]
    return {"right_of_16": float(np.mean(right))}


def examine_diffusion(
    weights: Path, features: Path, count: int, steps: int, guidance: float
) -> tuple[dict[str, float], Image.Image]:
    """How often samples show what their caption says, how far they are from renders; and a sheet of samples."""
    scenes = sample_split("test", FIRST, count)
    captions = [scene.caption() for scene in scenes]
    config = {"_target_": f"{BACKBONES}.stable_diffusion.StableDiffusion.from_pretrained", "path": str(weights)}
    images = draw(config, captions, steps, guidance)
    right = check_parts(features, images.split(PART), scenes)
    scores = {name: column.float().mean().item() for name, column in right.items()}
    scores |= {"all_four": torch.stack(list(right.values())).all(0).float().mean().item()}
    others = sample_split("test", FIRST + count, 4 * count)
    scores |= compare_with_renders(features, images, scenes, others)
    pictures = [(caption, to_pil(image)) for caption, image in zip(captions[:24], images[:24], strict=True)]
    return scores, draw_sheet(chunk(pictures))


def examine_classes(
    weights: Path, autoencoder: Path, features: Path, count: int, steps: int, guidance: float
) -> dict[str, float]:
    """How often samples by class hold their kind of fruit alone, and how far they are from renders of one kind."""
    scenes = sample_split("test", FIRST, count, two_kinds=0)
    target = f"{BACKBONES}.latent_diffusion.LatentDiffusion.from_pretrained"
    config = {"_target_": target, "path": str(weights), "autoencoder": str(autoencoder)}
    images = draw(config, [scene.fruits[0] for scene in scenes], steps, guidance)
    right = check_parts(features, images.split(PART), scenes)["fruits"]
    others = sample_split("test", FIRST + count, 4 * count, two_kinds=0)
    return {"fruits": right.float().mean().item(), **compare_with_renders(features, images, scenes, others)}


def compare_with_renders(
    features: Path, images: Tensor, scenes: Sequence[Scene], others: Sequence[Scene]
) -> dict[str, float]:
    """How far samples are from renders of other scenes, and how far renders of their own scenes are."""
    far = extract_features(features, render_parts(others))
    return {
        "fid": frechet_of_sets(extract_features(features, images.split(PART)), far),
        "fid_of_renders": frechet_of_sets(extract_features(features, render_parts(scenes)), far),
    }


def examine_pixels(weights: Path, features: Path, count: int, steps: int) -> dict[str, float]:
    """How far samples of the pixel model are from renders, measured as in `examine_diffusion`."""
    config = {"_target_": f"{BACKBONES}.pixel.PixelDiffusion", "path": str(weights)}
    images = draw(config, [""] * count, steps, 1.0)
    renders = render_parts(sample_split("test", FIRST + count, 4 * count))
    samples = extract_features(features, images.split(PART))
    return {"fid": frechet_of_sets(samples, extract_features(features, renders))}


def render_parts(scenes: Sequence[Scene]) -> Iterator[Tensor]:
    """Their pictures in [0, 1], some at a time."""
    for part in chunk(scenes, PART):
        yield render_scenes(part).float() / 255


def check_parts(features: Path, parts: Iterator[Tensor] | Sequence[Tensor], scenes: list[Scene]) -> dict[str, Tensor]:
    """For each attribute, whether the feature network names what each scene holds."""
    network = load(str(features), "cpu")
    right = [check_attributes(network(x), part) for x, part in zip(parts, chunk(scenes, PART), strict=True)]
    return {name: torch.cat([columns[name] for columns in right]) for name in right[0]}


def extract_features(features: Path, parts: Iterator[Tensor] | Sequence[Tensor]) -> np.ndarray:
    """What the feature network gives for pictures."""
    network = load(str(features), "cpu")
    return torch.cat([network(x).features for x in parts]).numpy()


def draw(config: dict[str, str], texts: Sequence[str], steps: int, guidance: float) -> Tensor:
    """One sample of a backbone's config for each text or class."""
    text_to_image = TextToImage(config, steps, guidance)
    samples = dict(text_to_image({f"{i:05d}": text for i, text in enumerate(texts)}))
    return torch.stack([samples[f"{i:05d}"].cpu() for i in range(len(texts))])
