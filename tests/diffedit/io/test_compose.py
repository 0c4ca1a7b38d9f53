"""Configs of conf/ are composed in a program as they are by the commands, and a caller's own Hydra stays its own."""

import pytest
from hydra import compose as compose_by_hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException

from diffedit.io.compose import compose


def test_a_config_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compose("run", ["editor=sdedit", "steps=7"]).editor._target_ == "baselines.sdedit.SDEdit"
    assert list(compose("score", ["metric=[lpips,fid]"]).metric) == ["lpips", "fid"]
    assert not GlobalHydra.instance().is_initialized()


def test_a_callers_own_hydra_stays_as_it_is(tmp_path):
    (tmp_path / "mine.yaml").write_text("answer: 42\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        own = GlobalHydra.instance().hydra
        assert compose("run", ["steps=7"]).steps == 7
        with pytest.raises(MissingConfigException, match="metric/lpisp"):
            compose("score", ["metric=[lpisp]"])
        assert GlobalHydra.instance().hydra is own
        assert compose_by_hydra("mine").answer == 42
