"""A scene as a picture, with the exact region of everything in it. Painted at four times the size, then reduced."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from eval.stilllife.fruit import CANVAS, PAINT
from eval.stilllife.scene import Scene, make_generator

RESOLUTION = 64
SCALE = 4
FULL = RESOLUTION * SCALE  # pixels of a side while it is painted
SPREAD = 64  # how far a table's pattern may be shifted

WALL_COLOURS = {"gray": (160, 164, 172), "yellow": (240, 204, 116), "green": (136, 184, 140), "dark": (52, 48, 58)}
SLOTS = ((-22, -38), (22, -38), (-44, 0), (44, 0), (0, 3))  # of the pile, back to front
LAYOUTS = ((2, 3, 4), (0, 2, 3, 4), (1, 2, 3, 4), (0, 1, 2, 3, 4))  # which slots are filled
HEIGHT = {"banana": 0.5, "watermelon": 0.65, "lemon": 0.8}  # of the upper row, where a kind is flat
TURNS = (-12, -8, -4, 0, 4, 8, 12)  # degrees
FOOT = 30  # of what stands on the table, below the middle of the pile
SHADOW = {"bowl": (62, 58), "basket": (76, 56), "plate": (92, 22), "none": (80, 24)}  # (half width, below the pile)


@dataclass(frozen=True)
class Rendering:
    """A picture and what is seen where.

    Attributes:
        image: uint8, (64, 64, 3), or larger by the margins of the scene's framing.
        names: `wall`, `table`, `vessel` (where there is one) and each kind of fruit by its name.
        owner: index into `names` at the painted size, (256, 256) likewise.
    """

    image: np.ndarray
    names: tuple[str, ...]
    owner: np.ndarray

    def region(self, name: str) -> np.ndarray:
        """The share of each pixel that belongs to a thing, in [0, 1], (64, 64). All names together give 1."""
        height, width = self.image.shape[:2]
        return (self.owner == self.names.index(name)).reshape(height, SCALE, width, SCALE).mean((1, 3))


@lru_cache(512)  # several metrics and strengths ask for one picture
def render(scene: Scene) -> Rendering:
    """Paint the scene: the same one gives the same pixels."""
    layout = make_generator(scene.seed, "layout")
    horizon = int(layout.integers(104, 132))
    x, y = int(layout.integers(104, 152)), int(layout.integers(146, 164))
    light = layout.uniform(0.93, 1.05)
    framing = scene.framing
    horizon = horizon if framing.horizon is None else framing.horizon

    across, down = find_margins(scene)
    x, y = x + across, y + down
    page = Page(FULL + 2 * across, FULL + 2 * down)
    page.put("wall", paint_wall(scene))
    page.put("table", paint_table(scene, horizon), (0, horizon + down))
    for name, picture, corner in arrange_things(scene, x, y):
        page.put(name, *shrink(picture, corner, (x, y + FOOT), framing.scale))
    return page.finish(light)


def find_margins(scene: Scene) -> tuple[int, int]:
    """Painted pixels on either side of the square, and above and below it."""
    across, down = (margin * SCALE for margin in scene.framing.margins)
    return across, down


def arrange_things(scene: Scene, x: int, y: int) -> Iterator[tuple[str | None, Image.Image | None, tuple[int, int]]]:
    """(name, picture, corner) of all that stands on the table, back to front."""
    shadow, (back, front) = paint_shadow(scene.vessel), paint_vessel(scene.vessel)
    yield None, shadow, (x - FULL // 2 + 8, y - FULL // 2 + SHADOW[scene.vessel][1])
    yield "vessel", back, (x - FULL // 2, y - FULL // 2)
    yield from arrange_pile(scene, x, y)
    yield "vessel", front, (x - FULL // 2, y - FULL // 2)


def shrink(
    picture: Image.Image | None, corner: tuple[int, int], towards: tuple[int, int], scale: float
) -> tuple[Image.Image | None, tuple[int, int]]:
    """A picture and its corner, drawn together towards a point; 1 leaves them as they are."""
    if picture is None or scale == 1:
        return picture, corner
    left, top = (round(end + (start - end) * scale) for start, end in zip(corner, towards, strict=True))
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.resize(size, Image.Resampling.BICUBIC), (left, top)


class Page:
    """A picture in the making."""

    def __init__(self, width: int, height: int) -> None:
        self.picture = Image.new("RGBA", (width, height))
        self.names: list[str] = []
        self.owner = np.zeros((height, width), dtype=np.uint8)

    def put(self, name: str | None, picture: Image.Image | None, corner: tuple[int, int] = (0, 0)) -> None:
        """Lay a picture over the page; its opaque part belongs to `name` (None: to what it lies on)."""
        if picture is None:
            return
        left, top = (max(0, start) for start in corner)
        ends = zip(self.picture.size, corner, picture.size, strict=True)
        right, bottom = (min(most, start + size) for most, start, size in ends)
        picture = picture.crop((left - corner[0], top - corner[1], right - corner[0], bottom - corner[1]))
        self.picture.alpha_composite(picture, (left, top))
        if name is not None:
            if name not in self.names:
                self.names.append(name)
            opaque = np.asarray(picture.getchannel("A")) > 127
            self.owner[top:bottom, left:right][opaque] = self.names.index(name)

    def finish(self, light: float) -> Rendering:
        """Reduce to the final size."""
        image = np.asarray(self.picture.convert("RGB").reduce(SCALE)) * light
        return Rendering(np.clip(image, 0, 255).round().astype(np.uint8), tuple(self.names), self.owner)


def to_image(colours: np.ndarray) -> Image.Image:
    """An (h, w, 3) array of colours as an opaque picture."""
    return Image.fromarray(np.clip(colours, 0, 255).round().astype(np.uint8)).convert("RGBA")


def cut_out(colours: np.ndarray, mask: Image.Image) -> Image.Image:
    """Colours where the mask is, nothing elsewhere."""
    picture = to_image(colours)
    picture.putalpha(mask)
    return picture


def paint_wall(scene: Scene) -> Image.Image:
    """A plain wall, darker towards the table."""
    across, down = find_margins(scene)
    tint = make_generator(scene.seed, "wall").uniform(-7, 7, 3)
    light = extend(np.linspace(1.06, 0.9, FULL), down, down)[:, None, None]
    column = (np.array(WALL_COLOURS[scene.wall]) + tint) * light
    return to_image(column).resize((FULL + 2 * across, len(column)), Image.Resampling.NEAREST)


def extend(line: np.ndarray, before: int, after: int) -> np.ndarray:
    """A straight line of numbers that goes on at either end; what there was stays as it is, to the bit."""
    step = line[1] - line[0]
    ahead, behind = line[0] - step * np.arange(before, 0, -1), line[-1] + step * np.arange(1, after + 1)
    return np.concatenate([ahead, line, behind]).astype(line.dtype)


def paint_table(scene: Scene, horizon: int) -> Image.Image:
    """The table top from the horizon down."""
    across, down = find_margins(scene)
    rng = make_generator(scene.seed, "table")
    shift = int(rng.integers(SPREAD))
    tint = rng.uniform(-7, 7, 3).astype(np.float32)
    top = paint_pattern(scene.table, across, down)[: FULL - horizon + down, shift : shift + FULL + 2 * across]
    depth = extend(np.linspace(0.86, 1.04, FULL - horizon, dtype=np.float32), 0, down)[:, None, None]
    return to_image((top + tint) * depth)


@cache
def paint_pattern(kind: str, across: int = 0, down: int = 0) -> np.ndarray:
    """A table's surface, wider than needed: planks, plain cloth, stripes or checks; with margins of the same."""
    rows, columns = np.mgrid[0 : FULL + down, -across : FULL + SPREAD + across]
    if kind == "wooden":
        grain = 5 * np.sin(columns / 17 + 3 * np.sin(rows / 5)) - 16 * (rows // 26 % 2)
        colour = np.array((152, 98, 54)) + grain[..., None]
    elif kind == "white":
        colour = np.array((232, 228, 220)) + 5 * np.sin(columns / 21 + rows / 90)[..., None]
    elif kind == "blue":
        colour = np.where((columns // 16 % 2)[..., None], (58, 104, 196), (176, 200, 236))
    else:
        check = (columns // 22 % 2 + rows // 22 % 2)[..., None]
        colour = np.choose(check, ((244, 232, 226), (222, 120, 112), (196, 36, 40)))
    return colour.astype(np.float32)


@cache
def paint_shadow(kind: str) -> Image.Image:
    """A soft dark patch on the table, around the middle of the canvas."""
    half = SHADOW[kind][0]
    picture = Image.new("RGBA", (FULL, FULL))
    box = (FULL // 2 - half, FULL // 2 - 13, FULL // 2 + half, FULL // 2 + 15)
    ImageDraw.Draw(picture).ellipse(box, fill=(20, 12, 10, 120))
    return picture.filter(ImageFilter.GaussianBlur(7))


@cache
def paint_sprite(kind: str, turn: int) -> Image.Image:
    """A fruit, painted once, turned by so many degrees."""
    return PAINT[kind]().rotate(turn, Image.Resampling.BICUBIC)


def arrange_pile(scene: Scene, x: int, y: int) -> list[tuple[str, Image.Image, tuple[int, int]]]:
    """(kind, picture, corner) of every fruit, back to front. The seed alone decides how many, where and how turned."""
    rng = make_generator(scene.seed, "pile")
    slots = LAYOUTS[rng.integers(len(LAYOUTS))]
    first = int(rng.integers(2))
    fruits = []
    for order, slot in enumerate(slots):
        dx, dy = rng.integers(-4, 5, 2)
        turn = TURNS[rng.integers(len(TURNS))]
        turn_of = order == len(slots) - 1 if scene.framing.once else order + first
        kind = scene.fruits[turn_of % len(scene.fruits)]
        left = x + SLOTS[slot][0] + int(dx) - CANVAS // 2
        top = y + round(SLOTS[slot][1] * HEIGHT.get(kind, 1)) + int(dy) - CANVAS // 2 - 10
        fruits.append((kind, paint_sprite(kind, turn), (left, top)))
    return fruits


@cache
def paint_vessel(kind: str) -> tuple[Image.Image | None, Image.Image | None]:
    """(what is behind the fruit, what is before it), the pile's foot in the middle of the canvas."""
    if kind == "none":
        return None, None
    back = Image.new("RGBA", (FULL, FULL))
    x = y = FULL // 2
    draw = ImageDraw.Draw(back)
    if kind == "plate":
        draw.ellipse((x - 92, y - 8, x + 92, y + 36), fill=(206, 206, 214, 255))
        draw.ellipse((x - 92, y - 12, x + 92, y + 31), fill=(240, 240, 244, 255))
        draw.ellipse((x - 66, y - 5, x + 66, y + 22), fill=(222, 222, 230, 255))
        return back, None
    if kind == "bowl":
        draw.ellipse((x - 80, y - 18, x + 80, y + 18), fill=(168, 186, 200, 255))
        return back, paint_bowl(x, y)
    draw.ellipse((x - 80, y - 14, x + 80, y + 16), fill=(96, 64, 30, 255))
    return back, paint_basket(x, y)


def paint_bowl(x: int, y: int) -> Image.Image:
    """The front of a pale bowl with a blue band."""
    mask = Image.new("L", (FULL, FULL))
    draw = ImageDraw.Draw(mask)
    draw.chord((x - 80, y - 62, x + 80, y + 58), 2, 178, fill=255)
    draw.rectangle((x - 26, y + 52, x + 26, y + 62), fill=255)
    columns = (np.arange(FULL) - x) / 80
    light = np.clip(1.05 - 0.3 * (columns + 0.35) ** 2, 0.5, 1.05)[None, :, None]
    colour = np.tile(np.array((226, 236, 242)) * light, (FULL, 1, 1))
    colour[y + 14 : y + 24] = np.array((84, 128, 190)) * light
    return cut_out(colour, mask)


def paint_basket(x: int, y: int) -> Image.Image:
    """The front of a wicker basket."""
    mask = Image.new("L", (FULL, FULL))
    ImageDraw.Draw(mask).polygon([(x - 82, y), (x + 82, y), (x + 68, y + 60), (x - 68, y + 60)], fill=255)
    rows, columns = np.mgrid[0:FULL, 0:FULL]
    over = ((rows - y) // 10 + (columns - x) // 16) % 2
    edge = ((rows - y) % 10 < 2) | ((columns - x) % 16 < 2)
    colour = np.where(over[..., None], (196, 148, 84), (160, 112, 56)) - 34 * edge[..., None]
    colour[y : y + 8] = (206, 160, 96)
    return cut_out(colour, mask)
