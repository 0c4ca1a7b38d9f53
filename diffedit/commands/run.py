"""`diffedit run`: edit every request of a benchmark at every ratio; go on where a killed run stopped."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from diffedit.commands.launch import launch, tell
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
    return launch("run", run, words)


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


def run(cfg: DictConfig) -> None:
    """One run: benchmark x backbone x editor. What costs least to check comes first."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from diffedit.runs.loop import run_benchmark
    from diffedit.runs.plan import plan_benchmark
    from diffedit.stages.pipeline import build_pipeline

    root = Path(HydraConfig.get().runtime.output_dir)
    try:
        config, settings = read_settings(cfg)
        pipeline, benchmark = build_pipeline(cfg), instantiate(cfg.benchmark, _convert_="all")
        backbone = instantiate(cfg.backbone, _convert_="all")
        if cfg.plan:
            from eval.reporting.tables import make_console

            plan = plan_benchmark(benchmark, pipeline, backbone, root, settings, config)
            make_console().print("", plan.table())
        else:
            run_benchmark(benchmark, pipeline, backbone, root, settings, config)
    finally:
        remove_empty(root, Path(cfg.runs))


def read_settings(cfg: DictConfig) -> "tuple[dict[str, Any], RunSettings]":
    """The config of a run as plain containers, and what it says of how the run goes."""
    from diffedit.engine.sizes import AskedSizes
    from diffedit.runs.loop import RunSettings
    from diffedit.sampling.schedule import read_ratios

    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    engine = dict(read_section(config, "engine"))
    batch = AskedSizes.read(engine["batch"])
    keys = "verify", "wait", "cache_gigabytes", "cache_edits"
    cache = None if cfg.cache is None else resolve_path(str(cfg.cache))
    options = engine | {"batch": batch, "cache": cache} | {key: cfg[key] for key in keys}
    return config, RunSettings(read_ratios(cfg.ratios), cfg.steps, cfg.seed, cfg.on_error, **options)


def read_section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings below a name; a ValueError where somebody put a value there."""
    if not isinstance(config[name], Mapping):
        raise ValueError(f"{name} = {config[name]}: it has settings of its own, such as {name}.KEY=VALUE")
    return config[name]


def remove_empty(folder: Path, above: Path) -> None:
    """Remove the folder that was made for a run that was refused, and its parents up to `above`, if they are empty."""
    above = above.resolve()
    with suppress(OSError):  # one is not empty
        while above in folder.resolve().parents:
            folder.rmdir()
            folder = folder.parent
