"""Record what every editor, stage and metric gives on Still Life in small, to compare two revisions to the bit.

    python tests/record_results.py before.json            # in the one checkout
    python tests/record_results.py after.json             # in the other
    python tests/record_results.py after.json --against before.json   # only compares; exit code 1 where they differ

Runs the commands of the checkout that it is called in; half an hour on two cores. `--runs` keeps the runs; those
that are finished there aren't made again.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

GIVEN = "blended_latent,blended_latent_ldm,blended_latent_sd2,blended_latent_thin,inpaint_diffusers,sdedit_given"
PLAIN = "diffedit,diffedit_given,diffedit_no_encode,diffedit_no_reference,encode_decode,sdedit"
BOUNDS = "copy,round_trip,retrieve,oracle"
SCENES, PER_CLASS = "benchmark=stilllife_scenes", "benchmark.per_class=1"
RUNS = [
    f"editor={PLAIN},{BOUNDS},{GIVEN} {SCENES} benchmark.size=8 name=editors",
    "editor=diffedit,sdedit benchmark=stilllife_classes benchmark.per_class=2 name=classes",
    f"editor=blended_latent benchmark=stilllife_random_masks {PER_CLASS} samples=2 rank=clip name=ranked",
    f"editor=blended_latent_thin benchmark=stilllife_strokes {PER_CLASS} name=strokes",
    "editor=diffedit benchmark=stilllife_generated benchmark.limit=4 name=generated",
    f"editor=blended_diffusion backbone=stilllife_pixel {SCENES} benchmark.size=4 name=pixel",
]
STAGES = ["pixel_paste", "poisson", "latents", "decoder_weights"]
RULES = ["mean_clamp", "none", "quantile"]
METRICS = (
    "lpips,accuracy,mask_iou,counterfactual,background,clip_score,clip_inside,clip_directional,"
    "fid,kid,cmmd,csfid,sfid,precision,dino_structure,cost"
)
COLUMNS = ["benchmark", "backbone", "editor", "name", "variant", "metric", "value", "low", "high", "n"]


def call(*command: str) -> None:
    """Run one command of the checkout."""
    sys.stdout.write(f"$ {' '.join(command)}\n")
    paths = [str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, *command], check=True, env=environment, stdout=subprocess.DEVNULL)


def make_runs(root: Path) -> None:
    """Run every editor, and Blended Latent Diffusion and DiffEdit with every stage, into `root`."""
    common = [f"runs={root}", "steps=6", "ratios=[0.5,1.0]", "engine.progress=false"]
    for choice in RUNS:
        cache = [f"benchmark.cache={root}/generated"] if "generated" in choice else []
        call("scripts/run.py", "--multirun", *choice.split(), *cache, *common)
    small = [SCENES, "benchmark.size=2", *common]
    for stage in STAGES:
        call("scripts/run.py", "editor=blended_latent", f"reconstruct={stage}", f"name={stage}", *small)
    for rule in RULES:
        call("scripts/run.py", f"editor/mask/outliers={rule}", "editor/mask/threshold=otsu", f"name={rule}", *small)


def score_runs(root: Path) -> None:
    """Score all runs by every metric."""
    where = [f"runs={root}/*/*/*/*", f"cache={root}/.cache", f"out={root}/scores.csv"]
    call("scripts/score.py", f"metric=[{METRICS}]", "resamples=200", *where)


def collect(root: Path) -> dict[str, list]:
    """Return the hashes of edits, masks and maps, and the rows of scores. Times aren't repeatable, and left out."""
    kinds = ("images", "masks", "maps", "samples")
    files = sorted(path for kind in kinds for path in root.glob(f"*/*/*/*/{kind}/**/*.*"))
    hashes = [[path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]
    table = pd.read_csv(root / "scores.csv", dtype=str, keep_default_na=False)
    table = table[table.metric != "seconds"][COLUMNS].sort_values(COLUMNS)
    return {"files": hashes, "scores": table.to_numpy().tolist()}


def find_differences(before: dict[str, list], after: dict[str, list]) -> list[str]:
    """Return a line for each file and row that isn't in both."""
    lines = []
    for kind in ("files", "scores"):
        one, other = ({tuple(row) for row in record[kind]} for record in (before, after))
        lines += [f"- {' '.join(row)}" for row in sorted(one - other)]
        lines += [f"+ {' '.join(row)}" for row in sorted(other - one)]
    return lines


def main() -> None:
    """Record, or compare two records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--runs", type=Path)
    args = parser.parse_args()
    if args.against:
        before, after = (json.loads(path.read_text()) for path in (args.against, args.out))
        lines = find_differences(before, after)
        counts = f"{len(after['files'])} files and {len(after['scores'])} scores; {len(lines)} differences"
        sys.stdout.write("\n".join([*lines[:40], counts, ""]))
        sys.exit(bool(lines))
    with tempfile.TemporaryDirectory() as folder:
        root = args.runs or Path(folder)
        make_runs(root)
        score_runs(root)
        args.out.write_text(json.dumps(collect(root), indent=0))


if __name__ == "__main__":
    main()
