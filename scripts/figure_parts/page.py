"""docs/results.md: what stands between its marks is made of what is committed beside the recipes."""

import re
from collections.abc import Iterator, Sequence

import pandas as pd

from figure_parts.cells import render_table
from figure_parts.recipe import PAGE, Recipe

MARK = re.compile(r"(<!-- made: ([\w/]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\w)")


def write_page(text: str, recipes: Sequence[Recipe]) -> str:
    """The page, with every block made anew but those of sections that were never made.

    Raises:
        ValueError: a mark has no recipe, or a recipe no mark; the message names it.
    """
    found = [name for _, name, _, _ in MARK.findall(text)]
    wanted = [
        name for recipe in recipes for name in (recipe.name, *(f"{recipe.name}/{table}" for table in recipe.tables))
    ]
    if wrong := set(found) ^ set(wanted):
        name = min(wrong)
        missing = "no recipe makes it" if name in found else f"{PAGE.name} has no mark for it"
        raise ValueError(f"<!-- made: {name} -->: {missing}")
    made = [recipe for recipe in recipes if recipe.made]
    blocks = {name: block for recipe in made for name, block in render_blocks(recipe)}
    return MARK.sub(lambda match: f"{match[1]}{blocks.get(match[2], match[3])}{match[4]}", text)


def render_blocks(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(name of its mark, what stands there) of the commands and of each table."""
    yield recipe.name, render_commands(recipe)
    for name, table in recipe.tables.items():
        try:
            yield f"{recipe.name}/{name}", f"\n{render_table(recipe, table)}\n"
        except (KeyError, ValueError, AttributeError, FileNotFoundError) as error:
            raise ValueError(f"{recipe.folder}: tables.{name}: {error}") from error


def render_commands(recipe: Recipe) -> str:
    """The commands, and where and when what follows was made by them."""
    needs = [f"# needs {recipe.note}"] if recipe.note else []
    block = "\n".join([*needs, *(command.strip() for command in recipe.commands)])
    made = recipe.made
    revisions = " and ".join(f"`{revision}`" for revision in made["revisions"])
    files = ", ".join(f"[{name}](results/{recipe.name}/{name})" for name in recipe.keep)
    took = f"{made['minutes']:g} minutes on {made['cores']} cores"
    text = f"\n```sh\n{block}\n```\n\nRevision {revisions}, {made['date']} in {took}"
    return f"{text}; all values: {files}.\n\n" if files else f"{text}.\n\n"


def list_sections(text: str) -> Iterator[tuple[list[str], str]]:
    """(names of the recipes whose marks stand there, its prose) of each part of the page under a heading."""
    bare = FENCE.sub("", MARK.sub(r"<!-- \2 -->", text))  # a comment in a block of commands is no heading
    for part in re.split(r"^(?=#+ )", bare, flags=re.MULTILINE):
        names = list(dict.fromkeys(name.partition("/")[0] for name in re.findall(r"<!-- ([\w/]+) -->", part)))
        if names:
            yield names, re.sub(r"\]\([^)]*\)|`[^`\n]*`|<!-- [\w/]+ -->", "", part)


def find_unknown(prose: str, recipes: Sequence[Recipe]) -> list[str]:
    """Numbers with a decimal point that no committed file of these recipes has, rounded so, and that are not quoted."""
    values = pd.concat([pd.read_csv(recipe.folder / name) for recipe in recipes for name in recipe.keep if recipe.keep])
    numbers = values.select_dtypes("number").abs().stack().dropna()
    halves = ((values.high - values.low) / 2).dropna() if {"low", "high"} <= set(values) else pd.Series(dtype=float)
    known = [*numbers, *halves]
    quoted = {number for recipe in recipes for number in recipe.quoted}
    unknown = []
    for number in dict.fromkeys(DECIMAL.findall(prose)):
        digits = len(number.partition(".")[2])
        if number not in quoted and number not in {f"{value:.{digits}f}" for value in known}:
            unknown.append(number)
    return unknown
