"""Loggers: scores, pictures and pages for dashboards. Sinks that are fed once; nothing reads them back."""

from eval.reporting.loggers.logger import Logger, NoLogger, PageLogger
from eval.reporting.loggers.tensorboard import Tensorboard
from eval.reporting.loggers.wandb import Wandb

__all__ = ["Logger", "NoLogger", "PageLogger", "Tensorboard", "Wandb"]
