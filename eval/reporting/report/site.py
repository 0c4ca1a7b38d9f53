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

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd
from tqdm.auto import tqdm

from diffedit.io.files import write
from eval.reporting.collect import collect, find_readable
from eval.reporting.findings import Figure
from eval.reporting.report.foot import describe_run, find_differences
from eval.reporting.report.pairs import compare_pairs, find_pairs, mark_sides
from eval.reporting.report.requests import describe_requests
from eval.reporting.report.scripts import PAGE, SCRIPTS, STYLE, encode_script, encode_sprite, render_page
from eval.reporting.report.sets import RunSet, find_sets
from eval.reporting.report.summary import FIRST_Y, summarise
from eval.reporting.report.tiles import BEFORE, Drawn, count_tiles, draw_request, find_side
from eval.reporting.report.values import measure_set
from eval.reporting.seeds import merge_seeds
from eval.scoring.finished_run import FinishedRun

log = logging.getLogger(__name__)

MEGABYTE = 1e6
CHUNK = 50  # requests whose outlines are one file
LIST = Path("page", "files.txt")  # of what a page consists of: nothing else is removed by the next one


@dataclass(frozen=True)
class PageSettings:
    """What a page shows, and how it is written; see conf/report.yaml."""

    x: str = "lpips"
    y: Sequence[str] = ()
    method: str = "diffedit"
    thumbs: int = 96
    count: int | None = None
    copy: bool = False
    single_file: bool = False
    limit: float = 20
    threads: int = 2
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("thumbs", 16), ("threads", 1), ("limit", 0.001)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)}: at least {least}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count = {self.count}: at least one request; null for all")
        if self.copy and self.single_file:
            raise ValueError("copy = true: of a folder; single_file=true has thumbnails alone, and refers to the rest")


DEFAULTS = {PageSettings.x, *FIRST_Y}  # metrics that a benchmark need not have


class Written:
    """The files of a page, by what they are called beside it; scripts and thumbnails of a single file are kept."""

    def __init__(self, out: Path, settings: PageSettings) -> None:
        self.out, self.settings = out, settings
        self.scripts: list[str] = []
        self.names: set[Path] = set()
        self.size = 0

    def add_script(self, name: str, data: Any) -> None:
        """Data that the page asks for by this name."""
        text = encode_script(name, data)
        if self.settings.single_file:
            self.scripts.append(text)
            self.size += len(text)
        else:
            self.put(
                Path("data", *(quote(part, safe=" ") for part in name.split("/"))).with_suffix(".js"), text.encode()
            )

    def put(self, name: Path, data: bytes) -> None:
        """A file."""
        path = self.out / name
        self.names.add(name)
        if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
            write(path, data)

    def check(self, share: float = 1.0) -> None:
        """Refuse a single file that would be too large, as far as it is known when a share of it is there."""
        if self.settings.single_file and self.size > self.settings.limit * MEGABYTE:
            raise ValueError(
                f"single_file = true: the page would have about {self.size / MEGABYTE / share:.3g} MB, more than "
                f"limit = {self.settings.limit:g}: show less by runs= or count=, or smaller by thumbs=, or raise limit="
            )

    def finish(self) -> None:
        """Remove what an earlier page left here and this one does not have, by the list that it left; leave our own."""
        listed = self.out / LIST
        before = listed.read_text().splitlines() if listed.is_file() else []
        for name in {*map(Path, before)} - self.names:
            if not name.is_absolute() and ".." not in name.parts:
                (self.out / name).unlink(missing_ok=True)
        write(listed, "".join(f"{name.as_posix()}\n" for name in sorted(self.names)).encode())


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
    beside = out.parent if settings.single_file else out
    written = Written(out, settings)
    parts = [describe_set(shown, settings, published, written, beside, problems, sides or {}) for shown in sets]
    problems += find_unknown(parts, settings)
    findings = [Figure(**found) for part in parts for found in part["findings"]]
    title = ", ".join(dict.fromkeys(shown.names[0] for shown in sets))
    index = {"title": title, "sets": parts, "problems": problems, "commands": list(commands)}
    index["single"] = settings.single_file
    written.add_script("index", index)
    written.check()
    page = render_page(title, written.scripts if settings.single_file else None)
    if settings.single_file:
        path = out.with_name(f"{out.name}.html")
        written.size = len(page.encode())
        written.check()
        write(path, page.encode())
        return Report(path, problems, findings)
    for name in (*SCRIPTS, STYLE):
        written.put(Path("page", name), (PAGE / name).read_bytes())
    written.put(Path("index.html"), page.encode())
    written.finish()
    return Report(out / "index.html", problems, findings)


def find_unknown(parts: Sequence[Mapping[str, Any]], settings: PageSettings) -> list[str]:
    """Metrics and a method that were asked for by name and are in no set, in words; those of the defaults may lack."""
    scored = {metric for part in parts for metric in part["metrics"]}
    methods = {method["name"] for part in parts for method in part["methods"] if not method["is_bound"]}
    asked = {f"x = {settings.x}": settings.x, **{f"y = {name}": name for name in settings.y}}
    unknown = {what: scored for what, name in asked.items() if name not in scored | DEFAULTS}
    if settings.method not in methods | {PageSettings.method}:
        unknown[f"method = {settings.method}"] = methods
    return [f"{what}: not scored; there are {', '.join(sorted(names)) or 'none'}" for what, names in unknown.items()]


def describe_set(
    shown: RunSet,
    settings: PageSettings,
    published: pd.DataFrame | None,
    written: Written,
    beside: Path,
    problems: list[str],
    sides: Mapping[str, str],
) -> dict[str, Any]:
    """Write what belongs to a set; returns what the first view shows of it."""
    readable = find_readable([run.root for run in shown.runs])
    scores = collect(readable)
    if not scores.empty and not sides:
        scores = merge_seeds(scores, settings.resamples, settings.seed)
    pairs = find_pairs(shown, sides) if sides else []
    compared, faults = compare_pairs(shown, pairs, settings.resamples, settings.seed)
    problems += faults
    measured, faults = measure_set(shown)
    problems += [fault for fault in dict.fromkeys(faults) if fault not in problems]
    written.add_script(f"{shown.key}/requests", describe_requests(shown))
    for i, values in enumerate(measured.values()):
        written.add_script(f"{shown.key}/values/{i}", values.encode())
    written.check()
    side = find_side(shown, settings.thumbs)
    drawn = [request._replace(files={}) for request in draw_all(shown, side, written)]
    problems += dict.fromkeys(fault for request in drawn for fault in request.faults)
    for i, start in enumerate(range(0, len(drawn), CHUNK)):
        lines = [[list(outline or ()) for outline in request.outlines] for request in drawn[start:][:CHUNK]]
        written.add_script(f"{shown.key}/outlines/{i}", lines)
    columns, rows = count_tiles(shown)
    return {
        "key": shown.key,
        "title": shown.title,
        "names": shown.names,
        "n": shown.total,
        "shown": len(shown.requests),
        "strengths": shown.strengths,
        "strength_name": shown.strength_name,
        "tiles": {"side": side, "columns": columns, "rows": rows, "before": BEFORE, "chunk": CHUNK},
        "resolution": max(run.edit_resolution for run in shown.runs),
        "sprites": [request.name for request in drawn],
        "runs": list_runs(shown, list(place_runs(shown, settings, written, beside))),
        "differences": find_differences(shown),
        "pairs": pairs,
        "compared": compared,
        "masked": [has_any(shown, run, "mask") for run in shown.runs],
        "mapped": [has_any(shown, run, "map") for run in shown.runs],
        "measured": [{"name": name, "higher": values.higher_is_better} for name, values in measured.items()],
        **summarise(mark_sides(scores, sides), published, settings.method, settings.x, settings.y),
    }


def has_any(shown: RunSet, run: FinishedRun, name: str) -> bool:
    """Whether a run has a mask, or a map, of any request."""
    return any(run.records[request.id].get(name) for request in shown.requests)


def draw_all(shown: RunSet, side: int, written: Written) -> Iterator[Drawn]:
    """Draw what belongs to each request, in order, and write it."""
    single = written.settings.single_file
    places, out = range(len(shown.requests)), None if single else written.out
    with ThreadPoolExecutor(written.settings.threads, "tiles") as pool:
        drawn = pool.map(lambda place: draw_request(shown, place, side, out), places)
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
                        write(written.out / path, data)
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


def place_runs(shown: RunSet, settings: PageSettings, written: Written, beside: Path) -> Iterator[str]:
    """Where the pictures of each run lie, from the page on; copied, where that is asked for."""
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
