"""How near edits of few evaluations are to those of very many steps, on Still Life.

Tried are fewer steps, guidance intervals, another spacing of the levels, a second-order solver, and antithetic noises
of the mask. Each picture is edited with so many steps that more change little (the reference), and then with few.
Killed, it goes on where it was: what is measured stands in OUT/measurements.jsonl, the references in OUT/references.
"""

import argparse
import json
import warnings
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
from eval.reporting.curves import COLOURS
from eval.stilllife.benchmarks import StillLifeScenes
from eval.stilllife.network import StillLifeExtractor, load

GUIDANCE = 7.5
KINDS = ("unmasked", "fixed mask", "own mask")  # Encode-Decode; DiffEdit under the reference's mask; DiffEdit
INTERVALS = ((0.2, 1.0), (0.4, 1.0), (0.0, 0.6))
USUAL = 50  # steps that are asked for elsewhere: what others have to be as near as
STRENGTH = 0.5  # of the noise of the mask
MANY, SEEDS, NOISES = 400, 6, (4, 10)  # noises of the map that others are compared with; repeats; noises of these
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
    if programs:
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


def measure_edits(engine: Engine, store: Store, jobs: Sequence[Job], ratios: Sequence[float]) -> None:
    """A record for each edit of each job."""
    judge, backbone = Judge(), engine.backbone
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
        shared = {"key": job.key, "picture": job.request.id, "setting": str(job.setting), "kind": job.kind}
        shared |= asdict(job.setting) | {"family": job.setting.family}
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


def find_ratio(one: pd.Series, other: pd.Series) -> tuple[float, float, float]:
    """Quotient of the means of paired numbers, and its 95 % interval by bootstrap; (nan, nan) of a single pair."""
    pairs = one.to_numpy(), other.loc[one.index].to_numpy()

    def divide(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return a.mean(axis) / b.mean(axis)

    quotient = float(divide(*pairs))
    if len(one) < 2:
        return quotient, float("nan"), float("nan")
    with warnings.catch_warnings(action="ignore"):  # of settings that are all alike
        found = bootstrap(pairs, divide, paired=True, method="percentile", rng=np.random.default_rng(0))
    return quotient, *map(float, found.confidence_interval)


def summarise_edits(records: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting and kind: means over pictures and ratios, and the error over that of `USUAL` steps."""
    rows = []
    for kind in KINDS:
        edits = records[records.kind == kind]
        usual = edits[edits.setting == str(Setting(USUAL))].groupby("picture").error.mean()
        for setting, group in edits.groupby("setting", sort=False):
            first = group.iloc[0]
            row = {"kind": kind, "setting": setting, "family": first.family, "steps": int(first.steps)}
            row |= {"pictures": group.picture.nunique(), "evaluations": group.evaluations.mean()}
            row |= {name: group[name].mean() for name in ("error", "distance", "lpips", "accuracy", "iou")}
            for ratio, part in group.groupby("ratio"):
                row |= {f"error at {ratio:g}": part.error.mean(), f"lpips at {ratio:g}": part.lpips.mean()}
                row[f"accuracy at {ratio:g}"] = part.accuracy.mean()
            error = group.groupby("picture").error.mean()
            shared = error[error.index.isin(usual.index)]
            if len(shared):
                row |= dict(zip(("over_usual", "low", "high"), find_ratio(shared, usual), strict=True))
            rows.append(row)
    order = {kind: i for i, kind in enumerate(KINDS)}
    return pd.DataFrame(rows).sort_values(
        ["kind", "evaluations"], key=lambda c: c.map(order) if c.name == "kind" else c
    )


def summarise_maps(records: pd.DataFrame) -> list[dict[str, float]]:
    """For each number of noises: the error of the map and the agreement of the mask, plain and in pairs."""
    rows = []
    for noises, group in records[records.kind == "map"].groupby("noises"):
        means = group.groupby(["picture", "antithetic"])[["error", "iou"]].mean().unstack()
        row = {"noises": int(noises), "pictures": len(means)}
        for name in ("error", "iou"):
            plain, paired = means[name][False], means[name][True]
            row |= {f"{name}_plain": plain.mean(), f"{name}_antithetic": paired.mean()}
            row |= dict(
                zip((f"{name}_quotient", f"{name}_low", f"{name}_high"), find_ratio(paired, plain), strict=True)
            )
        rows.append(row)
    return rows


def write_table(table: pd.DataFrame, maps: Sequence[Mapping[str, float]], out: Path, about: str) -> str:
    """The summary as Markdown."""
    lines = [about, ""]
    for kind, rows in table.groupby("kind", sort=False):
        masked = int(rows.iou.notna().any())
        head = ["setting", "evaluations an edit", "error × 1,000", f"over {USUAL} steps", "LPIPS to the reference"]
        head += ["LPIPS to the input", "accuracy"] + ["IoU of masks"] * masked
        lines += [f"### {kind}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        for row in rows.itertuples():
            over = f"{row.over_usual:.2f} [{row.low:.2f}, {row.high:.2f}]" if "over_usual" in rows else ""
            cells = [row.setting, f"{row.evaluations:.1f}", f"{row.error:.2f}", over, f"{row.distance:.4f}"]
            cells += [f"{row.lpips:.3f}", f"{row.accuracy:.3f}"] + [f"{row.iou:.3f}"] * masked
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += ["### contrast maps of few noises", ""]
    lines += ["| noises | squared error, plain | in pairs | quotient | IoU, plain | in pairs |", f"|{' --- |' * 6}"]
    for row in maps:
        quotient = f"{row['error_quotient']:.2f} [{row['error_low']:.2f}, {row['error_high']:.2f}]"
        cells = [str(row["noises"]), f"{row['error_plain']:.4f}", f"{row['error_antithetic']:.4f}", quotient]
        cells += [f"{row['iou_plain']:.3f}", f"{row['iou_antithetic']:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, ratios: Sequence[float], title: str) -> Any:
    """Error over evaluations for each kind; masks over steps; the trade-off."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 9), layout="constrained")
    axes = figure.subplots(2, 3)
    families = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(table.family))}
    for axis, kind in zip(axes[0], KINDS, strict=True):
        rows = table[table.kind == kind]
        for family, line in rows.groupby("family", sort=False):
            marks = {"marker": "x" if "guided" in family else "o", "markersize": 5, "color": families[family]}
            axis.plot(line.evaluations, line.error, linestyle=":" if "guided" in family else "-", label=family, **marks)
        usual = rows[rows.setting == str(Setting(USUAL))]
        if len(usual):
            axis.axhline(usual.error.iloc[0], color="0.6", linewidth=0.8, zorder=0)
        axis.set(title=kind, xscale="log", yscale="log", xlabel="evaluations an edit", ylabel="squared error × 1,000")
    axes[0][0].legend(fontsize="small")
    draw_masks(axes[1][0], table)
    for axis, kind in zip(axes[1][1:], ("unmasked", "fixed mask"), strict=True):
        draw_tradeoff(axis, table[table.kind == kind], ratios, kind)
    figure.suptitle(title)
    return figure


def draw_masks(axis: Any, table: pd.DataFrame) -> None:
    """How far the masks agree with the reference's, over the steps of the schedule that they are found on."""
    rows = table[(table.kind == "own mask") & (table.family == "DDIM, leading")]
    axis.plot(rows.steps, rows.iou, marker="o", color="black")
    axis.set(title="DiffEdit's own mask", xscale="log", xlabel="steps", ylabel="IoU with the reference's mask")


def draw_tradeoff(axis: Any, table: pd.DataFrame, ratios: Sequence[float], kind: str) -> None:
    """Accuracy over LPIPS to the input, a point a ratio, of some settings."""
    names = [str(Setting(n)) for n in sorted(set(table.steps))]
    names += [name for name in table.setting if name.startswith("30 steps, guided")]
    for i, row in enumerate(table[table.setting.isin(names)].to_dict("records")):
        x, y = ([row[f"{name} at {ratio:g}"] for ratio in ratios] for name in ("lpips", "accuracy"))
        dashed = "guided" in row["setting"]
        style = {"linestyle": ":" if dashed else "-", "marker": "x" if dashed else "o", "markersize": 4}
        axis.plot(x, y, label=row["setting"], color=COLOURS[i % len(COLOURS)], **style)
    axis.set(title=f"trade-off, {kind}", xlabel="LPIPS to the input", ylabel="accuracy")
    axis.legend(fontsize="x-small")


def report(store: Store, requests: Sequence[EditRequest], args: argparse.Namespace) -> None:
    """Write summary.json, summary.md and summary.png of these pictures; print the Markdown."""
    records = pd.DataFrame(store.records)
    records = records[records.picture.isin([request.id for request in requests])]
    if "iou" not in records:
        records["iou"] = float("nan")
    table, maps = summarise_edits(records[records.kind != "map"]), summarise_maps(records)
    count = records.picture.nunique()
    about = (
        f"{count} pictures of Still Life, r = {', '.join(f'{ratio:g}' for ratio in args.ratios)}, guidance "
        f"{GUIDANCE:g}; compared with {args.reference} DDIM steps"
    )
    text = write_table(table, maps, args.out, f"{about}.")
    (args.out / "summary.md").write_text(text)
    summary = {"about": about, "edits": json.loads(table.to_json(orient="records")), "maps": maps}
    (args.out / "summary.json").write_text(json.dumps(summary, indent=1))
    draw(table, args.ratios, about).savefig(args.out / "summary.png", dpi=100)
    print(text, flush=True)


def list_settings(args: argparse.Namespace) -> Iterator[tuple[Setting, Sequence[str]]]:
    """The ways to edit, each with the kinds of masks that it is tried under."""
    for steps in args.steps:
        yield Setting(steps), KINDS
    for steps in args.variant_steps:
        yield Setting(steps, spacing="trailing"), KINDS[:2]
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
    ways = list(list_settings(args))
    for i in range(0, len(requests), GROUP):
        group = requests[i : i + GROUP]
        print(f"pictures {i + 1} to {i + len(group)} of {len(requests)}")
        make_references(engine, store, group, args.reference, args.ratios)
        jobs = [Job(request, way, kind) for request in group for way, kinds in ways for kind in kinds]
        measure_edits(engine, store, jobs, args.ratios)
        measure_maps(engine, store, group)
        report(store, requests[: i + len(group)], args)


if __name__ == "__main__":
    main()
