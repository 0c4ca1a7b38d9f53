"""Class lists: by number, wnid and name; what is not known or not clear is refused."""

import json
import re

import pytest
import torch

from diffedit.backbones.classes import ClassList
from diffedit.types import ClassName

NAMES = {0: "crane", 1: "crane", 2: "maillot", 3: "maillot, tank suit", 4: "golden retriever", 5: "tabby, tabby cat"}
WNIDS = {number: f"n0000000{number}" for number in NAMES}


@pytest.fixture
def classes():
    return ClassList(1000, NAMES, WNIDS, "classes.json")


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("999", 999), ("n00000003", 3), ("Golden_Retriever", 4), (" tabby  cat ", 5), ("tank suit", 3)],
)
def test_what_is_known(classes, text, number):
    assert classes.find(text) == number


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crane", "the name of several: crane (0, n00000000), crane (1, n00000001); say which by its number"),
        ("maillot", "maillot (2, n00000002), maillot (3, n00000003)"),
        ("golden retriver", "none of the model's: is it golden retriever (4, n00000004) or "),
        ("1000", "class 1000: the model's classes are 0 to 999"),
        ("-1", "is it"),
    ],
)
def test_what_is_not(classes, text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        classes.find(text)


def test_three_names_are_offered(classes):
    with pytest.raises(ValueError, match=r"is it [^()]+ \(\S+ \S+\) or [^()]+ \(\S+ \S+\) or [^()]+ \(\S+ \S+\)\?$"):
        classes.find("retriever")


def test_three_classes_are_offered_however_many_names_they_have():
    names = {
        0: "tench, Tinca tinca",
        1: "goldfish, gold fish",
        2: "tabby, tabby cat, tabby tom",
        3: "crane",
        4: "crane",
    }
    classes = ClassList(5, names, {number: f"n0000000{number}" for number in names}, "classes.json")
    for text, first in (("tabby caat", "tabby"), ("gold fsh", "goldfish"), ("cranee", "crane"), ("n00000009", "")):
        with pytest.raises(ValueError, match="is none of the model's") as error:
            classes.find(text)
        offered = re.findall(r"(\w+) \((\d), n", str(error.value))
        assert len({number for _, number in offered}) == len(offered) == 3
        assert offered[0][0] == first or not first
    with pytest.raises(ValueError, match=r"crane \(3, n00000003\) or crane \(4, n00000004\)"):
        classes.find("cranee")


def test_without_names_it_says_where_to_put_them():
    with pytest.raises(ValueError, match=r"no names at models/x/classes\.json \(put a class index there"):
        ClassList(1000, {}, {}, "models/x/classes.json").find("tench")


@pytest.mark.parametrize(
    ("one", "number"),
    [
        (ClassName("anything", 0, "n00000004"), 4),  # a wnid is what it is, whatever the benchmark counts by
        (ClassName("tabby", 5), 5),
        (ClassName("tank suit", 3), 3),
        (ClassName("golden retriever"), 4),
        (ClassName("unknown", 700), 700),
    ],
)
def test_a_benchmarks_class(classes, one, number):
    assert classes.match(one) == number


def test_classes_in_another_order_are_noticed(classes):
    with pytest.raises(
        ValueError, match=r"class 4 is 'tabby' in the benchmark and 'golden retriever' at classes\.json"
    ):
        classes.match(ClassName("tabby", 4))


@pytest.mark.parametrize(
    "index", [{"0": ["n00000000", "tench"], "1": ["n00000001", "goldfish"]}, {"0": "tench", "1": "goldfish"}]
)
def test_both_formats_are_read(index, tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps(index))
    assert ClassList.read(tmp_path / "classes.json", 2).find("goldfish") == 1


@pytest.mark.parametrize("index", [["tench"], {"a": "tench"}, {"0": ["a", "b", "c"], "1": 2}, {"2": "tench"}])
def test_other_formats_are_refused(index, tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"classes\.json"):
        ClassList.read(tmp_path / "classes.json", 2)


def test_conditions_are_numbers_that_a_cache_can_hold(tmp_path):
    from diffedit.backbones.latent_diffusion import LatentDiffusion
    from diffedit.testing import TinyLatentDiffusion

    backbone = LatentDiffusion.from_pretrained(str(TinyLatentDiffusion().write(tmp_path)), device="cpu")
    for cond in backbone.embed(["pear", ""]):
        assert isinstance(cond, torch.Tensor)
        assert cond.dtype == torch.int64
        assert cond.shape == ()
