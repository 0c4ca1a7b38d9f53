"""`diffedit run`: edit every request of a benchmark at every ratio; go on where a killed run stopped."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from diffedit.commands.launch import launch, tell
from diffedit.commands.refine import check_refine, keep_ratios, refine_run
from diffedit.commands.sweep import Job, edit_jobs, make_job, may_wait, print_plan, remove_empty
from diffedit.io.files import resolve_path
from diffedit.runs.names import register_resolvers

if TYPE_CHECKING:
    from diffedit.runs.loop import RunSettings


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    register_resolvers()
    try:
        words = sweep_seeds(argv)
    except ValueError as error:
        return tell(error, "diffedit run")
    return launch("run", Sweep().run, words, finish=edit_jobs)


def sweep_seeds(argv: Sequence[str]) -> list[str]:
    """The words of a command line, `seeds=[0,1,2]` as the sweep `--multirun seed=0,1,2`: a run for each."""
    given = [word for word in argv if word.startswith("seeds=")]
    if not given:
        return list(argv)
    numbers = given[-1].removeprefix("seeds=").strip("[]").replace(" ", "").split(",")
    if not all(map(str.isdecimal, numbers)) or len(set(numbers)) < len(numbers):
        raise ValueError(f"{given[-1]}: different whole numbers are wanted, as seeds=[0,1,2]")
    if both := [word for word in argv if word.startswith("seed=")]:
        raise ValueError(f"{given[-1]} and {both[-1]}: one of them is wanted")
    flag = [] if {"--multirun", "-m"} & set(argv) else ["--multirun"]
    return [*flag, *(word for word in argv if word not in given), f"seed={','.join(numbers)}"]


class Sweep:
    """What the jobs of one command have in common: one without `--multirun` is the only one."""

    def __init__(self) -> None:
        self.benchmarks: dict[str, Any] = {}

    def run(self, cfg: DictConfig) -> Job | None:
        """One run: benchmark x backbone x editor, or the job that may be edited later. What costs least comes first."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.utils import instantiate

        from diffedit.runs.held import AskedRun
        from diffedit.runs.loop import run_benchmark
        from diffedit.runs.plan import plan_benchmark
        from diffedit.stages.pipeline import build_pipeline

        root = Path(HydraConfig.get().runtime.output_dir)
        try:
            check_refine(cfg)
            config, settings = read_settings(cfg)
            asked = AskedRun(self.make_benchmark(cfg, config), build_pipeline(cfg), root, settings, config)
            if cfg.refine is not None:
                asked = keep_ratios(asked)
            if cfg.together and may_wait():
                return make_job(cfg, asked)
            backbone = instantiate(cfg.backbone, _convert_="all")
            what = asked.benchmark, asked.pipeline, backbone, root, asked.settings, asked.config
            if cfg.plan:
                print_plan(plan_benchmark(*what))
                return None
            run_benchmark(*what)
            if cfg.refine is not None:
                refine_run(cfg, asked, backbone)
        finally:
            remove_empty(root, Path(cfg.runs))
        return None

    def make_benchmark(self, cfg: DictConfig, config: Mapping[str, Any]) -> Any:
        """The benchmark of a job; equal ones are one, so that runs which are edited together open a picture once."""
        from hydra.utils import instantiate

        key = json.dumps(config["benchmark"], sort_keys=True, default=str)
        if key not in self.benchmarks:
            self.benchmarks[key] = instantiate(cfg.benchmark, _convert_="all")
        return self.benchmarks[key]


def read_settings(cfg: DictConfig) -> "tuple[dict[str, Any], RunSettings]":
    """The config of a run as plain containers, and what it says of how the run goes."""
    from diffedit.engine.sizes import AskedSizes
    from diffedit.runs.cut import Share
    from diffedit.runs.loop import RunSettings
    from diffedit.sampling.schedule import read_ratios

    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    engine = dict(read_section(config, "engine"))
    batch = AskedSizes.read(engine["batch"])
    keys = "verify", "wait", "cache_gigabytes", "cache_edits"
    cache = None if cfg.cache is None else resolve_path(str(cfg.cache))
    options = engine | {"batch": batch, "cache": cache} | {key: cfg[key] for key in keys}
    options |= {"share": Share.read(cfg.shard), "shard_size": cfg.shards.size, "claim_timeout": cfg.claims.timeout}
    return config, RunSettings(read_ratios(cfg.ratios), cfg.steps, cfg.seed, cfg.on_error, **options)


def read_section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings below a name; a ValueError where somebody put a value there."""
    if not isinstance(config[name], Mapping):
        raise ValueError(f"{name} = {config[name]}: it has settings of its own, such as {name}.KEY=VALUE")
    return config[name]
