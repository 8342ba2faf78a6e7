"""Polymicrogyria: a region of thick cortex with a festooned border and shallow sulci."""

import numpy as np

from scaling.phantom.anatomy import Brain, replace
from scaling.phantom.fields import ramp, smooth_noise
from scaling.phantom.infarcts import Truth
from scaling.phantom.person import Outline
from scaling.phantom.template import Template
from scaling.study.phantom import Polymicrogyria

# Middle of the region in MNI mm (right; mirrored for the left): polymicrogyria is perisylvian in
# most people (Leventer et al. 2010, Brain 133, 1415-1427).
MIDDLE = (46.0, -10.0, 10.0)
SCATTER_MM = 8.0  # standard deviation of the place
SULCI_CLOSED = 0.7  # share of the sulci's fluid that abnormal cortex fills


def add_polymicrogyria(
    brain: Brain,
    template: Template,
    head: Outline,
    malformations: Polymicrogyria,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Truth]:
    """Put a malformation into `brain`, in place. Returns its mask uint8 [D, H, W] and the truth."""
    spacing, shape = template.spacing, template.shape
    x, y, z = template.millimetres(head.coordinates)
    side = rng.choice((-1.0, 1.0))
    middle = np.array(MIDDLE) + rng.normal(0, SCATTER_MM, 3)
    radius = float(rng.uniform(*malformations.radius_mm))
    thickness = float(rng.uniform(*malformations.thickness_mm))
    away = np.sqrt((x * side - middle[0]) ** 2 + (y - middle[1]) ** 2 + (z - middle[2]) ** 2)
    edge = 4 * smooth_noise(shape, spacing, 15.0, rng)[head.inside]
    region = ramp((radius + edge - away) / spacing)
    # Many small gyri: the border to white matter goes in and out every few millimetres.
    festoon = 1.5 * smooth_noise(shape, spacing, 5.0, rng)[head.inside]
    depth = head.maps["depth_mm"]
    thick = region * ramp((thickness + festoon - depth) / spacing)
    new_cortex = thick * brain["white"][head.inside]
    replace(brain, "cortex", head.spread(thick), ("white",))
    closed = SULCI_CLOSED * thick * ramp((depth - 1.0) / spacing)
    replace(brain, "cortex", head.spread(closed), ("fluid",))
    mask = head.spread(thick * (depth > 0)) > 0.5
    return mask.astype(np.uint8), {
        "malformation_side": "right" if side > 0 else "left",
        "malformation_radius_mm": round(radius, 2),
        "malformation_thickness_mm": round(thickness, 2),
        "malformation_new_cortex_ml": round(float(new_cortex.sum()) * spacing**3 / 1000, 3),
    }
