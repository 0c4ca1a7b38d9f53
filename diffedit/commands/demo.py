"""`diffedit demo`: DiffEdit and SDEdit on small pictures, scored, plotted, and a page on it; all of it real."""

import argparse
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffedit.commands.launch import tell
from diffedit.io.files import find_shipped

# Torch, and what imports it, is imported where it is needed: its threads are told before how to wait, see
# `choose_threads`.
if TYPE_CHECKING:
    from eval.reporting.progress import PartsBar

EDITORS = ("diffedit", "sdedit")  # the method, and the one that it is compared with
METRICS = ("accuracy", "lpips", "counterfactual", "mask_iou")
COLUMNS = ("accuracy", "kept", "both", "lpips", "cf_lpips", "mask_iou")
RATIOS = (0.3, 0.5, 0.7, 0.9)
LEAST_STEPS = 6  # a level for each ratio

# Seconds of an evaluation at each number of rows in a call, relative to the cheapest: the network alone, 64 x 64, two
# threads. The last calls of a run are padded, about 0.75 of them a step: that costs small runs most.
ROW_COST = {8: 1.25, 16: 1.15, 32: 1.0, 64: 1.0}
PADDED_CALLS = 0.75
SCORING = 3.0  # evaluations that take as long as scoring one edit
DRAWING = 150.0  # ... as drawing curve, pictures and page

NEXT = (
    ("Edit a still life to what you write:", 'diffedit edit --request 3 --target "a bowl of pears on a wooden table"'),
    (
        "Edit a photograph, with the weights of Stable Diffusion 1.5:",
        'diffedit edit cat.jpg --source "a photo of a cat" --target "a photo of a dog" --backbone sd15',
    ),
    (
        "Compare more methods, with floor and ceiling:",
        "diffedit run --multirun editor=diffedit,encode_decode,sdedit,copy,round_trip,oracle benchmark.size=64\n"
        "diffedit score out=scores.csv\n"
        "diffedit plot",
    ),
)


@dataclass(frozen=True)
class Plan:
    """What the demo does.

    Attributes:
        out: folder to write to.
        pictures: requests of `stilllife_scenes`.
        steps: of the diffusion.
    """

    out: Path
    pictures: int
    steps: int

    def count_evaluations(self, editor: str, noises: int) -> int:
        """Evaluations of the network for one picture: decoding with guidance, and what comes before it.

        Args:
            editor: one of `EDITORS`.
            noises: that DiffEdit's mask averages over, each seen under two texts.
        """
        levels = [round(ratio * self.steps) for ratio in RATIOS]
        return 2 * sum(levels) + (max(levels) + 2 * noises if editor == "diffedit" else 0)

    def choose_batch(self, evaluations: int) -> int:
        """Rows in a call that make a run of so many evaluations cheapest."""
        return min(ROW_COST, key=lambda size: ROW_COST[size] * (1 + PADDED_CALLS * self.steps * size / evaluations))

    def name_runs(self) -> str:
        """What the runs are called: other settings or weights are other runs."""
        identity = repr((self.pictures, self.steps, RATIOS, hash_weights()))
        return f"demo-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    def find_root(self, editor: str) -> Path:
        """The directory of a run."""
        return self.out / "runs" / "stilllife_scenes" / "stilllife" / editor / self.name_runs()


@cache
def hash_weights() -> str:
    """Names the networks that edit."""
    digest = hashlib.sha256()
    for path in sorted((find_shipped("weights") / "stilllife").rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        "diffedit demo",
        description="Edit still lifes by DiffEdit and SDEdit with the networks that come with the code; score,\n"
        "plot, and write a page on it. Some minutes on two cores; a second call goes on, or finds all done.",
        epilog="examples:\n  diffedit demo\n  diffedit demo --pictures 32 --out demo_small",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to (default demo)")
    parser.add_argument("--pictures", type=int, default=128, help="fewer are quicker, and say less (default 128)")
    parser.add_argument("--steps", type=int, default=20, help="of the diffusion (default 20)")
    options = parser.parse_args(argv)
    if options.pictures < 2:
        parser.error(f"--pictures {options.pictures}: at least 2, for intervals")
    if options.steps < LEAST_STEPS:
        ratios = ", ".join(map(str, RATIOS))
        parser.error(
            f"--steps {options.steps}: at least {LEAST_STEPS}, for ratios {ratios} to start at levels of their own"
        )
    choose_threads()
    try:
        make_demo(Plan(options.out, options.pictures, options.steps))
    except Exception as error:
        return tell(error, "diffedit demo")
    return 0


def choose_threads() -> None:
    """Tell the threads of torch how to wait, and how many they are, before it is loaded.

    A thread that waits for another spins, which is quickest on cores of its own; beside other work it takes the time
    of the one that it waits for. Powers of two give the same pictures at every place of a batch.
    """
    import psutil

    busy = psutil.cpu_percent(0.3) / 100 * psutil.cpu_count()
    if busy > 0.5:  # half a core, by others: this process sleeps
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = psutil.cpu_count(logical=False) or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))  # those that this process may use
    os.environ.setdefault("OMP_NUM_THREADS", str(1 << cores.bit_length() - 1))
    os.environ.setdefault("TQDM_DISABLE", "1")  # the demo has one bar of its own


@contextmanager
def hush(*names: str) -> Iterator[None]:
    """Let these loggers say errors alone: the demo has one bar."""
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class DemoFailedError(RuntimeError):
    """Some run could not be scored."""

    exit_code = 1


def make_demo(plan: Plan) -> None:
    """Edit, score, draw; tell of it at the end."""
    from diffedit.io.compose import compose
    from eval.reporting.progress import PartsBar

    configs = {}
    for editor in EDITORS:
        configs[editor] = compose("run", [f"editor={editor}", f"benchmark.size={plan.pictures}", f"steps={plan.steps}"])
    noises = configs["diffedit"].editor.mask.num_noises
    evaluations = {editor: plan.pictures * plan.count_evaluations(editor, noises) for editor in EDITORS}
    costs = {"loading the networks": 0.0}
    costs |= {f"editing by {editor}": float(count) for editor, count in evaluations.items()}
    costs |= {"scoring": SCORING * plan.pictures * len(RATIOS) * len(EDITORS), "drawing": DRAWING}
    with hush("run", "score"), PartsBar(costs, "the demo") as bar:
        edit_all(plan, configs, evaluations, bar)
        bar.begin("scoring")
        score_all(plan, bar)
        bar.begin("drawing")
        report = draw(plan)
    report()


# ------------------------------------------------------------------------------------------------------------- editing


def is_done(root: Path, count: int) -> bool:
    """Whether a run ended with all its edits, and all is as it was written: then no network has to be loaded."""
    from diffedit.runs.records import find_damage
    from eval.scoring.finished_run import FinishedRun

    try:
        run = FinishedRun(root)
        run.check()
    except (OSError, ValueError):  # the run itself says what is wrong, and mends it
        return False
    damaged = any(find_damage(root, record, "content") for record in run.records.values())
    return len(run.requests) == count and not damaged


def edit_all(plan: Plan, configs: dict[str, Any], evaluations: dict[str, int], bar: "PartsBar") -> None:
    """The runs that are not done; the networks are loaded once, and not for nothing."""
    todo = [editor for editor in EDITORS if not is_done(plan.find_root(editor), plan.pictures)]
    if not todo:
        bar.skip("loading the networks")
    else:
        bar.begin("loading the networks")
        from hydra.utils import instantiate

        backbone = instantiate(configs[todo[0]].backbone, _convert_="all")
    for editor in EDITORS:
        if editor not in todo:
            bar.skip(f"editing by {editor}")
            continue
        bar.begin(f"editing by {editor}")
        edit(plan, editor, configs[editor], backbone, evaluations[editor], bar)


def edit(plan: Plan, editor: str, cfg: Any, backbone: Any, evaluations: int, bar: "PartsBar") -> None:
    """One run."""
    from hydra.utils import instantiate

    from diffedit.commands.run import read_settings
    from diffedit.runs.cut import count_records
    from diffedit.runs.loop import run_benchmark
    from diffedit.stages.pipeline import build_pipeline

    root = plan.find_root(editor)
    cfg.engine.batch.predict = plan.choose_batch(evaluations)
    cfg.engine.progress, cfg.verify = False, "content"  # what is scored has to be as it was written
    cfg.ratios, cfg.runs, cfg.name = list(RATIOS), str(plan.out / "runs"), root.name
    config, settings = read_settings(cfg)
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    done = count_records(root)
    edits = plan.pictures * len(RATIOS)
    made = [done * len(RATIOS)]

    def note(asked: int, ended: bool) -> None:
        counted[0] += asked
        made[0] += len(RATIOS) * ended
        bar.tell(counted[0] / evaluations, f"{made[0]}/{edits} edits")

    counted = [done * evaluations // plan.pictures]
    run_benchmark(benchmark, watch(build_pipeline(cfg), note), backbone, root, settings, config)


def watch(pipeline: Any, note: Callable[[int, bool], None]) -> Any:
    """A pipeline that tells how many evaluations each of its queries took, and when a picture is done."""
    from diffedit.engine.queries import count_evaluations, split
    from diffedit.stages.pipeline import EditPipeline

    class WatchedPipeline(EditPipeline):
        """The same, watched."""

        def __call__(self, *args: Any) -> Any:
            program, answer = super().__call__(*args), None
            while True:
                try:
                    query = program.send(answer)
                except StopIteration as stop:
                    note(0, True)
                    return stop.value
                answer = yield query
                if asked := count_evaluations(query):
                    note(asked * len(split(query)), False)

    return WatchedPipeline(pipeline.editor, pipeline.reconstruct, pipeline.rank, pipeline.samples)


# ------------------------------------------------------------------------------------------------ scoring and drawing


def score_all(plan: Plan, bar: "PartsBar") -> None:
    """Every run by every metric."""
    from hydra.utils import instantiate

    from diffedit.io.compose import compose
    from eval.scoring.score import Settings, score_runs

    cfg = compose("score", [f"metric=[{','.join(METRICS)}]"])
    metrics = instantiate(cfg.metric, _convert_="all")
    settings = Settings(plan.out / "cache", None, cfg.resamples, cfg.batch, cfg.threads, cfg.seed)
    for i, editor in enumerate(EDITORS):
        bar.tell(i / len(EDITORS), editor)
        if not score_runs([plan.find_root(editor)], metrics, settings):
            raise DemoFailedError(f"{plan.find_root(editor)} was not scored; see above")


def draw(plan: Plan) -> Callable[[], None]:
    """The page; returns what tells of it in the terminal."""
    from diffedit.io.files import write
    from eval.reporting.collect import collect
    from eval.reporting.curves import draw_curves
    from eval.reporting.figures import FigureSettings, save_figure
    from eval.reporting.findings import NAMES
    from eval.reporting.report.site import PageSettings, write_report
    from eval.reporting.tables import build_table, fold, make_console

    roots = list(map(plan.find_root, EDITORS))
    scores = collect(roots)
    write(plan.out / "scores.csv", scores.to_csv(index=False).encode())
    names = {name: NAMES.get(name, name) for name in EDITORS} | {"lpips": "LPIPS", "accuracy": "Accuracy"}
    save_figure(draw_curves(scores, "lpips", "accuracy", settings=FigureSettings(names=names)), plan.out / "tradeoff")
    page, _, figures = write_report(plan.out, roots, PageSettings(y=COLUMNS), commands=NEXT)

    def report() -> None:
        console = make_console()
        title = f"stilllife_scenes, stilllife, n = {plan.pictures}"
        table = build_table(scores, title, COLUMNS, width=console.width)._replace(notes=[])
        console.print("", table, "")
        for figure in figures:
            console.print(fold(f"- {figure.sentence}", console.width), markup=False, highlight=False)
        console.print(f"\nLook at {page}", markup=False, highlight=False)

    return report
