"""Train a network of Still Life: `training=vae`, `ldm`, `clip`, `features`, `pixel`. A killed one goes on."""

import sys
from pathlib import Path

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parents[1]))  # its modules lie in scripts/train

from eval.stilllife.train.loop import Schedule, train


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """Train one part."""
    device = torch.device(cfg.device if cfg.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    train(instantiate(cfg.training.network), Schedule(**cfg.training.schedule), Path(cfg.out), device, cfg.bfloat16)


if __name__ == "__main__":
    main()
