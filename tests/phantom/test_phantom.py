"""The synthetic cohort: same bits for the same config, tissue that adds up, visible findings."""

import dataclasses
import json
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from scaling.data.layout import scan_source
from scaling.phantom.anatomy import build_brain
from scaling.phantom.fields import interpolation
from scaling.phantom.label_maps import choose_map
from scaling.phantom.malformations import add_polymicrogyria
from scaling.phantom.people import Subject
from scaling.phantom.person import deformation, draw_person, outline
from scaling.phantom.subject import start_worker, truth_folder, write_subject
from scaling.phantom.template import Template, load_template
from scaling.phantom.write import write_phantom
from scaling.study.phantom import (
    TEST_SCANNERS,
    Cohort,
    Infarcts,
    Phantom,
    Polymicrogyria,
    Scanner,
)

SPACING = 4.0
SCANNER = Scanner("plain", 3.0, (SPACING,) * 3, noise=0.005)
SEQUENCES = ("t1", "t1c", "t2", "flair", "dwi_b1000", "adc", "t2s", "swi")
FEW = Phantom(
    spacing_mm=6.0,
    pretraining_subjects=3,
    infarct=Cohort(2, 1),
    meningioma=Cohort(1, 1),
    brain_age=Cohort(1, 1),
    sequences=("t1", "flair"),
    test_scanners=TEST_SCANNERS[:2],
)


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template(SPACING)


def scans(
    root: Path, phantom: Phantom, template: Template | None, subject: Subject
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """One subject's images, masks and truth."""
    start_worker(root, phantom, template)
    write_subject(subject)
    folder = truth_folder(root, subject)
    files = [*(root / subject.folder).rglob("*.nii.gz"), *folder.glob("*.nii.gz")]
    images = {
        file.name.removesuffix(".nii.gz"): np.asarray(nib.load(file).dataobj, float)
        for file in files
    }  # type: ignore[attr-defined]
    return images, json.loads((folder / "truth.json").read_text())


def shares(template: Template, age: float, seed: int) -> dict[str, float]:
    """Volume of each tissue of a person, as a share of the head."""
    rng = np.random.default_rng(seed)
    head = outline(template, deformation(template, draw_person(Phantom(), age, rng), 2.5, rng))
    brain = build_brain(template, draw_person(Phantom(), age, rng), head, head, rng)
    total = sum(float(share.sum()) for share in brain.values())
    return {tissue: float(share.sum()) / total for tissue, share in brain.items()}


def test_interpolation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((5, 6, 7))
    places = rng.uniform(0, 1, (3, 50)) * np.array([4, 5, 6])[:, None]
    expected = ndimage.map_coordinates(image, places, order=1, mode="nearest")
    np.testing.assert_allclose(
        interpolation(image.shape, places.astype(np.float32)) @ image.ravel(), expected, atol=5e-3
    )


def test_cohort_is_the_same_for_any_number_of_workers_and_after_an_interruption(
    tmp_path: Path,
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_phantom(tmp_path / "a", FEW, stop, workers=1)
    write_phantom(tmp_path / "a", FEW, workers=1)
    write_phantom(tmp_path / "b", FEW, workers=2)
    files = sorted(
        file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file()
    )
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_cohort_of_another_config_is_refused_naming_the_field(tmp_path: Path) -> None:
    write_phantom(tmp_path, dataclasses.replace(FEW, pretraining_subjects=1), workers=1)
    with pytest.raises(ValueError, match="pretraining_subjects was 1, is 3"):
        write_phantom(tmp_path, FEW, workers=1)


def test_tissue_shares_add_up_to_the_head(template: Template) -> None:
    rng = np.random.default_rng(3)
    person = draw_person(Phantom(), 70.0, rng)
    head = outline(template, deformation(template, person, 2.5, rng))
    brain = build_brain(template, person, head, head, rng)
    np.testing.assert_allclose(sum(brain.values())[head.inside], head.maps["head"], atol=1e-5)
    assert min(share.min() for share in brain.values()) >= -1e-6
    assert set(brain) == {"cortex", "deep_grey", "white", "fluid", "white_lesion"}


def test_ageing_turns_cortex_into_fluid(template: Template) -> None:
    young, old = ([shares(template, age, seed) for seed in range(6)] for age in (25.0, 80.0))
    assert min(one["fluid"] for one in old) > max(one["fluid"] for one in young)
    assert max(one["cortex"] for one in old) < min(one["cortex"] for one in young)
    assert all("white_lesion" not in one for one in young)


def test_acute_infarct_is_bright_on_diffusion_and_dark_on_adc(
    tmp_path: Path, template: Template
) -> None:
    phantom = Phantom(spacing_mm=SPACING, infarcts=Infarcts(median_ml=60.0, smallest_ml=40.0))
    images, truth = scans(
        tmp_path, phantom, template, Subject("fomo60k", 1, SCANNER, SEQUENCES, acute=True, age=60.0)
    )
    core = ndimage.binary_erosion(images["infarct"] > 0)
    white = images["infarct"] == 0
    healthy = {
        name: np.median(image[white & (image > 0)])
        for name, image in images.items()
        if name != "infarct"
    }
    ratio = {name: float(np.median(images[name][core]) / healthy[name]) for name in healthy}
    assert ratio["dwi_b1000"] > 1.4
    assert 0.5 < ratio["adc"] < 0.9
    assert ratio["flair"] > 1.05
    assert ratio["t1"] < 1
    assert truth["lesion_ml"] == pytest.approx(
        (images["infarct"] > 0).sum() * SPACING**3 / 1000, rel=0.15
    )


def test_meningioma_takes_up_contrast_and_lies_on_the_surface(
    tmp_path: Path, template: Template
) -> None:
    images, truth = scans(
        tmp_path,
        Phantom(spacing_mm=SPACING),
        template,
        Subject("fomo60k", 2, SCANNER, SEQUENCES, meningioma=True, age=60.0),
    )
    tumour = images["seg"] > 0
    assert np.median(images["t1c"][tumour]) > 1.5 * np.median(images["t1"][tumour])
    edge = ndimage.binary_dilation(images["t1"] == 0, iterations=2)
    assert (tumour & edge).any()
    assert truth["meningioma"] is True


def test_given_masks_are_the_infarcts(tmp_path: Path, template: Template) -> None:
    mask = np.zeros((100, 120, 100), np.uint8)
    mask[20:32, 40:56, 50:66] = 1  # 12 x 16 x 16 voxels of 2 mm: 24.6 ml
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-80, -100, -60)
    (tmp_path / "masks").mkdir()
    nib.save(nib.Nifti1Image(mask, affine), tmp_path / "masks" / "lesion.nii.gz")
    phantom = Phantom(spacing_mm=SPACING, infarcts=Infarcts(masks=str(tmp_path / "masks")))
    images, truth = scans(
        tmp_path / "out",
        phantom,
        template,
        Subject("fomo60k", 3, SCANNER, SEQUENCES, acute=True, age=30.0),
    )
    assert truth["given"] == "lesion.nii.gz"
    assert 10 < images["infarct"].sum() * SPACING**3 / 1000 < 32


def test_masks_that_are_not_there_are_told(tmp_path: Path, template: Template) -> None:
    phantom = Phantom(spacing_mm=SPACING, infarcts=Infarcts(masks=str(tmp_path)))
    with pytest.raises(ValueError, match=r"infarcts\.masks is .* which holds no NIfTI files"):
        scans(
            tmp_path / "out",
            phantom,
            template,
            Subject("fomo60k", 3, SCANNER, SEQUENCES, acute=True, age=30.0),
        )


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Two label maps, of ages 30 and 70: white matter in a shell of cortex, with ventricles."""
    folder = tmp_path / "maps"
    folder.mkdir()
    away = np.sqrt(
        sum(
            (np.indices((60, 72, 60)) - np.array([30, 36, 30])[:, None, None, None]) ** 2
            / np.array([24.0**2, 30**2, 25**2])[:, None, None, None]
        )
    )
    labels = np.select([away < 0.2, away < 0.85, away < 1], [3, 2, 1], 0).astype(np.uint8)
    for name in ("sub_1", "sub_2"):
        nib.save(nib.Nifti1Image(labels, np.diag([3.0, 3.0, 3.0, 1.0])), folder / f"{name}.nii.gz")
    (folder / "tissues.csv").write_text(
        "label,tissue\n1,cortical_grey_matter\n2,white_matter\n3,ventricle\n"
    )
    (folder / "participants.tsv").write_text("participant_id\tage\nsub_1\t30\nsub_2\t70\n")
    return folder


def test_label_maps_give_the_anatomy(tmp_path: Path, maps: Path) -> None:
    phantom = Phantom(spacing_mm=SPACING, label_maps=str(maps))
    images, truth = scans(
        tmp_path / "out", phantom, None, Subject("fomo60k", 4, SCANNER, ("t1",), age=30.0)
    )
    t1 = images["t1"]
    centre, rim = (
        tuple(slice(n // 2 - 1 + step * n // 8, n // 2 + 2 + step * n // 8) for n in t1.shape[:1])
        for step in (0, 1)
    )
    middle = t1[centre[0], t1.shape[1] // 2, t1.shape[2] // 2]
    beside = t1[rim[0], t1.shape[1] // 2, t1.shape[2] // 2]
    assert np.median(middle) < 0.7 * np.median(beside)  # fluid in the middle, white matter around
    assert abs(float(str(truth["ventricles_mm"]))) < 3
    assert {choose_map(str(maps), 30.0, np.random.default_rng(seed))[1] for seed in range(20)} == {
        30.0,
        70.0,
    }


def test_label_maps_without_a_table_of_tissues_are_refused(tmp_path: Path) -> None:
    phantom = Phantom(spacing_mm=SPACING, label_maps=str(tmp_path))
    with pytest.raises(ValueError, match="expected maps and tissues"):
        scans(tmp_path / "out", phantom, None, Subject("fomo60k", 4, SCANNER, ("t1",), age=30.0))


def test_every_sequence_of_every_kind_of_scanner_is_finite_and_not_constant(
    tmp_path: Path, template: Template
) -> None:
    for number, (tesla, gap) in enumerate(product((1.0, 3.0), (0.0, 2.0))):
        scanner = Scanner(
            f"s{number}", tesla, (4.0, 4.0, 7.0), "LPI", gap_mm=gap, tilt_degrees=5.0 * number
        )
        images, _ = scans(
            tmp_path / str(number),
            Phantom(spacing_mm=SPACING),
            template,
            Subject("fomo60k", 1, scanner, SEQUENCES, age=50.0),
        )
        assert set(images) == set(SEQUENCES)
        assert all(image.max() > 2 * image[image > 0].min() > 0 for image in images.values())


@pytest.fixture(scope="module")
def fomo26(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small cohort of all seven tasks."""
    root = tmp_path_factory.mktemp("fomo26")
    phantom = Phantom(
        challenge="fomo26",
        spacing_mm=6.0,
        pretraining_subjects=1,
        test_scanners=TEST_SCANNERS[:1],
        infarct=Cohort(2, 0),
        meningioma=Cohort(1, 0),
        brain_age=Cohort(1, 0),
        nerve=Cohort(1, 1),
        polymicrogyria=Cohort(2, 0),
        diagnosis=Cohort(2, 1),
        sequences=("t1",),
        missing=0.0,
    )
    write_phantom(root, phantom, workers=1)
    return root


def test_seven_tasks_have_the_challenges_files(fomo26: Path) -> None:
    files = {str(file.relative_to(fomo26)) for file in fomo26.rglob("*") if file.is_file()}
    for expected in (
        "fomo300k/sub_1/ses-01/t1.nii.gz",
        "Task_1/preprocessed/sub_1/ses-01/dwi_b1000.nii.gz",
        "Task_1/labels/sub_1/ses-01/label.txt",
        "Task_1/labels/sub_2/ses-01/seg.nii.gz",
        "Task_2/labels/sub_1/ses-01/seg.nii.gz",
        "Task_3/preprocessed/sub_1/ses-01/t1w.nii.gz",
        "Task_3/labels/sub_1/ses-01/labels.txt",
        "Task_4/preprocessed/sub_1/ses-01/t2w.nii.gz",
        "Task_4-test/labels/sub_1/ses-01/seg.nii.gz",
        "Task_5/preprocessed/sub_1/ses-01/t1.nii.gz",
        "Task_5/labels/sub_1/ses-01/labels.txt",
        "Task_6.csv",
    ):
        assert expected in files
    table = scan_source(fomo26, "Task_3")
    assert table["sequence"].tolist() == ["t1"]
    assert 20 <= float(table["label"].iloc[0]) <= 85
    classes = scan_source(fomo26, "Task_6")["selected_cohort"]
    assert sorted(classes) == sorted(["control", "atrophy", "tumour"] * 2)
    rows = (fomo26 / "Task_6.csv").read_text().splitlines()
    assert rows[0] == "ptid,nifti_path,selected_cohort,age,sex"
    assert len(rows) == 1 + 3 * (2 + 2 * 1)


def test_nerve_and_vessel_are_thin_dark_and_labelled_on_fine_voxels(fomo26: Path) -> None:
    for source in ("Task_4", "Task_4-test"):
        image = nib.load(fomo26 / source / "preprocessed/sub_1/ses-01/t2w.nii.gz")
        mask = nib.load(fomo26 / source / "labels/sub_1/ses-01/seg.nii.gz")
        np.testing.assert_array_equal(image.affine, mask.affine)
        labels, voxels = np.asarray(mask.dataobj), np.asarray(image.dataobj)
        assert image.shape == mask.shape
        assert np.unique(labels).tolist() == [0, 1, 2]
        around = ndimage.binary_dilation(labels > 0, iterations=4) & (labels == 0)
        for label, widest_mm in ((1, 3.6), (2, 2.3)):
            assert np.median(voxels[labels == label]) < 0.75 * np.median(voxels[around])
            depth = ndimage.distance_transform_edt(labels == label, image.header.get_zooms())
            assert 2 * depth.max() < widest_mm + 1.0
    train = nib.load(fomo26 / "Task_4/preprocessed/sub_1/ses-01/t2w.nii.gz")
    np.testing.assert_allclose(train.header.get_zooms(), (0.5, 0.488, 0.488), rtol=1e-5)
    assert nib.aff2axcodes(train.affine) == ("R", "A", "S")


def test_vessel_touches_the_nerve_on_the_painful_side_alone(fomo26: Path) -> None:
    truth = json.loads((fomo26 / "truth/Task_4/sub_1/truth.json").read_text())
    mask = nib.load(fomo26 / "truth/Task_4/sub_1/seg.nii.gz")
    labels = np.asarray(mask.dataobj)
    away = ndimage.distance_transform_edt(labels != 1, mask.header.get_zooms())
    middle = labels.shape[0] // 2  # stored towards the right
    gaps = {
        "left": away[:middle][labels[:middle] == 2].min(),
        "right": away[middle:][labels[middle:] == 2].min(),
    }
    other = {"left": "right", "right": "left"}[truth["neuralgia_side"]]
    assert gaps[truth["neuralgia_side"]] < 1.0 < gaps[other]


def test_polymicrogyria_thickens_cortex_where_its_mask_is(template: Template) -> None:
    rng = np.random.default_rng(4)
    person = draw_person(Phantom(), 40.0, rng)
    head = outline(template, deformation(template, person, 2.5, rng))
    brain = build_brain(template, person, head, head, rng)
    before = {tissue: share.copy() for tissue, share in brain.items()}
    mask, truth = add_polymicrogyria(brain, template, head, Polymicrogyria(), rng)
    inside = mask > 0
    assert 5 < inside.sum() * SPACING**3 / 1000 < 150
    assert brain["cortex"][inside].mean() > before["cortex"][inside].mean() + 0.2
    np.testing.assert_allclose(sum(brain.values()), sum(before.values()), atol=1e-5)
    assert truth["malformation_side"] in ("left", "right")


def test_cohort_of_an_older_config_without_new_fields_is_the_same(tmp_path: Path) -> None:
    write_phantom(tmp_path, dataclasses.replace(FEW, pretraining_subjects=1), workers=1)
    marker = tmp_path / "phantom.json"
    config = json.loads(marker.read_text())
    for field in ("challenge", "nerve", "polymicrogyria", "diagnosis", "nerves", "diagnoses"):
        del config[field]
    marker.write_text(json.dumps(config))
    write_phantom(tmp_path, dataclasses.replace(FEW, pretraining_subjects=1), workers=1)


def test_default_cohort_has_five_sites_outside_of_the_training_domain() -> None:
    assert len(Phantom().test_scanners) >= 5
