"""`diffedit ls`: what there is to choose from, a line each, with licences of weights and published values."""

import argparse
import csv
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from diffedit.commands.sources import find_weights, read_yaml
from diffedit.io.files import find_shipped, resolve_path

WIDTH = 100
# Groups of conf/ that a user chooses from, in the order of the list: what they are, and where they are chosen.
GROUPS = {
    "editor": "methods: diffedit run editor=NAME, diffedit edit --editor NAME",
    "editor/mask": "masks of methods that have one: editor/mask=NAME",
    "editor/mask/outliers": "extreme values of a contrast map: editor/mask/outliers=NAME",
    "editor/mask/threshold": "from a contrast map to a mask: editor/mask/threshold=NAME",
    "reconstruct": "the background after the edit: reconstruct=NAME",
    "rank": "which of several samples is the one: rank=NAME",
    "backbone": "models that edit: diffedit run backbone=NAME, diffedit edit --backbone NAME",
    "benchmark": "pictures and what is asked of them: diffedit run benchmark=NAME",
    "benchmark/grammar": "prompts of generated pictures: benchmark/grammar=NAME",
    "launcher": "who edits: diffedit run launcher=NAME",
    "metric": 'measures: diffedit score "metric=[NAME,NAME]"',
    "networks": "networks that measure, by family: diffedit score networks=NAME",
    "logger": "where scores go beside their runs, and pages: diffedit score, report logger=NAME",
    "experiment": "figures and tables of papers: diffedit run experiment=NAME",
    "table": "their scores: diffedit score table=NAME",
    "figure": "their plots: diffedit plot figure=NAME",
    "names": "what methods and metrics are called in them: diffedit plot, table names=NAME",
}
NAMED_LATER = "that of the weights you name"


@dataclass(frozen=True)
class Choice:
    """One yaml of a group.

    Attributes:
        group: folder of conf/.
        name: as it is chosen.
        description: the first line of its comment.
        licence: of the weights that it loads; empty where it loads none.
        published: values that a paper reports for it; empty where none are at hand.
    """

    group: str
    name: str
    description: str
    licence: str = ""
    published: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 2 for a group that there is not."""
    options = make_parser().parse_args(argv)
    folders = [Path(folder).expanduser() / "conf" for folder in options.include]
    folders += [Path(folder).expanduser() for folder in options.config_dir]
    for folder in folders:
        if not folder.is_dir():
            print(f"{folder}: no such folder", file=sys.stderr)
            return 2
    groups = [find_group(group) for group in options.groups] or list(GROUPS)
    if None in groups:
        unknown = options.groups[groups.index(None)]
        print(f"{unknown}: no such group; there are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    folders.append(find_shipped("conf"))
    choices = [choice for group in groups for choice in list_choices(folders, group)]
    if options.json:
        print(json.dumps([asdict(choice) for choice in choices], indent=1, ensure_ascii=False))
    else:
        show(choices, [group for group in groups if group])
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        "diffedit ls",
        description="List what there is: methods, models, benchmarks, metrics, networks, experiments, a line each.",
        epilog="examples:\n  diffedit ls\n  diffedit ls editor backbone\n  diffedit ls metric --json\n"
        "  diffedit ls editor --include examples\n\n" + textwrap.fill(f"groups: {', '.join(GROUPS)}", WIDTH),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="of these alone (all)")
    parser.add_argument("--include", metavar="DIR", action="append", default=[], help="also of DIR/conf")
    parser.add_argument(
        *("--config-dir", "-cd"), metavar="DIR", action="append", default=[], help="also of a folder of your own yaml"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def find_group(name: str) -> str | None:
    """The group of that name, in the singular or the plural; None where there is none."""
    return next((group for group in GROUPS if name.strip("/") in (group, f"{group}s")), None)


# -------------------------------------------------------------------------------------------------------- what is there


def list_choices(folders: Sequence[Path], group: str) -> Iterator[Choice]:
    """The choices of a group by name; of two files of one name, that in the first folder."""
    files: dict[str, Path] = {}
    for folder in folders:
        for path in folder.joinpath(group).glob("[!_]*.yaml"):
            files.setdefault(path.stem, path)
    for name, path in sorted(files.items()):
        config = read_choice(folders, group, path)
        published = summarize_published(folders, name, config) if group == "experiment" else ""
        yield Choice(group, name, read_description(path), describe_licences(config), published)


def read_description(path: Path) -> str:
    """The first sentence of a yaml's comment: its first line, and the lines below it that are indented."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line[1:] for line in lines if line.startswith("#") and not line.startswith("# @package")]
    first, rest = comment[:1], comment[1:]
    for line in rest:
        if not line.startswith("  "):
            break
        first.append(line)
    return " ".join(line.strip() for line in first)


def read_choice(folders: Sequence[Path], group: str, path: Path) -> dict[str, Any]:
    """A yaml over those of its group that it names in its defaults."""
    config = read_yaml(path)
    merged: dict[str, Any] = {}
    for entry in config.pop("defaults", ()):
        name = f"{entry}.yaml"
        if base := next((folder / group / name for folder in folders if (folder / group / name).is_file()), None):
            merged = merge(merged, read_choice(folders, group, base))
    return merge(merged, config)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two configs, the values of the second over those of the first."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        merged[key] = merge(below[key], value) if both else value
    return merged


def describe_licences(config: Mapping[str, Any]) -> str:
    """The licences of the weights that a config loads, with the networks' names where there are several."""
    if config.get("path") == "???" and ".backbones." in config.get("_target_", ""):
        return NAMED_LATER
    licences = {entry["name"]: entry["licence"] for entry in find_weights(config)}
    if len(set(licences.values())) <= 1:
        return next(iter(licences.values()), "")
    return "; ".join(f"{name}: {licence}" for name, licence in licences.items())


# --------------------------------------------------------------------------------------------------- what papers report


def summarize_published(folders: Sequence[Path], name: str, experiment: Mapping[str, Any]) -> str:
    """What a paper reports for an experiment: its first method here, at ratio 0.5 where there is one."""
    editors = str(experiment.get("hydra", {}).get("sweeper", {}).get("params", {}).get("editor", "")).split(",")
    for folder in folders:
        for path in sorted(folder.glob("table/*.yaml")):
            table = read_choice(folders, "table", path)
            pattern = str(table.get("runs")).rpartition("/")[2]
            if table.get("published") and fnmatch(f"experiment={name}", pattern):
                with resolve_path(table["published"]).open(newline="", encoding="utf-8") as file:
                    return pick_published(list(csv.DictReader(file)), editors, table["columns"])
    return ""


def pick_published(rows: Sequence[Mapping[str, str]], editors: Sequence[str], columns: Sequence[str]) -> str:
    """One published point in words: of the first of these editors that has one, else of the first method."""
    known = {row.get("editor") or row["method"].lower().replace(" ", "_"): row["method"] for row in reversed(rows)}
    method = next((known[editor] for editor in editors if editor in known), rows[0]["method"])
    of_method = [row for row in rows if row["method"] == method]
    place = next((row for row in of_method if row.get("ratio") == "0.5"), of_method[0])
    point = [row for row in of_method if row.get("point") == place.get("point") and row["metric"] in columns]
    ratio = f" at r = {place['ratio']}" if place.get("ratio") else ""
    return f"published: {method}{ratio}: " + ", ".join(f"{row['metric']} {row['value']}" for row in point[:3])


# ----------------------------------------------------------------------------------------------------------------- show


def show(choices: Sequence[Choice], groups: Sequence[str]) -> None:
    """Print the list, a table a group, in at most 100 columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH), highlight=False)
    for group in groups:
        rows = [choice for choice in choices if choice.group == group]
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column()
        for choice in rows:
            text = Text(choice.description)
            for end in filter(None, (*choice.licence.split("; "), choice.published)):
                text.append(f"\n{end}" if "; " in choice.licence else f"  [{end}]", "dim")
            table.add_row(f"  {choice.name}", text)
        if rows:
            console.print(Text.assemble((group, "bold"), f"  {GROUPS[group]}"), table, "")
