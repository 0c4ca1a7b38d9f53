"""`make demo`: edit Still Life by every method, score the edits, plot the trade-off, draw contact sheets. All real.

Calls run.py, score.py, plot.py and sheet.py as you would; a second call finds everything done.
"""

import argparse
import hashlib
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd

from diffedit.io.files import resolve_path

DEMO = Path("demo")
EDITORS = ("diffedit", "diffedit_no_encode", "encode_decode", "sdedit")
BOUNDS = ("copy", "round_trip", "oracle")
SETTINGS = ["steps=20", "ratios=[0.3,0.5,0.7,0.9]", "engine.batch.predict=64", f"runs={DEMO}/runs"]
BENCHMARKS = {"stilllife_scenes": ("benchmark.size=28", 28), "stilllife_classes": ("benchmark.per_class=2", 24)}


def run_script(*command: str) -> None:
    """Print a command as one would type it, and run it."""
    print(f"\n$ python {shlex.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], check=True)


def name_runs() -> str:
    """What the runs are called: other settings or weights are other runs."""
    digest = hashlib.sha256(repr((SETTINGS, BENCHMARKS)).encode())
    for path in sorted(resolve_path("weights/stilllife").rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return f"demo-{digest.hexdigest()[:8]}"


def is_done(run: Path, count: int) -> bool:
    """Whether a run ended with all its edits; run.py would see it too, some seconds later."""
    path = run / "manifest.parquet"
    if not path.exists():
        return False
    table = pd.read_parquet(path)
    return table.id.nunique() == count and (table.status == "done").all()


def main() -> None:
    """Edit, score, plot, and draw sheets."""
    argparse.ArgumentParser(description=__doc__, epilog="example: python scripts/demo.py").parse_args()
    name = name_runs()
    for benchmark, (size, count) in BENCHMARKS.items():
        runs = {editor: DEMO / "runs" / benchmark / "stilllife" / editor / name for editor in (*EDITORS, *BOUNDS)}
        if todo := [editor for editor, run in runs.items() if not is_done(run, count)]:
            overrides = [f"editor={','.join(todo)}", f"benchmark={benchmark}", size, *SETTINGS, f"name={name}"]
            run_script("scripts/run.py", "--multirun", *overrides)
    runs = f"runs={DEMO}/runs/*/*/*/{name}"
    run_script("scripts/score.py", runs, f"cache={DEMO}/cache", f"out={DEMO}/scores.csv")
    run_script("scripts/plot.py", runs, f"out={DEMO}", "match_at=[0.5,0.7]")
    for benchmark in BENCHMARKS:
        roots = [f"{DEMO}/runs/{benchmark}/stilllife/{editor}/{name}" for editor in EDITORS]
        run_script("scripts/sheet.py", *roots, "--count", "6", "--out", f"{DEMO}/{benchmark}_edits.png")
    print(f"\nLook at {DEMO}/stilllife_scenes_stilllife_accuracy_over_lpips.png and {DEMO}/stilllife_scenes_edits.png.")


if __name__ == "__main__":
    main()
