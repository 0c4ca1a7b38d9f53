"""What a section of docs/results.md is made by: docs/results/<section>/recipe.yaml."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import yaml

from diffedit.io.checks import settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/results.md"
FOLDER = ROOT / "docs/results"
RECIPE, MADE = "recipe.yaml", "made.json"


@settings(kw_only=True)
class Column:
    """A column of a file of values, as what the rows or the columns of a table stand for.

    Attributes:
        column: its name.
        find: a regular expression; a value stands for its group 1, or, where it is not found, for nothing: "".
        names: what values are called, in this order; others are left out. None: all but "", as in the file.
        form: of a value that `names` does not call something, as `r = {:g}`.
    """

    column: str
    find: str | None = None
    names: dict[Any, str] | None = None
    form: str = "{}"


@settings(kw_only=True)
class Table:
    """A table of the page, made of a file of values that is committed beside the recipe.

    Attributes:
        file: a file of `keep`; or several, one below the other.
        where: rows of it that count: values by column.
        rows: what a row of the table stands for: headings, and columns of the file.
        across: what a column stands for, if not for a cell of `cells`.
        cells: headings and what stands below, made of the row's metrics: "{lpips:.2f} ± {lpips.half:.2f}". With
            `across`: one, whose heading is not used.
        transpose: rows become columns.
    """

    file: str | tuple[str, ...]
    where: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, Column]
    across: Column | None = None
    cells: dict[str, str]
    transpose: bool = False


@settings(kw_only=True)
class Recipe:
    """How a section is made from nothing.

    Attributes:
        name: of its folder.
        title: what it is about.
        commands: as a reader would call them, in an empty folder.
        note: stands above them in the block of commands: "needs some minutes".
        keep: files that they leave there and that are committed: {scores.csv: plots/x/comparisons.csv}.
        tables: of the page.
        figures: pictures of docs/images, each of one or several side by side: {sizes.png: [plots/x.png]}.
        quoted: numbers of the section's prose that are of no table here, each with where it is from.
    """

    name: str
    title: str
    commands: tuple[str, ...]
    note: str | None = None
    keep: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, tuple[str, ...]] = field(default_factory=dict)
    quoted: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Of what is committed of it."""
        return FOLDER / self.name

    @property
    def made(self) -> dict[str, Any]:
        """By what revisions, when and in how many minutes it was made; {} where it never was."""
        path = self.folder / MADE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def words(self) -> list[list[str]]:
        """The commands as lists of words."""
        return [shlex.split(command.replace("\\\n", " ")) for command in self.commands]


def read_recipe(path: Path) -> Recipe:
    """One file of a recipe; a ValueError names it and what is wrong."""
    try:
        content: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Recipe(name=path.parent.name, **content)
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_recipes() -> list[Recipe]:
    """All of them, in the order of the page."""
    recipes = [read_recipe(path) for path in sorted(FOLDER.glob(f"*/{RECIPE}"))]
    text = PAGE.read_text(encoding="utf-8")
    return sorted(recipes, key=lambda recipe: (text.find(f"<!-- made: {recipe.name}"), recipe.name))
