"""Proposition 1 over the pictures of a run: constants with their spread, measured distances beside both bounds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from eval.scoring.bootstrap import Bootstrap, Interval, estimate_mean
from eval.scoring.finished_run import FinishedRun
from eval.theory.bounds import PAPER, Constants, bound_encoding, bound_noising, find_crossing, integrate_worst_case
from eval.theory.proposition1 import KEY

WAYS = ("encoding", "noising")
HOW = {
    "C": "largest, over levels, of the root mean square over pictures of ||eps(x_t, Q, t)||, x_t with noise",
    "K2": "mean over pictures of max_t ||eps(x, Q, t) - eps(x, empty, t)|| at the encoded picture",
    "quotient": "largest ||eps(x, empty, t) - eps(y, empty, t)|| / ||x - y|| seen on any picture, x encoded, y decoded "
    "or with noise: from below",
    "jacobian": "largest spectral norm of the Jacobian of eps(., empty, t) at the encoded pictures by power iteration: "
    "from below",
}


@dataclass(frozen=True, eq=False)
class Measured:
    """What the records of one run say, over n pictures and N noise levels above the clean one.

    Attributes:
        root: of the run.
        about: benchmark, backbone and the like, for titles.
        tau: of each noise level.
        levels: those that were decoded from.
        distances: by guidance and way.
        size: ||eps(x_t, Q, t)|| by guidance.
        gap: K2 before its maximum, at the encoded pictures.
        gap_noised: the same at the pictures with noise.
        quotient: NaN where no two points were apart.
        jacobian_levels: at which K1 was estimated by power iteration.
        jacobian: what it gave.
        change: how far that still moved in the last iteration, as a share.
    """

    root: Path
    about: str
    tau: Float[ndarray, " N"]
    levels: Int[ndarray, " L"]
    distances: Mapping[str, Mapping[str, Float[ndarray, "n L"]]]
    size: Mapping[str, Float[ndarray, "n N"]]
    gap: Float[ndarray, "n N"]
    gap_noised: Float[ndarray, "n N"]
    quotient: Float[ndarray, "n N"]
    jacobian_levels: Int[ndarray, " J"]
    jacobian: Float[ndarray, "n J"]
    change: Float[ndarray, "n J"]

    @property
    def n(self) -> int:
        """Pictures."""
        return len(self.gap)

    @property
    def ratios(self) -> Float[ndarray, " L"]:
        """Encoding ratios that were decoded from."""
        return self.levels / len(self.tau)


def read_measured(root: Path) -> Measured:
    """What a finished run of editor=proposition1 measured.

    Raises:
        IncompleteRunError: the run misses pictures.
        ValueError: it is a run of another editor.
    """
    run = FinishedRun(root)
    run.check()
    facts = [run.records[request.id]["metadata"].get(KEY) for request in run.requests]
    if None in facts:
        raise ValueError(f"{root}: its records measure no {KEY}: a run of experiment=proposition1 is wanted")
    rows = [json.loads(fact) for fact in facts]
    first = rows[0]

    def stack(pick: Any) -> Float[ndarray, "n ..."]:
        return np.array([pick(row) for row in rows], dtype=np.float64)

    places = sorted(map(int, first["jacobian"]))
    return Measured(
        root,
        ", ".join(root.parts[-4:-2]),
        np.array(first["tau"], dtype=np.float64),
        np.array(first["levels"]),
        {g: {way: stack(lambda row, g=g, way=way: row["distances"][g][way]) for way in WAYS} for g in first["size"]},
        {g: stack(lambda row, g=g: row["size"][g]) for g in first["size"]},
        stack(lambda row: row["gap"]),
        stack(lambda row: row["gap_noised"]),
        stack(lambda row: row["quotient"]),
        np.array(places, dtype=int),
        stack(lambda row: [row["jacobian"][str(i)][0] for i in places]),
        stack(lambda row: [row["jacobian"][str(i)][1] for i in places]),
    )


# ----------------------------------------------------------------------------------------------------------- constants


def summarise_constants(measured: Measured, bootstrap: Bootstrap) -> dict[str, Any]:
    """C and K2 by guidance, K1 by the way it was estimated: each with its spread, and how it was estimated."""
    gap = measured.gap.max(1)
    found: dict[str, Any] = {"C": {}, "K2": {}, "K1": {}, "how": HOW}
    for guidance, size in measured.size.items():
        squares = np.square(size)
        k = int(squares.mean(0).argmax())
        value, low, high = bootstrap.interval(estimate_mean(squares[:, k]))
        spread = {"level": k + 1, "per_level": np.sqrt(squares.mean(0)).tolist()}
        found["C"][guidance] = dict(zip(("value", "low", "high"), np.sqrt([value, low, high]).tolist(), strict=True))
        found["C"][guidance] |= spread
        # The guided estimate is farther from that of the empty text by the guidance, everywhere.
        scaled = gap * float(guidance)
        found["K2"][guidance] = describe_interval(bootstrap.interval(estimate_mean(scaled)))
        found["K2"][guidance] |= {"least": scaled.min(), "most": scaled.max(), "deviation": scaled.std()}
    found["K2"]["with_noise"] = describe_interval(bootstrap.interval(estimate_mean(measured.gap_noised.max(1))))
    if not np.isnan(measured.quotient).all():
        found["K1"]["quotient"] = summarise_lipschitz(measured.quotient, np.arange(1, len(measured.tau) + 1))
    if measured.jacobian.size:
        found["K1"]["jacobian"] = summarise_lipschitz(measured.jacobian, measured.jacobian_levels)
        found["K1"]["jacobian"]["largest_change"] = float(measured.change.max())
    return found


def summarise_lipschitz(values: Float[ndarray, "n k"], levels: Int[ndarray, " k"]) -> dict[str, Any]:
    """The largest of all values, where it is, each picture's own largest, and the largest of each level."""
    largest = np.nanmax(values, 1)
    known = ~np.isnan(values).all(0)
    per_level = dict(zip(levels[known].tolist(), np.nanmax(values[:, known], 0).tolist(), strict=True))
    spread = {"least": largest.min(), "median": np.median(largest), "most": largest.max()}
    return {"value": largest.max(), "level": max(per_level, key=per_level.get), **spread, "per_level": per_level}


def describe_interval(interval: Interval) -> dict[str, float]:
    """As a mapping."""
    return {name: float(number) for name, number in interval._asdict().items()}


def list_constants(found: Mapping[str, Any], guidance: str) -> dict[str, Constants]:
    """Constants of the bounds, by where their K1 is from; the paper's for guidance 1, which is what they are of."""
    c, k2 = (found[name][guidance]["value"] for name in ("C", "K2"))
    own = {name: Constants(c, float(k1["value"]), k2) for name, k1 in found["K1"].items()}
    return ({"paper": PAPER} if float(guidance) == 1 else {}) | own


# -------------------------------------------------------------------------------------------------------------- result


def summarise(measured: Measured, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """All that is said of a run: constants, then for each guidance the distances over r and what the bounds are worth.

    Args:
        measured: of the run.
        resamples: of the bootstrap over pictures.
        seed: of the bootstrap.
    """
    bootstrap = Bootstrap(measured.n, resamples=resamples, seed=seed)
    constants = summarise_constants(measured, bootstrap)
    about = {"run": str(measured.root), "about": measured.about, "pictures": measured.n, "steps": len(measured.tau)}
    panels = {
        guidance: summarise_panel(measured, guidance, list_constants(constants, guidance), bootstrap)
        for guidance in measured.distances
    }
    return make_plain(about | {"constants": constants, "panels": panels})


def make_plain(value: Any) -> Any:
    """Plain containers and numbers, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): make_plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [make_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def summarise_panel(
    measured: Measured, guidance: str, bounds: Mapping[str, Constants], bootstrap: Bootstrap
) -> dict[str, Any]:
    """One guidance: a row a ratio, and each pair of bounds against it."""
    distances, tau = measured.distances[guidance], measured.tau[measured.levels - 1]
    rows = [{"ratio": float(r), "tau": float(t)} for r, t in zip(measured.ratios, tau, strict=True)]
    for k, row in enumerate(rows):
        for way in WAYS:
            row[way] = describe_interval(bootstrap.interval(estimate_mean(distances[way][:, k])))
        difference = estimate_mean(distances["encoding"][:, k] - distances["noising"][:, k])
        row["difference"] = describe_interval(bootstrap.interval(difference))
    judged = {name: judge_bounds(measured, distances, rows, constants) for name, constants in bounds.items()}
    return {"rows": rows, "bounds": judged}


def judge_bounds(
    measured: Measured,
    distances: Mapping[str, Float[ndarray, "n L"]],
    rows: list[dict[str, Any]],
    constants: Constants,
) -> dict[str, Any]:
    """Both bounds at each ratio: their values, the pictures above them, how many times the mean they are."""
    tau = np.array([row["tau"] for row in rows])
    values = {"encoding": bound_encoding(tau, constants), "noising": bound_noising(tau, constants)}
    result: dict[str, Any] = {"constants": constants._asdict()}
    for way in WAYS:
        means = np.array([row[way]["value"] for row in rows])
        result[way] = {
            "values": values[way].tolist(),
            "pictures_above": (distances[way] > values[way]).sum(0).tolist(),
            "times_the_mean": (values[way] / means).tolist(),
        }
    with np.errstate(over="ignore"):
        result["worst_case"] = [integrate_worst_case(float(t), constants) for t in tau]
    predicted = np.sign(values["encoding"] - values["noising"])
    seen = np.sign([row["difference"]["value"] for row in rows])
    is_clear = np.array([row["difference"]["low"] * row["difference"]["high"] > 0 for row in rows])
    result["order"] = {"ratios": len(rows), "right": int((predicted == seen).sum())}
    result["order"] |= {"clear": int(is_clear.sum()), "clear_and_right": int(((predicted == seen) & is_clear).sum())}
    return result | {"crossing": describe_crossing(measured, constants)}


def describe_crossing(measured: Measured, constants: Constants) -> dict[str, float] | None:
    """Where the bounds cross: tau, abar and the ratio of this schedule (NaN beyond it); None where they do not."""
    tau = find_crossing(constants)
    if tau is None:
        return None
    taus, ratios = np.append(0, measured.tau), np.arange(len(measured.tau) + 1) / len(measured.tau)
    return {"tau": tau, "abar": 1 / (1 + tau**2), "ratio": float(np.interp(tau, taus, ratios, right=np.nan))}
