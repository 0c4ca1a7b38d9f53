"""The fruit: each kind a small painting, made at four times the final size and lit from the upper left."""

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
CANVAS = 128  # side of a sprite; its middle is where the fruit lies
MIDDLE = CANVAS // 2
LEAF, STEM = (64, 140, 54), (96, 66, 36)


def trace(shape: Callable[[float], tuple[float, float]], count: int = 48) -> list[tuple[float, float]]:
    """A closed curve around the middle of the canvas, by angle."""
    return [(MIDDLE + x, MIDDLE + y) for x, y in (shape(2 * pi * i / count) for i in range(count))]


def shade(outline: list[tuple[float, float]], colour: Colour, gloss: float = 0.55) -> Image.Image:
    """A solid body: brighter towards the light, darker away from it, with a highlight."""
    mask = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    xs, ys = zip(*outline, strict=True)
    u, v = (
        (np.arange(CANVAS) - (min(values) + max(values)) / 2) / max((max(values) - min(values)) / 2, 1)
        for values in (xs, ys)
    )
    away = np.hypot(u[None, :] + 0.35, v[:, None] + 0.42)
    light = np.clip(1.18 - 0.36 * away**2, 0.42, 1.2)[..., None]
    shine = (gloss * np.exp(-((away / 0.3) ** 2)))[..., None]
    body = np.clip(np.array(colour) * light * (1 - shine) + 255 * shine, 0, 255)
    return Image.fromarray(np.dstack([body, np.asarray(mask)]).round().astype(np.uint8))


def make_canvas() -> Image.Image:
    """An empty canvas."""
    return Image.new("RGBA", (CANVAS, CANVAS))


def draw_leaf(
    draw: ImageDraw.ImageDraw, x: float, y: float, length: float, angle: float, colour: Colour = LEAF
) -> None:
    """A pointed leaf from (x, y), relative to the middle."""
    tip = (x + length * cos(angle), y + length * sin(angle))
    side = (-sin(angle) * length * 0.28, cos(angle) * length * 0.28)
    half = ((x + tip[0]) / 2, (y + tip[1]) / 2)
    around = [(x, y), (half[0] + side[0], half[1] + side[1]), tip, (half[0] - side[0], half[1] - side[1])]
    draw.polygon([(MIDDLE + px, MIDDLE + py) for px, py in around], fill=colour)


def draw_line(draw: ImageDraw.ImageDraw, start, end, colour: Colour, width: int) -> None:
    """A line, relative to the middle."""
    draw.line([(MIDDLE + x, MIDDLE + y) for x, y in (start, end)], fill=colour, width=width)


def paint_ball(radius: float, colour: Colour, x: float = 0, y: float = 0, gloss: float = 0.55) -> Image.Image:
    """A sphere."""
    return shade(trace(lambda a: (x + radius * cos(a), y + radius * sin(a)), 32), colour, gloss)


def apple() -> Image.Image:
    """Red, dented at the top, with stem and leaf."""

    def outline(a: float) -> tuple[float, float]:
        dent = 5 * max(0, 1 - abs(a - 1.5 * pi) / 0.5) + 3 * max(0, 1 - abs(a - 0.5 * pi) / 0.35)
        return (28 - dent) * cos(a), (26 - dent) * sin(a)

    picture = shade(trace(outline), (208, 32, 38))
    draw = ImageDraw.Draw(picture)
    draw_line(draw, (0, -19), (3, -34), STEM, 5)
    draw_leaf(draw, 3, -29, 22, -0.35)
    return picture


def pear() -> Image.Image:
    """Yellow-green, narrow above."""

    def outline(a: float) -> tuple[float, float]:
        upper = max(0.0, -sin(a))
        return (26 - 13 * upper) * cos(a), 4 + (22 + 20 * upper**1.5) * sin(a)

    picture = shade(trace(outline), (178, 196, 52), 0.45)
    draw_line(ImageDraw.Draw(picture), (0, -36), (5, -50), STEM, 5)
    return picture


def plum() -> Image.Image:
    """Blue-violet, oval, with a groove."""
    picture = shade(trace(lambda a: (23 * cos(a), 26 * sin(a))), (78, 44, 128), 0.4)
    draw = ImageDraw.Draw(picture)
    draw.arc((MIDDLE - 6, MIDDLE - 26, MIDDLE + 14, MIDDLE + 26), 95, 265, fill=(46, 24, 84), width=3)
    draw_line(draw, (0, -25), (1, -34), STEM, 4)
    return picture


def orange() -> Image.Image:
    """A ball with a green navel and pores."""
    picture = paint_ball(27, (246, 138, 22), gloss=0.4)
    draw = ImageDraw.Draw(picture)
    for i in range(14):
        x, y = 20 * cos(2.4 * i) * (i / 14) ** 0.5, 20 * sin(2.4 * i) * (i / 14) ** 0.5
        draw.ellipse((MIDDLE + x - 1.5, MIDDLE + y - 1.5, MIDDLE + x + 1.5, MIDDLE + y + 1.5), fill=(214, 108, 12))
    draw.ellipse((MIDDLE - 5, MIDDLE - 26, MIDDLE + 5, MIDDLE - 18), fill=LEAF)
    return picture


def lemon() -> Image.Image:
    """Yellow, with a tip at either end."""

    def outline(a: float) -> tuple[float, float]:
        tip = max(0.0, abs(cos(a)) - 0.88) / 0.12
        return (26 + 10 * tip) * cos(a), 20 * sin(a)

    return shade(trace(outline, 96), (250, 226, 44), 0.5).rotate(18, Image.Resampling.BICUBIC)


def watermelon() -> Image.Image:
    """A slice: rind, white, red flesh, seeds."""
    picture = make_canvas()
    draw = ImageDraw.Draw(picture)
    rings = [(40, (36, 116, 48)), (35, (224, 240, 200)), (31, (232, 54, 70))]
    for radius, colour in rings:
        box = (MIDDLE - radius, MIDDLE - 14 - radius, MIDDLE + radius, MIDDLE - 14 + radius)
        draw.pieslice(box, 0, 180, fill=colour)
    for x, y in [(-18, -6), (-7, -4), (6, -6), (17, -5), (-11, 6), (2, 7), (12, 4)]:
        draw.ellipse((MIDDLE + x - 2, MIDDLE + y - 3, MIDDLE + x + 2, MIDDLE + y + 3), fill=(40, 16, 20))
    return picture


def grape() -> Image.Image:
    """A bunch on a woody stem, deep violet: green ones would be lost on a green wall."""
    picture = make_canvas()
    draw_line(ImageDraw.Draw(picture), (0, -26), (4, -42), (118, 96, 48), 5)
    rows = [(-18, (-24, -8, 8, 24)), (-4, (-17, 0, 17)), (10, (-10, 8)), (23, (0,))]
    for y, xs in rows:
        for x in xs:
            picture.alpha_composite(paint_ball(11, (112, 40, 134), x, y, 0.6))
    return picture


def cherry() -> Image.Image:
    """A pair on long stems that meet."""
    picture = make_canvas()
    draw = ImageDraw.Draw(picture)
    for x in (-16, 16):
        draw_line(draw, (x, -2), (4, -46), (92, 128, 52), 4)
    draw_leaf(draw, 4, -44, 26, 0.25)
    for x, y in ((-17, 12), (17, 14)):
        picture.alpha_composite(paint_ball(17, (176, 12, 40), x, y, 0.7))
    return picture


def strawberry() -> Image.Image:
    """A heart with light seeds under a green crown."""

    def outline(a: float) -> tuple[float, float]:
        lower = max(0.0, sin(a))
        return (24 - 12 * lower**2) * cos(a), (20 + 13 * lower) * sin(a)

    picture = shade(trace(outline), (226, 36, 52), 0.3)
    draw = ImageDraw.Draw(picture)
    for x, y in [(-13, -6), (0, -8), (13, -6), (-7, 4), (7, 4), (0, 14), (-9, 14), (9, 13), (0, 24)]:
        draw.ellipse((MIDDLE + x - 1.8, MIDDLE + y - 2.6, MIDDLE + x + 1.8, MIDDLE + y + 2.6), fill=(255, 222, 130))
    for angle in (-2.9, -2.2, -pi / 2, -0.95, -0.25):
        draw_leaf(draw, 0, -15, 20, angle)
    return picture


def banana() -> Image.Image:
    """A crescent with brown ends."""
    outer = [(44 * cos(a), 34 * sin(a) - 14) for a in np.linspace(0.12, pi - 0.12, 30)]
    inner = [(42 * cos(a), 13 * sin(a) - 14) for a in np.linspace(pi - 0.08, 0.08, 30)]
    picture = shade([(MIDDLE + x, MIDDLE + y) for x, y in outer + inner], (246, 208, 48), 0.25)
    draw = ImageDraw.Draw(picture)
    draw.arc((MIDDLE - 40, MIDDLE - 40, MIDDLE + 40, MIDDLE + 13), 25, 155, fill=(206, 160, 28), width=3)
    draw_line(draw, (41, -8), (44, -18), (112, 84, 34), 8)
    draw_line(draw, (-42, -8), (-44, -13), (84, 62, 30), 6)
    return picture


def carrot() -> Image.Image:
    """An orange cone, point down, with rings and a tuft."""

    def outline(a: float) -> tuple[float, float]:
        lower = (sin(a) + 1) / 2
        return (17 - 14 * lower**1.3) * cos(a), 2 + 38 * sin(a)

    picture = shade(trace(outline), (240, 116, 24), 0.25)
    draw = ImageDraw.Draw(picture)
    for y, half in ((-16, 8), (-2, 6), (12, 4)):
        draw_line(draw, (-half, y), (half - 4, y + 2), (198, 84, 12), 3)
    for angle in (-2.15, -1.85, -1.57, -1.25, -0.95):
        draw_leaf(draw, 0, -32, 27, angle, (72, 156, 56))
    return picture.rotate(-38, Image.Resampling.BICUBIC)


def eggplant() -> Image.Image:
    """Near-black violet, long, with a green cap and a bright streak."""

    def outline(a: float) -> tuple[float, float]:
        lower = (sin(a) + 1) / 2
        return (12 + 9 * lower) * cos(a), 4 + 36 * sin(a)

    picture = shade(trace(outline), (70, 24, 86), 0.75)
    draw = ImageDraw.Draw(picture)
    draw_line(draw, (0, -34), (4, -48), (76, 130, 58), 8)
    for angle in (0.35, 1.1, pi / 2, 2.05, 2.8):
        draw_leaf(draw, 0, -35, 19, angle, (84, 148, 62))
    return picture.rotate(42, Image.Resampling.BICUBIC)


PAINT: dict[str, Callable[[], Image.Image]] = {
    painter.__name__: painter
    for painter in (
        apple, pear, plum, orange, lemon, watermelon, grape, cherry, strawberry, banana, carrot, eggplant,
    )
}  # fmt: skip
