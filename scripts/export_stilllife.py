"""Write Still Life to disk as ImageNet with FlexIT's queries and as COCO with BISON's entries, for their loaders.

A run on these files gives the same edits, masks and maps, to the bit, as benchmark=stilllife_classes and
benchmark=stilllife_scenes. Kill it and start it again: it ends with the same files.
"""

import argparse
from pathlib import Path

from eval.stilllife.export import write_export

EXAMPLE = "example: python scripts/export_stilllife.py stilllife_files --per-class 2 --scenes 24 --train 480"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE)
    parser.add_argument("folder", type=Path, help="to write to: new, empty, or of the same export")
    parser.add_argument("--per-class", type=int, default=16, help="queries for each of 12 classes (default 16)")
    parser.add_argument("--train", type=int, default=2400, help="training pictures, all classes (default 2400)")
    parser.add_argument("--scenes", type=int, default=256, help="entries of BISON (default 256)")
    parser.add_argument("--flat", action="store_true", help="ImageNet's validation pictures in one folder")
    args = parser.parse_args()
    for name in ("per_class", "train", "scenes"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: at least 1 is wanted")
    try:
        counts = write_export(args.folder, args.per_class, args.train, args.scenes, args.flat)
    except FileExistsError as error:
        parser.error(str(error))
    for folder, count in counts.items():
        print(f"{folder}: {count} files")


if __name__ == "__main__":
    main()
