"""Write docs/settings.md from the comments in conf/: `python docs/generate_settings.py`; `--check` only compares."""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
CONF = DOCS.parent / "conf"
PAGE = DOCS / "settings.md"

HEAD = """# Settings

<!-- Made by `python docs/generate_settings.py` of the comments in conf/; edit those. -->

Every setting of every command, as the yaml files of [conf/](../conf) have them. `key=value` sets one and `group=choice`
takes another file of a group; a dot goes down (`editor.mask.blur=1`), and what has a comma or a bracket is quoted
(`"ratios=[0.5,0.8]"`). `???` has to be given. `diffedit COMMAND --cfg job` prints what a command would use. The
training of Still Life's networks ([train.yaml](../conf/train.yaml)) is set in the same way.
"""

# Commands, and what is said of a group; other folders of conf/ are listed by name.
COMMANDS = ("run", "edit", "score", "plot", "paper_table", "report", "doctor", "check_benchmark", "reference_stats")
NAMES = {"paper_table": "table"}  # of commands whose yaml is called otherwise
GROUPS = {
    "editor": "The method: `editor=` of `run` (`--editor` of `edit`).",
    "editor/mask": "Where the mask comes from: `editor/mask=`, for methods that have one.",
    "editor/mask/outliers": "The rule for extreme values of the contrast map: `editor/mask/outliers=`.",
    "editor/mask/threshold": "The threshold of the contrast map: `editor/mask/threshold=`.",
    "backbone": "The model: `backbone=` (`--backbone` of `edit`).",
    "benchmark": "Where the requests come from: `benchmark=`.",
    "benchmark/grammar": "The sentences of `benchmark=generated`: `benchmark/grammar=`.",
    "reconstruct": "What gives the background back: `reconstruct=`, around any method.",
    "rank": "What picks the best of several samples: `rank=`.",
    "launcher": "Who edits what `run` asks for: `launcher=` (see [clusters](clusters.md)).",
    "metric": "The metrics of `score`: `metric=[lpips,accuracy]`.",
    "networks": "The networks that metrics ask: `networks=` of `score` and `reference_stats`.",
    "names": "What figures and tables call methods, metrics and benchmarks: `names=` of `plot` and `table`.",
    "logger": "Where `score` and `report` send what they write, beside its place: `logger=`.",
    "experiment": "Several settings under one name, and a sweep: `experiment=` of `run`.",
    "table": "Metrics, columns and published rows of a paper's table: `table=` of `score`.",
    "figure": "Runs, metrics and published points of a paper's figure: `figure=` of `plot`.",
}
NOTES = ("experiment", "table", "figure")  # these are told about by their comments
BAR = "\\|"

LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w/.]+):(?: +(?P<value>.*?))?(?: +# (?P<comment>.*))?$")


class Setting(NamedTuple):
    """One line of a yaml."""

    key: str  # with dots
    value: str
    comment: str


def read_head(lines: list[str]) -> list[str]:
    """The sentences of the comment above the first setting; a line that is indented goes on with the one before."""
    kept: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").rstrip()
        if kept and text.startswith("  "):
            kept[-1] += f" {text.strip()}"
        elif not text.strip().startswith(("@package", "diffedit ", "python ")):
            kept.append(text.strip())
    return kept


def read_settings(lines: list[str]) -> Iterator[Setting]:
    """The settings of a yaml, with the comments beside and below them; without Hydra's own and the list of defaults."""
    path: list[tuple[int, str]] = []
    found: list[Setting] = []
    skipped = -1  # the indentation of a block that is not listed
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if skipped >= 0 and (indent > skipped or line.lstrip().startswith("- ")):
            continue
        skipped = -1
        if found and indent > 8 and line.lstrip().startswith("# "):
            found[-1] = found[-1]._replace(comment=f"{found[-1].comment} {line.strip()[2:]}")
        match = LINE.match(line)
        if match is None:
            continue
        if match["key"] in ("defaults", "hydra"):
            skipped = indent
            continue
        path = [(depth, key) for depth, key in path if depth < indent]
        path.append((indent, match["key"]))
        if match["key"] == "_recursive_":
            continue
        value, comment = match["value"] or "", match["comment"] or ""
        if value.startswith("# "):
            value, comment = "", value[2:]
        if value or comment:
            found.append(Setting(".".join(key for _, key in path), value.strip(), comment))
    return iter(found)


def escape(text: str) -> str:
    """Text that is not markup, in a cell of a table."""
    return re.sub(r"([|*<])", r"\\\1", text)


def end(text: str) -> str:
    """As a sentence."""
    return text if text.endswith(".") else f"{text}."


def make_table(settings: Iterable[Setting], prefix: str = "") -> Iterator[str]:
    """One row a setting, whose whole name begins with the prefix."""
    rows = [setting for setting in settings if "_target_" not in setting.key]
    if rows:
        yield from ("", "| setting | default | |", "| --- | --- | --- |")
        for key, value, comment in rows:
            default = f"`{value.replace('|', BAR)}`" if value else ""
            yield f"| `{prefix}{key}` | {default} | {escape(comment)} |"
    yield ""


def find_target(settings: Iterable[Setting]) -> str | None:
    """The class that a file makes; None where it makes several, or none."""
    targets = sorted((s.key.count("."), s.value) for s in settings if s.key.split(".")[-1] == "_target_")
    alone = targets and (len(targets) == 1 or targets[0][0] < targets[1][0])
    return targets[0][1] if alone else None


def make_choice(path: Path) -> Iterator[str]:
    """A file of a group: what it is, which class it makes, and its settings."""
    group, text = path.parent.relative_to(CONF).as_posix(), path.read_text()
    settings = list(read_settings(text.splitlines()))
    yield from (f"### {group}: {path.stem}" if path.stem.startswith("_") else f"### {group}={path.stem}", "")
    head = " ".join(end(escape(line)) for line in read_head(text.splitlines()))
    notes = [head[:1].upper() + head[1:]]
    if target := find_target(settings):
        notes.append(f"Makes `{target}`.")
    bases = re.findall(r"(?:^defaults: \[|^  - )(?!_self_)(\w+)(?:, _self_\]|$)", text, re.MULTILINE)
    notes += [f"With the settings of `{base}`." if base.startswith("_") else f"Else as `{base}`." for base in bases]
    yield " ".join(notes)
    yield from make_table(settings, f"{group.replace('/', '.')}.")


def make_notes(path: Path) -> Iterator[str]:
    """A file that is told about by its comment: each of its sentences a point."""
    yield from (f"### {path.parent.name}={path.stem}", "")
    yield from (f"- {end(escape(line))}" for line in read_head(path.read_text().splitlines()))
    yield ""


def make_page() -> str:
    """All of it."""
    page = [HEAD]
    for command in COMMANDS:
        settings = read_settings((CONF / f"{command}.yaml").read_text().splitlines())
        page += [f"## diffedit {NAMES.get(command, command).replace('_', '-')}", *make_table(settings)]
    for group, text in GROUPS.items():
        page += [f"## {group}", "", text, ""]
        make = make_notes if group in NOTES else make_choice
        for path in sorted((CONF / group).glob("*.yaml")):
            page += make(path)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(page)).rstrip() + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not up to date")
    args = parser.parse_args()
    page = make_page()
    if not args.check:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        sys.exit(f"{PAGE.name} is not up to date with conf/: python docs/generate_settings.py")


if __name__ == "__main__":
    main()
