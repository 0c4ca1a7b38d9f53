"""A table in HTML: a `<table>` with caption, scopes and notes; all texts escaped, nothing fetched, no script."""

from collections.abc import Iterator
from html import escape as escape_html

from eval.reporting.paper_table.description import PaperTable, Row, clean, format_cell

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem; color: #1d2129; background: #fff; }
.paper-table { border-collapse: collapse; border-block: 2px solid; font-variant-numeric: tabular-nums; }
.paper-table caption { text-align: start; max-width: 60rem; padding-block-end: .8rem; }
.paper-table th, .paper-table td { padding: .2rem .7rem; font-weight: normal; }
.paper-table td { text-align: end; white-space: nowrap; }
.paper-table tbody th { text-align: start; }
.paper-table tbody { border-block-start: 1px solid; }
.paper-table .interval { opacity: .75; font-size: .85em; }
.paper-table .bound th { font-style: italic; }
.paper-table tfoot td { text-align: start; white-space: normal; border-block-start: 1px solid; font-size: .85em; }
@media (prefers-color-scheme: dark) { body { color: #d7dae0; background: #1b1e24; } }
""".strip()


def render_page(table: PaperTable) -> str:
    """A page with the table alone, to open in a browser."""
    lines = ["<!doctype html>", '<html lang="en">', '<meta charset="utf-8">']
    lines += ['<meta name="viewport" content="width=device-width, initial-scale=1">']
    lines += [f"<title>{escape(table.caption[0]) if table.caption else 'Table'}</title>"]
    lines += [f"<style>\n{STYLE}\n</style>", render_html(table).rstrip(), "</html>", ""]
    return "\n".join(lines)


def render_html(table: PaperTable) -> str:
    """The `<table>`, to be put into a page."""
    lines = ['<table class="paper-table">', f"<caption>{escape(' '.join(table.caption))}</caption>"]
    lines += [*render_head(table)]
    for rows in table.blocks():
        lines += [f'<tbody class="{rows[0].kind}">', *("".join(render_row(row, table)) for row in rows), "</tbody>"]
    if table.notes:
        width = 1 + bool(table.setting) + len(table.columns)
        notes = "<br>\n".join(escape(f"{mark} {text}".strip()) for mark, text in table.notes)
        lines += [f'<tfoot><tr><td colspan="{width}">{notes}</td></tr></tfoot>']
    return "\n".join([*lines, "</table>", ""])


def render_head(table: PaperTable) -> Iterator[str]:
    """Benchmarks, where there are several, above metrics."""
    is_grouped = len(table.groups) > 1
    deep = ' rowspan="2"' if is_grouped else ""
    names = ["method", *[table.setting] * bool(table.setting)]
    first = "".join(f'<th scope="col"{deep}>{escape(name)}</th>' for name in names)
    metrics = "".join(f'<th scope="col">{escape(column.head)}</th>' for column in table.columns)
    yield "<thead>"
    if is_grouped:
        spans = "".join(
            f'<th scope="colgroup" colspan="{len(group.columns)}">{escape(group.title)}</th>' for group in table.groups
        )
        yield f"<tr>{first}{spans}</tr>"
        yield f"<tr>{metrics}</tr>"
    else:
        yield f"<tr>{first}{metrics}</tr>"
    yield "</thead>"


def render_row(row: Row, table: PaperTable) -> Iterator[str]:
    """The parts of a row."""
    mark = f"<sup>{escape(row.mark)}</sup>" if row.mark else ""
    yield f'<tr><th scope="row">{escape(row.label)}{mark}</th>'
    if table.setting:
        yield f"<td>{escape(row.setting)}</td>"
    for cell in row.cells:
        value, interval = format_cell(cell, table.interval)
        shown = f"<strong>{value}</strong>" if cell.is_bold else value
        behind = f' <span class="interval">{escape(interval)}</span>' if interval else ""
        yield f"<td>{shown}{behind}</td>"
    yield "</tr>"


def escape(text: str) -> str:
    """A text that is no markup."""
    return escape_html(clean(text))
