"""The name of a run: what was overridden, and nothing that does not change the pictures."""

import pytest

from diffedit.runs.names import LONGEST, name_run, slugify

SCENES, COCO = "eval.stilllife.benchmarks.StillLifeScenes", "eval.benchmarks.coco.CocoBison"


@pytest.mark.parametrize(
    ("overrides", "benchmark", "name"),
    [
        ("", SCENES, "default"),
        ("benchmark=coco,editor=sdedit,backbone=sd15", COCO, "default"),
        ("engine.threads=4,engine.progress=false,on_error=stop,runs=/a/b", SCENES, "default"),
        ("steps=20,ratios=[0.3,0.5]", SCENES, "steps=20,ratios=0.3,0.5"),
        ("benchmark.images=/data/coco,benchmark.limit=100", COCO, "benchmark.limit=100"),
        ("editor/mask=given,steps=20", SCENES, "editor-mask=given,steps=20"),
        ("+extra=1,~benchmark.size=2,steps=4", SCENES, "+extra=1,-benchmark.size=2,steps=4"),
    ],
)
def test_a_name_has_what_changes_the_pictures(overrides, benchmark, name):
    assert name_run(overrides, benchmark) == name


def test_a_long_name_is_cut_and_keeps_its_experiment():
    names = [slugify(f"steps={i},{'a.long.setting=1,' * 20}experiment=coco_tradeoff") for i in (1, 2)]
    assert all(len(name) <= LONGEST and "experiment=coco_tradeoff" in name for name in names)
    assert names[0] != names[1]
