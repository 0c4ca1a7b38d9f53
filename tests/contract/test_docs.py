"""README and docs: short enough, no dead links, up to date with conf/, and every command that they show works.

A block of commands or of Python runs as it is written, in the small world of `small_world.py`. One that begins with
`# needs ...` asks for weights or data: its commands are composed (`--cfg job`), and run where something stands in for
what is needed. Python that begins with `# from FILE` is quoted from there.
"""

import ast
import importlib.util
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import CONF, ROOT
from omegaconf import OmegaConf
from PIL import Image

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
# Many runs and sweeps, long also in a small world: composed, and run by the slow tests.
SLOW = (
    "docs/proposition1.md",
    "docs/results.md",
    "docs/coverage.md",
    "docs/given_masks.md",
    "docs/paper_figures.md",
    "docs/still_life.md",
)

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)>\s]+)>?\)")
HERE = re.compile(r"<<'?(\w+)'?$")
RUN_ELSEWHERE = ("make", "source", "pip")  # set-up of the reader's own shell; `make` has its own test


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str

    @property
    def needs(self):
        """What it says that it needs, or ""."""
        return next((line[len("# needs ") :] for line in self.text.splitlines() if line.startswith("# needs ")), "")

    @property
    def quoted(self):
        """The file that it is quoted from, or ""."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("# from ") if first.startswith("# from ") else ""


def read_blocks(page):
    """The blocks of a page; commands are `sh` or, as whole scripts, `bash`."""
    return [Block(language.replace("bash", "sh"), text) for language, text in BLOCK.findall(page.read_text())]


def list_commands(block):
    """The lines of a shell, each with what belongs to it."""
    lines = iter(block.text.replace("\\\n", " ").splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        if here := HERE.search(line):
            rest = [line]
            while rest[-1] != here[1]:
                rest.append(next(lines))
            line = "\n".join(rest)
        yield line


def slugify(heading):
    """The anchor that code hosts give to a heading."""
    text = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower())
    return text.replace(" ", "-")


def list_anchors(page):
    """All anchors of a page."""
    text, seen = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL), {}
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        slug = slugify(heading)
        seen[slug] = seen.get(slug, -1) + 1
        yield f"{slug}-{seen[slug]}" if seen[slug] else slug


# --------------------------------------------------------------------------------------------------- pages and settings


def test_the_front_door_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 8192
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 60


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = [target for target in LINK.findall(text) if not re.match(r"https?://|mailto:", target)]
    for target in targets:
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name}: {target}"
        assert linked.is_relative_to(ROOT), f"{name}: {target} is not of this tree"
        if anchor:
            assert anchor in set(list_anchors(linked)), f"{name}: {target}: no such heading"


def test_a_dead_anchor_is_seen(tmp_path):
    (tmp_path / "a.md").write_text("# What `x=` is, and why?\n\n```sh\n# no heading\n```\n\n## Again\n\n## Again\n")
    assert list(list_anchors(tmp_path / "a.md")) == ["what-x-is-and-why", "again", "again-1"]


@pytest.fixture(scope="module")
def generator():
    """docs/generate_settings.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_settings", DOCS / "generate_settings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_is_up_to_date(generator):
    assert (DOCS / "settings.md").read_text() == generator.make_page(), "python docs/generate_settings.py"


def list_keys(node, prefix):
    """The keys of a yaml, with dots, down to what is written on one line."""
    for key, value in node.items():
        if key in ("defaults", "hydra", "_target_", "_recursive_") or (isinstance(value, dict) and "_target_" in value):
            continue
        yield f"{prefix}{key}"


def test_the_settings_page_has_every_setting():
    page = (DOCS / "settings.md").read_text()
    groups = {path.parent for path in CONF.rglob("*.yaml")} - {CONF, CONF / "training"}
    count = 0
    for folder in groups:
        group = folder.relative_to(CONF).as_posix()
        for path in folder.glob("*.yaml"):
            if "@package _global_" in path.read_text():
                assert f"### {group}={path.stem}\n" in page
                continue
            for key in list_keys(OmegaConf.to_container(OmegaConf.load(path)), f"{group.replace('/', '.')}."):
                assert f"`{key}" in page, f"{key} of {path.relative_to(ROOT)}"
                count += 1
    assert count > 120


def test_the_site_builds(tmp_path):
    pytest.importorskip("sphinx")
    for module in ("myst_parser", "furo"):
        pytest.importorskip(module)
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "-q",
        "-b",
        "html",
        "-d",
        tmp_path / "trees",
        DOCS,
        tmp_path / "html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html/api/methods.html").read_text()
    assert "ContrastMask" in page
    assert (tmp_path / "html/settings.html").exists()


# ------------------------------------------------------------------------------------------------------------- commands


class SmallWorld:
    """The process of `small_world.py`, and a folder where it works: with runs, and stand-ins for a reader's files."""

    def __init__(self, folder):
        self.folder = folder
        environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, str(ROOT / "tests/contract/small_world.py")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, cwd=folder, **pipes)

    def ask(self, folder, **task):
        """Run one task there; returns its exit code and output."""
        self.process.stdin.write(json.dumps({"folder": str(folder), **task}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process of small_world.py has ended"
        return json.loads(answer).values()

    def run(self, folder, line):
        """Run a line of a shell; it has to end with 0."""
        if HERE.search(line.partition("\n")[0]) or line.startswith("mkdir "):
            subprocess.run(["sh", "-c", line], cwd=folder, check=True)
            return
        words = shlex.split(line, comments=True)
        if words[:3] == ["python", "-m", "pytest"]:
            paths = [word for word in words[3:] if word.startswith("tests/")]
            assert paths
            assert all((ROOT / path).exists() for path in paths)
        elif words[0] not in RUN_ELSEWHERE:
            code, output = self.ask(folder, words=list(expand(words, folder)))
            assert code == 0, f"{line}\nended with {code}:\n{output}"


def expand(words, folder):
    """Names of files with a star, as a shell expands them."""
    for word in words:
        is_glob = "*" in word and "=" not in word.partition("*")[0]
        yield from sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if is_glob else [word]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small world, with two finished runs in it."""
    folder = tmp_path_factory.mktemp("world")
    world = SmallWorld(folder)
    for name in ("scripts", "examples"):
        (folder / name).symlink_to(ROOT / name)
    draw = np.random.default_rng(0)
    for name in ("cat", "dog", "my cat (1)"):
        Image.fromarray(draw.integers(0, 255, (80, 64, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")
    mask = np.zeros((80, 64), np.uint8)
    mask[20:50, 20:50] = 255
    Image.fromarray(mask).save(folder / "head.png")
    (folder / "edits.csv").write_text("image,target,source\ncat.jpg,a bowl of pears,a bowl of apples\n")
    for name in ("edits", "inputs"):
        (folder / name).mkdir()
        for i in range(4):
            Image.fromarray(draw.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
    world.run(folder, "diffedit run --multirun editor=diffedit,sdedit")
    yield world
    world.process.stdin.close()
    world.process.wait()


@pytest.fixture
def place(world, tmp_path):
    """A copy of that folder for one page."""
    shutil.copytree(world.folder, tmp_path / "place", symlinks=True)
    return tmp_path / "place"


PAGES_WITH_BLOCKS = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
    for name in NAMES
    if any(block.language in ("sh", "python") and not block.quoted for block in read_blocks(ROOT / name))
]
NETWORKS = "weights of the networks"  # of metrics on photographs: nothing stands in for them
STANDS_IN = re.compile(r"diffedit edit |benchmark=folder benchmark.path=edits.csv")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PAGES_WITH_BLOCKS)
def test_what_a_page_shows_runs(name, world, place):
    """In the order of the page, each command and each program as it is written."""
    for block in read_blocks(ROOT / name):
        if block.language == "python" and not block.quoted and NETWORKS not in block.needs:
            code, output = world.ask(place, code=block.text, name=name)
            assert code == 0, f"{name}:\n{block.text}\n{output}"
        for line in list_commands(block) if block.language == "sh" else ():
            if not block.needs or STANDS_IN.search(line):
                world.run(place, line.replace("--include examples backbone=sdxl", "") if block.needs else line)


HYDRA = ("run", "score", "plot", "table", "report", "doctor", "check-benchmark", "reference-stats")


def list_needy(name):
    """The commands of a page that need what is not here, or that are left to the slow tests."""
    for block in read_blocks(ROOT / name):
        for line in list_commands(block) if block.language == "sh" else ():
            if line.startswith("diffedit ") and (block.needs or name in SLOW):
                yield line


@pytest.mark.parametrize("name", [name for name in NAMES if any(list_needy(name))])
def test_what_needs_weights_or_data_is_composed(name, world):
    """Every setting is one that there is, and every choice of a sweep."""
    for line in list_needy(name):
        words = [word for word in shlex.split(line, comments=True) if word != "--multirun"]
        words = [re.sub(r"^seeds=\[(.+)\]$", r"seed=\1", word) for word in words]  # which is a sweep
        if words[1] not in HYDRA:
            assert STANDS_IN.search(line), f"{line}: is not run either"
            continue
        for choice in sweep(words):
            code, output = world.ask(world.folder, words=[*choice, "--cfg", "job"])
            assert code == 0, f"{line}\n{output}"
            assert "_target_" in output or words[1] in ("plot", "table")


def sweep(words):
    """The command of each choice of each setting that is swept, one setting at a time."""
    one = r"(?:[\w.]+|\[[\w.,]*\])"  # a value, or a list
    swept = [word for word in words if re.fullmatch(rf"[\w./]+={one}(,{one})+", word)]
    first = [re.match(rf"[\w./]+={one}", word)[0] if word in swept else word for word in words]
    yield first
    for word in swept:
        key, _, values = word.partition("=")
        for value in re.findall(one, values)[1:]:
            yield [f"{key}={value}" if other.startswith(f"{key}=") else other for other in first]


PROGRAMS = [(name, block) for name in NAMES for block in read_blocks(ROOT / name) if block.language == "python"]


@pytest.mark.parametrize(("name", "block"), PROGRAMS)
def test_python_calls_what_there_is(name, block):
    """Calls of our functions name arguments that these have; what is quoted stands in its file."""
    if block.quoted:
        there = {line.strip() for line in (ROOT / block.quoted).read_text().splitlines()}
        for line in block.text.splitlines()[1:]:
            assert line.strip() in there, f"{name}: not in {block.quoted}: {line}"
        return
    import diffedit

    for node in ast.walk(ast.parse(block.text)):
        function = getattr(node, "func", None)
        if isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "diffedit":
            names = [keyword.arg for keyword in node.keywords]
            inspect.signature(getattr(diffedit, function.attr)).bind_partial(*node.args, **dict.fromkeys(names))


def test_make_has_what_is_shown():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        shlex.split(line, comments=True)[1]
        for page in PAGES
        for block in read_blocks(page)
        if block.language == "sh"
        for line in list_commands(block)
        if line.startswith("make ")
    }
    assert {"demo", "test"} <= shown <= targets
