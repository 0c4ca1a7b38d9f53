"""What each method looks like: one colour, mark and line for it in every figure, and in the report.

Colours are Okabe's and Ito's, which differ for colour-blind eyes. They do not all differ in grey, so that no method is
told by its colour alone: each has a mark and a line of its own, too.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple
from zlib import crc32

from matplotlib.colors import to_hex, to_rgb

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"  # the eighth, a yellow, is hardly seen on white
LIGHTER = {BLUE: "#56A8E0", VERMILLION: "#F08C4A", GREEN: "#3CC79A", BLACK: "#FFFFFF"}  # on dark paper
GREY, GREY_ON_DARK = "#666666", "#A0A0A0"

SHAPES = {  # what the report calls the marks of matplotlib
    **{"o": "circle", "^": "triangle", "v": "down", "h": "hexagon", "<": "left", ">": "right", "p": "pentagon"},
    **{"X": "saltire", "s": "square", "D": "diamond", "*": "star", "P": "cross"},
}
WHOLE, LONG, MIXED, SHORT, DOUBLE = (), (4.5, 1.5), (4.5, 1.3, 1, 1.3), (1.2, 1.2), (4, 1.2, 1, 1.2, 1, 1.2)
DASHES = (WHOLE, LONG, MIXED, SHORT, DOUBLE)
SHADES = (0.0, 0.5, -0.5, 0.25, -0.25)  # of the settings of one method: this far to white, or to black


class Look(NamedTuple):
    """What a method looks like.

    Attributes:
        colour: on white paper.
        dark: on dark paper.
        mark: of matplotlib.
        dash: lengths on and off, in widths of the line; empty for a whole line.
    """

    colour: str
    dark: str
    mark: str
    dash: tuple[float, ...] = WHOLE

    @property
    def shape(self) -> str:
        """What the report calls the mark."""
        return SHAPES[self.mark]

    @property
    def line(self) -> tuple[float, tuple[float, ...] | None]:
        """The line as matplotlib has it."""
        return 0, self.dash or None


def make_look(colour: str, mark: str, dash: tuple[float, ...]) -> Look:
    """A look whose colour on dark paper follows from that on white."""
    return Look(colour, LIGHTER.get(colour, colour), mark, dash)


KNOWN = {
    "diffedit": make_look(BLUE, "o", WHOLE),
    "sdedit": make_look(VERMILLION, "^", LONG),
    "encode_decode": make_look(GREEN, "v", MIXED),
    "diffedit_no_encode": make_look(PURPLE, "h", SHORT),
    "blended_latent": make_look(ORANGE, "<", WHOLE),
    "blended_diffusion": make_look(SKY, ">", LONG),
    "inpaint_diffusers": make_look(BLACK, "p", MIXED),
    "diffedit_no_reference": make_look(SKY, "o", SHORT),
    "diffedit_given": make_look(BLACK, "o", LONG),
    "sdedit_given": make_look(ORANGE, "^", DOUBLE),
    # published alone
    "ILVR": make_look(PURPLE, "p", LONG),
    "FlexIT": make_look(ORANGE, "X", MIXED),
    "GLIDE-filtered": make_look(SKY, "h", DOUBLE),
    "Local CLIP-guided diffusion": make_look(BLACK, "X", SHORT),
}
# Of anybody else's methods: no colour of those that are compared most, and nobody's mark and line together.
OTHERS = [
    look
    for k, colour in enumerate((PURPLE, BLACK, ORANGE, SKY))
    for i, mark in enumerate("Xp><hv^")
    if (look := make_look(colour, mark, DASHES[(i + k) % len(DASHES)]))[2:] not in {own[2:] for own in KNOWN.values()}
]
BOUNDS = {"copy": "s", "round_trip": "D", "oracle": "*", "retrieve": "P"}  # marks of floor and ceiling, which are grey
OTHER_BOUND = "P"


def assign_looks(methods: Iterable[str]) -> dict[str, Look]:
    """A look for each method.

    That of a method follows from its editor's name alone, whatever else is in the figure. Several settings of an editor
    have its mark, in shades of its colour and with other lines.

    Args:
        methods: as `eval.reporting.tables.name_methods` calls them: an editor, and in brackets its setting.
    """
    settings: dict[str, list[str]] = {}
    for method in dict.fromkeys(methods):
        settings.setdefault(find_editor(method), []).append(method)
    looks: dict[str, Look] = {}
    for editor, members in settings.items():
        look = KNOWN.get(editor) or choose_other(editor, looks.values())
        looks |= {method: vary(look, k) for k, method in enumerate(members)}
    return {method: looks[method] for members in settings.values() for method in members}


def find_editor(method: str) -> str:
    """The editor of a method: its name without the setting in brackets."""
    return method.partition(" (")[0]


def choose_other(editor: str, taken: Collection[Look]) -> Look:
    """The look of an editor that is not known: by its name, the next one where that is taken in this figure."""
    start = crc32(editor.encode()) % len(OTHERS)
    order = [*OTHERS[start:], *OTHERS[:start]]
    return next((look for look in order if look not in taken), order[0])


def vary(look: Look, number: int) -> Look:
    """The look of one of several settings: the first has the editor's own."""
    amount = SHADES[number % len(SHADES)]
    dash = DASHES[(DASHES.index(look.dash) + number) % len(DASHES)]
    return look._replace(colour=shade(look.colour, amount), dark=shade(look.dark, -0.4 * amount), dash=dash)


def shade(colour: str, amount: float) -> str:
    """A colour this far on its way to white, or to black where the amount is below 0."""
    if not amount:
        return colour
    end = 1.0 if amount > 0 else 0.0
    if colour == BLACK and amount < 0:  # which has no darker shade
        end = 1.0
    return to_hex([value + abs(amount) * (end - value) for value in to_rgb(colour)]).upper()


def find_bound_mark(editor: str) -> str:
    """The mark of a floor or a ceiling."""
    return BOUNDS.get(editor, OTHER_BOUND)
