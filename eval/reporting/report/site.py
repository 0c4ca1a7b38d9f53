"""Write a page on runs: `index.html`, beside it data, thumbnails and its script; or all of it as one file.

index.html               opened from the file system
page/                    script and style
data/index.js            runs, curves, tables: what the first view needs
data/<set>/requests.js   texts, and what became of each request
data/<set>/values/       a file a metric: a number a picture, loaded when it is first asked for
data/<set>/outlines/     of masks, a file for some requests each
tiles/<set>/             a file a request: thumbnails of all that belongs to it
inputs/<set>/            inputs and true edits at full size, which no run has
pictures/<set>/<run>/    the runs' own pictures, where they are copied; else the page refers to where they lie
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tqdm.auto import tqdm

from diffedit.io.files import write
from diffedit.io.prefetch import prefetch
from eval.reporting.collect import collect, find_readable
from eval.reporting.findings import Figure
from eval.reporting.report.files import PageSettings, Written
from eval.reporting.report.foot import describe_run, find_differences
from eval.reporting.report.pairs import compare_pairs, find_pairs, mark_sides
from eval.reporting.report.requests import describe_requests
from eval.reporting.report.scripts import PAGE, SCRIPTS, STYLE, encode_sprite, render_page
from eval.reporting.report.sets import RunSet, find_sets
from eval.reporting.report.summary import FIRST_Y, summarise
from eval.reporting.report.tiles import BEFORE, Drawn, count_tiles, draw_request, find_side
from eval.reporting.report.values import measure_set
from eval.reporting.seeds import merge_seeds
from eval.scoring.finished_run import FinishedRun

CHUNK = 50  # requests whose outlines are one file
DEFAULTS = {PageSettings.x, *FIRST_Y}  # metrics that a benchmark need not have


class Report(NamedTuple):
    """A page that was written.

    Attributes:
        path: of the file to open.
        problems: what could not be shown.
        findings: what the scores say.
    """

    path: Path
    problems: list[str]
    findings: list[Figure]


@dataclass(frozen=True)
class Job:
    """What is needed to write any part of a page, and what could not be shown of it so far."""

    settings: PageSettings
    written: Written
    problems: list[str]
    published: pd.DataFrame | None
    sides: Mapping[str, str]

    def note(self, faults: Iterable[str]) -> None:
        """What could not be shown, each once."""
        self.problems.extend(fault for fault in dict.fromkeys(faults) if fault not in self.problems)


def write_report(
    out: Path,
    roots: Sequence[Path],
    settings: PageSettings,
    published: pd.DataFrame | None = None,
    commands: Sequence[tuple[str, str]] = (),
    sides: Mapping[str, str] | None = None,
) -> Report:
    """Write a page on runs.

    Args:
        out: folder to write to; of a single file, its name without `.html`.
        roots: run directories, of any benchmarks.
        settings: what it shows.
        published: as `eval.reporting.tables.read_published` returns them.
        commands: what to try next: (what for, the command).
        sides: of each run directory, the report (A or B) that it is of, where two are compared; else None.

    Raises:
        ValueError: no run can be shown, or a single file would be too large.
    """
    mark = partial(mark_sides, sides=sides or {})
    sets, problems = find_sets(roots, settings.count, mark, sides is not None)
    if not sets:
        raise ValueError("no run can be shown:\n  " + "\n  ".join(problems))
    written = Written(out, settings)
    job = Job(settings, written, problems, published, sides or {})
    parts = [describe_set(shown, job) for shown in sets]
    job.note(find_unknown(parts, settings))
    findings = [Figure(**found) for part in parts for found in part["findings"]]
    title = ", ".join(dict.fromkeys(shown.names[0] for shown in sets))
    index = {"title": title, "sets": parts, "problems": problems, "commands": list(commands)}
    written.add_script("index", index | {"single": settings.single_file})
    written.check()
    return Report(write_page(title, written), problems, findings)


def write_page(title: str, written: Written) -> Path:
    """Write the page itself, its data being there; returns the file to open."""
    out, is_single = written.out, written.settings.single_file
    page = render_page(title, written.scripts if is_single else None).encode()
    if is_single:
        written.size = len(page)
        written.check()
        path = out.with_name(f"{out.name}.html")
        write(path, page)
        return path
    for name in (*SCRIPTS, STYLE):
        written.put(Path("page", name), (PAGE / name).read_bytes())
    written.put(Path("index.html"), page)
    written.finish()
    return out / "index.html"


def find_unknown(parts: Sequence[Mapping[str, Any]], settings: PageSettings) -> list[str]:
    """Metrics and a method that were asked for by name and are in no set, in words; those of the defaults may lack."""
    scored = {metric for part in parts for metric in part["metrics"]}
    methods = {method["name"] for part in parts for method in part["methods"] if not method["is_bound"]}
    asked = {f"x = {settings.x}": settings.x, **{f"y = {name}": name for name in settings.y}}
    unknown = {what: scored for what, name in asked.items() if name not in scored | DEFAULTS}
    if settings.method not in methods | {PageSettings.method}:
        unknown[f"method = {settings.method}"] = methods
    return [f"{what}: not scored; there are {', '.join(sorted(names)) or 'none'}" for what, names in unknown.items()]


def describe_set(shown: RunSet, job: Job) -> dict[str, Any]:
    """Write what belongs to a set; returns what the first view shows of it."""
    settings = job.settings
    scores = read_scores(shown, job)
    pairs = find_pairs(shown, job.sides) if job.sides else []
    compared, faults = compare_pairs(shown, pairs, settings.resamples, settings.seed)
    job.note(faults)
    job.written.add_script(f"{shown.key}/requests", describe_requests(shown))
    measured = write_measured(shown, job)
    tiles = write_pictures(shown, job)
    return {
        "key": shown.key,
        "title": shown.title,
        "names": shown.names,
        "n": shown.total,
        "shown": len(shown.requests),
        "strengths": shown.strengths,
        "strength_name": shown.strength_name,
        "resolution": max(run.edit_resolution for run in shown.runs),
        "is_square": all(run.is_square for run in shown.runs),
        "runs": list_runs(shown, list(place_runs(shown, job))),
        "differences": find_differences(shown),
        "pairs": pairs,
        "compared": compared,
        "masked": [has_any(shown, run, "mask") for run in shown.runs],
        "mapped": [has_any(shown, run, "map") for run in shown.runs],
        "measured": measured,
        **tiles,
        **summarise(scores, job.published, settings.method, settings.x, settings.y),
    }


def read_scores(shown: RunSet, job: Job) -> pd.DataFrame:
    """The scores of a set; of two reports those of each, else seeds as one method."""
    scores = collect(find_readable([run.root for run in shown.runs]))
    if scores.empty or job.sides:
        return mark_sides(scores, job.sides)
    return merge_seeds(scores, job.settings.resamples, job.settings.seed)


def write_measured(shown: RunSet, job: Job) -> list[dict[str, Any]]:
    """Write what was measured on each picture, a file a metric; returns their names, in the order of the files."""
    measured, faults = measure_set(shown)
    job.note(faults)
    for i, values in enumerate(measured.values()):
        job.written.add_script(f"{shown.key}/values/{i}", values.encode())
    job.written.check()
    return [{"name": name, "higher": values.higher_is_better} for name, values in measured.items()]


def write_pictures(shown: RunSet, job: Job) -> dict[str, Any]:
    """Write thumbnails and outlines; returns where the page finds each."""
    side = find_side(shown, job.settings.thumbs)
    drawn = [request._replace(files={}) for request in draw_all(shown, side, job.written)]
    job.note(fault for request in drawn for fault in request.faults)
    for i, start in enumerate(range(0, len(drawn), CHUNK)):
        lines = [[list(outline or ()) for outline in request.outlines] for request in drawn[start:][:CHUNK]]
        job.written.add_script(f"{shown.key}/outlines/{i}", lines)
    columns, rows = count_tiles(shown)
    tiles = {"side": side, "columns": columns, "rows": rows, "before": BEFORE, "chunk": CHUNK}
    return {"tiles": tiles, "sprites": [request.name for request in drawn]}


def has_any(shown: RunSet, run: FinishedRun, name: str) -> bool:
    """Whether a run has a mask, or a map, of any request."""
    return any(run.records[request.id].get(name) for request in shown.requests)


def draw_all(shown: RunSet, side: int, written: Written) -> Iterator[Drawn]:
    """Draw what belongs to each request, in order, and write it."""
    single = written.settings.single_file
    places, has = range(len(shown.requests)), None if single else written.has
    with ThreadPoolExecutor(written.settings.threads, "tiles") as pool:
        ahead = 4 * written.settings.threads
        drawn = prefetch(places, lambda place: draw_request(shown, place, side, has), ahead, pool)
        bar = tqdm(drawn, shown.title, len(places), unit="request", leave=False, disable=None)
        for place, request in enumerate(bar):
            if single:
                (sprite,) = request.files.values()
                written.add_script(f"{shown.key}/tiles/{place}", encode_sprite(sprite))
                written.check((place + 1) / len(places))
            else:
                for path, data in request.files.items():
                    written.names.add(path)
                    if data is not None:
                        written.put_quickly(path, data)
            yield request


def list_runs(shown: RunSet, bases: Sequence[str]) -> list[dict[str, Any]]:
    """What the page knows of each run, with where its pictures lie."""
    runs = []
    for run, method, label, base in zip(shown.runs, shown.methods, shown.labels, bases, strict=True):
        folders = {variant.strength: variant.folder for variant in run.variants}
        named = {"method": method, "label": label, "root": str(run.root), "base": base}
        places = {"folders": [folders.get(strength) for strength in shown.strengths]}
        runs.append(describe_run(run) | named | places | {"is_bound": bool(run.config["is_bound"])})
    return runs


def place_runs(shown: RunSet, job: Job) -> Iterator[str]:
    """Where the pictures of each run lie, from the page on; copied, where that is asked for."""
    settings, written = job.settings, job.written
    beside = written.out.parent if settings.single_file else written.out
    for k, run in enumerate(shown.runs):
        if not settings.copy:
            yield Path(os.path.relpath(run.root.resolve(), beside.resolve())).as_posix()
            continue
        base = Path("pictures", shown.key, str(k))
        for request in shown.requests:
            record = run.records[request.id]
            files = [edit["file"] for edit in record.get("edits") or ()] + [record["mask"]] * bool(record.get("mask"))
            for file in files:
                copy_file(run.root / file, written.out / base / file)
                written.names.add(base / file)
        yield base.as_posix()


def copy_file(source: Path, target: Path) -> None:
    """Copy a picture that is not there yet; one that is gone is no fault of the page, which says so."""
    if not source.is_file():
        return
    known = target.stat() if target.is_file() else None
    if known is None or (known.st_size, known.st_mtime_ns) != (source.stat().st_size, source.stat().st_mtime_ns):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
