"""What is said when: one line a case, for tests/contract/test_nothing_silent.py and docs/what_is_said_when.md.

A case is what is typed behind `diffedit`, in a folder with a picture `a.png` and a table `edits.csv` of it, and what has
to be said, word by word, within the message. `python docs/generate_said_when.py` then writes the page.
"""

# fmt: off
# ruff: noqa: E501 (a case is a line)

from typing import NamedTuple

REFUSED = "refused: nothing is made"


class Case(NamedTuple):
    """Words of a command line, and what becomes of them."""

    words: str
    said: str
    done: str = REFUSED
    code: int = 2
    table: str = ""  # what stands in the file t.csv or t.jsonl that the words name


COUNT = "it should be a whole number from 1 on"
SEED = "it should be a whole number from 0 to 9223372036854775807"
SIZE = f"{COUNT}, 'default' or 'auto'"
RATIO = "it should be a finite number above 0, at most 1"

CASES = {
    "Numbers that are none, or out of range": [
        Case("run steps=0", f"steps = 0: {COUNT}; the nearest is 1"),
        Case("run steps=-3", f"steps = -3: {COUNT}; the nearest is 1"),
        Case("run steps=2.5", f"steps = 2.5: {COUNT}; the nearest is 2"),
        Case("run steps=a", f"steps = 'a': {COUNT}; its default is 50"),
        Case("run steps=true", f"steps = true: {COUNT}; its default is 50"),
        Case("run steps=0 samples=0", "steps = 0: ", "refused: each key has its sentence"),
        Case("plan steps=0", f"steps = 0: {COUNT}; the nearest is 1"),
        Case("run --multirun steps=0 seed=1,2", f"steps = 0: {COUNT}; the nearest is 1"),
        Case("run engine.batch.predict=0", f"engine.batch.predict = 0: {SIZE}; the nearest is 1"),
        Case("run engine.batch.predict=1.5", f"engine.batch.predict = 1.5: {SIZE}; the nearest is 2"),
        Case("run engine.batch=fast", "engine.batch = 'fast': it should be 'default' or 'auto'; the nearest is 'default'"),
        Case("run engine.threads=a", f"engine.threads = 'a': {COUNT}; its default is 2"),
        Case("run engine=3", "engine = 3: it has settings of its own, such as engine.NAME=VALUE"),
        Case("run benchmark=folder benchmark.path=edits.csv benchmark.limit=1.5", f"benchmark.limit = 1.5: {COUNT}, or null"),
        Case("run samples=1.5", f"samples = 1.5: {COUNT}; the nearest is 2"),
        Case("run seed=null", f"seed = null: {SEED}; its default is 0"),
        Case("run seed=abc", f"seed = 'abc': {SEED}; its default is 0"),
        Case("run seed=-1", f"seed = -1: {SEED}; the nearest is 0"),
        Case("run seed=12345678901234567890123456", f"{SEED}; the nearest is 9223372036854775807"),
        Case("run ratios=[true]", f"ratios[0] = true: {RATIO}"),
        Case("run ratios=[0.5,1.5]", f"ratios[1] = 1.5: {RATIO}; the nearest is 1"),
        Case("run ratios=0.5", "ratios = 0.5: it should be a list of at least 1, each of it a finite number above 0, at most 1; the nearest is [0.5]"),
        Case("run ratios=[0.01]", "r = 0.01 of N = 50 steps is less than one step"),
        Case("run editor.guidance=nan", "editor.guidance = nan: it should be a finite number; its default is 7.5"),
        Case("run editor.mask.threshold.value=1", "editor.mask.threshold.value = 1: it should be a finite number from 0 on, below 1"),
        Case("run cache_gigabytes=inf", "cache_gigabytes = inf: it should be a finite number above 0; its default is 20"),
        Case("run claims.timeout=0", "claims.timeout = 0: it should be a finite number above 0"),
        Case("run max_pixels=0", f"max_pixels = 0: {COUNT}, or null; the nearest is 1"),
        Case("run launcher=local launcher.processes=0", f"launcher.processes = 0: {COUNT}, or null; the nearest is 1"),
        Case("run refine=accuracy@0.7 \"refine_score=['resamples=0']\"", f"refine_score: resamples = 0: {COUNT}; the nearest is 1"),
        Case("score resamples=0", f"resamples = 0: {COUNT}; the nearest is 1"),
        Case("score metric=[fid] metric.fid.size=0", f"metric.fid.size = 0: {COUNT}; the nearest is 1"),
        Case("plot resamples=0", f"resamples = 0: {COUNT}; the nearest is 1"),
        Case("report thumbs=8", "thumbs = 8: it should be a whole number from 16 on; the nearest is 16"),
        Case("edit --steps 0", f"--steps = 0: {COUNT}; the nearest is 1"),
        Case("edit --seed -1", f"--seed = -1: {SEED}; the nearest is 0"),
        Case("edit --ratio 0.5 1.5", f"--ratio[1] = 1.5: {RATIO}; the nearest is 1"),
        Case("edit --guidance nan", "--guidance = nan: it should be a finite number; its default is 7.5"),
    ],
    "Words where others are wanted": [
        Case("run editor.start=encoder", "editor.start = 'encoder': it should be 'encode' or 'noise'; the nearest is 'encode'"),
        Case("run on_error=skp", "on_error = 'skp': it should be 'skip' or 'stop'; the nearest is 'skip'"),
        Case("run wait=maybe", "wait = 'maybe': it should be true or false; its default is false"),
        Case("run backbone.dtype=float17", "backbone.dtype = 'float17': it should be 'float32', 'float16' or 'bfloat16'"),
        Case("run runs=3", "runs = 3: it should be a text; the nearest is '3'"),
        Case("score runs=3", "runs = 3: it should be a text; the nearest is '3'", "refused: the key has its name"),
        Case("table rows=some", "rows = 'some': it should be 'all', 'ratio' or 'equal'"),
    ],
    "Keys that nothing reads": [
        Case("run +negative_prompt=x", "negative_prompt: there is no such setting; did you mean editor.negative=given editor.negative_text?"),
        Case("run +editor.negative_prompt=x", "editor.negative_prompt: there is no such setting; did you mean editor.negative=given editor.negative_text?"),
        Case("run guidance=7", "guidance: there is no such setting; did you mean editor.guidance?"),
        Case("run guidance_scale=7", "guidance_scale: there is no such setting; did you mean editor.guidance?"),
        Case("run num_inference_steps=50", "num_inference_steps: there is no such setting; did you mean steps?"),
        Case("run +batch_size=8", "batch_size: there is no such setting; did you mean engine.batch.predict?"),
        Case("run device=cpu", "device: there is no such setting; did you mean backbone.device?"),
        Case("run +job=3", "job: there is no such setting"),
        Case("score +fid.size=100", "fid: there is no such setting"),
        Case("score +classifier=x", "classifier: there is no such setting; did you mean networks.classifier?"),
        Case("run engine.batch.requests=2", "engine.batch.requests: it is not there yet; +engine.batch.requests=... adds it"),
        Case("edit a.png --target pear stepz=3", "stepz: there is no such setting; did you mean steps?"),
        Case("run +editor.guidanc=3", "editor.guidanc: there is no such setting; did you mean editor.guidance?"),
        Case("run +engine.foo=1", "engine.foo: there is no such setting; there are batch, max_live, "),
        Case("run editor.guidanc=3", "editor.guidanc: there is no such setting; did you mean editor.guidance?"),
        Case("run stepz=3 sead=1", "stepz: there is no such setting; did you mean steps?; sead: there is no such setting; did you mean seed?"),
        Case("run --multirun stepz=3 seed=1,2", "stepz: there is no such setting; --cfg job lists all"),
        Case("score runz=x", "runz: there is no such setting; did you mean runs?"),
        Case("score +metric.lpips.net=vgg", "metric.lpips.net: there is no such setting; did you mean metric.lpips.network?"),
        Case("score run=x", "run is called runs now"),
    ],
    "What is written, and elsewhere": [
        Case("score out=scores.xlsx", "out = scores.xlsx: the ending says what is written, and it is none of .csv, .parquet"),
        Case("reference-stats extractors=[]", "extractors = []: it should be a list of at least 1"),
        Case("run launcher=print \"launcher.score=['metric=[nosuch]']\"", "launcher.score: "),
        Case("run launcher=print \"launcher.score=['stepz=3']\"", "launcher.score: stepz: there is no such setting"),
        Case("run seed=${oc.env:HOME}", "and ${oc.env:...} gives texts: ${oc.decode:${oc.env:...}}"),
        Case("score metric=[lpip]", "metric=lpip: there is no such choice; did you mean lpips or "),
    ],
    "Tables that are none": [
        Case("run benchmark=folder benchmark.path=t.csv", "line 1: cells stand between tabs: save it with commas", table="image\ttarget\na.png\tpear\n"),
        Case("plan benchmark=folder benchmark.path=t.csv", "line 1: cells stand between semicolons: save it with commas", table="image;target\na.png;pear\n"),
        Case("check-benchmark benchmark=folder benchmark.path=t.csv", "line 1: more than one 'target'", table="image,target,target\na.png,x,y\n"),
        Case("run benchmark=folder benchmark.path=t.jsonl", r"line 1: \ud83d is half of a character (a lone surrogate)", table='{"image": "a.png", "target": "\\ud83d"}\n'),
        Case("plan benchmark=folder benchmark.path=t.jsonl", "line 2: not JSON", table='{"image": "a.png", "target": "pear"}\n{"image"\n'),
    ],
    "Keys without a value": [
        Case("run benchmark=folder", "benchmark.path: it has no default; say benchmark.path=..."),
        Case("run editor=blended_diffusion ~editor.clip", "editor.clip: it has no default; say editor.clip=..."),
    ],
}
