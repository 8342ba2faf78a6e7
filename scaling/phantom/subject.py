"""One synthetic person: anatomy, findings, the images of a session, and the files of all that."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip

from scaling.files import write_bytes
from scaling.phantom.anatomy import Brain, build_brain
from scaling.phantom.infarcts import add_infarct, dwi_artefact
from scaling.phantom.label_maps import choose_map, label_template
from scaling.phantom.malformations import add_polymicrogyria
from scaling.phantom.meningiomas import add_meningioma, displaced, meningioma_seed
from scaling.phantom.nerves import LABELS, fine_scanner, nerve_scene
from scaling.phantom.people import Subject, subject_rng
from scaling.phantom.person import Outline, Person, deformation, draw_person, outline
from scaling.phantom.scanner import Session, tissue_properties
from scaling.phantom.template import Template
from scaling.study.phantom import Phantom

Truth = dict[str, Any]
# Diagnosis "atrophy": added to what a person of that age has.
DISEASE_ATROPHY, DISEASE_VENTRICLES_MM = 0.3, 3.0

_SHARED: dict[str, Any] = {}


def start_worker(
    root: Path, phantom: Phantom, template: Template | None, session: str = "ses_1"
) -> None:
    """Store in a worker what all its subjects share."""
    _SHARED.update(root=root, phantom=phantom, template=template, session=session)


def write_subject(subject: Subject) -> None:
    """Make one person and write every file of theirs, the truth last: it marks them as done."""
    root, phantom, template = _SHARED["root"], _SHARED["phantom"], _SHARED["template"]
    rng = subject_rng(phantom, subject.folder, subject.number, 1)
    anatomy_age = np.nan
    if phantom.label_maps:
        file, anatomy_age = choose_map(phantom.label_maps, subject.age, rng)
        template = label_template(file, phantom.spacing_mm)
    person = draw_person(phantom, subject.age, rng, anatomy_age)
    if subject.diagnosis == "atrophy":
        person = dataclasses.replace(
            person,
            atrophy=person.atrophy + DISEASE_ATROPHY,
            ventricles_mm=person.ventricles_mm + DISEASE_VENTRICLES_MM,
        )
    head = outline(template, deformation(template, person, phantom.deformation_mm, rng))
    truth: Truth = {
        "site": subject.scanner.name,
        "sex": subject.sex,
        **dataclasses.asdict(person),
    }
    if subject.task is not None and subject.task.synthetic == "nerve":
        about = write_nerves(root, phantom, subject, template, person, head, rng)
    else:
        about = write_head(root, phantom, subject, template, person, head, rng)
    truth |= about
    truth |= {
        "acute": subject.acute,
        "old": subject.old,
        "artefact": subject.artefact,
        "meningioma": subject.meningioma,
    }
    if subject.task is not None and subject.task.synthetic in ("polymicrogyria", "diagnosis"):
        truth |= {"malformed": subject.malformed, "diagnosis": subject.diagnosis}
    write_label(root, subject)
    write_bytes(truth_folder(root, subject) / "truth.json", json.dumps(truth, indent=1).encode())


def write_head(
    root: Path,
    phantom: Phantom,
    subject: Subject,
    template: Template,
    person: Person,
    head: Outline,
    rng: np.random.Generator,
) -> Truth:
    """Write the images and masks of a whole brain. Returns the truth about its findings."""
    brain, masks, truth = findings(phantom, subject, template, person, head, rng)
    tissue = tissue_properties(subject.scanner, phantom.infarcts, phantom.meningiomas, rng)
    session = Session(subject.scanner, template.grid, brain, tissue, rng)
    artefact = dwi_artefact(template, head, rng) if subject.artefact else None
    for sequence in subject.sequences:
        gain = artefact if sequence == "dwi_b1000" else None
        image = session.acquire(sequence, gain)
        write_nifti(scan_file(root, subject, sequence), *session.stored(image))
    for name, mask in masks.items():
        share = session.sample(mask.astype(np.float32))
        sampled = ((share >= 0.5) & session.inside).astype(np.uint8)
        stored = session.stored(sampled)
        write_nifti(truth_folder(root, subject) / f"{name}.nii.gz", *stored)
        task = subject.task
        if task is not None and task.mask_file and name == MASK_OF.get(task.synthetic):
            write_nifti(labels_folder(root, subject) / task.mask_file, *stored)
    return truth


# The finding that is a task's mask.
MASK_OF = {"infarct": "infarct", "meningioma": "seg"}


def findings(
    phantom: Phantom,
    subject: Subject,
    template: Template,
    person: Person,
    head: Outline,
    rng: np.random.Generator,
) -> tuple[Brain, dict[str, np.ndarray], Truth]:
    """The brain with all findings, their masks uint8 [D, H, W], and the truth about them."""
    seed = meningioma_seed(template, head, phantom.meningiomas, rng) if subject.meningioma else None
    inner = head if seed is None else displaced(template, head, seed)
    brain = build_brain(template, person, head, inner, rng)
    masks: dict[str, np.ndarray] = {}
    truth: Truth = {}
    if subject.malformed:
        masks["malformation"], about = add_polymicrogyria(
            brain, template, head, phantom.malformations, rng
        )
        truth |= about
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
    return brain, masks, truth


def write_nerves(
    root: Path,
    phantom: Phantom,
    subject: Subject,
    template: Template,
    person: Person,
    head: Outline,
    rng: np.random.Generator,
) -> Truth:
    """Write the fine scan around the pons and its mask of nerve and vessel. Returns the truth."""
    assert subject.task is not None
    brain = build_brain(template, person, head, head, rng)
    grid, scene, shares, truth = nerve_scene(brain, template, head, phantom.nerves, rng)
    scanner = fine_scanner(
        subject.scanner, phantom.finetuning_scanner, phantom.nerves, ras=subject.training
    )
    tissue = tissue_properties(scanner, phantom.infarcts, phantom.meningiomas, rng)
    session = Session(scanner, grid, scene, tissue, rng)
    for sequence in subject.sequences:
        stored = session.stored(session.acquire(sequence))
        write_nifti(scan_file(root, subject, sequence), *stored)
    labels = np.zeros(session.shape, np.uint8)
    for name, label in LABELS.items():
        labels[(session.sample(shares[name]) >= 0.5) & session.inside] = label
    stored = session.stored(labels)
    write_nifti(truth_folder(root, subject) / "seg.nii.gz", *stored)
    write_nifti(labels_folder(root, subject) / subject.task.mask_file, *stored)
    voxel_ml = float(np.prod(scanner.spacing_mm)) / 1000
    return truth | {
        f"{name}_ml": round(voxel_ml * int((labels == label).sum()), 4)
        for name, label in LABELS.items()
    }


def write_label(root: Path, subject: Subject) -> None:
    """Write the text of a person's label, if the task has one."""
    task = subject.task
    if task is None or not task.label_file:
        return
    match task.synthetic:
        case "infarct":
            text = f"{int(subject.acute)}\n"
        case "polymicrogyria":
            text = f"{int(subject.malformed)}\n"
        case "brain_age":
            text = f"{subject.age}\n"
        case "diagnosis":
            text = f"{subject.diagnosis}\n"
        case _:
            raise ValueError(f"task {task.id} has a label file, but {task.synthetic!r} no label")
    write_bytes(labels_folder(root, subject) / task.label_file, text.encode())


def scan_file(root: Path, subject: Subject, sequence: str) -> Path:
    """File of a scan, in the layout of the challenge."""
    folder, stem = root / subject.folder, sequence
    if subject.task is not None:
        folder = folder / "preprocessed"
        stem = subject.task.file(sequence)
    return folder / subject.name / _SHARED["session"] / f"{stem}.nii.gz"


def labels_folder(root: Path, subject: Subject) -> Path:
    """Folder of a person's label and mask."""
    return root / subject.folder / "labels" / subject.name / _SHARED["session"]


def truth_folder(root: Path, subject: Subject) -> Path:
    """Folder of the masks and parameters of a person, which no model may see."""
    return root / "truth" / subject.folder / subject.name


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI file, the same bytes whenever it is written."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    write_bytes(path, igzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
