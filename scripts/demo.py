"""`make demo`: edit Still Life by every method, score the edits, plot the trade-off, draw contact sheets. All real.

Calls run.py, score.py, plot.py, sheet.py and edit.py as you would; a second call finds everything done.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

DEMO = Path("demo")
EDITORS = ("diffedit", "diffedit_no_encode", "encode_decode", "sdedit")
BOUNDS = ("copy", "round_trip", "oracle")
SETTINGS = ["steps=20", "ratios=[0.3,0.5,0.7,0.9]", "engine.batch.predict=64", f"runs={DEMO}/runs", "name=demo"]
SIZES = {"stilllife_scenes": "benchmark.size=48", "stilllife_classes": "benchmark.per_class=4"}


def show(*command: str) -> None:
    """Print a command as one would type it, and run it."""
    print(f"\n$ python {shlex.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], check=True)


def done(benchmark: str) -> bool:
    """Whether every run of a benchmark ended; run.py would find so too, a few seconds later."""
    runs = [DEMO / "runs" / benchmark / "stilllife" / editor / "demo" for editor in (*EDITORS, *BOUNDS)]
    return all((run / "manifest.parquet").exists() for run in runs)


def main() -> None:
    """All of it."""
    argparse.ArgumentParser(description=__doc__, epilog="example: python scripts/demo.py").parse_args()
    for benchmark, size in SIZES.items():
        if not done(benchmark):
            editors = f"editor={','.join((*EDITORS, *BOUNDS))}"
            show("scripts/run.py", "--multirun", editors, f"benchmark={benchmark}", size, *SETTINGS)
    show("scripts/score.py", f"runs={DEMO}/runs/*/*/*/*", f"cache={DEMO}/cache", f"out={DEMO}/scores.csv")
    show("scripts/plot.py", f"runs={DEMO}/runs/*/*/*/*", f"out={DEMO}", "at=[0.5,0.7]")
    for benchmark in SIZES:
        runs = [f"{DEMO}/runs/{benchmark}/stilllife/{editor}/demo" for editor in EDITORS]
        show("scripts/sheet.py", *runs, "--count", "6", "--out", f"{DEMO}/{benchmark}_edits.png")
    print(f"\nLook at {DEMO}/stilllife_scenes_stilllife_accuracy_over_lpips.png and {DEMO}/stilllife_scenes_edits.png.")


if __name__ == "__main__":
    main()
