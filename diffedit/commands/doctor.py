"""`diffedit doctor`: look at a model before it is used: what it is, and whether what it answers is normal."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffedit.commands.launch import launch

if TYPE_CHECKING:
    from diffedit.commands.checkup.finding import Finding
    from diffedit.commands.checkup.patient import Patient

log = logging.getLogger("doctor")


class NotNormalError(RuntimeError):
    """Something is not as it should be."""

    exit_code = 1


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return launch("doctor", examine, argv)


def examine(cfg: DictConfig) -> None:
    """Load the model, show it pictures, tell."""
    from hydra.utils import instantiate

    from diffedit.commands.checkup.checks import CHECKS
    from diffedit.commands.checkup.cost import COSTS
    from diffedit.commands.checkup.facts import FACTS
    from diffedit.commands.checkup.levels import make_level_table
    from diffedit.commands.checkup.patient import Patient
    from diffedit.commands.checkup.pictures import find_samples
    from diffedit.commands.checkup.report import show
    from diffedit.sampling.ddim import describe_low_guidance
    from diffedit.sampling.schedule import open_schedule

    check_settings(cfg)
    backbone = instantiate(cfg.backbone, _convert_="all")
    if cfg.levels is not None:
        print("\n".join(make_level_table(backbone, list(cfg.levels))))
        return
    samples = find_samples(cfg, backbone)
    for steps in cfg.steps:
        open_schedule(backbone, steps)  # which tells what it does not cover
    if warning := describe_low_guidance(cfg.guidance, key="guidance"):
        log.warning("%s", warning)
    patient = Patient(backbone, samples, cfg)
    facts = look(FACTS, patient)
    checks = look((*CHECKS, *COSTS), patient)
    show(facts, checks, patient)
    wrong = [finding.name for finding in (*facts, *checks) if finding.verdict == "look"]
    if wrong:
        raise NotNormalError(f"not normal: {', '.join(dict.fromkeys(wrong))}; the advice is above")


def check_settings(cfg: DictConfig) -> None:
    """Refuse settings with which nothing could be measured, before a model is loaded."""
    from diffedit.sampling.schedule import check_ratios, read_ratios

    if not cfg.steps or cfg.count < 1:
        raise ValueError(f"steps = {cfg.steps}, count = {cfg.count}: at least one number of steps, and one picture")
    for steps in cfg.steps:
        check_ratios(read_ratios(cfg.ratios), steps)


def look(checks: "Iterable[Callable[[Patient], Iterable[Finding]]]", patient: "Patient") -> "list[Finding]":
    """What checks find, one after the other; one that fails is a finding itself."""
    from tqdm.auto import tqdm

    found = []
    for check in tqdm(list(checks), desc="checks", disable=None, leave=False):
        try:
            for finding in check(patient):
                found.append(finding)  # noqa: PERF402 (what is found before a failure is kept)
        except Exception as error:
            log.debug("%s", check.__name__, exc_info=True)
            found.append(describe_failure(check.__name__, error, patient.place))
    return found


def describe_failure(check: str, error: Exception, place: str | None = None) -> "Finding":
    """A check that could not be made, with what would mend it where the message does not say so."""
    from diffedit.commands.checkup.finding import Finding
    from diffedit.io.device import is_out_of_memory

    name, told = check.partition("_")[2].replace("_", " "), str(error).strip() or type(error).__name__
    remedy = "" if place is None or "prediction_type" not in told else f"prediction_type in {place}/scheduler/"
    if isinstance(error, FloatingPointError):
        part = "backbone.vae_dtype" if "decoded" in told or "encoded" in told else "backbone.dtype"
        remedy = f"{part}=float32; where it is that already, the weights hold a NaN: get the file again"
    elif is_out_of_memory(error):
        remedy = "count=1, backbone.dtype=float16 or a smaller backbone.resolution"
    return Finding(name, f"failed: {told}", "no error", "look", remedy)
