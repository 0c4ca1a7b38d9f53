"""A contact sheet of finished runs: input, contrast map, mask, each edit, and the true edit where it is known."""

import argparse
from pathlib import Path

from eval.reporting.contact_sheet import draw_run_sheet
from eval.scoring.finished_run import FinishedRun


def main() -> None:
    """Command line."""
    example = "example: python scripts/sheet.py runs/stilllife_scenes/stilllife/*/default --out sheet.png"
    parser = argparse.ArgumentParser(description=__doc__, epilog=example)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories of the same benchmark")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="file to write (default sheet.png)")
    parser.add_argument("--count", type=int, default=8, help="requests to show, spread over all (default 8)")
    args = parser.parse_args()
    if args.count < 1:
        parser.error("--count: at least one request")
    runs = [FinishedRun(root) for root in args.runs]
    for run in runs:
        run.check()
    try:
        page = draw_run_sheet(runs, args.count)
    except ValueError as error:
        parser.error(str(error))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    page.save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
