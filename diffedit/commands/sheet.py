"""`diffedit sheet`: what finished runs made of the same requests: a contact sheet, or a strip of edits for a paper."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffedit.commands.launch import tell

EXAMPLE = """examples:
  diffedit sheet runs/stilllife_scenes/stilllife/*/default --out sheet.png
  diffedit sheet runs/*/*/*/default --form strip --count 4 --ratio 0.5 0.7 --out strip.pdf
  diffedit sheet runs/*/*/*/default --form strip --quantile lpips --width column --out strip.svg"""
OF_STRIP = ("id", "quantile", "ratio", "width", "no_caption")  # options that a sheet does not know


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.count < 1:
        parser.error("--count: at least one request")
    if options.form == "sheet" and (given := [name for name in OF_STRIP if getattr(options, name)]):
        parser.error(f"--{given[0].replace('_', '-')}: of --form strip")
    if options.id and options.quantile:
        parser.error("--id, --quantile: one of them chooses the requests")
    try:
        if options.form == "strip":
            out = draw_paper_strip(options)
        else:
            draw(options.runs, options.count, out := options.out)
    except Exception as error:
        return tell(error, "diffedit sheet")
    print(out)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        "diffedit sheet",
        description="Draw finished runs of one benchmark: a contact sheet, a row a request and run; or a strip of\n"
        "edits for a paper (inputs x methods x ratios), whose texts and outlines of masks are vectors.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories of the same benchmark")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="file to write (default sheet.png)")
    parser.add_argument("--count", type=int, default=8, help="requests to show, spread over all (default 8)")
    parser.add_argument("--form", choices=("sheet", "strip"), default="sheet", help="default sheet")
    strip = parser.add_argument_group("of --form strip, whose --out ends in .pdf, .svg or .png")
    strip.add_argument("--id", nargs="+", help="requests to show, by id; the caption says so")
    strip.add_argument("--quantile", metavar="METRIC", help="requests at even quantiles of it, of the first run")
    strip.add_argument("--ratio", nargs="+", type=float, help="strengths to show (default: all)")
    strip.add_argument(
        "--width", help="column (3.25 inches), text (6.75), iclr, neurips (5.5), or inches; default text"
    )
    strip.add_argument("--no-caption", action="store_true", help="no line below; the file's metadata have it anyway")
    return parser


def draw(roots: Sequence[Path], count: int, out: Path) -> None:
    """Write the sheet."""
    from diffedit.io.images import write_picture
    from diffedit.runs.archive import leave_out_tars
    from eval.reporting.contact_sheet import draw_run_sheet
    from eval.scoring.finished_run import FinishedRun

    runs = [FinishedRun(root) for root in leave_out_tars(roots)]
    for run in runs:
        run.check()
    write_picture(out, draw_run_sheet(runs, count))


def draw_paper_strip(options: argparse.Namespace) -> Path:
    """Write the strip, and print how its requests were chosen; returns the file."""
    from diffedit.runs.archive import leave_out_tars
    from eval.reporting.figure_texts import hush_missing
    from eval.reporting.figures import FORMATS, FigureSettings, save_figure
    from eval.reporting.strip import draw_strip
    from eval.reporting.strip_content import check_runs, choose_strengths, read_entries
    from eval.scoring.finished_run import FinishedRun

    ending = options.out.suffix[1:].lower()
    if ending not in FORMATS:
        raise ValueError(f"--out {options.out}: a strip is written as {', '.join(FORMATS)}, by the ending of the file")
    settings = FigureSettings(width=options.width or "text")
    runs = [FinishedRun(root) for root in leave_out_tars(options.runs)]
    check_runs(runs)
    strengths = choose_strengths(runs, options.ratio)
    places, how = choose_requests(runs, options)
    for run in runs:
        run.check()
    entries = list(read_entries(runs, places, strengths))
    caption = f"Requests {', '.join(entry.id for entry in entries)}: {how}."
    with hush_missing():
        figure = draw_strip(entries, settings, "" if options.no_caption else caption)
        (path,) = save_figure(figure, options.out.with_suffix(""), [ending], caption)
    print(caption)
    return path


def choose_requests(runs: Sequence, options: argparse.Namespace) -> tuple[list[int], str]:
    """(places of the requests to show, how they were chosen)."""
    from eval.reporting.strip_content import choose_by_id, choose_by_quantile, choose_evenly

    if options.id:
        return choose_by_id(runs, options.id)
    if options.quantile:
        return choose_by_quantile(runs, options.count, options.quantile)
    return choose_evenly(runs, options.count)
