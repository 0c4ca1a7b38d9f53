"""Configs of conf/ composed inside a program, as the commands compose them."""

from collections.abc import Sequence

from hydra import compose as compose_by_hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from diffedit.io.files import find_shipped


def compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config conf/<name>.yaml with these overrides, from any working directory.

    A caller that is a Hydra application itself finds its own state untouched afterwards.
    """
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_dir(str(find_shipped("conf").resolve()), version_base="1.3"):
            return compose_by_hydra(name, list(overrides))
    finally:
        GlobalHydra.instance().hydra = before  # asked for anew: Hydra leaves a copy of the instance in its place
