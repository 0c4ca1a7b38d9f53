"""A table of your own pictures: edited by two methods, scored, plotted. `python examples/benchmark_of_a_folder.py`."""

# %% The table: a row an edit, paths relative to it. Yours needs columns `image` and `target`; `source`, `mask` and `id`
# where you have them. Here rendered pictures are written to disk first, so that there is something to run on.
import csv
from pathlib import Path

from diffedit.io.images import to_pil
from eval.stilllife.benchmarks import StillLifeScenes

folder = Path("pictures")
folder.mkdir(exist_ok=True)
rows = [("image", "source", "target")]
for scene in StillLifeScenes(size=6).requests(64):
    to_pil(scene.image()).save(folder / f"{scene.id}.png")
    rows.append((f"{scene.id}.png", scene.source, scene.target))
with (folder / "edits.csv").open("w", newline="") as file:
    csv.writer(file).writerows(rows)

# %% One run a method. A run lies in its folder, and goes on there if it is stopped. The domain says that Still Life's
# own networks, which know nothing else, may measure these pictures; leave it out for photographs.
import diffedit
from diffedit import StableDiffusion
from eval.benchmarks.folder import FolderBenchmark

benchmark = FolderBenchmark(path=str(folder / "edits.csv"), domain="stilllife")
backbone = StableDiffusion.from_pretrained("weights/stilllife")
runs = [
    diffedit.run(benchmark, editor, backbone, f"runs/pictures/stilllife/{editor}/first",
                 ratio=[0.5, 0.7, 0.9], num_inference_steps=10, progress=False)
    for editor in ("diffedit", "sdedit")
]  # fmt: skip
print(runs[0].table[["id", "strength", "status", "evaluations"]].head())
runs[0].sheet(count=3).save("run.png")

# %% Scores with 95 % intervals, kept beside each run: a second call computes nothing. For photographs, networks are
# `photographs`, and metrics any of `diffedit ls metric`.
from eval.reporting.collect import collect
from eval.reporting.tables import print_tables
from eval.scoring.folders import load_metrics
from eval.scoring.score import Settings, find_runs, score_runs

metrics = load_metrics(["lpips", "clip_score"], networks="stilllife")
scored = score_runs(find_runs("runs/pictures/*/*/*"), metrics, Settings(Path("runs/.cache")))
scores = collect(scored)
print_tables(scores, ["benchmark", "backbone"], ["lpips", "clip_score"])

# %% The trade-off: a curve a method, a point a ratio.
from eval.reporting.curves import plot_pairs

print(plot_pairs(scores, ["lpips"], ["clip_score"], ["pictures", "stilllife"], Path("plots"))[0])
