"""What a study's prepare step does: the cache, and what could not be used or should not have been."""

from pathlib import Path

from scaling.data.layout import scan_sources
from scaling.data.leakage import describe_skipped, find_leakage
from scaling.data.prepare import prepare
from scaling.data.track import prove_track
from scaling.files import write_json
from scaling.runs.plan import PrepareStep
from scaling.runs.rundir import Progress


def prepare_study(folder: Path, config: PrepareStep, workers: int, progress: Progress) -> None:
    """Prepare every scan of the study; list what could not be used, and what is both in pretraining and in a test set."""
    data, root = config.data, Path(config.data.root)
    tested = tuple(dict.fromkeys(source for task in config.tasks for source in task.test))
    trained = tuple(
        dict.fromkeys(source for task in config.tasks for source in (task.train, *task.inside))
    )
    table = scan_sources(
        root, tuple(dict.fromkeys((*data.pretraining, *trained, *tested))), data.split
    )
    prove_track(table, data)
    index = prepare(root, table, data.volumes, folder / "cache", progress, workers, data.compressed)
    write_json(folder / "skipped.json", describe_skipped(index))
    write_json(folder / "leakage.json", find_leakage(index, data.pretraining, tested))
