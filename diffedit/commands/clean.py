"""`diffedit clean`: remove what processes left in runs that were killed."""

import argparse
import logging
from collections.abc import Sequence

from diffedit.commands.launch import tell
from diffedit.runs.clean import clean_run
from diffedit.runs.find import find_runs

logging.getLogger("run").addHandler(logging.NullHandler())  # what is taken over is told here


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 3 where a process is at one of the runs; the others are cleaned."""
    options = make_parser().parse_args(argv)
    codes, count = [0], 0
    try:
        roots = find_runs(options.runs)
    except OSError as error:
        return tell(error, "diffedit clean")
    for root in roots:
        try:
            for left in clean_run(root, options.aside, options.pack, options.dry_run):
                print(f"{name_deed(left.remove is not None, options.dry_run)} {left.path}: {left.what}")
                count += left.remove is not None
        except Exception as error:
            codes.append(tell(error, "diffedit clean"))
    print(f"{len(roots)} runs, {count} {'things to clean' if options.dry_run else 'things cleaned'}")
    return max(codes)


def name_deed(is_removed: bool, is_dry: bool) -> str:
    """What is done to a thing."""
    return "stays:" if not is_removed else "would clean" if is_dry else "cleaned"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        "diffedit clean",
        description="Remove what killed processes left in runs: temporary files (of this host and container), stale\n"
        "claims. No picture and no record is lost. A run that a process is at is refused: exit code 3.",
        epilog="examples:\n  diffedit clean --dry-run\n  diffedit clean runs/imagenet --pack",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", metavar="FOLDER", default=["runs"], help="of runs, at any depth (runs)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and change nothing")
    parser.add_argument(
        "--aside", action="store_true", help="also what lay in the place of a file, and is called *.aside now"
    )
    parser.add_argument("--pack", action="store_true", help="also put records beside a finished shard into its file")
    return parser
