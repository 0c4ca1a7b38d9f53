"""A table in Markdown, as code hosts show it: a caption, pipes, notes."""

import re
from collections.abc import Iterator, Sequence

from eval.reporting.paper_table.description import PaperTable, Row, clean, format_cell

SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&$])")


def render_markdown(table: PaperTable) -> str:
    """The table; a benchmark's name stands before each of its metrics where there are several."""
    heads = ["method", *[escape(table.setting)] * bool(table.setting)]
    for group, column in zip(table.column_groups, table.columns, strict=True):
        start = f"{group.title}: " if len(table.groups) > 1 else ""
        heads.append(escape(f"{start}{column.head}"))
    rules = [":--", *["--:"] * (len(heads) - 1)]
    lines = [escape(" ".join(table.caption)), "", join(heads), join(rules)]
    lines += [join(render_row(row, table)) for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {escape(f'{mark} {text}'.strip())}" for mark, text in table.notes)]
    return "\n".join([*lines, ""])


def render_row(row: Row, table: PaperTable) -> Iterator[str]:
    """The cells of a row."""
    label = escape(row.label)
    yield (f"*{label}*" if row.kind == "bound" else label) + escape(row.mark)
    if table.setting:
        yield escape(row.setting)
    for cell in row.cells:
        value, interval = format_cell(cell, table.interval)
        value = f"**{value}**" if cell.is_bold else value
        yield f"{value} {escape(interval)}".rstrip()


def join(cells: Sequence[str] | Iterator[str]) -> str:
    """A line of the table."""
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """A text that is no markup."""
    return SPECIAL.sub(r"\\\1", clean(text))
