"""A given mask of which the resize policy shows nothing: what was cut is said, by the record, the run and the check."""

import numpy as np
import pytest
from helpers import call, find_record, said
from PIL import Image

from diffedit.io.images import MaskFile, Resize
from diffedit.io.pictures import GivenMaskPicture, GivenPicture

SMALL = [
    "backbone=analytic",
    "editor=sdedit_given",
    "steps=4",
    "ratios=[0.5]",
    "engine.progress=false",
    "benchmark=folder",
]
CUT = "the mask lies at 2 to 6 x 4 to 20 of 48 x 24, and resize.policy=crop shows 12 to 36 x 0 to 24"


@pytest.fixture
def table(tmp_path):
    """A wide picture under a mask at its left end, and one under a mask in its middle."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for name, left in (("end", 2), ("middle", 20)):
        mask = np.zeros((24, 48), np.uint8)
        mask[4:20, left : left + 4] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    (tmp_path / "edits.csv").write_text("image,target,mask,id\na.png,pear,end.png,end\na.png,pear,middle.png,middle\n")
    return tmp_path / "edits.csv"


def test_what_is_cut_is_described(table):
    def load(name, policy="crop"):
        return MaskFile(table.parent / f"{name}.png", table.parent / "a.png", 32, Resize(policy))

    assert load("end")().max() == 0
    assert load("end").describe_cut() == CUT
    assert load("middle").describe_cut() == ""
    assert load("end", "squash").describe_cut() == ""
    picture = GivenPicture(table.parent / "a.png", 32)
    assert GivenMaskPicture(table.parent / "end.png", picture).describe_cut() == CUT
    assert GivenMaskPicture(np.zeros((24, 48), bool), picture).describe_cut() == ""


def test_the_record_and_the_run_say_it(table, tmp_path):
    done = call("run.py", *SMALL, f"benchmark.path={table}", f"runs={tmp_path}/runs", "name=x")
    assert done.returncode == 0, said(done)
    (root,) = (path.parent for path in (tmp_path / "runs").rglob("manifest.parquet"))
    flags = {name: find_record(root, name)["metadata"] for name in ("end", "middle")}
    assert (flags["end"]["mask_flag"], flags["end"]["mask_cut"]) == ("cut away", CUT)
    assert flags["middle"]["mask_flag"] == ""
    assert "masks: 1 cut away (outside what is shown" in said(done)


def test_the_check_counts_them(table):
    done = call("check_benchmark.py", "benchmark=folder", f"benchmark.path={table}")
    assert done.returncode == 1
    assert f"cut away: end: {table.parent}/end.png: {CUT}" in said(done)
    assert "1 of them cut away whole, so that nothing is edited: benchmark.resize.policy=squash or keep" in said(done)
    assert (
        call(
            "check_benchmark.py", "benchmark=folder", f"benchmark.path={table}", "benchmark.resize.policy=squash"
        ).returncode
        == 0
    )
