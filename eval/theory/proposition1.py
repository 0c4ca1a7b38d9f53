"""Proposition 1 (Couairon et al., ICLR 2023) on one picture: what its two sides need, in the record of a run.

Norms are of latents and normalised by their dimension: ||v|| / sqrt(dim). There is no mask.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, MinLen
from jaxtyping import Float
from torch import Tensor

from diffedit.inversion import Inversion
from diffedit.io.checks import settings
from diffedit.sampling.ddim import ddim_sample, decode_edits, noising_trajectory
from diffedit.types import (
    Backbone,
    BaseEditor,
    Cond,
    Custom,
    EditRequest,
    EditResult,
    Embed,
    Encode,
    Noise,
    Predict,
    Program,
    Schedule,
)
from eval.theory.jacobian import SpectralNorm, estimate_spectral_norm

KEY = "proposition1"
"""Of the record's metadata: all that was measured, as JSON."""

NEAREST = 1e-3  # distance of two points below which rounding would decide the quotient of their differences


def compute_norms(x: Float[Tensor, "k c h w"]) -> Float[Tensor, " k"]:
    """The dimension-normalised norm of each row."""
    return x.double().square().mean((1, 2, 3)).sqrt()


@dataclass(frozen=True, eq=False)
class Probes:
    """Estimates of the network at points of one level: the picture encoded and with noise, and what was decoded.

    Attributes:
        points: encoded, with noise, then decoded ones.
        empty: under the empty text, of all points.
        target: under Q, of the first two.
    """

    points: Float[Tensor, "k c h w"]
    empty: Float[Tensor, "k c h w"]
    target: Float[Tensor, "2 c h w"]

    def measure(self, guidances: Sequence[float]) -> dict[str, Any]:
        """C of each guidance, K2 and the largest quotient of differences, of this picture at this level."""
        gaps = self.target - self.empty[:2]
        sizes = [compute_norms((self.empty[:2] + gaps * guidance)[1:]).item() for guidance in guidances]
        steps = compute_norms(self.points[1:] - self.points[:1])
        rises = compute_norms(self.empty[1:] - self.empty[:1])
        quotients = (rises / steps)[steps > NEAREST].tolist()
        encoded, noised = compute_norms(gaps).tolist()
        return {"size": sizes, "gap": encoded, "gap_noised": noised, "quotient": max(quotients, default=None)}


@settings
class MeasureProposition1(BaseEditor):
    """Measures ||x0 - D_r(E_r(x0), Q)|| and ||x0 - D_r(G_r(x0, eps), Q)||, and estimates C, K1 and K2.

    The edits are those of D_r(E_r(x0), Q) under the first guidance. What is measured does not depend on the ratios.

    Attributes:
        guidances: of the decoding: 1 is the proposition's own; each is measured by itself.
        levels: how many encoding ratios are measured, evenly spread up to 1.
        jacobian_levels: at how many noise levels, evenly spread over all, K1 is estimated by power iteration
            on the Jacobian at the encoded picture, the lowest among them; 0 for none.
        iterations: of each power iteration.
        inversion: how the picture is taken up.
    """

    guidances: Annotated[tuple[float, ...], MinLen(1)] = (1.0, 7.5)
    levels: Annotated[int, Ge(1)] = 10
    jacobian_levels: Annotated[int, Ge(0)] = 5
    iterations: Annotated[int, Ge(1)] = 30
    inversion: Inversion = Inversion()

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """One inversion and one noise for all; the Jacobians come last."""
        starts, top = schedule.start_levels(ratios), len(schedule) - 1
        levels = spread_levels(top, self.levels)
        x0 = yield Encode(request.image())
        target, source, empty = yield Embed((request.target, self.inversion.find_text(request), ""))
        path = yield from self.inversion.climb(x0, schedule, top, source)
        noised = noising_trajectory(x0, noise.randn_like(x0, "start 0"), schedule)  # as SDEdit

        passed: dict[int, dict[int, Tensor]] = {i: {} for i in range(top + 1)}  # by D_r(E_r(x0), Q): by level, start
        edited: dict[int, Tensor] = {}
        distances: dict[str, dict[str, list[float]]] = {}
        for guidance in self.guidances:
            for name, begin in (("encoding", path.__getitem__), ("noising", noised)):
                is_first = not edited
                order = sorted({*levels, *starts} if is_first else levels, reverse=True)
                keep = partial(keep_passed, passed, order) if is_first else None
                ends = yield from ddim_sample({i: begin(i) for i in order}, schedule, target, empty, guidance, keep)
                edited = edited or ends
                away = torch.cat([ends[i] for i in levels]) - x0
                distances.setdefault(f"{guidance:g}", {})[name] = compute_norms(away).tolist()

        probes = []
        for i in range(1, top + 1):
            near = [x for start, x in passed[i].items() if start in levels]
            probe = yield from self.probe(torch.cat([path[i], noised(i), *near]), target, empty, schedule, i)
            probes.append(probe.measure(self.guidances))
        edits = yield from decode_edits(edited, ratios, starts)
        jacobians = yield from self.find_jacobians(path, schedule, empty, noise)
        return EditResult(edits, metadata=describe(schedule, levels, distances, probes, self.guidances, jacobians))

    def probe(
        self, points: Float[Tensor, "k c h w"], target: Cond, empty: Cond, schedule: Schedule, i: int
    ) -> Program[Probes]:
        """The estimates at points of level i: under the empty text all of them, under Q the first two."""
        x, conds = torch.cat([points, points[:2]]), (empty,) * len(points) + (target,) * 2
        answer = yield Predict(x, schedule[i], conds, purpose="constants")
        return Probes(points, answer.eps[:-2], answer.eps[-2:])

    def find_jacobians(
        self, path: Sequence[Tensor], schedule: Schedule, empty: Cond, noise: Noise
    ) -> Program[dict[int, SpectralNorm]]:
        """The spectral norm of the Jacobian of eps(., empty, t) at the encoded picture, by level."""
        start, norms = noise.randn_like(path[0], "jacobian"), {}
        for i in spread_from_first(len(path) - 1, self.jacobian_levels):

            def ask(backbone: Backbone, i: int = i) -> SpectralNorm:
                def estimate(x: Tensor) -> Tensor:
                    return backbone.predict(x, [schedule[i]], [empty]).eps

                return estimate_spectral_norm(estimate, path[i], start, self.iterations)

            norms[i] = yield Custom(ask)
        return norms


def keep_passed(passed: Mapping[int, dict[int, Tensor]], order: Sequence[int], x: Tensor, i: int) -> Tensor:
    """As a blend of `ddim_sample`: note the latents that have reached level i, by their start level; change nothing."""
    passed[i].update(zip(order, x.split(1), strict=False))  # those that start below have not begun
    return x


def spread_from_first(top: int, count: int) -> list[int]:
    """At most so many levels, evenly spread over 1 to `top`, the first of them 1, where the network is steepest."""
    return sorted({round(1 + (top - 1) * k / max(count - 1, 1)) for k in range(count)})


def spread_levels(top: int, count: int) -> list[int]:
    """At most so many levels, evenly spread over 1 to `top`, which is the last of them."""
    return sorted({round(top * k / count) for k in range(1, count + 1)} - {0})


def describe(
    schedule: Schedule,
    levels: Sequence[int],
    distances: Mapping[str, Mapping[str, Sequence[float]]],
    probes: Sequence[Mapping[str, Any]],
    guidances: Sequence[float],
    jacobians: Mapping[int, SpectralNorm],
) -> dict[str, str | float]:
    """What the record of a picture says: all of it as JSON below `KEY`, and this picture's K1 and K2."""
    quotients = [probe["quotient"] for probe in probes]
    measured = {
        "tau": [level.sigma / level.alpha for level in (schedule[i] for i in range(1, len(schedule)))],
        "levels": list(levels),
        "distances": distances,
        "size": {f"{guidance:g}": [probe["size"][g] for probe in probes] for g, guidance in enumerate(guidances)},
        "gap": [probe["gap"] for probe in probes],
        "gap_noised": [probe["gap_noised"] for probe in probes],
        "quotient": quotients,
        "jacobian": {str(i): list(norm) for i, norm in jacobians.items()},
    }
    known = {"k2": max(measured["gap"])}
    if found := [quotient for quotient in quotients if quotient is not None]:
        known["k1_quotient"] = max(found)
    if jacobians:
        known["k1_jacobian"] = max(norm.value for norm in jacobians.values())
    return {**known, KEY: json.dumps(measured)}
