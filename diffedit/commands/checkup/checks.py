"""What is measured of a model, each with what is normal and with advice where it is not.

The limits are those that any trained model keeps on pictures that are like its own; they were set between Still Life's
networks on one side, and on the other random ones and networks whose configs were made wrong
(tests/diffedit/commands/test_doctor.py).
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.backbones.base import PixelBackbone
from diffedit.commands.checkup.facts import is_unconditional
from diffedit.commands.checkup.finding import Finding, judge
from diffedit.commands.checkup.patient import STEPS, Patient
from diffedit.io.checks import check_finite
from diffedit.mask import ContrastMask, Mask, to_latent_grid
from diffedit.sampling.ddim import ddim_invert, ddim_sample, predict_guided
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import find_level
from diffedit.types import EditRequest, Level, Prediction, Program

AUTOENCODER = 20.0  # dB, of a picture that was encoded and decoded
SPREAD = (0.4, 2.5)  # standard deviation of latents
RATIOS = (0.3, 0.5, 0.7)  # where estimates are looked at
SEEN = 0.6  # error of the noise estimate over that of a guess that knows how wide latents are, and nothing else
ERROR = "error of noise estimates"
SHIFTS = range(-200, 201, 50)  # of the timestep
SHIFT = 50  # the largest that is normal
INVERSION = 20.0  # dB, of the picture that is found again with the most steps, at the lowest ratio
CONTRAST = {"scenes": 1.5, "photographs": 1.0}  # of a map inside of where the change belongs, over outside
AGREEMENT = 3.0  # standard errors, as `ContrastMask.floor`
EFFECT = 0.002  # of the estimates: how far two conditions are apart

OTHER_PICTURES = "the model does not know pictures of this kind (pictures=FOLDER for your own)"


def compute_psnr(one: Float[Tensor, "k 3 H W"], other: Float[Tensor, "k 3 H W"]) -> float:
    """In dB, the mean over pictures."""
    errors = (one - other).square().mean((1, 2, 3))
    return (-10 * errors.clamp_min(1e-10).log10()).mean().item()


def compute_error(one: Tensor, other: Tensor) -> float:
    """Square of the difference over the square of the second."""
    return ((one - other).square().mean() / other.square().mean()).item()


# ------------------------------------------------------------------------------------------------------- autoencoder


@torch.no_grad()
def check_autoencoder(patient: Patient) -> Iterator[Finding]:
    """Pictures there and back, and how wide latents are."""
    if isinstance(patient.backbone, PixelBackbone):
        yield Finding("autoencoder", "none: pictures are their own latents")
        return
    images = torch.stack([sample.image for sample in patient.samples])
    back = check_finite(patient.backbone.decode(patient.latents).cpu(), "the decoded picture")
    psnr, name = compute_psnr(back, images), "autoencoder, there and back"
    advice = f"weights or config of {patient.autoencoder} are others, or {OTHER_PICTURES}"
    yield judge(name, f"{psnr:.1f} dB", f"from {AUTOENCODER:g} dB", psnr >= AUTOENCODER, advice)
    spread, (low, high) = patient.latents.float().std().item(), SPREAD
    near = find_scaling(patient) / spread if spread else 1.0
    advice = f"scaling_factor in {patient.autoencoder}/config.json: {near:.3g} makes it 1; or {OTHER_PICTURES}"
    yield judge("spread of latents", f"{spread:.2f}", f"{low:g} to {high:g}", low <= spread <= high, advice)


def find_scaling(patient: Patient) -> float:
    """The autoencoder's factor; 1 where pictures are their own latents."""
    config = getattr(getattr(patient.backbone, "vae", None), "config", None)
    return float(getattr(config, "scaling_factor", 1.0))


# --------------------------------------------------------------------------------------------------------- estimates


def check_estimates(patient: Patient) -> Iterator[Finding]:
    """How much of a noise that was added is seen, by the prediction type of the config and by the other one."""
    errors, others = [], []
    for ratio in RATIOS:
        level = patient.find_level(ratio)
        prediction, guess = patient.estimate(level, patient.sources), find_guess_error(patient.latents, level)
        check_finite(prediction.eps, f"the noise estimate at ratio {ratio:g}")
        errors.append(compute_error(prediction.eps, patient.noises) / guess)
        others.append(compute_error(read_otherwise(patient, prediction, level), patient.noises) / guess)
    is_normal = max(errors) <= SEEN
    is_other = max(others) <= SEEN and sum(others) < sum(errors) / 2
    measured = ", ".join(f"{error:.2f} (r = {ratio:g})" for ratio, error in zip(RATIOS, errors, strict=True))
    if is_other:
        now, other = name_kinds(patient)
        told = ", ".join(f"{error:.2f}" for error in others)
        advice = f"prediction_type: {other} in {name_scheduler(patient)} (now {now}): so read, it is {told}"
    else:
        advice = f"weights are not trained, or not those of the configs in {patient.place}; or {OTHER_PICTURES}"
    yield judge(ERROR, measured, f"to {SEEN:g} of a guess's", is_normal and not is_other, advice)
    if not is_other:
        yield check_times(patient)


def find_guess_error(latents: Float[Tensor, "k c h w"], level: Level) -> float:
    """Error of the best estimate that is a multiple of the noised latent."""
    wide = level.alpha**2 * latents.float().square().mean().item()
    return wide / (wide + level.sigma**2)


def name_scheduler(patient: Patient) -> str:
    """The file of the noise schedule."""
    return f"{patient.place}/scheduler/scheduler_config.json"


def name_kinds(patient: Patient) -> tuple[str, str]:
    """The prediction type of the config, and the other one."""
    config = getattr(getattr(patient.backbone, "scheduler", None), "config", {})
    kinds = ("epsilon", "v_prediction")
    return kinds if config.get("prediction_type", "epsilon") == "epsilon" else kinds[::-1]


def read_otherwise(patient: Patient, prediction: Prediction, level: Level) -> Float[Tensor, "k c h w"]:
    """The noise estimate, were the network's output of the other prediction type."""
    alpha, sigma, _ = level
    if name_kinds(patient)[0] == "epsilon":
        return prediction.eps * alpha + patient.noised(level) * sigma
    return prediction.eps * alpha - prediction.x0 * sigma  # the output itself


def check_times(patient: Patient) -> Finding:
    """Whether pictures at a noise level look to the network as those of its timestep: whether betas are its own."""
    most = max(level.timestep for level in list_levels(patient))
    levels = [patient.find_level(ratio) for ratio in RATIOS]
    guesses = [find_guess_error(patient.latents, level) for level in levels]
    errors = {}
    for shift in SHIFTS:
        shifted = [level._replace(timestep=min(max(level.timestep + shift, 0), most)) for level in levels]
        estimates = [patient.estimate(level, patient.sources).eps for level in shifted]
        told = zip(estimates, guesses, strict=True)
        errors[shift] = sum(compute_error(eps, patient.noises) / guess for eps, guess in told)
    best = min(errors, key=lambda shift: (errors[shift], abs(shift)))
    measured, normal = f"{best:+d} from its own", f"within {SHIFT}"
    if errors[best] / len(RATIOS) > SEEN:
        return Finding("timestep that fits best", f"none does; the least bad {measured}", normal)
    advice = f"betas of {name_scheduler(patient)} (beta_schedule, beta_start, beta_end): not those of the training"
    return judge("timestep that fits best", measured, normal, abs(best) <= SHIFT, advice)


def list_levels(patient: Patient) -> list[Level]:
    """Of a long schedule."""
    schedule = patient.backbone.schedule(100)
    return [schedule[i] for i in range(len(schedule))]


def check_ends(patient: Patient) -> Iterator[Finding]:
    """Whether the noisiest level can be used, where alpha may be 0."""
    schedule = patient.backbone.schedule(STEPS)
    level = schedule[len(schedule) - 1]
    prediction = patient.estimate(level, patient.sources)
    is_finite = all(bool(torch.isfinite(part).all()) for part in prediction)
    advice = (
        f"epsilon cannot be read where alpha is 0: ratios below 1, backbone.timestep_spacing=leading, or, in "
        f"{name_scheduler(patient)}, prediction_type: v_prediction or rescale_betas_zero_snr: false, whichever the "
        "weights were trained with"
        if level.alpha == 0
        else "backbone.dtype=float32, or bfloat16"
    )
    yield judge("estimate at ratio 1", "finite" if is_finite else "not finite", "finite", is_finite, advice)


# --------------------------------------------------------------------------------------------------------- inversion


def check_inversion(patient: Patient) -> Iterator[Finding]:
    """Pictures taken up to a ratio and decoded unguided under the same condition, by steps and ratio."""
    found: dict[tuple[int, float], float] = {}
    plain = decode_all(patient, patient.latents)
    for steps in patient.cfg.steps:
        for ratio, latents in go_round(patient, steps).items():
            found[steps, ratio] = compute_psnr(decode_all(patient, latents), plain)
    most, ratios = max(patient.cfg.steps), sorted(patient.cfg.ratios)
    for ratio in ratios:
        measured = ", ".join(f"{found[steps, ratio]:.1f} dB (N = {steps})" for steps in patient.cfg.steps)
        name, psnr = f"inversion to r = {ratio:g} and back", found[most, ratio]
        if ratio != ratios[0]:
            yield Finding(name, measured, f"less than at r = {ratios[0]:g}, most of all at few steps")
            continue
        advice = f"more steps than {most}, editor.inversion.timestep=source, or see `{ERROR}`"
        yield judge(name, measured, f"from {INVERSION:g} dB at N = {most}", psnr >= INVERSION, advice)


def go_round(patient: Patient, steps: int) -> dict[float, Float[Tensor, "k c h w"]]:
    """The latents of all pictures that come back, by ratio."""
    schedule = patient.backbone.schedule(steps)
    starts = {ratio: find_level(ratio, len(schedule) - 1) for ratio in patient.cfg.ratios}

    def make(k: int) -> Program[dict[int, Tensor]]:
        x0, cond = patient.latents[k : k + 1], patient.sources[k]
        path = yield from ddim_invert(x0, schedule, max(starts.values()), cond)
        return (yield from ddim_sample({i: path[i] for i in starts.values()}, schedule, cond, cond, 1.0))

    results = patient.run(make)
    return {ratio: torch.cat([result[i] for result in results]) for ratio, i in starts.items()}


@torch.no_grad()
def decode_all(patient: Patient, latents: Float[Tensor, "k c h w"]) -> Float[Tensor, "k 3 H W"]:
    """Pictures; a FloatingPointError where they are not finite."""
    check_finite(latents, "a latent that was taken up and back")
    return check_finite(patient.backbone.decode(latents).cpu(), "the decoded picture")


# ---------------------------------------------------------------------------------------------------------- guidance


def check_guidance(patient: Patient) -> Iterator[Finding]:
    """Whether conditions and guidance change an estimate, and whether the null condition is one that was trained."""
    if is_unconditional(patient.backbone):
        yield Finding("guidance", "none: the model knows no conditions")
        return
    level = patient.find_level(0.5)
    target = patient.estimate(level, patient.targets).eps
    source = patient.estimate(level, patient.sources).eps
    effect = compute_error(target, source) ** 0.5
    advice = "conditions change nothing: are text_encoder/ and tokenizer/, or class_embedding, those of the model?"
    yield judge("target against source", f"{effect:.3f}", f"from {EFFECT:g}", effect >= EFFECT, advice)
    if getattr(patient.backbone, "null_class", "") is None:
        yield judge("null condition", "none", "one", False, f"{patient.backbone.remedy}")
        return
    null = patient.backbone.embed([""]) * len(patient.samples)
    empty = patient.estimate(level, null).eps
    yield from compare_null(patient, target, source, empty)
    yield from check_guided(patient, level, null, target)


def compare_null(patient: Patient, target: Tensor, source: Tensor, empty: Tensor) -> Iterator[Finding]:
    """The estimate under the null condition: another than under a target, and about as good as under the source."""
    away = compute_error(target, empty) ** 0.5
    error, known = compute_error(empty, patient.noises), compute_error(source, patient.noises)
    is_normal = away >= EFFECT and error <= max(3 * known, known + 0.1) and math.isfinite(error)
    where = "null_class in model_index.json" if patient.backbone.conditions == "class" else "the text encoder"
    advice = f"guidance leads away from it: {where} is wrong, or it was not trained without conditions"
    measured = f"{away:.3f} from the target; error {error:.2f}, under the source {known:.2f}"
    yield judge("null condition", measured, f"from {EFFECT:g}; about as good", is_normal, advice)


def check_guided(patient: Patient, level: Level, null: Sequence[Any], target: Tensor) -> Iterator[Finding]:
    """The estimate at the guidance of the settings: another than at 1, and finite."""
    scale, conds = patient.cfg.guidance, patient.targets

    def make(k: int) -> Program[Prediction]:
        return predict_guided(patient.noised(level)[k : k + 1], level, conds[k], null[k], scale)

    guided = torch.cat([prediction.eps for prediction in patient.run(make)])
    is_finite = bool(torch.isfinite(guided).all())
    away = compute_error(guided, target) ** 0.5 if is_finite else math.nan
    advice = "backbone.dtype=float32, or bfloat16" if not is_finite else f"guidance={scale:g} is the same as 1"
    measured = f"{away:.3f} from guidance 1" if is_finite else "not finite"
    yield judge(f"guidance {scale:g}", measured, f"from {EFFECT:g}, finite", is_finite and away >= EFFECT, advice)


# -------------------------------------------------------------------------------------------------------------- mask


def check_mask(patient: Patient) -> Iterator[Finding]:
    """The contrast of target and source: whether noises agree on it, and whether it lies where the change belongs."""
    if is_unconditional(patient.backbone):
        yield Finding("mask", "none: the model knows no conditions")
        return
    schedule, sources, targets = patient.backbone.schedule(50), patient.sources, patient.targets
    finder = ContrastMask(floor=AGREEMENT)

    def make(k: int) -> Program[Mask]:
        sample = patient.samples[k]
        request = EditRequest(sample.id, lambda: sample.image, sample.target or "", sample.source)
        noise = RequestNoise(patient.cfg.seed, sample.id)
        return finder.find(request, patient.latents[k : k + 1], targets[k], sources[k], schedule, noise)

    masks = patient.run(make)
    agreement = statistics.median(mask.agreement for mask in masks)
    advice = "the contrast is noise: a target that differs more (target=...), a wider backbone.dtype, or see `target "
    advice += "against source`"
    normal = f"from {AGREEMENT:g} standard errors"
    yield judge("noises agree on the mask", f"{agreement:.1f}, the median", normal, agreement >= AGREEMENT, advice)
    yield from check_place(patient, masks)


def check_place(patient: Patient, masks: Sequence[Mask]) -> Iterator[Finding]:
    """The contrast inside over outside of where the change belongs, where that is known and the model knows both."""
    ratios = []
    for sample, mask in zip(patient.samples, masks, strict=True):
        if sample.mask is not None and sample.is_known:
            inside = to_latent_grid(sample.mask, mask.contrast_map.shape)[0, 0]
            if inside.any() and not inside.all():
                ratios.append((mask.contrast_map[inside].mean() / mask.contrast_map[~inside].mean()).item())
    if not ratios:
        yield Finding("contrast inside / outside", "where a change belongs is not known for these pictures")
        return
    least, ratio = CONTRAST[patient.kind], statistics.median(ratios)
    advice = "masks will not be where they should: look at them (diffedit edit, then mask.png), try "
    advice += "editor.mask.num_noises=20 or another editor.mask.noise_strength; given masks (editor/mask=given) work"
    yield judge("contrast inside / outside", f"{ratio:.2f}, the median", f"from {least:g}", ratio >= least, advice)


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    check_autoencoder,
    check_estimates,
    check_ends,
    check_inversion,
    check_guidance,
    check_mask,
)
