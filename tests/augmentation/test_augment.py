"""Every transform against SciPy or NumPy, and the presets made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import ndimage, stats
from scipy.interpolate import BSpline
from scipy.spatial.transform import Rotation

from scaling.augmentation.intensity import (
    MIXED,
    add_noise,
    apply_bias,
    blur_weights,
    change_gamma,
    jitter_intensity,
    slice_weights,
    thicken,
)
from scaling.augmentation.presets import augment, augment_masks
from scaling.augmentation.spatial import flip_left_right, move, random_moves, rotations
from scaling.study.config import BACKGROUND
from scaling.study.shapes import Platform
from scaling.training.mesh import BATCH_AXES, make_mesh

SHAPE = (14, 18, 12)
changed = jax.jit(augment, static_argnums=2)


def heads(count: int, seed: int = 0) -> np.ndarray:
    """float32 [count, D, H, W]: smooth intensities in an ellipsoid, normalised, BACKGROUND around
    it.
    """
    rng = np.random.default_rng(seed)
    away = sum(
        ((np.arange(n) - (n - 1) / 2).reshape([-1 if a == b else 1 for b in range(3)]) / (0.42 * n))
        ** 2
        for a, n in enumerate(SHAPE)
    )
    inside = np.broadcast_to(away < 1, (count, *SHAPE))
    values = ndimage.gaussian_filter(rng.normal(size=(count, *SHAPE)), (0, 1, 1, 1))
    mean, deviation = (
        np.array([f(v[m]) for v, m in zip(values, inside, strict=True)])[:, None, None, None]
        for f in (np.mean, np.std)
    )
    return np.where(inside, (values - mean) / deviation, BACKGROUND).astype(np.float32)


def test_flip_moves_mask_and_sequences_together() -> None:
    images = jnp.asarray(np.random.default_rng(0).normal(size=(16, 2, *SHAPE)), jnp.float32)
    flipped = np.asarray(flip_left_right(images, jax.random.key(0)))
    mask = np.asarray(flip_left_right(images[:, 0], jax.random.key(0)))
    turned = [
        np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, np.asarray(images), strict=True)
    ]
    kept = [np.array_equal(a, b) for a, b in zip(flipped, np.asarray(images), strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert 3 < sum(turned) < 13
    np.testing.assert_array_equal(mask, flipped[:, 0])


def test_rotations_are_those_of_scipy() -> None:
    angles = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        rotations(jnp.asarray(angles)), Rotation.from_euler("xyz", angles).as_matrix(), atol=1e-5
    )


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_move_is_the_linear_affine_transform_of_scipy(platform: Platform) -> None:
    volumes = heads(6).reshape(3, 2, *SHAPE)
    matrices, shifts = random_moves(jax.random.key(1), 3, SHAPE)
    moves = jnp.asarray(volumes), matrices, shifts, BACKGROUND, platform
    found = jax.jit(move, static_argnums=(3, 4))(*moves)
    middle = (np.asarray(SHAPE) - 1) / 2
    for case in range(3):
        matrix, shift = np.asarray(matrices[case], float), np.asarray(shifts[case], float)
        offset = middle + shift - matrix @ middle
        for volume, moved in zip(volumes[case], np.asarray(found[case]), strict=True):
            expected = ndimage.affine_transform(
                volume, matrix, offset, order=1, mode="grid-constant", cval=BACKGROUND
            )
            np.testing.assert_allclose(moved, expected, atol=2e-4)


def test_move_to_a_box_is_the_crop_resized_by_scipy() -> None:
    volume = heads(1)
    # Voxels 3 to 9, 4 to 12.5 and 2 to 7.5 become the whole: half of the distance between the
    # outermost middles.
    begin, half = np.array([3, 4, 2.0]), (np.asarray(SHAPE) - 1) / 2
    shift = begin + half / 2 - half
    found = jax.jit(move, static_argnums=3)(
        jnp.asarray(volume), jnp.eye(3)[None] / 2, jnp.asarray(shift, jnp.float32)[None], 0.0
    )[0]
    places = np.meshgrid(
        *(np.linspace(b, b + h, n) for b, h, n in zip(begin, half, SHAPE, strict=True)),
        indexing="ij",
    )
    np.testing.assert_allclose(
        found, ndimage.map_coordinates(volume[0], places, order=1), atol=1e-4
    )


def test_random_moves_keep_their_box_inside_and_turn_little() -> None:
    matrices, shifts = (np.asarray(x) for x in random_moves(jax.random.key(0), 200, SHAPE))
    sides = np.linalg.norm(matrices, axis=1)
    assert 0.66 < sides.min() < 0.75
    assert 1.05 < sides.max() < 1.16
    reach = np.abs(shifts) + np.minimum(sides, 1) * np.asarray(SHAPE) / 2
    assert (
        reach[sides < 1] <= np.broadcast_to(np.asarray(SHAPE) / 2, sides.shape)[sides < 1] + 1e-4
    ).all()
    angles = Rotation.from_matrix(matrices / sides[:, None, :]).as_euler("xyz", degrees=True)
    assert 9 < np.abs(angles).max() < 10


def test_blur_is_the_gaussian_filter_of_scipy_away_from_the_border() -> None:
    sigma = np.array([0.0, 0.6, 1.0], np.float32)
    impulse = np.zeros((3, 17, 17, 17), np.float32)
    impulse[:, 8, 8, 8] = 1
    found = jax.jit(thicken)(
        jnp.asarray(impulse), jnp.asarray(sigma), jnp.ones(3), jnp.zeros(3, int)
    )
    for volume, s in zip(found, sigma, strict=True):
        expected = ndimage.gaussian_filter(impulse[0], s, truncate=8) if s else impulse[0]
        np.testing.assert_allclose(volume, expected, atol=1e-5)
    np.testing.assert_allclose(blur_weights(9, jnp.asarray(sigma)).sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize(("n", "thickness"), [(12, 1), (12, 3), (12, 4), (14, 4)])
def test_thick_slices_are_means_interpolated_between_their_middles(n: int, thickness: int) -> None:
    signal = np.random.default_rng(0).normal(size=n)
    starts = np.arange(0, n, thickness)
    means = [signal[start : start + thickness].mean() for start in starts]
    expected = np.interp(np.arange(n), starts + (thickness - 1) / 2, means)
    np.testing.assert_allclose(
        slice_weights(n, jnp.asarray([float(thickness)]))[0] @ signal, expected, atol=1e-5
    )


def test_thick_slices_of_any_thickness_keep_a_constant_and_lie_along_the_chosen_axis() -> None:
    weights = jax.jit(slice_weights, static_argnums=0)(13, jnp.linspace(1, 5, 40))
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    volumes = jnp.asarray(heads(3))
    found = jax.jit(thicken)(volumes, jnp.zeros(3), jnp.full(3, 2.0), jnp.arange(3))
    for axis in range(3):
        weights = np.asarray(slice_weights(SHAPE[axis], jnp.asarray([2.0]))[0])
        expected = np.moveaxis(np.tensordot(weights, np.asarray(volumes[axis]), (1, axis)), 0, axis)
        np.testing.assert_allclose(found[axis], expected, atol=1e-5)


def test_bias_multiplies_by_the_exponential_of_a_tensor_spline() -> None:
    coefficients = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
    volumes = heads(2)
    bumps = [
        BSpline.design_matrix(np.linspace(0, 1, n), np.arange(-3.0, 5.0), 3).toarray()
        for n in SHAPE
    ]
    field = np.einsum("bijk,xi,yj,zk->bxyz", coefficients, *bumps)
    found = jax.jit(apply_bias)(jnp.asarray(volumes), jnp.asarray(coefficients))
    np.testing.assert_allclose(
        found, (volumes - BACKGROUND) * np.exp(field) + BACKGROUND, rtol=1e-4, atol=1e-4
    )


def test_gamma_is_a_power_between_the_extremes_of_the_head_with_its_moments_kept() -> None:
    volumes = heads(3)
    inside = volumes != BACKGROUND
    exponents = np.array([0.7, 1.0, 1.4], np.float32)
    found = np.asarray(
        jax.jit(change_gamma)(jnp.asarray(volumes), jnp.asarray(inside), jnp.asarray(exponents))
    )
    for volume, head, exponent, changed in zip(volumes, inside, exponents, found, strict=True):
        values = volume[head].astype(float)
        power = ((values - values.min()) / np.ptp(values)) ** exponent
        expected = (power - power.mean()) / power.std() * values.std() + values.mean()
        np.testing.assert_allclose(changed[head], expected, atol=2e-3)
    np.testing.assert_allclose(found[1][inside[1]], volumes[1][inside[1]], atol=1e-4)


def test_noise_is_white_and_normal_with_its_level_and_differs_between_cases() -> None:
    level = np.array([0.0, 0.1, 0.3, 0.3], np.float32)
    mix = np.random.default_rng(0).normal(size=(60, MIXED)).astype(np.float32)
    noise = np.asarray(
        add_noise(
            jnp.zeros((4, 24, 24, 24)), jnp.asarray(level), jnp.asarray(mix[:4]), jax.random.key(0)
        )
    )
    np.testing.assert_allclose(noise.std((1, 2, 3)), level, rtol=0.03)
    assert stats.kstest(noise[2].ravel() / 0.3, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[2, 1:].ravel(), noise[2, :-1].ravel())[0, 1]) < 0.03
    many = np.asarray(
        add_noise(jnp.zeros((60, 8, 8, 8)), jnp.ones(60), jnp.asarray(mix), jax.random.key(1))
    ).reshape(60, -1)
    shared = np.corrcoef(many)[np.triu_indices(60, 1)]
    assert np.sqrt(np.mean(shared**2)) == pytest.approx(MIXED**-0.5, abs=0.05)


def test_jitter_leaves_the_background_and_some_volumes_less_changed_than_others() -> None:
    volumes = heads(32)
    found = np.asarray(jax.jit(jitter_intensity)(jnp.asarray(volumes), jax.random.key(0)))
    inside = volumes != BACKGROUND
    assert (found[~inside] == BACKGROUND).all()
    change = np.array([np.std((a - b)[m]) for a, b, m in zip(found, volumes, inside, strict=True)])
    assert change.max() > 0.3
    assert (
        np.array(
            [np.corrcoef(a[m], b[m])[0, 1] for a, b, m in zip(found, volumes, inside, strict=True)]
        )
        > 0.3
    ).all()


def test_presets_are_what_the_table_says() -> None:
    volumes, key = jnp.asarray(heads(16)), jax.random.key(3)
    done = {
        preset: np.asarray(changed(volumes, key, preset))
        for preset in ("none", "flips", "spatial", "all")
    }
    np.testing.assert_array_equal(done["none"], volumes)
    mirrored = np.array(
        [not np.array_equal(a, b) for a, b in zip(done["flips"], np.asarray(volumes), strict=True)]
    )
    np.testing.assert_array_equal(
        done["flips"], np.where(mirrored[:, None, None, None], volumes[:, ::-1], volumes)
    )
    assert 2 < mirrored.sum() < 14
    np.testing.assert_allclose(done["all"][done["spatial"] == BACKGROUND], BACKGROUND, atol=1e-3)
    assert not any(
        np.array_equal(done["all"], other) for name, other in done.items() if name != "all"
    )


def test_masks_move_with_their_images() -> None:
    masks = (heads(16) > 0.5).astype(np.float32)
    key = jax.random.key(5)
    moved = np.asarray(jax.jit(augment_masks, static_argnums=2)(jnp.asarray(masks), key, "all"))
    assert set(np.unique(moved)) == {0, 1}
    # A mask's own image, moved: outside the volume it is BACKGROUND, not zero, which is below one
    # half as well.
    np.testing.assert_array_equal(
        moved, np.asarray(changed(jnp.asarray(masks), key, "spatial")) >= 0.5
    )


def test_augmentation_does_not_depend_on_the_number_of_devices() -> None:
    volumes, key = heads(16), jax.random.key(0)
    mesh = make_mesh(4, 2)
    spread = jax.device_put(volumes, NamedSharding(mesh, PartitionSpec(BATCH_AXES)))
    np.testing.assert_allclose(changed(spread, key, "all"), changed(volumes, key, "all"), atol=1e-4)


@pytest.mark.parametrize("preset", ["spatial", "all"])
def test_the_form_for_gpus_changes_volumes_as_that_for_cpus(preset: str) -> None:
    volumes, key = jnp.asarray(heads(16)), jax.random.key(2)
    on_gpu = jax.jit(augment, static_argnums=(2, 3))(volumes, key, preset, "gpu")
    np.testing.assert_allclose(on_gpu, changed(volumes, key, preset), atol=2e-4)
