"""What methods, metrics and benchmarks are called in a table."""

from collections.abc import Mapping

from eval.reporting.paper_table.collect_cells import Write
from eval.reporting.paper_table.description import clean


def write_name(name: str, names: Mapping[str, str]) -> str:
    """What something is called in the table."""
    return clean(str(names.get(name, name)))


def make_writer(editors: Mapping[str, str], names: Mapping[str, str]) -> Write:
    """What methods, metrics and benchmarks are called in the table.

    A method is called by its editor's name there, and what tells it apart from others of that.
    """

    def write(name: str) -> str:
        editor = editors.get(name, name)
        if name in names or not name.startswith(editor):
            return write_name(name, names)
        return clean(f"{write_name(editor, names)}{name.removeprefix(editor)}")

    return write
