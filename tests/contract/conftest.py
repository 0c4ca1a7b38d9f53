"""The door, for what is promised of every command."""

import numpy as np
import pytest
from helpers import ROOT, kept_log
from made_models import write_models
from PIL import Image

from diffedit.commands import main


@pytest.fixture
def door(tmp_path, monkeypatch, capsys):
    """Calls a command in this process, from an empty folder with a picture; returns its exit code and what it says."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("a.png")
    (tmp_path / "edits.csv").write_text("image,target\na.png,pear\n")

    def enter(*words):
        with kept_log():
            try:
                code = main(list(map(str, words)))
            except SystemExit as stop:  # argparse
                code = stop.code
        return code, "".join(capsys.readouterr())

    return enter


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture
def model_door(models, tmp_path, monkeypatch, capsys):
    """The same from a folder with a table of two pictures, and folders of models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(models)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{'ab'[i]}.png")
    (tmp_path / "edits.csv").write_text("image,target,source\na.png,pear,apple\nb.png,plum,apple\n")

    def enter(*words):
        with kept_log():
            code = main(list(words))
        return code, "".join(capsys.readouterr())

    return enter
