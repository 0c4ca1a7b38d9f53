"""Which files hold the same bytes, whatever they are called and wherever they lie."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from diffedit.io.files import hash_file


class Contents:
    """The contents of some files. Most files differ in size, so that few are read.

    Args:
        paths: of the files; what is not there has no content.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = [path for path in dict.fromkeys(paths) if path.is_file()]
        self.hashes: dict[int, set[str]] = {}

    @cached_property
    def by_size(self) -> dict[int, list[Path]]:
        """The files of each size, in bytes."""
        groups: dict[int, list[Path]] = {}
        for path in self.paths:
            groups.setdefault(path.stat().st_size, []).append(path)
        return groups

    def __contains__(self, path: Path) -> bool:
        """Whether a file holds what one of these holds; an OSError where it cannot be read."""
        size = path.stat().st_size
        if size not in self.by_size:
            return False
        if size not in self.hashes:
            self.hashes[size] = {hash_file(other) for other in self.by_size[size]}
        return hash_file(path) in self.hashes[size]

    def __len__(self) -> int:
        return len(self.paths)
