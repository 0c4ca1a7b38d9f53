"""The door: helps, refusals, exit codes, what a text may be, completion. Called in this process where that will do."""

import inspect
import os
import resource
import shutil
import subprocess
import sys
from importlib import import_module

import pytest
from helpers import ROOT, call, call_process, said

from diffedit.commands import COMMANDS, EXIT_CODES
from diffedit.commands.complete import complete
from diffedit.commands.launch import HINT, put_overrides_last
from diffedit.runs.claim import Claim, claim
from diffedit.runs.cut import get_claim_path

SLOW = "{'diffusers', 'transformers', 'open_clip', 'torchvision'}"
SMALL = ["backbone=analytic", "steps=4", "ratios=[0.5]", "benchmark=folder", "engine.progress=false"]


def run_python(code, **settings):
    """(process, CPU seconds) of a Python program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, **settings)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# -------------------------------------------------------------------------------------------------------------- helps


def test_the_first_screen_names_all_commands_and_exit_codes(door):
    code, screen = door("--help")
    assert code == 0
    assert all(f"  {name} " in screen for name in COMMANDS)
    assert all(f"  {number}  {text}" in screen for number, text in EXIT_CODES.items())
    assert len(screen.splitlines()) <= 45
    assert door() == (2, screen)
    assert door("--version")[1].startswith("diffedit ")


def test_every_command_has_a_module_that_can_be_called():
    for name in COMMANDS:
        function = import_module(f"diffedit.commands.{name.replace('-', '_')}").main
        assert list(inspect.signature(function).parameters)[:1] == ["argv"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_is_a_screen_with_an_example(name, door):
    code, screen = door(name, "--help")
    assert code == 0
    lines = screen.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    assert any(line.startswith(f"  diffedit {name}") for line in lines)
    if "-" in name:
        assert door(name.replace("-", "_"), "--help") == (0, screen)


def test_helps_take_no_time_and_no_torch():
    """All of them, one after the other, in the time that is the limit for one: 2 CPU-seconds."""
    code = "import sys; from diffedit.commands import COMMANDS, main"
    code += "\nfor name in COMMANDS:\n    try: main([name, '-h'])\n    except SystemExit: pass"
    done, seconds = run_python(f"{code}\nprint(*{{'torch'}} & set(sys.modules), 'end')")
    assert done.stdout.splitlines()[-1] == "end", done.stderr
    assert seconds < 2


def test_an_unknown_command_is_refused_with_the_nearest(door):
    assert door("scroe") == (2, "diffedit scroe: there is no such command; did you mean diffedit score?\n")


def test_the_module_and_the_scripts_are_the_command(tmp_path):
    words = [sys.executable, "-m", "diffedit", "run", "--help"]
    module = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    script = call_process("run.py", "--help", cwd=tmp_path)
    assert (module.returncode, script.returncode) == (0, 0), module.stderr + script.stderr
    assert module.stdout == script.stdout != ""


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run editor=diffedt", "editor=diffedt: there is no such choice; did you mean diffedit or"),
        ("run edtor=x", "edtor: there is no such setting"),
        ("run editor.guidanc=3", "editor.guidanc: there is no such setting"),
        ("run +editor.guidanc=3", "editor.guidanc: there is no such setting; did you mean editor.guidance?"),
        ("run editor.start=encoder", "start = 'encoder': it should be 'encode' or 'noise'"),
        ("run ratios=0.5", "ratios = 0.5: it should be a list"),
        ("run ratios=[0.01]", "r = 0.01 of N = 50 steps is less than one step"),
        ("run ratios=[0.3", "no viable alternative at input '[0.3'"),
        ("run steps", "Error parsing override 'steps'"),
        ("run seed=x", "seed = 'x': it should be a whole number"),
        ("run engine=3", "engine = 3: it has settings of its own"),
        ("run engine.batch.predict=0", "engine.batch.predict = 0: it should be a whole number"),
        ("run benchmark=folder", "benchmark.path: it has no default; say benchmark.path=..."),
        ("run benchmark=folder benchmark.path=none.csv", "benchmark.path = none.csv: no such file"),
        (
            "run backbone=sd15 backbone.dtype=float17",
            "backbone.dtype = 'float17': it should be 'float32', 'float16' or",
        ),
        ("run backbone=sd15 backbone.path=/nowhere", "backbone.path = /nowhere: no such folder"),
        ("run backbone._target_=no.Such", "Error loading 'no.Such'"),
        ("run editor.mask.noises=4", "editor.mask.noises is called editor.mask.num_noises now"),
        ("run --include nowhere", "--include nowhere: no such folder"),
        ("plan editor=diffedt", "editor=diffedt: there is no such choice; did you mean diffedit or"),
        ("plan seeds=[0,0]", "seeds=[0,0]: different whole numbers are wanted"),
        ("score", "runs = runs/*/*/*/*: no run directory there; make one by diffedit run"),
        ("score metric=nope", "metric=nope: there is no such choice"),
        ("plot", "runs = runs/*/*/*/*: no run directory there"),
        ("table", "runs = runs/*/*/*/*: no run directory there"),
        ("table rows=some", "rows = 'some': it should be 'all', 'ratio' or 'equal'"),
        ("table out=a.docx", "out = a.docx: it should end in .md, .tex, .csv"),
        ("table colums=[lpips]", "colums: there is no such setting"),
        ("sheet nowhere", "nowhere: no config.yaml there"),
        ("status nowhere", "nowhere: no such folder"),
        ("status .", ".: no run directory there; make one by diffedit run"),
        ("clean nowhere", "nowhere: no such folder"),
        ("archive nowhere", "nowhere: no run directory: it holds no config.yaml"),
        ("reference-stats folder=/nowhere", "folder = /nowhere: no such folder"),
        ("reference-stats extractors=[nope]", "extractors = nope: there are "),
        ("check-benchmark", "benchmark.path: it has no default"),
        ("doctor backbone=stable_diffusion", "backbone.path: it has no default"),
        ("doctor backbone=sd15 backbone.path=/nowhere", "backbone.path = /nowhere: no such folder"),
        ("doctor backbone=analytic pictures=/nowhere", "pictures = /nowhere: no such folder"),
        ("doctor steps=[10] ratios=[0.01]", "r = 0.01 of N = 10 steps is less than one step"),
        ("doctor count=0", "count = 0: "),
        ("edit a.png", "say what the picture shall show: --target TEXT"),
        ("edit none.png --target x", "none.png: no such file"),
        ("edit a.png --target x --mask none.png", "none.png: no such file"),
        ("edit a.png --target x --ratio 0.5 1.5", "--ratio[1] = 1.5: it should be a finite number above 0, at most 1"),
        ("edit a.png --target x ratios=0.5", "ratios = 0.5: it should be a list"),
        ("edit a.png --target x --editor nope", "editor=nope: there is no such choice"),
        ("edit a.png --target x --backbone nope", "backbone=nope: there is no such choice"),
        ("edit a.png --target x --editor copy --guidance 3", "--guidance 3.0: this editor has none"),
        ("edit a.png --target x --editor copy --mask a.png", "--mask a.png: this editor does not use one"),
        ("edit a.png --target x edtor=1", "edtor: there is no such setting"),
        ("edit a.png --target x --config-dir nowhere", "--config-dir nowhere: no such folder"),
        ("edit --request 999", "--request 999: the benchmark has 256"),
        ("edit a.png target=x", "target=... is written --target ... now"),
        ("edit image=a.png --target x", "image=... is written without a name, diffedit edit PICTURE, now"),
        ("edit a.png --target x source=y", "--source"),
        ("edit a.png --target x mask=m.png", "--mask"),
        ("edit request=3", "--request"),
        ("edit a.png --target x out=y", "--out"),
    ],
)
def test_a_mistake_is_told_in_a_message_and_leaves_nothing(words, message, door, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, told = door(*words.split())
    assert code == 2, told
    assert message in told
    assert told.startswith(f"diffedit {words.split()[0]}")
    assert told.endswith(f"{HINT}\n")
    assert "Traceback" not in told
    assert "full_key" not in told
    assert sorted({*tmp_path.rglob("*")} - {tmp_path / "runs"}) == before


@pytest.mark.parametrize(
    "words", ["edit a.png b.png --target x", "edit a.png --multirun", "edit --steps x", "run --foo"]
)
def test_options_that_there_are_not_are_refused_by_argparse(words, door):
    code, told = door(*words.split())
    assert code == 2
    assert f"diffedit {words.split()[0]}: error: " in told


def test_mistakes_are_told_before_the_libraries_of_networks_are_loaded(tmp_path):
    """One after the other in one process, which takes little more than the import of torch.

    One alone takes some 3 CPU-seconds where nothing else runs (5 is the limit), and half of them are torch's; all four
    take 1.8 to 2.3 times what its import takes in the same minute, whatever machine that is.
    """
    settings = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
    _, torch_alone = run_python("import torch", **settings)
    mistakes = [
        ["run", "backbone=sd15", "backbone.dtype=float17"],
        ["run", "backbone=sd15", "backbone.path=/nowhere"],
        ["edit", "none.png", "--target", "x"],
        ["score", "runs=nowhere"],
    ]
    code = f"import sys; from diffedit.commands import main\nfor words in {mistakes}:\n"
    code += f"    print(main(words), *{SLOW} & set(sys.modules))"
    done, seconds = run_python(code, **settings)
    assert done.stdout.split() == ["2"] * len(mistakes), done.stderr
    assert seconds < 3.5 * torch_alone


def test_the_traceback_is_there_where_it_is_asked_for(door, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    code, told = door("run", "seed=x")
    assert code == 2
    assert "Traceback" in told
    assert os.environ["HYDRA_FULL_ERROR"] == "1"
    assert "Traceback" in door("edit", "none.png", "--target", "x")[1]
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    door("run", "seed=x")
    assert "HYDRA_FULL_ERROR" not in os.environ


OWN = """
from baselines.bounds import Copy

class Broken(Copy):
    def __init__(self):
        {}
"""


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("raise ImportError('sparkles is not installed: pip install diffedit[sparkles]')", 2, "diffedit[sparkles]"),
        ("raise OSError(28, 'No space left on device')", 1, "No space left"),
        ("raise FloatingPointError('the edit is not finite')", 1, "the edit is not finite"),
        ("{}['a bug']", 1, "Traceback"),
    ],
)
def test_what_the_user_cannot_mend_is_a_crash(line, code, words, door, tmp_path):
    name = f"own_{abs(hash(line))}"
    (tmp_path / "conf/editor").mkdir(parents=True)
    (tmp_path / f"{name}.py").write_text(OWN.format(line))
    (tmp_path / "conf/editor/broken.yaml").write_text(f"_target_: {name}.Broken\n")
    try:
        got, told = door("run", "--include", tmp_path, "editor=broken")
    finally:
        sys.path.remove(str(tmp_path))
    assert got == code, told
    assert words in told
    assert ("Traceback" in told) == (words == "Traceback")


# --------------------------------------------------------------------------------------------------------------- plan


def test_a_plan_is_a_run_with_plan_true(door, tmp_path):
    """Same words, same figures, no run; at the end of what is done, nothing is left."""
    words = [*SMALL, "benchmark.path=edits.csv"]
    code, told = door("plan", *words)
    assert code == 0, told
    assert "1 requests to edit" in told
    assert all(f"\n{line}: " in told for line in ("pictures", "shards", "time", "disk"))
    assert not list(tmp_path.glob("runs/*"))
    again = door("run", *words, "plan=true")
    assert again[0] == 0
    one, other = (text[text.index("1 requests") : text.index("pictures: ")] for text in (told, again[1]))
    assert one == other
    assert door("plan", *words, "plan=false")[0] == 0
    assert not list(tmp_path.glob("runs/*"))
    assert door("run", *words)[0] == 0
    assert "0 requests to edit" in door("plan", *words)[1]
    code, told = door("plan", "--multirun", *words, "seed=1,2")
    assert (code, told.count("requests to edit")) == (0, 1)
    assert "2 requests to edit" in told


# --------------------------------------------------------------------------------------------------------- exit codes


def test_a_sweep_does_what_it_can_and_ends_with_the_worst(door, tmp_path):
    (tmp_path / "some.csv").write_text("image,target\na.png,pear\nnone.png,plum\n")
    code, told = door("run", "--multirun", "benchmark.path=none.csv,some.csv,edits.csv", *SMALL)
    assert code == 2
    assert "diffedit run benchmark.path=none.csv backbone=analytic" in told
    assert "benchmark.path = none.csv: no such file" in told
    assert "diffedit run benchmark.path=some.csv backbone=analytic" in told
    assert "1 of 2 requests failed" in told
    assert "diffedit run benchmark.path=edits.csv" not in told
    assert len(list(tmp_path.rglob("manifest.parquet"))) == 2
    assert not list(tmp_path.rglob("*none.csv*"))
    assert door("run", "benchmark.path=some.csv", *SMALL)[0] == 1
    assert door("run", "benchmark.path=edits.csv", *SMALL)[0] == 0


def test_it_can_be_stopped(door, monkeypatch):
    from diffedit.runs import loop

    def stop(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "run_benchmark", stop)
    code, told = door("run", "--multirun", "benchmark.path=edits.csv", "seed=1,2", "together=false", *SMALL)
    assert (code, told.splitlines()[-1]) == (130, "stopped")
    assert "#1" not in told


def test_another_process_at_a_run_is_waited_for(door, tmp_path):
    words = ["run", "benchmark.path=edits.csv", *SMALL]
    assert door(*words)[0] == 0
    (root,) = (path.parent for path in tmp_path.rglob("config.yaml"))
    shutil.rmtree(root / "shards")
    score = ["score", "metric=[cost]", "cache=cache"]
    with claim(root):
        code, told = door(*words)
        assert (code, f"process {os.getpid()} on " in told) == (3, True)
        code, told = door(*score)
        assert (code, "1 of 1 runs are still at work" in told) == (3, True), told
    (root / "shards").mkdir()
    at_shard = Claim(get_claim_path(root, 0))
    assert at_shard.take()
    code, told = door(*words)
    assert (code, f"process {os.getpid()} on " in told) == (3, True), told
    code, told = door(*score)
    assert (code, "1 of 1 runs are still at work" in told) == (3, True), told
    at_shard.release()
    assert door(*score)[0] == 1
    assert door(*words)[0] == 0
    assert door(*score)[0] == 0


# ----------------------------------------------------------------------------------------------- texts and file names

TEXTS = (
    *("a dog's bowl, 50% off", "[a dog]", "1e3", "007", "null", "$x", "${y}", "a=b", "{c: d}", "#e", 'a "dog"', "été"),
    *("a\\b", "~f", "+g=h", "editor=copy", "", " ", "a\nb", "(1, 2)", "on:off"),
)
NAMES = ("my cat (1).png", "[b], c=50%.png", "d'e.png", "editor=copy.png", "ŷ${z}.png", "~f.png")


@pytest.fixture
def edited(monkeypatch):
    """The requests that are edited, as they are saved."""
    from eval.reporting import contact_sheet

    requests = []
    monkeypatch.setattr(contact_sheet, "save_result", lambda request, result, out: requests.append((request, out)))
    return requests


def test_any_text_arrives_as_it_was_written(door, edited):
    base = ["edit", "a.png", "--editor", "copy", "backbone=analytic"]
    for text in TEXTS:
        code, told = door(*base, f"--target={text}", f"--source={text}", f"--out={text or 'o'}")
        assert code == 0, f"{text}: {told}"
        request, out = edited[-1]
        assert (request.target, request.source) == (text, text)
        assert str(out) == (text or "o")
    code, told = door(*base, "--target", "-5 degrees")
    assert code == 0, told
    assert edited[-1][0].target == "-5 degrees"


def test_any_file_name_is_found(door, edited):
    for name in NAMES:
        shutil.copy("a.png", name)
        words = [name, "--target", "pear", "--mask", name, "--editor", "sdedit_given", "backbone=analytic", "steps=4"]
        code, told = door("edit", *words)
        assert code == 0, f"{name}: {told}"
        assert edited[-1][0].image().shape == (3, 16, 16)
        assert edited[-1][0].mask().shape == (1, 16, 16)
    shutil.copy("a.png", "-i.png")
    assert door("edit", "./-i.png", "--target", "pear", "--editor", "copy", "backbone=analytic")[0] == 0


def test_options_and_overrides_meet(door, edited, monkeypatch):
    """In any order; `--mask` chooses the mask that is given; `--model` names a folder, whatever it is called."""
    from omegaconf import OmegaConf

    code, told = door("edit", "--ratio", "0.5", "0.8", "steps=10", "a.png", "--target", "x", "--mask", "a.png", "--cfg")
    cfg = OmegaConf.create(told)
    assert (code, cfg.ratios, cfg.steps) == (0, [0.5, 0.8], 10)
    assert cfg.editor.mask._target_.endswith("GivenMask")
    words = [
        "--model",
        "my [model], 1=2",
        "--guidance",
        "3",
        "--seed",
        "7",
        "--steps",
        "9",
        "ratios=[0.4]",
        "samples=2",
    ]
    cfg = OmegaConf.create(door("edit", *words, "--cfg")[1])
    assert cfg.backbone.path == "my [model], 1=2"
    assert (cfg.editor.guidance, cfg.seed, cfg.steps, cfg.ratios, cfg.samples) == (3.0, 7, 9, [0.4], 2)
    assert door("edit", "--model", "x", "--backbone", "sd15")[0] == 2


# --------------------------------------------------------------------------------------------------- yaml of one's own


def test_yaml_and_classes_of_ones_own_from_any_folder(tmp_path):
    """Folders with names that no grammar likes, from a working directory that is not the checkout's."""
    folder = tmp_path / "it's [mine], a=b"
    for path in (folder / "conf/editor", tmp_path / "my yaml's/editor"):
        path.mkdir(parents=True)
    (folder / "own.py").write_text("from baselines.bounds import Copy\n\nclass Own(Copy):\n    pass\n")
    (folder / "conf/editor/own.yaml").write_text("_target_: own.Own\n")
    (tmp_path / "my yaml's/editor/weak.yaml").write_text("_target_: baselines.sdedit.SDEdit\nguidance: 4.0\n")
    small = ["benchmark.size=2", "backbone=analytic", "ratios=[0.5]", "engine.progress=false"]
    done = call("run.py", "editor=own", "--include", folder, "--multirun", *small, "seed=1,2", cwd=tmp_path)
    assert done.returncode == 0, said(done)
    assert len(list(tmp_path.glob("runs/stilllife_scenes/analytic/own/*/manifest.parquet"))) == 2
    done = call("run.py", "--config-dir", "my yaml's", "editor=weak", "--cfg", "job", cwd=tmp_path)
    assert "guidance: 4.0" in done.stdout, said(done)
    words = ["--config-dir", "my yaml's", "--include", folder, "--cfg", "--editor"]
    for name, line in (("weak", "guidance: 4.0"), ("own", "_target_: own.Own")):
        done = call("edit.py", *words, name, cwd=tmp_path)
        assert line in done.stdout, said(done)


def test_overrides_may_stand_anywhere():
    words = ["editor=a", "--cfg", "job", "steps=3", "--config-dir", "a=b", "-m", "seed"]
    assert put_overrides_last(words) == ["--cfg", "job", "--config-dir", "a=b", "-m", "editor=a", "steps=3", "seed"]
    assert put_overrides_last(["--info", "x=1"]) == ["--info", "x=1"]
    assert put_overrides_last(["x=1", "--info", "all"]) == ["--info", "all", "x=1"]


# --------------------------------------------------------------------------------------------------------- completion


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("diffedit r", ["reference-stats ", "report ", "run "]),
        ("diffedit run ed", ["editor.", "editor="]),
        ("diffedit run editor=sd", ["editor=sdedit ", "editor=sdedit_given "]),
        ("diffedit run editor=sdedit editor.e", ["editor.eta="]),
        ("diffedit run --multirun editor=copy engine.batch.e", ["engine.batch.embed=", "engine.batch.encode="]),
        ("diffedit run --mul", ["--multirun "]),
        ("diffedit plan editor=sd", ["editor=sdedit ", "editor=sdedit_given "]),
        ("diffedit edit a.png --editor sd", ["sdedit ", "sdedit_given "]),
        ("diffedit edit a.png --ta", ["--target "]),
        ("diffedit edit a.png backbone=sd1", ["backbone=sd15 "]),
        ("diffedit sheet --c", ["--count "]),
        ("diffedit ta", ["table "]),
        ("diffedit table inter", ["interval="]),
        ("diffedit check_benchmark benchmark=_", []),
        ("diffedit doctor backbone=sd1", ["backbone=sd15 "]),
        ("diffedit doctor pic", ["pictures="]),
        ("diffedit edit ", []),
        ("diffedit nope --x", []),
    ],
)
def test_a_word_is_completed(line, words):
    assert complete(line, COMMANDS) == words


def test_completion_in_a_bash(tmp_path):
    """As the shell calls it: bash parts words at `=`, and replaces only what stands behind it."""
    (tmp_path / "diffedit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m diffedit "$@"\n')
    (tmp_path / "diffedit").chmod(0o755)
    program = """eval "$(diffedit --completion bash)"
    for COMP_LINE in "diffedit sc" "diffedit run editor=round"; do
        COMP_POINT=${#COMP_LINE}; _diffedit; printf '%s|' "${COMPREPLY[@]}"
    done"""
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    words = ["bash", "--norc", "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | path, timeout=100)
    assert done.stdout == "score |round_trip |", done.stderr


def test_other_shells_are_refused(door):
    assert door("--completion", "fish") == (2, "diffedit --completion SHELL: there is bash\n")


@pytest.mark.parametrize(
    "words", [["run", *SMALL, "benchmark.path=edits.csv"], ["check-benchmark", "benchmark.path=edits.csv"]]
)
def test_pixels_are_limited_by_a_setting(door, words):
    """Of every command that opens pictures; the limit ends with the command that has it."""
    code, said = door(*words, "max_pixels=700")
    assert code == 1
    assert "a.png: 32 x 24 = 768 pixels, more than max_pixels = 700" in said
    code, said = door(*words)
    assert code == 0, said


def test_pixels_of_one_picture_are_limited(door):
    words = ["edit", "a.png", "--target", "pear", "--backbone", "analytic", "--steps", "4", "--ratio", "0.5"]
    code, said = door(*words, "max_pixels=700")
    assert code == 2
    assert "more than max_pixels = 700" in said
    assert door(*words)[0] == 0


@pytest.mark.parametrize("words", [["run", "max_pixels=0"], ["edit", "max_pixels=0"]])
def test_a_limit_of_nothing_is_refused(door, words):
    code, said = door(*words)
    assert code == 2
    assert "max_pixels = 0: it should be a whole number from 1 on, or null" in said
