"""`make demo`: edit photographs with every editor. Until trained weights land, the networks are RANDOM and draw noise.

Writes into demo/: a tiny pipeline with random weights, four photographs that scikit-image ships, a table of edits, then
calls edit.py and run.py as you would. A second call finds the runs done.
"""

import argparse
import csv
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image
from skimage import data

DEMO = Path("demo")
EDITS = {
    "chelsea": ("a photo of a cat", "a photo of a dog"),
    "coffee": ("a cup of coffee", "a cup of tea"),
    "rocket": ("a rocket", "a lighthouse"),
    "astronaut": ("a woman in a space suit", "a woman in a red coat"),
}


def pictures() -> None:
    """The photographs and the table of edits."""
    (DEMO / "photos").mkdir(parents=True, exist_ok=True)
    with (DEMO / "edits.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "source", "target"])
        for name, (source, target) in EDITS.items():
            Image.fromarray(getattr(data, name)()).save(DEMO / "photos" / f"{name}.png")
            table.writerow([f"photos/{name}.png", source, target])


def show(*command: str) -> None:
    """Print a command as one would type it, and run it."""
    print(f"\n$ python {shlex.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], check=True)


def main() -> None:
    """All of it."""
    argparse.ArgumentParser(description=__doc__, epilog="example: python scripts/demo.py").parse_args()
    print("The pipeline of this demo has RANDOM weights: it shows how everything runs, and its edits are noise.")
    pictures()
    if not (DEMO / "tiny" / "unet" / "config.json").exists():
        show("scripts/make_tiny_pipeline.py", str(DEMO / "tiny"), "--resolution", "128")
    backbone = f"backbone.path={DEMO / 'tiny'}"
    source, target = EDITS["chelsea"]
    image = ["image=demo/photos/chelsea.png", f"source={source}", f"target={target}", "steps=20", "out=demo/edited"]
    show("scripts/edit.py", backbone, *image)
    run = [backbone, "benchmark.path=demo/edits.csv", "steps=20", "ratios=[0.5,0.8]", "runs=demo/runs"]
    editors = "editor=diffedit,diffedit_no_encode,encode_decode,sdedit"
    show("scripts/run.py", "--multirun", editors, *run)
    print("\nLook at demo/edited/chelsea_sheet.png; the runs lie in demo/runs. (Random weights: expect noise.)")


if __name__ == "__main__":
    main()
