"""What the names of files and folders say: subject, session, sequence, run; scan, mask or label
map.
"""

import re
from functools import lru_cache
from pathlib import Path

from scaling.data.files import extension, printable

SUBJECT = re.compile(r"sub[-_]")
# Folders that hold no scans to learn from.
ASIDE = ("labels", "derivatives", "sourcedata", "code", "truth")
BIDS_ASIDE = (
    "func",
    "fmap",
    "perf",
    "pet",
    "meg",
    "eeg",
    "ieeg",
    "nirs",
    "mrs",
    "beh",
    "micr",
    "motion",
)
BIDS_NAMES = {
    "t1w": "t1",
    "t2w": "t2",
    "flair": "flair",
    "t2starw": "t2s",
    "pdw": "pd",
    "dwi": "dwi",
    "swi": "swi",
}
# Other spellings of sequences outside of BIDS: released data of challenges use several.
NAMES = {"t1w": "t1", "t2w": "t2", "pdw": "pd", "t2starw": "t2s", "t2star": "t2s"}
MASKS = re.compile(r"(.*[-_])?(seg|mask|dseg|probseg|roi|label|defacemask)(_\d+)?")
# Segmentations under the names that common tools (FreeSurfer, FastSurfer, SynthSeg, SAMSEG, DLMUSE,
# FSL, SPM, BraTS) and people give them.
STRUCTURES = (
    r"aseg([+.]\w+)*|[\w.]*\+aseg(\.\w+)?|aparc[\w.+]*|wmparc|ribbon|parcellation|parc|atlas|filled|"
    r"rois?|hippocamp\w+|amygdala|thalamus|ventricles?|vent|vessels?|"
    r"schaefer\d*|aal\d*|desikan|dkt|nucmorph|gm|wm|csf|(gm|wm|csf)[-_](prob|seg|pve)\w*"
)
TOOLS = (
    r"synthseg|samseg|dlmuse|muse|dlicv|fastsurfer|hippodeep|[\w]*firstseg|"
    r"tissues?|tissue[-_]?seg|pveseg|pve[-_]\d|mixeltype"
)
LESIONS = (
    r"tumou?rs?|tumou?r[-_]?(seg|core|mask)|lesions?|infarcts?|stroke|wmhs?|lacunes?|o?edema|"
    r"necrosis|necrotic|ha?emorrhages?|\w*(hyper|hypo)intensities|microbleeds|cmbs?|"
    r"gt|ground[-_]?truth|truth|annotations?|manual|consensus|rater[-_]?\d*"
)
LABEL_MAPS = re.compile(
    rf"(?:(seg|mask)[-_]\w+|(.*[-_.])?({STRUCTURES}|{TOOLS}|{LESIONS}|labelmap|labelled|labeled|"
    # "t1seg", "lesionmask" and "brainsegmentation", though not "masked".
    r"\w*(segmentations?|segs?|labels?|masks?)))"
    r"([-_.]?(\d+|v\d+|final|manual|auto|edited|corrected|eroded|dilated|bin))*"
)
# Of SPM: tissue classes c1 to c6, p0 to p6 before a scan's name.
OF_SPM = re.compile(r"m?w?(c[1-6]|p[0-6]|rp[1-3])(sub|t1|t2|s\d|anat|mprage).*")
BRAIN_MASKS = (
    "{scan}_brainmask",
    "{scan}_brain_mask",
    "{scan}_desc-brain_mask",
    "{entities}_desc-brain_mask",
    "{scan}_synthstrip_mask",
    "{scan}_bet_mask",
    "{scan}_mask",
    "brainmask",
    "brain_mask",
)
DATE = r"(?:(?:19|20)\d\d[-_.]?\d\d[-_.]?\d\d|\d\d[-_.]\d\d[-_.](?:19|20)\d\d)"
NUMBERED = (
    r"visit|session|ses|timepoint|time|tp|wave|scan|exam|study|mri?|follow-?up|fu|year|month|"
    r"week|day|bl|m|y|v|d"
)
VISIT = re.compile(
    rf"{DATE}(\D.*)?"  # a date, with a time behind it or not
    rf"|(\w+[-_])?({NUMBERED})[-_. ]?\d+"
    r"|\d{1,3}|bl|baseline|screening|follow-?up|visit|session|(pre|post)([-_]?op)?|(re-?)?test|rescan",
    re.IGNORECASE,
)
IN_NAME = re.compile(
    rf"(?:^|_)(ses-[A-Za-z0-9]+|(?:visit|session|timepoint|tp|wave|fu)-?\d+|ses\d+|{DATE})(?=_|$)",
    re.IGNORECASE,
)


def stem(name: str) -> str:
    """A volume's name without its ending, in lower case."""
    return name[: len(name) - len(extension(name))].lower()


@lru_cache(maxsize=2**14)
def is_label_map(name: str) -> bool:
    """Whether a volume is no scan but a mask or label map, by its name."""
    kinds = (MASKS, LABEL_MAPS, OF_SPM)
    return any(kind.fullmatch(stem(name)) is not None for kind in kinds)


def subject_place(parts: tuple[str, ...]) -> int | None:
    """Where in a path's parts the subject's folder is; None without one."""
    for place, part in enumerate(parts):
        if SUBJECT.match(part):
            return place
    return None


def is_scan(file: Path, folder: Path) -> bool:
    """Whether a file is a volume below a subject of `folder`, and no mask nor left aside."""
    *above, name = file.relative_to(folder).parts
    if subject_place(tuple(above)) is None or set(ASIDE) & set(above):
        return False
    if above[-1] in BIDS_ASIDE or not extension(name):
        return False
    return not is_label_map(name)


def describe(file: Path, scans: Path) -> dict[str, object]:
    """Path, subject, session, sequence and run of a file, from its place below `scans`."""
    parts = tuple(printable(part) for part in file.relative_to(scans).parts)
    place = subject_place(parts)
    assert place is not None, file
    name = parts[-1][: len(parts[-1]) - len(extension(parts[-1]))]
    bids = parts[place].startswith("sub-") and name.startswith("sub-")
    sequence, run = bids_sequence(name) if bids else plain_sequence(name)
    return {
        "path": printable(str(file)),
        "subject": "/".join(parts[: place + 1]),
        "session": session_of(parts[place + 1 : -1], name),
        "sequence": sequence,
        "run": run,
    }


def session_of(folders: tuple[str, ...], name: str) -> str:
    """A session by a folder below the subject (ses-1, a date, a visit), or by the file's name."""
    for folder in folders:
        if re.match(r"ses[-_]", folder):
            return folder
    in_name = IN_NAME.search(name)
    if in_name:
        return in_name[1]
    for folder in folders:
        if VISIT.fullmatch(folder):
            return folder
    return "ses_1"


def bids_sequence(name: str) -> tuple[str, int]:
    """Sequence and run of a BIDS name: sub-01_run-2_T1w is ("t1", 2)."""
    *entities, suffix = name.split("_")
    run = 1
    for entity in entities:
        if re.fullmatch(r"run-\d+", entity):
            run = int(entity[4:])
    sequence = BIDS_NAMES.get(suffix.lower(), suffix.lower())
    if sequence == "t1" and any(entity.startswith("ce-") for entity in entities):
        sequence += "c"
    for entity in entities:
        if entity in ("part-phase", "part-real", "part-imag"):
            sequence += f"_{entity[5:]}"
    return sequence, run


def plain_sequence(name: str) -> tuple[str, int]:
    """Sequence and run of any other name: t1_2 is ("t1", 2), and scan_3 a sequence of its own."""
    sequence, run = name.lower(), 1
    numbered = re.fullmatch(r"(.+)_(\d+)", sequence)
    if numbered and numbered[1] != "scan":
        sequence, run = numbered[1], int(numbered[2])
    return NAMES.get(sequence, sequence), run


def brain_mask_names(scan: str) -> list[str]:
    """Stems under which a scan's brain mask may lie beside it, in lower case, the surest first."""
    entities = "_".join(part for part in stem(scan).split("_")[:-1]) or stem(scan)
    return [name.format(scan=stem(scan), entities=entities) for name in BRAIN_MASKS]
