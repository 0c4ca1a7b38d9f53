"""Features are computed once, kept whatever happens, in any order; the pass is as fast as its network and stays small."""

import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffedit.files import write
from eval.features import FeatureStore, Item, pixels
from eval.images import ImageFile
from eval.reference import Real, measured

ROOT = Path(__file__).parents[1]


class Fake:
    """Two numbers of each picture, each picture for itself; counts what it was asked."""

    name, resize, range, knows = "fake", "none", (0.0, 255.0), "anything"

    def __init__(self, hash="one"):
        self.hash, self.batches = hash, []

    def prepare(self, picture):
        return picture.float()

    def features(self, prepared):
        self.batches.append(len(prepared))
        return torch.stack([prepared.flatten(1).double().mean(1), prepared[:, 0, 0, 0].double() / 3], 1).float()

    @property
    def seen(self):
        return sum(self.batches)


class Pictures:
    """Random pictures by number, as items; notes which were loaded."""

    def __init__(self):
        self.loaded = []

    def picture(self, i):
        return torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)

    def load(self, i):
        self.loaded.append(i)
        return self.picture(i)

    def item(self, i):
        return Item(f"key {i}", f"picture {i}", lambda: self.load(i))

    def items(self, numbers):
        return [self.item(i) for i in numbers]


def keys(numbers):
    return [f"key {i}" for i in numbers]


def expected(numbers):
    return np.concatenate([Fake().features(Pictures().picture(i).float()[None]).numpy() for i in numbers])


@pytest.fixture
def pictures():
    return Pictures()


def test_a_second_fill_computes_and_loads_nothing_nor_does_another_process(tmp_path, pictures):
    fake, store = Fake(), FeatureStore(tmp_path, batch=4)
    assert store.fill(fake, pictures.items(range(10))) == 10
    assert fake.batches == [4, 4, 2]
    assert store.fill(fake, pictures.items(range(10))) == 0
    again = FeatureStore(tmp_path, batch=3)
    assert again.fill(fake, pictures.items(range(10))) == 0
    assert again.fill(fake, pictures.items(range(8, 13))) == 3
    assert sorted(pictures.loaded) == list(range(13))
    assert fake.seen == 13
    for each in (again, FeatureStore(tmp_path)):
        np.testing.assert_array_equal(each.read(fake, keys(range(13))), expected(range(13)))


def test_what_is_there_twice_in_a_fill_is_computed_once(tmp_path, pictures):
    fake, store = Fake(), FeatureStore(tmp_path, batch=4)
    assert store.fill(fake, pictures.items([0, 1, 0, 2, 1, 1, 0])) == 3
    assert fake.seen == 3
    assert sorted(pictures.loaded) == [0, 1, 2]
    np.testing.assert_array_equal(store.read(fake, keys([0, 0, 2])), expected([0, 0, 2]))


def test_each_extractor_has_its_own_folder(tmp_path, pictures):
    store, one, other = FeatureStore(tmp_path), Fake("one"), Fake("other")
    store.fill(one, pictures.items(range(3)))
    assert store.fill(other, pictures.items(range(2))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]
    with pytest.raises(KeyError, match="key 2"):
        store.read(other, keys([2]))
    assert FeatureStore(tmp_path).read(one, keys([2])).shape == (1, 2)


def test_rows_come_back_in_the_order_asked_across_shards_in_float32(tmp_path, pictures):
    fake, store = Fake(), FeatureStore(tmp_path, batch=3, shard=5)
    store.fill(fake, pictures.items(range(20)))
    assert len(list((tmp_path / "one").glob("*.parquet"))) == 4  # 6 + 6 + 6 + 2
    order = np.random.default_rng(0).permutation(20).tolist() + [7, 7, 0]
    for each in (store, FeatureStore(tmp_path)):
        found = each.read(fake, keys(order))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected(order))
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("threads", [1, 4])
def test_features_do_not_depend_on_batch_threads_and_order(tmp_path, pictures, batch, threads):
    fake, store = Fake(), FeatureStore(tmp_path, batch, threads)
    store.fill(fake, pictures.items(np.random.default_rng(batch).permutation(70).tolist()))
    assert max(fake.batches) == batch
    np.testing.assert_array_equal(store.read(fake, keys(range(70))), expected(range(70)))


# ------------------------------------------------------------------------------------------------------------- errors


def test_a_file_that_cannot_be_read_is_named_and_what_came_before_is_kept(tmp_path, pictures):
    fake = Fake()
    files = [tmp_path / f"{i}.png" for i in range(12)]
    for i, file in enumerate(files):
        Image.fromarray(pictures.picture(i).permute(1, 2, 0).numpy()).save(file)
    whole = files[9].read_bytes()
    files[9].write_bytes(whole[: len(whole) // 2])

    def load(i):
        pictures.loaded.append(i)
        return pixels(ImageFile(files[i], 8)())

    items = [Item(f"key {i}", str(files[i]), lambda i=i: load(i)) for i in range(12)]
    with pytest.raises(OSError, match=f"{files[9]}"):
        FeatureStore(tmp_path / "store", batch=4).fill(fake, items)
    pictures.loaded.clear()
    files[9].write_bytes(whole)
    store = FeatureStore(tmp_path / "store", batch=4)
    assert store.fill(fake, items) == 4
    assert sorted(pictures.loaded) == [8, 9, 10, 11]
    np.testing.assert_array_equal(store.read(fake, keys(range(12))), expected(range(12)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused_by_name_and_what_came_before_is_kept(tmp_path, pictures, bad):
    class Broken(Fake):
        def features(self, prepared):
            found = super().features(prepared)
            found[(prepared == pictures.picture(6)).flatten(1).all(1), 1] = bad
            return found

    with pytest.raises(ValueError, match=r"fake: NaN or infinite features of picture 6$"):
        FeatureStore(tmp_path, batch=4).fill(Broken(), pictures.items(range(10)))
    store, fake = FeatureStore(tmp_path, batch=4), Fake()
    assert store.fill(fake, pictures.items(range(10))) == 6
    assert np.isfinite(store.read(fake, keys(range(10)))).all()


def test_an_error_leaves_no_thread_behind(tmp_path, pictures):
    def fails():
        raise OSError("gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="gone"):
        FeatureStore(tmp_path, batch=2).fill(Fake(), [Item("x", "x", fails), *pictures.items(range(50))])
    gc.collect()
    assert threading.active_count() == before
    assert len(pictures.loaded) < 10


@pytest.mark.parametrize("content", [b"", b"PAR1 this is not a shard PAR1", "half"])
def test_a_broken_shard_is_named_with_what_to_do(tmp_path, pictures, content):
    fake = Fake()
    FeatureStore(tmp_path).fill(fake, pictures.items(range(5)))
    (shard,) = (tmp_path / "one").iterdir()
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(OSError, match=rf"{shard}: not a shard of features; delete it, it is computed again"):
        FeatureStore(tmp_path).fill(fake, pictures.items(range(5)))
    shard.unlink()
    assert FeatureStore(tmp_path).fill(fake, pictures.items(range(5))) == 5


def test_what_a_killed_process_left_half_written_is_no_shard(tmp_path, pictures):
    fake = Fake()
    FeatureStore(tmp_path).fill(fake, pictures.items(range(5)))
    (shard,) = (tmp_path / "one").iterdir()
    shard.rename(shard.with_name(f".{shard.name}.host.1.tmp"))
    assert FeatureStore(tmp_path).fill(fake, pictures.items(range(5))) == 5


def test_no_space_for_a_shard_is_an_error_and_not_a_lost_feature(tmp_path, pictures, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    fake, store = Fake(), FeatureStore(tmp_path, batch=4)
    monkeypatch.setattr("eval.features.write", full)
    with pytest.raises(OSError, match="No space left"):
        store.fill(fake, pictures.items(range(5)))
    monkeypatch.setattr("eval.features.write", write)
    assert store.fill(fake, pictures.items(range(5))) == 5
    np.testing.assert_array_equal(store.read(fake, keys(range(5))), expected(range(5)))


WRITER = """
import sys, time, torch
from pathlib import Path
from eval.features import FeatureStore, Item

class Doubles:
    name, hash = "doubles", "one"
    def prepare(self, picture): return picture
    def features(self, prepared): return prepared * 2

root = Path(sys.argv[1])
(root / f"ready {sys.argv[2]}").touch()
while len(list(root.glob("ready *"))) < 2:
    time.sleep(0.01)
store = FeatureStore(root / "store", batch=8, shard=16)
for i in range(0, 160, 40):
    store.fill(Doubles(), [Item(str(k), str(k), lambda k=k: torch.full((3,), float(k))) for k in range(i, i + 40)])
print(store.read(Doubles(), [str(k) for k in range(160)])[:, 0].tolist() == [2.0 * k for k in range(160)])
"""


def test_two_processes_may_fill_the_same_store_at_once(tmp_path):
    commands = [[sys.executable, "-c", WRITER, str(tmp_path), str(i)] for i in range(2)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True) for command in commands]
    for process in both:
        said, complained = process.communicate(timeout=120)
        assert process.returncode == 0, complained
        assert said.strip() == "True"

    class Untouched(Fake):
        def features(self, prepared):
            raise AssertionError("all is there")

    store = FeatureStore(tmp_path / "store")
    found = store.read(Untouched(), [str(k) for k in range(160)])
    np.testing.assert_array_equal(found, np.repeat(2.0 * np.arange(160)[:, None], 3, 1))
    assert not list(tmp_path.rglob("*.tmp"))


# --------------------------------------------------------------------------------------------------------- throughput

PASS = """
import sys, time, statistics, torch
from pathlib import Path
from eval.features import FeatureStore, Item, pixels
from eval.images import ImageFile

torch.set_num_threads(1)
torch.manual_seed(0)
conv = torch.nn.Conv2d
network = torch.nn.Sequential(
    conv(3, 32, 3, 2, 1), torch.nn.ReLU(), conv(32, 64, 3, 2, 1), torch.nn.ReLU(), conv(64, 128, 3, 1, 1),
    torch.nn.ReLU(), conv(128, 128, 3, 2, 1), torch.nn.ReLU(), conv(128, 128, 3, 1, 1), torch.nn.AdaptiveAvgPool2d(1),
    torch.nn.Flatten(),
).eval()

class Heavy:
    name, hash = "heavy", "heavy"
    def prepare(self, picture): return picture.float() / 255
    @torch.no_grad()
    def features(self, prepared): return network(prepared)

files, batch, heavy = sorted(Path(sys.argv[1]).glob("*.png")), 16, Heavy()
items = [Item(file.stem, str(file), lambda file=file: pixels(ImageFile(file, 256)())) for file in files]
ready = [torch.stack([heavy.prepare(item.load()) for item in items[i : i + batch]]) for i in range(0, len(items), batch)]

def bare():
    for each in ready:
        heavy.features(each)

def whole(k):
    assert FeatureStore(Path(sys.argv[2]) / str(k), batch, threads=2).fill(heavy, items) == len(items)

def took(call, *args):
    begin = time.perf_counter()
    call(*args)
    return time.perf_counter() - begin

took(bare), took(whole, "warm")
seconds = [(took(bare), took(whole, k)) for k in range(5)]
print(*(len(items) / statistics.median(each) for each in zip(*seconds)), statistics.median(a / b for a, b in seconds))
"""


def test_the_pass_is_nearly_as_fast_as_the_bare_network(tmp_path, record_property):
    """PNG files of 256 x 256 to features on disk: two threads decode while the network computes on one."""
    draw = np.random.default_rng(0)
    for i in range(96):
        smooth = Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((256, 256))
        Image.fromarray(np.asarray(smooth) // 2 + draw.integers(0, 32, (256, 256, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    command = [sys.executable, "-c", PASS, str(tmp_path), str(tmp_path / "store")]
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    bare, whole, share = map(float, done.stdout.split())
    print(f"bare {bare:.1f}, pass {whole:.1f} features/s, median of paired shares {share:.3f}")
    assert max(share, whole / bare) >= 0.9, f"{whole:.1f} of {bare:.1f} features/s"
