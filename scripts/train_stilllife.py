"""Train a network of Still Life: `training=vae`, `ldm`, `clip`, `features`, `pixel`. A killed one goes on."""

from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from diffedit.command import run_command
from diffedit.io.device import pick_device
from eval.stilllife.train.loop import TrainingSchedule, train


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """Train one part."""
    part, schedule = instantiate(cfg.training.network), TrainingSchedule(**cfg.training.schedule)
    train(part, schedule, Path(cfg.out), pick_device(cfg.device), cfg.bfloat16)


if __name__ == "__main__":
    run_command("train_stilllife", main)
