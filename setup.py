"""What pyproject.toml cannot say: conf/ and weights/ go into the wheel as diffedit/conf and diffedit/weights."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("conf", "weights")  # as diffedit.io.files names them, which looks for both places


class BuildWithShipped(build_py):
    """Copies them beside the code that is built; an editable install reads those of the checkout."""

    def run(self) -> None:
        if self.editable_mode:
            return super().run()
        shutil.rmtree(self.build_lib, ignore_errors=True)  # what an earlier build left, and is no longer there
        super().run()
        for name in SHIPPED:
            shutil.copytree(name, Path(self.build_lib, "diffedit", name), ignore=shutil.ignore_patterns(".*"))


setup(cmdclass={"build_py": BuildWithShipped})
