"""Contract: what conf/ names is somebody's work or this project's own, and its licence is told the same everywhere."""

import importlib
import re
import tomllib
from datetime import date

import pytest
import yaml
from helpers import CONF, ROOT

from diffedit.commands.sources import find_parts, find_weights, read_references, read_sources, read_yaml

SOURCES = read_sources()
CITED = ("editor", "metric", "networks", "benchmark", "backbone", "rank", "reconstruct")
FIELDS = {
    "inproceedings": {"booktitle"},
    "article": {"journal", "volume", "number"},
    "misc": set(),
    "software": {"version"},
}


def find_targets():
    files = [path for group in CITED for path in (CONF / group).rglob("*.yaml")]
    return {part["_target_"] for path in files for part in find_parts(read_yaml(path)) if "_target_" in part}


@pytest.mark.parametrize("target", sorted(find_targets()))
def test_every_class_of_conf_has_its_works(target):
    assert target in SOURCES["works"]


@pytest.mark.parametrize("target", SOURCES["works"])
def test_every_class_with_works_is_there(target):
    parts = target.split(".")
    split = next(i for i, part in enumerate(parts) if part[0].isupper() or part == "load")
    found = importlib.import_module(".".join(parts[:split]))
    for name in parts[split:]:
        found = getattr(found, name)


def test_every_key_is_in_the_bibliography_and_every_entry_is_cited():
    entries = [*SOURCES["settings"], *SOURCES["weights"]]
    cited = {key for work in SOURCES["works"].values() for key in work} | {"diffedit_framework"}
    cited |= {key for entry in entries for key in entry.get("cite", ())}
    assert cited == set(read_references())


@pytest.mark.parametrize("key", read_references())
def test_an_entry_is_whole(key):
    entry = read_references()[key]
    kind = re.match(r"@(\w+)\{", entry)[1]
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.MULTILINE))
    assert len(entry.splitlines()) == len(fields) + 2  # no line is anything else
    assert {"title", "author", "year"} | FIELDS[kind] <= set(fields)
    assert all(value.count("{") == value.count("}") for value in fields.values())
    assert key == "diffedit_framework" or fields["year"] in key
    if "eprint" in fields:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", fields["eprint"])
        assert 2000 + int(fields["eprint"][:2]) <= int(fields["year"])


@pytest.mark.parametrize("path", [*(CONF / "backbone").glob("[!_]*.yaml"), *(CONF / "networks").glob("[!_]*.yaml")])
def test_every_network_that_conf_names_has_a_licence(path):
    for part in find_parts(read_yaml(path)):
        names = [part.get(key) for key in ("path", "model", "net", "pretrained")]
        if any(name and "?" not in name and "$" not in name for name in names):
            assert find_weights({"_target_": "diffedit.networks.clip.OpenClip", "pretrained": "openai"} | part)


def test_third_party_agrees():
    text = (ROOT / "THIRD_PARTY.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", text.split("## Data")[0], re.MULTILINE)[2:]
    assert set(rows) == {(entry["name"], entry["licence"], entry["from"]) for entry in SOURCES["weights"]}
    assert len(rows) == len(set(rows))


# ---------------------------------------------------------------------------------------------------------------- cards


def read_head(path):
    head, _, body = path.read_text().removeprefix("---\n").partition("\n---\n")
    assert body.startswith("\n# ")
    return yaml.safe_load(head)


@pytest.mark.parametrize("path", sorted((ROOT / "weights").glob("*/README.md")), ids=lambda path: path.parent.name)
def test_model_cards_have_the_head_of_the_hub(path):
    head = read_head(path)
    assert head["license"] == "mit"
    assert head["library_name"] in ("diffusers", "open_clip", "pytorch")
    assert re.fullmatch("[a-z-]+", head["pipeline_tag"])
    assert "synthetic" in head["tags"]
    (model,) = head["model-index"]
    body = path.read_text().split("\n---\n")[1]
    assert f"# {model['name']}\n" in body
    for result in model["results"]:
        assert set(result) == {"task", "dataset", "metrics"}
        assert result["dataset"] == {"type": "stilllife", "name": "Still Life", "split": "test"}
        for metric in result["metrics"]:
            assert set(metric) == {"type", "name", "value"}
            assert re.search(rf"\b{metric['value']}\b", body)  # measured, and told below with its command
    assert "data card" in body or "data](" in body


def test_the_data_card_tells_the_splits_and_sizes_of_the_code():
    from eval.stilllife import benchmarks
    from eval.stilllife.scene import ATTRIBUTES, SPLITS

    path = ROOT / "docs" / "stilllife_data_card.md"
    assert read_head(path)["license"] == "mit"
    body = path.read_text()
    for split, seeds in SPLITS.items():
        assert f"| {split} | {seeds[0]:,} to {seeds[-1]:,} |" in body
    for name in ("Scenes", "Classes", "Strokes", "RandomMasks"):
        benchmark = getattr(benchmarks, f"StillLife{name}")()
        snake = re.sub("([A-Z])", r"_\1", name).lower()
        assert f"| `stilllife{snake}` | {len(benchmark)}; " in body
        assert f"(`{benchmark.version}`)" in body
        start = next(benchmark.ground_truths())[1].before.seed
        assert start == SPLITS["test"][0] or f"from {start:,} on" in body
    assert all(value in body for values in ATTRIBUTES.values() for value in values)
    assert f"more than {benchmarks.VISIBLE} of 255" in body


def test_citation_file():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors", "keywords", "license", "version", "references"} <= set(cff)
    assert cff["version"] == project["version"]
    assert cff["license"] == project["license"]
    assert isinstance(cff["date-released"], date)
    assert all({"type", "title", "authors", "year"} <= set(reference) for reference in cff["references"])
    own = read_references()["diffedit_framework"]
    assert f"version = {{{cff['version']}}}" in own
    assert cff["title"] in own.replace("{DiffEdit}", "DiffEdit")
    entries = re.sub(r"[{}]", "", "\n".join(read_references().values()))
    for reference in cff["references"]:
        assert f"title = {reference['title']}," in entries
        (identifier,) = reference["identifiers"]
        assert f"eprint = {identifier['value'].removeprefix('arXiv:')}," in entries
