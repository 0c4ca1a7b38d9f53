"""Every figure and table of docs/results.md, and the pictures of the README, on Still Life, from nothing to the file.

What each section took when it was last made comes first; --plan says what its runs cost here. Each has a folder below
OUT, in which the commands of docs/results/<section>/recipe.yaml are called as a reader would call them. What is there
already is not made again, so that the same command goes on after it was stopped. Then the files of values go to
docs/results/<section>, with the revision and the date, and the page's tables are made of these; docs/results.md says
what they say.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from figure_parts.page import write_page
from figure_parts.readme import copy_picture, make_readme_pictures
from figure_parts.recipe import MADE, PAGE, ROOT, Recipe, read_recipes

from diffedit.commands.demo import choose_threads
from diffedit.engine.threads import count_cores
from diffedit.io.files import write
from diffedit.runs.environment import read_git_revision

IMAGES = ROOT / "docs/images"
README = "readme"
TOOK = "took.json"  # in the folder of a section: seconds of the calls that ended
DROPPED = ["run", "runs", "set", "made_by", "version"]  # of scores: paths and hashes, which the run itself has
EXAMPLE = "example: python scripts/make_figures.py scenes --plan"


def main() -> int:
    """Command line; returns its exit code."""
    recipes = {recipe.name: recipe for recipe in read_recipes()}
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*recipes, README]
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(names)}; all by default")
    parser.add_argument("--plan", action="store_true", help="only say what each run would cost here, in some minutes")
    parser.add_argument("--page", action="store_true", help="only make the page anew, of the values that are committed")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="of runs and all else (default figures)")
    parser.add_argument("--processes", type=int, help="that edit (default: one a GPU, else one a core)")
    args = parser.parse_args()
    if unknown := set(args.sections) - set(names):
        parser.error(f"SECTION {min(unknown)}: there are {', '.join(names)}")
    chosen = [recipes[name] for name in args.sections or recipes if name != README]
    if args.page:
        rewrite_page()
        return 0
    words = choose_launcher(args.processes)
    if args.plan:
        plan(chosen, args.out, words)
        return 0
    recall(chosen)
    refuse_changes()
    for recipe in chosen:
        make_section(recipe, args.out / recipe.name, words)
    if README in (args.sections or [README]):
        choose_threads()
        make_readme_pictures(args.out / README, IMAGES)
    return 0


def choose_launcher(processes: int | None) -> list[str]:
    """Settings of runs: so many processes here; by default one a GPU, or one a core where there is none."""
    import torch

    if processes is None and not torch.cuda.is_available():
        processes = count_cores()
    if processes == 1:
        return []
    return ["launcher=local", *([] if processes is None else [f"launcher.processes={processes}"])]


def refuse_changes() -> None:
    """Refuse to measure code that nobody can look at; pages and pictures may differ."""
    command = ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"]
    changed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if changed:
        raise SystemExit(f"make_figures.py: what is measured is a revision; commit these first:\n{changed.rstrip()}")


def plan(recipes: Sequence[Recipe], out: Path, words: Sequence[str]) -> None:
    """Print what the runs of each section would cost."""
    for recipe in recipes:
        print(f"\n{recipe.name}: {recipe.title}", flush=True)
        for command in recipe.words:
            if command[:2] == ["diffedit", "run"]:
                call(["diffedit", "plan", *command[2:], *words], out / recipe.name, f"{recipe.name}: planned")


def recall(recipes: Sequence[Recipe]) -> None:
    """Print what each section took when it was last made from nothing."""
    minutes = [recipe.made.get("minutes") for recipe in recipes]
    for recipe, took in zip(recipes, minutes, strict=True):
        print(f"{recipe.name:18} {'not known' if took is None else f'{took:5.1f} minutes'}  {recipe.title}")
    known = [took for took in minutes if took is not None]
    print(f"{'':18} {sum(known):5.1f} minutes when they were last made; what is there is not made again\n", flush=True)


def make_section(recipe: Recipe, folder: Path, words: Sequence[str]) -> None:
    """Call its commands in a folder, keep what they leave, and make the page anew."""
    for command in recipe.words:
        is_run = command[:2] in (["diffedit", "run"], ["diffedit", "score"])
        began = time.monotonic()
        call([*command, *(words if is_run else [])], folder, recipe.name)
        seconds = add_time(folder / TOOK, time.monotonic() - began)
    for name, source in recipe.keep.items():
        keep(folder / source, recipe.folder / name)
    for name, sources in recipe.figures.items():
        copy_picture([folder / source for source in sources], IMAGES / name)
    made: dict[str, Any] = {"revisions": list_revisions(folder), "date": date.today().isoformat()}
    made |= {"minutes": round(seconds / 60, 1), "cores": count_cores()}
    write(recipe.folder / MADE, json.dumps(made, indent=1).encode())
    rewrite_page()
    print(f"\n{recipe.name}: made in {seconds / 60:.1f} minutes, without calls that were stopped")


def add_time(path: Path, seconds: float) -> float:
    """What the calls in a folder took by now, with this one; the file remembers it for who goes on later."""
    total = (json.loads(path.read_text())["seconds"] if path.exists() else 0.0) + seconds
    write(path, json.dumps({"seconds": total}).encode())
    return total


def call(command: Sequence[str], folder: Path, what: str) -> None:
    """One command in a folder; a SystemExit that says what is to be done where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"\n{what}$ {' '.join(command)}", flush=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    program = ["-m", "diffedit", *command[1:]] if command[0] == "diffedit" else [str(ROOT / command[1]), *command[2:]]
    code = subprocess.run([sys.executable, *program], cwd=folder, env=environment).returncode
    if code:
        raise SystemExit(f"{what}: exit code {code}; the same command goes on from here once that is mended")


def keep(source: Path, out: Path) -> None:
    """Commit a file of values; of scores without paths and hashes."""
    import pandas as pd

    out.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix != ".csv":
        shutil.copyfile(source, out)
        return
    values = pd.read_csv(source)
    values = values.drop(columns=[name for name in DROPPED if name in values])
    write(out, values.to_csv(index=False, float_format="%.6g").encode())


def list_revisions(folder: Path) -> list[str]:
    """Those that edited, with `+` where files were changed; and that of today, from which only pages differ."""
    found = [json.loads(path.read_text()).get("git") for path in sorted(folder.glob("runs/*/*/*/*/environment.json"))]
    found.append((read_git_revision() or "").rstrip("+"))
    return list(dict.fromkeys(revision[:7] + "+" * revision.endswith("+") for revision in found if revision))


def rewrite_page() -> None:
    """docs/results.md, where what stands there is not what the committed values say."""
    text = PAGE.read_text(encoding="utf-8")
    if (new := write_page(text, read_recipes())) != text:
        write(PAGE, new.encode())
        print(f"{PAGE}: made anew")


if __name__ == "__main__":
    sys.exit(main())
