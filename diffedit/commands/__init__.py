"""The command line: `diffedit COMMAND ...`, or `python -m diffedit`; the module of a command is imported with it."""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from diffedit.runs.stop import StopRequested

COMMANDS = {
    "edit": "edit one picture: a file, or a rendered still life",
    "run": "edit every request of a benchmark; go on where a killed run stopped",
    "plan": "what a run would cost: evaluations, shards, time, disk; nothing is edited",
    "score": "score finished runs, or two folders of pictures; print tables",
    "plot": "edit strength over fidelity; compare methods at equal accuracy",
    "table": "scores as a table for a paper: Markdown, LaTeX, HTML or CSV",
    "report": "a page on runs: curves, tables, and a gallery of every edit",
    "status": "how far runs are: done, failed and why, missing, who is at it, how long yet",
    "clean": "remove what dead processes left in runs",
    "archive": "the pictures of a run in one file, and back",
    "sheet": "a contact sheet of finished runs",
    "ls": "what there is: editors, benchmarks, backbones, metrics, networks, experiments",
    "cite": "the BibTeX of what a run used",
    "demo": "edit, score and plot Still Life; a page to look at, in minutes on two cores",
    "doctor": "look at a model before it is used: what it is, whether its answers are normal",
    "check-benchmark": "open every picture and mask of a benchmark before a long run",
    "reference-stats": "statistics of real pictures, for FID and its kin",
}
EXIT_CODES = {
    0: "done",
    1: "some failed: what was done is saved, and what failed is listed",
    2: "refused: settings, files or names are wrong, and nothing was computed",
    3: "not done yet: another process is at it, or a signal stopped it; the same command goes on",
}

STOPPED = 130  # by Ctrl-C, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Call a command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(describe_commands())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"diffedit {read_version()}")
        return 0
    if words[0] in ("--completion", "--complete"):
        return help_shell(words)
    name = words[0].replace("_", "-")
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1, 0.5) or ["--help"]
        print(f"diffedit {words[0]}: there is no such command; did you mean diffedit {near[0]}?", file=sys.stderr)
        return 2
    try:
        code = run_command([name, *words[1:]])
        sys.stdout.flush()
        return code
    except StopRequested as stopped:
        print(f"diffedit {name}: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except BrokenPipeError:  # what reads the output has had enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED


def run_command(words: Sequence[str]) -> int:
    """Call a command that there is; returns its exit code. A StopRequested where a signal stopped it."""
    return import_module(f"diffedit.commands.{words[0].replace('-', '_')}").main(list(words[1:]))


def describe_commands() -> str:
    """The screen of `diffedit --help`."""
    width = max(map(len, COMMANDS))
    lines = ["Text-driven image editing with diffusion models: methods, benchmarks, scores and plots.", ""]
    lines += ["usage: diffedit COMMAND ...", "       diffedit COMMAND --help", ""]
    lines += [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    lines += ["", "Examples:"]
    lines += ['  diffedit edit cat.jpg --target "a photo of a dog" --backbone sd15', "  diffedit run benchmark.size=32"]
    lines += ["  diffedit ls editor", '  eval "$(diffedit --completion bash)"             completion, in a bash', ""]
    lines += ["Exit codes of all commands:"]
    lines += [f"  {code}  {text}" for code, text in EXIT_CODES.items()]
    return "\n".join(lines)


def help_shell(words: Sequence[str]) -> int:
    """Print what switches completion on in a shell, or, asked by it, what may stand where its cursor is."""
    from diffedit.commands.complete import SHELLS, complete

    if words[0] == "--complete":
        print("\n".join(complete(os.environ.get("COMP_LINE", ""), COMMANDS)))
        return 0
    if words[1:] not in [[shell] for shell in SHELLS]:
        print(f"diffedit --completion SHELL: there is {', '.join(SHELLS)}", file=sys.stderr)
        return 2
    print(SHELLS[words[1]])
    return 0


def read_version() -> str:
    """Of the installed package."""
    try:
        return version("diffedit")
    except PackageNotFoundError:
        return "of a checkout that is not installed"
