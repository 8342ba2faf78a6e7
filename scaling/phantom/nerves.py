"""Trigeminal nerves and the vessels beside them, on voxels finer than those of the anatomy.

A box around the pons is cut out of the tissue shares and interpolated to fine cubes; nerves and
vessels are tubes of exact diameter in it, in a cistern of fluid. On the side with neuralgia the
vessel touches the nerve.
"""

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from scaling.data.resample import apply_weights, axis_weights
from scaling.phantom.anatomy import Brain
from scaling.phantom.anatomy import replace as replace_tissue
from scaling.phantom.fields import ramp
from scaling.phantom.infarcts import Truth
from scaling.phantom.person import Outline
from scaling.phantom.template import Grid, Template
from scaling.study.phantom import Nerves, Scanner

FINE_MM = 0.4  # size of the fine cubes, a little less than that of the scans' voxels
# Course of the right nerve in MNI mm, from the side of the pons to Meckel's cave (read off
# ICBM152 2009a: the pons is 36 mm wide at this height).
ROOT, CAVE = (17.0, -24.0, -31.0), (21.0, -6.0, -36.0)
CISTERN_MM = 5.0  # radius of the fluid around nerve and vessel
INSIDE_PONS_MM = 2.0  # part of the nerve's course that no fluid surrounds
LABELS = {"nerve": 1, "vessel": 2}

Shares = dict[str, np.ndarray]  # "nerve", "vessel" -> share of each fine voxel


def nerve_scene(
    brain: Brain, template: Template, head: Outline, nerves: Nerves, rng: np.random.Generator
) -> tuple[Grid, Brain, Shares, Truth]:
    """The fine grid around the pons, tissue shares on it, shares of nerve and vessel, the truth."""
    roots = [person_millimetres(template, head, mirrored(ROOT, side)) for side in (-1, 1)]
    grid = crop_grid(np.mean(roots, axis=0), nerves, FINE_MM)
    scene = {name: on_grid(share, template.grid, grid) for name, share in brain.items()}
    # The crop is all head: what the skull-stripped template lacks in it is fluid.
    missing = np.clip(1 - sum(scene.values()), 0, 1)
    scene["fluid"] = scene["fluid"] + missing
    shares = {name: np.zeros(grid.shape, np.float32) for name in LABELS}
    painful = int(rng.integers(2))
    truth: Truth = {"neuralgia_side": ("left", "right")[painful]}
    for index, side in enumerate((-1, 1)):
        nerve_radius = rng.uniform(*nerves.nerve_mm) / 2
        vessel_radius = rng.uniform(*nerves.vessel_mm) / 2
        root = roots[index]
        cave = root + (np.array(mirrored(CAVE, side)) - np.array(mirrored(ROOT, side)))
        course = bent_line(root, cave + rng.normal(0, 1.0, 3), rng)
        gap = 0.0 if index == painful else float(rng.uniform(1.5, 3.0))
        vessel = vessel_course(course, nerve_radius + vessel_radius + gap, rng)
        cisternal = course[along(course) > INSIDE_PONS_MM]
        cistern = tube(grid, np.concatenate([cisternal, vessel]), CISTERN_MM)
        replace_tissue(scene, "fluid", cistern)
        for name, line, radius in (
            ("nerve", course, nerve_radius),
            ("vessel", vessel, vessel_radius),
        ):
            # A vessel that touches the nerve takes no part of it.
            share = tube(grid, line, radius) * (1 - shares["nerve"] * (name == "vessel"))
            shares[name] = np.maximum(shares[name], share)
        truth |= {
            f"nerve_mm_{index}": round(2 * nerve_radius, 2),
            f"vessel_mm_{index}": round(2 * vessel_radius, 2),
        }
    replace_tissue(scene, "white", shares["nerve"])
    replace_tissue(scene, "vessel", shares["vessel"])
    return grid, scene, shares, truth


def mirrored(place: tuple[float, float, float], side: int) -> tuple[float, float, float]:
    """A place of the right side (1) or the same of the left (-1), MNI mm."""
    return side * place[0], place[1], place[2]


def person_millimetres(
    template: Template, head: Outline, place: tuple[float, float, float]
) -> np.ndarray:
    """Where the anatomy at MNI mm [3] lies in this person's head, in mm [3]."""
    away = sum(
        (axis - middle) ** 2
        for axis, middle in zip(template.millimetres(head.coordinates), place, strict=True)
    )
    voxel = np.argwhere(head.inside)[int(np.argmin(away))]
    return template.affine[:3, :3] @ voxel + template.affine[:3, 3]


def crop_grid(middle: np.ndarray, nerves: Nerves, spacing: float) -> Grid:
    """Fine cubes of a box; the nerves run forward from the pons, so the box lies before it."""
    shape = tuple(int(np.ceil(length / spacing)) for length in nerves.crop_mm)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    forward = np.array([0.0, 6.0, -2.0])
    affine[:3, 3] = middle + forward - spacing * (np.array(shape) - 1) / 2
    return Grid(spacing, affine, shape)


def on_grid(share: np.ndarray, coarse: Grid, fine: Grid) -> np.ndarray:
    """A share [D, H, W] interpolated to a finer grid of the same axes."""
    start = (fine.affine[:3, 3] - coarse.affine[:3, 3]) / coarse.spacing
    step = fine.spacing / coarse.spacing
    first, second, third = (
        axis_weights(share.shape[axis], start[axis], step, fine.shape[axis]) for axis in range(3)
    )
    return apply_weights(share, (first, second, third))


def bent_line(start: np.ndarray, end: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points [n, 3] every 0.1 mm from start to end, bowed by about a millimetre."""
    count = max(2, round(float(np.linalg.norm(end - start)) / 0.1))
    t = np.linspace(0, 1, count)[:, None]
    bow = 4 * t * (1 - t) * rng.normal(0, 1.0, 3)
    return start + t * (end - start) + bow


def along(line: np.ndarray) -> np.ndarray:
    """Length [n] from the start of a line [n, 3] to each of its points, mm."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def vessel_course(nerve: np.ndarray, distance: float, rng: np.random.Generator) -> np.ndarray:
    """Points [n, 3] of a vessel that crosses over a nerve at a distance between their middles."""
    crossing = nerve[int(len(nerve) * rng.uniform(0.3, 0.5))]
    direction = nerve[-1] - nerve[0]
    direction /= np.linalg.norm(direction)
    # The superior cerebellar artery comes from the midline and crosses above the nerve.
    above = np.array([0.0, 0.0, 1.0])
    away = above - direction * (above @ direction)
    away /= np.linalg.norm(away)
    across = np.cross(direction, away)
    s = np.arange(-8.0, 8.0, 0.1)[:, None]
    bend = rng.uniform(0.02, 0.05) * s**2  # bends away from the nerve on both sides
    drift = rng.uniform(-0.3, 0.3) * s
    return crossing + across * s + away * (distance + bend) + direction * drift


def tube(grid: Grid, line: np.ndarray, radius: float) -> np.ndarray:
    """Share float32 [D, H, W] of every voxel within a radius (mm) of a line [n, 3]."""
    share = np.zeros(grid.shape, np.float32)
    reach = radius + grid.spacing
    low = np.floor((line.min(0) - reach - grid.affine[:3, 3]) / grid.spacing).astype(int)
    high = np.ceil((line.max(0) + reach - grid.affine[:3, 3]) / grid.spacing).astype(int) + 1
    low, high = np.clip(low, 0, grid.shape), np.clip(high, 0, grid.shape)
    if (high <= low).any():
        return share
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    voxels = np.moveaxis(np.mgrid[box], 0, -1).reshape(-1, 3)
    places = voxels * grid.spacing + grid.affine[:3, 3]
    away, _ = KDTree(line).query(places, distance_upper_bound=reach)
    inside = ramp((radius - away) / grid.spacing)  # infinite beyond the bound: 0
    share[box] = inside.reshape(share[box].shape)
    return share


def fine_scanner(scanner: Scanner, reference: Scanner, nerves: Nerves, ras: bool) -> Scanner:
    """A site's protocol for fine voxels: its own field and timing, no blur, no gap between slices.

    Voxels and noise differ from those of the fine-tuning site `reference` as coarse ones do.
    """
    coarse = np.prod(scanner.spacing_mm) / np.prod(reference.spacing_mm)
    ratio = float(np.clip(coarse ** (1 / 3), 0.8, 1.5))
    first, second, third = (size * ratio for size in nerves.spacing_mm)
    spacing = (first, second, third)
    share = nerves.noise * scanner.noise / reference.noise
    return replace(
        scanner,
        spacing_mm=spacing,
        orientation="RAS" if ras else scanner.orientation,
        noise=share * float(np.sqrt(np.prod(spacing) / 27.0)),
        blur_mm=0.0,
        gap_mm=0.0,
    )
