"""A table in LaTeX: `tabular` with rules of booktabs, to be put into a float of one's own."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"±": r"$\pm$", "–": "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "<": "$<$", ">": "$>$"},
}
ARROWS = {True: " ↑", False: " ↓", None: ""}


class LatexTable(NamedTuple):
    """Rows of methods at strengths.

    Attributes:
        metrics: a column each.
        higher_is_better: of each; None where that is not known.
        rows: (method, strength, texts of the cells).
        note: what stands above, as a comment.
    """

    metrics: Sequence[str]
    higher_is_better: Sequence[bool | None]
    rows: Sequence[tuple[str, str, Sequence[str]]]
    note: str

    def render(self) -> str:
        """The text: methods apart by a rule, each named once."""
        heads = [name + ARROWS[better] for name, better in zip(self.metrics, self.higher_is_better, strict=True)]
        lines = [f"% {self.note}", rf"\begin{{tabular}}{{ll{'r' * len(heads)}}}", r"\toprule"]
        lines += [join(["method", "r", *heads]), r"\midrule"]
        for i, (method, part) in enumerate(groupby(self.rows, key=lambda row: row[0])):
            lines += [r"\addlinespace"] * (i > 0)
            for j, (_, strength, cells) in enumerate(part):
                lines.append(join(["" if j else method, strength, *cells]))
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def join(cells: Sequence[str]) -> str:
    """A row."""
    return " & ".join(map(escape, cells)) + r" \\"


def escape(text: str) -> str:
    """A text as LaTeX prints it."""
    return "".join(SPECIAL.get(character, character) for character in text)
