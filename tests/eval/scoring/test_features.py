"""Features are computed once and kept whatever happens; the pass keeps up with its network, in little memory."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffedit.io.files import write
from diffedit.io.images import ImageFile
from eval.scoring.features import FeatureStore, Item, to_uint8
from eval.scoring.reference import ReferenceImage, compute_reference

ROOT = Path(__file__).parents[3]


class Fake:
    """Two numbers of each picture, each picture for itself."""

    name, resize, range, domain = "fake", "none", (0.0, 255.0), "anything"

    def __init__(self, hash="one"):
        self.hash, self.batches = hash, []

    def prepare(self, picture):
        return picture.float()

    def features(self, prepared):
        self.batches.append(len(prepared))
        return torch.stack([prepared.flatten(1).double().mean(1), prepared[:, 0, 0, 0].double() / 3], 1).float()


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
    assert fake.batches == [4, 4, 4]  # the last one is padded
    assert store.fill(fake, pictures.items(range(10))) == 0
    again = FeatureStore(tmp_path, batch=3)
    assert again.fill(fake, pictures.items(range(10))) == 0
    assert again.fill(fake, pictures.items(range(8, 13))) == 3
    assert sorted(pictures.loaded) == list(range(13))
    assert fake.batches == [4, 4, 4, 3]
    for store in (again, FeatureStore(tmp_path)):
        np.testing.assert_array_equal(store.read(fake, keys(range(13))), expected(range(13)))


def test_what_is_there_twice_in_a_fill_is_computed_once(tmp_path, pictures):
    fake, store = Fake(), FeatureStore(tmp_path, batch=4)
    assert store.fill(fake, pictures.items([0, 1, 0, 2, 1, 1, 0])) == 3
    assert fake.batches == [4]
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
    order = [*np.random.default_rng(0).permutation(20).tolist(), 7, 7, 0]
    for opened in (store, FeatureStore(tmp_path)):
        features = opened.read(fake, keys(order))
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, expected(order))
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
        return to_uint8(ImageFile(files[i], 8)())

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
            features = super().features(prepared)
            features[(prepared == pictures.picture(6)).flatten(1).all(1), 1] = bad
            return features

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
def test_a_broken_shard_is_named_and_computed_again(tmp_path, pictures, content, caplog):
    fake = Fake()
    FeatureStore(tmp_path).fill(fake, pictures.items(range(5)))
    (shard,) = (tmp_path / "one").iterdir()
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    assert FeatureStore(tmp_path).fill(fake, pictures.items(range(5))) == 5
    assert f"{shard}: no whole shard of features" in caplog.text
    assert FeatureStore(tmp_path).fill(fake, pictures.items(range(5))) == 0


def test_a_shard_whose_features_alone_are_broken_is_seen_before_they_are_read(tmp_path, pictures):
    """Its keys can be read: they are another column."""
    fake = Fake()
    FeatureStore(tmp_path).fill(fake, pictures.items(range(500)))
    (shard,) = (tmp_path / "one").iterdir()
    before = FeatureStore(tmp_path).read(fake, [f"key {i}" for i in range(500)])
    data = bytearray(shard.read_bytes())
    place = data.find(before[:4].tobytes())
    data[place] ^= 1
    shard.write_bytes(data)
    store = FeatureStore(tmp_path)
    assert len(store.index(fake)) == 500
    assert store.fill(fake, pictures.items(range(500))) == 500
    assert np.array_equal(store.read(fake, [f"key {i}" for i in range(500)]), before)


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
    monkeypatch.setattr("eval.scoring.features.write", full)
    with pytest.raises(OSError, match="No space left"):
        store.fill(fake, pictures.items(range(5)))
    monkeypatch.setattr("eval.scoring.features.write", write)
    assert store.fill(fake, pictures.items(range(5))) == 5
    np.testing.assert_array_equal(store.read(fake, keys(range(5))), expected(range(5)))


WRITER = """
import sys, time, torch
from pathlib import Path
from eval.scoring.features import FeatureStore, Item

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
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert output.strip() == "True"

    class Untouched(Fake):
        def features(self, prepared):
            raise AssertionError("all is there")

    store = FeatureStore(tmp_path / "store")
    features = store.read(Untouched(), [str(k) for k in range(160)])
    np.testing.assert_array_equal(features, np.repeat(2.0 * np.arange(160)[:, None], 3, 1))
    assert not list(tmp_path.rglob("*.tmp"))


# ------------------------------------------------------------------------------------------------------------- memory


class Counted(Fake):
    """Counts pictures, prepared or not, that are alive; the network waits, so that decoding runs ahead of it."""

    def __init__(self):
        super().__init__()
        self.lock, self.alive, self.most = threading.Lock(), 0, 0

    def born(self, picture):
        weakref.finalize(picture, self.add, -1)
        self.add(1)
        return picture

    def add(self, change):
        with self.lock:
            self.alive += change
            self.most = max(self.most, self.alive)

    def prepare(self, picture):
        return self.born(super().prepare(picture))

    def features(self, prepared):
        time.sleep(0.005)
        return super().features(self.born(prepared))


@pytest.mark.parametrize("n", [50, 400])
def test_pictures_alive_at_once_do_not_grow_with_their_number(tmp_path, pictures, n):
    counted, batch, threads = Counted(), 8, 2
    items = [Item(str(i), str(i), lambda i=i: counted.born(pictures.picture(i))) for i in range(n)]
    assert FeatureStore(tmp_path, batch, threads, shard=64).fill(counted, items) == n
    assert batch < counted.most <= 3 * batch + 2 * threads + 2  # that one, two ahead; pairs in the threads; batches
    assert counted.alive == 0


@pytest.mark.parametrize("n", [50, 400])
def test_nor_do_those_of_a_stream_whose_items_hold_them(pictures, n):
    counted, batch = Counted(), 8

    def stream():
        for i in range(n):
            picture = counted.born(pictures.picture(i))
            yield ReferenceImage("", str(i), lambda picture=picture: picture, i % 5 == 0)

    assert compute_reference(counted, stream(), "a stream", 64, keep=10, batch=batch).n == n * 4 // 5
    assert counted.most <= 2 * 4 * batch + 8
    assert counted.alive == 0


# --------------------------------------------------------------------------------------------------------- throughput


def test_slow_files_are_decoded_while_the_network_works(tmp_path):
    """10 ms a picture to load on each of two threads, 12 ms a picture in the network: one after the other 17 ms.

    The best of three: other work on the machine makes one late.
    """

    class Slow(Fake):
        def features(self, prepared):
            time.sleep(0.012 * len(prepared))
            return super().features(prepared)

    def load():
        time.sleep(0.010)
        return torch.zeros(3, 8, 8, dtype=torch.uint8)

    shares = []
    for k in range(3):
        begin = time.perf_counter()
        FeatureStore(tmp_path / str(k), batch=8, threads=2).fill(
            Slow(), [Item(str(i), str(i), load) for i in range(96)]
        )
        shares.append(96 * 0.012 / (time.perf_counter() - begin))
    assert max(shares) >= 0.85


PASS = """
import statistics, sys, time, torch
from pathlib import Path
from eval.scoring.features import FeatureStore, Item, to_uint8
from diffedit.io.images import ImageFile

torch.set_num_threads(1)
torch.manual_seed(0)
conv, relu = torch.nn.Conv2d, torch.nn.ReLU
network = torch.nn.Sequential(
    conv(3, 128, 8, 8), relu(), conv(128, 320, 3, 1, 1), relu(), conv(320, 320, 3, 1, 1),
    torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
).eval()

class Heavy:
    name, hash = "heavy", "heavy"
    def prepare(self, picture): return picture.float() / 255
    @torch.no_grad()
    def features(self, prepared): return network(prepared)

files, batch, heavy = sorted(Path(sys.argv[1]).glob("*.png")), 8, Heavy()
items = [Item(file.stem, str(file), lambda file=file: to_uint8(ImageFile(file, 256)())) for file in files]
parts = [items[i : i + batch] for i in range(0, len(items), batch)]
ready = [torch.stack([heavy.prepare(item.load()) for item in part]) for part in parts]

def bare():
    for prepared in ready:
        heavy.features(prepared)

def whole(k):
    assert FeatureStore(Path(sys.argv[2]) / str(k), batch, threads=2).fill(heavy, items) == len(items)

def took(call, *args):
    begin, busy = time.perf_counter(), time.thread_time()
    call(*args)
    return time.perf_counter() - begin, time.thread_time() - busy

took(bare), took(whole, "warm")
walls, busys = [], []
for k in range(9):
    (wall, busy), (own_wall, own_busy) = took(bare), took(whole, k)
    walls.append((wall, own_wall)), busys.append((busy, own_busy))
    alone, passes = zip(*walls)
    share = max(statistics.median(alone) / statistics.median(passes), min(alone) / min(passes))
    if k >= 2 and share >= 0.9:
        break
alone_busy, pass_busy = map(statistics.median, zip(*busys))
print(share, alone_busy / pass_busy, len(items) / statistics.median(alone), len(items) / statistics.median(passes))
"""


def test_the_pass_is_nearly_as_fast_as_the_bare_network(tmp_path):
    """PNG files of 256 x 256 to features on disk: two threads decode while the network computes on one.

    The time that its thread computes is held to 90 %. The wall time stops at 90 % too, and is held to 80 %: on a
    machine that others use, nine repetitions may pass without two idle cores. So it may try again.
    """
    draw = np.random.default_rng(0)
    for i in range(40):
        smooth = Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((256, 256))
        noise = draw.integers(0, 32, (256, 256, 3), dtype=np.uint8)
        Image.fromarray(np.asarray(smooth) // 2 + noise).save(tmp_path / f"{i}.png")
    command = [sys.executable, "-c", PASS, str(tmp_path), str(tmp_path / "store")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for k in range(3):
        command[-1] = str(tmp_path / f"store {k}")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr
        share, busy, bare, whole = map(float, done.stdout.split())
        rates = f"{whole:.1f} of {bare:.1f} features/s: wall {share:.3f}, its thread {busy:.3f}"
        if busy >= 0.9 and share >= 0.8:
            break
    assert busy >= 0.9, rates
    assert share >= 0.8, rates
