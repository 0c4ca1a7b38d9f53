"""On trained networks of Still Life the metrics say what is known: of real pictures, copies, exact answers, edits."""

import pytest

from baselines.bounds import Copy, Oracle
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes
from diffedit.networks.clip import OpenClip
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline
from eval.metrics.accuracy import EditAccuracy
from eval.metrics.clip import ClipScore
from eval.metrics.functional.csfid import Csfid, Sfid
from eval.metrics.functional.frechet import Fid
from eval.metrics.functional.mmd import Cmmd, Kid, StratifiedKid
from eval.metrics.ground_truth import CounterfactualError
from eval.metrics.lpips import Lpips
from eval.metrics.set_distance import SetDistance
from eval.reporting.collect import collect
from eval.scoring.score import Settings, find_runs, score
from eval.stilllife.benchmarks import StillLifeClasses
from eval.stilllife.network import StillLifeExtractor, load

RATIOS = [0.3, 0.9]
PER_CLASS = 4
WEIGHTS = "weights/stilllife_features"


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Rows of scores by (editor, strength, metric), with their intervals."""
    folder = tmp_path_factory.mktemp("known")
    backbone, benchmark = (
        StableDiffusion.from_pretrained("weights/stilllife", device="cpu"),
        StillLifeClasses(per_class=PER_CLASS),
    )
    settings = RunSettings(RATIOS, steps=10, batch=BatchSizes(64, 16, 16, 8), progress=False)
    for name, editor in {"copy": Copy(), "oracle": Oracle(), "diffedit": DiffEdit()}.items():
        root = folder / "classes/stilllife" / name / "default"
        run_benchmark(benchmark, EditPipeline(editor), backbone, root, settings)
    features, clip = StillLifeExtractor(WEIGHTS, device="cpu"), OpenClip(device="cpu")
    white = StillLifeExtractor(WEIGHTS, "whitened", "cpu")
    metrics = {
        "lpips": Lpips(load(WEIGHTS, "cpu")),
        "counterfactual": CounterfactualError(load(WEIGHTS, "cpu")),
        "accuracy": EditAccuracy(StillLifeExtractor(WEIGHTS, "logits", "cpu")),
        "clip_score": ClipScore(clip),
        "cmmd": SetDistance(Cmmd(), clip, 480),
    } | {name: SetDistance(kind(), white if "kid" in name else features, 480) for name, kind in SETS.items()}
    roots = find_runs(str(folder / "*/*/*/*"))
    for root in roots:
        assert score(root, metrics, Settings(folder / "cache", resamples=400)) == list(metrics)
    rows = collect(roots).itertuples()
    return {(row.editor, row.strength if row.strength > 0 else None, row.metric): row for row in rows}


SETS = {"fid": Fid, "kid": Kid, "kid_stratified": StratifiedKid, "csfid": Csfid, "sfid": Sfid}


@pytest.mark.parametrize("metric", ["kid", "kid_stratified", "csfid_debiased", "sfid_debiased", "cmmd_debiased"])
def test_real_against_real_is_nothing_within_its_interval(scores, metric):
    row = scores["real", None, metric]
    assert row.low < 0 < row.high
    assert row.n == 12 * PER_CLASS


def test_the_oracle_is_at_the_floor_and_the_copy_far_from_it_by_class(scores):
    """The inputs are of the wrong classes; as a set they are as real as any."""
    for metric in ("csfid", "csfid_debiased"):
        real, oracle, copy = (
            scores[editor, None if editor == "real" else 0.3, metric] for editor in ("real", "oracle", "copy")
        )
        assert copy.low > 5 * oracle.high
        assert oracle.low < real.high
        assert real.low < oracle.high
    assert scores["copy", 0.3, "fid"].value < 2 * scores["real", None, "fid"].value


def test_every_metric_ranks_the_oracle_best_and_the_copy_as_designed(scores):
    for metric in ("accuracy", "clip_score", "csfid", "cf_lpips", "cf_psnr"):
        sign = 1 if scores["oracle", 0.3, metric].higher_is_better else -1
        best = sign * scores["oracle", 0.3, metric].value
        others = [sign * scores["diffedit", ratio, metric].value for ratio in RATIOS]
        assert best >= max(others), metric
        assert best > sign * scores["copy", 0.3, metric].value, metric
    assert scores["copy", 0.3, "lpips"].value == 0
    assert scores["copy", 0.3, "accuracy"].value == 0
    assert scores["oracle", 0.3, "accuracy"].value > 0.9


def test_with_the_ratio_edits_grow_stronger_and_nearer_to_the_answer(scores):
    """Accuracy and LPIPS to the input rise; LPIPS to the exact answer, and CSFID, fall."""
    for metric, sign in (("accuracy", 1), ("clip_score", 1), ("lpips", 1), ("cf_lpips", -1), ("csfid", -1)):
        values = [sign * scores["diffedit", ratio, metric].value for ratio in RATIOS]
        assert values[0] < values[1], metric
