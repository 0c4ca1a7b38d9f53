"""scripts/bench.py: each sub-command in a tiny setting, what it writes, and what it counts."""

import json
import re
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import ROOT, Pictures
from PIL import Image

from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.commands.run import read_settings
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import Engine
from diffedit.engine.sizes import choose_sizes
from diffedit.io.compose import compose
from diffedit.sampling.noise import RequestNoise

SCRIPTS = str(ROOT / "scripts")
NUMERICS = ["float32", "float32, another seed", "bfloat16", "float32,compiled"]
PAGES = [ROOT / "docs/performance.md", ROOT / "docs/commands.md", ROOT / "docs/results.md"]
PAGES += [ROOT / "docs/clusters.md"]


@pytest.fixture(scope="module", autouse=True)
def parts():
    """The script's folder is where it finds its parts."""
    sys.path.insert(0, SCRIPTS)
    yield
    sys.path.remove(SCRIPTS)


@pytest.fixture
def bench(tmp_path, capsys, monkeypatch):
    """Runs a sub-command in a tiny setting; returns its result. Every panel that it draws has to hold something."""
    from bench import main
    from bench_parts.report import Report

    save = Report.save

    def save_drawn(self, results, tables, draw):
        def draw_all(figure):
            draw(figure)
            shown.extend(axes.has_data() for axes in figure.axes if axes.get_visible())

        shown = []
        save(self, results, tables, draw_all)
        drawn.append(shown)

    drawn = []
    monkeypatch.setattr(Report, "save", save_drawn)

    def run(name, *words):
        code = main([name, "--tiny", "--threads", "1", "--out", str(tmp_path), *map(str, words)])
        assert code == 0, capsys.readouterr().err
        assert drawn
        assert drawn[-1]
        assert all(drawn[-1])
        text = (tmp_path / "result.md").read_text()
        assert max(map(len, text.splitlines())) <= 100
        assert text in capsys.readouterr().out
        with Image.open(tmp_path / "result.png") as picture:
            assert min(picture.size) >= 400
        result = json.loads((tmp_path / "result.json").read_text())
        assert {"benchmark", "settings", "environment", "results", "notes"} <= set(result)
        assert result["benchmark"] == name
        assert {"git", "packages", "device", "threads", "cores", "load_before", "load_after"} <= set(
            result["environment"]
        )
        return result["results"]

    return run


def is_spread(values, repeats):
    return len(values["raw"]) == repeats and values["low"] <= values["median"] <= values["high"]


def test_peers_count_and_agree(bench):
    """Rows of both sides' UNets, by a hook, are those of the closed form; and the pictures are the same."""
    result = bench("peers", "--no-pad", "--ratios", 4, "--steps", 10, "--methods", "diffedit")
    found = {row["side"]: row for row in result["sides"]}
    # N = 10, levels 3, 5, 7, 9: masks of 20 or 40, inversions of 9 or 24 (48 where guided), decodings of 48.
    expected = {"ours": 77, "documented": 136, "batched": 136, "unguided": 112, "shared": 97}
    assert {side: row["rows"] / 2 for side, row in found.items()} == expected
    check_sides(result)
    assert result["agreement"]["diffedit"]["mask"] == 0


def test_baselines_count_and_agree(bench):
    """SDEdit and img2img, blended latents and inpaint: 2 * 8 evaluations each at r = 0.8 of N = 10."""
    result = bench("peers", "--no-pad", "--ratios", 1, "--steps", 10, "--methods", "sdedit", "blended_latent")
    found = {(row["method"], row["side"]): row["rows"] / 2 for row in result["sides"]}
    assert set(found) == {(m, side) for m in ("sdedit", "blended_latent") for side in ("ours", "one", "batched")}
    assert set(found.values()) == {16}
    check_sides(result)


def check_sides(result):
    for row in result["sides"]:
        assert row["rows"] == row["evaluations"] == row["closed_form"]
        assert is_spread(row["seconds"], 1)
        assert row["times_ours"]["median"] == pytest.approx(row["seconds"]["median"] / result_of_ours(result, row))
    for found in result["agreement"].values():
        assert found["picture"] < 1e-4


def result_of_ours(result, row):
    (ours,) = (one for one in result["sides"] if (one["method"], one["side"]) == (row["method"], "ours"))
    return ours["seconds"]["median"]


def test_closed_forms_of_fifty_steps():
    from bench_parts import peers
    from bench_parts.ours import choose_ratios

    levels = [round(50 * ratio) for ratio in choose_ratios([10], 50)[10]]
    counts = [peers.count_ours, peers.count_documented, peers.count_unguided, peers.count_shared]
    assert [count(levels) for count in counts] == [620, 1140, 865, 640]


def test_sides_that_differ_are_refused(bench, monkeypatch, tmp_path, capsys):
    from bench import main
    from bench_parts import agreement

    monkeypatch.setattr(agreement, "GUIDANCE", 7.4)  # of theirs and of our decoding, not of our SDEdit
    assert main(["peers", "--tiny", "--methods", "sdedit", "--out", str(tmp_path)]) == 1
    assert "sdedit: picture: both sides differ by" in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()


def test_too_few_steps_are_refused(capsys, tmp_path):
    from bench import main

    assert main(["peers", "--tiny", "--steps", "3", "--out", str(tmp_path)]) == 2
    assert "--steps 3 is too few for 4 ratios" in capsys.readouterr().err


@pytest.mark.parametrize("ratio", [0.1, 0.29, 0.57, 0.58, 0.7, 1.0])
def test_their_strength_begins_at_our_level(ratio):
    from bench_parts.theirs import find_strength

    from diffedit.sampling.schedule import find_level

    strength = find_strength(ratio, 50)
    assert min(int(50 * strength), 50) == find_level(ratio, 50)
    assert strength <= 1


@pytest.mark.slow
def test_call(bench):
    rows = bench("call")["calls"]
    assert [row["ratios"] for row in rows] == [1, 4]
    for row in rows:
        assert all(is_spread(row[name], 1) for name in ("diffedit.edit", "diffusers", "share_of_theirs"))
        share = row["diffedit.edit"]["raw"][0] / row["diffusers"]["raw"][0]
        assert row["share_of_theirs"]["median"] == pytest.approx(share)


def test_engine(bench):
    result = bench("engine", "--files")
    assert [run["run"] for run in result["runs"]] == ["in memory", "with files"]
    # two pictures, N = 10, r = 0.8; two texts each, at least three apart, and the empty one
    asked = result["rows_asked"]
    assert (asked["predict"], asked["encode"], asked["decode"]) == (2 * (20 + 8 + 16), 2, 2)
    assert 3 <= asked["embed"] <= 5
    for run in result["runs"]:
        assert is_spread(run["wall"], 1)
        ratios = [wall / bare for wall, bare in zip(run["wall"]["raw"], run["bare"]["raw"], strict=True)]
        assert run["wall_over_bare"]["raw"] == pytest.approx(ratios)
        assert run["rows_called"]["predict"] >= asked["predict"]
    assert result["padded_share"] == pytest.approx(result["runs"][0]["rows_called"]["predict"] / 88 - 1)


def test_batch(bench):
    result = bench("batch")
    found = {(curve["kind"], curve["format"]): curve for curve in result["curves"]}
    # the setting does not reach the autoencoder, which is not measured twice
    assert ("predict", "channels_last") in found
    for curve in found.values():
        assert set(curve["rows_a_second"]) == {"1", "4"}
        assert all(is_spread(seconds, 2) for seconds in curve["seconds"].values())
        assert curve["knee"] in (1, 4)
    words = result["suggested"]["float32"].split()
    assert {word.partition("=")[0] for word in words} == {
        *(f"engine.batch.{kind}" for kind in ("predict", "encode", "decode")),
        "backbone.memory_format",
    }


def test_the_knee_is_the_fewest_rows_near_the_best():
    from bench_parts.measure import Timing
    from bench_parts.networks import find_best, find_knee

    rates = {1: 50, 8: 94, 16: 96, 32: 100, 64: 90}
    timings = {n: Timing([n / rate]) for n, rate in rates.items()}
    assert (find_best(timings), find_knee(timings), find_knee(timings, 0.07)) == (32, 16, 8)


def test_numerics(bench, compiler):
    """float32 differs from itself by nothing; bfloat16 by something; another seed by more."""
    met, modes = compiler
    result = bench("numerics", "--ways", "bfloat16", "float32,compiled")
    first, reseeded, half, compiled = ({row["way"]: row for row in result["ways"]}[name] for name in NUMERICS)
    assert (modes, compiled["pixels"], bool(met)) == (["default"], 0, True)  # by a compiler that changes nothing
    assert (first["pixels"], first["lpips"], first["iou"], first["lpips_shift"]) == (0, 0, 1, 0)
    assert half["pixels"] > 0
    assert first["speed"] == {"median": 1, "low": 1, "high": 1}
    assert reseeded["speed"] is None
    assert half["speed"]["median"] > 0


def test_large_runs_in_shards(bench):
    result = bench("shards", "--only-large", "--requests", 2, 4)
    assert [one["requests"] for one in result["large"]] == [2, 4]
    assert all(one[key] > 0 for one in result["large"] for key in ("cpu_ms", "peak_mb", "merge_s", "status_s"))


@pytest.mark.slow
def test_shards(bench):
    """Processes of their own: half a minute of imports."""
    result = bench("shards", "--scored", 2)
    assert result["scored"][0]["edits"] == 14
    assert result["scored"][0]["peak_mb"] > 0
    for name in ("throughput", "overhead"):
        assert 0 < result[name]["low"] <= result[name]["median"] <= result[name]["high"]
    assert len(result["two"]) == len(result["one"]) == 1


def test_a_way_that_is_not_known_is_refused(tmp_path, capsys):
    from bench import main

    assert main(["numerics", "--tiny", "--ways", "int8,compiled", "--out", str(tmp_path)]) == 2
    assert "'int8' is none of float32, bfloat16" in capsys.readouterr().err


def test_pipeline(bench):
    result = bench("pipeline")
    assert set(result["parts"]) == {
        *("reading", "encoding", "text", "predicting", "decoding", "writing", "engine and the rest", "scoring")
    }
    in_line = [part["share"]["raw"] for part in result["parts"].values() if not part["beside"]]
    for shares in zip(*in_line, strict=True):
        assert sum(shares) == pytest.approx(1)
    assert all(part["seconds"]["low"] > 0 for part in result["parts"].values())


@pytest.mark.slow
def test_each_point_has_a_process_of_its_own(bench):
    check_growth(bench("growth")["axes"])


def test_growth(bench, monkeypatch):
    """The same in threads: processes of their own import for seconds."""
    from bench_parts import growth

    monkeypatch.setattr(growth, "make_pool", lambda: ThreadPoolExecutor(1))
    check_growth(bench("growth")["axes"])


def check_growth(axes):
    assert set(axes) == {"ratios", "memory"}
    # N = 10: a mask of 20; ratios 0.8, then 0.5 and 1; four pictures, or as many as are asked
    assert [point["evaluations"] for point in axes["ratios"]["points"]] == [2 * (20 + 8 + 16), 2 * (20 + 10 + 30)]
    for axis in axes.values():
        assert {"slope", "exponent", "memory_growth"} <= set(axis)
        assert all(50 < point["peak_mb"]["median"] < 4000 for point in axis["points"])


def test_growth_is_fitted():
    from bench_parts.growth import fit

    points = [{"x": x, "seconds": {"median": 3 * x}, "peak_mb": {"median": 100 + x}} for x in (1, 2, 10)]
    found = fit(points)
    assert found == {"slope": pytest.approx(3), "exponent": pytest.approx(1), "memory_growth": pytest.approx(9 / 101)}


@pytest.mark.slow
def test_peak_memory_is_seen():
    """What a point holds shows in its peak, and not in that of the next one."""
    from bench_parts.growth import make_pool

    code = "(lambda block: __import__('bench_parts.growth').growth.read_peak())(b'x' * {} * 10**6)"
    with make_pool() as pool:
        before, held, after = (pool.submit(eval, code.format(mb)).result() for mb in (1, 200, 1))
    assert held - before == pytest.approx(200, abs=20)
    assert after == pytest.approx(before, abs=20)


def test_gpu(bench):
    result = bench("gpu")
    sides = {(row["job"], row["side"]): row for row in result["sides"]}
    assert {job for job, _ in sides} == {"edit", "sweep"}
    assert {side for _, side in sides} == {"ours, eager", "documented", "batched", "unguided"}
    (bare,) = result["bare"]
    for (job, _), row in sides.items():
        assert row["evaluations"] == {"edit": 20 + 8 + 16, "sweep": 20 + 9 + 48}[job]
        assert row["floor_seconds"] == pytest.approx(row["evaluations"] * bare["flops_a_row"] / bare["matmul_flops"])
        assert row["times_floor"] == pytest.approx(row["seconds_a_picture"]["median"] / row["floor_seconds"])
        assert is_spread(row["seconds_a_picture"], 1)
    assert result["agreement"]["float32"]["mask"] == 0
    rows = {row["job"]: (row["asked"], row["called"]) for row in result["rows"]}
    # no padding: an inversion asks 1 row, a map 20, decodings 2 to 8; and the first call of each size is made again
    twice = {2: (1 + 2, 1 + 2), 8: (1 + 4 + 2, 1 + 4 + 2 + 8)}[bare["best_rows"]]
    assert rows == {"edit": (44, 44 + twice[0]), "sweep": (77, 77 + twice[1])}


@pytest.fixture
def compiler(monkeypatch):
    """Stands in for `torch.compile`, which takes a minute; (rows of the calls that it sees, modes that are asked)."""

    class Compiled(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x, *args, **kwargs):
            met.append(len(x))
            return self.network(x, *args, **kwargs)

    met, modes = [], []
    monkeypatch.setattr(torch, "compile", lambda network, mode, dynamic: modes.append(mode) or Compiled(network))
    return met, modes


@pytest.fixture
def gpu_bench(tiny_folder, monkeypatch):
    """What the parts of `gpu` share, in float16 on the CPU, with the settings that it found for the bare UNet."""
    from bench import make_parser
    from bench_parts import gpu

    words = ["gpu", "--tiny", "--matrix", "64", "--rows", "8", "--steps", "4", "--dtypes", "float16"]
    monkeypatch.setitem(gpu.RATIOS, 4, (0.5, 1.0))
    args = make_parser(words).parse_args(words)
    budget = gpu.Budget(time.perf_counter() + 1000, [])
    results = {"bare": [], "sides": [], "agreement": {}, "rows": []}
    bench = gpu.Bench(str(tiny_folder), torch.device("cpu"), args, results, budget, lambda: None)
    return bench, gpu.measure_bare(bench.path, "float16", bench.device, args, results)


def test_gpu_compiled_in_float16(gpu_bench, compiler, monkeypatch):
    """All of it computes in float16 on a CPU too; nothing is compiled while the clock counts."""
    from bench_parts import gpu

    bench, how = gpu_bench
    met, modes = compiler
    rows = []  # in the calls of a compiled network, round by round

    def note(call):
        met.clear()
        seconds = measure_seconds(call)
        rows.extend([set(met)] * bool(met))
        return seconds

    measure_seconds = gpu.measure_seconds
    monkeypatch.setattr(gpu, "measure_seconds", note)
    gpu.measure_compiled(bench, "float16", how)
    assert modes == ["default"]
    warm_edit, edit, warm_sweep, sweep = rows
    assert edit <= warm_edit
    assert sweep <= warm_edit | warm_sweep
    sides = {(row["job"], row["side"]): row for row in bench.results["sides"]}
    assert len(sides) == 4
    for job in ("edit", "sweep"):
        eager, compiled = sides[job, "ours, eager again"], sides[job, "ours, compiled"]
        assert compiled["dtype"] == bench.results["bare"][0]["dtype"] == "float16"
        ratio = compiled["seconds_a_picture"]["median"] / eager["seconds_a_picture"]["median"]
        assert compiled["times_ours"]["median"] == pytest.approx(ratio)


def test_gpu_sides_agree_in_float16(gpu_bench):
    """Up to its rounding; diffusers warns that float16 fails on a CPU, which was so."""
    from bench_parts import gpu

    bench, how = gpu_bench
    ours = gpu.Ours.load(bench.path, how)
    theirs = gpu.Theirs(bench.path, bench.device, torch.float16, "contiguous", bench.args.steps)
    found = gpu.compare(ours, theirs, "diffedit", gpu.make_requests(1, ours.backbone.resolution)[0], 0.8)
    assert ours.backbone.dtype == ours.backbone.vae_dtype == theirs.unet.dtype == torch.float16
    assert 0 < found["picture"] < 0.1


def test_gpu_notes_what_the_compiler_says_and_goes_on(gpu_bench, monkeypatch):
    from bench_parts import gpu

    def refuse(*args, **kwargs):
        raise RuntimeError("no compiler here\nand more of it")

    bench, how = gpu_bench
    monkeypatch.setattr(torch, "compile", lambda network, mode, dynamic: refuse)
    gpu.measure_compiled(bench, "float16", how)
    assert bench.budget.notes == ["float16: compiled: RuntimeError: no compiler here"]
    assert bench.results["sides"] == []


@pytest.mark.parametrize("rows", [8, 16, 32, 64])  # that `gpu` tries
@pytest.mark.parametrize("job", ["edit", "sweep"])
def test_gpu_pads_few_rows(rows, job):
    """What it sets of an engine, its 4 pictures and 50 steps, on a denoiser that costs nothing."""
    from bench_parts.gpu import RATIOS, fit_rows

    settings = read_settings(compose("run", ["name=bench", *fit_rows(rows, 4)]))[1]
    backbone = AnalyticBackbone(resolution=4)
    engine = Engine(backbone, choose_sizes(settings.batch, backbone, 4), progress=False)
    schedule, ratios = backbone.schedule(50), RATIOS[{"edit": 1, "sweep": 10}[job]]
    programs = [(one.id, DiffEdit()(one, ratios, schedule, RequestNoise(0, one.id))) for one in Pictures(4).requests(4)]
    outcomes = list(engine.run(programs, 4, len(ratios)))
    asked = sum(outcome.evaluations.total() for outcome in outcomes)
    assert asked == 4 * {"edit": 140, "sweep": 620}[job]
    assert engine.rows["predict"] <= 1.1 * asked


def test_gpu_keeps_to_its_budget(bench):
    """What does not fit is left out and said; what was measured is kept."""
    from bench_parts.gpu import Budget, run_rounds

    budget = Budget(time.perf_counter() + 0.5, [])
    calls = {"long": lambda: time.sleep(0.3), "short": lambda: None}
    found = run_rounds("a job", calls, 3, budget, calls)
    assert len(found["long"].seconds) == 0
    assert len(found["short"].seconds) == 3
    assert budget.notes
    assert all("a job, long, round" in note for note in budget.notes)


def test_gpu_is_refused_where_there_is_none(capsys, tmp_path):
    from bench import main

    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["gpu", "--out", str(tmp_path)]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_the_architecture_is_stable_diffusion_15s():
    from bench_parts import sd15

    networks = sd15.build(torch.device("meta"))
    assert {name: sum(p.numel() for p in part.parameters()) for name, part in networks.items()} == sd15.PARAMETERS


def test_its_tokenizer_has_the_tokens_that_the_encoder_wants(tmp_path):
    from bench_parts import sd15

    tokenizer = sd15.write_tokenizer(tmp_path)
    assert (len(tokenizer), tokenizer.model_max_length) == (49408, 77)
    ids = tokenizer("a pear").input_ids
    assert (ids[0], ids[-1], len(ids)) == (49406, 49407, 7)
    assert max(ids[1:-1]) < 512


@pytest.mark.slow
def test_its_weights_are_written_loaded_and_finite(tmp_path):
    """Two gigabytes: the whole way of `gpu` to a prediction, in half precision on the CPU."""
    from bench_parts import sd15
    from bench_parts.networks import make_call
    from bench_parts.ours import Ours

    path = sd15.write(tmp_path / "weights", torch.device("cpu"), torch.bfloat16)
    how = ["backbone.dtype=bfloat16", "backbone.vae_dtype=bfloat16", "backbone.device=cpu"]
    backbone = Ours.load(str(path), how).backbone
    assert backbone.resolution == 512
    assert make_call(backbone, "predict", 1)().sample.isfinite().all()


def test_operations_are_counted():
    """Of a UNet with half the channels at a quarter of the places; and attention, which grows with their square."""
    from bench_parts import sd15

    small = sd15.UNET | {"block_out_channels": (32, 64), "layers_per_block": 1}
    small |= {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    small |= {"mid_block_type": None}
    one, four = (sd15.count_flops(small, side, 8) for side in (8, 16))
    assert one * 3.8 < four < one * 4  # convolutions: with the places, but for the time embedding
    first = 2 * 8 * 8 * 32 * 4 * 9  # multiplications and additions of its first convolution
    assert one > first
    attending = small | {"down_block_types": ("CrossAttnDownBlock2D",) * 2, "cross_attention_dim": 16}
    few, many = (sd15.count_flops(attending, side, 8) for side in (16, 64))
    assert many > 16 * few


def test_rounds_are_interleaved():
    from bench_parts.measure import divide, interleave

    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    timings = interleave(calls, 2, "x", {"a": lambda: order.append("warm")})
    assert order == ["warm", "a", "b", "b", "a"]
    ratios = divide(timings["a"], timings["b"])
    assert ratios == [a / b for a, b in zip(timings["a"].seconds, timings["b"].seconds, strict=True)]


def test_a_wide_table_is_refused():
    from bench_parts.report import Table

    with pytest.raises(ValueError, match=r"'wide' is 10\d columns wide, more than 100"):
        Table("wide", ("x" * 50, "y" * 50), [("1", "2")]).render()


LINES = [
    line
    for page in PAGES
    if page.exists()
    for line in re.findall(r"^python scripts/bench\.py.*$", page.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("line", LINES)
def test_what_the_docs_show_is_understood(line):
    from bench import make_parser

    words = shlex.split(line, comments=True)[2:]
    args = make_parser(words).parse_args(words)
    assert args.command == words[0]


def test_each_sub_command_has_help_with_an_example(capsys):
    from bench import COMMANDS, main

    for name in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0
        text = capsys.readouterr().out
        assert f"example: python scripts/bench.py {name}" in text
        assert "--out" in text
    assert {words.split()[2] for words in LINES} == set(COMMANDS)
