"""Pictures that ask for a word: of several shapes, under masks that a crop takes away, with names of macOS."""

import unicodedata

import numpy as np
from PIL import Image


def draw(path, width, height, seed=0):
    """A picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_pictures(folder):
    """Tables: cut.csv, shapes.csv, spelled.csv, lost.csv; and a folder of pictures: set."""
    draw(folder / "wide.png", 48, 24)
    draw(folder / "high.png", 24, 50, 1)
    draw(folder / "square.png", 24, 24, 2)
    mask = np.zeros((24, 48), np.uint8)
    mask[4:20, 2:6] = 255
    Image.fromarray(mask).save(folder / "end.png")
    name = "Caf\u00e9.png"
    draw(folder / unicodedata.normalize("NFD", name), 16, 16)
    write_table(folder / "cut.csv", "image,target,mask", "wide.png,pear,end.png")
    write_table(folder / "shapes.csv", "image,target", "wide.png,pear", "high.png,pear", "square.png,pear")
    write_table(folder / "spelled.csv", "image,target", f"{name},pear")
    write_table(folder / "lost.csv", "image,target", "gone.png,pear")
    for i, name in enumerate(("a.png", "b.png", "c.png", "._a.png", "__MACOSX/a.png")):
        draw(folder / "set" / name, 16, 16, i)
    (folder / "set/.DS_Store").write_bytes(b"x")


def write_table(path, *lines):
    """A CSV file."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
