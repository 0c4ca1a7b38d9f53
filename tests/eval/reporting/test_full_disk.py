"""Pictures on a full disk: the error names the file, and nothing half is left. A new way to write one is a line."""

import errno
import os

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from diffedit.commands import sheet
from diffedit.commands.launch import FAILED, tell
from diffedit.io.images import write_picture
from diffedit.types import Edit, EditRequest, EditResult, Variant
from eval.reporting.contact_sheet import save_result
from eval.reporting.figures import save_figure

PICTURE = torch.zeros(3, 8, 8)


def write_sheet(folder, monkeypatch):
    monkeypatch.setattr("eval.scoring.finished_run.FinishedRun.__init__", lambda self, root: None)
    monkeypatch.setattr("eval.scoring.finished_run.FinishedRun.check", lambda self: None)
    monkeypatch.setattr("eval.reporting.contact_sheet.draw_run_sheet", lambda runs, count: Image.new("RGB", (8, 8)))
    sheet.draw([folder], 1, folder / "sheet.png")


def write_edit(folder, monkeypatch):
    request = EditRequest("a", lambda: PICTURE, "a pear")
    save_result(request, EditResult([Edit(Variant(0.5), 1, PICTURE)], None, None), folder)


WRITERS = {
    "sheet": (write_sheet, "sheet.png"),
    "edit": (write_edit, "a_r0.5.png"),
    "plot": (lambda folder, _: save_figure(plt.figure(), folder / "curve"), "curve.png"),
    "picture": (lambda folder, _: write_picture(folder / "a.jpg", Image.new("RGB", (8, 8))), "a.jpg"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_said_with_the_path(tmp_path, monkeypatch, name, capsys):
    write, file = WRITERS[name]
    write(tmp_path, monkeypatch)
    assert (tmp_path / file).stat().st_size > 0
    for path in tmp_path.iterdir():
        path.unlink()

    def fill(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("diffedit.io.files.os.fsync", fill)
    with pytest.raises(OSError, match=rf"{file}: [\d,]+ bytes could not be written: No space left on device") as raised:
        write(tmp_path, monkeypatch)
    assert tell(raised.value, "diffedit") == FAILED
    assert list(tmp_path.iterdir()) == []


def test_an_ending_of_no_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"sheet\.nothing: no format is known by the ending"):
        write_picture(tmp_path / "sheet.nothing", Image.new("RGB", (8, 8)))
