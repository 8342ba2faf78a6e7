"""The files that a check looks at, and those that it leaves out: label maps, other formats."""

from pathlib import Path

import pandas as pd

from scaling.data.files import (
    extension,
    folder_problem,
    link_problem,
    name_problem,
    printable,
)
from scaling.data.layout import COLUMNS, LISTINGS, find_sources, scan_source, with_no_attributes
from scaling.data.names import ASIDE, BIDS_ASIDE, MASKS, is_label_map, stem
from scaling.data.opening import EXTENSIONS
from scaling.data.participants import REMARKS
from scaling.data.problems import Finding

UNREAD = (
    ".dcm",
    ".ima",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".nii.zst",
    ".minc",
)  # images of formats that are not read


def list_files(root: Path, everything: list[Path]) -> pd.DataFrame:
    """One row per scan, mask or stray volume below `root` (or of the table of scans `root`), as
    `scan_sources`, with its role.
    """
    if root.name.endswith(LISTINGS):
        tables = [scan_source(root.parent, root.name)]
    else:
        tables = [scan_source(root, path) for path in find_sources(root)]
    remarks = [remark for table in tables for remark in table.attrs[REMARKS]]
    scans = pd.DataFrame({"path": [], "mask": []})
    if tables:
        scans = pd.concat([with_no_attributes(table) for table in tables], ignore_index=True)
        scans = scans.assign(role="scan")
    masks = scans[scans["mask"] != ""].drop_duplicates("mask")
    masks = masks.assign(path=masks["mask"], sequence="", mask="", role="mask", problem="")
    listed = {*scans["path"], *masks["path"]}
    strays = []
    for file in everything:
        if printable(str(file)) not in listed and is_stray(file, root):
            strays.append(file)
    if scans.empty and not strays:
        raise ValueError(
            f"{root} holds no scans ({', '.join(EXTENSIONS)}); expected folders such as "
            "sub_1/ses_1/ in it"
        )
    others = pd.DataFrame(
        {
            "path": [printable(str(file)) for file in strays],
            "problem": [name_problem(file) or stray_problem(file, root) for file in strays],
            "role": "other",
            "run": 1,
        }
    ).astype({"path": str, "problem": str})
    table = pd.concat([scans, masks, others], ignore_index=True)
    table = table.reindex(
        columns=[*COLUMNS, "role", *table.columns.difference([*COLUMNS, "role"], sort=False)]
    )
    text = table.columns.difference(["age", "run"])
    table[text] = table[text].fillna("").astype(str)
    table = table.assign(age=table["age"].astype(float), run=table["run"].astype(int))
    table = table.drop(columns="part")
    table.attrs = {REMARKS: remarks}
    return table


def is_stray(file: Path, root: Path) -> bool:
    """Whether a file looks like a scan that the layout has no place for."""
    *above, name = file.relative_to(root).parts
    if set(above) & {*ASIDE, *BIDS_ASIDE}:
        return False
    if extension(name):
        return not is_label_map(name)
    return file.is_dir()  # a link to a folder, or a closed one


def stray_problem(file: Path, root: Path) -> str:
    """Why a stray file or folder may not be read."""
    if file.is_dir() and not file.is_symlink():
        return folder_problem(file)
    return link_problem(file, root.resolve())


def left_out(root: Path, everything: list[Path], files: pd.DataFrame) -> list[Finding]:
    """A finding when segmentations lie among the scans, which are left out by their names."""
    used = {*files["mask"], *files.get("brainmask", pd.Series(dtype=str)), *files["path"]}
    maps = []
    for file in everything:
        *above, name = file.relative_to(root).parts
        if set(above) & {*ASIDE, *BIDS_ASIDE} or not extension(name) or str(file) in used:
            continue
        if is_label_map(name) and not MASKS.fullmatch(stem(name)):
            maps.append(printable(str(file)))
    if not maps:
        return []
    return [
        Finding(
            "labelmaps",
            f"{len(maps)} files are label maps by their names and left out; rename one that is a "
            "scan",
            dict.fromkeys(maps, ""),
        )
    ]


def unread_formats(everything: list[Path]) -> list[Finding]:
    """A finding when images lie there that are of no format that is read."""
    images = [file for file in everything if file.name.lower().endswith(UNREAD)]
    if not images:
        return []
    kinds = sorted({file.suffix for file in images})
    return [
        Finding(
            "formats",
            f"{len(images)} images ({', '.join(kinds)}) are of a format that is not read; convert "
            "them to NIfTI",
            {printable(str(file)): "" for file in images},
        )
    ]
