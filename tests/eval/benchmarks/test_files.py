"""Tables of users with every fault that Python's readers let pass or end at: file, line and remedy are named."""

import json

import pytest

from eval.benchmarks.files import find_half, read_csv, read_json
from eval.benchmarks.folder import read_table

ROW = '{"image": "a.png", "target": "x"}\n'
JSONL = [
    ('{"image": "a.png", "target": "x \\ud800"}', r"line 2: \\ud800 is half of a character"),
    ('{"image": "a.png", "target": "\\udc00\\ud800"}', r"line 2: \\udc00 is half of a character"),
    ('{"image": "a.png", "target": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 2: values too deep in each other"),
    ('{"image": "a.png", "target": "x", "target": "y"}', r"line 2: not JSON \(more than one 'target'"),
    ('{"image": "a.png", "target": ' + "9" * 5000 + "}", None),  # a text as it is written
]
CSV = [
    ("image\ttarget\na.png\tx\n", "line 1: cells stand between tabs: save it with commas"),
    ("image;target\na.png;x\n", "line 1: cells stand between semicolons: save it with commas"),
    ("image,target,image\na.png,x,b.png\n", "line 1: more than one 'image'"),
    ("\ufeffimage,target\na.png,x\n", None),
]


@pytest.mark.parametrize(("line", "message"), JSONL, ids=["half", "two halves", "deep", "twice", "digits"])
def test_a_line_of_jsonl(line, message, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(ROW + line + "\n")
    if message is None:
        assert len(read_table(path)) == 2
        return
    with pytest.raises(ValueError, match=rf"t\.jsonl, {message}"):
        read_table(path)


@pytest.mark.parametrize(("text", "message"), CSV, ids=["tabs", "semicolons", "twice", "byte order mark"])
def test_a_csv(text, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    if message is None:
        assert read_table(path)[0]["image"] == "a.png"
        return
    with pytest.raises(ValueError, match=rf"t\.csv, {message}"):
        list(read_csv("benchmark.path", path, lambda where, columns: None))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "values too deep"),
        ("[" + "9" * 5000 + "]", "a number of too many digits"),
        ('["\\ud800"]', r"\\ud800 is half of a character"),
    ],
    ids=["deep", "digits", "half"],
)
def test_a_file_of_json(text, message, tmp_path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ValueError, match=rf"benchmark\.x = .*t\.json: {message}"):
        read_json("benchmark.x", tmp_path / "t.json")


def test_whole_characters_in_halves_are_fine(tmp_path):
    assert find_half(json.dumps("a 🍐 in a 🍎 \\ud800")) == ""
    (tmp_path / "t.json").write_text(json.dumps(["🍐", "\\ud800"]))
    assert read_json("benchmark.x", tmp_path / "t.json") == ["🍐", "\\ud800"]
