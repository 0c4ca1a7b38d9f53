"""What pyproject.toml cannot say: conf/ and weights/ go into the wheel as diffedit/conf and diffedit/weights."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("conf", "weights")  # as diffedit.io.files names them, which looks for both places


class BuildWithShipped(build_py):
    """Copies them beside the code that is built; an editable install reads those of the checkout."""

    def run(self) -> None:
        super().run()
        for name in () if self.editable_mode else SHIPPED:
            target = Path(self.build_lib, "diffedit", name)
            shutil.rmtree(target, ignore_errors=True)  # what an earlier build left
            shutil.copytree(name, target, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.tmp"))


setup(cmdclass={"build_py": BuildWithShipped})
