"""Files of equal content are found, whatever they are called."""

import pytest

from diffedit.io import contents
from diffedit.io.contents import Contents


def test_files_are_told_apart_by_content_and_few_are_read(tmp_path, monkeypatch):
    paths = {name: tmp_path / name for name in ("a", "b", "c", "same", "long", "other")}
    for name, text in zip(paths, ("one", "two", "three", "two", "seventeen", "six"), strict=True):
        paths[name].write_text(text)
    read = []
    monkeypatch.setattr(contents, "hash_file", lambda path: read.append(path.name) or path.read_text())
    known = Contents([paths["a"], paths["b"], paths["b"], paths["c"], tmp_path / "absent"])
    assert len(known) == 3
    assert paths["long"] not in known
    assert read == []  # no other has its size
    assert paths["same"] in known
    assert paths["other"] not in known
    assert sorted(read) == ["a", "b", "other", "same"]
    with pytest.raises(FileNotFoundError, match="absent"):
        assert tmp_path / "absent" in known
