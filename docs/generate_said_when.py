"""Write docs/what_is_said_when.md from the cases of a test: `python docs/generate_said_when.py`; `--check` compares."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path

DOCS = Path(__file__).parent
PAGE = DOCS / "what_is_said_when.md"

HEAD = """# What is said when

<!-- Made by `python docs/generate_said_when.py` of tests/said_when.py and tests/model_cases.py; add a line there. -->

What a command that cannot be meant so says, word by word, and what it does. Nothing is silent: every setting of every
yaml in [conf/](../conf) has a type, and mostly a range, and the whole config is held to them before a folder is made or
a model is loaded. A number is finite, and no text or truth value; a key that nothing reads is refused. The message has
the key as it is typed, the value, what is allowed, and the nearest allowed value, else the default.

Each row is a case of [a test](../tests/contract/test_nothing_silent.py), in a folder with a picture `a.png` and a table
`edits.csv` of it; beside them, it tries wrong values of every setting that there is. The models of `models/` are
made by [a file of the tests](../tests/made_models.py).
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


def make_page() -> str:
    """All of it."""
    tests = DOCS.parent / "tests"
    sys.path.insert(0, str(tests))  # the second file imports the first
    cases = run_path(str(tests / "said_when.py"))["CASES"] | run_path(str(tests / "model_cases.py"))["CASES"]
    lines = [HEAD, *(line for title, rows in cases.items() for line in make_table(title, rows))]
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
