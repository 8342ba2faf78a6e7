"""What pyproject.toml cannot say: the experiments go into the wheel, inside of the package.

`scaling run quickstart` then works from anywhere.
"""

import sys

# pip runs this file before it looks at the Python that a package needs.
if sys.version_info < (3, 11):  # noqa: UP036
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    sys.exit(
        f"brain-mri-scaling needs Python 3.11, 3.12 or 3.13, and this is Python {version}: "
        "install one of these and make the virtual environment with it, "
        "for example `python3.12 -m venv .venv`."
    )

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithExperiments(build_py):
    """Copy experiments/*.py to scaling/experiments/ of a build that is to be installed."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a checkout has them beside the package
            return
        target = Path(self.build_lib) / "scaling" / "experiments"
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(Path("experiments").glob("*.py")):
            shutil.copyfile(file, target / file.name)


setup(cmdclass={"build_py": WithExperiments})
