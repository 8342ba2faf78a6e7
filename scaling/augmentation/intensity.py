"""Augmentation of intensities: what scanners and protocols do to one brain. The background
(`BACKGROUND`) stays what it is.

Volumes are normalised to the head's mean and standard deviation. Each effect takes its strength per
case, one value of which changes nothing; `jitter_intensity` draws them. All of it is cheap: blur
and thick slices are one small matrix per axis, the bias field is drawn on a coarse grid, and noise
is mixed from a few volumes of normal numbers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from scaling.data.resample import spline_weights
from scaling.study.config import BACKGROUND

CHANCE = 0.5  # of each effect, for each volume
BLUR = 1.0  # largest standard deviation of the blur, voxels
THICKNESS = 4.0  # largest thickness of slices, voxels
BIAS = 0.5  # standard deviation of the bias field's spline coefficients
BIAS_GRID = 4  # coefficients of the bias field per axis
GAMMA = 0.35  # largest logarithm of the exponent
CONTRAST = 0.15  # largest change of the scale
BRIGHTNESS = 0.15  # largest shift, standard deviations of the head
NOISE = 0.3  # largest standard deviation of the noise
MIXED = 4  # volumes of normal numbers from which noise is mixed

Volumes = Float[Array, "B D H W"]
PerCase = Float[Array, "B"]


def jitter_intensity(volumes: Volumes, key: PRNGKeyArray) -> Volumes:
    """Give each volume its own blur, slice thickness, bias field, gamma, contrast, brightness and
    noise, each with an even chance.
    """
    B = volumes.shape[0]
    # As few draws as possible: each is a generator to compile. The first six of the 13 decide which
    # effects a volume gets, the others how strong they are; an effect that a volume does not get
    # has strength 0, slices of one voxel, or gamma 1.
    strength_key, normal_key, noise_key = jax.random.split(key, 3)
    blurred, thickened, biased, raised, scaled, noisy, *strengths = jax.random.uniform(
        strength_key, (13, B)
    )
    sigma, thickness, axis, gamma, scale, shift, level = strengths
    normal = jax.random.normal(normal_key, (B, BIAS_GRID**3 + MIXED))
    mix = normal[:, :MIXED]
    coefficients = BIAS * normal[:, MIXED:].reshape(B, BIAS_GRID, BIAS_GRID, BIAS_GRID)

    inside = volumes != BACKGROUND  # stays background, whatever is blurred into it
    out = jnp.where(inside, volumes, 0.0)
    blur = (blurred < CHANCE) * BLUR * sigma
    slices = 1 + (thickened < CHANCE) * (THICKNESS - 1) * thickness
    out = thicken(out, blur, slices, jnp.floor(3 * axis).astype(int))
    out = apply_bias(out, _spread(biased < CHANCE) * coefficients)
    out = change_gamma(out, inside, jnp.exp((raised < CHANCE) * GAMMA * (2 * gamma - 1)))
    scale = 1 + (scaled < CHANCE) * CONTRAST * (2 * scale - 1)
    shift = (scaled < CHANCE) * BRIGHTNESS * (2 * shift - 1)
    out = out * _spread(scale) + _spread(shift)
    out = add_noise(out, (noisy < CHANCE) * NOISE * level, mix, noise_key)
    return jnp.where(inside, out, BACKGROUND)


def _spread(values: Shaped[Array, "B"]) -> Shaped[Array, "B 1 1 1"]:
    """Values per case against volumes."""
    return values[:, None, None, None]


def thicken(volumes: Volumes, sigma: PerCase, thickness: PerCase, axis: Int[Array, "B"]) -> Volumes:
    """A Gaussian blur of `sigma` voxels along all axes, then slices `thickness` voxels thick across
    one: lower resolution.
    """
    products = ("bij,bjyz->biyz", "bij,bxjz->bxiz", "bij,bxyj->bxyi")
    for number, product in enumerate(products):
        n = volumes.shape[number + 1]
        across = jnp.where(axis == number, thickness, 1.0)
        weights = slice_weights(n, across) @ blur_weights(n, sigma)
        volumes = jnp.einsum(product, weights, volumes)
    return volumes


def blur_weights(n: int, sigma: PerCase) -> Float[Array, "B n n"]:
    """Rows of a Gaussian filter of `sigma` voxels (0: none), normalised where the border cuts."""
    away = jnp.square(jnp.arange(n)[:, None] - jnp.arange(n))
    weights = jnp.exp(-away / (2 * jnp.square(jnp.maximum(sigma, 1e-2)))[:, None, None])
    return weights / weights.sum(-1, keepdims=True)


def slice_weights(n: int, thickness: PerCase) -> Float[Array, "B n n"]:
    """What slices of `thickness` >= 1 voxels keep: each is the mean of its voxels, and voxels are
    interpolated between their middles.
    """
    thick, number = thickness[:, None, None], jnp.arange(n)
    begin = thick * number[:, None]
    end = jnp.minimum(begin + thick, number + 1)
    overlap = jnp.maximum(end - jnp.maximum(begin, number), 0)  # [B, slice, voxel]
    mean = overlap / jnp.maximum(overlap.sum(-1, keepdims=True), 1e-6)
    last = jnp.ceil(n / thick - 1e-4) - 1
    place = jnp.clip((number + 0.5)[:, None] / thick - 0.5, 0, last)
    return jnp.maximum(1 - jnp.abs(place - number), 0) @ mean


def apply_bias(volumes: Volumes, coefficients: Float[Array, "B g g g"]) -> Volumes:
    """Multiply intensities, counted from black (`BACKGROUND`), by the exponential of one patch of a
    cubic B-spline per axis.
    """
    x, y, z = (
        jnp.asarray(spline_weights(coefficients.shape[1], 1.0, (BIAS_GRID - 3) / (n - 1), n))
        for n in volumes.shape[1:]
    )
    field = jnp.einsum("bijk,xi,yj,zk->bxyz", coefficients, x, y, z)
    return (volumes - BACKGROUND) * jnp.exp(field) + BACKGROUND


def change_gamma(volumes: Volumes, inside: Bool[Array, "B D H W"], exponent: PerCase) -> Volumes:
    """Raise intensities, scaled to 0..1 between the head's extremes, to a power; mean and standard
    deviation of the head stay.
    """
    space = (1, 2, 3)
    low = jnp.min(volumes, space, keepdims=True, where=inside, initial=jnp.inf)
    high = jnp.max(volumes, space, keepdims=True, where=inside, initial=-jnp.inf)
    relative = jnp.clip((volumes - low) / jnp.maximum(high - low, 1e-6), 1e-6, 1)
    changed = relative ** _spread(exponent)

    def moments(values: Volumes) -> tuple[Array, Array]:
        mean = jnp.mean(values, space, keepdims=True, where=inside)
        variance = jnp.mean(jnp.square(values - mean), space, keepdims=True, where=inside)
        return mean, jnp.sqrt(variance)

    (mean, deviation), (new_mean, new_deviation) = moments(volumes), moments(changed)
    return (changed - new_mean) / jnp.maximum(new_deviation, 1e-6) * deviation + mean


def add_noise(
    volumes: Volumes, level: PerCase, mix: Float[Array, "B m"], key: PRNGKeyArray
) -> Volumes:
    """Add normal noise of standard deviation `level`, mixed in each case's own proportions from m
    volumes of normal numbers.

    It is exactly normal and white in each volume, though volumes of a batch share some of it: fresh
    numbers for every voxel of a batch would cost a third of a small model's step on CPU.
    """
    noise = jax.random.normal(key, (mix.shape[1], *volumes.shape[1:]))
    mix = mix / jnp.linalg.norm(mix, axis=1, keepdims=True) * level[:, None]
    return volumes + jnp.einsum("bm,mxyz->bxyz", mix, noise)
