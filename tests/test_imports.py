"""Imports run one way: scripts -> eval, baselines -> diffedit."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("diffedit", "baselines", "eval", "scripts")

# What each package may import of ours. An entry with a dot allows one module, without a dot the whole package.
ALLOWED = {
    "diffedit": ["diffedit"],
    "baselines": ["diffedit", "baselines"],
    "eval": ["eval", "diffedit.types", "diffedit.settings", "diffedit.runs", "diffedit.files", "diffedit.environment"],
    "scripts": ["diffedit", "baselines", "eval", "scripts.train"],
}
FORBIDDEN = {"baselines": ["diffedit.backbones", "diffedit.editor"]}
# Only backbones, networks that measure, and the training of weights know the libraries of pretrained networks.
NETWORKS = ("diffusers", "transformers")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name, allowed):
    return any(name == each or name.startswith(each + ".") for each in allowed)


@pytest.mark.parametrize("package", OURS)
def test_imports_run_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        for name in imports(path):
            if within(name, OURS) and name not in ("diffedit",):
                assert within(name, ALLOWED[package]), f"{path.relative_to(ROOT)} imports {name}"
                assert not within(name, FORBIDDEN.get(package, [])), f"{path.relative_to(ROOT)} imports {name}"
            if name.split(".")[0] in NETWORKS:
                where = (package, path.parent.name)
                known = (("diffedit", "backbones"), ("scripts", "train"), ("eval", "networks"))
                assert where in known, f"{path.relative_to(ROOT)}: {name}"


def test_files_and_scripts_stay_short():
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            count, most = len(path.read_text().splitlines()), 120 if path.parent.name == "scripts" else 300
            assert count <= most, f"{path.relative_to(ROOT)} has {count} lines"
