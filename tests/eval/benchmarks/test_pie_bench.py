import json

import numpy as np
import pytest
import torch
from PIL import Image

from diffedit.io.images import Resize
from eval.benchmarks.files import read_json
from eval.benchmarks.pie_bench import PieBench, decode_runs, strip_brackets
from eval.benchmarks.subset import draw, take_subset

ROW = 512
TEXTS = {"original_prompt": "a [round] cake", "editing_prompt": "a [square] cake", "editing_type_id": "0"}


def entry(image="0/a.jpg", mask=(0, 1), **fields):
    return TEXTS | {"image_path": image, "mask": list(mask), "blended_word": "", "editing_instruction": ""} | fields


def write(folder, table, picture=True):
    """A folder in the true layout."""
    (folder / "mapping_file.json").write_text(table if isinstance(table, str) else json.dumps(table))
    (folder / "annotation_images/0").mkdir(parents=True, exist_ok=True)
    if picture:
        Image.new("RGB", (ROW, ROW), "red").save(folder / "annotation_images/0/a.jpg")
    return str(folder)


def test_an_entry_becomes_a_request(tmp_path):
    made = PieBench(write(tmp_path, {"000000000001": entry(mask=[100 * ROW + 100, 50])}))
    (request,) = made.requests(64)
    assert len(made) == 1
    assert (request.id, request.source, request.target) == ("000000000001", "a round cake", "a square cake")
    assert request.image().shape == (3, 64, 64)
    assert request.mask().shape == (1, 64, 64)
    assert request.origin.startswith("0/a.jpg mask ")
    (other,) = PieBench(write(tmp_path, {"000000000001": entry(mask=[100 * ROW + 100, 51])})).requests(64)
    assert other.origin != request.origin


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a [round] cake", "a round cake"),
        ("a house with [lightning and] rain", "a house with lightning and rain"),
        ("a cat [] sits", "a cat sits"),
        (" [ a ]  dog\n", "a dog"),
        ("[oil painting] of a [cat]", "oil painting of a cat"),
        ("a [cat], asleep", "a cat, asleep"),
    ],
)
def test_brackets_go_and_spaces_stay_single(prompt, text):
    assert strip_brackets(prompt) == text


def reference(runs):
    """Pixel by pixel, as the published code does it."""
    mask = [0] * (ROW * ROW)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        for i in range(start, start + length):
            mask[i] = 1
    mask = np.array(mask).reshape(ROW, ROW)
    mask[0, :] = mask[-1, :] = mask[:, 0] = mask[:, -1] = 1
    return mask.astype(bool)


def test_a_run_wraps_over_the_end_of_its_row():
    mask = decode_runs([10 * ROW + 500, 20])
    inner = np.zeros((ROW, ROW), bool)
    inner[10, 500:] = inner[11, :8] = True
    assert (mask[1:-1, 1:-1] == inner[1:-1, 1:-1]).all()
    assert mask[[0, -1]].all()
    assert mask[:, [0, -1]].all()
    assert mask.sum() == 20 + 4 * (ROW - 1) - 2  # the run covers one frame pixel at either side


def test_the_whole_picture_no_run_and_many_runs():
    assert decode_runs([0, ROW * ROW]).all()
    assert decode_runs([]).sum() == 4 * (ROW - 1)
    runs = np.random.default_rng(0).integers(0, 2000, 200)
    runs[::2] *= 120
    assert np.array_equal(decode_runs(runs.tolist()), reference(runs.tolist()))


def test_the_mask_goes_through_the_resize_of_the_picture(tmp_path):
    half = [number for y in range(ROW) for number in (y * ROW, ROW // 2)]
    for policy in ("crop", "squash"):
        made = PieBench(write(tmp_path, {"1": entry(mask=half)}), resize=Resize(policy, "bilinear"))
        mask = next(made.requests(128)).mask()[0].round()
        assert mask[:, :64].all()
        assert mask[1:-1, 65:-1].sum() == 0
    whole = PieBench(write(tmp_path, {"1": entry(mask=[0, ROW * ROW])}))
    assert torch.equal(next(whole.requests(32)).mask(), torch.ones(1, 32, 32))


def test_edit_types_and_limits(tmp_path):
    table = {f"{i:012d}": entry(editing_type_id=str(i % 3)) for i in range(30)}
    path = write(tmp_path, table)
    assert [request.id for request in PieBench(path).requests(8)] == list(table)
    assert len(PieBench(path, edit_types=[0, "2"])) == 20
    few, more = (list(PieBench(path, limit=n).entries) for n in (5, 12))
    assert more[:5] == few
    backwards = write(tmp_path, dict(reversed(table.items())))
    assert list(PieBench(backwards, limit=5).entries) == few
    assert list(PieBench(backwards, limit=5, seed=1).entries) != few
    assert list(PieBench(path, range=[5, 12]).entries) == more[5:]
    with pytest.raises(ValueError, match=r"edit_types = \['7'\]: 7; the table has the types 0, 1, 2"):
        PieBench(path, edit_types=["7"])


def test_an_empty_source_is_none(tmp_path):
    (request,) = PieBench(write(tmp_path, {"1": entry(original_prompt=" ")})).requests(8)
    assert request.source is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "mapping_file.json: a git-LFS pointer"),
        ("{", "mapping_file.json: not JSON"),
        ("[]", "an object of entries is wanted"),
        ({"7": 3}, "entry '7': an object with"),
        ({"7": {k: v for k, v in entry().items() if k != "mask"}}, "entry '7': no 'mask'"),
        ({"7": {"image_path": "a.jpg", "mask": []}}, "no 'original_prompt', 'editing_prompt', 'editing_type_id'"),
        ({"7": entry(mask=[0, 1, 5])}, "entry '7': mask: 3 numbers, but they come in pairs"),
        ({"7": entry(mask=[262143, 2])}, "entry '7': mask: the run of 2 pixels from 262143 leaves the 262144"),
        ({"7": entry(mask=[-1, 2])}, "entry '7': mask: the run of 2 pixels from -1 leaves"),
        ({"7": entry(mask=["0", 1])}, "entry '7': mask: a flat list of whole numbers"),
        ({"7": entry(editing_prompt="[]")}, "entry '7': editing_prompt is empty"),
        ({"7": entry(image_path="")}, "entry '7': image_path is empty"),
    ],
)
def test_a_bad_table_is_refused_at_once_with_its_entry(tmp_path, table, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        PieBench(write(tmp_path, table))


def test_an_absent_or_oblong_picture_fails_its_own_request(tmp_path):
    folder = write(tmp_path, {"1": entry(), "2": entry("0/none.jpg"), "3": entry("0/wide.jpg")})
    Image.new("RGB", (600, 400)).save(tmp_path / "annotation_images/0/wide.jpg")
    good, absent, wide = PieBench(folder).requests(16)
    good.image(), good.mask()
    assert good.mask.path == good.image.path == tmp_path / "annotation_images/0/a.jpg"
    for load in (absent.image, absent.mask):
        with pytest.raises(FileNotFoundError, match=r"0/none\.jpg: no such file"):
            load()
    with pytest.raises(ValueError, match=r"wide\.jpg: 600 x 400, but PIE-Bench's masks"):
        wide.mask()


def test_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mapping_file\.json: no such file"):
        PieBench(str(tmp_path))


def test_a_subset_is_the_same_everywhere():
    """Pinned: no version of a library may change it."""
    ids = [f"{i:03d}" for i in range(100)]
    assert draw(0, "a")[:12] == "4a2978d91c01"
    assert take_subset(ids, 5, 0) == ["090", "045", "048", "029", "008"]
    assert take_subset(ids, None, 0) == ids
    assert sorted(take_subset(ids, 1000, 3)) == ids
    assert take_subset(ids[::-1], 7, 3) == take_subset(ids, 7, 3) == take_subset(ids, 50, 3)[:7]
    with pytest.raises(ValueError, match=r"benchmark.limit = 0: at least 1"):
        take_subset(ids, 0, 0)


def test_ranges_that_meet_are_the_whole():
    """And a limit is the first range."""
    ids = [f"{i:03d}" for i in range(100)]
    parts = [take_subset(ids[::step], None, 2, [i, i + 30]) for i, step in ((0, 1), (30, -1), (60, 1), (90, -1))]
    assert [len(part) for part in parts] == [30, 30, 30, 10]
    assert [name for part in parts for name in part] == take_subset(ids, 100, 2)
    assert take_subset(ids, 30, 2) == parts[0]
    for wrong in ([100, 101], [-1, 5], [5, 5], [5], [1, 2, 3]):
        with pytest.raises(ValueError, match=r"benchmark.range = \[.*\]: \[first, last \+ 1\] is wanted.* of 100"):
            take_subset(ids, None, 2, wrong)
    with pytest.raises(ValueError, match=r"benchmark.limit = 3 and benchmark.range = \[0, 3\]: one of them"):
        take_subset(ids, 3, 2, [0, 3])


def test_a_subset_is_fair():
    """Each id comes first about equally often."""
    first = [take_subset([str(i) for i in range(4)], 1, seed)[0] for seed in range(2000)]
    assert all(abs(first.count(str(i)) - 500) < 5 * (2000 * 3 / 16) ** 0.5 for i in range(4))


# The share of the frame under the two real masks, pinned after a look at the overlays.
AREAS = {"000000000001": 0.3156, "000000000016": 0.0530}


def test_the_real_entries(realset):
    made = PieBench(str(realset / "pie_bench"))
    one, other = made.requests(512)
    assert (one.source, one.target) == tuple(
        f"a {kind} cake with orange frosting on a wooden plate" for kind in ("round", "square")
    )
    assert (other.source, other.target) == ("a plate with steak on it", "a plate with salmon on it")
    for request in (one, other):
        assert request.image().shape == (3, 512, 512)
        mask, runs = request.mask(), made.entries[request.id].runs
        assert np.array_equal(mask[0].numpy() == 1, reference(runs))
        assert set(mask.unique().tolist()) == {0, 1}
        assert mask.mean().item() == pytest.approx(AREAS[request.id], abs=1e-4)
    for request in made.requests(64):
        assert request.mask().mean().item() == pytest.approx(AREAS[request.id], abs=0.01)


def test_the_variants_of_the_table(realset):
    """200 other entries, 14 with a true mask; a table without masks is refused; the pointer is named."""
    made = PieBench(str(realset / "pie_bench"), "mapping_file_auto200.json")
    whole = [name for name, entry in made.entries.items() if entry.runs == [0, ROW * ROW]]
    assert (len(made), len(whole)) == (200, 186)
    for entry in made.entries.values():
        if entry.runs != [0, ROW * ROW]:
            assert np.array_equal(decode_runs(entry.runs), reference(entry.runs))
    with pytest.raises(ValueError, match=r"mapping_file_ti2i_benchmark\.json, entry '0': no 'editing_type_id', 'mask'"):
        PieBench(str(realset / "pie_bench"), "mapping_file_ti2i_benchmark.json")
    with pytest.raises(ValueError, match=r"captions_val2014\.json: a git-LFS pointer of 133 bytes"):
        read_json("benchmark.captions", realset / "coco/quirks/captions_val2014.json")
