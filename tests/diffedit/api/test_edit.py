"""`diffedit.edit` and `find_mask`: one call, on pictures of any kind, by the networks of a loaded pipeline."""

import doctest
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers import ROOT, same
from PIL import Image

import diffedit
from baselines.sdedit import SDEdit
from diffedit.api.asked import check_asked, read_ratio
from diffedit.api.edit import make_requests
from diffedit.engine.queries import run_alone
from diffedit.io.images import Resize
from diffedit.mask import ContrastMask, GivenMask
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.background import PixelPaste
from diffedit.types import EditRequest

N = 6


def draw(seed, size=(40, 32)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def pipe(tiny_folder):
    pipe = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edit(pipe, *args, **settings):
    return diffedit.edit(pipe, *args, num_inference_steps=N, **settings)


def close(one, other):
    """Whether two pictures are equal but for the last bits of their floats."""
    return np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


@pytest.fixture
def two_threads():
    """Of torch: with one, the last bits of this small network's answers depend on how many rows a call has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_it_is_the_method_on_the_models_crop(pipe, tiny):
    """Equal to the program run by itself on a tensor of the crop, with the noise of seed and id."""
    picture = draw(0, (32, 32))
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    request = EditRequest("picture", lambda: image, "a dog", "a cat")
    expected = run_alone(diffedit.DiffEdit()(request, [0.5], tiny.schedule(N), RequestNoise(3, "picture")), tiny)
    result = edit(pipe, picture, "a dog", "a cat", seed=3)
    assert same(result.result.edits, expected.edits)
    assert np.array_equal(result.contrast_map, expected.contrast_map.numpy())
    assert result.image.size == result.mask.size == (32, 32)
    assert set(np.unique(np.asarray(result.mask))) <= {0, 255}
    assert np.asarray(result.mask)[::4, ::4].astype(bool).tolist() == expected.mask[0, 0].tolist()
    assert (result.crop, result.error, result.evaluations) == ((0, 0, 32, 32), None, 20 + 3 + 6)


def test_the_crop_says_which_part_is_shown(pipe):
    whole = draw(1, (48, 32))
    result = edit(pipe, whole, "a dog")
    assert result.crop == (8, 0, 40, 32)
    assert close(result.image, edit(pipe, whole.crop(result.crop), "a dog").image)
    assert edit(pipe, whole, "a dog", resize="squash").crop == (0, 0, 48, 32)


def test_pictures_are_edited_whole_in_their_own_shapes(pipe):
    """With a mask that was found, or one of the picture's size; equal to each by itself but for the last bits."""
    pictures = [draw(1, (48, 32)), draw(2, (32, 32)), draw(3, (60, 100))]
    results = edit(pipe, pictures, "a dog", ratio=[0.5, 1.0], resize="keep")
    assert [result.images[0.5].size for result in results] == [(48, 32), (32, 32), (32, 56)]
    for picture, result in zip(pictures, results, strict=True):
        assert result.error is None
        assert result.crop == (0, 0, *picture.size)
        assert result.images[0.5].size == result.mask.size
        assert result.contrast_map.shape == tuple(side // 4 for side in result.images[0.5].size[::-1])
        assert close(result.images[1.0], edit(pipe, picture, "a dog", ratio=[0.5, 1.0], resize="keep").images[1.0])
    assert close(results[1].images[1.0], edit(pipe, pictures[1], "a dog", ratio=[0.5, 1.0]).images[1.0])
    again = edit(pipe, pictures[2], "a dog", mask=results[2].mask, resize="keep")
    assert np.array_equal(np.asarray(again.mask), np.asarray(results[2].mask))
    assert edit(pipe, pictures[2], "a dog", mask=Image.new("L", (60, 100), 255), resize="keep").error is None
    assert edit(pipe, pictures[2], "a dog", resize=Resize("keep", side="longer")).image.size == (16, 32)
    assert diffedit.find_mask(pipe, pictures[0], "a dog", resize="keep").mask.size == (48, 32)
    exact = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    (request,), _ = make_requests(diffedit.api.choose.make_backbone(pipe), exact, "a dog", None, None, "keep", "a")
    assert torch.equal(request.image(), exact)


def test_one_ratio_has_an_image_and_several_have_images(pipe):
    one = edit(pipe, draw(0), "a dog", ratio=0.5)
    assert list(one.images) == [0.5]
    for ratio in ([0.5, 1.0], (0.5, 1), np.array([0.5, 1.0])):
        several = edit(pipe, draw(0), "a dog", ratio=ratio)
        assert list(several.images) == [0.5, 1.0]
        assert close(several.images[0.5], one.image)
        with pytest.raises(AttributeError, match=r"edits at 0.5, 1.0: take result.images\[ratio\]"):
            _ = several.image


def test_a_list_comes_back_in_its_order_and_one_text_serves_all(pipe):
    pictures = [draw(i) for i in range(5)]
    sources = ["a cat", None, "a bird", "", "a fish"]
    results = edit(pipe, pictures, "a dog", sources, seed=1)
    alone = [edit(pipe, p, "a dog", s, seed=1) for p, s in zip(pictures, sources, strict=True)]
    assert all(close(one.image, other.image) for one, other in zip(results, alone, strict=True))
    batch = np.stack([np.asarray(picture) for picture in pictures])
    assert close(edit(pipe, batch, "a dog", seed=1)[1].image, alone[1].image)
    assert isinstance(edit(pipe, pictures[:1], "a dog"), list)


def test_a_failure_spoils_no_other(pipe, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    first, broken, missing, long, last = edit(
        pipe, [draw(0), bad, "nowhere.png", draw(2), draw(1)], ["a dog"] * 3 + ["x" * 40, "a dog"]
    )
    assert (first.error, last.error) == (None, None)
    assert close(last.image, edit(pipe, draw(1), "a dog").image)
    assert "not an image file" in str(broken.error)
    assert "nowhere.png: no such file" in str(missing.error)
    assert "the prompt has 42 tokens" in str(long.error)
    assert (broken.crop, broken.result) == (None, None)
    for show in (lambda: broken.image, lambda: broken.images, lambda: broken.mask, broken.sheet):
        with pytest.raises(OSError, match=r"bad.jpg: not an image"):
            show()
    assert "error=" in repr(broken)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0}, "ratio = 0: it should be a finite number above 0, at most 1"),
        ({"ratio": []}, r"ratio = \[\]: it should be a list of at least 1"),
        ({"ratio": True}, "ratio = true: "),
        ({"ratio": [0.5, np.nan]}, r"ratio\[1\] = nan: "),
        ({"seed": True}, "seed = true: "),
        ({"seed": -1}, "seed = -1: .*; the nearest is 0"),
        ({"seed": 10**26}, "seed = 1"),
        ({"guidance_scale": np.nan}, "guidance_scale = nan: "),
        ({"ratio": [0.5, 0.51]}, "the same edit twice"),
        ({"num_inference_steps": 1}, "less than one step"),
        ({"editor": "difedit"}, "editor = 'difedit': there is none of that name; did you mean diffedit"),
        ({"editor": "copy", "guidance_scale": 3}, "copy has no setting guidance"),
        ({"editor": "encode_decode", "mask": draw(0)}, "encode_decode does not use it"),
        ({"editor": SDEdit(), "mask": draw(0)}, "SDEdit does not use it"),
        ({"batch_size": 0}, "batch_size = 0: it should be a whole number from 1 on; the nearest is 1"),
        ({"resize": "pad"}, "policy = 'pad'"),
        ({"target": ["a", "b"]}, "target is a list of 2, for one picture"),
        ({"image": [draw(0)] * 3, "target": ["a", "b"]}, "target is a list of 2, for a list of 3 pictures"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(pipe, monkeypatch, settings, message):
    monkeypatch.setattr(type(pipe.unet), "forward", None)
    arguments = {"image": draw(0), "target": "a dog", "num_inference_steps": N} | settings
    with pytest.raises(ValueError, match=message):
        diffedit.edit(pipe, **arguments)


def test_wrong_types_are_named_as_wrong_values_are():
    """Asked as users ask, whom nothing else checks."""
    wrong = {"seed": None, "num_inference_steps": 2.5, "guidance_scale": "a", "batch_size": "8", "id": None}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name} = .*: it should be "):
            check_asked(**{name: value})
    for ratio in ("0.5", None, True, [[0.5]], np.array([0.5, 1.5])):
        with pytest.raises(ValueError, match="ratio"):
            read_ratio(ratio)


def test_numbers_of_arrays_are_numbers():
    check_asked(seed=np.int64(1), guidance_scale=np.float32(2), batch_size=torch.tensor(3))
    assert read_ratio(np.float32(0.5)) == read_ratio(torch.tensor(0.5)) == [0.5]
    assert read_ratio(np.array([0.25, 0.5])) == read_ratio((0.25, np.float64(0.5))) == [0.25, 0.5]
    assert read_ratio(1) == [1.0]


def test_a_mask_that_a_crop_takes_away_is_said(pipe, caplog):
    mask = np.zeros((32, 80), bool)
    mask[8:24, :6] = True
    result = edit(pipe, draw(0, (80, 32)), "a dog", mask=mask)
    assert result.error is None
    line = caplog.messages[-1]
    assert line.startswith("picture: the mask is cut away: the mask lies at 0 to 6 x 8 to 24 of 80 x 32")
    caplog.clear()
    edit(pipe, [draw(0, (80, 32))] * 2, "a dog", mask=[None, mask], editor="diffedit_given")
    assert [line.partition(":")[0] for line in caplog.messages if "cut away" in line] == ["picture 1"]


@pytest.mark.parametrize("pipe", [None, 3, object()])
def test_what_is_no_model_is_named(pipe):
    with pytest.raises(TypeError, match=f"not {type(pipe).__name__}"):
        edit(pipe, draw(0), "a dog")


def test_a_target_that_is_no_text_is_refused(tiny):
    with pytest.raises(TypeError, match="target = 3"):
        make_requests(tiny, draw(0), 3, None, None, "crop", "a")


def test_a_folder_and_a_backbone_serve_as_the_pipeline_does(pipe, tiny, tiny_folder):
    expected = edit(pipe, draw(0), "a dog").image
    assert expected == edit(tiny, draw(0), "a dog").image == edit(str(tiny_folder), draw(0), "a dog").image
    assert edit(tiny_folder, draw(0), "a dog").image == expected


@pytest.mark.parametrize("editor", ["sdedit", "encode_decode", "diffedit_no_encode", "copy", "round_trip"])
def test_editors_by_name(pipe, editor):
    result = edit(pipe, draw(0), "a dog", editor=editor, ratio=[0.5, 1.0])
    assert len(result.images) == 2
    assert (result.mask is None) == (editor != "diffedit_no_encode")
    assert result.sheet().width > 2 * 32


def test_an_editor_or_a_pipeline_of_stages_as_an_object(pipe):
    by_name = edit(pipe, draw(0), "a dog", editor="sdedit", guidance_scale=3).image
    assert edit(pipe, draw(0), "a dog", editor=SDEdit(guidance=3)).image == by_name
    staged = diffedit.EditPipeline(diffedit.DiffEdit(mask=GivenMask()), PixelPaste(), samples=2)
    mask = np.zeros((32, 32), dtype=bool)
    result = edit(pipe, draw(0), "a dog", editor=staged, mask=mask)
    assert close(result.image, draw(0).crop(result.crop).resize((32, 32)))
    assert len(result.result.samples) == 2


def test_guidance_is_the_editors_own_unless_said(pipe):
    own = edit(pipe, draw(0), "a dog").image
    assert edit(pipe, draw(0), "a dog", guidance_scale=7.5).image == own
    assert edit(pipe, draw(0), "a dog", guidance_scale=1).image != own


def test_under_a_given_mask_the_outside_stays(pipe):
    """The left half is edited; the rest is what decoding the latent gives."""
    mask = Image.fromarray((np.arange(40) < 20)[None].repeat(32, 0))
    for editor in ("diffedit", "sdedit", "blended_latent", "diffedit_given"):
        result = edit(pipe, draw(0), "a dog", mask=mask, editor=editor, ratio=1.0)
        assert np.asarray(result.mask)[:, :16].all()
        assert not np.asarray(result.mask)[:, 16:].any()


def test_a_mask_that_was_found_is_the_mask_of_the_edit(pipe):
    found = diffedit.find_mask(pipe, draw(0, (48, 32)), "a dog", "a cat", num_inference_steps=N)
    edited = edit(pipe, draw(0, (48, 32)), "a dog", "a cat")
    assert found.mask == edited.mask
    assert np.array_equal(found.contrast_map, edited.contrast_map)
    assert (found.evaluations, found.crop) == (20, edited.crop)
    assert close(edit(pipe, draw(0, (48, 32)), "a dog", "a cat", mask=found.mask).image, edited.image)
    with pytest.raises(AttributeError, match="find_mask edits nothing"):
        _ = found.image
    assert found.sheet().width > 2 * 32


def test_find_mask_takes_lists_and_other_settings(pipe):
    editor = diffedit.DiffEdit(ContrastMask(num_noises=2), reference="empty")
    results = diffedit.find_mask(pipe, [draw(0), "nowhere"], "a dog", editor=editor, num_inference_steps=N)
    assert results[0].evaluations == 4
    assert "nowhere: no such file" in str(results[1].error)
    with pytest.raises(ValueError, match="masks are found by DiffEdit"):
        diffedit.find_mask(pipe, draw(0), "a dog", editor="sdedit")


def test_one_picture_is_never_padded(pipe, monkeypatch):
    """As many rows as there are, and none twice: those of the mask, of the inversion, of the guided decoding."""
    rows = []
    forward = type(pipe.unet).forward

    def count(self, x, *args, **kwargs):
        rows.append(len(x))
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(type(pipe.unet), "forward", count)
    result = edit(pipe, draw(0), "a dog")
    assert rows == [16, 4, *[1] * 3, *[2] * 3]
    assert sum(rows) == result.evaluations
    rows.clear()
    edit(pipe, draw(0), "a dog", batch_size=32)
    assert rows[0] == 20


def test_running_out_of_memory_makes_the_calls_smaller_down_to_one_row(pipe, monkeypatch):
    rows = []

    def full(self, x, *_, **__):
        rows.append(len(x))
        raise torch.OutOfMemoryError

    monkeypatch.setattr(type(pipe.unet), "forward", full)
    with pytest.raises(RuntimeError, match=r"out of memory: one row in a call.*backbone\.resolution"):
        edit(pipe, draw(0), "a dog")
    assert rows == [16, 8, 4, 2, 1]


def test_a_notebook_shows_the_sheet(pipe, tmp_path):
    result = edit(pipe, draw(0), "a dog")
    (tmp_path / "sheet.png").write_bytes(result._repr_png_())
    assert Image.open(tmp_path / "sheet.png").size == result.sheet().size
    assert repr(result) == "EditedPicture('a dog', ratio 0.5, 29 evaluations)"


@pytest.mark.parametrize("function", [diffedit.edit, diffedit.find_mask])
def test_examples_of_docstrings_run_on_still_life(function, monkeypatch):
    monkeypatch.chdir(ROOT)
    examples = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs={})
    assert sum(len(example.examples) for example in examples) >= 4
    runner = doctest.DocTestRunner()
    assert [runner.run(example).failed for example in examples] == [0]


def test_importing_the_package_is_quick():
    code = "import time; t = time.process_time(); import diffedit; print(time.process_time() - t)"
    code += "; import sys; assert not {'torch', 'diffusers', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert float(done.stdout) < 0.3


def test_everything_on_the_contents_page_is_there():
    assert {"edit", "find_mask", "run", "load_run", "score"} < set(diffedit.__all__) < set(dir(diffedit))
    for name in diffedit.__all__:
        assert getattr(diffedit, name).__doc__
