"""scripts/mask_rules.py in small: its tables are those of the settings, and what is kept is not made again."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from contrast_maps import draw_map
from helpers import ROOT

from diffedit.mask import ContrastMask


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("mask_rules", ROOT / "scripts/mask_rules.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_synthetic_maps_are_those_of_the_tests(script):
    values, inside = draw_map(16, 0.1, 2, 3)
    maps, exact = script.draw_synthetic(16, 0.1, 2, 3)
    np.testing.assert_allclose(maps.mean(0), values, rtol=1e-6)
    assert np.array_equal(exact, inside)


def test_every_rule_gives_a_mask_and_that_of_the_default_is_the_settings(script):
    maps, inside = script.draw_synthetic(16, 0.1, 4, 0)
    masks = {label: rule(maps) for label, rule in script.RULES.items()}
    assert {mask.shape for mask in masks.values()} == {(16, 16)}
    assert np.array_equal(
        masks["two_classes (default)"], ContrastMask().binarise(torch.from_numpy(maps.mean(0)))[0, 0].numpy()
    )
    ious = {label: script.compute_iou(mask, inside) for label, mask in masks.items()}
    assert all(iou > 0.5 for iou in ious.values()), ious
    assert script.find_best(maps, inside) >= max(iou for label, iou in ious.items() if "each" not in label)


def test_a_table_has_a_row_a_rule_and_the_networks_are_not_asked_twice(script, tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    exact = np.zeros((6, 64, 64), dtype=bool)
    for i, picture in enumerate(exact):
        picture[: 4 * (i + 1), :40] = True
    scale = np.where(exact[:, ::4, ::4], 4, 1)[:, None, None]
    differences = (scale * (1 + rng.standard_normal((6, 10, 4, 16, 16)))).astype(np.float32)
    np.savez(tmp_path / "scenes-test-6.npz", differences=differences, exact=exact)
    monkeypatch.setattr(sys, "argv", [*f"x --benchmarks scenes --split test --count 6 --out {tmp_path}".split()])
    script.main()
    text = capsys.readouterr().out
    assert "`stilllife_scenes`, test split, n = 6" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(script.RULES) + 2
    assert "agreement of the noises" in text
    ceiling, best, default = (float(row.split("|")[2].split("±")[0]) for row in rows[:3])
    assert ceiling == 1
    assert best >= default > 0.8
