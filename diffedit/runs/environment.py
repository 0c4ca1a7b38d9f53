"""What a run was made with: versions, revision, device."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow", "diffedit")


def describe_environment() -> dict[str, Any]:
    """What the run was made with."""
    return {
        "git": read_git_revision(),
        "python": platform.python_version(),
        "packages": {name: read_package_version(name) for name in PACKAGES},
        "device": name_own_device(),
        "threads": torch.get_num_threads(),
    }


def name_own_device() -> str:
    """What this process computes on: its GPU, else its processor."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()


def read_package_version(name: str) -> str | None:
    """The installed version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def read_git_revision() -> str | None:
    """The revision of the code, `+` where files other than the documentation's were changed; None outside a checkout.

    An installed package may lie in the environment of another project, whose revision is not ours.
    """
    if not (Path(__file__).parents[2] / "pyproject.toml").is_file():
        return None
    git = ["git", "-C", str(Path(__file__).parent)]
    look = [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs"]
    try:
        named, changed = (
            subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            for command in ([*git, "describe", "--always", "--abbrev=40"], look)
        )
    except FileNotFoundError:
        return None
    return f"{named}{'+' * bool(changed)}" if named else None
