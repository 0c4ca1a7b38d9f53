"""Data as scripts, which a page opened from the file system may load; and what keeps texts in them texts."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PAGE = Path(__file__).parent / "page"
STYLE = "report.css"
SCRIPTS = ("store.js", "view.js", "chart.js", "table.js", "gallery.js", "viewer.js", "main.js")  # in this order


def encode_script(name: str, data: Any) -> str:
    """A script that hands data to the page under a name.

    No text in it can end the script or begin another: `<` is written by its number, as is all that is not ASCII.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"Report.receive({json.dumps(name)},{text});\n"


def encode_sprite(data: bytes) -> str:
    """A picture as text."""
    return base64.b64encode(data).decode()


def render_page(title: str, scripts: Sequence[str] | None = None) -> str:
    """The page itself.

    Args:
        title: of its tab.
        scripts: all of its data, to stand within it; None where they lie beside it.
    """
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    inside = None
    if scripts is not None:
        inside = {
            "style": (PAGE / STYLE).read_text(),
            "scripts": [*((PAGE / name).read_text() for name in SCRIPTS[:1]), *scripts],
            "program": [(PAGE / name).read_text() for name in SCRIPTS[1:]],
        }
    return environment.get_template("index.html").render(title=title, style=STYLE, scripts=SCRIPTS, inside=inside)
