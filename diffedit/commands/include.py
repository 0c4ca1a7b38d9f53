"""What commands that Hydra composes do first: include packages of the user's own."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from diffedit.io.trust import trust_folder

INCLUDE = "--include"


class NoSuchFolderError(ValueError):
    """`--include` names no folder."""


def include_packages(words: list[str]) -> list[str]:
    """Take each `--include DIR` from a command line: `_target_` can name modules in DIR, and DIR/conf is searched too.

    So an editor, a benchmark, a backbone or a metric of one's own needs no change of this tree: a file in DIR, and a
    yaml in DIR/conf/<group>/.

    Returns:
        the other words, and the override that Hydra searches those folders by.

    Raises:
        NoSuchFolderError: DIR is no folder.
    """
    words, folders = list(words), []
    while INCLUDE in words:
        i = words.index(INCLUDE)
        named = words[i + 1 : i + 2]
        if not named or not (folder := Path(named[0]).expanduser().resolve()).is_dir():
            raise NoSuchFolderError(f"{INCLUDE} {' '.join(named)}: no such folder")
        del words[i : i + 2]
        folders.append(folder)
    if not folders:
        return words
    for folder in folders:
        trust_folder(folder / "conf")
    sys.path[:0] = map(str, folders)
    paths = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # for processes that are started from here
    return [*words, search(folder / "conf" for folder in folders)]


def search(folders: Iterable[Path]) -> str:
    """The override that Hydra searches folders by, whatever their names are."""
    escaped = (str(folder).replace("\\", "\\\\").replace("'", "\\'") for folder in folders)
    paths = ",".join(f"'file://{path}'" for path in escaped)
    return f"hydra.searchpath=[{paths}]"
