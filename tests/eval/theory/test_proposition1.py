"""What is measured of Proposition 1, on linear models whose constants are known in closed form."""

import json
import shutil

import numpy as np
import pytest
import torch
from gaussian import GaussianBackbone, LinearBackbone
from helpers import GivenNoise, composed, edit_benchmark, find_record, make_request, render, watch
from pdf import check_fonts
from scipy.linalg import hadamard
from scipy.stats import ortho_group

from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.commands.plot import PlotFailedError, plot
from diffedit.engine.queries import run_alone
from diffedit.sampling.noise import RequestNoise
from diffedit.types import Decode, EditRequest
from eval.reporting.draw_proposition1 import build_proposition_table, draw_proposition1
from eval.reporting.proposition1 import read_measured, summarise
from eval.scoring.bootstrap import Bootstrap, estimate_mean
from eval.stilllife.benchmarks import StillLifeScenes
from eval.theory.bounds import Constants, bound_encoding, bound_noising, integrate_worst_case
from eval.theory.proposition1 import KEY, MeasureProposition1, spread_from_first, spread_levels

SIZE, STEPS = 12, 10  # of a picture of 2 x 2; noise levels
RANDOM = np.random.default_rng(0)
TURN = torch.from_numpy(ortho_group.rvs(SIZE, random_state=0))
SCALES = torch.from_numpy(np.geomspace(0.01, 4.0, SIZE))
MEANS = {"": torch.from_numpy(RANDOM.normal(size=SIZE)) / 4, "Q": torch.from_numpy(RANDOM.normal(size=SIZE)) / 4}


@pytest.fixture(scope="module")
def gaussian():
    """Any covariance, its axes not those of the pixels."""
    return GaussianBackbone(TURN @ torch.diag(SCALES) @ TURN.T, MEANS)


def measure(backbone, x0, noise, steps=STEPS, **settings):
    """What the record says of a picture whose latent this is."""
    image = ((x0 + 1) / 2).reshape(3, backbone.resolution, backbone.resolution)
    editor = MeasureProposition1(**settings)
    program = editor(EditRequest("a", lambda: image, "Q"), [1.0], backbone.schedule(steps), noise)
    metadata = run_alone(program, backbone).metadata
    return metadata, json.loads(metadata[KEY])


def norm(v):
    return (v.square().mean() ** 0.5).item()


def test_k1_is_the_largest_slope_and_k2_the_distance_of_the_texts(gaussian):
    schedule = gaussian.schedule(STEPS)
    x0 = torch.from_numpy(RANDOM.normal(size=SIZE))
    metadata, measured = measure(gaussian, x0, RequestNoise(0, "a"), jacobian_levels=3, iterations=200)
    slopes = {i: gaussian.slope(schedule[i]) for i in range(1, STEPS + 1)}
    steepest = {i: torch.linalg.matrix_norm(slope, 2).item() for i, slope in slopes.items()}
    assert list(measured["jacobian"]) == ["1", "6", "10"]
    for i, (value, change) in measured["jacobian"].items():
        assert value == pytest.approx(steepest[int(i)], rel=1e-3)
        assert change < 1e-3
    assert metadata["k1_jacobian"] == pytest.approx(steepest[1], rel=1e-3)
    for i, quotient in enumerate(measured["quotient"], 1):
        assert torch.linalg.eigvalsh(slopes[i])[0].item() * (1 - 1e-3) <= quotient <= steepest[i] * (1 + 1e-3)
    gaps = [schedule[i].alpha * norm(slopes[i] @ (MEANS[""] - MEANS["Q"])) for i in range(1, STEPS + 1)]
    assert measured["gap"] == pytest.approx(gaps, rel=1e-3)
    assert measured["gap_noised"] == pytest.approx(gaps, rel=1e-3)
    assert metadata["k2"] == pytest.approx(max(gaps), rel=1e-3)


def test_quotients_are_k1_where_all_directions_are_alike():
    backbone = GaussianBackbone(0.25 * torch.eye(SIZE, dtype=torch.float64), MEANS)
    schedule = backbone.schedule(STEPS)
    metadata, measured = measure(backbone, MEANS[""] + 0.5, RequestNoise(0, "a"))
    exact = [schedule[i].sigma / (schedule[i].alpha ** 2 / 4 + schedule[i].sigma ** 2) for i in range(1, STEPS + 1)]
    assert measured["quotient"] == pytest.approx(exact, rel=1e-3)
    assert metadata["k1_quotient"] == pytest.approx(max(exact), rel=1e-3)


def test_c_is_the_root_mean_square_of_the_closed_form(gaussian):
    """Pictures and noises from the columns of a Hadamard matrix have the moments of the model to the digit."""
    columns = torch.from_numpy(hadamard(32)[:, 1:]).double()
    white, noises = columns[:, :SIZE], columns[:, SIZE : 2 * SIZE]
    root = TURN @ torch.diag(SCALES.sqrt()) @ TURN.T
    sizes = {"1": [], "7.5": []}
    for z, e in zip(white, noises, strict=True):
        noise = GivenNoise(start_0=e.reshape(1, 3, 2, 2), jacobian=torch.ones(1, 3, 2, 2))
        _, measured = measure(gaussian, MEANS[""] + root @ z, noise, 4, jacobian_levels=0, levels=1)
        for guidance, size in measured["size"].items():
            sizes[guidance].append(size)
    schedule, apart = gaussian.schedule(4), MEANS["Q"] - MEANS[""]
    for guidance, rows in sizes.items():
        found = torch.tensor(rows, dtype=torch.float64).square().mean(0).sqrt()
        for i, value in enumerate(found.tolist(), 1):
            level, slope = schedule[i], gaussian.slope(schedule[i])
            drawn = level.sigma * torch.trace(slope)  # slope^2 times the variance of x_t, which is sigma / slope
            moved = (float(guidance) * level.alpha * slope @ apart).square().sum()
            assert value == pytest.approx(((drawn + moved) / SIZE).sqrt().item(), rel=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_distances_are_those_of_the_editors(guidance):
    """Of Encode-Decode and SDEdit, from the latents that they decode."""
    backbone = AnalyticBackbone(resolution=8, modes=1)
    request, schedule, noise = make_request(backbone), backbone.schedule(STEPS), RequestNoise(0, "a")
    x0 = request.image()[None] * 2 - 1

    def find_latents(editor):
        asked = []
        result = run_alone(watch(editor(request, [0.5, 1.0], schedule, noise), asked.append), backbone)
        (latents,) = (query.latents for query in asked if isinstance(query, Decode))
        return latents, result

    own, result = find_latents(MeasureProposition1(guidances=(guidance,), levels=2, jacobian_levels=0))
    measured = json.loads(result.metadata[KEY])
    assert measured["levels"] == [5, 10]
    for way, other in (("encoding", EncodeDecode(guidance=guidance)), ("noising", SDEdit(guidance=guidance))):
        latents, _ = find_latents(other)
        exact = [norm(latent - x0) for latent in latents.split(1)]
        assert measured["distances"][f"{guidance:g}"][way] == pytest.approx(exact, rel=1e-5)
        if way == "encoding":
            torch.testing.assert_close(own, latents)
    assert len(result.edits) == 2


def test_what_is_measured_does_not_depend_on_the_ratios(analytic):
    request, schedule, noise = make_request(analytic), analytic.schedule(4), RequestNoise(0, "a")
    editor = MeasureProposition1(levels=2, jacobian_levels=1, iterations=2)
    one, two = (
        json.loads(run_alone(editor(request, ratios, schedule, noise), analytic).metadata[KEY])
        for ratios in ([1.0], [0.25, 0.75])
    )
    assert one.keys() == two.keys()
    for key in ("tau", "size", "gap", "gap_noised", "jacobian", "distances", "quotient"):
        np.testing.assert_allclose(*map(flatten, (one[key], two[key])), rtol=1e-3, err_msg=key)


def flatten(node):
    if isinstance(node, dict):
        return [number for value in node.values() for number in flatten(value)]
    return [number for value in node for number in flatten(value)] if isinstance(node, list) else [node]


def test_gronwalls_worst_case_is_attained_and_is_above_the_printed_bound():
    """eps(x, empty) = -K1 x and eps(x, Q) = eps(x, empty) + K2: what the assumptions alone allow."""
    backbone, constants = LinearBackbone(-1.0, {"": 0.0, "Q": 0.1}), Constants(c=1.0, k1=1.0, k2=0.1)
    settings = {"guidances": (1.0,), "levels": 1, "jacobian_levels": 1}
    metadata, measured = measure(backbone, torch.zeros(SIZE), RequestNoise(0, "a"), 250, **settings)
    assert metadata["k1_jacobian"] == pytest.approx(constants.k1, rel=1e-3)
    assert metadata["k1_quotient"] == pytest.approx(constants.k1, rel=1e-3)
    assert metadata["k2"] == pytest.approx(constants.k2, rel=1e-3)
    tau, (distance,) = measured["tau"][-1], measured["distances"]["1"]["encoding"]
    assert distance == pytest.approx(integrate_worst_case(tau, constants), rel=0.1)  # of finite steps
    assert distance > 2 * bound_encoding(tau, constants)


def test_levels_are_spread():
    assert spread_levels(20, 5) == [4, 8, 12, 16, 20]
    assert spread_levels(3, 10) == [1, 2, 3]
    assert spread_levels(20, 0) == spread_from_first(20, 0) == []
    assert spread_from_first(20, 5) == [1, 6, 10, 15, 20]
    assert spread_from_first(2, 5) == [1, 2]
    assert spread_from_first(20, 1) == [1]


# ---------------------------------------------------------------------------------------------------------- the figure


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of three scenes on an exact model."""
    root = tmp_path_factory.mktemp("runs") / "scenes/analytic/proposition1/default"
    backbone = AnalyticBackbone(classes=("apples", "pears", "on"), modes=1)  # a caption has an `on`
    editor = MeasureProposition1(levels=5, jacobian_levels=2, iterations=5)
    return edit_benchmark(root, StillLifeScenes(size=3), editor, backbone, [0.5], STEPS)


def test_a_result_is_what_the_records_say(run):
    measured = read_measured(run)
    result = json.loads(json.dumps(summarise(measured)))
    assert (result["pictures"], result["steps"]) == (3, STEPS)
    assert measured.ratios.tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    ids = [request.id for request in StillLifeScenes(size=3).requests(16)]
    facts = [json.loads(find_record(run, id)["metadata"][KEY]) for id in ids]
    constants, panel = result["constants"], result["panels"]["1"]
    assert constants["K2"]["1"]["value"] == pytest.approx(np.mean([max(fact["gap"]) for fact in facts]))
    assert constants["K2"]["7.5"]["value"] == pytest.approx(7.5 * constants["K2"]["1"]["value"])
    sizes = np.sqrt(np.square([fact["size"]["1"] for fact in facts]).mean(0))
    assert constants["C"]["1"]["value"] == pytest.approx(sizes.max())
    assert constants["C"]["1"]["level"] == sizes.argmax() + 1
    assert constants["K1"]["quotient"]["value"] == max(max(fact["quotient"]) for fact in facts)
    assert constants["K1"]["jacobian"]["value"] == max(k1 for fact in facts for k1, _ in fact["jacobian"].values())
    assert set(panel["bounds"]) == {"paper", "quotient", "jacobian"}
    assert set(result["panels"]["7.5"]["bounds"]) == {"quotient", "jacobian"}  # the paper has none for it
    for way, bound in (("encoding", bound_encoding), ("noising", bound_noising)):
        values = np.array([fact["distances"]["1"][way] for fact in facts])
        assert [row[way]["value"] for row in panel["rows"]] == pytest.approx(values.mean(0))
        interval = Bootstrap(3).interval(estimate_mean(values[np.argsort([f["gap"][0] for f in facts]), 2]))
        assert panel["rows"][2][way]["value"] == pytest.approx(interval.value)
        judged = panel["bounds"]["quotient"]
        exact = bound(measured.tau[measured.levels - 1], Constants(**judged["constants"]))
        assert judged[way]["values"] == pytest.approx(exact)
        assert judged[way]["times_the_mean"] == pytest.approx(exact / values.mean(0))
        assert judged[way]["pictures_above"] == (values > exact).sum(0).tolist()


def test_order_and_pictures_above_a_bound_are_counted(run):
    """With distances of our own: encoding is nearer at the first three ratios, and clearly so at two of them."""
    measured = read_measured(run)
    near, far = np.full((3, 5), 0.1), np.full((3, 5), 0.2)
    encoding = np.where(np.arange(5) < 3, near, 2 * far)
    encoding[:, 2] = [0.0, 0.0, 0.5]
    measured.distances["1"].update(encoding=encoding, noising=far)
    judged = summarise(measured)["panels"]["1"]["bounds"]["paper"]
    tau = measured.tau[measured.levels - 1]
    predicted = bound_encoding(tau, Constants(1.0, 3.0, 0.02)) < bound_noising(tau, Constants(1.0, 3.0, 0.02))
    seen = np.array([True, True, True, False, False])
    clear = np.array([True, True, False, True, True])
    assert judged["order"] == {
        "ratios": 5,
        "right": int((predicted == seen).sum()),
        "clear": 4,
        "clear_and_right": int((predicted == seen)[clear].sum()),
    }
    assert judged["encoding"]["pictures_above"][0] == 3 * (judged["encoding"]["values"][0] < 0.1)
    assert judged["crossing"]["tau"] == pytest.approx(3.50, abs=0.005)


def test_the_figure_has_distances_bounds_and_their_crossing(run):
    measured = read_measured(run)
    result = summarise(measured)
    one, two, constants = draw_proposition1(measured, result).axes
    lines = {line.get_label(): line for line in one.lines}
    line = lines["bound of encoding, paper's C, K₁, K₂"]
    assert line.get_xdata().tolist() == pytest.approx((np.arange(STEPS) + 1) / STEPS)
    assert line.get_ydata().tolist() == pytest.approx(bound_encoding(measured.tau, Constants(1.0, 3.0, 0.02)))
    cross = lines["they cross at τ = 3.5 (paper's C, K₁, K₂)"]
    assert cross.get_ydata()[0] == pytest.approx(2 * 3.50, abs=0.01)
    tau = np.interp(cross.get_xdata()[0], np.arange(STEPS + 1) / STEPS, [0, *measured.tau])
    assert tau == pytest.approx(3.50, abs=0.01)
    means = {container.get_label(): container.lines[0] for container in one.containers}
    rows = result["panels"]["1"]["rows"]
    assert means["noise, decoded (mean, 95 %)"].get_ydata().tolist() == [row["noising"]["value"] for row in rows]
    assert {axes.get_yscale() for axes in (one, two, constants)} == {"log"}
    assert not any("paper" in line.get_label() for line in two.lines)
    (top,) = one.child_axes
    assert [text.get_text() for text in top.get_xticklabels()][-1] == f"{measured.tau[-1]:.2g}"
    text = render(build_proposition_table(result, "1"))
    assert "the bounds cross at τ = 3.5 (ᾱ = 0.0755" in text
    assert max(map(len, text.splitlines())) <= 100


def check_json(text):
    """It is read by who takes JSON at its word: without NaN."""
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert set(found["panels"]) == {"1", "7.5"}
    assert set(found["constants"]) == {"C", "K1", "K2", "how"}


def test_one_picture_without_jacobians_has_no_intervals(tmp_path):
    root = tmp_path / "runs/scenes/analytic/proposition1/one"
    backbone = AnalyticBackbone(classes=("apples", "on"), modes=1)
    editor = MeasureProposition1(levels=2, jacobian_levels=0)
    edit_benchmark(root, StillLifeScenes(size=1), editor, backbone, [1.0], 4)
    cfg = composed("figure=proposition1", f"runs={root}", f"out={tmp_path}", name="plot", backbone=False)
    plot(cfg)
    text = (tmp_path / "scenes_analytic.json").read_text()
    check_json(text)
    found = json.loads(text)
    assert set(found["constants"]["K1"]) == {"quotient"}
    assert found["constants"]["C"]["1"]["low"] is None


def test_the_command_draws_and_says_what_it_leaves_out(run, tmp_path, capsys, caplog):
    there = tmp_path / "runs/scenes/analytic/proposition1"
    shutil.copytree(run, there / "good")
    backbone = AnalyticBackbone(classes=("on",))
    edit_benchmark(there / "other", StillLifeScenes(size=1), SDEdit(), backbone, [0.5], 4)
    cfg = composed("figure=proposition1", f"runs={there}/*", f"out={tmp_path}", name="plot", backbone=False)
    with pytest.raises(PlotFailedError, match="1 of 2 runs were left out"):
        plot(cfg)
    assert "other: left out" in caplog.text
    assert "a run of experiment=proposition1 is wanted" in caplog.text
    assert {path.suffix for path in tmp_path.glob("scenes_analytic_good.*")} == {".png", ".pdf", ".svg", ".json"}
    check_fonts((tmp_path / "scenes_analytic_good.pdf").read_bytes())
    assert "guidance 7.5" in capsys.readouterr().out
    check_json((tmp_path / "scenes_analytic_good.json").read_text())


def test_what_is_to_be_drawn_is_named():
    cfg = composed("figure=proposition1", "draw=bars", name="plot", backbone=False)
    with pytest.raises(ValueError, match="draw = 'bars' is none of tradeoff, proposition1"):
        plot(cfg)
