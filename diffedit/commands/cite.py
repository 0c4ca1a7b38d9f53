"""`diffedit cite`: the BibTeX of what finished runs are made of: methods, models, data, metrics, networks."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

from diffedit.commands.sources import find_parts, holds, read_references, read_sources, read_yaml
from diffedit.io.files import find_shipped
from diffedit.runs.archive import leave_out_tars

PROJECT = "diffedit_framework"
SECTIONS = ("editor", "reconstruct", "rank", "benchmark", "backbone")  # of a run's config, in the order of the output


class Citation(NamedTuple):
    """That a part of a run is somebody's work.

    Attributes:
        key: of references.bib; empty where the part is not known here.
        reason: what it is cited for; where there is no key, what is not known.
    """

    key: str
    reason: str


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 2 for a folder that holds no run."""
    options = make_parser().parse_args(argv)
    roots: list[Path] = []
    for pattern in options.runs:
        found = leave_out_tars(Path(path) for path in sorted(glob(pattern)) or [pattern])
        if lost := [path for path in found if not (path / "config.yaml").is_file()]:
            print(f"{lost[0]}: no run directory: it holds no config.yaml", file=sys.stderr)
            return 2
        roots += found
    reasons: dict[str, list[str]] = {PROJECT: ["the code"]}
    for root in roots:
        for citation in cite_run(root):
            listed = reasons.setdefault(citation.key, [])
            listed += [citation.reason] if citation.reason not in listed else []
    unknown = reasons.pop("", [])
    print("\n\n".join(write_entry(key, texts) for key, texts in reasons.items()))
    if unknown:
        print("\n" + "\n".join(f"% Not known here: {text}" for text in unknown))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        "diffedit cite",
        description="Print the BibTeX of what runs are made of: methods, models, data, and the metrics and networks\n"
        "of their scores. A comment says what each entry is cited for.",
        epilog="examples:\n  diffedit cite runs/stilllife_scenes/stilllife/diffedit/default\n"
        '  diffedit cite "runs/*/*/*/*" > references.bib',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directory, or a glob of some")
    return parser


def write_entry(key: str, reasons: Sequence[str]) -> str:
    """An entry below what it is cited for."""
    return f"% {'; '.join(reasons)}\n{read_references()[key]}"


def cite_run(root: Path) -> Iterator[Citation]:
    """What a run is made of, then what its scores are."""
    config = read_config(root)
    for section in SECTIONS:
        for part in find_parts(config.get(section)):
            yield from cite_part(part, section)
    path = config.get("backbone", {}).get("path")
    if path and not any(holds(entry["when"], {"path": path}) for entry in read_sources()["weights"]):
        yield Citation("", f"backbone: the weights {path}; their authors say what to cite")
    for file in sorted(root.glob("scores/*.json")):
        scores = json.loads(file.read_bytes())
        if "higher_is_better" in scores and not scores["undefined"]:  # inputs.json is no metric's
            yield from cite_metric(file.stem, scores)


def read_config(root: Path) -> Mapping[str, Any]:
    """The config of a run, with today's names of classes."""
    config = read_yaml(root / "config.yaml")
    targets = {part.get("_target_") for section in SECTIONS for part in find_parts(config.get(section))}
    if targets - {None} <= set(read_sources()["works"]):
        return config
    from diffedit.runs.migrate import migrate_config  # imports torch, and is hardly ever needed

    return migrate_config(config)


def cite_metric(name: str, scores: Mapping[str, Any]) -> Iterator[Citation]:
    """What a metric is made of, with its networks; those are not in scores of before."""
    parts = scores.get("parts")
    if parts is None:
        yield Citation("", f"metric {name}: its networks, as an earlier release scored it")
        file = find_shipped("conf") / "metric" / f"{name}.yaml"
        parts = list(find_parts(read_yaml(file))) if file.is_file() else []
    for part in parts:
        yield from cite_part(part, f"metric {name}")


def cite_part(part: Mapping[str, Any], section: str) -> Iterator[Citation]:
    """What one class with its settings is made of."""
    sources = read_sources()
    target = part.get("_target_")
    if target is not None and target not in sources["works"]:
        yield Citation("", f"{section}: {target}; its author says what to cite")
    works = [sources["works"].get(target, {})]
    works += [
        entry.get("cite", {}) for entry in (*sources["settings"], *sources["weights"]) if holds(entry["when"], part)
    ]
    for work in works:
        for key, what in work.items():
            yield Citation(key, f"{section}: {what}")
