"""Write Still Life to disk as ImageNet with FlexIT's queries and as COCO with BISON's entries, for their loaders.

A run on these files gives the same edits, masks and maps, to the bit, as benchmark=stilllife_classes and
benchmark=stilllife_scenes. Kill it and start it again: it ends with the same files.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from tqdm.auto import tqdm

from diffedit.io.files import sweep, write
from eval.stilllife.benchmarks import StillLifeClasses, StillLifeScenes
from eval.stilllife.export import CocoFiles, ImageNetFiles

EXAMPLE = "example: python scripts/export_stilllife.py stilllife_files --per-class 2 --scenes 24 --train 480"
MARK = "export_stilllife.json"  # what the folder is to hold


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
    exports = {
        "imagenet": ImageNetFiles(args.per_class, args.train, args.flat),
        "coco": CocoFiles(StillLifeScenes(args.scenes)),
    }
    said = {name: asdict(export) for name, export in exports.items()}
    said |= {"versions": [StillLifeClasses.version, StillLifeScenes.version]}
    if fault := claim(args.folder, json.dumps(said, indent=1)):
        parser.error(fault)
    for name, export in exports.items():
        for path, content in tqdm(export, desc=name, unit="file"):
            write(args.folder / name / path, content)
        print(f"{args.folder / name}: {len(export)} files")


def claim(folder: Path, said: str) -> str | None:
    """Note in a folder what it is to hold; or why it cannot."""
    mark = folder / MARK
    if mark.is_file() and mark.read_bytes() == said.encode():
        sweep(folder)
        return None
    if mark.is_file():
        return f"{folder} holds another export ({MARK} there has its settings): delete it, or name another folder"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        return f"{folder} holds something else: name another folder"
    write(mark, said.encode())
    return None


if __name__ == "__main__":
    main()
