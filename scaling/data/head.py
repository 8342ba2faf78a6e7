"""Head or brain against background, by the background's own distribution.

A background is constant (0, -1024, NaN: skull-stripped scans, padding, defaced faces), or noise in
air, or both (a field of view with noise inside a zero border). Where there is noise, its level is
measured on the outermost measured voxels; the head is what rises above it, in large pieces, with
all that they enclose. No voxel inside the head becomes background.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from scaling.data.enclosed import enclosed, enclosed_in_planes
from scaling.data.reading import UnreadableVolume

Background = Literal["constant", "noise", "none"]
CONSTANT = 1e-4  # of the range of values; closer to the background's value is background
COMMON = 0.05  # of the border; a value this frequent may be padding, if whole blocks hold it
SAMPLED_MM = 2.0  # air and head are told apart on about every voxel of this size
BLOCK = 2  # sampled voxels along the side of a block; `Samples.share` counts pairs
FEWEST = 24  # sampled voxels along an axis below which they are not put into blocks
DEVIATIONS = 5.0  # noise above its median: 4.5 sigma of Rayleigh noise, exceeded by 1 in 25,000
LEAST_CONTRAST = 0.08  # of the tissue's level: a head has the same edge in any noise below
MOST_CONTRAST = 0.3  # of the tissue's level: where noise is higher, tissue must not be lost
DARK = 0.25  # of the tissue's level: the outermost voxels of a field with air in it are darker
PIECE = 0.02  # of the largest piece; smaller ones are specks and ghosts, not a scalp cut off
AIR_MM = 10.0  # air lies this far from the head somewhere; the rim of a stripped brain does not
LARGEST_BRAIN = 2800.0  # ml, with the wide rim of thick slices; what is larger is a head
SMALLEST_HEAD = 450.0  # ml; what is smaller is a bright lesion, of up to a hemisphere's artery
AIR_SHARE = 0.05  # of the measured voxels, at least, lie that far away
FAR_AIR = 0.2  # of the head's level: air is darker, the brain around a bright lesion is not


@dataclass(frozen=True)
class Head:
    """`inside` bool [D, H, W], the head or brain with its holes; `measured`, its voxels that count.

    Holes of a stripped brain (voxels of the background's value, or without a number) are inside and
    do not count; `padding` is that value, NaN without a number, None where there is no padding.
    """

    inside: np.ndarray
    measured: np.ndarray
    background: Background
    padding: float | None


@dataclass(frozen=True)
class Samples:
    """A volume on every few voxels, and in blocks of those.

    `values` float32 [d, h, w] and `measured` bool [d, h, w], False in padding; `blocks` int [3],
    samples along the sides of a block; `steps` int [3], voxels from sample to sample; `spacing`
    [3], mm from block to block.
    """

    values: np.ndarray
    measured: np.ndarray
    blocks: np.ndarray
    steps: np.ndarray
    spacing: np.ndarray

    def share(self, samples: np.ndarray) -> np.ndarray:
        """Share of each block's samples that are True, float32 [d', h', w']."""
        count = samples.view(np.uint8)
        for axis in range(3):
            if self.blocks[axis] == 1:
                continue
            if count.shape[axis] % BLOCK:  # the last block repeats its only sample
                count = np.concatenate([count, count.take([-1], axis)], axis)
            even: list[slice] = [slice(None)] * 3
            odd: list[slice] = [slice(None)] * 3
            even[axis], odd[axis] = slice(0, None, BLOCK), slice(1, None, BLOCK)
            count = count[tuple(even)] + count[tuple(odd)]
        return count.astype(np.float32) / np.prod(self.blocks)

    def on_voxels(self, blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Values of blocks [d', h', w'] on all voxels of `shape`."""
        for axis in range(3):
            place = np.arange(shape[axis]) // (self.blocks[axis] * self.steps[axis])
            blocks = np.take(blocks, np.minimum(place, blocks.shape[axis] - 1), axis)
        return blocks

    def on_samples(self, blocks: np.ndarray) -> np.ndarray:
        """Values of blocks [d', h', w'] on the samples [d, h, w]."""
        for axis in range(3):
            place = np.arange(self.values.shape[axis]) // self.blocks[axis]
            blocks = np.take(blocks, place, axis)
        return blocks


def find_head(path: Path, voxels: np.ndarray, spacing: np.ndarray) -> Head:
    """The head or brain in float32 voxels [D, H, W] of `spacing` mm.

    Raises UnreadableVolume for a volume that holds none.
    """
    finite = np.isfinite(voxels)
    low, high = value_range(path, voxels, finite)
    padding, share = common_border_value(voxels)
    measured = finite
    if padding is not None and np.isfinite(padding):
        measured = np.abs(voxels - np.float32(padding)) > CONSTANT * (high - low)  # False in NaN
    if np.count_nonzero(measured) < 1e-3 * voxels.size:
        raise UnreadableVolume(
            f"{path} is empty ({measured.sum()} voxels differ from the background); expected a scan"
        )
    samples = sampled(voxels, measured, spacing)
    if share <= 0.5 and not (samples.share(samples.measured) == 0).any():
        # A frequent value, but no block is full of it: it belongs to the noise.
        padding, measured = None, finite
        samples = sampled(voxels, finite, spacing)
    threshold = air_threshold(samples, padding)
    if threshold is not None:
        head_blocks = blocks_above(samples, threshold)
        millilitres = np.count_nonzero(measured) * float(np.prod(spacing)) / 1000
        # Padding alone tells no stripped brain from a field of view with air in it.
        if padding is None or has_air(samples, head_blocks, padding, millilitres):
            inside = head_above(voxels, threshold, samples, head_blocks)
            return Head(inside, inside & finite, "noise", padding)
    return Head(enclosed(measured), measured, "none" if padding is None else "constant", padding)


def value_range(path: Path, voxels: np.ndarray, finite: np.ndarray) -> tuple[float, float]:
    """Lowest value and 99.9th percentile. Raises UnreadableVolume for a constant volume."""
    count = np.count_nonzero(finite)
    if count < 0.01 * voxels.size:
        raise UnreadableVolume(
            f"{path} has no finite voxels to speak of ({count / voxels.size:.1%}); expected a scan"
        )
    values = voxels.ravel() if count == voxels.size else voxels[finite]
    low, high = float(values.min()), float(values.max())
    if high == low:
        raise UnreadableVolume(f"{path} is constant (every voxel is {low:g}); expected a scan")
    bright = percentile(values, 99.9)
    contrast = bright - low > 1e-6 * max(abs(bright), abs(low))
    return low, bright if contrast else high


def percentile(values: np.ndarray, rank: float) -> float:
    """A percentile; of more than two million values, of every 13th."""
    return float(np.percentile(values if values.size <= 2**21 else values[::13], rank))


def common_border_value(voxels: np.ndarray) -> tuple[float | None, float]:
    """The value most of the volume's faces hold (NaN: no number), and the share of them that does.

    None where no value is frequent enough to be padding.
    """
    border = np.concatenate([np.take(voxels, [0, -1], axis).ravel() for axis in range(3)])
    missing = float(np.isnan(border).mean())
    if missing > 0.5:
        return float("nan"), missing
    numbers, counts = np.unique(border[np.isfinite(border)], return_counts=True)
    share = float(counts.max()) / border.size
    if share > 0.5 or (share > COMMON and share >= missing):
        return float(numbers[counts.argmax()]), share
    return (float("nan"), missing) if missing > COMMON else (None, 0.0)


def sampled(voxels: np.ndarray, measured: np.ndarray, spacing: np.ndarray) -> Samples:
    """About every 2 mm a voxel, in blocks of about 4 mm; small volumes are not put into blocks."""
    steps = np.maximum(1, (SAMPLED_MM / spacing + 1e-3).astype(int))
    every = tuple(slice(None, None, int(step)) for step in steps)
    values = voxels[every]
    large = np.asarray(values.shape) >= FEWEST
    blocks = np.where(large & (spacing * steps <= SAMPLED_MM * 1.5), BLOCK, 1)
    return Samples(values, measured[every], blocks, steps, spacing * steps * blocks)


def air_threshold(samples: Samples, padding: float | None) -> float | None:
    """The highest value of air, by the outermost measured voxels; None where those are no air."""
    field = samples.share(samples.measured) > 0.5
    rim = samples.on_samples(field & ~ndimage.binary_erosion(field))
    outermost = thinned(samples.values[rim & samples.measured])
    inside = thinned(samples.values[samples.measured])
    if outermost.size < 64:
        return None
    tissue = tissue_level(inside)
    median, deviation, darkest = lower_mode(outermost)
    darkest = darkest_air(darkest, padding)
    if median - darkest > DARK * (tissue - darkest):
        return None
    noise = max(DEVIATIONS * deviation, LEAST_CONTRAST * (tissue - median))
    return median + min(noise, MOST_CONTRAST * (tissue - median))


def darkest_air(darkest: float, padding: float | None) -> float:
    """What the level of air is measured from: the lowest value that air may have.

    `darkest` is the darkest of the outermost voxels. Beside padding that need not be air: the rim
    of a stripped brain lies well above its padding of 0, noise does not. Padding of -1024 or NaN
    lies outside the range of magnitudes, which begins at 0.
    """
    if padding is None or padding > darkest:
        return darkest
    if np.isnan(padding) or padding < 2 * min(darkest, 0):
        return min(darkest, 0.0)
    return padding


def tissue_level(values: np.ndarray) -> float:
    """Median of the brighter of two classes, split midway between their means (Ridler 1978)."""
    split, size = float(values.mean(dtype=np.float64)), -1
    for _ in range(8):
        bright = values >= split
        count = int(np.count_nonzero(bright))
        if count in (0, size, values.size):
            break
        size = count
        split = (float(values[bright].mean()) + float(values[~bright].mean())) / 2
    return float(np.median(values[values >= split]))


def thinned(values: np.ndarray) -> np.ndarray:
    """At least 50,000 of the values, evenly spread: enough for a median within a hundredth."""
    return values[:: max(1, values.size // 50_000)]


def lower_mode(values: np.ndarray) -> tuple[float, float, float]:
    """Median, deviation (from the median absolute one) and 1st percentile of the darkest cluster.

    Head that touches the rim of the field, up to half of it, is clipped away.
    """
    darkest, low, middle = np.percentile(values, (1, 5, 25))
    limit = middle + 4 * (middle - low)
    median, deviation, size = float(middle), float(middle - low), 0
    for _ in range(5):
        cluster = values[values <= limit]
        if cluster.size == size:
            break
        size = cluster.size
        median = float(np.median(cluster))
        deviation = 1.4826 * float(np.median(np.abs(cluster - median)))
        limit = median + 4 * deviation
    return median, deviation, float(darkest)


def blocks_above(samples: Samples, threshold: float) -> np.ndarray:
    """bool [d', h', w']: the head's blocks, those above the threshold and all that they enclose."""
    bright = np.where(samples.measured, samples.values, -np.inf) > threshold
    bright_blocks = samples.share(bright) > 0.5
    # Gaps of the scalp up to two blocks wide are closed, so that skull and brain are enclosed.
    closed = enclosed_in_planes(ndimage.binary_dilation(bright_blocks))
    closed = ndimage.binary_erosion(closed, border_value=1) | bright_blocks
    pieces, count = ndimage.label(closed)
    if count == 0:
        return closed
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return (sizes >= PIECE * sizes.max())[pieces]


def has_air(samples: Samples, head: np.ndarray, padding: float, millilitres: float) -> bool:
    """Whether what was measured, of `millilitres`, is a `head` with air around it: enough of it
    lies far from the head and is dark beside it. A bright lesion is no head.
    """
    field = samples.share(samples.measured) > 0.5
    if not head.any() or millilitres * float(head[field].mean()) < SMALLEST_HEAD:
        return False
    if millilitres > LARGEST_BRAIN:
        return True
    distance = ndimage.distance_transform_edt(~head, sampling=samples.spacing)
    far = field & (distance > AIR_MM)
    if far.sum() <= AIR_SHARE * field.sum():
        return False
    around = thinned(samples.values[samples.on_samples(far) & samples.measured])
    level = float(np.median(samples.values[samples.on_samples(head) & samples.measured]))
    darkest = darkest_air(float(np.percentile(around, 1)), padding)
    # Of a brain the fluid is dark as well; the noise of air reaches higher than its median.
    highest = float(np.percentile(around, 70))
    return highest - darkest <= FAR_AIR * (level - darkest)


def head_above(
    voxels: np.ndarray, threshold: float, samples: Samples, head: np.ndarray
) -> np.ndarray:
    """bool [D, H, W]: voxels above the threshold in and beside the head's blocks, and all
    inside.
    """
    beside = samples.on_voxels(ndimage.binary_dilation(head), voxels.shape)
    deep = samples.on_voxels(ndimage.binary_erosion(head, border_value=1), voxels.shape)
    with np.errstate(invalid="ignore"):
        bright = voxels > threshold
    return enclosed_in_planes((bright & beside) | deep)
