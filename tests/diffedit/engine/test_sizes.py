"""Which batch sizes a run gets: by device, by measurement, by those that it was begun with."""

import json
import logging
from dataclasses import dataclass

import pytest
import torch
from helpers import Pictures, lose_record
from omegaconf import OmegaConf

from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.engine import measure, sizes
from diffedit.engine.measure import find_cache, find_knee, find_rates
from diffedit.engine.sizes import DEFAULTS, AskedSizes, BatchSizes, choose_sizes
from diffedit.runs.directory import ConfigChangedError
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline

AUTO = AskedSizes.read("auto")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def rates(monkeypatch):
    """What a measurement would find; it can be changed."""
    found = {"predict": {1: 10.0, 2: 19.0, 4: 30.0, 8: 31.0}}
    found |= {name: {1: 10.0, 2: 15.0} for name in ("encode", "decode", "embed")}
    monkeypatch.setattr(sizes, "find_rates", lambda backbone, device, names: {name: found[name] for name in names})
    return found


@dataclass(frozen=True)
class On(AnalyticBackbone):
    """A backbone on a device that need not be there."""

    device: str = "cpu"


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
def test_defaults_are_fixed_for_a_kind_of_device(device):
    assert choose_sizes(AskedSizes(), On(device=f"{device}:0"), 1) == choose_sizes(AskedSizes(), On(device=device), 999)
    assert choose_sizes(AskedSizes(), On(device=device), 1) == DEFAULTS[device]
    assert choose_sizes(AskedSizes(predict=5), On(device=device), 1).predict == 5
    assert choose_sizes(BatchSizes(predict=5), On(device=device), 1) == BatchSizes(predict=5)


def test_on_a_cpu_they_are_the_numbers_of_before(analytic):
    assert choose_sizes(AskedSizes(), analytic, 1) == BatchSizes(16, 4, 4, 8, 4, None)


def test_what_is_none_of_the_choices_is_refused():
    with pytest.raises(ValueError, match=r"engine.batch = large: default, auto, or"):
        AskedSizes.read("large")
    with pytest.raises(ValueError, match=r"predict = 'large'"):
        AskedSizes.read({"predict": "large"})
    with pytest.raises(ValueError, match=r"predict = 0"):
        AskedSizes.read({"predict": 0})
    with pytest.raises(ValueError, match="no setting prediction"):
        AskedSizes.read({"prediction": 4})


# --------------------------------------------------------------------------------------------------------- measurement


def test_the_knee_is_where_more_rows_hardly_help():
    assert find_knee({1: 10, 2: 19, 4: 30, 8: 31, 16: 30}) == 4
    assert find_knee({1: 10, 2: 9, 4: 13, 8: 16}) == 8
    assert find_knee({1: 10}) == 1


@pytest.fixture
def model(monkeypatch):
    """Calls cost a second up to 8 rows and 1/8 of one for each beyond; a row takes a byte."""
    asked = []

    def time_call(call, rows, device):
        asked.append(rows)
        if rows > model.fits:
            raise torch.OutOfMemoryError
        return max(rows, 8) / 8 * model.unit, rows, model.free

    model.unit, model.free, model.fits, model.asked = 0.001, float("inf"), 10**9, asked
    monkeypatch.setattr(measure, "time_call", time_call)
    return model


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ({}, [1, 2, 4, 8, 16, 32]),  # two more than the knee
        ({"free": 9}, [1, 2, 4]),  # 8 bytes would be more than 0.8 of what is free
        ({"fits": 5}, [1, 2, 4, 8]),  # 8 rows were tried
        ({"unit": 2.0}, [1, 2, 4, 8, 16]),  # four calls of 32 rows would take more than there is
    ],
)
def test_a_measurement_stops_at_the_knee_or_at_the_limits(model, limits, asked):
    vars(model).update(limits)
    found = measure.measure(len, CPU)
    assert model.asked == asked
    assert list(found) == [rows for rows in asked if rows <= model.fits]
    assert find_knee(found) == min(8, max(found))


def test_what_does_not_even_fit_with_one_row_is_told(model):
    model.fits = 0
    with pytest.raises(torch.OutOfMemoryError):
        measure.measure(len, CPU)


def test_rates_are_measured_once_and_kept(analytic, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    first = find_rates(analytic, CPU, ["predict", "decode"])
    assert set(first) == {"predict", "decode"}
    assert all(rate > 0 for rates in first.values() for rate in rates.values())
    assert caplog.text.count("measuring") == 1
    assert find_rates(analytic, CPU, ["decode"]) == {"decode": first["decode"]}
    assert caplog.text.count("measuring") == 1
    find_rates(analytic, CPU, ["predict", "embed"])
    assert "a call of embed should" in caplog.text
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    find_rates(analytic, CPU, ["decode"])
    assert caplog.text.count("measuring") == 3
    assert len(json.loads(find_cache().read_bytes())) == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"a": {}}', '{"a": {"rates": {"predict": {"x": 1}}}}'])
def test_a_damaged_cache_is_measured_anew(analytic, caplog, content):
    find_cache().parent.mkdir(parents=True)
    find_cache().write_text(content)
    assert find_rates(analytic, CPU, ["decode"])
    caplog.clear()
    assert find_rates(analytic, CPU, ["decode"])
    assert not caplog.records


def test_a_cache_that_cannot_be_written_costs_no_run(analytic, caplog):
    find_cache().parent.parent.write_text("a file where the folder should be")
    assert find_rates(analytic, CPU, ["decode"])
    assert "are not kept" in caplog.text


# ---------------------------------------------------------------------------------------------------------------- runs


def edit(root, analytic, batch, count=3, **more):
    settings = RunSettings(ratios=(0.5, 1.0), steps=4, batch=batch, progress=False, **more)
    table = run_benchmark(Pictures(count), EditPipeline(DiffEdit()), analytic, root, settings)
    return dict(zip(zip(table.id, table.variant, strict=True), table.sha256, strict=True))


def read_batch(root):
    return OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))["engine"]["batch"]


def test_a_run_that_was_measured_goes_on_with_its_own_sizes(analytic, rates, tmp_path, caplog):
    """Also where a measurement would find others now; and to the bit, whatever is left of it."""
    caplog.set_level(logging.INFO)
    before = edit(tmp_path, analytic, AUTO)
    expected = {"predict": 4, "encode": 2, "decode": 2, "embed": 2, "custom": 4, "requests": 3}
    assert read_batch(tmp_path) == expected
    assert "engine.batch=auto: predict 4, encode 2, decode 2, embed 2, custom 4, fitted to 3 requests" in caplog.text
    rates["predict"] = {1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}
    for name in ("1", "2"):
        lose_record(tmp_path, name)
        assert edit(tmp_path, analytic, AUTO) == before
    assert caplog.text.count("the sizes that this run was begun with: predict 4") == 2
    with pytest.raises(ConfigChangedError, match=r"engine.batch.predict: 4 -> 8"):
        edit(tmp_path, analytic, AskedSizes(predict=8))


def test_with_enough_requests_all_calls_of_a_kind_have_one_size(analytic, rates, tmp_path):
    edit(tmp_path, analytic, AUTO, count=4)
    assert "requests" not in read_batch(tmp_path)


def test_a_run_of_before_goes_on_with_its_numbers(analytic, tmp_path):
    """Its config has numbers where words stand now, of whatever default there was."""
    before = edit(tmp_path, analytic, BatchSizes(predict=8))
    lose_record(tmp_path, "1")
    assert edit(tmp_path, analytic, AskedSizes()) == before
    with pytest.raises(ConfigChangedError, match=r"engine.batch.predict: 8 -> 16"):
        edit(tmp_path, analytic, AskedSizes(predict=16))


def test_only_what_is_asked_for_is_measured(analytic, rates, monkeypatch):
    found = choose_sizes(AskedSizes(predict=32, decode="auto"), analytic, 1)
    assert found == BatchSizes(predict=32, decode=2)
    monkeypatch.setattr(sizes, "find_rates", lambda *_: pytest.fail("measured"))
    assert choose_sizes(AskedSizes(custom="auto"), analytic, 1) == BatchSizes()


def test_what_runs_share_is_not_made_in_calls_that_are_fitted(analytic, rates, tmp_path, caplog):
    """Its bits would depend on the ratios of the run that made it."""
    edit(tmp_path / "shared", analytic, AUTO, cache=tmp_path / "work")
    assert "requests" not in read_batch(tmp_path / "shared")
    kept = sorted((tmp_path / "work").rglob("*"))
    assert kept
    edit(tmp_path / "fitted", analytic, AUTO)
    lose_record(tmp_path / "fitted", "1")
    edit(tmp_path / "fitted", analytic, AUTO, cache=tmp_path / "work")
    assert "not used, as calls are fitted to few requests" in caplog.text
    assert sorted((tmp_path / "work").rglob("*")) == kept
