"""`diffedit run`: edit every request of a benchmark at every ratio; go on where a killed run stopped."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from diffedit.commands.launch import launch
from diffedit.runs.names import register_resolvers


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    register_resolvers()
    return launch("run", run, argv)


def run(cfg: DictConfig) -> None:
    """One run: benchmark x backbone x editor. What costs least to check comes first."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate

    from diffedit.engine.engine import BatchSizes
    from diffedit.runs.loop import RunSettings, run_benchmark
    from diffedit.sampling.schedule import read_ratios
    from diffedit.stages.pipeline import build_pipeline

    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    engine = dict(config["engine"])
    batch = BatchSizes(**engine.pop("batch"))
    settings = RunSettings(read_ratios(cfg.ratios), cfg.steps, cfg.seed, cfg.on_error, batch, **engine)
    pipeline, benchmark = build_pipeline(cfg), instantiate(cfg.benchmark, _convert_="all")
    backbone = instantiate(cfg.backbone, _convert_="all")
    run_benchmark(benchmark, pipeline, backbone, Path(HydraConfig.get().runtime.output_dir), settings, config)
