"""The command that looks at a user's disk before a long run."""

import json

import pytest
from helpers import call, said
from PIL import Image

CLASSES = {"0": ["n02012849", "crane"], "1": ["n03126707", "crane"]}


@pytest.fixture
def disk(tmp_path):
    """30 queries on 30 pictures."""
    rows = [f"{i},n02012849/ILSVRC2012_val_{i:08d}.JPEG,crane,0,crane,1,True" for i in range(30)]
    (tmp_path / "queries.csv").write_text("\n".join([",path,source,source_id,target,target_id,is_test", *rows]))
    (tmp_path / "index.json").write_text(json.dumps(CLASSES))
    (tmp_path / "val/n02012849").mkdir(parents=True)
    for i in range(30):
        Image.new("RGB", (20, 16)).save(picture(tmp_path, i))
    return tmp_path


def picture(disk, i):
    return disk / f"val/n02012849/ILSVRC2012_val_{i:08d}.JPEG"


def test_a_benchmark_that_lists_its_files(disk):
    """All is well; then 22 are gone, one is cut short and one is no picture."""
    paths = [f"benchmark.queries={disk}/queries.csv", f"benchmark.classes={disk}/index.json"]
    command = ["check_benchmark.py", "benchmark=imagenet", f"benchmark.images={disk}/val", *paths]
    done = call(*command)
    assert done.returncode == 0, said(done)
    assert "ImageNet: 30 requests\n" in done.stdout
    assert "30 pictures: 30 found, 0 missing, 0 unreadable" in done.stdout
    assert "masks" not in done.stdout
    for i in range(22):
        picture(disk, i).unlink()
    Image.effect_noise((64, 64), 60).save(picture(disk, 25))
    picture(disk, 25).write_bytes(picture(disk, 25).read_bytes()[:-1000])
    picture(disk, 27).write_text("no picture")
    done = call(*command)
    assert done.returncode == 1
    assert "30 pictures: 6 found, 22 missing, 2 unreadable" in done.stdout
    assert f"missing: 0: {picture(disk, 0)}\n" in done.stdout
    assert f"missing: 19: {picture(disk, 19)}\n" in done.stdout
    assert str(picture(disk, 20)) not in done.stdout
    assert "missing: ... and 2 more" in done.stdout
    assert "unreadable: 25: " in done.stdout
    assert "00000025.JPEG: image file is truncated" in done.stdout
    assert "unreadable: 27: " in done.stdout
    assert "00000027.JPEG: not an image file" in done.stdout
    assert "Traceback" not in said(done)
    (disk / "index.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    done = call(*command)
    assert done.returncode == 2
    assert "a git-LFS pointer" in said(done)
    assert "layout = 'both': it should be 'auto', 'flat' or 'folders'" in said(call(*command, "benchmark.layout=both"))


def test_a_table_of_pictures_and_masks(tmp_path):
    """A picture of two requests counts once, each of their masks; a mask of another shape is found out."""
    for name, size in (("a.png", (20, 16)), ("m.png", (20, 16)), ("tall.png", (8, 40))):
        Image.new("RGB", size).save(tmp_path / name)
    table = tmp_path / "edits.csv"
    table.write_text("image,target,mask,id\na.png,pear,m.png,one\na.png,plum,,two\n")
    done = call("check_benchmark.py", f"benchmark.path={table}")
    assert done.returncode == 0, said(done)
    assert "FolderBenchmark: 2 requests\n" in done.stdout
    assert "1 pictures: 1 found, 0 missing, 0 unreadable" in done.stdout
    assert "1 masks: 1 found, 0 missing, 0 unreadable" in done.stdout
    table.write_text("image,target,mask,id\na.png,pear,tall.png,one\na.png,plum,none.png,two\n")
    done = call("check_benchmark.py", f"benchmark.path={table}", "threads=1")
    assert done.returncode == 1
    assert "1 pictures: 1 found, 0 missing, 0 unreadable" in done.stdout
    assert "2 masks: 0 found, 1 missing, 1 unreadable" in done.stdout
    assert f"missing: two: {tmp_path}/none.png\n" in done.stdout
    assert f"unreadable: one: {tmp_path}/tall.png: the mask is 8 x 40" in done.stdout
    (tmp_path / "a.png").unlink()
    done = call("check_benchmark.py", f"benchmark.path={table}")
    assert done.returncode == 1
    assert "1 pictures: 0 found, 1 missing, 0 unreadable" in done.stdout
    assert "2 masks not looked at, for their pictures are not fine" in done.stdout


def test_a_benchmark_that_draws_its_pictures():
    done = call("check_benchmark.py", "benchmark=stilllife_classes", "benchmark.per_class=1")
    assert done.returncode == 0, said(done)
    assert "nothing to check: its requests load no files" in done.stdout


def test_the_true_pictures(realset):
    """42 queries' pictures are here, 1,071 of the test split's are not."""
    paths = [f"benchmark.images={realset}/imagenet/val"]
    paths += [f"benchmark.classes={realset}/wordnet/imagenet_class_index.json"]
    command = ["check_benchmark.py", "benchmark=imagenet", *paths]
    for split in ("test", "dev"):
        done = call(*command, f"benchmark.queries={realset}/flexit/queries_present.csv", f"benchmark.split={split}")
        assert done.returncode == 0, said(done)
        assert "21 pictures: 21 found, 0 missing, 0 unreadable" in done.stdout
    done = call(*command, f"benchmark.queries={realset}/flexit/queries.csv")
    assert done.returncode == 1
    assert "1092 pictures: 21 found, 1071 missing, 0 unreadable" in done.stdout


def test_help():
    done = call("check_benchmark.py", "--help")
    assert done.returncode == 0
    assert "diffedit check-benchmark benchmark=imagenet" in done.stdout
    assert "imagenet_pairs" in done.stdout


def test_pictures_that_are_still_to_be_drawn(tmp_path):
    """To look is not to draw."""
    done = call("check_benchmark.py", "benchmark=generated", "benchmark.limit=2", f"benchmark.cache={tmp_path}")
    assert done.returncode == 1
    assert "2 pictures: 0 found, 2 missing, 0 unreadable" in done.stdout
    assert not list(tmp_path.iterdir())
