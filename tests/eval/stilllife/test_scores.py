"""On trained networks of Still Life the metrics say what is known: of real pictures, copies, exact answers, edits."""

import pytest

from baselines.bounds import Copy, Oracle
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.networks.clip import OpenClip
from diffedit.runs.directory import RunDirectory
from diffedit.sampling.noise import RequestNoise
from eval.metrics.accuracy import EditAccuracy
from eval.metrics.clip import ClipScore
from eval.metrics.functional.csfid import Csfid, Sfid
from eval.metrics.functional.frechet import Fid
from eval.metrics.functional.mmd import Cmmd, Kid
from eval.metrics.ground_truth import CounterfactualError
from eval.metrics.lpips import Lpips
from eval.metrics.set_distance import SetDistance
from eval.reporting.collect import collect
from eval.scoring.score import Settings, find, score
from eval.stilllife.benchmarks import StillLifeClasses
from eval.stilllife.network import StillLifeExtractor, load

RATIOS = [0.3, 0.9]
PER_CLASS = 4
WEIGHTS = "weights/stilllife_features"


@pytest.fixture(context="module")
def aggregate(tmp_path_factory):
    """Figures by (editor, ratio, metric), with their intervals."""
    folder = tmp_path_factory.mktemp("known")
    backbone = StableDiffusion("weights/stilllife", device="cpu")
    target = "eval.stilllife.benchmarks.StillLifeClasses"
    for name, editor in {"copy": Copy(), "oracle": Oracle(), "diffedit": DiffEdit()}.items():
        config = {"ratios": RATIOS, "benchmark": {"_target_": target, "per_class": PER_CLASS}, "seed": 0}
        run = RunDirectory(folder / "classes/stilllife" / name / "default", config, StillLifeClasses.version)
        asks = {ask.id: ask for ask in run.pending(StillLifeClasses(per_class=PER_CLASS).requests(64))}
        schedule = backbone.schedule(10)
        programs = [(ask.id, editor(ask, RATIOS, schedule, RequestNoise(0, ask.id))) for ask in asks.values()]
        for outcome in Engine(backbone, BatchSizes(64, 16, 16, 8), progress=False).run(programs):
            assert outcome.error is None, outcome.error
            run.save(asks[outcome.id], outcome)
        run.close()
    features, clip = StillLifeExtractor(WEIGHTS, device="cpu"), OpenClip(device="cpu")
    metrics = {
        "lpips": Lpips(load(WEIGHTS, "cpu")),
        "counterfactual": CounterfactualError(load(WEIGHTS, "cpu")),
        "accuracy": EditAccuracy(StillLifeExtractor(WEIGHTS, "logits", "cpu")),
        "clip_score": ClipScore(clip),
        "cmmd": SetDistance(Cmmd(), clip, 480),
    } | {name: SetDistance(kind(), features, 480) for name, kind in SETS.items()}
    roots = find(str(folder / "*/*/*/*"))
    for root in roots:
        assert score(root, metrics, Settings(folder / "cache", resamples=400)) == list(metrics)
    table = collect(roots)
    return {(row.editor, row.ratio if row.ratio > 0 else None, row.metric): row for row in table.itertuples()}


SETS = {"fid": Fid, "kid": Kid, "csfid": Csfid, "sfid": Sfid}


@pytest.mark.parametrize("metric", ["kid", "csfid_debiased", "sfid_debiased", "cmmd_debiased"])
def test_real_against_real_is_nothing_within_its_interval(figures, metric):
    row = figures["real", None, metric]
    assert row.low < 0 < row.high
    assert row.n == 12 * PER_CLASS


def test_the_oracle_is_at_the_floor_and_the_copy_far_from_it_by_class(figures):
    """The inputs are of the wrong classes; as a set they are as real as any."""
    for metric in ("csfid", "csfid_debiased"):
        real, oracle, copy = (
            figures[editor, None if editor == "real" else 0.3, metric] for editor in ("real", "oracle", "copy")
        )
        assert copy.low > 5 * oracle.high
        assert oracle.low < real.high
        assert real.low < oracle.high
    assert figures["copy", 0.3, "fid"].value < 2 * figures["real", None, "fid"].value


def test_every_metric_ranks_the_oracle_best_and_the_copy_as_designed(figures):
    for metric in ("accuracy", "clip_score", "csfid", "cf_lpips", "cf_psnr"):
        sign = -1 if figures["oracle", 0.3, metric].higher_is_better == "lower" else 1
        best = sign * figures["oracle", 0.3, metric].value
        others = [sign * figures["diffedit", ratio, metric].value for ratio in RATIOS]
        assert best >= max(others), metric
        assert best > sign * figures["copy", 0.3, metric].value, metric
    assert figures["copy", 0.3, "lpips"].value == 0
    assert figures["copy", 0.3, "accuracy"].value == 0
    assert figures["oracle", 0.3, "accuracy"].value > 0.9


def test_with_the_ratio_edits_grow_stronger_and_nearer_to_the_answer(figures):
    """Accuracy and LPIPS to the input rise; LPIPS to the exact answer, and CSFID, fall."""
    for metric, sign in (("accuracy", 1), ("clip_score", 1), ("lpips", 1), ("cf_lpips", -1), ("csfid", -1)):
        values = [sign * figures["diffedit", ratio, metric].value for ratio in RATIOS]
        assert values[0] < values[1], metric
