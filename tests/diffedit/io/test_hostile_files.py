"""Files that are no pictures, or are made to hurt: each is an OSError that names it, soon, in bounded memory."""

import os
import socket
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from diffedit.io.images import ImageFile, PixelLimit, Resize, limit_pixels, open_image, to_rgb


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks):
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(24) for _ in range(8)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BOMB = zlib.compress(bytes(80 * 2**20))


def make_fifo(path):
    os.mkfifo(path)


def make_device(path):
    path.symlink_to("/dev/zero")


def make_socket(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


def make_postscript(path):
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n%%EOF\n")


HOSTILE = {
    "a folder": (lambda path: path.mkdir(), "not a regular file"),
    "a FIFO": (make_fifo, "not a regular file"),
    "a device": (make_device, "not a regular file"),
    "a socket": (make_socket, "not a regular file"),
    "PostScript": (make_postscript, "not an image file of a format that is read here"),
    "a text": (lambda path: path.write_text("hello"), "not an image file"),
    "empty": (lambda path: path.write_bytes(b""), "not an image file"),
    "a text chunk that explodes": (
        lambda path: path.write_bytes(png(chunk(b"zTXt", b"a\0\0" + BOMB))),
        "Decompressed data too large",
    ),
    "a cut chunk": (lambda path: path.write_bytes(png(chunk(b"iCCP", b"a\0\0"))[:60]), ""),
    "65 million pixels that are not there": (
        lambda path: path.write_bytes(png().replace(struct.pack(">II", 8, 8), struct.pack(">II", 8192, 8000), 1)),
        "",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_named_and_not_waited_for(tmp_path, name):
    make, message = HOSTILE[name]
    path = tmp_path / "odd.png"
    make(path)
    with pytest.raises(OSError, match=message) as raised:
        ImageFile(path, 16)()
    assert "odd.png" in str(raised.value)


def test_a_path_that_cannot_be_one_is_named(tmp_path):
    with pytest.raises(OSError, match=r"'odd\\x00.png': "):
        ImageFile(type(tmp_path)("odd\0.png"), 16)()
    with pytest.raises(OSError, match=r"a{300}"):
        ImageFile(tmp_path / ("a" * 300), 16)()


def test_a_profile_that_explodes_is_left_out_or_named(tmp_path):
    """ICC profiles are not read."""
    path = tmp_path / "odd.png"
    path.write_bytes(png(chunk(b"iCCP", b"a\0\0" + BOMB)))
    try:
        assert ImageFile(path, 16)().shape == (3, 16, 16)
    except OSError as error:
        assert "odd.png" in str(error)  # noqa: PT017


def test_pixels_are_limited_by_a_setting(tmp_path):
    path = tmp_path / "large.png"
    Image.new("L", (100, 101)).save(path)
    try:
        limit_pixels(100 * 100)
        with pytest.raises(OSError, match=r"large.png: 100 x 101 = 10,100 pixels, more than max_pixels = 10,000"):
            ImageFile(path, 16)()
        limit_pixels(100 * 101)
        assert ImageFile(path, 16)().shape == (3, 16, 16)
    finally:
        limit_pixels(None)
    assert PixelLimit.value == 2**27
    with pytest.raises(ValueError, match="max_pixels = 0"):
        limit_pixels(0)


@pytest.mark.parametrize("mode", ["I;16", "RGBA", "LA", "P"])
def test_conversion_in_bands_is_conversion(mode, monkeypatch):
    """To the bit, whatever the height of a band."""
    values = np.random.default_rng(0).integers(0, 2**16, (37, 23), dtype=np.uint16)
    picture = Image.fromarray(values)
    if mode != "I;16":
        colours = np.random.default_rng(0).integers(0, 256, (37, 23, 4), dtype=np.uint8)
        picture = Image.fromarray(colours).convert(mode) if mode == "LA" else Image.fromarray(colours)
        if mode == "P":
            picture = Image.fromarray(colours[..., 0]).convert("P")
            picture.info["transparency"] = 7
    whole = to_rgb(picture)
    monkeypatch.setattr("diffedit.io.images.BAND", 40)
    assert np.array_equal(to_rgb(picture), whole)
    if mode == "I;16":
        assert np.array_equal(np.asarray(whole)[..., 0], (values.astype(float) / 257).round())


MEASURE = """
import resource, sys
from pathlib import Path
from diffedit.io.images import ImageFile
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ImageFile(Path(sys.argv[1]), 64)()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024))
"""


LARGE = {  # bytes a pixel at most, how it is saved: what is decoded, what its library needs, and the picture in RGB
    "sixteen bits": (12, "png", {"compress_level": 1}),
    "transparent": (12, "png", {"compress_level": 1}),
    "JPEG": (12, "jpg", {}),
    "WebP": (20, "webp", {}),
    "JPEG 2000": (26, "jp2", {}),
}


@pytest.mark.parametrize("kind", LARGE)
def test_memory_is_bounded_by_the_pixels(tmp_path, kind):
    most, ending, options = LARGE[kind]
    path, side = tmp_path / f"large.{ending}", 2500 if ending == "jp2" else 4000  # it is slow
    if kind == "sixteen bits":
        Image.fromarray(np.full((side, side), np.uint16(1000))).save(path, **options)
    else:
        mode = "RGBA" if kind in ("transparent", "WebP") else "RGB"
        Image.new(mode, (side, side), (1, 2, 3, 4)[: len(mode)]).save(path, **options)
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) < most * side**2 + 2**26


@pytest.mark.parametrize("size", [(1, 200_000), (20_000, 1)])
def test_a_picture_that_would_grow_beyond_the_limit_is_refused(tmp_path, size):
    """A line of pixels whose short side is scaled to the resolution."""
    path = tmp_path / "line.png"
    Image.new("L", size).save(path)
    with pytest.raises(OSError, match=f"{path}: {size[0]} x {size[1]} is so long that, scaled to"):
        ImageFile(path, 512)()
    ImageFile(path, 512, Resize("squash"))()


def test_the_good_formats_are_read(tmp_path):
    for ending in ("png", "jpg", "webp", "gif", "bmp", "tif", "ppm", "jp2"):
        path = tmp_path / f"a.{ending}"
        Image.new("RGB", (8, 8), (200, 40, 60)).save(path)
        with open_image(path) as picture:
            assert picture.size == (8, 8)
