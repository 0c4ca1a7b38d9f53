"""What `diffedit.edit` returns for one picture."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from diffedit.io.images import to_pil
from diffedit.types import EditRequest, EditResult


@dataclass(frozen=True, eq=False)
class EditedPicture:
    """The edits of one picture and what they were made with; pictures are Pillow's, of the size that it was edited at.

    Attributes:
        request: what was asked.
        result: what the method returned, as tensors; None where it failed.
        crop: the part of the upright input that the pictures show: left, upper, right, lower in its pixels, so that
            `image.crop(result.crop)` is it; None where the input could not be read.
        error: what went wrong; None where nothing did.
        evaluations: of the denoiser.
        several: whether a list of ratios was asked for.
    """

    request: EditRequest
    result: EditResult | None
    crop: tuple[int, int, int, int] | None
    error: Exception | None
    evaluations: int
    several: bool

    @cached_property
    def images(self) -> Mapping[float, Image.Image]:
        """The edit at each ratio; raises what went wrong."""
        return {edit.variant.strength: to_pil(edit.image) for edit in self.get_result().edits}

    @property
    def image(self) -> Image.Image:
        """The edit, where one ratio was asked for; raises what went wrong.

        Raises:
            AttributeError: a list of ratios was asked for.
        """
        if self.several:
            raise AttributeError(f"there are edits at {', '.join(map(str, self.images))}: take result.images[ratio]")
        if not self.images:
            raise AttributeError("find_mask edits nothing: take result.mask, or call edit")
        (image,) = self.images.values()
        return image

    @cached_property
    def mask(self) -> Image.Image | None:
        """White where the picture may change, of the pictures' size; None for a method without one."""
        result = self.get_result()
        if result.mask is None:
            return None
        height, width = self.request.image().shape[-2:]
        return to_pil(result.mask[0].float()).resize((width, height), Image.Resampling.NEAREST)

    @property
    def contrast_map(self) -> np.ndarray | None:
        """Where the two texts disagree (§3.2, step 1), (h, w) on the latent grid, before any rule; None without one."""
        contrast_map = self.get_result().contrast_map
        return None if contrast_map is None else contrast_map.numpy()

    def get_result(self) -> EditResult:
        """The result; raises what went wrong."""
        if self.result is None:
            raise self.error
        return self.result

    def sheet(self) -> Image.Image:
        """Input, contrast map, mask and edits beside each other."""
        from eval.reporting.contact_sheet import draw_result

        return draw_result(self.request, self.get_result())["sheet"]

    def _repr_png_(self) -> bytes | None:
        """A notebook shows the sheet."""
        if self.result is None:
            return None
        data = io.BytesIO()
        self.sheet().save(data, "PNG")
        return data.getvalue()

    def __repr__(self) -> str:
        if self.error is not None:
            return f"EditedPicture(error={self.error!r})"
        ratios = ", ".join(map(str, self.images))
        return f"EditedPicture({self.request.target!r}, ratio {ratios}, {self.evaluations} evaluations)"
