"""Contract: the wheel, built without a network and installed elsewhere, is all that a user needs."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import ROOT
from packaging.requirements import Requirement

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2]))"
SOURCES = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "THIRD_PARTY.md", "CITATION.cff"]
FOLDERS = ["diffedit", "baselines", "eval", "conf", "weights", "tests/contract"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(kind, source, out):
    command = [sys.executable, "-c", BUILD, kind, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from the source distribution, that from a copy of the checkout, which stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        (folder / "copy").mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / "copy")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "copy" / "weights" / ".hidden").touch()
    with tarfile.open(build("sdist", folder / "copy", folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return build("wheel", source, folder)


@pytest.fixture(scope="module")
def files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_holds_the_code_conf_and_weights_and_no_tests(files):
    top = {name.split("/")[0] for name in files}
    assert top == {"diffedit", "baselines", "eval", f"diffedit-{PROJECT['version']}.dist-info"}
    for folder in ("conf", "weights"):
        here = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {name for name in files if name.startswith(f"diffedit/{folder}/")} == {
            f"diffedit/{name}" for name in here
        }
    packages = [path for name in ("diffedit", "baselines", "eval") for path in (ROOT / name).rglob("*.*")]
    code = {path.relative_to(ROOT).as_posix() for path in packages if path.is_file() and path.suffix != ".pyc"}
    assert code <= files  # data files of packages too
    assert not [name for name in files if "test_" in name or "/." in name or "__pycache__" in name]


def test_the_wheel_is_small_enough_for_an_index(wheel):
    assert wheel.stat().st_size < 50e6


def test_the_metadata_declare_what_the_code_imports(wheel, files):
    info = f"diffedit-{PROJECT['version']}.dist-info"
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/THIRD_PARTY.md"} <= files
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert "diffedit = diffedit.commands:main" in entry_points
    assert "License-Expression: MIT" in metadata
    required = [Requirement(line) for line in re.findall("^Requires-Dist: (.*)$", metadata, re.MULTILINE)]
    names = [normalize(item.name) for item in required if item.marker is None]
    always = set(names)
    assert len(names) == len(always)
    assert all(item.specifier for item in required)  # each with a lower bound
    assert find_imports() <= always | OPTIONAL
    assert {normalize(item.name) for item in required if item.marker is not None} >= OPTIONAL
    extras = set(re.findall("^Provides-Extra: (.*)$", metadata, re.MULTILINE))
    assert extras == {"wandb", "tensorboard", "slurm", "browser", "docs", "test"}


def find_imports():
    """The packages that provide what the code imports, but for what an extra brings."""
    from importlib.metadata import packages_distributions

    statement = re.compile(r"^ *(?:from|import) +(\w+)", re.MULTILINE)
    paths = [path for folder in ("diffedit", "baselines", "eval") for path in (ROOT / folder).rglob("*.py")]
    names = {name for path in paths for name in statement.findall(path.read_text())} - set(sys.stdlib_module_names)
    names -= {"diffedit", "baselines", "eval"}
    known = packages_distributions()
    return {normalize(known[name][0]) for name in names & set(known)} - TRAINING


OPTIONAL = {"submitit"}  # where a launcher asks for it, which says what to install
TRAINING = {"tokenizers"}  # of Still Life's networks alone; transformers needs it anyway


def normalize(name):
    return re.sub("[-_.]+", "-", name).lower()


def test_the_lock_satisfies_the_bounds():
    locked = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    locked = {normalize(name): version for name, version in locked.items()}
    for line in PROJECT["dependencies"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[normalize(requirement.name)]), line


# ------------------------------------------------------------------------------------------------------------ installed


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A new environment with the wheel alone; the other packages are this one's, without its way to the checkout."""
    root = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(symlinks=True).create(root)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(root)}))
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # its own .pth files are not read
    python = root / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    if uv.is_file():
        command = [uv, "pip", "install", "--offline", "--no-deps", "--python", python, wheel]
    else:
        command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return root / "bin"


def call(installed, cwd, program, *words):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    command = [str(installed / program), *map(str, words)]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env=environment | {"OMP_NUM_THREADS": "2"}, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_code_conf_and_weights_are_those_of_the_wheel(installed, tmp_path):
    program = (
        "import sys, diffedit, baselines, eval; from diffedit.io.files import find_shipped, resolve_path; "
        "print(diffedit.__file__, baselines.__file__, eval.__file__, find_shipped('conf'), "
        "resolve_path('weights/stilllife/vae/config.json').resolve(), *sys.path, sep='\\n')"
    )
    lines = call(installed, tmp_path, "python", "-c", program).splitlines()
    assert all(line.startswith(str(installed.parent)) for line in lines[:5]), lines
    assert str(ROOT) not in lines
    assert "imagenet_tradeoff" in call(installed, tmp_path, "diffedit", "ls")


def test_the_installed_command_edits_a_picture(installed, tmp_path):
    call(installed, tmp_path, "diffedit", "edit", "--ratio", 0.5, "--steps", 4, "--out", "edited")
    assert list((tmp_path / "edited").rglob("*.png"))


@pytest.mark.slow
def test_the_installed_command_runs_scores_and_plots_a_benchmark(installed, tmp_path):
    call(installed, tmp_path, "diffedit", "run", "benchmark.size=4", "ratios=[0.5]", "steps=10")
    call(installed, tmp_path, "diffedit", "run", "benchmark.size=4", "ratios=[0.5]", "steps=10", "editor=round_trip")
    (root,) = tmp_path.glob("runs/*/*/diffedit/*")
    assert len(list(root.glob("images/0.5/*.png"))) == 4
    assert json.loads((root / "environment.json").read_text())["git"] is None
    table = call(installed, tmp_path, "diffedit", "score", "metric=[lpips,accuracy]", "resamples=20")
    assert "round_trip" in table
    call(installed, tmp_path, "diffedit", "plot", "x=lpips", "y=[accuracy]")
    assert list(tmp_path.glob("plots/*.png"))
    assert "@inproceedings{couairon2023diffedit," in call(installed, tmp_path, "diffedit", "cite", root)


def test_importing_the_package_takes_no_heavy_library(installed, tmp_path):
    program = "import sys, diffedit; print(sorted({'torch', 'numpy', 'pandas', 'hydra', 'PIL'} & set(sys.modules)))"
    assert call(installed, tmp_path, "python", "-c", program) == "[]\n"


def test_the_build_is_declared_in_the_lock():
    assert find_spec("setuptools") is not None
    assert re.search("^setuptools==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
