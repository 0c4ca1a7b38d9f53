"""Pictures and masks as people hold them: every form of the same picture loads as the same tensor."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffedit.io.images import ImageFile, MaskFile, Resize
from diffedit.io.pictures import GivenMaskPicture, GivenPicture, open_given

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
GREY = PIXELS[..., 0]


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """The picture as a file, and what its loader gives."""
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.fromarray(PIXELS).save(path)
    return path, ImageFile(path, 32)()


FORMS = {
    "pillow": Image.fromarray(PIXELS),
    "opaque": Image.fromarray(PIXELS).convert("RGBA"),
    "array": PIXELS,
    "channels first": PIXELS.transpose(2, 0, 1),
    "floats": PIXELS / 255,
    "tensor": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "tensor of floats": torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255,
    "a batch of one": torch.from_numpy(PIXELS).permute(2, 0, 1)[None],
    "integers": PIXELS.astype(np.int64),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_loads_as_the_file_does(on_disk, form):
    assert torch.equal(GivenPicture(FORMS[form], 32)(), on_disk[1])


def test_a_path_loads_as_the_file_does(on_disk):
    path, expected = on_disk
    assert torch.equal(GivenPicture(path, 32)(), expected)
    assert torch.equal(GivenPicture(str(path), 32)(), expected)


@pytest.mark.parametrize(
    "grey",
    [
        GREY,
        GREY[..., None],
        GREY[None],
        GREY.astype(np.uint16) * 257,
        torch.from_numpy(GREY) / 255,
        (torch.from_numpy(GREY) / 255).double(),
        Image.fromarray(GREY),
    ],
)
def test_grey_pictures_have_three_equal_channels(grey):
    loaded = GivenPicture(grey, 32)()
    assert torch.equal(loaded, GivenPicture(np.stack([GREY] * 3, -1), 32)())
    assert torch.equal(loaded[0], loaded[2])


def test_floats_of_the_models_size_are_taken_to_the_bit():
    exact = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(GivenPicture(exact, 32)(), exact)
    assert torch.equal(GivenPicture(exact.permute(1, 2, 0).numpy(), 32)(), exact)
    rounded = GivenPicture(exact, 16)()
    assert (rounded * 255 - (rounded * 255).round()).abs().max() < 1e-4


def test_bfloat16_is_read():
    assert GivenPicture(torch.zeros(3, 32, 32, dtype=torch.bfloat16), 32)().dtype == torch.float32


def test_exif_orientation_is_applied(tmp_path):
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = 6  # on its side
    Image.fromarray(PIXELS).save(path, exif=exif)
    assert open_given(Image.open(path)).size == open_given(path).size == (40, 60)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (None, TypeError, "not NoneType"),
        ([1, 2], TypeError, "not list"),
        ("nowhere.png", FileNotFoundError, "nowhere.png: no such file"),
        (np.zeros((2, 5, 7)), ValueError, r"shape \(2, 5, 7\)"),
        (np.zeros((0, 5, 3)), ValueError, r"shape \(0, 5, 3\)"),
        (np.zeros(5), ValueError, r"shape \(5,\)"),
        (torch.rand(3, 8, 8) * 2 - 1, ValueError, r"so \(x \+ 1\) / 2"),
        (torch.rand(3, 8, 8) * 255, ValueError, "so x / 255"),
        (torch.full((3, 8, 8), torch.nan), ValueError, "a NaN"),
        (np.full((8, 8), 300), ValueError, "from 300 to 300"),
        (np.full((8, 8), "a"), ValueError, "whole numbers"),
    ],
)
def test_what_is_no_picture_is_named(given, error, message):
    with pytest.raises(error, match=message):
        GivenPicture(given, 16)()


@pytest.mark.parametrize("policy", ["crop", "squash"])
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (33, 33), (640, 481)])
def test_the_crop_is_what_the_picture_shows(policy, size):
    """The corner that is told, cut out and resized, is the picture but for the resampling at its edges."""
    ramp = np.linspace(0, 1, size[0])[None].repeat(size[1], 0) * 0.5 + np.linspace(0, 0.5, size[1])[:, None]
    given = GivenPicture(Image.fromarray((ramp * 255).astype(np.uint8)), 32, Resize(policy))
    left, upper, right, lower = given.crop
    assert 0 <= left < right <= size[0]
    assert 0 <= upper < lower <= size[1]
    if policy == "squash":
        assert given.crop == (0, 0, *size)
    else:
        assert (right - left) / (lower - upper) == pytest.approx(1, abs=1 / 32)  # whole pixels of the scaled picture
    cut = given.open().crop(given.crop).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    shown = np.asarray(cut).transpose(2, 0, 1) / 255
    assert np.abs(given().numpy() - shown).mean() < 0.02


def test_a_mask_lies_over_the_picture_as_a_mask_file_does(on_disk, tmp_path):
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:50] = True
    path = tmp_path / "mask.png"
    Image.fromarray(mask).save(path)
    expected = MaskFile(path, on_disk[0], 32)()
    picture = GivenPicture(on_disk[0], 32)
    for form in (mask, mask * 1.0, Image.fromarray(mask), torch.from_numpy(mask), path, Image.open(path).convert("L")):
        assert torch.equal(GivenMaskPicture(form, picture)(), expected)


def test_a_mask_of_the_models_size_lies_on_the_crop(on_disk):
    mask = np.zeros((32, 32), dtype=bool)
    mask[5, 7] = True
    assert torch.equal(GivenMaskPicture(mask, GivenPicture(on_disk[0], 32))(), torch.from_numpy(mask)[None].float())


def test_a_mask_of_another_shape_is_refused(on_disk):
    with pytest.raises(ValueError, match=r"30 x 60 and its picture 60 x 40: .* or of the model's 32 x 32"):
        GivenMaskPicture(np.zeros((60, 30)), GivenPicture(on_disk[0], 32))()
