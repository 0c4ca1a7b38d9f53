"""Pictures and masks from disk to tensors: every mode, orientation and size that a data set throws at a loader."""

import io
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.io.files import write
from diffedit.io.spelling import find_spelling
from diffedit.types import EditRequest

# For good: catch_warnings is not for threads, and pictures are opened in several.
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)

# A mask whose aspect ratio is further than this from its picture's belongs to another picture, or to a crop of it.
ASPECT_TOLERANCE = 0.10

Load = Callable[[], Float[Tensor, "c H W"]]


@runtime_checkable
class Loader(Protocol):
    """What loads a picture or a mask from a file, when called. What is drawn in memory is a plain callable instead."""

    path: Path | None  # of the file; None where a loader of something drawn is wrapped

    def __call__(self) -> Float[Tensor, "c H W"]: ...


def get_path(load: Load | None) -> Path | None:
    """The file that a request's picture or mask is loaded from, as the disk spells it; None for what is drawn."""
    path = load.path if isinstance(load, Loader) else None
    return None if path is None else find_spelling(path)


@settings
class Resize:
    """How a picture is brought to the backbone's resolution.

    Attributes:
        policy: `crop` scales the shorter side to the resolution and cuts out the centre (torchvision's Resize and
            CenterCrop, the protocol of FlexIT and most others); `squash` scales both sides and keeps everything; `keep`
            keeps everything and the shape, which is then square only where the picture is.
        filter: Pillow's resampling filter, antialiased.
        side: of `keep`, the one that is scaled to the resolution: the `shorter` (None: so, too; things are as large as
            with `crop`), or the `longer` (no picture has more pixels than a square).
        grain: of `keep`, what both sides are rounded to a multiple of; None: what the backbone asks for.
    """

    policy: Literal["crop", "squash", "keep"] = "crop"
    filter: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    side: Literal["shorter", "longer"] | None = None
    grain: Annotated[int, Ge(1)] | None = None

    def __post_init__(self) -> None:
        if self.policy != "keep" and (self.side is not None or self.grain is not None):
            key, value = ("side", self.side) if self.side is not None else ("grain", self.grain)
            raise ValueError(f"resize.{key} = {value}: of resize.policy=keep alone, and it is {self.policy}")

    def __call__(self, picture: Image.Image, resolution: int) -> Image.Image:
        size, (left, top) = self.place(picture.size, resolution)
        if (count := size[0] * size[1]) > (limit := max(PixelLimit.value, MAX_PIXELS)):
            raise UnusablePictureError(
                f"{picture.width} x {picture.height} is so long that, scaled to {size[0]} x {size[1]}, it has "
                f"{count:,} pixels, more than {limit:,}: cut it, or take the resize policy squash"
            )
        scaled = picture.resize(size, Image.Resampling[self.filter.upper()])
        width, height = self.find_size(picture.size, resolution)
        return scaled.crop((left, top, left + width, top + height))

    def find_size(self, size: tuple[int, int], resolution: int) -> tuple[int, int]:
        """Width and height of what comes out of a picture of this width and height."""
        return self.place(size, resolution)[0] if self.policy == "keep" else (resolution, resolution)

    def place(self, size: tuple[int, int], resolution: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """What a picture of this width and height is scaled to, and the left upper corner of what is cut out of it."""
        if self.policy == "squash":
            return (resolution, resolution), (0, 0)
        if self.policy == "keep":
            grain, scaled = self.grain or 1, max(size) if self.side == "longer" else min(size)
            width, height = (max(grain, round_to(length * resolution, scaled, grain)) for length in size)
            return (width, height), (0, 0)
        # The longer side is truncated and the crop's corner rounded, as torchvision does: equal to the bit, without the
        # second or more that importing it takes.
        width, height = (resolution * length // min(size) for length in size)
        return (width, height), (round((width - resolution) / 2), round((height - resolution) / 2))

    def crop_box(self, size: tuple[int, int], resolution: int) -> tuple[int, int, int, int]:
        """Which part of a picture of this width and height is shown: left, upper, right, lower in its pixels."""
        scaled, corner = self.place(size, resolution)
        shown = self.find_size(size, resolution)
        edges = (*corner, *(start + length for start, length in zip(corner, shown, strict=True)))
        return tuple(round(edge * size[i % 2] / scaled[i % 2]) for i, edge in enumerate(edges))

    def find_resolution(self, size: tuple[int, int]) -> int:
        """The resolution that a picture of this width and height came out of."""
        return max(size) if self.side == "longer" else min(size)

    def fit(self, resolution: int, grain: int) -> "Resize":
        """The same, with what a backbone of this resolution and grain leaves open.

        Raises:
            ValueError: the grain that is asked for is not one of this backbone.
        """
        if self.policy != "keep":
            return self
        own = grain if self.grain is None else self.grain
        if own % grain or resolution % own:
            raise ValueError(
                f"resize.grain = {own}: this backbone takes sides that are multiples of {grain}, and its resolution is "
                f"{resolution}, a multiple of the grain, too: leave it (null), or take {grain}"
            )
        return replace(self, side=self.side or "shorter", grain=own)


def round_to(length: int, divisor: int, grain: int) -> int:
    """A quotient, rounded to the nearest multiple of the grain; what is half-way between two goes up."""
    return (2 * length + divisor * grain) // (2 * divisor * grain) * grain


@dataclass(frozen=True)
class ImageFile:
    """A picture on disk, loaded when called: (3, H, W) in [0, 1], a square of the resolution unless its shape is kept.

    EXIF orientation is applied, ICC profiles are ignored, transparency is laid over white, grey and CMYK become RGB,
    16 bits become 8. Truncated files, and modes without a defined range, are an OSError that names the file.
    """

    path: Path
    resolution: int
    resize: Resize = Resize()

    def __call__(self) -> Float[Tensor, "3 H W"]:
        with open_image(self.path) as picture:
            return to_tensor(self.resize(to_rgb(picture), self.resolution))


@dataclass(frozen=True)
class MaskFile:
    """A mask on disk, loaded when called: (1, H, W) in [0, 1], white = edit, of the size that its picture comes out at.

    Only luminance counts, never alpha. A mask of another size is first stretched to its picture's, then goes through
    the same resize, so it stays where it was drawn; one whose aspect ratio is more than 10 % off is a ValueError.
    """

    path: Path
    picture: Path
    resolution: int
    resize: Resize = Resize()

    def __call__(self) -> Float[Tensor, "1 H W"]:
        with open_image(self.picture) as picture:
            size = picture.size
        with open_image(self.path) as mask:
            if is_other_shape(mask.size, size):
                raise ValueError(
                    f"{self.path}: the mask is {mask.width} x {mask.height}, its picture {self.picture.name} is "
                    f"{size[0]} x {size[1]}: another shape, so it cannot be laid over it"
                )
            return lay_mask(mask, size, self.resolution, self.resize)

    def describe_cut(self) -> str:
        """What the resize policy takes away of a mask that comes out empty; "" of one that holds nothing anyway."""
        with open_image(self.picture) as picture:
            size = picture.size
        with open_image(self.path) as mask:
            return describe_cut(mask, size, self.resolution, self.resize)


def describe_cut(mask: Image.Image, size: tuple[int, int], resolution: int, resize: Resize) -> str:
    """Where a mask lies in its picture of this width and height, and what is shown; "" where that holds some of it."""
    grey = to_grey(mask)
    place = grey.resize(size, Image.Resampling.BILINEAR).point(lambda level: 255 * (level >= 128)).getbbox()
    left, top, right, bottom = resize.crop_box(size, resolution)
    if place is None or (place[0] < right and left < place[2] and place[1] < bottom and top < place[3]):
        return ""
    return (
        f"the mask lies at {place[0]} to {place[2]} x {place[1]} to {place[3]} of {size[0]} x {size[1]}, and "
        f"resize.policy={resize.policy} shows {left} to {right} x {top} to {bottom}"
    )


def is_other_shape(mask: tuple[int, int], picture: tuple[int, int]) -> bool:
    """Whether the aspect ratios of a mask and its picture are too far apart."""
    off = (mask[0] / mask[1]) / (picture[0] / picture[1])
    return max(off, 1 / off) > 1 + ASPECT_TOLERANCE


def lay_mask(mask: Image.Image, size: tuple[int, int], resolution: int, resize: Resize) -> Float[Tensor, "1 H W"]:
    """A mask, stretched to its picture's size, through the picture's resize; its luminance counts."""
    grey = to_grey(mask)
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.BILINEAR)
    return to_tensor(resize(grey, resolution))


def to_grey(mask: Image.Image) -> Image.Image:
    """A mask's luminance in 8 bits."""
    return to_eight_bits(mask).convert("RGB").convert("L")


FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is opened. Pillow knows more; some of it starts other programs (EPS: Ghostscript), none of it is photographs."""

MAX_PIXELS = 2**27
BAND = 2**22  # pixels that are converted at a time


class PixelLimit:
    """Most pixels of a file; the setting `max_pixels` of commands."""

    value = MAX_PIXELS


def limit_pixels(count: int | None) -> None:
    """Open files of at most so many pixels from now on; None for the default."""
    if count is not None and count < 1:
        raise ValueError(f"max_pixels = {count}: a number of pixels is wanted")
    PixelLimit.value = MAX_PIXELS if count is None else count
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow's own limit must not be the smaller one
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, PixelLimit.value)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The decoded picture, upright; whatever is wrong with the file is an OSError that names it."""
    try:
        upright = decode(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise OSError(f"{path}: not an image file of a format that is read here: {', '.join(FORMATS)}") from error
    except Exception as error:  # plug-ins raise what they like on a damaged file: ValueError, SyntaxError, struct.error
        raise OSError(f"{str(path)!r}: {error}" if "\0" in str(path) else f"{path}: {error}") from error
    try:
        yield upright
    except UnusablePictureError as error:
        raise OSError(f"{path}: {error}") from error


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of the upright picture, by the head of its file; an OSError that names what is none."""
    try:
        with open_file(path) as picture:
            is_turned = picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return picture.size[::-1] if is_turned else picture.size
    except Exception:  # it is said what is wrong where pictures are opened
        with open_image(path) as picture:
            return picture.size


def open_file(path: Path) -> Image.Image:
    """A regular file of an allowed format as Pillow opens it: its head is read, its pixels are not."""
    path = find_spelling(path)
    if not stat.S_ISREG(path.stat().st_mode):  # a FIFO or a device would be waited for, for ever
        raise OSError("not a regular file")
    Image.init()  # an older Pillow, or one built without a library, lacks some
    return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


def decode(path: Path) -> Image.Image:
    """The picture of a regular file of an allowed format and size, upright."""
    with open_file(path) as picture:
        if (count := picture.width * picture.height) > PixelLimit.value:
            raise OSError(
                f"{picture.width} x {picture.height} = {count:,} pixels, more than max_pixels = {PixelLimit.value:,}: "
                "make it smaller, or set max_pixels"
            )
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        upright.format = picture.format
    return upright


class UnusablePictureError(ValueError):
    """A mode whose white is not defined, or a shape that cannot be brought to the resolution."""


def convert_in_bands(picture: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """A conversion of each pixel by itself, some rows at a time: what it needs in between stays small."""
    out = Image.new(mode, picture.size)
    rows = max(1, BAND // picture.width)
    for top in range(0, picture.height, rows):
        box = (0, top, picture.width, min(top + rows, picture.height))
        out.paste(convert(picture.crop(box)), box)
    return out


def to_eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit greys scaled to 8 bits; the other modes as they are."""
    # 16-bit PNG and PGM files are I;16 or, in older Pillows, I; the 32 bits of other files have no known white.
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):
        raise UnusablePictureError(f"mode {picture.mode} (32 bits) has no defined white: save it in 8 or 16 bits")
    if picture.mode.startswith("I"):
        return convert_in_bands(picture, "L", scale_to_eight_bits)
    return picture


def scale_to_eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit greys divided by 257, rounded to the nearest: there is no half between."""
    return Image.fromarray(((np.asarray(picture).astype(np.int64) + 128) // 257).astype(np.uint8))


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode to RGB, transparency over white."""
    picture = to_eight_bits(picture)
    if picture.has_transparency_data:
        return convert_in_bands(picture, "RGB", lay_over_white)
    return picture.convert("RGB")


def lay_over_white(picture: Image.Image) -> Image.Image:
    """Without its transparency."""
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def to_tensor(picture: Image.Image) -> Float[Tensor, "c h w"]:
    """RGB or L to floats in [0, 1], channels first."""
    values = np.array(picture, dtype=np.float32) / 255
    return torch.from_numpy(values.reshape(picture.height, picture.width, -1)).permute(2, 0, 1).contiguous()


def resize_to(picture: Float[Tensor, "c h w"], resolution: int) -> Float[Tensor, "c resolution resolution"]:
    """A picture at another resolution: bicubic and antialiased; a mask by its nearest pixels."""
    if picture.shape[-1] == resolution:
        return picture
    settings = {"mode": "nearest-exact"} if len(picture) == 1 else {"mode": "bicubic", "antialias": True}
    return torch.nn.functional.interpolate(picture[None], (resolution, resolution), **settings)[0].clamp(0, 1)


@dataclass(frozen=True)
class Resized:
    """A loader whose picture is brought to another resolution."""

    load: Load
    resolution: int

    @property
    def path(self) -> Path | None:
        return get_path(self.load)

    def __call__(self) -> Float[Tensor, "c resolution resolution"]:
        return resize_to(self.load(), self.resolution)


def with_resolution(request: EditRequest, resolution: int) -> EditRequest:
    """A request whose pictures and masks are brought to this resolution."""
    names = ("image", "mask", "true_mask", "true_edit", "retrieved")
    loads = {name: load for name in names if (load := getattr(request, name)) is not None}
    return replace(request, **{name: Resized(load, resolution) for name, load in loads.items()})


def to_pil(image: Tensor) -> Image.Image:
    """A (3 or 1, H, W) image in [0, 1] as an 8-bit picture."""
    values = (image.detach().cpu().float() * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(-1).numpy()
    return Image.fromarray(values)


def write_picture(path: Path, picture: Image.Image, **options: Any) -> None:
    """Write a picture in the format of the file's ending, so that it is either whole or absent.

    Args:
        path: of the file.
        picture: any.
        options: of Pillow's format.

    Raises:
        ValueError: the ending is of no format that is written.
        OSError: it cannot be written; the message names the path.
    """
    data, format = io.BytesIO(), Image.registered_extensions().get(path.suffix.lower())
    if format not in Image.SAVE:
        raise ValueError(f"{path}: no format is known by the ending {path.suffix!r}; .png is one")
    try:
        picture.save(data, format, **options)
    except (OSError, ValueError) as error:  # modes that the format does not have
        raise ValueError(f"{path}: {error}") from error
    write(path, data.getvalue())


def encode_png(image: Tensor) -> bytes:
    """A (3 or 1, H, W) image in [0, 1] as an 8-bit PNG."""
    data = io.BytesIO()
    to_pil(image).save(data, "PNG")
    return data.getvalue()
