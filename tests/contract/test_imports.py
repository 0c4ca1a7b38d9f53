"""Arrows run down only: imports in code, and what one `_target_` of a yaml is given by another."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
OURS = ("diffedit", "baselines", "eval", "scripts")

# From the ground up: a room imports itself and what lies on lower floors.
FLOORS = (
    ("diffedit.types",),
    ("diffedit.io", "diffedit.sampling", "diffedit.testing", "diffedit.conditions"),
    ("diffedit.engine", "diffedit.backbones", "diffedit.networks", "diffedit.mask", "diffedit.inversion"),
    ("diffedit.diffedit", "diffedit.text_to_image", "diffedit.stages"),
    ("diffedit.runs",),
    ("baselines", "eval.benchmarks", "eval.scoring", "eval.theory"),
    ("eval.metrics", "eval.reporting"),
    ("eval.stilllife",),
    ("diffedit.api",),
    ("diffedit.commands",),
    ("diffedit", "eval"),  # contents pages
    ("scripts",),
)
# A method to compare with asks the engine, whatever the networks, and knows nothing of the method it is compared with.
FORBIDDEN = {"baselines": ("diffedit.backbones", "diffedit.diffedit", "diffedit.runs")}
# Only these know the libraries of pretrained networks.
NETWORKS = ("diffusers", "transformers")
MAY_LOAD_NETWORKS = ("diffedit.backbones", "diffedit.networks", "diffedit.testing", "eval.stilllife.train")
MAY_LOAD_NETWORKS += ("scripts.bench_parts", "scripts.fewer_evaluations")  # measure the calls of diffusers
MAY_LOAD_NETWORKS += ("scripts.convert_ldm",)  # writes what its networks save
LOOSE = {"eval": {"__init__.py"}}  # files beside the folders


def within(name, room):
    return name == room or name.startswith(f"{room}.")


def room_of(name):
    """The room of a dotted name, by the longest match."""
    rooms = [room for floor in FLOORS for room in floor if within(name, room)]
    return max(rooms, key=len, default=None)


def floor_of(room):
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def check_arrow(source, target, where):
    """Refuse an arrow that runs up, or sideways into another room of the same floor."""
    one, other = room_of(source), room_of(target)
    assert other is not None, f"{where}: {target} is in no room"
    assert one == other or floor_of(other) < floor_of(one), f"{where}: {source} -> {target} runs up"
    assert not any(within(target, each) for each in FORBIDDEN.get(one, ())), f"{where}: {source} -> {target}"


def modules():
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("package", OURS)
def test_imports_run_down(package):
    own = [(path, name) for path, name in modules() if within(name, package)]
    assert own
    for path, name in own:
        for target in imports(path):
            if target.split(".")[0] in OURS:
                check_arrow(name, target, path.relative_to(ROOT))
            if target.split(".")[0] in NETWORKS:
                assert any(within(name, room) for room in MAY_LOAD_NETWORKS), f"{path.relative_to(ROOT)}: {target}"


def targets(node, outer=None):
    """(target of the enclosing object, target) of every object in a config."""
    if isinstance(node, dict):
        own = node.get("_target_", outer)
        if "_target_" in node:
            yield outer, own
        if own == "hydra.utils.get_method":
            yield outer, node["path"]
        for value in node.values():
            yield from targets(value, own)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value, outer)


def test_targets_of_yaml_run_down():
    """A yaml hands one object to another: the same arrow as an import of it."""
    seen = 0
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        for outer, target in targets(OmegaConf.to_container(OmegaConf.load(path))):
            if target.split(".")[0] in OURS:
                assert room_of(target) not in ("diffedit", "eval", "scripts"), f"{path}: {target} is in no room"
                seen += 1
                if outer is not None and outer.split(".")[0] in OURS:
                    check_arrow(outer, target, path.relative_to(ROOT))
    assert seen > 50


def test_an_arrow_up_is_seen():
    with pytest.raises(AssertionError, match="runs up"):
        check_arrow("baselines.blended_diffusion", "eval.metrics.clip.ClipScore", "a.yaml")
    nested = {"_target_": "baselines.a.A", "clip": [{"_target_": "eval.metrics.b.B"}]}
    assert list(targets(nested)) == [(None, "baselines.a.A"), ("baselines.a.A", "eval.metrics.b.B")]


def test_no_loose_files():
    for package, known in LOOSE.items():
        assert {path.name for path in (ROOT / package).glob("*.py")} == known


def test_commands_start_without_torch_and_the_libraries_of_networks():
    """They take seconds to import: a command loads what its work needs, once its settings are checked."""
    modules = sorted(f"diffedit.commands.{path.stem}" for path in (ROOT / "diffedit/commands").glob("[!_]*.py"))
    assert len(modules) >= 10
    slow = {"torch", "pandas", "matplotlib", "open_clip", "transformers", "diffusers", "torchvision"}
    code = f"import sys, {', '.join(modules)}; print(*{slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
