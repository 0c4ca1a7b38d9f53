"""Texts of anybody's in a figure: characters that can be written, fonts that have them, marked words in lines."""

import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.offsetbox import HPacker, TextArea, VPacker
from matplotlib.text import Text
from matplotlib.transforms import IdentityTransform

from eval.reporting.figures import FONTS

log = logging.getLogger(__name__)

LONGEST_WORD = 40  # characters; a longer one is cut into pieces, so that it can go on in the next line
UNSEEN = ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")  # categories of characters that have no picture, or are none
LOOKS: dict[str, dict[str, Any]] = {  # as the report marks words; and legible in grey
    "": {"color": "black"},
    "ins": {"color": "black", "fontweight": "bold"},
    "del": {"color": "0.45"},
}


def clean(text: str) -> str:
    """The text in one line, without characters that have no picture: some are no XML, and would break an SVG."""
    return " ".join("".join(" " if unicodedata.category(c) in UNSEEN else c for c in text).split())


# --------------------------------------------------------------------------------------------------------------- fonts


@cache
def list_characters(file: str) -> frozenset[int]:
    """The characters that a font has."""
    return frozenset(get_font(file).get_charmap())


def choose_fonts(texts: Mapping[str, str]) -> list[str]:
    """Fonts that have the characters of these texts together: our own, and installed ones for what these lack.

    The log warns of what no font has, by what the text is of.

    Args:
        texts: by what each is of.
    """
    known = set().union(*(list_characters(findfont(name)) for name in FONTS))
    lacking = {ord(c) for text in texts.values() for c in text} - known
    families = list(FONTS)
    for family, file in list_installed() if lacking else ():
        if family not in families and (found := lacking & list_characters(file)):
            families.append(family)
            lacking -= found
    for name, text in texts.items():
        if gone := "".join(dict.fromkeys(c for c in text if ord(c) in lacking)):
            log.warning("%s: no font here has %s: install a TrueType font (.ttf) that has them", name, gone)
    return families


@contextmanager
def hush_missing() -> Iterator[None]:
    """Matplotlib says nothing of characters that no font has, at each of them again: `choose_fonts` has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


def list_installed() -> Iterator[tuple[str, str]]:
    """(family, file) of the upright fonts that can be embedded as TrueType, sorted."""
    entries = {(font.name, font.fname) for font in fontManager.ttflist if font.style == "normal"}
    yield from sorted(entry for entry in entries if entry[1].lower().endswith(".ttf") and "LastResort" not in entry[1])


# --------------------------------------------------------------------------------------------------------------- lines


class StruckText(TextArea):
    """A text that is struck out."""

    def draw(self, renderer: Any) -> None:
        super().draw(renderer)
        box = self._text.get_window_extent(renderer)
        middle = box.y0 + 0.45 * box.height
        line = Line2D([box.x0, box.x1], [middle, middle], color=self._text.get_color(), linewidth=0.6)
        line.set_transform(IdentityTransform())
        line.draw(renderer)


def pack_words(
    figure: Figure, words: Iterable[tuple[str, str]], width: float, size: float, families: Sequence[str]
) -> tuple[VPacker, int]:
    """(marked words in lines of at most this width, how many lines).

    Args:
        figure: that they will stand in.
        words: (text, how it is marked), as `eval.reporting.report.requests.mark_changes` has them.
        width: points.
        size: of the letters, points.
        families: of fonts.
    """
    font = FontProperties(family=list(families), size=size)
    gap = measure(figure, "a a", font) - measure(figure, "aa", font)
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0.0
    for word, kind in split_words(words):
        wide = measure(figure, word, font, LOOKS[kind].get("fontweight"))
        if lines[-1] and used + gap + wide > width:
            lines.append([])
            used = 0.0
        used += wide + gap * bool(lines[-1])
        lines[-1].append((word, kind))
    rows = [HPacker(children=[*make_areas(line, font)], pad=0, sep=gap, align="baseline") for line in lines]
    return VPacker(children=rows, pad=0, sep=0.25 * size, align="left"), len(lines)


def split_words(words: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Single words with their marks; very long ones in pieces."""
    for text, kind in words:
        for word in clean(text).split():
            yield from ((word[i : i + LONGEST_WORD], kind) for i in range(0, len(word), LONGEST_WORD))


def make_areas(line: Sequence[tuple[str, str]], font: FontProperties) -> Iterator[TextArea]:
    """The words of a line; those with the same mark in one text, so that they are found as one."""
    parts: list[tuple[str, str]] = []
    for word, kind in line:
        if parts and parts[-1][1] == kind:
            parts[-1] = (f"{parts[-1][0]} {word}", kind)
        else:
            parts.append((word, kind))
    for text, kind in parts or [("", "")]:
        looks = {"family": font.get_family(), "size": font.get_size(), "parse_math": False} | LOOKS[kind]
        yield (StruckText if kind == "del" else TextArea)(text, textprops=looks)


def measure(figure: Figure, text: str, font: FontProperties, weight: str | None = None) -> float:
    """The width of a text, in points."""
    drawn = Text(0, 0, text, fontproperties=font, parse_math=False, figure=figure)
    drawn.set_fontweight(weight or "normal")
    return 72 * drawn.get_window_extent().width / figure.dpi
