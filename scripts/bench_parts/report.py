"""What a sub-command leaves: result.json, result.md (a table that fits 100 columns) and result.png."""

import json
import os
import platform
import textwrap
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from matplotlib.figure import Figure

from diffedit.io.files import write
from diffedit.runs.environment import describe_environment

WIDTH = 100
INTERNAL = ("out", "command", "tiny")  # of the command line, not of the measurement
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "KMP_BLOCKTIME", "SLURM_CPUS_PER_TASK")


@dataclass(frozen=True)
class Table:
    """Rows of words under a title; the first column is flushed left, the others right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def render(self) -> str:
        """As Markdown.

        Raises:
            ValueError: a line would be longer than 100 columns.
        """
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        flush = [str.ljust, *[str.rjust] * (len(widths) - 1)]

        def join(cells: Sequence[str]) -> str:
            return f"| {' | '.join(pad(cell, width) for pad, cell, width in zip(flush, cells, widths, strict=True))} |"

        rule = f"| {' | '.join('-' * (w - (i > 0)) + ':' * (i > 0) for i, w in enumerate(widths))} |"
        text = [join(self.header), rule, *map(join, self.rows)]
        if len(text[0]) > WIDTH:
            raise ValueError(f"the table {self.title!r} is {len(text[0])} columns wide, more than {WIDTH}")
        return "\n".join([f"**{self.title}**", "", *text])


class Report:
    """The result of one sub-command, in a folder; saved as often as there is something new.

    Args:
        name: of the sub-command.
        args: its command line.
    """

    def __init__(self, name: str, args: Namespace) -> None:
        self.name, self.out = name, Path(args.out or Path("bench") / name)
        self.settings = {key: value for key, value in vars(args).items() if key not in INTERNAL}
        self.environment = describe_machine()
        self.notes: list[str] = []

    def save(self, results: Mapping[str, Any], tables: Sequence[Table], draw: Callable[[Figure], None]) -> None:
        """Write the three files.

        Args:
            results: goes into result.json beside settings and environment.
            tables: of result.md.
            draw: draws onto the figure of result.png.
        """
        self.environment |= {"load_after": os.getloadavg()[0], "seconds": time.time() - self.environment["began"]}
        whole = {"benchmark": self.name, "settings": self.settings, "environment": self.environment}
        whole |= {"results": results, "notes": self.notes}
        write(self.out / "result.json", json.dumps(whole, indent=1, default=str).encode())
        write(self.out / "result.md", f"{self.describe(tables)}\n".encode())
        figure = Figure(figsize=(8.0, 4.8), layout="constrained")
        draw(figure)
        figure.savefig(self.out / "result.png", dpi=110)

    def describe(self, tables: Sequence[Table]) -> str:
        """The text of result.md."""
        machine = self.environment
        head = f"`bench.py {self.name}`, revision {(machine['git'] or 'unknown')[:10]}, {machine['device']}, "
        head += f"{machine['cores']} cores, {machine['threads']} threads, torch {machine['packages']['torch']}; "
        head += f"load {machine['load_before']:.1f} before, {machine['load_after']:.1f} after"
        notes = "\n".join(wrap(f"- {note}", "  ") for note in self.notes)
        return "\n\n".join(filter(None, [wrap(head), *(table.render() for table in tables), notes]))


def wrap(text: str, indent: str = "") -> str:
    """A paragraph in lines of at most 100 columns; `indent` of all but the first."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def describe_machine() -> dict[str, Any]:
    """Versions, revision and device, and what decides how fast threads are."""
    machine = describe_environment()
    if not torch.cuda.is_available():
        machine["device"] = read_cpu_name() or machine["device"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count()
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    began = {"began": time.time(), "load_before": os.getloadavg()[0]}
    return machine | {"cores": cores, "memory_gb": psutil.virtual_memory().total / 1e9} | variables | began


def read_cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
