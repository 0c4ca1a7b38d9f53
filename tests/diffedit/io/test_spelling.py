"""Names in composed and decomposed form find one file; what systems leave among pictures is passed over, and said."""

import logging
import unicodedata
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffedit.commands.edit import check_picture
from diffedit.io.images import ImageFile, MaskFile, open_image
from diffedit.io.spelling import find_spelling, is_junk
from diffedit.runs.records import stamp_sources
from eval.benchmarks.check import find_faults, find_files
from eval.benchmarks.folder import FolderBenchmark
from eval.benchmarks.imagenet import list_folders, list_pictures
from eval.scoring.reference import find_pictures

NFC, NFD = (unicodedata.normalize(form, "Café-ñ.png") for form in ("NFC", "NFD"))


def draw(path, value=128, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize(("disk", "table"), [(NFC, NFD), (NFD, NFC)], ids=["decomposed table", "composed table"])
def test_a_table_in_the_other_form_finds_its_pictures(disk, table, tmp_path):
    folder = unicodedata.normalize("NFD", "Übung")
    draw(tmp_path / folder / disk)
    draw(tmp_path / folder / f"m-{disk}", 255, "L")
    name = unicodedata.normalize("NFC", "Übung")
    (tmp_path / "edits.csv").write_text(f"image,target,mask\n{name}/{table},a pear,{name}/m-{table}\n")
    benchmark = FolderBenchmark(path=str(tmp_path / "edits.csv"))
    (request,) = benchmark.requests(16)
    assert isinstance(request.image, ImageFile)
    assert isinstance(request.mask, MaskFile)
    assert request.image().shape == (3, 16, 16)
    assert request.mask().min() == 1
    pictures, masks = find_files(benchmark)
    assert not find_faults([*pictures, *masks])
    assert set(stamp_sources(request)) == {"image", "mask"}  # so that a picture that changes is noticed


def test_a_name_as_it_is_written_wins_and_one_that_is_not_there_is_named(tmp_path):
    draw(tmp_path / NFC, 0)
    draw(tmp_path / NFD, 255)
    assert {find_spelling(tmp_path / name) for name in (NFC, NFD)} == {tmp_path / NFC, tmp_path / NFD}
    with open_image(tmp_path / NFD) as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)
    mixed = draw(tmp_path / (unicodedata.normalize("NFD", "é") + unicodedata.normalize("NFC", "ñ") + ".png"))
    assert find_spelling(tmp_path / unicodedata.normalize("NFC", mixed.name)) == mixed
    missing = tmp_path / unicodedata.normalize("NFC", "Ärger.png")
    assert find_spelling(missing) == missing
    with pytest.raises(FileNotFoundError, match=r"Ärger\.png: no such file"), open_image(missing):
        pass


def test_what_systems_leave_is_passed_over_and_said(tmp_path, caplog):
    for name in ("a.png", "._a.png", "__MACOSX/b.png", "c/._d.png", "c/d.png"):
        draw(tmp_path / name)
    for name in (".DS_Store", "Thumbs.db", "c/.DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        found = find_pictures(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for _, path in found] == ["a.png", "c/d.png"]
    (line,) = caplog.messages
    assert (
        line
        == f"folder = {tmp_path}: 6 passed over, which macOS or Windows left there: .DS_Store, ._a.png, ._d.png, ..."
    )
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert list_folders(tmp_path, ["c", "none"]) == {"c": ["d.png"], "none": []}
        assert list_pictures(tmp_path) == ["a.png"]
    (line,) = caplog.messages
    assert (
        line == f"benchmark.images = {tmp_path}: 2 passed over, which macOS or Windows left there: .DS_Store, ._d.png"
    )
    assert not is_junk(Path("a._b.png"))


def test_a_folder_of_junk_alone_has_no_pictures(tmp_path):
    draw(tmp_path / "._a.png")
    with pytest.raises(FileNotFoundError, match="no pictures there"):
        find_pictures(tmp_path)


def test_a_picture_of_the_command_line_and_a_table_are_found_too(tmp_path):
    draw(tmp_path / NFD)
    cfg, options = None, Namespace(picture=tmp_path / NFC, mask=None, target="a pear", request=None, overrides=[])
    assert callable(check_picture(cfg, options))
    table = unicodedata.normalize("NFD", "Tänze.csv")
    (tmp_path / table).write_text(f"image,target\n{NFC},a pear\n")
    (request,) = FolderBenchmark(path=str(tmp_path / unicodedata.normalize("NFC", table))).requests(16)
    assert request.image().shape == (3, 16, 16)
