"""Record what every editor, stage and metric gives on Still Life in small, to compare two revisions to the bit.

    python tests/record_results.py before.json            # in the one checkout
    python tests/record_results.py after.json             # in the other
    python tests/record_results.py after.json --against before.json   # only compares; exit code 1 where they differ

Runs the commands of the checkout that it is called in. Times and hashes of settings are left out of the tables.
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

COMMON = ["steps=6", "ratios=[0.5,1.0]", "engine.progress=false"]
GIVEN = "blended_latent,blended_latent_ldm,blended_latent_sd2,blended_latent_thin,inpaint_diffusers,sdedit_given"
PLAIN = "diffedit,diffedit_given,diffedit_no_encode,diffedit_no_reference,encode_decode,sdedit,copy,round_trip,oracle"
RUNS = [
    [f"editor={PLAIN},{GIVEN}", "benchmark=stilllife_scenes", "benchmark.size=8", "name=editors"],
    ["editor=diffedit,sdedit", "benchmark=stilllife_classes", "benchmark.per_class=2", "name=classes"],
    [
        "editor=blended_latent",
        "benchmark=stilllife_random_masks",
        "benchmark.per_class=1",
        "samples=2",
        "rank=clip",
        "name=ranked",
    ],
    ["editor=blended_latent_thin", "benchmark=stilllife_strokes", "benchmark.per_class=1", "name=strokes"],
    ["editor=diffedit", "benchmark=generated", "benchmark/grammar=stilllife", "benchmark.limit=4", "name=generated"],
    [
        "editor=blended_diffusion",
        "backbone=stilllife_pixel",
        "benchmark=stilllife_scenes",
        "benchmark.size=4",
        "name=pixel",
    ],
]
STAGES = ["pixel_paste", "poisson", "latents", "decoder_weights"]
RULES = ["mean_clamp", "none", "quantile"]
METRICS = "lpips,accuracy,mask_iou,counterfactual,background,clip_score,clip_inside,clip_directional,fid,kid,cmmd,csfid,sfid,precision,dino_structure,cost"
KEPT = ["benchmark", "backbone", "editor", "name", "ratio", "metric", "value", "low", "high", "n"]


def call(*command: str) -> None:
    """One command of the checkout."""
    print("$", *command, flush=True)
    paths = [str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, *command], check=True, env=env, stdout=subprocess.DEVNULL)


def record(root: Path) -> dict:
    """Hashes of edits, masks and maps, and the tables of scores, of all runs."""
    runs = [f"runs={root}", *COMMON]
    for choice in RUNS:
        if "benchmark=generated" in choice:
            choice = [*choice, f"benchmark.cache={root}/generated"]
            if "stilllife" in Path("conf/benchmark/stilllife_generated.yaml").read_text().partition("grammar")[2]:
                choice = [
                    each.replace("=generated", "=stilllife_generated", 1) if each.startswith("benchmark=") else each
                    for each in choice
                    if "grammar" not in each
                ]
        call("scripts/run.py", "--multirun", *choice, *runs)
    small = ["benchmark=stilllife_scenes", "benchmark.size=2", *runs]
    for stage in STAGES:
        call("scripts/run.py", "editor=blended_latent", f"reconstruct={stage}", f"name={stage}", *small)
    for rule in RULES:
        call("scripts/run.py", f"editor/mask/extremes={rule}", "editor/mask/threshold=otsu", f"name={rule}", *small)
    score(root)
    return collect(root)


def score(root: Path) -> None:
    """Score all runs by every metric."""
    key = "runs" if "\nruns:" in Path("conf/score.yaml").read_text() else "run"
    call("scripts/score.py", f"{key}={root}/*/*/*/*", f"metric=[{METRICS}]", f"cache={root}/.cache", f"out={root}/scores.csv", "resamples=200")  # fmt: skip


def collect(root: Path) -> dict:
    """Hashes of files and rows of scores."""
    files = [
        path
        for kind in ("images", "masks", "maps", "samples")
        for path in root.glob(f"*/*/*/*/{kind}/**/*.*")
        if path.is_file()
    ]
    hashes = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)
    }
    table = pd.read_csv(root / "scores.csv", dtype=str, keep_default_na=False)
    if "variant" in table:
        table["ratio"] = (
            table.variant.str.extract(r"ratio=(.*)", expand=False)
            .fillna("")
            .map(lambda each: str(float(each)) if each else "")
        )
    table = table[KEPT]
    table = table[~table.metric.isin(["seconds"])].sort_values(KEPT)
    return {"files": hashes, "scores": table.values.tolist()}


def differences(before: dict, after: dict) -> list[str]:
    """Each file and row that is not in both."""
    one, other = ({(k, v) for k, v in each["files"].items()} for each in (before, after))
    rows = [{tuple(row) for row in each["scores"]} for each in (before, after)]
    return [f"{sign} {each}" for sign, each in [("-", x) for x in sorted(one - other) + sorted(rows[0] - rows[1])] + [("+", x) for x in sorted(other - one) + sorted(rows[1] - rows[0])]]  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--root", type=Path, help="keep the runs here")
    args = parser.parse_args()
    if not args.against:
        with tempfile.TemporaryDirectory() as folder:
            args.out.write_text(json.dumps(record(args.root or Path(folder)), indent=0))
        return
    before, after = (json.loads(path.read_text()) for path in (args.against, args.out))
    lines = differences(before, after)
    print("\n".join(lines[:40]))
    print(f"{len(before['files'])} files and {len(before['scores'])} scores; {len(lines)} differences")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
