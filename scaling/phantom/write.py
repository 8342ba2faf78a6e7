"""Write the synthetic cohort: NIfTI files in the FOMO60K and FOMO25 layouts, and the truth beside them.

ROOT/phantom.json                                 the config this is made from
ROOT/fomo60k/sub_1/ses_1/t1.nii.gz                pretraining
ROOT/fomo-task1[-test]/preprocessed, labels       infarct; likewise task 2 (meningioma) and 3 (brain age)
ROOT/truth/fomo-task1/sub_1/                      masks and parameters that no model may see
"""

import csv
import dataclasses
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip

from scaling.files import write_bytes
from scaling.phantom.anatomy import build_brain
from scaling.phantom.infarcts import add_infarct, dwi_artefact
from scaling.phantom.label_maps import choose_map, label_template
from scaling.phantom.meningiomas import add_meningioma, displaced, meningioma_seed
from scaling.phantom.person import deformation, draw_person, outline
from scaling.phantom.scanner import Session, tissue_properties
from scaling.phantom.template import Template, load_template
from scaling.processes.parallel import cores, unordered_map
from scaling.study.phantom import Cohort, Phantom, Scanner

PRETRAINING = "fomo60k"


@dataclass(frozen=True)
class Subject:
    """One person of the cohort: where the files go, who scans, and what is wrong."""

    folder: str
    number: int
    scanner: Scanner
    sequences: tuple[str, ...]
    acute: bool = False
    old: bool = False
    artefact: bool = False
    meningioma: bool = False
    age: float = 0.0
    sex: str = ""

    @property
    def name(self) -> str:
        """Folder name, as in the challenge's data."""
        return f"sub_{self.number}"


def write_phantom(
    root: Path,
    phantom: Phantom,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 0,
) -> None:
    """Write a cohort below `root`; done: returns at once, partial: goes on with the same bits.

    Raises ValueError, naming the fields, when `root` holds another cohort, or files that are none.
    """
    if claim(root, phantom):
        return
    people = plan(phantom)
    waiting = [
        person
        for person in people
        if not truth_folder(root, person).joinpath("truth.json").exists()
    ]
    done = len(people) - len(waiting)
    if progress is not None:
        progress(done, len(people))
    if waiting:
        template = None if phantom.label_maps else load_template(phantom.spacing_mm)
        for _ in unordered_map(
            write_subject, waiting, workers or cores(), start_worker, (root, phantom, template)
        ):
            done += 1
            if progress is not None:
                progress(done, len(people))
    for folder in dict.fromkeys(person.folder for person in people):
        write_tables(root, [person for person in people if person.folder == folder])
    write_bytes(root / "truth" / "DONE", b"")


def claim(root: Path, phantom: Phantom) -> bool:
    """Whether `root` holds this very cohort, finished; writes phantom.json into an empty root. Raises ValueError."""
    config = json.loads(json.dumps(dataclasses.asdict(phantom)))
    marker = root / "phantom.json"
    if marker.exists():
        old = json.loads(marker.read_text())
        changed = [
            f"{key} was {old.get(key)}, is {config.get(key)}"
            for key in config | old
            if old.get(key) != config.get(key)
        ]
        if changed:
            raise ValueError(
                f"{root} holds another synthetic cohort: {'; '.join(changed)}. Choose another folder or delete it"
            )
        return (root / "truth" / "DONE").exists()
    if root.exists() and any(root.iterdir()):
        raise ValueError(f"{root} holds files that are no synthetic cohort; choose an empty folder")
    write_bytes(marker, json.dumps(config, indent=1).encode())
    return False


def plan(phantom: Phantom) -> list[Subject]:
    """Everybody in the cohort, in a fixed order."""
    people = []
    for number in range(1, phantom.pretraining_subjects + 1):
        rng = np.random.default_rng([phantom.seed, zlib.crc32(PRETRAINING.encode()), number, 0])
        scanner = phantom.pretraining_scanners[number % len(phantom.pretraining_scanners)]
        kept = [s for s in phantom.sequences if rng.random() >= phantom.missing]
        kept = kept or [phantom.sequences[number % len(phantom.sequences)]]
        sequences = tuple(scanner.susceptibility if s in ("t2s", "swi") else s for s in kept)
        ill, which = rng.random() < phantom.pathology, rng.random()
        age = rng.uniform(phantom.ageing.youngest, phantom.ageing.oldest)
        people.append(
            Subject(
                PRETRAINING,
                number,
                scanner,
                sequences,
                acute=ill and which < 0.4,
                old=ill and 0.4 <= which < 0.6,
                meningioma=ill and which >= 0.6,
                age=round(age, 1),
                sex=str(rng.choice(("F", "M"))),
            )
        )
    for task, cohort in ((1, phantom.infarct), (2, phantom.meningioma), (3, phantom.brain_age)):
        people += plan_task(phantom, task, cohort)
    return people


def plan_task(phantom: Phantom, task: int, cohort: Cohort) -> list[Subject]:
    """Labelled subjects of a challenge task: training ones at the finetuning site, test ones at every site."""
    sites = [(f"fomo-task{task}", phantom.finetuning_scanner, cohort.train)]
    sites += [
        (f"fomo-task{task}-test", site, cohort.test)
        for site in (phantom.finetuning_scanner, *phantom.test_scanners)
    ]
    numbers: dict[str, int] = {}
    people = []
    for folder, scanner, size in sites:
        for i in range(size):
            number = numbers[folder] = numbers.get(folder, 0) + 1
            rng = np.random.default_rng([phantom.seed, zlib.crc32(folder.encode()), number, 0])
            youngest = phantom.ageing.youngest if task == 3 else max(phantom.ageing.youngest, 45.0)
            age, sex = (
                round(rng.uniform(youngest, phantom.ageing.oldest), 1),
                str(rng.choice(("F", "M"))),
            )
            diffusion = ("flair", "dwi_b1000", scanner.susceptibility)
            if task == 1:
                share = phantom.infarcts.positives
                acute = int((i + 1) * share) > int(i * share)
                mimic = rng.random() < phantom.infarcts.mimics * (0.5 if acute else 1.0)
                old = mimic and rng.random() < 0.6
                people.append(
                    Subject(
                        folder,
                        number,
                        scanner,
                        (*diffusion, "adc"),
                        acute,
                        old,
                        mimic and not old,
                        False,
                        age,
                        sex,
                    )
                )
            elif task == 2:
                people.append(
                    Subject(folder, number, scanner, diffusion, meningioma=True, age=age, sex=sex)
                )
            else:
                people.append(Subject(folder, number, scanner, ("t1", "t2"), age=age, sex=sex))
    return people


_SHARED: dict[str, Any] = {}


def start_worker(root: Path, phantom: Phantom, template: Template | None) -> None:
    """Keep in a worker what all its subjects share."""
    _SHARED.update(root=root, phantom=phantom, template=template)


def write_subject(subject: Subject) -> None:
    """Make one person and write every file of theirs, the truth last: the mark that they are done."""
    root, phantom, template = _SHARED["root"], _SHARED["phantom"], _SHARED["template"]
    rng = np.random.default_rng(
        [phantom.seed, zlib.crc32(subject.folder.encode()), subject.number, 1]
    )
    anatomy_age = np.nan
    if phantom.label_maps:
        file, anatomy_age = choose_map(phantom.label_maps, subject.age, rng)
        template = label_template(file, phantom.spacing_mm)
    person = draw_person(phantom, subject.age, rng, anatomy_age)
    head = outline(template, deformation(template, person, phantom.deformation_mm, rng))
    truth: dict[str, Any] = {
        "site": subject.scanner.name,
        "sex": subject.sex,
        **dataclasses.asdict(person),
    }
    seed = meningioma_seed(template, head, phantom.meningiomas, rng) if subject.meningioma else None
    inner = head if seed is None else displaced(template, head, seed)
    brain = build_brain(template, person, head, inner, rng)
    masks: dict[str, np.ndarray] = {}
    if subject.old:
        masks["old_infarct"], about = add_infarct(
            brain, template, head, phantom.infarcts, False, rng
        )
        truth |= {f"old_{key}": value for key, value in about.items()}
    if subject.acute:
        masks["infarct"], about = add_infarct(brain, template, head, phantom.infarcts, True, rng)
        truth |= about
    if seed is not None:
        masks["seg"], about = add_meningioma(brain, template, head, seed, phantom.meningiomas, rng)
        truth |= about
    tissue = tissue_properties(subject.scanner, phantom.infarcts, phantom.meningiomas, rng)
    session = Session(subject.scanner, template.grid, brain, tissue, rng)
    scans = root / subject.folder
    labels = scans / "labels" / subject.name / "ses_1"
    if subject.folder != PRETRAINING:
        scans = scans / "preprocessed"
    artefact = dwi_artefact(template, head, rng) if subject.artefact else None
    for sequence in subject.sequences:
        image = session.acquire(sequence, artefact if sequence == "dwi_b1000" else None)
        write_nifti(scans / subject.name / "ses_1" / f"{sequence}.nii.gz", *session.stored(image))
    for name, mask in masks.items():
        sampled = ((session.sample(mask.astype(np.float32)) >= 0.5) & session.inside).astype(
            np.uint8
        )
        write_nifti(truth_folder(root, subject) / f"{name}.nii.gz", *session.stored(sampled))
        if name == "seg" and subject.folder.startswith("fomo-task2"):
            write_nifti(labels / "seg.nii.gz", *session.stored(sampled))
    if subject.folder.startswith("fomo-task1"):
        write_bytes(labels / "label.txt", f"{int(subject.acute)}\n".encode())
    if subject.folder.startswith("fomo-task3"):
        write_bytes(labels / "label.txt", f"{subject.age}\n".encode())
    truth |= {
        "acute": subject.acute,
        "old": subject.old,
        "artefact": subject.artefact,
        "meningioma": subject.meningioma,
    }
    write_bytes(truth_folder(root, subject) / "truth.json", json.dumps(truth, indent=1).encode())


def truth_folder(root: Path, subject: Subject) -> Path:
    """Where the masks and parameters of a subject are kept."""
    return root / "truth" / subject.folder / subject.name


def write_tables(root: Path, people: list[Subject]) -> None:
    """participants.tsv of one folder."""
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(("participant_id", "session_id", "sex", "age", "site"))
    table.writerows((p.name, "ses_1", p.sex, p.age, p.scanner.name) for p in people)
    write_bytes(root / people[0].folder / "participants.tsv", text.getvalue().encode())


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI file, the same bytes whenever it is written."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    write_bytes(path, igzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
