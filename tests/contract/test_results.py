"""docs/results.md says what the committed values say, in its tables and in its prose."""

import json
import re
import sys

import pandas as pd
import pytest
from helpers import ROOT


@pytest.fixture(scope="module")
def parts():
    """scripts/make_figures.py and its parts, as modules."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import make_figures
    from figure_parts import cells, page, recipe

    yield make_figures, cells, page, recipe
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def recipes(parts):
    *_, recipe = parts
    return {one.name: one for one in recipe.read_recipes()}


def test_every_table_is_made_of_committed_values(parts, recipes):
    _, _, page, recipe = parts
    text = recipe.PAGE.read_text()
    assert [name for name, one in recipes.items() if not (one.folder / recipe.MADE).exists()] == []
    again = page.write_page(text, list(recipes.values()))
    assert again == text, "python scripts/make_figures.py --page"
    tables = re.sub(r"<!-- made.*?<!-- end -->", "", text, flags=re.DOTALL)
    assert not re.search(r"^\|", tables, re.MULTILINE), "a table of docs/results.md that no recipe makes"


def test_every_number_of_the_prose_is_a_committed_one(parts, recipes):
    _, _, page, recipe = parts
    sections = list(page.list_sections(recipe.PAGE.read_text()))
    assert {name for names, _ in sections for name in names} == set(recipes)
    unknown = {names[0]: page.find_unknown(prose, [recipes[name] for name in names]) for names, prose in sections}
    assert not any(unknown.values()), unknown


def test_another_value_is_another_page_and_a_wrong_number_is_found(parts, recipes, tmp_path, monkeypatch):
    _, _, page, recipe = parts
    values = tmp_path / "x"
    values.mkdir()
    monkeypatch.setattr(recipe, "FOLDER", tmp_path)
    table = {"file": "a.csv", "rows": {"": {"column": "editor"}}, "cells": {"LPIPS": "{lpips:.2f} ± {lpips.half:.2f}"}}
    (values / "recipe.yaml").write_text(
        json.dumps({"title": "t", "commands": ["diffedit run"], "keep": {"a.csv": "a.csv"}, "tables": {"t": table}})
    )
    (values / "made.json").write_text(
        json.dumps({"revisions": ["abc"], "date": "2026-01-01", "minutes": 2.5, "cores": 2})
    )
    one = recipe.read_recipe(values / "recipe.yaml")
    pages = []
    for value in (0.5, 0.75):
        row = {"editor": "sdedit", "metric": "lpips", "value": value, "low": value - 0.1, "high": value + 0.3}
        pd.DataFrame([row]).to_csv(values / "a.csv", index=False)
        pages.append(page.write_page("<!-- made: x -->\n<!-- end -->\n<!-- made: x/t -->\nold\n<!-- end -->", [one]))
    assert "| sdedit | 0.50 ± 0.20 |" in pages[0]
    assert pages[0] != pages[1]
    assert "Revision `abc`, 2026-01-01 in 2.5 minutes on 2 cores; all values: [a.csv](results/x/a.csv)" in pages[0]
    assert page.find_unknown("0.75 and 0.2 and, made up, 0.61 of 12", [one]) == ["0.61"]
    with pytest.raises(ValueError, match=r"x/t.*no mark for it"):
        page.write_page("<!-- made: x -->\n<!-- end -->", [one])
    with pytest.raises(ValueError, match=r"y.*no recipe makes it"):
        page.write_page(
            "<!-- made: x -->\n<!-- end -->\n<!-- made: x/t -->\n<!-- end --><!-- made: y -->\n<!-- end -->", [one]
        )


def test_floor_and_ceiling_have_one_row_and_what_is_not_there_none(parts):
    _, cells, _, _ = parts
    rows = [("copy", s, True, 0.0) for s in (0.3, 0.5)] + [("sdedit", s, False, s) for s in (0.3, 0.5)]
    values = pd.DataFrame(rows, columns=["editor", "strength", "is_bound", "value"]).assign(
        benchmark="a", backbone="b", metric="lpips"
    )
    assert len(cells.merge_bounds(values)) == 3
    assert cells.fill("{lpips:.1f}", values[2:3]) == "0.3"
    assert cells.fill("{csfid:.1f}", values[2:3]) == ""
    assert format(cells.Number("nan"), ".1f") == "–"
    assert format(cells.Number(-0.26), "+.1f") == "−0.3"
    with pytest.raises(ValueError, match="several rows have one metric"):
        cells.fill("{lpips:.1f}", values)


def test_a_recipe_with_a_mistake_is_named(parts, tmp_path):
    *_, recipe = parts
    path = tmp_path / "x" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text("title: t\ncommands: [a]\ntable: {}\n")
    with pytest.raises(ValueError, match=r"recipe\.yaml: .*there is no setting table"):
        recipe.read_recipe(path)


def test_a_section_is_made_and_what_fails_is_named(parts, tmp_path, monkeypatch, capsys):
    make_figures, _, _, recipe = parts
    called = []
    monkeypatch.setattr(recipe, "FOLDER", tmp_path / "docs")
    monkeypatch.setattr(make_figures, "rewrite_page", lambda: called.append("page"))

    def call(command, folder, what):
        called.append(" ".join(command))
        folder.mkdir(parents=True, exist_ok=True)
        row = {"editor": "sdedit", "run": "somewhere", "metric": "lpips", "value": 0.123456789}
        pd.DataFrame([row]).to_csv(folder / "scores.csv", index=False)

    monkeypatch.setattr(make_figures, "call", call)
    commands = ("diffedit run editor=sdedit", "diffedit score out=scores.csv")
    one = recipe.Recipe(name="x", title="t", commands=commands, keep={"scores.csv": "scores.csv"})
    make_figures.make_section(one, tmp_path / "figures", ["launcher=local"])
    assert called == [*(f"{command} launcher=local" for command in commands), "page"]
    assert (tmp_path / "docs/x/scores.csv").read_text() == "editor,metric,value\nsdedit,lpips,0.123457\n"
    made = json.loads((tmp_path / "docs/x/made.json").read_text())
    (today,) = made["revisions"]
    assert made["minutes"] == 0
    assert make_figures.add_time(tmp_path / "figures" / make_figures.TOOK, 90.0) == pytest.approx(90, abs=1)
    make_figures.recall([one])
    assert "x                    0.0 minutes  t" in capsys.readouterr().out
    run = tmp_path / "figures/runs/b/m/e/n"
    run.mkdir(parents=True)
    (run / "environment.json").write_text(json.dumps({"git": f"{'a' * 40}+"}))
    assert make_figures.list_revisions(tmp_path / "figures") == [f"{'a' * 7}+", today]  # of changed files, and says so
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="x: exit code 2; the same command goes on"):
        make_figures.call(["diffedit", "nothing"], tmp_path, "x")


def test_figures_stand_side_by_side(parts, tmp_path):
    from figure_parts.readme import copy_picture
    from PIL import Image

    for name, size in (("a", (10, 20)), ("b", (30, 8))):
        Image.new("RGB", size, "#ff0000").save(tmp_path / f"{name}.png")
    copy_picture([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as page:
        assert page.size == (40, 20)
        assert page.convert("RGB").getpixel((39, 19)) == (255, 255, 255)


def test_every_command_of_a_recipe_is_one_of_ours_and_every_figure_is_shown(recipes):
    for recipe in recipes.values():
        assert all(f"(images/{name})" in (ROOT / "docs/results.md").read_text() for name in recipe.figures)
        for words in recipe.words:
            assert words[0] == "diffedit" or (words[0] == "python" and (ROOT / words[1]).is_file()), words


def test_as_many_processes_as_cores_edit(parts, monkeypatch):
    make_figures, *_ = parts
    monkeypatch.setattr(make_figures, "count_cores", lambda: 3)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert make_figures.choose_launcher(None) == ["launcher=local", "launcher.processes=3"]
    assert make_figures.choose_launcher(1) == []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert make_figures.choose_launcher(None) == ["launcher=local"]
