"""Contract: every editor on every family of latent backbones, in small: texts and classes."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from helpers import composed, names
from hydra.utils import instantiate

import diffedit
from diffedit.backbones.dit import DiT
from diffedit.backbones.latent_diffusion import LatentDiffusion
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.conditions import in_words_of
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.measure import make_calls
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.pipeline import EditPipeline
from diffedit.testing import TinyDiT, TinyLatentDiffusion, TinyPipeline
from diffedit.types import Backbone, ClassName, EditRequest

RATIOS = [0.4, 1.0]
N = 3
MODELS = {
    "stable_diffusion": (StableDiffusion, TinyPipeline()),
    "latent_diffusion": (LatentDiffusion, TinyLatentDiffusion()),
    "latent_diffusion_without_null_class": (LatentDiffusion, TinyLatentDiffusion(has_null=False)),
    "dit": (DiT, TinyDiT()),
}
IN_PIXELS = {"blended_diffusion"}
LESS = {"proposition1": ("editor.jacobian_levels=1", "editor.iterations=2")}  # its default is half of this file's time
# What needs no condition but the target's: without a null class there is nothing to guide away from.
UNGUIDED = ("editor.guidance=1", "editor.inversion.condition=source_class", "editor.reference=source_class")


@cache
def load(model):
    kind, tiny = MODELS[model]
    return kind.from_pretrained(str(tiny.write(Path(mkdtemp()))), device="cpu")


def make(number, source=None):
    """A request with everything a method may want."""
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(number))
    mask = torch.zeros(1, 32, 32)
    mask[0, 8:24, 8:24] = 1
    pictures = {"mask": lambda: mask, "true_mask": lambda: mask, "true_edit": lambda: 1 - image}
    classes = {"target_class": ClassName("pear", 1, "n00000002"), "source_class": ClassName("apple", 0, "n00000001")}
    return EditRequest(str(number), lambda: image, "a pear", source, retrieved=lambda: image, **pictures, **classes)


def run(backbone, editor, *requests):
    """The outcomes of requests, by id."""
    schedule = backbone.schedule(N)

    def program(request):
        noise = RequestNoise(0, request.id)
        return in_words_of(backbone, request, lambda one: EditPipeline(editor)(one, RATIOS, schedule, noise))

    programs = [(request.id, program(request)) for request in requests]
    return {outcome.id: outcome for outcome in Engine(backbone, BatchSizes(), progress=False).run(programs)}


def build(editor, *overrides):
    cfg = composed("benchmark=folder", "benchmark.path=none", f"editor={editor}", *overrides)
    return instantiate(cfg.editor, _convert_="all")


@pytest.mark.parametrize("model", MODELS)
def test_every_backbone_keeps_the_protocol(model):
    backbone = load(model)
    assert isinstance(backbone, Backbone)
    assert backbone.conditions == ("text" if model == "stable_diffusion" else "class")
    assert len(set(backbone.fingerprint.values())) == len(backbone.fingerprint)


def pair_up():
    """Every editor and every model; what is measured of the null class is of models that have one."""
    pairs = [(editor, model) for editor in names("editor") if editor not in IN_PIXELS for model in MODELS]
    return [pair for pair in pairs if pair != ("proposition1", "latent_diffusion_without_null_class")]


@pytest.mark.parametrize(("editor", "model"), pair_up())
def test_every_editor_on_every_backbone(editor, model):
    built = build(editor, *LESS.get(editor, ()))
    if "without" in model:
        keys = {key: key.split("=")[0].split(".")[1] for key in UNGUIDED}
        built = build(editor, *(key for key, field in keys.items() if hasattr(built, field)))
    outcomes = run(load(model), built, make(0), make(1, "an apple"))
    for outcome in outcomes.values():
        if outcome.error is not None:
            raise outcome.error
        assert [edit.variant.strength for edit in outcome.result.edits] == RATIOS
        assert all(edit.image.shape == (3, 32, 32) for edit in outcome.result.edits)
        assert all(torch.isfinite(edit.image).all() for edit in outcome.result.edits)


def test_without_a_null_class_what_needs_one_is_refused_by_name():
    backbone = load("latent_diffusion_without_null_class")
    for overrides in (UNGUIDED[1:], UNGUIDED[:1] + UNGUIDED[2:], UNGUIDED[:2]):
        (outcome,) = run(backbone, build("diffedit", *overrides), make(0)).values()
        for word in ("no null class", *UNGUIDED):
            assert word in str(outcome.error)


@pytest.mark.parametrize("choice", ["source_class", "source"])
@pytest.mark.parametrize("editor", ["diffedit", "encode_decode"])
def test_without_a_null_class_guidance_leads_away_from_the_source(editor, choice):
    """By the class that the benchmark names, or by that of the source text where it names none."""
    backbone = load("latent_diffusion_without_null_class")
    request = replace(make(0, "0"), source_class=None) if choice == "source" else make(0)
    keys = ["inversion.condition", "negative", *["reference"] * (editor == "diffedit")]
    words = [f"editor.{key}={choice}" for key in keys]
    edits = []
    for guidance in (1, 5):
        (outcome,) = run(backbone, build(editor, f"editor.guidance={guidance}", *words), request).values()
        assert outcome.error is None, outcome.error
        edits.append(outcome.result.edits[-1].image)
    assert not torch.equal(*edits)


def test_a_class_that_is_not_known_fails_its_request_alone():
    backbone = load("dit")
    good = make(0)
    bad = EditRequest("bad", good.image, "a paer")
    outcomes = run(backbone, build("sdedit"), good, bad)
    assert outcomes["0"].error is None
    assert "'a paer' is none of the model's: is it pear (1)" in str(outcomes["bad"].error)


def test_a_source_text_is_the_source_class_and_its_contrast():
    """With a source text the mask is contrasted with the source class, without one with the null class."""
    backbone = load("latent_diffusion")
    with_text, without = make(0, "an apple"), make(0)
    maps = [run(backbone, build("diffedit"), one)["0"].result.contrast_map for one in (with_text, without)]
    assert not torch.equal(*maps)
    given = build("diffedit", "editor.reference=given", "editor.reference_text=apple")
    assert torch.equal(run(backbone, given, without)["0"].result.contrast_map, maps[0])
    null = build("diffedit", "editor.reference=empty")
    assert torch.equal(run(backbone, null, with_text)["0"].result.contrast_map, maps[1])
    same = build("diffedit", "editor.reference=target_class")
    assert run(backbone, same, without)["0"].result.contrast_map.abs().max() == 0


QUICK = ("dit", "latent_diffusion_without_null_class")  # with guidance and without: the others count as the first


@pytest.mark.parametrize("model", [pytest.param(one, marks=[pytest.mark.slow] * (one not in QUICK)) for one in MODELS])
def test_a_sweep_of_ten_ratios_costs_what_it_does_on_texts(model):
    """620 evaluations: 20 of the mask, 50 of the inversion, two a step and ratio of the decoding."""
    backbone, ratios = load(model), [i / 10 for i in range(1, 11)]
    overrides = UNGUIDED if "without" in model else ()
    editor, schedule = build("diffedit", *overrides), backbone.schedule(50)
    program = in_words_of(backbone, make(0), lambda one: editor(one, ratios, schedule, RequestNoise(0, "0")))
    (outcome,) = Engine(backbone, BatchSizes(), progress=False).run([("0", program)])
    assert outcome.error is None
    assert outcome.evaluations.total() == 20 + 50 + 275 * (1 if overrides else 2)


@pytest.mark.parametrize("model", ["latent_diffusion", "dit"])
def test_pictures_are_edited_by_a_folder_and_the_name_of_a_class(model, tmp_path):
    """As in a notebook; a class that is not known is the result's error."""
    folder = MODELS[model][1].write(tmp_path)
    picture = make(0).image()
    result = diffedit.edit(str(folder), picture, "Pyrus", ratio=[0.4, 1.0], num_inference_steps=N)
    assert result.error is None
    assert torch.equal(*[torch.from_numpy(np.array(one)) for one in (result.images[1.0], edit(folder, picture, "1"))])
    assert "none of the model's" in str(diffedit.edit(str(folder), picture, "a pear tree", ratio=1.0).error)


def edit(folder, picture, target):
    return diffedit.edit(str(folder), picture, target, ratio=[0.4, 1.0], num_inference_steps=N).images[1.0]


def test_a_name_of_a_class_is_part_of_what_a_run_is(tmp_path):
    folder = TinyLatentDiffusion().write(tmp_path)
    before = LatentDiffusion.from_pretrained(str(folder), device="cpu").fingerprint
    (folder / "classes.json").write_text('{"0": "pear", "1": "apple"}')
    after = LatentDiffusion.from_pretrained(str(folder), device="cpu").fingerprint
    assert {name for name in before if before[name] != after[name]} == {"classes"}


@pytest.mark.parametrize("model", MODELS)
def test_rows_a_call_can_be_measured_on_every_backbone(model):
    """Also where nothing can be asked without a class."""
    for call in make_calls(load(model)).values():
        call(2)
