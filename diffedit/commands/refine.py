"""`diffedit run refine=accuracy@0.7`: a finished run is scored and extended by the ratios that a comparison needs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from diffedit.io.files import find_shipped

if TYPE_CHECKING:
    from diffedit.runs.held import AskedRun
    from diffedit.types import Backbone


def check_refine(cfg: DictConfig) -> None:
    """Refuse, before any work, what names no figure that can be scored, or not so: a ValueError."""
    from diffedit.commands.schemas import check_command
    from diffedit.io.schema import ConfigError
    from diffedit.runs.refine import Target

    if cfg.refine is None:
        if cfg.refine_score:
            raise ValueError(f"refine_score = {list(cfg.refine_score)}: of refine=METRIC@VALUE, and refine is null")
        return
    target, known = Target.parse(cfg.refine), sorted(path.stem for path in find_shipped("conf/metric").glob("*.yaml"))
    if target.metric not in known:
        raise ValueError(f"refine = {cfg.refine}: no metric {target.metric}; there are {', '.join(known)}")
    try:
        check_command(compose_scoring(cfg, target.metric), "score")
    except ConfigError as error:
        raise ValueError(f"refine_score: {error}") from None


def compose_scoring(cfg: DictConfig, metric: str) -> DictConfig:
    """What `diffedit score` is to do between."""
    from diffedit.io.compose import compose

    return compose("score", [f"metric=[{metric}]", *cfg.refine_score])


def keep_ratios(asked: "AskedRun") -> "AskedRun":
    """The same run with the ratios, too, by which it was extended before."""
    from diffedit.runs.directory import read_run_config

    path = asked.root / "config.yaml"
    if not path.exists():
        return asked
    before, ratios = read_run_config(path).get("ratios") or [], list(asked.settings.ratios)
    if not set(ratios) < set(before):
        return asked
    return ask_for(asked, before)


def ask_for(asked: "AskedRun", ratios: Sequence[float]) -> "AskedRun":
    """The same run at these ratios."""
    config = {**asked.config, "ratios": list(ratios)}
    return replace(asked, settings=replace(asked.settings, ratios=tuple(ratios)), config=config)


def refine_run(cfg: DictConfig, asked: "AskedRun", backbone: "Backbone") -> None:
    """Extend a run that is done, until it has the ratios around the value that `refine` names."""
    from hydra.utils import instantiate

    from diffedit.runs.loop import run_benchmark
    from diffedit.runs.refine import Target, refine
    from eval.scoring.score import Settings, score

    target = Target.parse(cfg.refine)
    scoring = compose_scoring(cfg, target.metric)
    metrics = instantiate(scoring.metric, _convert_="all")
    draws = Settings(Path(scoring.cache), None, scoring.resamples, scoring.batch, scoring.threads, scoring.seed)

    def extend(ratios: Sequence[float]) -> None:
        run = ask_for(asked, ratios)
        run_benchmark(run.benchmark, run.pipeline, backbone, run.root, run.settings, run.config)

    def measure() -> Mapping[float, float]:
        score(asked.root, metrics, draws)
        return read_curve(asked.root, target.metric)

    refine(extend, measure, target, asked.settings.ratios, asked.settings.steps)


def read_curve(root: Path, metric: str) -> dict[float, Any]:
    """A figure by strength; a ValueError where nothing of that name was scored."""
    from eval.scoring.files import read_run_scores

    scores = read_run_scores(root)
    rows = scores[(scores.metric == metric) & (scores.run != "")]
    if rows.empty:
        raise ValueError(f"refine = {metric}: {root} has no such score, but {', '.join(sorted(set(scores.metric)))}")
    return dict(zip(rows.strength, rows.value, strict=True))
