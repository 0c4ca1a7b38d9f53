"""A benchmark of one's own with a field that others lack: several pictures of a subject (as DreamBench has them).

The table is JSON: {id: {"image": ..., "target": ..., "references": [...]}}; paths are relative to it.

    diffedit run --include examples benchmark=subjects benchmark.path=subjects.json
"""

import json
from collections.abc import Iterator
from pathlib import Path

from diffedit.io.checks import settings
from diffedit.io.images import ImageFile
from diffedit.types import EditRequest
from eval.benchmarks.base import FileBenchmark


@settings(kw_only=True)
class Subjects(FileBenchmark):
    """A method finds the references in `request.extras`, as loaders."""

    path: str

    def read(self) -> dict[str, dict]:
        """The rows that are asked for, by id."""
        table = json.loads(Path(self.path).read_text())
        return {name: table[name] for name in self.choose(table)}

    def __len__(self) -> int:
        return len(self.read())

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """In the order of the table."""
        for name, row in self.read().items():
            files = [Path(self.path).parent / file for file in (row["image"], *row["references"])]
            image, *references = (ImageFile(file, resolution, self.resize) for file in files)
            yield EditRequest(name, image, row["target"], origin=row["image"], extras={"references": references})
