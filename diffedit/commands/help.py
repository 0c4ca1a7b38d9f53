"""The screen of `diffedit COMMAND --help`, made of the comments of the command's own yaml."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from diffedit.commands import EXIT_CODES
from diffedit.io.choices import list_choices
from diffedit.io.files import find_shipped

WIDTH = 100
SETTING = re.compile(r"^(?P<key>[a-z]\w*):(?P<value>.*?)(?:\s+#\s*(?P<comment>.*))?$")
KEYS, VALUES = 15, 20  # columns


def describe_command(program: str, config: str) -> str:
    """Purpose, examples, choices and settings of a command that Hydra composes.

    Args:
        program: as it is typed.
        config: name of its yaml.
    """
    path = find_shipped("conf") / f"{config}.yaml"
    content = yaml.safe_load(path.read_text())
    texts = content["hydra"]["help"]
    codes = ", ".join(f"{code} {text.partition(':')[0]}" for code, text in EXIT_CODES.items())
    lines = [*textwrap.wrap(texts["header"], WIDTH), "", "Examples:"]
    lines += [f"  {line}" for line in texts["footer"].strip().splitlines()]
    if choices := list(describe_choices(content["defaults"])):
        lines += ["", "Choices (group=choice; `diffedit ls GROUP` says more):", *choices]
    lines += ["", "Settings (key=value):", *describe_settings(path)]
    last = f"All settings: {program} --cfg job. A sweep: --multirun key=a,b. Yaml of your own: --config-dir DIR; "
    last += f"classes too: --include DIR. Exit codes: {codes}."
    lines += ["", *textwrap.wrap(last, WIDTH, break_on_hyphens=False)]
    return "\n".join(lines)


def describe_choices(defaults: list[Any]) -> Iterator[str]:
    """Two lines a group at most, its default first."""
    for entry in defaults:
        if not isinstance(entry, dict):
            continue
        ((group, chosen),) = entry.items()
        if group.startswith("override"):
            continue
        stems = list_choices(group)
        default = f"[{','.join(chosen)}]" if isinstance(chosen, list) else chosen
        start = f"  {group}={default or 'null'}"
        others = ", ".join(stem for stem in stems if stem != chosen and (isinstance(chosen, str) or chosen is None))
        text = f"{start}; {others}" if others else start
        whole = {"break_long_words": False, "break_on_hyphens": False}
        yield from textwrap.wrap(text, WIDTH, subsequent_indent="    ", max_lines=2, placeholder=" ...", **whole)


def describe_settings(path: Path) -> Iterator[str]:
    """A line or two for each setting at the top of a yaml that has a comment."""
    for line in path.read_text().splitlines():
        found = SETTING.match(line)
        if found and found["comment"] and found["key"] not in ("hydra", "defaults"):
            value = found["value"].strip() or "..."
            value = value if len(value) <= VALUES else f"{value[: VALUES - 1]}…"
            head = f"  {found['key']:{KEYS}} {value:{VALUES}} "
            yield from textwrap.wrap(found["comment"], WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
