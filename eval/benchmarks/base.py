"""What a benchmark declares, and what those share that take a seeded part of a set, or read pictures from disk."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from diffedit.io.checks import Count, Seed, settings
from diffedit.io.images import Resize
from diffedit.types import EditRequest
from eval.benchmarks.subset import take_subset


class BaseBenchmark(ABC):
    """The usual declarations: pictures of anything, no paths among the settings, no reference pictures."""

    version: str = "1"
    size_keys: Collection[str] = frozenset()  # settings of which a larger value only adds requests
    domain: str | None = None
    path_keys: Collection[str] = frozenset()
    fingerprint: str = ""
    is_square: bool = True  # whether all pictures are squares of the resolution that is asked for
    has_reference: bool = False  # whether `reference` gives pictures
    reference_version: str = "1"  # changes whenever they would, and the requests do not

    @abstractmethod
    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The requests, their images square at this resolution where the benchmark `is_square`."""

    def fit(self, resolution: int, grain: int) -> "BaseBenchmark":
        """The same requests, their pictures of shapes that a backbone takes; asked of one that is not square.

        Args:
            resolution: of the backbone.
            grain: what both sides of a picture have to be multiples of.

        Raises:
            ValueError: it has pictures of other shapes.
        """
        return self

    def find_resolution(self, size: tuple[int, int]) -> int:
        """The resolution that was asked for where a picture has this width and height."""
        return min(size)

    @abstractmethod
    def __len__(self) -> int: ...

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 resolution resolution"]]]:
        """(label, picture) of the distribution that edits should look like, at most `size`; "" for no label."""
        raise TypeError(f"{type(self).__name__} has no reference pictures")

    def read_only(self) -> "BaseBenchmark":
        """The same requests by a benchmark that draws and downloads nothing."""
        return self


@settings(kw_only=True)
class SubsetBenchmark(BaseBenchmark):
    """Of whose requests a seeded part can be taken, the same on every machine (`eval.benchmarks.subset`).

    Attributes:
        limit: how many requests, the first of a seeded permutation; None takes all, in the benchmark's own order.
        range: (first, last + 1) of that permutation, instead of a limit.
        seed: of that permutation, and of whatever else the benchmark draws.
    """

    size_keys: ClassVar[Collection[str]] = frozenset({"limit"})

    limit: Count | None = None
    range: tuple[Annotated[int, Ge(0)], Count] | None = None
    seed: Seed = 0

    def choose(self, ids: Iterable[str]) -> list[str]:
        """The ids of the requests that are asked for."""
        return take_subset(ids, self.limit, self.seed, self.range)


@settings(kw_only=True)
class FileBenchmark(SubsetBenchmark):
    """Whose pictures are files.

    Attributes:
        domain: what they are pictures of, where that is known to networks that know nothing else: `stilllife` for the
            files of scripts/export_stilllife.py.
        resize: how pictures and masks are brought to the backbone's resolution: to squares, but for policy=keep.
    """

    domain: str | None = None
    resize: Resize = Resize()

    @property
    def is_square(self) -> bool:
        """Unless shapes are kept."""
        return self.resize.policy != "keep"

    def fit(self, resolution: int, grain: int) -> "FileBenchmark":
        """With sides that are rounded to the grain."""
        return replace(self, resize=self.resize.fit(resolution, grain))

    def find_resolution(self, size: tuple[int, int]) -> int:
        """The side that is scaled to it."""
        return self.resize.find_resolution(size)

    def check_square(self, protocol: str) -> None:
        """Refuse pictures that are not square where a published protocol has squares."""
        if not self.is_square:
            raise ValueError(
                f"benchmark.resize.policy = {self.resize.policy}: {protocol} is published on squares, and its scores "
                "compare to nothing else: take crop; pictures of your own are edited whole by benchmark=folder"
            )
