"""The door, for what is promised of every command."""

import numpy as np
import pytest
from helpers import kept_log
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
