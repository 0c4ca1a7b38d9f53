"""Edit every request of a benchmark at every ratio; go on where a killed run stopped. `--help` shows how."""

import hashlib
import re
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from diffedit.engine.engine import BatchSizes
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.sampling.schedule import ratio_list
from diffedit.stages.pipeline import build_pipeline


def slug(text: str) -> str:
    """Overrides as the name of one folder; `default` where there are none."""
    name = re.sub(r"[^\w=.,+@-]+", "-", re.sub(r"[][{}'\"]", "", text)).strip("-")
    if len(name) > 200:  # file systems take 255
        name = re.sub(r"(.+),(experiment=\w+)", r"\2,\1", name)  # tables and figures find their runs by it
        name = f"{name[:190]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return name or "default"


OmegaConf.register_new_resolver("slug", slug, replace=True)


@hydra.main(version_base="1.3", config_path="../conf", config_name="run")
def main(cfg: DictConfig) -> None:
    """One run: benchmark x backbone x editor."""
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    engine = dict(config["engine"])
    batch = BatchSizes(**engine.pop("batch"))
    settings = RunSettings(ratio_list(cfg.ratios), cfg.steps, cfg.seed, cfg.on_error, batch, **engine)
    benchmark, pipeline = instantiate(cfg.benchmark, _convert_="all"), build_pipeline(cfg)
    backbone = instantiate(cfg.backbone, _convert_="all")
    run_benchmark(benchmark, pipeline, backbone, Path(HydraConfig.get().runtime.output_dir), settings, config)


if __name__ == "__main__":
    main()
