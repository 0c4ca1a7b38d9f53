"""What a run wrote and what lies there now: scores refuse a difference in what they open; other runs are scored.

A new kind of damage is a line in `DAMAGE`.
"""

import json
import shutil

import numpy as np
import pytest
from helpers import edit_few_scenes

import diffedit
from diffedit.diffedit import DiffEdit
from eval.metrics.ground_truth import MaskIou
from eval.reporting.contact_sheet import draw_run_sheet
from eval.scoring.finished_run import FinishedRun
from eval.scoring.score import Settings, score_runs

EDIT, MASK, MAP, RECORD = "images/0.5/{}.png", "masks/{}.png", "maps/{}.npy", "records/{}.json"
FIRST = "00000-fruits"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return edit_few_scenes(tmp_path_factory.mktemp("finished"), DiffEdit())


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "runs/stilllife_scenes/tiny/diffedit/default")


def swap(root, file):
    """The files of two requests change places: each is whole, and neither is its own."""
    one, other = (root / file.format(name) for name in (FIRST, "00001-vessel"))
    contents = one.read_bytes(), other.read_bytes()
    assert contents[0] != contents[1]
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])


def cut(root, file):
    path = root / file.format(FIRST)
    path.write_bytes(path.read_bytes()[:-9])


def rewrite(root, file, content):
    (root / file.format(FIRST)).write_text(content)


DAMAGE = {
    "edits swapped": (lambda root: swap(root, EDIT), "changed after the run wrote it"),
    "an edit cut": (lambda root: cut(root, EDIT), "changed after the run wrote it"),
    "masks swapped": (lambda root: swap(root, MASK), "changed after the run wrote it"),
    "a mask cut": (lambda root: cut(root, MASK), "changed after the run wrote it"),
    "a mask gone": (lambda root: (root / MASK.format(FIRST)).unlink(), "masks/00000-fruits.png"),
    "a record cut": (lambda root: cut(root, RECORD), "1 of 2 requests have no edits"),
    "a record null": (lambda root: rewrite(root, RECORD, "null"), "1 of 2 requests have no edits"),
    "a config of a number": (lambda root: rewrite(root, "config.yaml", "3"), ""),
    "a config of a list": (lambda root: rewrite(root, "config.yaml", "- 1"), ""),
    "a config without a benchmark": (lambda root: rewrite(root, "config.yaml", "format: 3\nratios: [0.5]"), ""),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_named_and_the_others_are_scored(run, tmp_path, caplog, name):
    damage, words = DAMAGE[name]
    whole = shutil.copytree(run, run.with_name("whole"))
    damage(run)
    assert score_runs([run, whole], {"mask_iou": MaskIou()}, Settings(tmp_path / "cache")) == [whole]
    assert f"{run}: not scored" in caplog.text
    assert words in caplog.text


def test_a_sheet_and_a_notebook_refuse_a_map_that_changed(run):
    values = np.load(run / MAP.format(FIRST))
    np.save(run / MAP.format(FIRST), values + 1)
    with pytest.raises(OSError, match=r"00000-fruits.npy: truncated or changed"):
        draw_run_sheet([FinishedRun(run)], 2)
    with pytest.raises(OSError, match=r"00000-fruits.npy: truncated or changed"):
        diffedit.load_run(run).contrast_map(FIRST)
    assert diffedit.load_run(run).contrast_map("00001-vessel") is not None


def test_a_run_of_before_has_hashes_of_edits_alone(run, tmp_path):
    """It is scored; what it does not know of its masks it cannot compare."""
    for path in (run / "records").iterdir():
        record = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in record.items() if key not in ("files", "sources")}))
    other = shutil.copytree(run, run.with_name("other"))
    swap(run, MASK)
    swap(other, EDIT)
    assert score_runs([run, other], {"mask_iou": MaskIou()}, Settings(tmp_path / "cache")) == [run]
