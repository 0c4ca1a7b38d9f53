"""What every benchmark declares."""

import pytest
from helpers import CONF, composed
from hydra.utils import get_class

from diffedit.types import Benchmark
from eval.benchmarks.base import BaseBenchmark, FileBenchmark, SubsetBenchmark

BENCHMARKS = sorted(path.stem for path in (CONF / "benchmark").glob("[!_]*.yaml"))
PATH_KEYS = {
    "coco": {"bison", "captions", "images", "instances"},
    "folder": {"images"},
    "imagenet": {"queries", "images", "classes", "truth"},
    "imagenet_pairs": {"images", "classes", "truth", "hierarchy"},
    "generated": {"cache"},
    "stilllife_generated": {"cache"},
}


class Numbers(SubsetBenchmark):
    """Twenty requests without pictures."""

    def __len__(self):
        return len(self.choose(map(str, range(20))))

    def requests(self, resolution):
        yield from self.choose(map(str, range(20)))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_declarations(name):
    """Names of runs leave out where files lie, by what the class says; its settings are those of the yaml."""
    cfg = composed(f"benchmark={name}").benchmark
    benchmark = get_class(cfg._target_)
    assert issubclass(benchmark, BaseBenchmark)
    assert benchmark.path_keys == PATH_KEYS.get(name, set()) <= set(cfg)
    assert benchmark.domain == ("stilllife" if name.startswith("stilllife") else None)
    assert benchmark.has_reference == (name.startswith(("stilllife", "generated")) or name == "coco")
    assert ("limit" in cfg) == issubclass(benchmark, SubsetBenchmark)
    assert ("domain" in cfg) == issubclass(benchmark, FileBenchmark)


def test_the_usual_declarations():
    benchmark = Numbers(limit=5)
    assert isinstance(benchmark, Benchmark)
    assert benchmark.read_only() is benchmark
    assert (benchmark.fingerprint, benchmark.domain, benchmark.has_reference) == ("", None, False)
    with pytest.raises(TypeError, match="Numbers has no reference pictures"):
        benchmark.reference(1, 8)


def test_a_part_is_of_one_permutation():
    whole = list(Numbers(limit=20).requests(8))
    assert list(Numbers().requests(8)) == [str(i) for i in range(20)] != whole
    assert list(Numbers(limit=5).requests(8)) == whole[:5]
    assert list(Numbers(range=[5, 20]).requests(8)) == whole[5:]
    assert len(Numbers(range=(5, 8))) == 3
    with pytest.raises(ValueError, match=r"limit = 0: it should be a whole number from 1 on"):
        len(Numbers(limit=0))
