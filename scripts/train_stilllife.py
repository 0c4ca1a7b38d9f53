"""Train a network of Still Life: `training=vae`, `ldm`, `clip`, `features`, `second`, `pixel`. A killed one goes on."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from diffedit.commands.launch import launch


def train_part(cfg: DictConfig) -> None:
    """Train one part."""
    from hydra.utils import instantiate

    from diffedit.io.device import pick_device
    from eval.stilllife.train.loop import TrainingSchedule, train

    part, schedule = instantiate(cfg.training.network), TrainingSchedule(**cfg.training.schedule)
    train(part, schedule, Path(cfg.out), pick_device(cfg.device), cfg.bfloat16)


if __name__ == "__main__":
    sys.exit(launch("train_stilllife", train_part, sys.argv[1:], config="train"))
