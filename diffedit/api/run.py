"""`diffedit.run`: a benchmark edited into a run directory, from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from diffedit.api.asked import check_asked, read_ratio
from diffedit.api.choose import make_backbone, make_by_name, make_pipeline
from diffedit.engine.engine import BatchSizes
from diffedit.runs.archive import refuse_archived
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Benchmark, Editor
from eval.reporting.load_run import Run, load_run


def run(
    benchmark: str | Benchmark,
    editor: str | Editor | EditPipeline,
    backbone: Any,
    out: str | Path,
    *,
    ratio: float | Sequence[float] = (0.3, 0.5, 0.7, 0.9),
    guidance_scale: float | None = None,
    num_inference_steps: int = 50,
    seed: int = 0,
    batch_size: int = 16,
    on_error: Literal["skip", "stop"] = "skip",
    progress: bool = True,
) -> Run:
    """Edit every request of a benchmark at every ratio into a run directory; go on where it stopped before.

    Args:
        benchmark: an object such as `FolderBenchmark("edits.csv")`, or a name that needs no settings (`diffedit ls`).
        editor: as in `diffedit.edit`.
        backbone: a loaded diffusers pipeline, a folder or hub id, or a backbone.
        out: the run directory.
        ratio: encoding ratio, or several.
        guidance_scale: of classifier-free guidance; None for the editor's own.
        num_inference_steps: N, DDIM steps of the whole schedule.
        seed: with each request's id, it fixes every draw.
        batch_size: rows in a call of the denoiser; results are equal to the bit at equal sizes.
        on_error: `skip` goes on and raises at the end, `stop` raises at the first request that fails.
        progress: show a bar.

    Returns:
        the run, as `diffedit.load_run(out)` opens it.

    Raises:
        ValueError: a setting is wrong; nothing was made.
        ConfigChangedError: the directory holds a run of something else.
        RunFailedError: some request failed; what was done is saved.
        ArchivedError: its pictures are in a tar.
    """
    refuse_archived(Path(out))
    made = make_by_name("benchmark", benchmark) if isinstance(benchmark, str) else benchmark
    given = {"guidance_scale": guidance_scale, "num_inference_steps": num_inference_steps}
    check_asked(**given, seed=seed, batch_size=batch_size)
    ratios = tuple(read_ratio(ratio))
    settings = RunSettings(ratios, num_inference_steps, seed, on_error, BatchSizes(batch_size), progress=progress)
    run_benchmark(made, make_pipeline(editor, guidance_scale), make_backbone(backbone), Path(out), settings)
    return load_run(out)
