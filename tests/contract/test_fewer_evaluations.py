"""scripts/fewer_evaluations.py on a tiny pipeline: what it measures, and that it goes on where it was."""

import importlib.util
import json
import math
import sys

import pandas as pd
import pytest
import torch
from helpers import ROOT

from baselines.encode_decode import EncodeDecode
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import Engine
from diffedit.engine.queries import run_alone
from diffedit.mask import GivenMask
from diffedit.sampling.ddim import ddim_sample
from diffedit.sampling.noise import RequestNoise
from eval.stilllife.benchmarks import StillLifeScenes


@pytest.fixture(scope="module")
def script():
    """The script as a module, with fewer noises."""
    spec = importlib.util.spec_from_file_location("fewer_evaluations", ROOT / "scripts/fewer_evaluations.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.MANY, module.SEEDS, module.NOISES, module.USUAL, module.INTERVALS = 4, 2, (2,), 6, ((0.5, 1.0),)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from diffedit.testing import TinyPipeline

    return str(TinyPipeline(latent=16, tokens=77).write(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def backbone(script, weights):
    return script.StableDiffusion.from_pretrained(weights, device="cpu")


def measure(script, weights, out, monkeypatch, capsys, pictures=2):
    """What it prints, and how many rows its network was asked for."""
    rows = []
    predict = script.StableDiffusion.predict

    def count(self, x, *rest):
        rows.append(len(x))
        return predict(self, x, *rest)

    few = ["--steps", "3", "6", "--variant-steps", "3", "--interval-steps", "3", "--reference", "8"]
    few += ["--ratios", "0.5", "1", "--pictures", str(pictures)]
    monkeypatch.setattr(script.StableDiffusion, "predict", count)
    monkeypatch.setattr("sys.argv", ["fewer_evaluations.py", *few, "--out", str(out), "--weights", weights])
    script.main()
    monkeypatch.undo()
    return capsys.readouterr().out, sum(rows)


@pytest.mark.slow
def test_it_measures_reports_and_goes_on_where_it_was_killed(script, weights, tmp_path, monkeypatch, capsys):
    said, asked = measure(script, weights, tmp_path, monkeypatch, capsys)
    records = [json.loads(line) for line in (tmp_path / "measurements.jsonl").read_text().splitlines()]
    edits = pd.DataFrame([record for record in records if record["kind"] != "map"])
    ways = 2 * 3 + 3 + 2 * 2 + 2  # DDIM of 3 and 6 steps, of other spacing, two solvers of 3 steps, one interval
    assert len(edits) == 2 * (ways + 3) * 2  # the reference too, of each kind
    assert len(records) - len(edits) == 2 * 2 * 2  # pictures, plain and in pairs, seeds
    plain = edits[(edits.setting == "6 steps") & (edits.ratio == 0.5)].groupby("kind").evaluations.first()
    assert dict(plain) == {"unmasked": 9, "fixed mask": 9, "own mask": 29}  # level 3 up, twice down, 10 noises twice
    guided = edits[(edits.family == "guided in (0.5, 1]") & (edits.ratio == 1)]
    assert set(guided.evaluations) == {3 + 2 * 2 + 1}  # of levels 3, 2 and 1 the last is not guided
    for words in ("### own mask", "3 steps, trailing, 2M", "over that of 6 steps", "contrast maps"):
        assert words in said
    summary = json.loads((tmp_path / "summary.json").read_text())
    rows = {(row["setting"], row["kind"]): row for row in summary["edits"]}
    assert rows["6 steps", "unmasked"]["over_usual"] == 1
    few, usual = (edits[(edits.setting == f"{n} steps") & (edits.kind == "unmasked")] for n in (3, 6))
    quotients = few.error.to_numpy() / usual.error.to_numpy()
    assert rows["3 steps", "unmasked"]["over_usual"] == pytest.approx(quotients.prod() ** (1 / 4))
    assert rows["3 steps", "unmasked"]["error"] == pytest.approx(few.error.mean())
    same = rows["8 steps", "own mask"]
    assert (same["error"], same["distance"], same["iou"], same["lpips_shift"]) == (0, 0, 1, 0)
    assert same["evaluations"] == (4 + 8) / 2 * 3 + 20
    assert (tmp_path / "summary.png").stat().st_size > 10_000

    path = tmp_path / "measurements.jsonl"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])  # killed within a line
    repeated = measure(script, weights, tmp_path, monkeypatch, capsys)[1]
    assert 0 < repeated < 0.6 * asked
    again = json.loads((tmp_path / "summary.json").read_text())
    for name in ("edits", "maps"):  # but for the last bits: other rows met in a batch
        pd.testing.assert_frame_equal(*(pd.DataFrame(one[name]) for one in (summary, again)), rtol=1e-3)
    assert measure(script, weights, tmp_path, monkeypatch, capsys)[1] == 0
    with pytest.raises(SystemExit, match="take another --out"):
        script.Store(tmp_path, {"reference": 9})


def test_its_levels_are_the_backbones_and_its_solver_of_first_order_is_ddim(script, backbone):
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    target, empty = backbone.embed(["pears", ""])
    assert script.Setting(10).schedule(backbone).levels == backbone.schedule(10).levels
    trailing = script.Setting(10, "trailing").schedule(backbone)
    assert [level.timestep for level in trailing.levels[1:]] == list(range(99, 1000, 100))
    for schedule in (backbone.schedule(10), trailing):
        one, two = (
            run_alone(
                script.sample_multistep(x, 7, schedule, script.make_solver(backbone, order), target, empty, 7.5),
                backbone,
            )
            for order in (1, 2)
        )
        ddim = run_alone(ddim_sample({7: x}, schedule, target, empty, 7.5), backbone)[7]
        torch.testing.assert_close(one, ddim, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(two, ddim, atol=1e-3)


def test_its_solver_blends_as_diffedit_does(script, backbone):
    """Of first order, through the whole edit: DiffEdit under a given mask, Encode-Decode without one."""
    request = next(StillLifeScenes(size=1).requests(64))
    schedule, noise, ratios = backbone.schedule(6), RequestNoise(0, request.id), [0.5, 1.0]
    first = script.partial(script.make_solver, backbone, 1)
    bare = script.replace(request, mask=None)
    for one, editor in ((request, DiffEdit(mask=GivenMask())), (bare, EncodeDecode())):
        ours = run_alone(editor(one, ratios, schedule, noise), backbone)
        theirs = run_alone(script.edit_multistep(one, ratios, schedule, noise, first), backbone)
        assert (ours.mask is None) == (theirs.mask is None)
        for a, b in zip(ours.edits, theirs.edits, strict=True):
            torch.testing.assert_close(a.image, b.image, atol=1e-4, rtol=1e-4)


def test_an_edit_by_itself_costs_what_is_counted(script, backbone):
    """Together three ratios share an inversion and a mask; the count is that of each alone."""
    request = next(StillLifeScenes(size=1).requests(64))

    def run(ratios):
        program = DiffEdit()(request, ratios, backbone.schedule(6), RequestNoise(0, "a"))
        (outcome,) = Engine(backbone, progress=False, pad=False).run([("a", program)])
        return outcome

    together, levels = run([0.5, 1.0]), [3, 6]
    assert script.count_single(together, levels) == [run([r]).evaluations.total() for r in (0.5, 1.0)] == [29, 38]


def test_quotients_are_geometric_means(script):
    """0.5 of each is 0.5 without any spread; 2 and 1/2 cancel."""
    assert script.find_quotient(pd.Series([0.5, 0.5]).apply(math.log)) == pytest.approx((0.5, 0.5, 0.5))
    quotient, low, high = script.find_quotient(pd.Series([2.0, 0.5, 4.0, 0.25]).apply(math.log))
    assert quotient == pytest.approx(1)
    assert 0.25 <= low < 1 < high <= 4
    assert math.isnan(script.find_quotient(pd.Series([1.0]))[1])


def test_masks_that_are_both_empty_agree(script):
    empty, left = torch.zeros(1, 1, 2, 2, dtype=torch.bool), torch.eye(2, dtype=torch.bool)[None, None]
    assert script.compare_masks(empty, empty) == 1
    assert script.compare_masks(left, empty) == 0
    assert script.compare_masks(left, torch.ones_like(left)) == 0.5
