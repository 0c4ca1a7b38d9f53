"""Pictures and masks as people hold them in Python, as what a request loads: Pillow's, arrays, tensors, paths."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from diffedit.io.images import Resize, describe_cut, is_other_shape, lay_mask, open_image, to_grey, to_rgb, to_tensor

Given = Any
"""A Pillow picture of any mode, a path, or an array or tensor: bytes in [0, 255] or floats in [0, 1], grey or with 3 or
4 channels, which stand last or first."""


@dataclass
class GivenPicture:
    """A picture in any of these forms, loaded when called: (3, H, W) in [0, 1], as `ImageFile` brings it to a size.

    What cannot be a picture is a TypeError or ValueError of that call, so that it spoils its own request only. The
    whole picture is not kept: a list of many may be on its way.
    """

    picture: Given
    resolution: int
    resize: Resize = Resize()

    def open(self) -> Image.Image:
        """The whole picture, upright, in its own mode."""
        opened = open_given(self.picture)
        self.size = opened.size
        return opened

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole picture, upright."""
        return open_given(self.picture).size

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """Which part of the upright picture is loaded: left, upper, right, lower in its pixels, as Pillow counts."""
        return self.resize.crop_box(self.size, self.resolution)

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height of what is loaded."""
        return self.resize.find_size(self.size, self.resolution)

    def __call__(self) -> Float[Tensor, "3 H W"]:
        exact = get_exact(self.picture, self.resize, self.resolution)
        return to_tensor(self.resize(to_rgb(self.open()), self.resolution)) if exact is None else exact


@dataclass(frozen=True)
class GivenMaskPicture:
    """A mask in any of these forms, loaded when called: (1, H, W) in [0, 1], white = edit.

    It lies over the whole picture and goes through the same resize; one of the size that the picture comes out at lies
    on that itself.
    """

    mask: Given
    picture: GivenPicture

    def __call__(self) -> Float[Tensor, "1 H W"]:
        mask, resolution = open_given(self.mask), self.picture.resolution
        size, shown = self.picture.size, self.picture.shown
        if mask.size == shown:
            return to_tensor(to_grey(mask))
        if is_other_shape(mask.size, size):
            raise ValueError(
                f"the mask is {mask.width} x {mask.height} and its picture {size[0]} x {size[1]}: give a mask of the "
                f"picture's shape, or of the model's {shown[0]} x {shown[1]}"
            )
        return lay_mask(mask, size, resolution, self.picture.resize)

    def describe_cut(self) -> str:
        """What the resize policy takes away of a mask that comes out empty; "" of one that holds nothing anyway."""
        mask = open_given(self.mask)
        if mask.size == self.picture.shown:
            return ""
        return describe_cut(mask, self.picture.size, self.picture.resolution, self.picture.resize)


def open_given(given: Given) -> Image.Image:
    """A picture in any form as Pillow has it, upright; a TypeError or ValueError that says what is wrong with it."""
    if isinstance(given, str | Path):
        with open_image(Path(given).expanduser()) as picture:
            return picture
    if isinstance(given, Image.Image):
        upright = ImageOps.exif_transpose(given)
        upright.format = given.format
        return upright
    if isinstance(given, np.ndarray | Tensor):
        return Image.fromarray(to_bytes(to_channels_last(given)))
    raise TypeError(f"a picture is a Pillow image, a path, an array or a tensor, not {type(given).__name__}")


def get_exact(given: Given, resize: Resize, resolution: int) -> Float[Tensor, "3 H W"] | None:
    """An RGB tensor or array of floats that has its size already, to the bit; None for anything else."""
    if not isinstance(given, np.ndarray | Tensor):
        return None
    values = to_channels_last(given)
    height, width = values.shape[:2]
    if values.ndim != 3 or values.shape[2] != 3 or values.dtype.kind != "f":
        return None
    if (width, height) != resize.find_size((width, height), resolution):
        return None
    check_range(values)
    return torch.from_numpy(values.astype(np.float32).clip(0, 1)).permute(2, 0, 1).contiguous()


def to_channels_last(given: np.ndarray | Tensor) -> np.ndarray:
    """(H, W) or (H, W, 3 or 4), whichever end the channels stood at."""
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = (given.float() if given.is_floating_point() else given).numpy()  # NumPy has no bfloat16
    values, shape = given, given.shape
    if values.ndim == 4 and shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[-1] not in (1, 3, 4) and values.shape[0] in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] not in (3, 4)) or 0 in values.shape:
        raise ValueError(f"a picture of the shape {tuple(shape)}: (H, W), (H, W, 3) or (3, H, W) is wanted")
    return values


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Levels from 0 to 255 (or 65,535 as they are) of an array; a ValueError where its numbers are neither."""
    match values.dtype.kind:
        case "b":
            return values.astype(np.uint8) * 255
        case "f":
            check_range(values)
            return (values.clip(0, 1) * 255).round().astype(np.uint8)
    if values.dtype == np.uint16:
        return values if values.ndim == 2 else (values / 257).round().astype(np.uint8)
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 255:
        return values.astype(np.uint8)
    raise ValueError(f"{describe_range(values)}: whole numbers in [0, 255] or floats in [0, 1] are wanted")


def check_range(values: np.ndarray) -> None:
    """Refuse floats that are not in [0, 1]; rounding of other code is let pass."""
    if not np.isfinite(values).all():
        raise ValueError("the picture holds a NaN or an infinity")
    if values.min() < -1e-3 or values.max() > 1 + 1e-3:
        remedy = "x / 255" if values.max() > 2 else "(x + 1) / 2"
        raise ValueError(f"{describe_range(values)}: floats in [0, 1] are wanted, so {remedy}, or clip them")


def describe_range(values: np.ndarray) -> str:
    """Its dtype and range."""
    if values.dtype.kind not in "iuf":
        return f"a picture of {values.dtype}"
    return f"a picture of {values.dtype} from {values.min():g} to {values.max():g}"
