"""Eight virtual CPU devices for every test, and one micro study that all end-to-end tests share."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# Most of a test's time is compilation, most of that LLVM's optimisation: left out here, not where a
# test runs the command line.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 "
    "--xla_backend_optimization_level=0"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["WANDB_MODE"] = "disabled"

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

# The processes of a test run, workers and command lines, find each other's programs compiled.
# The first of them, which starts the others, makes the folder and removes it at the end.
SHARED = "SCALING_TESTS_SHARED"
MAKES_SHARED = SHARED not in os.environ
if MAKES_SHARED:
    os.environ[SHARED] = tempfile.mkdtemp(prefix="scaling-tests-")
EXPERIMENT = Path(__file__).parent / "micro_study.py"


def scaling(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a verb as a user would, in `folder`."""
    command = [sys.executable, "-m", "scaling", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def environment() -> dict[str, str]:
    """A user's environment: one device."""
    return {
        **os.environ,
        "XLA_FLAGS": "--xla_backend_optimization_level=1",  # compiled sooner, as fast
        "JAX_COMPILATION_CACHE_DIR": f"{os.environ[SHARED]}/compiled",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def same_results(one: Path, other: Path) -> None:
    """Whether two folders of a study hold the same table, to a thousandth: other meshes add in
    another order.
    """
    keys = ["run", "arm", "task", "protocol", "shots", "draw", "site", "metric"]
    ours, theirs = (
        pd.read_parquet(study / "results.parquet").set_index(keys).sort_index()
        for study in (one, other)
    )
    assert ours.index.equals(theirs.index)
    np.testing.assert_allclose(ours["value"], theirs["value"], rtol=1e-3, atol=1e-3)


def pytest_unconfigure() -> None:
    """Remove what this test run shared."""
    if MAKES_SHARED:
        shutil.rmtree(os.environ[SHARED], ignore_errors=True)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the micro study ran from beginning to end, uninterrupted: data in
    `cohort`, study in `runs/micro`. It is run once; every worker has a copy of its own.
    """
    original = Path(os.environ[SHARED]) / "finished"
    with one_worker(original):
        if not original.exists():
            folder = tmp_path_factory.mktemp("original")
            done = scaling("run", EXPERIMENT, folder=folder)
            assert done.returncode == 0, done.stdout + done.stderr
            folder.rename(original)
    copied = tmp_path_factory.mktemp("finished")
    shutil.copytree(original, copied, symlinks=True, dirs_exist_ok=True)
    return copied


@contextmanager
def one_worker(path: Path) -> Iterator[None]:
    """Wait until no other worker makes `path`."""
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
