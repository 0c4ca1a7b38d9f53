"""What is taken for the same is the same: weights, pictures, names, places.

A new kind of change is a line in `CHANGES`.
"""

import hashlib
import json
import os
import shutil
import string
import unicodedata
from dataclasses import dataclass, replace
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from helpers import Pictures, find_record
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from baselines.bounds import Copy
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.io.files import HASHED, HOST, LONGEST, fold, quote_file_name
from diffedit.mask import GivenMask
from diffedit.runs.claim import BusyError, claim
from diffedit.runs.directory import ConfigChangedError
from diffedit.runs.loop import RunFailedError, RunSettings, run_benchmark
from diffedit.runs.names import check_name
from diffedit.runs.requests import check_id
from diffedit.stages.pipeline import EditPipeline
from diffedit.testing import TinyPipeline
from diffedit.types import Variant
from eval.benchmarks.folder import FolderBenchmark


def edit(root, benchmark, backbone, editor=None, **settings):
    settings = RunSettings(**{"ratios": (0.5,), "steps": 4, "progress": False} | settings)
    return run_benchmark(benchmark, EditPipeline(editor or Copy()), backbone, root, settings)


# ------------------------------------------------------------------------------------------------------------- weights


def change_tensor(path, place):
    """One number of the tensor that stands at this share of the names, in the order of the file's names."""
    weights = load_file(path)
    name = sorted(weights)[int(place * len(weights))]
    weights[name].view(-1)[-1] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})


def change_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def merge_attention(folder):
    """As a fused LoRA leaves the UNet: an attention layer alone is other."""
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    (name, *_) = (name for name in sorted(weights) if name.endswith("attn2.to_v.weight"))
    weights[name] += 0.01 * torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(0))
    save_file(weights, path, metadata={"format": "pt"})


UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
CHANGES = {
    "an attention layer of the UNet": (merge_attention, "unet"),
    **{f"the UNet at {x}": (lambda f, x=x: change_tensor(f / UNET, x), "unet") for x in (0.1, 0.4, 0.7, 0.99)},
    **{f"the autoencoder at {x}": (lambda f, x=x: change_tensor(f / VAE, x), "vae") for x in (0.2, 0.5, 0.8)},
    "the text encoder": (lambda f: change_tensor(f / "text_encoder/model.safetensors", 0.5), "text_encoder"),
    "the schedule": (lambda f: change_json(f / "scheduler/scheduler_config.json", beta_end=0.0121), "scheduler"),
    "its spacing": (
        lambda f: change_json(f / "scheduler/scheduler_config.json", timestep_spacing="trailing"),
        "scheduler",
    ),
    "the UNet's activation": (lambda f: change_json(f / "unet/config.json", act_fn="gelu"), "unet_config"),
    "the UNet's norms": (lambda f: change_json(f / "unet/config.json", norm_eps=1e-3), "unet_config"),
    "the UNet's heads": (lambda f: change_json(f / "unet/config.json", attention_head_dim=4), "unet_config"),
    "the latents' scale": (lambda f: change_json(f / "vae/config.json", scaling_factor=0.2), "vae_config"),
    "the text encoder's activation": (
        lambda f: change_json(f / "text_encoder/config.json", hidden_act="gelu"),
        "text_encoder_config",
    ),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of a model."""
    folder = tmp_path_factory.mktemp("begun")
    weights = TinyPipeline().write(folder / "model")
    edit(folder / "run", Pictures(1), StableDiffusion.from_pretrained(str(weights), device="cpu"))
    return folder


@pytest.mark.parametrize("name", CHANGES)
def test_other_weights_are_not_gone_on_with(begun, tmp_path, name):
    """The part that changed is named, with both hashes, and no other."""
    change, part = CHANGES[name]
    model, root = shutil.copytree(begun / "model", tmp_path / "model"), begun / "run"
    change(model)
    with pytest.raises(ConfigChangedError, match=rf"weights\.{part}: [0-9a-f]{{16}} -> [0-9a-f]{{16}}") as refused:
        edit(root, Pictures(1), StableDiffusion.from_pretrained(str(model), device="cpu"))
    assert str(refused.value).count("weights.") == 1
    edit(root, Pictures(1), StableDiffusion.from_pretrained(str(begun / "model"), device="cpu"))


def test_weights_that_are_changed_while_they_are_loaded_are_not_gone_on_with(begun):
    """As a LoRA is fused into a pipeline between two calls."""
    backbone = StableDiffusion.from_pretrained(str(begun / "model"), device="cpu")
    edit(begun / "run", Pictures(1), backbone)
    with torch.no_grad():
        backbone.unet.conv_in.weight.mul_(0.8)
    with pytest.raises(ConfigChangedError, match=r"weights\.unet: "):
        edit(begun / "run", Pictures(1), backbone)


def test_how_a_network_was_saved_is_no_part_of_it(begun, tmp_path):
    """By which version of a library, under which name: the same model elsewhere goes on."""
    model = shutil.copytree(begun / "model", tmp_path / "model")
    change_json(model / "unet/config.json", _diffusers_version="0.1", _name_or_path="elsewhere")
    change_json(model / "text_encoder/config.json", transformers_version="4.0", architectures=["CLIPModel"])
    edit(begun / "run", Pictures(1), StableDiffusion.from_pretrained(str(model), device="cpu"))


def test_a_run_of_before_is_not_gone_on_with(analytic, tmp_path):
    """It knows a few tensors; the rest may be another's."""
    edit(tmp_path, Pictures(1), analytic)
    path = tmp_path / "config.yaml"
    lines = path.read_text().split("weights:\n")
    path.write_text(f"{lines[0]}weights: 0123456789abcdef\n" + lines[1].split("\n", 1)[1])
    with pytest.raises(ConfigChangedError, match=r"only some of the weights were hashed.*It can be scored as it is"):
        edit(tmp_path, Pictures(1), analytic)


# ------------------------------------------------------------------------------------------------------------ pictures


@pytest.fixture
def table(tmp_path):
    """A table of one picture and its mask."""
    draw(tmp_path / "a.png", 0)
    draw(tmp_path / "m.png", 1)
    (tmp_path / "edits.csv").write_text("image,target,mask,id\na.png,pear,m.png,one\n")
    return tmp_path / "edits.csv"


def draw(path, seed):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)


def edit_table(table, analytic, **settings):
    editor = DiffEdit(mask=GivenMask())
    return edit(table.parent / "run", FolderBenchmark(path=str(table)), analytic, editor, **settings)


@pytest.mark.parametrize(("file", "what"), [("a.png", "image"), ("m.png", "mask")])
@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_file_replaced_under_its_name_is_refused(table, analytic, file, what, keeps_time):
    """Another content; at another time, or of another size at the same."""
    edit_table(table, analytic)
    before = (table.parent / file).stat()
    if keeps_time:
        Image.new("RGB", (16, 16)).save(table.parent / file)
        os.utime(table.parent / file, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        draw(table.parent / file, 7)
    with pytest.raises(ConfigChangedError, match=f"request one is done, and .*{file} was replaced by another {what}"):
        edit_table(table, analytic)


@pytest.mark.parametrize("file", ["a.png", "m.png"])
def test_a_file_that_was_only_copied_or_touched_is_the_same(table, analytic, file):
    done = edit_table(table, analytic)
    os.utime(table.parent / file, (1, 1))
    assert edit_table(table, analytic).equals(done)


def test_a_file_that_changes_while_it_is_edited_fails_its_request(table, analytic, monkeypatch):
    from diffedit.runs.directory import RunDirectory

    write = RunDirectory.write_outcome

    def replace_and_write(self, *words):
        draw(table.parent / "a.png", 7)
        write(self, *words)

    monkeypatch.setattr(RunDirectory, "write_outcome", replace_and_write)
    with pytest.raises(RunFailedError):
        edit_table(table, analytic)
    assert "it changed while it was edited" in find_record(table.parent / "run", "one")["error"]
    monkeypatch.undo()
    assert (edit_table(table, analytic).status == "done").all()


# --------------------------------------------------------------------------------------------------------------- names


@given(st.lists(st.text(), unique=True, min_size=2, max_size=8))
def test_file_names_are_one_for_each_id_and_lead_nowhere(ids):
    """For any Unicode text: plain ASCII, short, no dot in front, no separator; two ids never have one name."""
    names = [quote_file_name(text) for text in ids]
    assert len(set(names)) == len(ids)
    for name in names:
        assert name.isascii()
        assert 1 <= len(name) <= LONGEST
        assert not name.startswith(".")
        assert not {"/", "\\", "\0", ":"} & set(name)
        assert unicodedata.normalize("NFC", name) == name


FORMS = (
    *(str.lower, str.upper, str.swapcase, str.title, str.casefold),
    *(lambda text, form=form: unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")),
)
IDS = st.text(st.one_of(st.sampled_from("abcXYZ019 ._-~%/éÉßİıKÅǅ\u0301"), st.characters(codec="utf-8")), max_size=20)
TWINS = st.builds(lambda text, form: (text, form(text)), IDS, st.sampled_from(FORMS))
ASCII = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@given(TWINS)
@example(("Cat", "cat"))
@example(("\u00e9", "e\u0301"))
@example((".Hid", ".hid"))
def test_two_names_for_two_ids_or_a_refusal(twins):
    """As a disk that folds case and accents has them: where two ids would be one file there, both are refused."""
    names = [unicodedata.normalize("NFC", quote_file_name(text)).casefold() for text in twins]
    refused = False
    try:
        known = {}
        for text in dict.fromkeys(twins):
            check_id(text, known)
    except ValueError as error:
        refused = all(repr(text) in str(error) for text in twins)
    assert refused == (len(set(twins)) == 2 and len(set(names)) == 1)


@given(TWINS)
def test_only_the_case_of_plain_letters_makes_twins(twins):
    """What differs in more than that, an accent or another alphabet's case, is told apart by its name."""
    one, other = twins
    if not any(HASHED.search(quote_file_name(text)) for text in twins):
        assert (fold(one) == fold(other)) == (one.translate(ASCII) == other.translate(ASCII))


ODD = st.one_of(
    st.builds("".join, st.tuples(st.just("."), IDS)),
    st.text(min_size=LONGEST + 1, max_size=LONGEST + 60),
    st.builds("{}~{:016x}".format, IDS, st.integers(0, 2**64 - 1)),
    st.builds(quote_file_name, st.builds(".{}".format, IDS)),
)


@given(ODD)
def test_a_hashed_name_is_nobody_elses(text):
    """Of an id that needs a hash: neither the id that is spelt like the name, nor that in other case, has its file."""
    name = quote_file_name(text)
    assert HASHED.search(name)
    assert name == f"{name[:-17]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    for twin in (name, name.swapcase(), quote_file_name(name)):
        assert quote_file_name(twin) != name


@given(IDS)
def test_any_other_name_is_its_id_quoted(text):
    """So that it is read back by anything that reads URLs."""
    name = quote_file_name(text)
    assert HASHED.search(name) or unquote(name) == text


# what is wrong with the requests, or with them and the editor; the words that name it
ASKED = {
    "ids that differ in case": (("Cat", "dog", "cat"), Copy(), "requests 'Cat' and 'cat': their files would be one"),
    "one id twice": (("a", "b", "a"), Copy(), "request 'a': two requests have this id"),
    "half a character": (("a", "\ud800"), Copy(), r"request '\\ud800': its id is no text"),
    "no masks": (("a", "b"), DiffEdit(mask=GivenMask()), "the editor takes the mask .*none of 2 has one: .*`mask`"),
    "no true masks": (("a", "b"), DiffEdit(mask=GivenMask(which="oracle")), "takes the true_mask of a request"),
}


@pytest.mark.parametrize("name", ASKED)
def test_requests_are_looked_at_before_anything_is_made(analytic, tmp_path, name):
    """Not even a folder, so that what is corrected goes by the same name, whatever else has changed."""
    ids, editor, words = ASKED[name]
    with pytest.raises(ValueError, match=words):
        edit(tmp_path / "run", Pictures(names=ids), analytic, editor)
    assert list(tmp_path.rglob("*")) == []
    assert (edit(tmp_path / "run", Pictures(names=("Cat", "dog")), analytic, steps=5).status == "done").all()


def test_a_request_that_alone_lacks_a_mask_fails_alone(analytic, tmp_path):
    @dataclass(frozen=True)
    class Masked(Pictures):
        def requests(self, resolution):
            for request in super().requests(resolution):
                has_mask = request.id != "1"
                yield replace(request, mask=(lambda: torch.ones(1, resolution, resolution)) if has_mask else None)

    with pytest.raises(RunFailedError, match="1 of 3 requests failed"):
        edit(tmp_path, Masked(), analytic, DiffEdit(mask=GivenMask()))
    assert "the request has none" in find_record(tmp_path, "1")["error"]


def test_a_benchmark_that_draws_is_looked_at_without_drawing(analytic, tmp_path):
    """Whoever is second finds out that another is at it before both draw."""

    @dataclass(frozen=True)
    class Drawn(Pictures):
        def requests(self, resolution):
            raise AssertionError("it draws")

        def read_only(self):
            return Pictures(self.count)

    with claim(tmp_path), pytest.raises(BusyError):
        edit(tmp_path, Drawn(), analytic)


def test_ids_that_only_look_alike():
    assert quote_file_name(".hid") != quote_file_name("hid~8901db6777c6d579")
    assert quote_file_name("ILSVRC2012_val_00000001") == "ILSVRC2012_val_00000001"
    assert quote_file_name("é") != quote_file_name("e\u0301")


@given(st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True))
def test_folders_of_ratios_are_one_for_each(one, other):
    assert (Variant(one).folder == Variant(other).folder) == (one == other)
    assert float(Variant(one).folder) == one


def test_ratios_a_hair_apart_have_a_folder_each(analytic, tmp_path):
    table = edit(tmp_path, Pictures(1), analytic, ratios=(0.3249999, 0.3250001), steps=20)
    assert table.level.tolist() == [6, 7]
    assert table.file.nunique() == 2
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"0.3249999", "0.3250001"}


# --------------------------------------------------------------------------------------------------------------- place


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../x", "a/b", "/a", "a\\b", "a\0b", "a\nb", " a", "a ", "x" * 256, ".hidden", "...", None],
)
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(ValueError, match=r"name = .*: the name of one folder is wanted"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "seed=1,steps=20", "ä b", "a.b", "None", 7, "x" * 255])
def test_a_plain_name_stays(name):
    assert check_name(name) == str(name)


@pytest.mark.parametrize("folder", ["images", "images/0.5", "masks", "maps", "records", "shards", "samples"])
@pytest.mark.parametrize("target", ["elsewhere", "nothing"])
def test_a_folder_of_a_run_that_leads_out_of_it_is_refused(analytic, tmp_path, folder, target):
    """Nothing is written, nor removed, where a link leads to."""
    root, elsewhere = tmp_path / "run", tmp_path / target
    edit(root, Pictures(2), analytic, DiffEdit())
    (root / folder).mkdir(exist_ok=True)  # there are no samples
    (root / folder).rename(elsewhere)
    (root / folder).symlink_to(elsewhere)
    left = elsewhere / f".a.{HOST}.{2**22 + 1}.tmp"  # a sweep would take it for that of a process that is gone
    left.touch()
    if target == "nothing":
        shutil.rmtree(elsewhere)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ValueError, match=rf"run/{folder}: a link out of the run, to {elsewhere}"):
        edit(root, Pictures(2), analytic, DiffEdit())
    after = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert {path: after.get(path) for path in before if path != root} == {
        path: time
        for path, time in before.items()
        if path != root  # a claim came and went
    }
    assert after.keys() == before.keys()


def test_a_file_in_the_place_of_a_folder_is_refused(analytic, tmp_path):
    edit(tmp_path, Pictures(1), analytic)
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "images").write_text("x")
    with pytest.raises(ValueError, match="images: a run keeps a folder there: remove what lies in its place"):
        edit(tmp_path, Pictures(1), analytic)


# ---------------------------------------------------------------------------------------------- networks beside a model


def test_another_vocabulary_is_another_clip(tmp_path):
    """Two tokens change places, of which no test sentence has one."""
    from diffedit.networks.clip import OpenClip

    folder = shutil.copytree("weights/stilllife_clip", tmp_path / "clip")
    before = OpenClip(f"local-dir:{folder}", None, "cpu").hash
    path = folder / "vocab.json"
    vocabulary = json.loads(path.read_text())
    one, other = list(vocabulary)[5:7]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    other_folder = shutil.copytree(folder, tmp_path / "other")
    (other_folder / "vocab.json").write_text(json.dumps(vocabulary))
    assert OpenClip(f"local-dir:{other_folder}", None, "cpu").hash != before
