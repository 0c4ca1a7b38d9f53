"""What every command that Hydra composes does first: refuse names of before, include packages of the user's own."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from diffedit.io.checks import refuse_renamed

INCLUDE = "--include"


def run_command(name: str, main: Callable[[], None]) -> None:
    """Run a command of scripts/.

    Args:
        name: of the script, without its ending.
        main: the function that Hydra decorated.
    """
    include_packages()
    refuse_renamed(name, sys.argv[1:])
    main()


def include_packages() -> None:
    """Take `--include DIR` from the command line: modules in DIR can be named by `_target_`, DIR/conf is searched too.

    So an editor, a benchmark, a backbone or a metric of one's own needs no change of this tree: a file in DIR, and a
    yaml in DIR/conf/<group>/.
    """
    folders = []
    while INCLUDE in sys.argv:
        i = sys.argv.index(INCLUDE)
        if i + 1 == len(sys.argv) or not (folder := Path(sys.argv[i + 1]).expanduser().resolve()).is_dir():
            sys.exit(f"{INCLUDE} {' '.join(sys.argv[i + 1 : i + 2])}: no such folder")
        del sys.argv[i : i + 2]
        folders.append(folder)
    if not folders:
        return
    sys.path[:0] = map(str, folders)
    paths = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # for processes that are started from here
    searched = ",".join(f"file://{folder / 'conf'}" for folder in folders)
    sys.argv.append(f"hydra.searchpath=[{searched}]")
