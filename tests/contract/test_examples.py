"""What is added from outside the tree: one file of at most 40 lines and one yaml, through `--include`."""

import json
import re
import runpy
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from helpers import ROOT, call, said
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, ViTConfig, ViTModel

from diffedit.backbones.latent import LatentBackbone
from diffedit.commands.include import include_packages
from diffedit.testing import TinyPipeline

EXAMPLES = ROOT / "examples"
ADDED = sorted(EXAMPLES.glob("add_*.py"))


@pytest.fixture(scope="module", autouse=True)
def _included():
    """Examples can be imported as `--include examples` makes them importable."""
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


@pytest.mark.parametrize("path", ADDED, ids=lambda path: path.stem)
def test_one_short_file_and_one_yaml(path):
    assert len(path.read_text().splitlines()) <= 40
    yamls = [each for each in (EXAMPLES / "conf").rglob("*.yaml") if f"_target_: {path.stem}." in each.read_text()]
    assert len(yamls) == 1


def test_a_method_a_bound_a_benchmark_and_a_metric_from_outside_run_and_are_scored(tmp_path):
    """Pictures of a subject with references, two editors, DINO similarity by a small random network."""
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    row = {"image": "0.png", "target": "a bowl of pears", "references": ["1.png", "2.png"]}
    (tmp_path / "subjects.json").write_text(json.dumps({"a": row, "b": row | {"image": "1.png"}}))
    sizes = {"hidden_size": 32, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(
        tmp_path / "dino"
    )

    benchmark = ["benchmark=subjects", f"benchmark.path={tmp_path}/subjects.json", "steps=4", "ratios=[0.5,1.0]"]
    editors = "editor=negative_prompt,mean_colour"
    done = call("run.py", "--include", EXAMPLES, "--multirun", editors, *benchmark, f"runs={tmp_path}/runs")
    assert done.returncode == 0, said(done)
    chosen = [f"runs={tmp_path}/runs/*/*/*/*", f"cache={tmp_path}/cache", f"out={tmp_path}/scores.csv"]
    network = f"metric.dino_similarity.network.model={tmp_path}/dino"
    done = call("score.py", "--include", EXAMPLES, *chosen, "metric=[cost,dino_similarity]", network, "columns=null")
    assert done.returncode == 0, said(done)
    table = pd.read_csv(tmp_path / "scores.csv")
    scores = table[table.metric == "dino_similarity"]
    assert set(scores.editor) == {"copy", "negative_prompt", "mean_colour"}
    assert scores[scores.editor == "copy"].value.item() == pytest.approx(1)
    assert set(table[table.is_bound].editor) == {"copy", "mean_colour"}
    printed = said(done)
    assert printed.index("mean_colour", printed.index("method")) < printed.index(
        "negative_prompt", printed.index("method")
    )


def test_references_travel_with_the_request(tmp_path):
    from add_benchmark import Subjects

    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    row = {"image": "a.png", "target": "a dog", "references": ["b.png", "a.png"]}
    (tmp_path / "subjects.json").write_text(json.dumps({str(i): row for i in range(5)}))
    subjects = Subjects(path=str(tmp_path / "subjects.json"), limit=2)
    requests = list(subjects.requests(16))
    assert len(requests) == len(subjects) == 2
    assert [load().shape for load in requests[0].extras["references"]] == [(3, 16, 16)] * 2


def test_a_method_of_ones_own_gives_the_picture_back_where_the_texts_are_equal():
    from add_method import NegativePromptInversion

    from baselines.encode_decode import EncodeDecode
    from diffedit.backbones.analytic import AnalyticBackbone
    from diffedit.engine.queries import run_alone
    from diffedit.inversion import Inversion
    from diffedit.sampling.noise import RequestNoise
    from diffedit.types import EditRequest

    backbone = AnalyticBackbone(dtype="float64")
    image = backbone.decode(backbone.means[0, :1])[0]
    schedule = backbone.schedule(200)
    for target, least, most in (("apple", 0, 0.02), ("pear", 0.05, 1)):
        request = EditRequest("a", lambda: image, target, "apple")
        program = NegativePromptInversion(5.0)(request, [0.8], schedule, RequestNoise(0, "a"))
        result = run_alone(program, backbone)
        assert least <= (result.edits[0].image - image).abs().mean() <= most
        built_in = EncodeDecode(5.0, inversion=Inversion(condition="source"), negative="source")
        for settings in ({}, {"negative": "given", "negative_text": "apple"}):
            same = replace(built_in, **settings)(request, [0.8], schedule, RequestNoise(0, "a"))
            assert torch.equal(run_alone(same, backbone).edits[0].image, result.edits[0].image)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    """A tiny pipeline in the layout of Stable Diffusion XL, random weights."""
    folder, tiny = tmp_path_factory.mktemp("sdxl"), TinyPipeline()
    torch.manual_seed(0)
    tokenizer, tokenizer_2 = (tiny.tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2"))
    settings = tiny.text_encoder(len(tokenizer)).config.to_dict() | {"hidden_size": 24, "num_attention_heads": 2}
    unet = UNet2DConditionModel(
        **dict(tiny.unet().config) | {
            "cross_attention_dim": 16 + 24,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 16,
        }
    )  # fmt: skip
    pipeline = StableDiffusionXLPipeline(
        tiny.vae(),
        tiny.text_encoder(len(tokenizer)),
        CLIPTextModelWithProjection(CLIPTextConfig(**settings)),
        tokenizer,
        tokenizer_2,
        unet,
        tiny.ddim(),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder, pipeline


def test_a_family_of_backbones_agrees_with_diffusers(sdxl):
    """Conditions and one estimate, as their pipeline makes them."""
    from add_backbone import StableDiffusionXL

    folder, pipeline = sdxl
    backbone = StableDiffusionXL.from_pretrained(str(folder), device="cpu")
    assert backbone.fingerprint
    conds = backbone.embed(["a cat", ""])
    states, _, pooled, _ = pipeline.encode_prompt("a cat", device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(conds[0][0], states[0])
    torch.testing.assert_close(conds[0][1], pooled[0])
    schedule, x = backbone.schedule(10), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = backbone.predict(x, [schedule[5]] * 2, conds).eps[0]
        side = backbone.resolution
        added = {"text_embeds": pooled, "time_ids": torch.tensor([[side, side, 0, 0, side, side]])}
        theirs = pipeline.unet(x[:1], schedule[5].timestep, states, added_cond_kwargs=added).sample[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        include_packages(["--include", "nowhere", "editor=copy"])


NOTEBOOKS = sorted(path for path in EXAMPLES.glob("*.py") if path not in ADDED)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(path, tmp_path, monkeypatch, capsys):
    """In this process, for its imports take seconds; from an empty folder, into which it writes; in six steps."""
    monkeypatch.chdir(tmp_path)
    schedule = LatentBackbone.schedule
    monkeypatch.setattr(LatentBackbone, "schedule", lambda self, steps: schedule(self, min(steps, 6)))
    assert path.read_text().count("# %%") >= 3
    runpy.run_path(str(path), run_name="__main__")
    written = {file.name for file in tmp_path.rglob("*.png")}
    expected = {
        "edit_one_picture": {"edited.png", "mask.png", "sheet.png", "edited_below.png"},
        "compare_methods": {"methods.png"},
        "own_method": {"partly_encoded.png"},
        "benchmark_of_a_folder": {"run.png", "pictures_stilllife_clip_score_over_lpips.png"},
    }
    assert expected[path.stem] <= written
    said = capsys.readouterr().out
    if path.stem == "own_method":  # at both ends it is a method that is known, but for a level of rounding
        apart = [int(number) for number in re.findall(r"at most (\d+) of 255", said)]
        assert len(apart) == 2
        assert max(apart) <= 1
    if path.stem == "benchmark_of_a_folder":
        assert "sdedit" in said
        assert "clip_score" in said
