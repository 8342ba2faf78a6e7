"""Pictures of a brain and its reconstructions: orthogonal mid-slices, as PNG inside the page."""

import base64
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

WIDTH = 216  # pixels of a picture


def mid_slices(volume: npt.NDArray[np.floating]) -> list[npt.NDArray[np.floating]]:
    """Axial, coronal and sagittal slice through the middle of a RAS volume [D, H, W].

    Each has its rows from the top (front or crown).
    """
    d, h, w = (n // 2 for n in volume.shape)
    return [plane.T[::-1] for plane in (volume[:, :, w], volume[:, h, :], volume[d, :, :])]


def montage(volume: npt.NDArray[np.floating], low: float, high: float) -> str:
    """The three mid-slices one below the other, as the data URI of a PNG.

    Grey goes from `low` to `high`; what is not finite is black.
    """
    slices = mid_slices(
        np.nan_to_num(np.asarray(volume, np.float32), nan=low, posinf=high, neginf=low)
    )
    pictures = []
    for plane in slices:
        grey = np.clip((plane - low) / max(high - low, 1e-12), 0, 1)
        picture = Image.fromarray((255 * grey).astype(np.uint8))
        height = round(WIDTH * plane.shape[0] / plane.shape[1])
        pictures.append(picture.resize((WIDTH, height), Image.Resampling.BICUBIC))
    sheet = Image.new("L", (WIDTH, sum(p.height for p in pictures)))
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    data = BytesIO()
    sheet.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def window(original: npt.NDArray[np.floating]) -> tuple[float, float]:
    """The grey window of a brain: its 1st to 99.7th percentile, shared by all pictures of it."""
    finite = original[np.isfinite(original)]
    if not finite.size:
        return 0.0, 1.0
    return float(np.percentile(finite, 1)), float(np.percentile(finite, 99.7))
