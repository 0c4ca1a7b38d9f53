"""Runs of before: their configs and records in today's names."""

import copy

import pytest
from hydra.utils import get_class, get_method

from diffedit.runs.migrate import FORMAT, MOVED, RENAMED_CLASSES, migrate_config, migrate_record

OLD = {
    "editor": {
        "_target_": "diffedit.editor.DiffEdit",
        "inversion_label": "destination",
        "mask": {
            "_target_": "diffedit.mask.ContrastMask",
            "noises": 10,
            "strength": 0.5,
            "smooth": 0.0,
            "extremes": {"_target_": "diffedit.mask.NoExtremes"},
        },
    },
    "reconstruct": {"_target_": "diffedit.reconstruct.Bare"},
    "rank": {"_target_": "eval.networks.clip.ClipRank", "clip": {"_target_": "eval.networks.clip.OpenClip"}},
    "benchmark": {
        "_target_": "eval.benchmarks.coco.CocoBison",
        "resize": {"_target_": "eval.images.Resize", "policy": "crop"},
    },
    "engine": {"batch": {"call": 4}, "window": None, "texts": 512},
}
NEW = {
    "editor": {
        "_target_": "diffedit.diffedit.DiffEdit",
        "inversion": {"timestep": "destination", "condition": "empty", "text": None},
        "mask": {
            "_target_": "diffedit.mask.ContrastMask",
            "num_noises": 10,
            "noise_strength": 0.5,
            "blur": 0.0,
            "outliers": {"_target_": "diffedit.mask.KeepOutliers"},
        },
    },
    "reconstruct": {"_target_": "diffedit.stages.background.NoReconstruction"},
    "rank": {"_target_": "diffedit.stages.rank.ClipRank", "clip": {"_target_": "diffedit.networks.clip.OpenClip"}},
    "benchmark": {
        "_target_": "eval.benchmarks.coco.CocoBison",
        "resize": {"_target_": "diffedit.io.images.Resize", "policy": "crop"},
    },
    "engine": {"batch": {"custom": 4}, "max_live": None, "embedding_cache": 512},
    "is_bound": False,
    "strength_name": "ratio",
    "format": FORMAT,
}


def test_an_old_config_has_todays_names():
    before = copy.deepcopy(OLD)
    assert migrate_config(OLD) == NEW
    assert before == OLD
    assert migrate_config(NEW) == NEW


@pytest.mark.parametrize("target", [*RENAMED_CLASSES.values(), "diffedit.io.images.Resize"])
def test_what_they_are_called_now_is_there(target):
    get_class(target)


def test_a_class_that_took_a_path_is_loaded_now():
    """Also where it lies deep in a config: of a benchmark that draws its pictures."""
    before = {"_target_": "diffedit.backbones.stable_diffusion.StableDiffusion", "path": "a"}
    now = {"_target_": "diffedit.backbones.stable_diffusion.StableDiffusion.from_pretrained", "path": "a"}
    get_method(now["_target_"])
    config = {"format": 2, "backbone": before, "benchmark": {"text_to_image": {"backbone": before}}}
    migrated = {"format": FORMAT, "backbone": now, "benchmark": {"text_to_image": {"backbone": now}}}
    assert migrate_config(config) == migrated
    assert migrate_config(migrated) == migrated
    assert migrate_config({"backbone": before})["backbone"] == now


def test_an_inversion_of_before_is_an_object_where_it_was():
    old = {"format": 3, "editor": {"start": "encode", "inversion_timestep": "source", "reference": "auto"}}
    editor = {"start": "encode", "inversion": {"timestep": "source", "condition": "empty", "text": None}}
    editor |= {"reference": "auto", "reference_text": None}
    assert migrate_config(old) == {"format": FORMAT, "editor": editor}
    assert list(migrate_config(old)["editor"]) == list(editor)


def test_a_class_is_moved_by_the_longest_prefix():
    assert set(MOVED.values()) >= {"eval.stilllife", "diffedit.stages.rank"}
    config = {"benchmark": {"_target_": "eval.benchmarks.stilllife.benchmarks.StillLifeScenes"}}
    assert migrate_config(config)["benchmark"]["_target_"] == "eval.stilllife.benchmarks.StillLifeScenes"


def test_bounds_of_before_are_bounds():
    assert migrate_config({"editor": {"_target_": "baselines.bounds.RoundTrip"}})["is_bound"]


def test_captions_of_still_life_are_a_benchmark_of_their_own():
    truth = {"_target_": "hydra.utils.get_method", "path": "eval.benchmarks.stilllife.generated.truth"}
    old = {"_target_": "eval.benchmarks.generated.Generated", "sampler": {}, "grammar": {"slots": {}, "truth": truth}}
    new = {"_target_": "eval.stilllife.generated.StillLifeGenerated", "text_to_image": {}, "grammar": {"slots": {}}}
    assert migrate_config({"benchmark": old})["benchmark"] == new


def test_a_benchmark_that_is_gone_is_refused_with_what_to_do():
    old = {"benchmark": {"_target_": "eval.benchmarks.stilllife.generated.StillLifeGenerated"}}
    with pytest.raises(ValueError, match=r"StillLifeGenerated is no longer there: .*benchmark=stilllife_generated"):
        migrate_config(old)


def test_records_of_before_have_variants():
    old = {
        "id": "a",
        "notes": {"mask_area": 0.5},
        "edits": [{"ratio": 0.5, "file": "a.png"}],
        "samples": [{"ratio": 1}],
    }
    new = {
        "id": "a",
        "metadata": {"mask_area": 0.5},
        "edits": [{"variant": "ratio=0.5", "file": "a.png"}],
        "samples": [{"variant": "ratio=1.0"}],
    }
    assert migrate_record(old) == new
    assert migrate_record(new) == new
