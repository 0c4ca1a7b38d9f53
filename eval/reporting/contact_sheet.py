"""Pictures beside each other: overlays and contact sheets, to look at what came out."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from diffedit.io.images import to_pil

TINT = np.array([255, 60, 40])
GAP = 8


def overlay(image: Tensor, mask: Tensor) -> Image.Image:
    """The image (3, H, W) with its mask (1, 1, h, w) as a red tint, and the rest a little darker."""
    picture = np.asarray(to_pil(image)).astype(float)
    side = picture.shape[1], picture.shape[0]
    inside = np.asarray(Image.fromarray(mask[0, 0].cpu().numpy()).convert("L").resize(side, Image.Resampling.NEAREST))
    tinted = np.where(inside[..., None] > 0, picture * 0.5 + TINT * 0.5, picture * 0.8)
    return Image.fromarray(tinted.round().astype(np.uint8))


def heat(contrast: Tensor, side: int) -> Image.Image:
    """A contrast map (h, w) in grey, from its smallest value to its largest."""
    values = contrast.cpu().numpy().astype(float)
    span = values.max() - values.min()
    grey = (values - values.min()) / span * 255 if span else np.zeros_like(values)
    return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB").resize((side, side), Image.Resampling.NEAREST)


def sheet(rows: Sequence[Sequence[tuple[str, Image.Image]]], title: str = "") -> Image.Image:
    """Rows of captioned pictures, all scaled to the size of the first (at least 128 pixels wide)."""
    first = rows[0][0][1]
    scale = -(-128 // first.width) if first.width < 128 else 1
    width, height = first.width * scale, first.height * scale
    font = ImageFont.load_default(size=max(11, width // 18))
    line = font.size + 6
    columns = max(len(row) for row in rows)
    top = line + GAP if title else GAP
    page = Image.new("RGB", (GAP + columns * (width + GAP), top + len(rows) * (height + line + GAP)), "white")
    draw = ImageDraw.Draw(page)
    draw.text((GAP, GAP // 2), fit(draw, title, page.width - 2 * GAP, font), "black", font)
    for r, row in enumerate(rows):
        for c, (caption, picture) in enumerate(row):
            x, y = GAP + c * (width + GAP), top + r * (height + line + GAP)
            page.paste(picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST), (x, y + line))
            draw.text((x, y), fit(draw, caption, width, font), "black", font)
    return page


def fit(draw: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut with an ellipsis to what fits."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…"
