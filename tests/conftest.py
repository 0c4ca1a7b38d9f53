"""Fixtures; and jaxtyping's shapes are checked in all of our code while the tests run."""

import logging
import os
from pathlib import Path

import pytest

# Two threads that share a core with something else would spin, each until the other is done.
os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")

import torch
from jaxtyping import install_import_hook
from typechecker import leave_out_what_has_no_shapes

leave_out_what_has_no_shapes()
install_import_hook(["diffedit", "baselines", "eval"], "typechecker.checked")

# Of two processes that share two cores, each has one thread: with two, each waits for the other's.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # powers of two: see engine.py

REALSET = Path(__file__).parents[2] / "shared" / "realset"


@pytest.fixture(autouse=True)
def _open_handlers():
    """No handler of the log writes to what a test before has closed."""
    log = logging.getLogger()
    for handler in [handler for handler in log.handlers if getattr(getattr(handler, "stream", None), "closed", False)]:
        log.removeHandler(handler)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny pipeline with random weights on disk, in the Stable Diffusion layout."""
    from diffedit.testing import TinyPipeline

    return TinyPipeline().write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    """It as a backbone."""
    from diffedit.backbones.stable_diffusion import StableDiffusion

    return StableDiffusion.from_pretrained(str(tiny_folder), device="cpu")


@pytest.fixture(scope="session")
def analytic():
    """The exact model."""
    from diffedit.backbones.analytic import AnalyticBackbone

    return AnalyticBackbone()


@pytest.fixture(scope="session")
def realset():
    """Real photographs and masks in the true formats, where they are at hand."""
    if not REALSET.is_dir():
        pytest.skip(f"needs the real files of {REALSET.relative_to(Path(__file__).parents[2])}, which are not here")
    return REALSET
