"""Completion in a shell: what may stand where the cursor is. `eval "$(diffedit --completion bash)"` switches it on."""

import contextlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from importlib import import_module

from diffedit.io.choices import list_choices

# The candidates come whole, a line each; bash replaces only what stands behind the last `=`, where that parts words.
BASH = r"""_diffedit() {
    local current="${COMP_LINE:0:COMP_POINT}" cut="" IFS=$'\n'
    COMPREPLY=($(COMP_LINE="$current" diffedit --complete 2>/dev/null))
    current="${current##*[[:space:]]}"
    [[ $COMP_WORDBREAKS == *=* && $current == *=* ]] && cut="${current%"${current##*=}"}"
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -o nospace -o default -F _diffedit diffedit"""
SHELLS = {"bash": BASH}

# By Hydra.
COMPOSED = ("run", "plan", "score", "plot", "table", "report", "doctor", "check-benchmark", "reference-stats")
CONFIGS = {"plan": "run", "table": "paper_table"}  # of those that have none of their own name
FLAGS = ("--help", "--multirun", "--cfg", "--info", "--config-dir", "--include")  # of these
GROUPS = {"--editor": "editor", "--backbone": "backbone"}  # whose choices an option of `diffedit edit` takes
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def complete(line: str, commands: Iterable[str]) -> list[str]:
    """What the last word of a command line may become; a whole word ends in a space, so that the next one can begin.

    Args:
        line: up to the cursor.
        commands: of `diffedit`.
    """
    words = line.split()[1:]
    current = words.pop() if words and not line[-1:].isspace() else ""
    found = find_candidates(words, current, commands)
    return sorted(word if word[-1] in "=./" else f"{word} " for word in found if word.startswith(current))


def find_candidates(words: Sequence[str], current: str, commands: Iterable[str]) -> Iterable[str]:
    """Words that may stand behind `words`; of those for which `current` is no beginning the caller takes none."""
    if not words:
        return [*commands, "--help", "--version", "--completion"]
    name = words[0].replace("_", "-")
    if name in COMPOSED:
        return (
            FLAGS
            if current.startswith("-")
            else ask_hydra(CONFIGS.get(name, name.replace("-", "_")), words[1:], current)
        )
    if group := GROUPS.get(words[-1]):
        return list_choices(group)
    if current.startswith("-"):
        return list_options(name) if name in commands else ()
    return ask_hydra("edit", [], current) if name == "edit" and current else ()  # else a file, which bash completes


def list_options(name: str) -> set[str]:
    """The options in the help of a command."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        import_module(f"diffedit.commands.{name.replace('-', '_')}").main(["--help"])
    return set(OPTION.findall(text.getvalue()))


def ask_hydra(config: str, words: Sequence[str], current: str) -> list[str]:
    """The settings and choices of a config that begin as the current word, after the overrides that stand before it."""
    from diffedit.commands.launch import launch
    from diffedit.runs.names import register_resolvers

    register_resolvers()
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    text = io.StringIO()
    os.environ["COMP_LINE"] = " ".join(["diffedit", *overrides, current])
    with contextlib.redirect_stdout(text):
        launch(config, lambda cfg: None, ["--shell-completion", "query=bash"])
    found = [word for word in text.getvalue().split() if "=_" not in word]  # a yaml that others are made of
    return [word if "=" in word or word[-1] in "./" else f"{word}=" for word in found]
