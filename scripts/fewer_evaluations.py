"""How near edits of few evaluations are to those of very many steps, on Still Life.

Tried are fewer steps, guidance intervals, another spacing of the levels, a second-order solver, and antithetic noises
of the mask. Each picture is edited with so many steps that more change little (the reference), and then with few.
Killed, it goes on where it was: what is measured stands in OUT/measurements.jsonl, the references in OUT/references.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from scipy.stats import bootstrap
from torch import Tensor

from baselines.encode_decode import EncodeDecode
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.queries import Outcome
from diffedit.io.files import resolve_path
from diffedit.mask import ContrastMask, GivenMask, Mask
from diffedit.sampling.ddim import (
    WHOLE,
    Blend,
    GuidanceInterval,
    blend_outside,
    ddim_invert,
    decode_edits,
    predict_guided,
)
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import NoiseSchedule
from diffedit.types import Cond, EditRequest, EditResult, Embed, Encode, Program, Schedule
from eval.metrics.functional.pairwise import PerceptualDistance
from eval.reporting.looks import OTHERS
from eval.stilllife.benchmarks import StillLifeScenes
from eval.stilllife.network import StillLifeExtractor, load

GUIDANCE = 7.5
KINDS = ("unmasked", "fixed mask", "own mask")  # Encode-Decode; DiffEdit under the reference's mask; DiffEdit
INTERVALS = ((0.2, 1.0), (0.4, 1.0), (0.0, 0.6))
USUAL = 50  # steps that are asked for elsewhere: what others have to be as near as
FLOOR = 1e-3  # of an error, in its logarithm: masks that are both empty give equal edits
ELSEWHERE = 5.0  # error × 1,000 above which an edit is another picture: guided decoding ends in one place or another
CURVE = ("lpips", "accuracy")  # what the trade-off is drawn of
STRENGTH = 0.5  # of the noise of the mask
MANY, SEEDS, NOISES = 400, 6, (4, 10)  # noises of the map that others are compared with; repeats; noises of these
TICKS = (20, 50, 100, 200)  # of evaluations
GROUP, LIVE = 4, 32  # pictures that are measured together; programs under way, which fill the batches
EXAMPLE = "example: python scripts/fewer_evaluations.py --pictures 16 --out fewer"


@dataclass(frozen=True)
class Setting:
    """One way to edit.

    Attributes:
        steps: N.
        spacing: of the levels, as diffusers calls it; `leading` is Stable Diffusion's own.
        interval: that is guided.
        solver: of the decoding: `ddim`, or `2m`, DPM-Solver++ of second order.
    """

    steps: int
    spacing: str = "leading"
    interval: GuidanceInterval = WHOLE
    solver: str = "ddim"

    def __str__(self) -> str:
        parts = [f"{self.steps} steps"]
        parts += [self.spacing] * (self.spacing != "leading") + ["2M"] * (self.solver == "2m")
        parts += ["guided in ({:g}, {:g}]".format(*self.interval)] * (self.interval != WHOLE)
        return ", ".join(parts)

    @property
    def family(self) -> str:
        """What varies: a line of the plot."""
        if self.interval != WHOLE:
            return "guided in ({:g}, {:g}]".format(*self.interval)
        return f"{'DPM-Solver++ 2M' if self.solver == '2m' else 'DDIM'}, {self.spacing}"

    def schedule(self, backbone: StableDiffusion) -> NoiseSchedule:
        """Its levels; those of `leading` are what the backbone gives, where its scheduler says so."""
        scheduler = DDIMScheduler.from_config(backbone.scheduler.config, timestep_spacing=self.spacing)
        scheduler.set_timesteps(self.steps)
        return NoiseSchedule.discrete(
            scheduler.alphas_cumprod, scheduler.timesteps, scheduler.final_alpha_cumprod.item()
        )


class Job(NamedTuple):
    """One picture, edited in one way."""

    request: EditRequest
    setting: Setting
    kind: str

    @property
    def key(self) -> str:
        return f"{self.request.id} | {self.setting} | {self.kind}"


class NoiseJob(NamedTuple):
    """One contrast map of one picture; `seed` MANY is the one that others are compared with."""

    request: EditRequest
    noises: int
    antithetic: bool
    seed: int

    @property
    def key(self) -> str:
        return f"{self.request.id} | {self.noises} noises{', antithetic' * self.antithetic} | seed {self.seed}"


# ------------------------------------------------------------------------------------------------------------- editing


def sample_multistep(
    start: Tensor,
    level: int,
    schedule: Schedule,
    solver: DPMSolverMultistepScheduler,
    cond: Cond,
    negative: Cond,
    guidance: float,
    blend: Blend | None = None,
) -> Program[Tensor]:
    """What `ddim_sample` does of one edit, its updates by a solver of diffusers."""
    solver.set_timesteps(timesteps=[int(schedule[i].timestep) for i in range(level, 0, -1)])
    x = start
    for i in range(level, 0, -1):
        prediction = yield from predict_guided(x, schedule[i], cond, negative, guidance, (level,))
        x = solver.step(prediction.eps, int(schedule[i].timestep), x).prev_sample
        if blend is not None:
            x = blend(x, i - 1)
    return x


def edit_multistep(
    request: EditRequest,
    ratios: Sequence[float],
    schedule: Schedule,
    noise: RequestNoise,
    make_solver: Callable[[], DPMSolverMultistepScheduler],
) -> Program[EditResult]:
    """DiffEdit under the request's mask (Encode-Decode without one), decoded by a solver of diffusers."""
    starts = schedule.start_levels(ratios)
    x0 = yield Encode(request.image())
    target, empty = yield Embed((request.target, ""))
    mask = Mask(None)
    if request.mask is not None:
        mask = yield from GivenMask().find(request, x0, target, empty, schedule, noise)
    path = yield from ddim_invert(x0, schedule, max(starts), empty)
    blend = blend_outside(mask.latent, path.__getitem__)
    edited = {}
    for i in starts:
        edited[i] = yield from sample_multistep(path[i], i, schedule, make_solver(), target, empty, GUIDANCE, blend)
    return EditResult((yield from decode_edits(edited, ratios, starts)), mask.latent)


def make_solver(backbone: StableDiffusion, order: int = 2) -> DPMSolverMultistepScheduler:
    """DPM-Solver++, which ends on the level that the backbone's own schedule ends on."""
    last = "sigma_min" if backbone.scheduler.final_alpha_cumprod < 1 else "zero"
    config = {"solver_order": order, "algorithm_type": "dpmsolver++", "final_sigmas_type": last}
    return DPMSolverMultistepScheduler.from_config(backbone.scheduler.config, **config)


def make_program(
    job: Job, ratios: Sequence[float], backbone: StableDiffusion, mask: Tensor | None
) -> Program[EditResult]:
    """The edits of one job; `mask` is the reference's, in pixels."""
    schedule, noise = job.setting.schedule(backbone), RequestNoise(0, job.request.id)
    request = replace(job.request, mask=(lambda: mask) if job.kind == "fixed mask" else None)
    settings = {"guidance": GUIDANCE, "guidance_interval": job.setting.interval}
    if job.setting.solver == "2m":
        return edit_multistep(request, ratios, schedule, noise, partial(make_solver, backbone))
    if job.kind == "unmasked":
        return EncodeDecode(**settings)(request, ratios, schedule, noise)
    finder = GivenMask() if job.kind == "fixed mask" else ContrastMask(noise_strength=STRENGTH)
    return DiffEdit(mask=finder, **settings)(request, ratios, schedule, noise)


def find_map(job: NoiseJob, backbone: StableDiffusion) -> Program[EditResult]:
    """The mask of one job and the map behind it, without an edit."""
    x0 = yield Encode(job.request.image())
    target, source = yield Embed((job.request.target, job.request.source))
    finder = ContrastMask(num_noises=job.noises, noise_strength=STRENGTH, antithetic=job.antithetic)
    noise = RequestNoise(job.seed, job.request.id)
    found = yield from finder.find(job.request, x0, target, source, Setting(USUAL).schedule(backbone), noise)
    return EditResult([], found.latent, found.contrast_map)


# ----------------------------------------------------------------------------------------------------------- measuring


class Judge:
    """Measures edits by the networks of Still Life."""

    def __init__(self) -> None:
        self.distance = PerceptualDistance(load("weights/stilllife_features", "cpu"))
        self.classifier = StillLifeExtractor(output="logits", device="cpu")

    def measure(self, request: EditRequest, edits: Tensor, reference: Tensor) -> dict[str, list[float]]:
        """A number an edit for each measure; `error` is the mean squared error times 1,000."""
        inputs = request.image()[None].expand_as(edits).contiguous()
        logits = self.classifier.features(edits)
        seen = [request.ground_truth.judge(row, self.classifier.labels)[0] for row in logits]
        return {
            "error": ((edits - reference).square().mean((1, 2, 3)) * 1000).tolist(),
            "distance": self.distance(edits, reference).tolist(),
            "lpips": self.distance(inputs, edits).tolist(),
            "accuracy": seen,
        }


def compare_masks(one: Tensor, other: Tensor) -> float:
    """Intersection over union; 1 where both are empty."""
    union = (one | other).sum().item()
    return (one & other).sum().item() / union if union else 1.0


def count_single(outcome: Outcome, levels: Sequence[int], inverts: bool = True) -> list[int]:
    """Evaluations that each edit would take by itself: its own inversion, the mask, its decoding."""
    mask = outcome.evaluations[None] - max(levels) * inverts
    return [level * inverts + mask + outcome.evaluations[level] for level in levels]


class Store:
    """What is measured, a line each, and the references; a line that a kill cut short is measured again."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.out, self.path = out, out / "measurements.jsonl"
        (out / "references").mkdir(parents=True, exist_ok=True)
        note = out / "settings.json"
        if note.exists() and json.loads(note.read_text()) != settings:
            raise SystemExit(f"{out} holds measurements of {note.read_text()}, not {settings}: take another --out")
        note.write_text(json.dumps(settings))
        self.records = list(self.read())
        self.path.write_text("".join(f"{json.dumps(record)}\n" for record in self.records))
        self.done = {record["key"] for record in self.records}

    def read(self) -> Iterator[dict[str, Any]]:
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append all records of one key at once."""
        lines = [json.dumps(record) for record in records]
        self.records += [json.loads(line) for line in lines]
        with self.path.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def reference(self, request: EditRequest, kind: str) -> Path:
        return self.out / "references" / f"{request.id}_{kind.replace(' ', '_')}.npz"

    def load_reference(self, request: EditRequest, kind: str) -> dict[str, Tensor]:
        """`edits` and, of the masked one, `mask` on the latent grid."""
        with np.load(self.reference(request, "unmasked" if kind == "unmasked" else "own mask")) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays}


def run(engine: Engine, programs: Sequence[tuple[str, Program[Any]]], edits: int, title: str) -> Iterator[Outcome]:
    """Outcomes as they come; the first error ends it."""
    if not programs:
        return
    print(f"{title}: {len(programs)} to go", flush=True)
    for outcome in engine.run(iter(programs), len(programs), edits):
        if outcome.error is not None:
            raise outcome.error
        yield outcome


def make_references(
    engine: Engine, store: Store, requests: Sequence[EditRequest], steps: int, ratios: Sequence[float]
) -> None:
    """Edit each picture with very many steps, without a mask and under its own."""
    jobs = [Job(request, Setting(steps), kind) for request in requests for kind in ("unmasked", "own mask")]
    jobs = [job for job in jobs if not store.reference(job.request, job.kind).exists()]
    programs = [(str(i), make_program(job, ratios, engine.backbone, None)) for i, job in enumerate(jobs)]
    for outcome in run(engine, programs, len(ratios), f"references of {steps} steps"):
        job, result = jobs[int(outcome.id)], outcome.result
        arrays = {"edits": torch.stack([edit.image for edit in result.edits])}
        arrays |= {"mask": result.mask} if result.mask is not None else {}
        path = store.reference(job.request, job.kind)
        with path.with_suffix(".tmp").open("wb") as file:
            np.savez(file, **arrays)
        path.with_suffix(".tmp").replace(path)


def measure_references(
    store: Store, judge: Judge, requests: Sequence[EditRequest], steps: int, ratios: Sequence[float]
) -> None:
    """A record for each reference as if it were compared with itself."""
    levels = [round(ratio * steps) for ratio in ratios]
    for job in (Job(request, Setting(steps), kind) for request in requests for kind in KINDS):
        if job.key in store.done:
            continue
        edits = store.load_reference(job.request, job.kind)["edits"]
        noises = 2 * ContrastMask().num_noises if job.kind == "own mask" else 0
        table = judge.measure(job.request, edits, edits)
        table |= {"ratio": list(ratios), "level": levels, "evaluations": [3 * level + noises for level in levels]}
        shared = describe(job) | ({"iou": 1.0} if job.kind == "own mask" else {})
        store.add(shared | row for row in pd.DataFrame(table).to_dict("records"))


def describe(job: Job) -> dict[str, Any]:
    """What all records of a job share."""
    names = {"key": job.key, "picture": job.request.id, "setting": str(job.setting), "kind": job.kind}
    return names | asdict(job.setting) | {"family": job.setting.family}


def measure_edits(engine: Engine, store: Store, judge: Judge, jobs: Sequence[Job], ratios: Sequence[float]) -> None:
    """A record for each edit of each job."""
    backbone = engine.backbone
    jobs = [job for job in jobs if job.key not in store.done]

    def make(job: Job) -> Program[EditResult]:
        mask = None
        if job.kind == "fixed mask":
            mask = F.interpolate(store.load_reference(job.request, job.kind)["mask"].float(), backbone.resolution)[0]
        return make_program(job, ratios, backbone, mask)

    for outcome in run(engine, [(str(i), make(job)) for i, job in enumerate(jobs)], len(ratios), "edits"):
        job, edits = jobs[int(outcome.id)], outcome.result.edits
        reference = store.load_reference(job.request, job.kind)
        levels = [edit.level for edit in edits]
        table = judge.measure(job.request, torch.stack([edit.image for edit in edits]), reference["edits"])
        table |= {"ratio": list(ratios), "level": levels, "evaluations": count_single(outcome, levels)}
        shared = describe(job)
        if job.kind == "own mask":
            shared["iou"] = compare_masks(outcome.result.mask, reference["mask"])
        store.add(shared | row for row in pd.DataFrame(table).to_dict("records"))


def measure_maps(engine: Engine, store: Store, requests: Sequence[EditRequest]) -> None:
    """A record for each contrast map of few noises, compared with one of very many other ones."""
    variants = [(n, pairs, seed) for n in NOISES for pairs in (False, True) for seed in range(SEEDS)]
    jobs = []
    for request in requests:
        mine = [NoiseJob(request, *variant) for variant in variants]
        if any(job.key not in store.done for job in mine):
            jobs += [NoiseJob(request, MANY, False, MANY), *mine]
    programs = [(str(i), find_map(job, engine.backbone)) for i, job in enumerate(jobs)]
    found = {jobs[int(outcome.id)].key: outcome.result for outcome in run(engine, programs, 1, "contrast maps")}
    for job in jobs:
        if job.key in store.done or job.seed == MANY:
            continue
        many, few = found[NoiseJob(job.request, MANY, False, MANY).key], found[job.key]
        scale = many.contrast_map.square().mean()
        error = ((few.contrast_map - many.contrast_map).square().mean() / scale).item()
        record = {"key": job.key, "kind": "map", "picture": job.request.id, "seed": job.seed, "noises": job.noises}
        store.add([record | {"antithetic": job.antithetic, "error": error, "iou": compare_masks(few.mask, many.mask)}])


# ----------------------------------------------------------------------------------------------------------- reporting


def find_quotient(logs: pd.Series) -> tuple[float, float, float]:
    """Geometric mean of quotients from their logarithms, a picture each, and its 95 % interval by bootstrap."""
    quotient = float(np.exp(logs.mean()))
    if len(logs) < 2 or logs.nunique() == 1:
        return quotient, *[quotient if len(logs) > 1 else float("nan")] * 2
    found = bootstrap((logs.to_numpy(),), np.mean, method="percentile", rng=np.random.default_rng(0))
    return quotient, *np.exp(found.confidence_interval).tolist()


def compare_with_usual(edits: pd.DataFrame, setting: str) -> tuple[float, float, float]:
    """The error of each edit over that of the same edit by `USUAL` steps; the mean is geometric."""
    errors = edits.assign(log=np.log(edits.error.clip(lower=FLOOR))).set_index(["setting", "picture", "ratio"]).log
    usual = str(Setting(USUAL))
    if usual not in errors or not edits[edits.setting == setting].error.any():  # the reference itself
        return (float("nan"),) * 3
    return find_quotient((errors[setting] - errors[usual]).groupby("picture").mean().dropna())


def summarise_setting(group: pd.DataFrame, known: pd.DataFrame) -> dict[str, Any]:
    """Means over pictures and ratios of one setting; `known` are the reference's own edits."""
    row: dict[str, Any] = {name: group[name].iloc[0] for name in ("kind", "setting", "family", "steps", "solver")}
    row |= {"pictures": group.picture.nunique(), "evaluations": group.evaluations.mean()}
    row |= {name: group[name].mean() for name in ("error", "distance", "lpips", "accuracy", "iou")}
    row |= {"median": group.error.median(), "elsewhere": (group.error > ELSEWHERE).mean()}
    for ratio, part in group.groupby("ratio"):
        row |= {f"{name} at {ratio:g}": part[name].mean() for name in ("error", "lpips", "accuracy", "evaluations")}
    shifts = [(group.groupby("ratio")[name].mean() - known.groupby("ratio")[name].mean()) for name in CURVE]
    return row | {f"{name}_shift": shift.abs().mean() for name, shift in zip(CURVE, shifts, strict=True)}


def summarise_edits(records: pd.DataFrame, reference: int) -> pd.DataFrame:
    """A row for each kind and setting."""
    rows = []
    for kind in KINDS:
        edits = records[records.kind == kind]
        known = edits[edits.setting == str(Setting(reference))]
        found = []
        for setting, group in edits.groupby("setting", sort=False):
            over = dict(zip(("over_usual", "low", "high"), compare_with_usual(edits, setting), strict=True))
            found.append(summarise_setting(group, known) | over)
        rows += sorted(found, key=lambda row: row["evaluations"])
    return pd.DataFrame(rows)


def summarise_maps(records: pd.DataFrame) -> pd.DataFrame:
    """For each number of noises, plain and in pairs: the median error of the map and agreement of the mask."""
    rows = []
    for noises, group in records.groupby("noises"):
        means = group.groupby(["picture", "antithetic"])[["error", "iou"]].mean().unstack()
        row = {"noises": int(noises), "pictures": len(means)}
        for name in ("error", "iou"):
            row |= {f"{name}_plain": means[name][False].median(), f"{name}_antithetic": means[name][True].median()}
        logs = np.log(means.error[True]) - np.log(means.error[False])
        rows.append(row | dict(zip(("quotient", "low", "high"), find_quotient(logs), strict=True)))
    return pd.DataFrame(rows)


def show_quotient(quotient: float, row: Any) -> str:
    """With its interval; nothing where there is none."""
    return f"{quotient:.2f} [{row.low:.2f}, {row.high:.2f}]" if quotient == quotient else ""


def write_rows(rows: pd.DataFrame, columns: Mapping[str, Callable[[Any], str]]) -> list[str]:
    """A table in Markdown; a column with a title and what stands in it."""
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return [*lines, *(f"| {' | '.join(show(row) for show in columns.values())} |" for row in rows.itertuples())]


def write_summary(table: pd.DataFrame, maps: pd.DataFrame, about: str) -> str:
    """All of it as Markdown."""
    columns: dict[str, Callable[[Any], str]] = {
        "setting": lambda row: row.setting,
        "evaluations an edit": lambda row: f"{row.evaluations:.1f}",
        f"error over that of {USUAL} steps": lambda row: show_quotient(row.over_usual, row),
        "error × 1,000: median": lambda row: f"{row.median:.2f}",
        "mean": lambda row: f"{row.error:.2f}",
        f"above {ELSEWHERE:g}": lambda row: f"{row.elsewhere:.0%}",
        "LPIPS to the reference": lambda row: f"{row.distance:.3f}",
        "to the input": lambda row: f"{row.lpips:.3f}",
        "accuracy": lambda row: f"{row.accuracy:.2f}",
        "curve: shift of LPIPS, of accuracy": lambda row: f"{row.lpips_shift:.3f}, {row.accuracy_shift:.3f}",
    }
    masks = {"IoU of masks": lambda row: f"{row.iou:.3f}"}
    lines = [about, ""]
    for kind, rows in table.groupby("kind", sort=False):
        lines += [f"### {kind}", "", *write_rows(rows, columns | (masks if rows.iou.notna().any() else {})), ""]
    of_maps: dict[str, Callable[[Any], str]] = {
        "noises": lambda row: str(row.noises),
        "squared error of the map, median: plain": lambda row: f"{row.error_plain:.4f}",
        "in pairs": lambda row: f"{row.error_antithetic:.4f}",
        "quotient": lambda row: show_quotient(row.quotient, row),
        "IoU of the mask, median: plain": lambda row: f"{row.iou_plain:.3f}",
        "in pairs ": lambda row: f"{row.iou_antithetic:.3f}",
    }
    return "\n".join([*lines, "### contrast maps of few noises", "", *write_rows(maps, of_maps)]) + "\n"


def draw(table: pd.DataFrame, maps: pd.DataFrame, title: str) -> Any:
    """Error over evaluations for each kind; shift of the trade-off, masks over steps, maps over noises."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 9), layout="constrained")
    axes = figure.subplots(2, 3)
    few = table[table.error > 0]  # without the reference
    colours = {name: OTHERS[i % len(OTHERS)].colour for i, name in enumerate(dict.fromkeys(few.family))}
    for axis, kind in zip(axes[0], KINDS, strict=True):
        draw_lines(axis, few[few.kind == kind], "median", colours)
        axis.set(title=kind, ylabel="squared error × 1,000, median")
    draw_lines(axes[1][0], few[few.kind == "fixed mask"], "lpips_shift", colours)
    axes[1][0].set(title="trade-off, fixed mask", ylabel="shift of the mean LPIPS to the input")
    for family, own in few[few.kind == "own mask"].groupby("family", sort=False):
        axes[1][1].plot(own.steps, own.iou, marker="o", color=colours[family], label=family)
    axes[1][1].set(title="DiffEdit's own mask", xlabel="steps", ylabel="IoU with the reference's mask")
    for name, colour in (("plain", "black"), ("antithetic", OTHERS[0].colour)):
        axes[1][2].plot(maps.noises, maps[f"error_{name}"], marker="o", color=colour, label=name)
    axes[1][2].set(
        title="contrast map", xlabel="noises", ylabel=f"squared error to {MANY} noises, median", ylim=(0, None)
    )
    axes[1][2].legend()
    for axis in axes.flat[:5]:
        axis.legend(fontsize="x-small")
    figure.suptitle(title)
    return figure


def draw_lines(axis: Any, rows: pd.DataFrame, value: str, colours: Mapping[str, str]) -> None:
    """A line a family; a grey one where `USUAL` steps are."""
    for family, line in rows.groupby("family", sort=False):
        marks = {"marker": "x" if "guided" in family else "o", "markersize": 5, "color": colours[family]}
        axis.plot(line.evaluations, line[value], linestyle=":" if "2M" in family else "-", label=family, **marks)
    axis.set(xscale="log", yscale="log", xlabel="evaluations an edit")
    axis.set_xticks(TICKS, [str(tick) for tick in TICKS])
    axis.set_xticks([], minor=True)
    for level in rows[rows.setting == str(Setting(USUAL))][value]:
        axis.axhline(level, color="0.6", linewidth=0.8, zorder=0)


def report(store: Store, requests: Sequence[EditRequest], args: argparse.Namespace) -> None:
    """Write summary.json, summary.md and summary.png of these pictures; print the Markdown."""
    records = pd.DataFrame(store.records)
    records = records[records.picture.isin([request.id for request in requests])]
    is_map = records.kind == "map"
    table, maps = summarise_edits(records[~is_map], args.reference), summarise_maps(records[is_map])
    about = (
        f"{len(requests)} pictures of Still Life, r = {', '.join(f'{ratio:g}' for ratio in args.ratios)}, guidance "
        f"{GUIDANCE:g}; compared with {args.reference} DDIM steps"
    )
    text = write_summary(table, maps, f"{about}.")
    (args.out / "summary.md").write_text(text)
    summary = {"about": about} | {
        name: json.loads(rows.to_json(orient="records")) for name, rows in (("edits", table), ("maps", maps))
    }
    (args.out / "summary.json").write_text(json.dumps(summary, indent=1))
    draw(table, maps, about).savefig(args.out / "summary.png", dpi=100)
    print(text, flush=True)


def list_settings(args: argparse.Namespace) -> Iterator[tuple[Setting, Sequence[str]]]:
    """The ways to edit, each with the kinds of masks that it is tried under."""
    for steps in args.steps:
        yield Setting(steps), KINDS
    for steps in args.variant_steps:
        yield Setting(steps, spacing="trailing"), KINDS
        for spacing in ("leading", "trailing"):
            yield Setting(steps, spacing, solver="2m"), KINDS[:2]
    for steps in args.interval_steps:
        for interval in INTERVALS:
            yield Setting(steps, interval=interval), KINDS[:2]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0], epilog=EXAMPLE)
    parser.add_argument("--pictures", type=int, default=16, help="scenes of the test split (default 16)")
    parser.add_argument("--out", type=Path, default=Path("fewer"), help="folder (default fewer)")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.5, 0.7, 0.9])
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 30, 50, 100])
    parser.add_argument("--variant-steps", type=int, nargs="*", default=[10, 20, 30, 50], help="for other samplers")
    parser.add_argument("--interval-steps", type=int, nargs="*", default=[30], help="for guidance intervals")
    parser.add_argument("--reference", type=int, default=500, help="steps that count as very many (default 500)")
    parser.add_argument("--weights", default="weights/stilllife", help="Stable Diffusion layout, 64 x 64 pixels")
    parser.add_argument("--batch", type=int, default=16, help="rows in a UNet call (default 16)")
    args = parser.parse_args()
    settings = {name: getattr(args, name) for name in ("ratios", "reference", "weights")}
    store = Store(args.out, settings)
    backbone = StableDiffusion.from_pretrained(str(resolve_path(args.weights)), device="cpu")
    backbone.unet.to(memory_format=torch.channels_last)  # quicker on a CPU; what it changes is far below any distance
    engine = Engine(backbone, BatchSizes(predict=args.batch), max_live=LIVE, pad=False)
    requests = list(StillLifeScenes(size=args.pictures).requests(backbone.resolution))
    judge, ways = Judge(), list(list_settings(args))
    for i in range(0, len(requests), GROUP):
        group = requests[i : i + GROUP]
        print(f"pictures {i + 1} to {i + len(group)} of {len(requests)}")
        make_references(engine, store, group, args.reference, args.ratios)
        jobs = [Job(request, way, kind) for request in group for way, kinds in ways for kind in kinds]
        measure_references(store, judge, group, args.reference, args.ratios)
        measure_edits(engine, store, judge, jobs, args.ratios)
        measure_maps(engine, store, group)
        report(store, requests[: i + len(group)], args)


if __name__ == "__main__":
    main()
