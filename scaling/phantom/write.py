"""Write the synthetic cohort as NIfTI files in a challenge's layout, and the truth beside them.

ROOT/phantom.json                                  the config it is made from
ROOT/COLLECTION/sub_1/SESSION/t1.nii.gz            pretraining
ROOT/TASK[-test]/preprocessed/sub_1/SESSION/...    scans of a task's training and test cases
ROOT/TASK[-test]/labels/sub_1/SESSION/...          their labels and masks
ROOT/truth/TASK/sub_1/                             masks and parameters that no model may see
Folders and files are named by `scaling.study.challenge`.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from scaling.files import write_bytes
from scaling.phantom.people import Subject, plan, task_folder
from scaling.phantom.subject import scan_file, start_worker, truth_folder, write_subject
from scaling.phantom.template import load_template
from scaling.processes.parallel import cores, unordered_map
from scaling.study.challenge import Challenge, load_challenge
from scaling.study.phantom import Phantom


def write_phantom(
    root: Path,
    phantom: Phantom,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 0,
) -> None:
    """Write a cohort below `root`; a finished one is left alone, a partial one is completed.

    Raises ValueError, naming the fields, when `root` holds another cohort, or files that are none.
    """
    if claim(root, phantom):
        return
    challenge = load_challenge(phantom.challenge)
    people = plan(phantom, challenge)
    waiting = [
        person for person in people if not (truth_folder(root, person) / "truth.json").exists()
    ]
    done = len(people) - len(waiting)
    if progress is not None:
        progress(done, len(people))
    template = None if phantom.label_maps or not waiting else load_template(phantom.spacing_mm)
    shared = (root, phantom, template, challenge.session)
    start_worker(*shared)
    for _ in unordered_map(write_subject, waiting, workers or cores(), start_worker, shared):
        done += 1
        if progress is not None:
            progress(done, len(people))
    for folder in dict.fromkeys(person.folder for person in people):
        members = [person for person in people if person.folder == folder]
        write_participants(root, members, challenge.session)
    write_cohort_tables(root, people, challenge)
    write_bytes(root / "truth" / "DONE", b"")


def claim(root: Path, phantom: Phantom) -> bool:
    """Whether `root` holds this very cohort, finished; claims an empty root. Raises ValueError."""
    config = as_json(phantom)
    marker = root / "phantom.json"
    if marker.exists():
        previous = with_new_fields(json.loads(marker.read_text()))
        changed = [
            f"{key} was {previous.get(key)}, is {config.get(key)}"
            for key in config | previous
            if previous.get(key) != config.get(key)
        ]
        if changed:
            raise ValueError(
                f"{root} holds another synthetic cohort: {'; '.join(changed)}. Choose another "
                "folder or delete it"
            )
        return (root / "truth" / "DONE").exists()
    if root.exists() and any(root.iterdir()):
        raise ValueError(f"{root} holds files that are no synthetic cohort; choose an empty folder")
    write_bytes(marker, json.dumps(config, indent=1).encode())
    return False


def as_json(phantom: Phantom) -> dict[str, Any]:
    """The config as plain values."""
    return json.loads(json.dumps(dataclasses.asdict(phantom)))


def with_new_fields(config: dict[str, Any]) -> dict[str, Any]:
    """A stored config with the defaults of fields that were added since; as it is if unknown."""
    try:
        return as_json(TypeAdapter(Phantom).validate_python(config))
    except ValidationError:
        return config


def write_participants(root: Path, people: list[Subject], session: str) -> None:
    """Write participants.tsv of one folder."""
    header: tuple[str, ...] = ("participant_id", "session_id", "sex", "age", "site")
    rows: list[tuple[Any, ...]] = [(p.name, session, p.sex, p.age, p.scanner.name) for p in people]
    task = people[0].task
    if task is not None and task.synthetic == "diagnosis":
        header = (*header, "selected_cohort")
        rows = [(*row, p.diagnosis) for row, p in zip(rows, people, strict=True)]
    write_rows(root / people[0].folder / "participants.tsv", header, rows, "\t")


def write_cohort_tables(root: Path, people: list[Subject], challenge: Challenge) -> None:
    """Write the table of classes and demographics that probes of embeddings read.

    Training and test cases of all sites are in it: the probe makes parts of its own.
    """
    for task in challenge.tasks:
        if task.synthetic != "diagnosis":
            continue
        rows = []
        for person in people:
            if person.task == task:
                file = scan_file(root, person, person.sequences[0]).relative_to(root)
                name = f"{person.folder}_{person.name}"
                rows.append((name, file, person.diagnosis, person.age, person.sex))
        header = ("ptid", "nifti_path", "selected_cohort", "age", "sex")
        write_rows(root / f"{task_folder(task)}.csv", header, rows, ",")


def write_rows(
    path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]], separator: str
) -> None:
    """Write a table of text."""
    text = io.StringIO()
    table = csv.writer(text, delimiter=separator, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    write_bytes(path, text.getvalue().encode())
