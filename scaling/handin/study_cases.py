"""Sessions of a study to try a container on: those of its test sources."""

from pathlib import Path

from scaling.data.layout import scan_sources
from scaling.handin.inference import read_description
from scaling.runs.finished import finished_run
from scaling.study.config import Data, Source


def cases_of_checkpoint(
    checkpoint: Path, out: Path, count: int
) -> list[tuple[str, dict[str, Path]]]:
    """Test sessions for a container of a checkpoint: of its task, or scans of pretraining for an
    embedding.
    """
    plan, config = finished_run(checkpoint)
    description = read_description(out / "app")
    sequences = tuple(description["sequences"])
    sources = config.data.pretraining
    for task in plan.study.tasks:
        if task.name == description["task"]:
            sources = task.test
    return sessions_of(config.data, sources, sequences, count)


def sessions_of(
    data: Data, sources: tuple[Source, ...], sequences: tuple[str, ...], count: int
) -> list[tuple[str, dict[str, Path]]]:
    """The first `count` sessions of sources: name, and a file per sequence of the model.

    Of a slot such as "t2s|swi" the session's own is taken; "any" is the session's first scan.
    """
    table = scan_sources(Path(data.root), sources, data.split)
    table = table[table["problem"] == ""]
    cases = []
    for (subject, session), scans in table.groupby(["subject", "session"], sort=False):
        first = scans.drop_duplicates("sequence").set_index("sequence")["path"]
        files: dict[str, Path] = {}
        for slot in sequences:
            for name in slot.split("|"):
                if name == "any":
                    files[name] = Path(first.iloc[0]).absolute()
                elif name in first.index:
                    files[name] = Path(first[name]).absolute()
                    break
        if files:
            cases.append((f"{subject}_{session}".replace("/", "_"), files))
        if len(cases) == count:
            break
    return cases
