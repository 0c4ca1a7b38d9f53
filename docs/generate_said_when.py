"""Write docs/what_is_said_when.md from the cases of a test: `python docs/generate_said_when.py`; `--check` compares."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path

DOCS = Path(__file__).parent
PAGE = DOCS / "what_is_said_when.md"

HEAD = """# What is said when

<!-- Made by `python docs/generate_said_when.py` of said_when.py, model_cases.py and picture_cases.py in tests/. -->

What a command that cannot be meant so says, word by word, and what it does. Nothing is silent: every setting of every
yaml in [conf/](../conf) has a type, and mostly a range, and the whole config is held to them before a folder is made or
a model is loaded. A number is finite, and no text or truth value; a key that nothing reads is refused. The message has
the key as it is typed, the value, what is allowed, and the nearest allowed value, else the default.

Each row is a case of [a test](../tests/contract/test_nothing_silent.py), in a folder with a picture `a.png` and a table
`edits.csv` of it; beside them, it tries wrong values of every setting that there is. The models of `models/` are of
[a file of the tests](../tests/made_models.py), and the pictures, of which some are wide and one mask is at an end, by
[another](../tests/made_pictures.py). What the hub answers is played by [a test](../tests/contract/test_hub_said.py).
What happens to runs, pictures and disks:
[what happens when](what_happens_when.md). Exit codes: [commands](commands.md#exit-codes).
"""


def escape(text: str) -> str:
    """Text that is no end of a cell."""
    return text.replace("|", "\\|")


def make_table(title: str, cases: list) -> Iterator[str]:
    """A row a case."""
    yield from (f"## {title}", "", "| typed | said | done |", "| --- | --- | --- |")
    for words, said, done, code, table in cases:
        of = f" of `{escape(repr(table)[1:-1])}`" if table else ""
        yield f"| `diffedit {escape(words)}`{of} | `{escape(said.strip())}` | {done} (exit code {code}) |"
    yield ""


def make_hub_table(cases: list[tuple[str, str]]) -> Iterator[str]:
    """A row an answer of the hub."""
    title = "The hub, where `backbone.path=somebody/model` is no folder here"
    yield from (f"## {title}", "", "| its answer, by the class of huggingface_hub | said |", "| --- | --- |")
    yield from (f"| `{name}` | `{escape(said)}` |" for name, said in cases)
    yield ""


def make_page() -> str:
    """All of it."""
    tests = DOCS.parent / "tests"
    sys.path.insert(0, str(tests))  # the second file imports the first
    files = [run_path(str(tests / f"{name}.py")) for name in ("said_when", "model_cases", "picture_cases")]
    tables = [make_table(title, rows) for file in files for title, rows in file["CASES"].items()]
    lines = [HEAD, *(line for table in [*tables, make_hub_table(files[1]["HUB"])] for line in table)]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not up to date")
    page = make_page()
    if not parser.parse_args().check:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        sys.exit(f"{PAGE.name} is not up to date with its cases: python docs/generate_said_when.py")


if __name__ == "__main__":
    main()
