"""The files of a page, or all of them in one; what an earlier page left is removed, and nothing else."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffedit.io.files import hash_file, name_temporary, name_write, write
from eval.reporting.report.scripts import encode_script

MEGABYTE = 1e6
LIST = Path("page", "files.txt")  # of what a page consists of: nothing else is removed by the next one


@dataclass(frozen=True)
class PageSettings:
    """What a page shows, and how it is written; see conf/report.yaml."""

    x: str = "lpips"
    y: Sequence[str] = ()
    method: str = "diffedit"
    thumbs: int = 96
    count: int | None = None
    copy: bool = False
    single_file: bool = False
    limit: float = 20
    threads: int = 2
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("thumbs", 16), ("threads", 1), ("limit", 0.001)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)}: at least {least}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count = {self.count}: at least one request; null for all")
        if self.copy and self.single_file:
            raise ValueError("copy = true: of a folder; single_file=true has thumbnails alone, and refers to the rest")


class Written:
    """The files of a page, by what they are called beside it; scripts and thumbnails of a single file are kept."""

    def __init__(self, out: Path, settings: PageSettings) -> None:
        self.out, self.settings = out, settings
        self.scripts: list[str] = []
        self.names: set[Path] = set()
        self.before = self.read_list()
        self.size = 0

    def add_script(self, name: str, data: Any) -> None:
        """Data that the page asks for by this name."""
        text = encode_script(name, data)
        if self.settings.single_file:
            self.scripts.append(text)
            self.size += len(text)
        else:
            self.put(Path("data", f"{name}.js"), text.encode())

    def read_list(self) -> dict[Path, int]:
        """What an earlier page left here: the size of each file."""
        try:
            lines = (self.out / LIST).read_text().splitlines()
            sizes = {Path(name): int(size) for size, _, name in (line.partition(" ") for line in lines)}
        except (OSError, ValueError):  # nothing is kept and nothing removed of what is not known
            return {}
        return {name: size for name, size in sizes.items() if not name.is_absolute() and ".." not in name.parts}

    def has(self, name: Path) -> bool:
        """Whether a file of an earlier page is still there, and whole."""
        path = self.out / name
        return name in self.before and path.is_file() and path.stat().st_size == self.before[name]

    def put_quickly(self, name: Path, data: bytes) -> None:
        """A picture, of which there are many: nobody waits for the disk, for a torn one is known by its size."""
        path = self.out / name
        self.names.add(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = name_temporary(path)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise name_write(path, data, error) from error

    def put(self, name: Path, data: bytes) -> None:
        """A file."""
        path = self.out / name
        self.names.add(name)
        if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
            write(path, data)

    def check(self, share: float = 1.0) -> None:
        """Refuse a single file that would be too large, as far as it is known when a share of it is there."""
        if self.settings.single_file and self.size > self.settings.limit * MEGABYTE:
            raise ValueError(
                f"single_file = true: the page would have about {self.size / MEGABYTE / share:.3g} MB, more than "
                f"limit = {self.settings.limit:g}: show less by runs= or count=, or smaller by thumbs=, or raise limit="
            )

    def finish(self) -> None:
        """Remove what an earlier page left here and this one does not have, by the list that it left; leave our own."""
        for name in self.before.keys() - self.names:
            (self.out / name).unlink(missing_ok=True)
        sizes = {name: (self.out / name).stat().st_size for name in sorted(self.names)}
        lines = (f"{size} {name.as_posix()}\n" for name, size in sizes.items())
        write(self.out / LIST, "".join(lines).encode())


def list_page(path: Path) -> dict[str, Path]:
    """The files of a page that was written, by their names in it.

    Args:
        path: of the file to open: an index.html with its list beside it, or a single file.
    """
    if path.name != "index.html":
        return {path.name: path}
    names = [line.partition(" ")[2] for line in (path.parent / LIST).read_text().splitlines()]
    return {name: path.parent / name for name in [*names, LIST.as_posix()]}


def hash_page(path: Path) -> str:
    """Tells what is in the files of a page."""
    content = {name: hash_file(file) for name, file in list_page(path).items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
