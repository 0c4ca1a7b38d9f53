"""What is in a PDF, without a library: its objects, their streams inflated."""

import re
import zlib


def read_objects(data):
    """The text of each object, and the content of its stream behind it."""
    for found in re.finditer(rb"\d+ 0 obj\b(.*?)\bendobj", data, re.DOTALL):
        head, _, stream = found[1].partition(b"stream\n")
        if b"/FlateDecode" in head and b"/Subtype /Image" not in head:
            stream = zlib.decompressobj().decompress(stream)
        yield head.decode("latin-1"), stream.decode("latin-1")


def check_fonts(data):
    """Every font is embedded TrueType; returns how many there are."""
    heads = [head for head, _ in read_objects(data)]
    assert not any("/Type3" in head for head in heads)
    fonts = [head for head in heads if "/Type /FontDescriptor" in head]
    assert all("/FontFile2" in head for head in fonts)
    used = [head for head in heads if re.search(r"/Subtype /(TrueType|CIDFontType2)\b", head)]
    assert all("/FontDescriptor" in head for head in used)
    assert not any("/Type1" in head for head in heads)
    return len(fonts)


def find_size(data):
    """Width and height of its page, in points."""
    box = re.search(r"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", " ".join(head for head, _ in read_objects(data)))
    return float(box[1]), float(box[2])


def find_pictures(data):
    """(width, height) of the pictures in it."""
    heads = [head for head, _ in read_objects(data) if "/Subtype /Image" in head]
    return [tuple(int(re.search(rf"/{side} (\d+)", head)[1]) for side in ("Width", "Height")) for head in heads]
