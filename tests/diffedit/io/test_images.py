import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from diffedit.io.images import ImageFile, MaskFile, Resize, to_rgb, to_tensor

RED = (200, 40, 60)


def saved(path, picture, **settings):
    picture.save(path, **settings)
    return path


def load(path, side=16, **settings):
    return ImageFile(path, side, Resize(**settings))()


def test_modes_all_become_the_same_rgb(tmp_path):
    """Red in every mode that can say it; grey in those that cannot."""
    red = Image.new("RGB", (32, 32), RED)
    expected = to_tensor(red.resize((16, 16)))
    for mode, name in (("RGB", "a.png"), ("RGBA", "b.png"), ("P", "c.png"), ("CMYK", "d.tif"), ("YCbCr", "e.tif")):
        picture = saved(tmp_path / name, red.convert(mode, palette=Image.Palette.ADAPTIVE))
        torch.testing.assert_close(load(picture), expected, atol=3 / 255, rtol=0)
    for mode, name in (("L", "f.png"), ("LA", "g.png"), ("1", "h.png")):
        grey = red.convert(mode, dither=Image.Dither.NONE)
        value = np.asarray(grey.convert("L"))[0, 0] / 255
        torch.testing.assert_close(load(saved(tmp_path / name, grey)), torch.full((3, 16, 16), value).float())


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.full((20, 20), 0x8080, dtype=np.uint16)
    path = saved(tmp_path / "a.png", Image.fromarray(values))
    assert Image.open(path).mode.startswith("I")
    torch.testing.assert_close(load(path), torch.full((3, 16, 16), 128 / 255))


def test_transparency_lies_over_white(tmp_path):
    half = Image.new("RGBA", (16, 16), (0, 0, 0, 51))
    torch.testing.assert_close(load(saved(tmp_path / "a.png", half)), torch.full((3, 16, 16), 204 / 255))
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([255, 0, 0] + [0] * 765)
    assert (load(saved(tmp_path / "b.png", palette, transparency=0)) == 1).all()


def test_exif_orientation_is_applied(tmp_path):
    picture = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = load(saved(tmp_path / "a.png", picture, exif=exif))
    assert torch.equal(turned, to_tensor(picture.transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.parametrize("size", [(31, 50), (64, 33), (40, 40), (7, 90)])
@pytest.mark.parametrize("filter", ["bilinear", "bicubic", "lanczos"])
def test_crop_takes_the_centre_of_the_shorter_sides_square(size, filter):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    out = Resize("crop", filter)(picture, 16)
    short = min(size)
    scaled = picture.resize((16 * size[0] // short, 16 * size[1] // short), Image.Resampling[filter.upper()])
    left, top = round((scaled.width - 16) / 2), round((scaled.height - 16) / 2)
    assert out.size == (16, 16)
    assert np.array_equal(out, np.asarray(scaled)[top : top + 16, left : left + 16])


def test_squash_keeps_everything():
    picture = Image.new("RGB", (64, 32), "black")
    picture.paste("white", (0, 0, 8, 32))
    assert Resize("squash")(picture, 16).getpixel((0, 8)) == (255, 255, 255)
    assert Resize("crop")(picture, 16).getpixel((0, 8)) == (0, 0, 0)


def test_bad_files_are_named(tmp_path):
    data = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(data, "JPEG")
    bad = {
        "cut.jpg": (data.getvalue()[:-500], "truncated"),
        "text.png": (b"version https://git-lfs.github.com/spec/v1\n", "not an image file"),
        "empty.png": (b"", "not an image file"),
    }
    for name, (content, reason) in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError, match=f"{name}: .*{reason}"):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        load(tmp_path / "none.png")
    floats = saved(tmp_path / "f.tif", Image.fromarray(np.zeros((8, 8), dtype=np.float32)))
    with pytest.raises(OSError, match=r"f\.tif: mode F .*no defined white"):
        load(floats)
    ints = saved(tmp_path / "i.tif", Image.fromarray(np.full((8, 8), 200, dtype=np.int32)))
    with pytest.raises(OSError, match=r"i\.tif: mode I .*no defined white"):
        load(ints)


def test_tensors_are_floats_in_0_1():
    out = to_tensor(to_rgb(Image.new("RGB", (4, 2), (0, 255, 51))))
    assert out.shape == (3, 2, 4)
    assert out[:, 0, 0].tolist() == pytest.approx([0, 1, 0.2])


def mask_of(tmp_path, mask, size=(64, 64), side=16):
    picture = saved(tmp_path / "picture.png", Image.new("RGB", size))
    return MaskFile(saved(tmp_path / "mask.png", mask), picture, side)()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_every_mode(tmp_path, mode):
    """White = edit, by luminance; alpha says nothing."""
    values = np.zeros((64, 64), dtype=np.uint8)
    values[:32] = 255
    grey = Image.fromarray(values)
    if mode in ("LA", "RGBA"):
        mask = grey.convert(mode)
        mask.putalpha(Image.effect_noise((64, 64), 90))
    else:
        mask = Image.fromarray(values.astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    out = mask_of(tmp_path, mask)
    assert out.shape == (1, 16, 16)
    assert torch.equal(out[0, :7] > 0.5, torch.ones(7, 16, dtype=torch.bool))
    assert not (out[0, 9:] > 0.5).any()


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (50, 80)])
@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_a_mask_of_another_size_stays_where_it_was_drawn(tmp_path, size, scale):
    """The mask covers the left half of the picture, whatever its size, and goes through the same crop."""
    small = (round(size[0] * scale), round(size[1] * scale))
    mask = Image.new("L", small, 0)
    mask.paste(255, (0, 0, small[0] // 2, small[1]))
    out = mask_of(tmp_path, mask, size)
    assert (out[0, :, :7] > 0.5).all()
    assert not (out[0, :, 9:] > 0.5).any()


def test_a_mask_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"mask\.png: the mask is 64 x 64, its picture picture\.png is 128 x 64"):
        mask_of(tmp_path, Image.new("L", (64, 64)), (128, 64))


@pytest.mark.parametrize("policy", ["crop", "squash"])
@pytest.mark.parametrize("filter", ["bilinear", "bicubic", "lanczos"])
def test_resizing_is_torchvisions_to_the_bit(policy, filter):
    """Resize and CenterCrop, which FlexIT and most others use."""
    rng = np.random.default_rng(0)
    for width, height, resolution in [*rng.integers(8, 200, (40, 3)).tolist(), [500, 375, 256], [7, 900, 64]]:
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        size = [resolution] if policy == "crop" else [resolution, resolution]
        resized = F.resize(picture, size, F.InterpolationMode(filter), antialias=True)
        expected = np.asarray(F.center_crop(resized, [resolution, resolution]))
        assert np.array_equal(np.asarray(Resize(policy, filter)(picture, resolution)), expected)


@pytest.mark.parametrize(
    ("side", "size", "expected"),
    [
        (None, (640, 480), (80, 64)),  # 85.3 to the nearest multiple of 16
        ("shorter", (480, 640), (64, 80)),
        ("longer", (640, 480), (64, 48)),
        ("shorter", (64, 64), (64, 64)),
        ("shorter", (88, 64), (96, 64)),  # half-way goes up
        ("longer", (1000, 10), (64, 16)),  # at least one grain
        ("shorter", (1000, 10), (6400, 64)),
    ],
)
def test_a_picture_that_is_kept_has_its_own_shape_in_whole_grains(side, size, expected):
    resize = Resize("keep", side=side, grain=16)
    assert resize.find_size(size, 64) == expected
    assert resize.find_resolution(expected) == 64
    assert resize.crop_box(size, 64) == (0, 0, *size)
    if max(expected) < 1000:
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        out = resize(picture, 64)
        assert np.array_equal(np.asarray(out), np.asarray(picture.resize(expected, Image.Resampling.BICUBIC)))


def test_a_square_that_is_kept_is_the_square_of_crop():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8))
    expected = np.asarray(Resize()(picture, 32))
    for resize in (Resize("keep"), Resize("keep", side="longer", grain=16)):
        assert np.array_equal(np.asarray(resize(picture, 32)), expected)


def test_a_mask_of_a_picture_that_is_kept_lies_where_it_was_drawn(tmp_path):
    mask, picture = np.zeros((60, 120), np.uint8), np.zeros((60, 120, 3), np.uint8)
    mask[20:40, 60:] = 255
    picture[20:40, 60:] = 255
    for name, values in (("mask", mask), ("picture", picture)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    resize = Resize("keep", grain=16)
    image, region = (
        ImageFile(tmp_path / "picture.png", 48, resize)(),
        MaskFile(tmp_path / "mask.png", tmp_path / "picture.png", 48, resize)(),
    )
    assert image.shape == (3, 48, 96)
    assert torch.equal(region[0], image[0])
