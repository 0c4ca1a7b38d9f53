import csv
import io
import json

import pytest
import torch
from PIL import Image

from eval.benchmarks.folder import FolderBenchmark


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (20, 20), colour).save(tmp_path / f"{name}.png")
    Image.new("L", (20, 20), 255).save(tmp_path / "m.png")
    return tmp_path


def table(folder, text, name="edits.csv", **settings):
    (folder / name).write_text(text, encoding="utf-8")
    return FolderBenchmark(str(folder / name), **settings)


def test_a_csv_of_edits(folder):
    text = '﻿image,target,source,mask,id\na.png,"a pear, ripe",an apple,m.png,first\nb.png,plum,,,\n'
    benchmark = table(folder, text)
    one, two = benchmark.requests(16)
    assert len(benchmark) == 2
    assert (one.id, one.target, one.source) == ("first", "a pear, ripe", "an apple")
    assert (two.target, two.source, two.mask) == ("plum", None, None)
    assert torch.equal(one.image(), torch.tensor([1.0, 0, 0]).reshape(3, 1, 1).expand(3, 16, 16))
    assert torch.equal(one.mask(), torch.ones(1, 16, 16))
    assert two.id.startswith("b-")
    assert len(two.id) == 14
    assert (one.origin, two.origin) == ("a.png m.png", "b.png")


def test_a_part_of_a_table(folder):
    text = "image,target,id\n" + "\n".join(f"a.png,pear,{i}" for i in range(20))
    order = [request.id for request in table(folder, text, limit=20).requests(16)]
    assert [request.id for request in table(folder, text).requests(16)] == [str(i) for i in range(20)]
    assert sorted(order, key=int) == [str(i) for i in range(20)] != order
    some = table(folder, text, range=[5, 8])
    assert [request.id for request in some.requests(16)] == order[5:8]
    assert len(some) == 3


def test_jsonl_says_the_same(folder):
    rows = [{"image": "a.png", "target": "pear", "source": "apple"}, {"image": "b.png", "target": "plum", "mask": None}]
    lines = "\n\n".join(json.dumps(row) for row in rows)
    by_csv = table(folder, "image,target,source\na.png,pear,apple\nb.png,plum,\n")
    by_json = table(folder, lines, "edits.jsonl")
    assert by_csv.rows == by_json.rows


TEXTS = (
    *("1e3", "007", "nan", "None", "null", "NA", "true", "-5", "0.10", "2026-01-01"),
    *("[a dog]", "a, b", "a dog's bowl, 50% off", "a=b", '"quoted"', "$x", "${y}", "{z}", "#1", "été", "a\nb"),
)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_any_text_stands_as_it_was_written(folder, ending):
    """Also what a table's reader might take for a number, for nothing, or for a list; and in names of files."""
    names = [f"{text} (1).png".replace("\n", " ") for text in TEXTS]
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name)
    rows = [
        {"image": name, "target": text, "source": text, "id": f"{i} {text}"}
        for i, (name, text) in enumerate(zip(names, TEXTS, strict=True))
    ]
    if ending == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        text = file.getvalue()
    else:
        text = "\n".join(json.dumps(row) for row in rows)
    requests = list(table(folder, text, f"edits.{ending}").requests(8))
    assert [(r.target, r.source, r.id) for r in requests] == [(r["target"], r["source"], r["id"]) for r in rows]
    assert all(request.image().shape == (3, 8, 8) for request in requests)


def test_json_that_is_no_text(folder):
    """A number stands as it was written; what would have to be made up is refused."""
    (row,) = table(folder, '{"image": "a.png", "target": 1e3, "id": 70}', "a.jsonl").rows
    assert (row["target"], row["id"]) == ("1e3", "70")
    for value in ("true", '["a dog"]', '{"a": 1}'):
        with pytest.raises(ValueError, match=r"a\.jsonl, line 2: target = .*: a text is wanted, in quotes"):
            table(folder, f'{{"image": "a.png", "target": "x"}}\n{{"image": "a.png", "target": {value}}}', "a.jsonl")


def test_an_id_does_not_depend_on_the_order_and_two_edits_of_one_picture_differ(folder):
    one = table(folder, "image,target\na.png,pear\na.png,plum\nb.png,pear\n")
    other = table(folder, "image,target\nb.png,pear\na.png,plum\na.png,pear\n")
    assert {row["id"] for row in one.rows} == {row["id"] for row in other.rows}
    assert len({row["id"] for row in one.rows}) == 3


def test_pictures_may_lie_elsewhere(folder, tmp_path_factory):
    benchmark = table(tmp_path_factory.mktemp("other"), "image,target\na.png,pear\n", images=str(folder))
    assert next(benchmark.requests(8)).image().shape == (3, 8, 8)


def test_a_missing_picture_is_the_requests_own_error(folder):
    benchmark = table(folder, "image,target\nnone.png,pear\n")
    (request,) = benchmark.requests(16)
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        request.image()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,source\na.png,x\n", r"edits.csv, line 1: columns: no 'target'\. Known are image, target and"),
        ("image,target,masks\na.png,x,m.png\n", "unknown 'masks'"),
        ("image,target\na.png,\n", "line 2: the cell 'target' is empty"),
        ("image,target\n,x\n", "line 2: the cell 'image' is empty"),
        ("image,target\na.png,x,y\n", "line 2: not as many cells"),
        ("image,target\na.png\n", "line 2: not as many cells"),
        ("image,target,id\na.png,x,1\nb.png,y,1\n", "rows 1 and 2 have the same id '1'"),
        ("image,target\n", "has no rows"),
        ("", "no 'image', 'target'"),
        ("image,target,target\na.png,x,y\n", "more than one 'target'"),
        ('image,target\na.png,"x\n', r"edits.csv, line \d: not CSV"),
        ('image,target\na.png,"x" y\n', r"edits.csv, line \d: not CSV"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(folder, text, message):
    with pytest.raises(ValueError, match=message):
        table(folder, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "a.png"', "line 1: not JSON"),
        ("[1]", "line 1: a JSON object is wanted"),
        ('{"image": "a.png", "target": "x"}\n{"image": "a.png"}', "line 2: columns: no 'target'"),
    ],
)
def test_a_bad_jsonl_is_refused_with_its_line(folder, text, message):
    with pytest.raises(ValueError, match=message):
        table(folder, text, "edits.jsonl")


def test_a_table_that_is_not_utf_8(folder):
    (folder / "edits.csv").write_bytes("image,target\na.png,Bär\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"edits\.csv: not UTF-8"):
        FolderBenchmark(str(folder / "edits.csv"))


def test_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"benchmark.path = .*none.csv: no such file"):
        FolderBenchmark(str(tmp_path / "none.csv"))
