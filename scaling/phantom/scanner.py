"""A scanner: tissue shares -> the image a site would store, by the sequences' signal equations.

Spin echo        S = PD (1 - exp(-TR/T1)) exp(-TE/T2)
Inversion        S = PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)
Gradient echo    T2* in the place of T2
Diffusion        S = S(b=0) exp(-b ADC)
(Bernstein, King, Zhou: Handbook of MRI Pulse Sequences, 2004; relaxation times at 3 T after
Stanisz et al. 2005 and Wansapura et al. 1999.)
"""

import numpy as np
from nibabel import orientations
from scipy import ndimage

from scaling.data.resample import FWHM, apply_weights, axis_weights
from scaling.phantom.anatomy import Brain
from scaling.phantom.fields import rotation, smooth_noise
from scaling.phantom.template import Grid
from scaling.study.phantom import Infarcts, Meningiomas, Scanner

# T1, T2, T2* in ms at 3 T; proton density relative to water; ADC in 1e-3 mm^2/s.
PROPERTIES = {
    "cortex": (1400.0, 99.0, 60.0, 0.82, 0.80),
    "deep_grey": (1200.0, 85.0, 42.0, 0.80, 0.75),
    "white": (830.0, 75.0, 50.0, 0.70, 0.70),
    "fluid": (4000.0, 700.0, 300.0, 1.00, 3.00),
    "white_lesion": (1350.0, 150.0, 90.0, 0.80, 1.05),
    "acute_core": (1600.0, 150.0, 75.0, 0.84, 0.75),
    "acute_rim": (1450.0, 120.0, 65.0, 0.82, 0.75),
    "old_infarct": (1900.0, 210.0, 130.0, 0.90, 1.60),
    "tumour": (1450.0, 112.0, 68.0, 0.87, 0.78),
    "calcium": (900.0, 40.0, 6.0, 0.35, 0.50),
    "oedema": (1500.0, 170.0, 110.0, 0.85, 1.35),
}
# Tissues without personal scatter: they were added later, and the draws of cohorts before stay.
# A vessel is dark: its blood has left the slice before the echo (flow void).
LATER_PROPERTIES = {"vessel": (1900.0, 60.0, 30.0, 0.12, 1.00)}
TISSUES = (*PROPERTIES, *LATER_PROPERTIES)


def tissue_properties(
    scanner: Scanner, infarcts: Infarcts, meningiomas: Meningiomas, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """T1, T2, T2* (ms), PD and ADC per tissue [T] at the scanner's field, for one person.

    Lesions differ in contrast between people; all values scatter by a few percent.
    """
    table = np.array(list(PROPERTIES.values()))  # [T, 5]
    cortex = np.array(PROPERTIES["cortex"])
    for name in ("acute_core", "acute_rim", "old_infarct"):
        severity = infarcts.contrast * rng.uniform(0.6, 1.4)
        row = TISSUES.index(name)
        table[row] = cortex + (table[row] - cortex) * severity
    tumour = TISSUES.index("tumour")
    table[tumour] = cortex + (table[tumour] - cortex) * (
        meningiomas.contrast * rng.uniform(0.4, 1.6)
    )
    ratio = rng.uniform(*infarcts.adc_ratio)
    table[TISSUES.index("acute_core"), 4] = 0.75 * ratio
    table[TISSUES.index("acute_rim"), 4] = 0.75 * (0.5 + 0.5 * ratio)
    table *= np.exp(rng.normal(0, 0.02, table.shape))
    table = np.concatenate([table, np.array(list(LATER_PROPERTIES.values()))])
    t1, t2, t2s, density, adc = table.T
    # T1 of tissue grows with the field; that of water does not. T2 and T2* shrink.
    strength = scanner.field_tesla / 3.0
    watery = np.array([tissue == "fluid" for tissue in TISSUES])
    return {
        "t1": np.where(watery, t1, t1 * strength**0.3),
        "t2": t2 * strength**-0.1,
        "t2s": t2s * strength**-0.5,
        "density": density,
        "adc": adc,
    }


def signal(sequence: str, tissue: dict[str, np.ndarray], scanner: Scanner) -> np.ndarray:
    """Signal of each tissue [T] in a sequence, relative to fully relaxed water.

    TE, TR and TI are in ms; the ADC map is in 1e-6 mm^2/s.
    """
    echo, repetition = scanner.echo_scale, scanner.repetition_scale
    t1, t2, t2s, density = tissue["t1"], tissue["t2"], tissue["t2s"], tissue["density"]
    match sequence:
        case "t1" | "t1c":
            if sequence == "t1c":  # the tumour takes up contrast agent
                t1 = np.where(np.array(TISSUES) == "tumour", 0.3 * t1, t1)
            tr, ti = 2000 * repetition, 1000 * repetition
            return density * inversion_recovery(t1, tr, ti)
        case "t2":
            return density * saturation(t1, 4500 * repetition) * np.exp(-95 * echo / t2)
        case "flair":
            tr, water = 9000 * repetition, t1[TISSUES.index("fluid")]
            # Fluid is read just before its zero crossing.
            ti = 0.97 * water * np.log(2 / (1 + np.exp(-tr / water)))
            return density * inversion_recovery(t1, tr, ti) * np.exp(-115 * echo / t2)
        case "dwi_b1000":
            spin_echo = density * saturation(t1, 5000 * repetition) * np.exp(-80 * echo / t2)
            return spin_echo * np.exp(-tissue["adc"])
        case "adc":
            return 1000 * tissue["adc"]
        case "t2s" | "swi":
            te = (22 if sequence == "t2s" else 30) * echo
            return density * saturation(t1, 4000 * repetition) * np.exp(-te / t2s)
        case _:
            raise ValueError(
                f"sequence is {sequence!r}; expected t1, t1c, t2, flair, dwi_b1000, adc, t2s or swi"
            )


def saturation(t1: np.ndarray, tr: float) -> np.ndarray:
    """Magnetisation recovered within a repetition time."""
    return 1 - np.exp(-tr / t1)


def inversion_recovery(t1: np.ndarray, tr: float, ti: float) -> np.ndarray:
    """Magnitude of the magnetisation at an inversion time."""
    return np.abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1))


class Session:
    """One visit to a scanner: all that its sequences share (voxels, position, receive field).

    Signals are linear in the tissue shares, so these are brought to the scanner's voxels once.
    `grid` has the voxels of the brain's shares.
    """

    def __init__(
        self,
        scanner: Scanner,
        grid: Grid,
        brain: Brain,
        tissue: dict[str, np.ndarray],
        rng: np.random.Generator,
    ) -> None:
        self.scanner, self.grid, self.tissue, self.rng = scanner, grid, tissue, rng
        spacing = np.asarray(scanner.spacing_mm)
        self.place_voxels()
        # The slice profile: a Gaussian as wide as what is excited, less what the voxels of the
        # anatomy have already blurred.
        excited = spacing - np.array([0.0, 0.0, scanner.gap_mm])
        wide = np.maximum(excited**2 - grid.spacing**2, 0) + scanner.blur_mm**2
        self.sigma = np.sqrt(wide) / FWHM / grid.spacing
        sampled = {name: self.sample(share) for name, share in brain.items()}
        self.inside = sum(sampled.values()) > 0.5
        self.rows = [TISSUES.index(name) for name in sampled]
        self.shares = np.stack([share[self.inside] for share in sampled.values()])  # [T, n]
        self.receive = self.field(scanner.bias, 70.0)
        # Tissue is not all alike: myelin, iron and water vary from place to place.
        self.texture = self.field(scanner.texture, 6.0) * self.field(scanner.texture, 25.0)
        # Veins are where two sheets of random shape cross.
        crossing = sum(
            smooth_noise(self.shape, float(spacing.max()), 11.0, rng)[self.inside] ** 2
            for _ in range(2)
        )
        solid = sum(self.shares[i] for i, name in enumerate(sampled) if name in ("white", "cortex"))
        self.veins = 1 - 0.5 * np.exp(-crossing / 0.15**2) * solid

    def place_voxels(self) -> None:
        """Set the image's shape and affine: centred on the anatomy, tilted, up to 1 mm off."""
        scanner, grid = self.scanner, self.grid
        spacing = np.asarray(scanner.spacing_mm)
        extent = np.asarray(grid.shape) * grid.spacing
        self.shape = tuple(int(n) for n in np.ceil(extent / spacing) + 1)
        turn = rotation(np.deg2rad([scanner.tilt_degrees, 0.0, 0.0]))
        self.affine = np.eye(4)
        self.affine[:3, :3] = turn * spacing
        grid_middle = (np.asarray(grid.shape) - 1) / 2
        middle = grid.affine[:3, :3] @ grid_middle + grid.affine[:3, 3]
        self.affine[:3, 3] = (
            middle
            - self.affine[:3, :3] @ ((np.asarray(self.shape) - 1) / 2)
            + self.rng.uniform(-1, 1, 3)
        )
        self.to_grid = np.linalg.inv(grid.affine) @ self.affine

    def field(self, amplitude: float, scale_mm: float) -> np.ndarray:
        """A smooth positive factor [n] of the voxels inside, around 1."""
        noise = smooth_noise(self.shape, max(self.scanner.spacing_mm), scale_mm, self.rng)
        return np.exp(np.float32(amplitude) * noise[self.inside])

    def sample(self, image: np.ndarray) -> np.ndarray:
        """Bring an image on the anatomy's voxels to the scanner's."""
        matrix, offset = self.to_grid[:3, :3], self.to_grid[:3, 3]
        if self.scanner.tilt_degrees:
            smooth = ndimage.gaussian_filter(image, self.sigma) if self.sigma.any() else image
            return ndimage.affine_transform(smooth, matrix, offset, self.shape, order=1)
        first, second, third = (
            axis_weights(image.shape[i], offset[i], matrix[i, i], self.shape[i], self.sigma[i])
            for i in range(3)
        )
        return apply_weights(image, (first, second, third))

    def acquire(self, sequence: str, gain: np.ndarray | None = None) -> np.ndarray:
        """int16 [D, H, W] image of a sequence, skull-stripped.

        `gain` [D, H, W], on the anatomy's voxels, multiplies the signal (artefacts).
        """
        scanner, rng = self.scanner, self.rng
        signals = signal(sequence, self.tissue, scanner).astype(np.float32)
        image = signals[self.rows] @ self.shares
        if sequence != "adc":
            image *= self.texture
        if sequence == "swi":
            image *= self.veins
        if gain is not None:
            image *= self.sample(gain)[self.inside]
        # Noise grows as voxels shrink; `noise` is that of a 3 mm cube, of 27 mm^3.
        white = signals[TISSUES.index("white")]
        sigma = scanner.noise * white * np.sqrt(27.0 / np.prod(scanner.spacing_mm))
        sigma *= 1.5 if sequence == "dwi_b1000" else 1.0
        noise = rng.standard_normal((2, image.size), dtype=np.float32) * np.float32(sigma)
        if sequence == "adc":
            image = image + noise[0]
        else:
            # Magnitude of a complex signal with noise in both channels (Rician).
            magnitude = np.hypot(image * self.receive + noise[0], noise[1])
            image = magnitude * np.float32(scanner.gain * 3)
        out = np.zeros(self.shape, np.int16)
        out[self.inside] = np.clip(np.rint(image), 1, 32767)
        return out

    def stored(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An array on this session's grid in the site's axis order, and its affine."""
        change = orientations.ornt_transform(
            orientations.io_orientation(self.affine),
            orientations.axcodes2ornt(tuple(self.scanner.orientation)),
        )
        affine = self.affine @ orientations.inv_ornt_aff(change, self.shape)
        return np.ascontiguousarray(orientations.apply_orientation(image, change)), affine
