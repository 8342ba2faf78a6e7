"""A small synthetic cohort, written and prepared once for all tests of this folder."""

from pathlib import Path

import numpy as np
import pytest

from scaling.data.cache import Cache, open_cache
from scaling.data.layout import scan_sources
from scaling.data.prepare import prepare
from scaling.phantom.write import write_phantom
from scaling.study.config import Data, Source, Split, Task, Volumes
from scaling.study.phantom import TEST_SCANNERS, Cohort, Phantom

SMALL = Phantom(
    spacing_mm=5.0,
    pretraining_subjects=6,
    test_scanners=TEST_SCANNERS[:2],
    infarct=Cohort(6, 4),
    meningioma=Cohort(4, 2),
    brain_age=Cohort(6, 3),
)
COARSE = Volumes(8.0, (20, 24, 20))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    write_phantom(root, SMALL, workers=1)
    return root


@pytest.fixture(scope="session")
def data(cohort: Path) -> Data:
    return Data(str(cohort), (Source("fomo60k"),), COARSE)


@pytest.fixture(scope="session")
def tasks() -> tuple[Task, ...]:
    def sources(number: int) -> dict[str, object]:
        return {"train": Source(f"fomo-task{number}"), "test": (Source(f"fomo-task{number}-test"),)}

    return (
        Task(
            "infarct",
            "classification",
            ("flair", "adc", "dwi_b1000", "t2s|swi"),
            shots=(4,),
            **sources(1),
        ),
        Task(
            "meningioma",
            "segmentation",
            ("flair", "dwi_b1000", "t2s|swi"),
            shots=(2,),
            **sources(2),
        ),
        Task("brain age", "regression", ("t1", "t2"), shots=(4,), **sources(3)),
    )


@pytest.fixture(scope="session")
def cache(
    cohort: Path, data: Data, tasks: tuple[Task, ...], tmp_path_factory: pytest.TempPathFactory
) -> Cache:
    sources = [
        *data.pretraining,
        *(source for task in tasks for source in (task.train, *task.test)),
    ]
    folder = tmp_path_factory.mktemp("prepared") / "cache"
    prepare(cohort, scan_sources(cohort, sources, Split()), COARSE, folder, workers=1)
    return open_cache(folder)


@pytest.fixture
def brain() -> np.ndarray:
    """float32 [30, 34, 28]: an ellipsoid with structure and no symmetry, zero outside."""
    index = np.indices((30, 34, 28)).astype(np.float32)
    scaled = (index - np.array([14, 17, 13.0])[:, None, None, None]) / np.array([11, 14, 10.0])[
        :, None, None, None
    ]
    inside = (scaled**2).sum(0) < 1
    texture = 100 + 40 * np.sin(index[0] / 3) + 30 * np.cos(index[1] / 4) + 3 * index[2]
    return np.where(inside, texture, 0).astype(np.float32)
