"""Files that are whole or absent, and where the paths of a config lie."""

import os
import platform
from pathlib import Path
from urllib.parse import quote

import psutil

HOST = quote(platform.node(), safe="").replace(".", "-")


def write(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or absent, also after a crash: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def located(path: str | Path) -> Path:
    """Where a path of a config lies: from the working directory, else from the project's folder (shipped weights)."""
    path = Path(path).expanduser()
    shipped = Path(__file__).parents[1] / path
    return shipped if not path.exists() and shipped.exists() else path


def sweep(root: Path) -> None:
    """Remove the temporary files of processes of this host that were killed between write and rename."""
    for path in root.rglob(f".*.{HOST}.*.tmp"):
        if not psutil.pid_exists(int(path.suffixes[-2][1:])):
            path.unlink(missing_ok=True)
