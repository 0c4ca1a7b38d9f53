"""A table in LaTeX: rules of booktabs, values in columns of siunitx, all texts escaped."""

import re
from collections.abc import Iterator, Sequence

from eval.reporting.paper_table.description import PaperTable, Row, clean, format_cell
from eval.reporting.tables import MISSING

SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}"},
    **{'"': "''", "[": "{[}", "*": "{*}"},  # behind the end of a row these would be its arguments
    **{
        "±": r"$\pm$",
        "×": r"$\times$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "−": "$-$",
        "–": r"\textendash{}",
    },
    **{"↑": r"$\uparrow$", "↓": r"$\downarrow$", "†": r"\dag{}", "‡": r"\ddag{}", "§": r"\S{}", "¶": r"\P{}"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "ε": r"$\varepsilon$", "η": r"$\eta$", "κ": r"$\kappa$"},
    **{"λ": r"$\lambda$", "μ": r"$\mu$", "ρ": r"$\rho$", "σ": r"$\sigma$", "τ": r"$\tau$"},
}
LAST_LATIN, PUNCTUATION = "\u017f", "—‘’“”…•€™"  # letters up to here, and these, are in the fonts of any LaTeX
BELOW_CAPTION = r"\setlength{\belowcaptionskip}{\medskipamount}"  # classes mean captions to stand below
LABEL = re.compile(r"[\w:./+-]*")
NEEDS = r"% \usepackage{booktabs} \usepackage{siunitx}"
OF_VERSION_2 = r"% of version 2 of siunitx also: \usepackage{etoolbox} \robustify\bfseries"


def render_latex(table: PaperTable, label: str = "", is_float: bool = True) -> str:
    r"""The table as a float with its caption and notes, or the `tabular` alone, with these as a comment above.

    Args:
        table: the description.
        label: of the float, for `\ref`; "" for none.
        is_float: whether it is one.
    """
    if not LABEL.fullmatch(label):
        raise ValueError(f"label = {label!r}: letters, digits and :./+-_ are wanted, as tab:scores")
    caption = " ".join(table.caption)
    notes = [f"{mark} {text}".strip() for mark, text in table.notes]
    head = [f"% {text}" for text in filter(None, [clean(table.command)])] + [NEEDS, OF_VERSION_2]
    body = list(render_tabular(table))
    shown = "\n".join([*body, *([escape(caption), *map(escape, notes)] if is_float else [])])
    if strange := sorted({c for c in shown if c > LAST_LATIN and c not in PUNCTUATION}):
        head.append(f"% with lualatex or xelatex, and a font that has {' '.join(strange)}")
    if not is_float:
        head += [f"% {clean(text)}" for text in (caption, *notes)]
        return "\n".join([*head, *body, ""])
    lines = [*head, r"\begin{table}", r"\centering", BELOW_CAPTION, rf"\caption{{{escape(caption)}}}"]
    lines += [rf"\label{{{label}}}"] * bool(label) + body
    if notes:
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}", r"\footnotesize"]
        lines += [rf"{escape(note)}\par" for note in notes] + [r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


def render_tabular(table: PaperTable) -> Iterator[str]:
    """The lines of the `tabular`."""
    has_setting, has_interval = bool(table.setting), find_intervals(table)
    formats = [make_column(i, table, has_interval[i]) for i in range(len(table.columns))]
    yield rf"\begin{{tabular}}{{@{{}}l{'l' * has_setting}{''.join(formats)}@{{}}}}"
    yield r"\toprule"
    if len(table.groups) > 1:
        yield from render_groups(table, has_interval)
    heads = ["Method", *[escape(capitalise(table.setting))] * has_setting]
    for column, is_wide in zip(table.columns, has_interval, strict=True):
        head = escape(column.head)
        heads.append(rf"\multicolumn{{2}}{{c}}{{{head}}}" if is_wide else f"{{{head}}}")
    yield join(heads)
    for rows in table.blocks():
        yield r"\midrule"
        for row in rows:
            yield join(render_row(row, table, has_interval))
    yield r"\bottomrule"
    yield r"\end{tabular}"


def find_intervals(table: PaperTable) -> list[bool]:
    """Whether a column shows any interval."""
    return [any(format_cell(row.cells[i], table.interval)[1] for row in table.rows) for i in range(len(table.columns))]


def make_column(i: int, table: PaperTable, has_interval: bool) -> str:
    """What a column is for `tabular`: numbers aligned at their points, and the intervals behind them."""
    texts = [format_cell(row.cells[i], "none")[0] for row in table.rows]
    texts = [text for text in texts if text != MISSING]
    whole = max((len(text.lstrip("-").partition(".")[0]) for text in texts), default=1)
    behind = max((len(text.partition(".")[2]) for text in texts), default=0)
    sign = "-" if any(text.startswith("-") for text in texts) else ""
    options = f"table-format={sign}{whole}.{behind}, detect-weight, mode=text"
    return f"S[{options}]" + (r"@{\,}l" if has_interval else "")


def render_groups(table: PaperTable, has_interval: Sequence[bool]) -> Iterator[str]:
    """The line of benchmarks above the metrics, with a rule below each."""
    texts, rules, place = [""] * (1 + bool(table.setting)), [], 1 + bool(table.setting)
    wide = iter(has_interval)
    for group in table.groups:
        width = sum(1 + next(wide) for _ in group.columns)
        texts.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group.title)}}}")
        rules.append(rf"\cmidrule(lr){{{place + 1}-{place + width}}}")
        place += width
    yield join(texts)
    yield " ".join(rules)


def render_row(row: Row, table: PaperTable, has_interval: Sequence[bool]) -> Iterator[str]:
    """The cells of a row."""
    label = rf"\textit{{{escape(row.label)}}}" if row.kind == "bound" else escape(row.label)
    yield label + (rf"\textsuperscript{{{escape(row.mark)}}}" if row.mark else "")
    if table.setting:
        yield escape(row.setting)
    for cell, is_wide in zip(row.cells, has_interval, strict=True):
        value, interval = format_cell(cell, table.interval)
        is_number = value != MISSING
        yield (r"\bfseries " * cell.is_bold + value) if is_number else "{--}"
        if is_wide:
            math = interval.replace("±", r"\pm ")
            yield rf"{{\footnotesize ${math}$}}" if interval else ""


def capitalise(text: str) -> str:
    """A word as a head begins with it."""
    return text[:1].upper() + text[1:]


def join(cells: Sequence[str] | Iterator[str]) -> str:
    """A line of the table."""
    return " & ".join(cells) + r" \\"


def escape(text: str) -> str:
    """A text as LaTeX prints it."""
    text = "".join(SPECIAL.get(character, character) for character in clean(text))
    return re.sub("-(?=-)", "-{}", text)  # no dashes of hyphens
