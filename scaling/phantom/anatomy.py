"""A person's brain as tissue shares: folded cortex, cerebellum, ageing, white matter lesions.

A brain is {tissue: float32 [D, H, W]}; the shares sum to 1 inside the head.
"""

import numpy as np
from scipy import ndimage

from scaling.phantom.fields import largest_values, ramp, smooth_noise
from scaling.phantom.person import Outline, Person
from scaling.phantom.template import Template

Brain = dict[str, np.ndarray]


def build_brain(
    template: Template, person: Person, head: Outline, inner: Outline, rng: np.random.Generator
) -> Brain:
    """Tissue shares of a person with an outline `head`.

    `inner` is the outline that tissue is read from: `head`, unless a tumour pushes tissue away.
    """
    shape, spacing = template.shape, template.spacing
    whole, deep = head.maps["head"], inner.maps["deep"]
    grey, white = inner.maps["grey"], inner.maps["white"]
    fluid = np.clip(whole - grey - white, 0, 1)
    # Atrophy differs between regions of the cortex.
    local = 1 + 0.35 * smooth_noise(shape, spacing, 25.0, rng)[head.inside]
    loss = np.float32(person.atrophy) * local
    if template.folds:
        fluid, white = fold(template, inner, white, fluid, loss, rng)
        grey = np.clip(1 - fluid - white, 0, 1)
    else:
        # The cortex of a real brain gives way to fluid where fluid is near.
        near_fluid = ndimage.gaussian_filter(head.spread(fluid), 3.0 / spacing)[head.inside]
        grey = grey * (1 - np.clip(loss * (0.2 + 2 * near_fluid) * (1 - deep), -0.2, 0.9))
    # Tissue is scaled so that it fills at most the share of the voxel that is head.
    fill = whole / np.maximum(grey + white, np.maximum(whole, 1e-3))
    shares = {
        "cortex": grey * (1 - deep) * fill,
        "deep_grey": grey * deep * fill,
        "white": white * fill,
    }
    shares["fluid"] = np.clip(whole - sum(shares.values()), 0, 1)
    brain = {tissue: head.spread(share) for tissue, share in shares.items()}
    if person.lesions_ml > 0.2:
        add_white_matter_lesions(
            brain, template, head, inner, shares["white"], person.lesions_ml, rng
        )
    return brain


def add_white_matter_lesions(
    brain: Brain,
    template: Template,
    head: Outline,
    inner: Outline,
    white: np.ndarray,
    millilitres: float,
    rng: np.random.Generator,
) -> None:
    """Put lesions of a volume into white matter (shares [n]), in place: near the ventricles,
    away from the surface, in random spots.
    """
    shape, spacing = template.shape, template.spacing
    spots = 1.3 * smooth_noise(shape, spacing, 9.0, rng)[head.inside]
    preference = (
        -inner.maps["ventricle_mm"] / 9 + spots + np.minimum(inner.maps["surface_mm"], 20) / 20
    )
    score = np.full(shape, -np.inf, np.float32)
    score[head.inside] = np.where(white > 0.6, preference, -np.inf)
    lesion = largest_values(score, millilitres, spacing)
    share = 0.85 * ndimage.gaussian_filter(lesion, 1.0 / spacing)
    replace(brain, "white_lesion", share, ("white",))


def fold(
    template: Template,
    inner: Outline,
    white: np.ndarray,
    fluid: np.ndarray,
    loss: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Shares [n] of fluid and white matter after folding a smooth template.

    A ribbon of cortex lies along the pia and along sheets that go down from it. With age
    (`loss` [n]) the sheets open, the pia recedes and the ribbon thins. Lengths are in mm.
    """
    spacing, depth = np.float32(template.spacing), inner.maps["depth_mm"]
    sheets = np.stack([part.ravel() for part in folding(template, rng)], 1)
    from_sheet, sheet_depth = (inner.matrix @ sheets).T
    # Distance from the nearest fluid: in a sulcus, or around the brain.
    from_sulcus = np.hypot(from_sheet, np.maximum(depth - sheet_depth, 0))
    from_fluid = np.minimum(from_sulcus - (0.15 + 2.6 * loss), depth - (0.2 + 5.0 * loss))
    folded_fluid = ramp(-from_fluid / spacing)
    folded_white = ramp((from_fluid - (3.4 - 2.5 * loss)) / spacing)
    # Leaves of the cerebellum: fissures that radiate, sagittally, from the fourth ventricle.
    _, y, z = template.millimetres(inner.coordinates)
    phase = 11 * np.arctan2(z + 28, -(y + 42)) + 0.2 * from_sheet
    leaves = (
        np.exp(-np.square(np.sin(phase) / 0.45))
        * ramp((16 - depth) / 8)
        * inner.maps["cerebellum"]
        * (0.3 + loss)
    )
    cerebrum = inner.maps["cerebrum"]
    white = (cerebrum * folded_white + (1 - cerebrum) * white) * (1 - leaves)
    fluid = np.clip(cerebrum * folded_fluid + (1 - cerebrum) * fluid + leaves, 0, 1)
    return fluid, white


def folding(template: Template, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sheets along which one person's cortex folds in, in template space.

    Returns the signed distance from them in mm and how deep they go [D, H, W]. A sheet is where
    a random pattern on the pia changes sign, and goes down from there, a little bent.
    """
    pattern = smooth_noise(template.shape, template.spacing, 7.0, rng)
    bend = smooth_noise(template.shape, template.spacing, 9.0, rng)
    pattern = ndimage.gaussian_filter(pattern.ravel()[template.foot] + 0.4 * bend, 0.6)
    slope = np.sqrt(sum(np.square(part) for part in np.gradient(pattern))) / np.float32(
        template.spacing
    )
    deepest = np.clip(13 + 4 * smooth_noise(template.shape, template.spacing, 16.0, rng), 5, 20)
    return np.clip(pattern / np.maximum(slope, 0.03), -12, 12), deepest


def replace(
    brain: Brain, tissue: str, share: np.ndarray, of: tuple[str, ...] | None = None
) -> None:
    """Turn a share [D, H, W] of the tissues `of` (default: all) into `tissue`, in place."""
    candidates = brain if of is None else of
    sources = [name for name in candidates if name in brain and name != tissue]
    gained = sum(brain[name] * share for name in sources)
    for name in sources:
        brain[name] = brain[name] * (1 - share)
    brain[tissue] = brain[tissue] + gained if tissue in brain else np.asarray(gained)
