"""`diffedit archive`: the pictures of a run in one file, verified against its records; and back."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from diffedit.commands.launch import tell
from diffedit.runs.archive import FOLDERS, Note, archive_run, extract_run, leave_out_tars, name_tar, read_note

logging.getLogger("run").addHandler(logging.NullHandler())  # a record that is not whole is told here


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: of several runs the largest."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.extract and options.remove:
        parser.error("--extract --remove: a tar whose pictures are back is yours to remove")
    codes = [0]
    try:
        pairs = pair_tars(options.runs, options.out)
    except (OSError, ValueError) as error:
        return tell(error, "diffedit archive")
    for root, tar in pairs:
        try:
            note = extract_run(root, tar) if options.extract else archive_run(root, tar, options.remove)
            print(describe(root, note, options.extract, options.remove))
        except Exception as error:
            codes.append(tell(error, "diffedit archive"))
    return max(codes)


def pair_tars(runs: Sequence[str], out: str | None) -> list[tuple[Path, Path]]:
    """Each run with its tar: where it is told, else where the run says that its pictures are, else beside it.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: two runs would have one tar.
    """
    pairs: dict[Path, Path] = {}
    for root in leave_out_tars(dict.fromkeys(map(Path, runs))):
        if not (root / "config.yaml").is_file():
            raise FileNotFoundError(f"{root}: no run directory: it holds no config.yaml")
        tar = choose_tar(root, out)
        if tar in pairs:
            raise ValueError(f"--out {out}: {pairs[tar]} and {root} would both be {tar}: archive one after the other")
        pairs[tar] = root
    return [(root, tar) for tar, root in pairs.items()]


def choose_tar(root: Path, out: str | None) -> Path:
    """The tar of a run."""
    if out is None:
        note = read_note(root)
        return name_tar(root) if note is None else note.tar
    return Path(out) / name_tar(root).name if out.endswith("/") or Path(out).is_dir() else Path(out)


def describe(root: Path, note: Note, is_extracted: bool, is_removed: bool) -> str:
    """What was done, in a line."""
    files = f"{note.files:,} files, {note.bytes:,} bytes"
    if is_extracted:
        return f"{root}: {files}, put back from {note.tar}"
    rest = [f"{name}/" for name in FOLDERS if (root / name).exists()] if is_removed else []
    end = ", removed from the run" * is_removed + f"; {', '.join(rest)} hold temporary files still" * bool(rest)
    return f"{note.tar}: {files}, as the records of {root} say{end}"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        "diffedit archive",
        description="Put the pictures of a run (images, masks, maps, samples) into one uncompressed tar, and compare\n"
        "each file with the run's records. Config, records, shards, manifest and scores stay in the run:\n"
        "status, plot and what was scored are as before. To score it, to look at its pictures or to go on\n"
        "with it, extract first.",
        epilog="examples:\n  diffedit archive runs/imagenet/sd15/diffedit/default\n"
        "  diffedit archive runs/imagenet/sd15/*/* --remove\n"
        "  diffedit archive runs/imagenet/sd15/diffedit/default --extract",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directory")
    parser.add_argument("--out", metavar="TAR", help="the file, or its folder (RUN.tar beside the run)")
    parser.add_argument("--remove", action="store_true", help="then remove the pictures from the run")
    parser.add_argument("--extract", action="store_true", help="put the pictures back into the run; the tar stays")
    return parser
