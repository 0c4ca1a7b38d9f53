"""The site: `make docs`, or `sphinx-build -W -b html docs docs/_build/html`. Nothing is fetched from the network."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

project = "DiffEdit"
author = "The DiffEdit framework authors"
copyright = "The DiffEdit framework authors, MIT licence"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "DiffEdit"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_heading_anchors = 4  # the anchors that a code host gives, so that one link serves both

autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<path>\.\./[^)#]+)(?:#[^)]*)?\)")
CODE = re.compile(r"(`[^`]+`)")


def link_outside(app, docname, source):
    """Files beside docs/ are links on a code host. On the site they are downloads, and folders are names."""

    def replace(match):
        path = ((DOCS / docname).parent / match["path"]).resolve()
        if path.is_relative_to(DOCS) or not path.exists():
            return match[0]
        return f"[{match['text']}](<path:{match['path']}>)" if path.is_file() else match["text"]

    source[0] = LINK.sub(replace, source[0])


def read_as_markdown(app, what, name, obj, options, lines):
    """Docstrings mark code by single backticks, and mean their bars and stars."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = CODE.split(line)
            parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
            parts[1::2] = [f"`{part}`" for part in parts[1::2]]
            lines[i] = "".join(parts)


def setup(app):
    """Register what is above; before napoleon reads the docstrings."""
    app.connect("source-read", link_outside)
    app.connect("autodoc-process-docstring", read_as_markdown, priority=400)
    return {"parallel_read_safe": True}
