"""What a table can be written as."""

from collections.abc import Callable
from pathlib import Path

from diffedit.io.checks import check_literal
from eval.reporting.paper_table.description import PaperTable
from eval.reporting.paper_table.latex import render_latex
from eval.reporting.paper_table.markdown import render_markdown
from eval.reporting.paper_table.tidy import render_csv
from eval.reporting.paper_table.web import render_page

FORMATS: dict[str, Callable[[PaperTable], str]] = {
    "markdown": render_markdown,
    "latex": render_latex,
    "csv": render_csv,
    "html": render_page,
}
ENDINGS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".html": "html", ".htm": "html"}


def find_format(format: str | None, out: Path | None = None) -> str:
    """The format that is asked for, else that of a file's ending, else Markdown."""
    if format is not None:
        check_literal("format", format, list(FORMATS))
        return format
    if out is None:
        return "markdown"
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f"out = {out}: it should end in {', '.join(ENDINGS)}, or say format={'|'.join(FORMATS)}")
    return ENDINGS[out.suffix.lower()]


def render(table: PaperTable, format: str, label: str = "", is_float: bool = True) -> str:
    """The table in a format; label and float are LaTeX's."""
    return render_latex(table, label, is_float) if format == "latex" else FORMATS[format](table)
