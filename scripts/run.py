"""Edit every request of a benchmark at every ratio; go on where a killed run stopped. `--help` shows how."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from diffedit.command import run_command
from diffedit.engine.engine import BatchSizes
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.runs.names import register_resolvers
from diffedit.sampling.schedule import read_ratios
from diffedit.stages.pipeline import build_pipeline

register_resolvers()


@hydra.main(version_base="1.3", config_path="../conf", config_name="run")
def main(cfg: DictConfig) -> None:
    """One run: benchmark x backbone x editor."""
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    engine = dict(config["engine"])
    batch = BatchSizes(**engine.pop("batch"))
    settings = RunSettings(read_ratios(cfg.ratios), cfg.steps, cfg.seed, cfg.on_error, batch, **engine)
    benchmark, pipeline = instantiate(cfg.benchmark, _convert_="all"), build_pipeline(cfg)
    backbone = instantiate(cfg.backbone, _convert_="all")
    run_benchmark(benchmark, pipeline, backbone, Path(HydraConfig.get().runtime.output_dir), settings, config)


if __name__ == "__main__":
    run_command("run", main)
