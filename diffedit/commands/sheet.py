"""`diffedit sheet`: input, contrast map, mask, each edit of finished runs, and the true edit where it is known."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffedit.commands.launch import tell


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    example = "example:\n  diffedit sheet runs/stilllife_scenes/stilllife/*/default --out sheet.png"
    parser = argparse.ArgumentParser(
        "diffedit sheet",
        description="Draw a contact sheet of finished runs of one benchmark: a row a request and run.",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run directories of the same benchmark")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="file to write (default sheet.png)")
    parser.add_argument("--count", type=int, default=8, help="requests to show, spread over all (default 8)")
    options = parser.parse_args(argv)
    if options.count < 1:
        parser.error("--count: at least one request")
    try:
        draw(options.runs, options.count, options.out)
    except Exception as error:
        return tell(error, "diffedit sheet")
    print(options.out)
    return 0


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
