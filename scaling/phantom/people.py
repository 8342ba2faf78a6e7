"""Who is in the synthetic cohort: the people of pretraining and of a challenge's tasks."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from scaling.study.challenge import Challenge, ChallengeTask
from scaling.study.phantom import Cohort, Diagnosis, Phantom, Scanner

# Order in which a session acquires sequences; the noise of each depends on those before it.
ACQUIRED = ("t1", "t1c", "t2", "flair", "dwi_b1000", "t2s", "swi", "adc")
# Diseases are rarely of the young.
YOUNGEST_ILL = 45.0


@dataclass(frozen=True)
class Subject:
    """One person of the cohort: where the files go, who scans, and what is wrong."""

    folder: str
    """Folder of the source, relative to the cohort's root."""
    number: int
    """Number within the folder."""
    scanner: Scanner
    """Site."""
    sequences: tuple[str, ...]
    """Sequences in the order of acquisition."""
    acute: bool = False
    """Has an acute infarct."""
    old: bool = False
    """Has an old infarct."""
    artefact: bool = False
    """Diffusion images have a bright artefact."""
    meningioma: bool = False
    """Has a meningioma."""
    age: float = 0.0
    """Age, years."""
    sex: str = ""
    """F or M."""
    malformed: bool = False
    """Has polymicrogyria."""
    diagnosis: Diagnosis = "control"
    """Class in the task of cohorts."""
    task: ChallengeTask | None = None
    """The task that the person is a labelled case of; None: pretraining."""
    training: bool = True
    """Whether the person is a training case of the task."""

    @property
    def name(self) -> str:
        """Folder name, as in challenges' data."""
        return f"sub_{self.number}"


def plan(phantom: Phantom, challenge: Challenge) -> list[Subject]:
    """Everybody in the cohort, in a fixed order."""
    people = [
        pretraining_subject(phantom, challenge, number)
        for number in range(1, phantom.pretraining_subjects + 1)
    ]
    for task in challenge.tasks:
        if task.synthetic:
            people += plan_task(phantom, task)
    return people


def pretraining_subject(phantom: Phantom, challenge: Challenge, number: int) -> Subject:
    """An unlabelled person: some have an infarct, its mimic or a meningioma."""
    rng = subject_rng(phantom, pretraining_folder(challenge), number, 0)
    scanner = phantom.pretraining_scanners[number % len(phantom.pretraining_scanners)]
    recorded = [s for s in phantom.sequences if rng.random() >= phantom.missing]
    if not recorded:
        recorded = [phantom.sequences[number % len(phantom.sequences)]]
    ill, which = rng.random() < phantom.pathology, rng.random()
    age = rng.uniform(phantom.ageing.youngest, phantom.ageing.oldest)
    return Subject(
        pretraining_folder(challenge),
        number,
        scanner,
        tuple(scanner.susceptibility if s in ("t2s", "swi") else s for s in recorded),
        acute=ill and which < 0.4,
        old=ill and 0.4 <= which < 0.6,
        meningioma=ill and which >= 0.6,
        age=round(age, 1),
        sex=str(rng.choice(("F", "M"))),
    )


def pretraining_folder(challenge: Challenge) -> str:
    """Folder of the unlabelled scans, named as the challenge's collection."""
    return challenge.pretraining.folder if challenge.pretraining else "pretraining"


def task_folder(task: ChallengeTask) -> str:
    """Folder of a task's training cases; test cases lie in the same name with "-test"."""
    return task.folder or f"Task_{task.id}"


def plan_task(phantom: Phantom, task: ChallengeTask) -> list[Subject]:
    """Labelled subjects: training ones at the fine-tuning site, test ones at every site."""
    assert task.synthetic
    cohort: Cohort = getattr(phantom, task.synthetic)
    classes = len(phantom.diagnoses) if task.synthetic == "diagnosis" else 1
    folder = task_folder(task)
    groups = [(folder, phantom.finetuning_scanner, cohort.train)]
    for scanner in (phantom.finetuning_scanner, *phantom.test_scanners):
        groups.append((f"{folder}-test", scanner, cohort.test))
    numbers: dict[str, int] = {}
    people = []
    for group_folder, scanner, size in groups:
        for index in range(size * classes):
            number = numbers[group_folder] = numbers.get(group_folder, 0) + 1
            subject = labelled_subject(phantom, task, group_folder, number, scanner, index)
            people.append(replace(subject, task=task, training=group_folder == folder))
    return people


def labelled_subject(
    phantom: Phantom, task: ChallengeTask, folder: str, number: int, scanner: Scanner, index: int
) -> Subject:
    """One labelled person; `index` counts within folder and site."""
    rng = subject_rng(phantom, folder, number, 0)
    youngest = max(phantom.ageing.youngest, YOUNGEST_ILL)
    if task.synthetic in ("brain_age", "polymicrogyria"):
        youngest = phantom.ageing.youngest
    age = round(rng.uniform(youngest, phantom.ageing.oldest), 1)
    sex = str(rng.choice(("F", "M")))
    subject = Subject(folder, number, scanner, task_sequences(task, scanner), age=age, sex=sex)
    match task.synthetic:
        case "infarct":
            acute = every(phantom.infarcts.positives, index)
            mimic = rng.random() < phantom.infarcts.mimics * (0.5 if acute else 1.0)
            old = mimic and rng.random() < 0.6
            return replace(subject, acute=acute, old=old, artefact=mimic and not old)
        case "meningioma":
            return replace(subject, meningioma=True)
        case "brain_age" | "nerve":
            return subject
        case "polymicrogyria":
            return replace(subject, malformed=every(phantom.malformations.positives, index))
        case "diagnosis":
            return with_diagnosis(
                replace(subject, sequences=(str(rng.choice(("t1", "t1", "t2"))),)),
                phantom.diagnoses[index % len(phantom.diagnoses)],
            )
        case _:
            raise ValueError(f"task {task.id} stands for {task.synthetic!r}; expected known people")


def every(share: float, index: int) -> bool:
    """Whether number `index` of a row is one of a share that is spread evenly over the row."""
    return int((index + 1) * share) > int(index * share)


def with_diagnosis(subject: Subject, diagnosis: Diagnosis) -> Subject:
    """A person with the findings of a diagnosis (atrophy is added to the drawn anatomy)."""
    return replace(
        subject,
        diagnosis=diagnosis,
        meningioma=diagnosis == "tumour",
        old=diagnosis == "infarct",
        malformed=diagnosis == "malformation",
    )


def task_sequences(task: ChallengeTask, scanner: Scanner) -> tuple[str, ...]:
    """What a site records for a task, in the order of acquisition; of "t2s|swi" the site's own."""
    names = []
    for slot in task.sequences:
        options = slot.split("|")
        names.append(scanner.susceptibility if scanner.susceptibility in options else options[0])
    return tuple(sorted(names, key=lambda name: (*ACQUIRED, name).index(name)))


def subject_rng(phantom: Phantom, folder: str, number: int, purpose: int) -> np.random.Generator:
    """Random numbers of one person: 0 for who they are, 1 for their anatomy and images."""
    return np.random.default_rng([phantom.seed, zlib.crc32(folder.encode()), number, purpose])
