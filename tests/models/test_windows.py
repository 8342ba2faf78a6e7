"""Sliding windows against a loop in NumPy with SciPy's Gaussian; crops against what they were cut
from.
"""

import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal.windows import gaussian

from scaling.models.windows import by_windows, lesion_crops

WINDOW = (6, 8, 5)
compiled = jax.jit(lesion_crops, static_argnames="window")


def network(images):  # type: ignore[no-untyped-def]
    """A network that depends on all voxels and on their place in the window; for arrays of NumPy
    and JAX.
    """
    ramp = (
        np.arange(images[0, 0].size, dtype=np.float32).reshape(images.shape[2:]) / images[0, 0].size
    )
    return (
        images[:, 0] * ramp
        + 0.3 * images[:, 1] ** 2
        + images.mean((1, 2, 3, 4))[:, None, None, None]
    )


def in_a_loop(images: np.ndarray, starts: list[tuple[int, ...]]) -> np.ndarray:
    """The same windows one by one, and their mean weighted by SciPy's Gaussian."""
    total, weights = np.zeros((2, *images[:, 0].shape))
    first, second, third = (gaussian(side, side / 8) for side in WINDOW)
    weight = np.einsum("i,j,k->ijk", first, second, third)
    for start in starts:
        part = (
            slice(None),
            *(slice(low, low + side) for low, side in zip(start, WINDOW, strict=True)),
        )
        total[part] += weight * network(images[(part[0], slice(None), *part[1:])])
        weights[part] += weight
    return total / weights


def volumes(shape: tuple[int, int, int], cases: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(cases, 2, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "starts"),
    [
        (
            (12, 12, 10),
            [(0, 3, 6), (0, 4), (0, 2, 3, 5)],
        ),  # steps of at most 3, 4 and 2 voxels, evenly spread
        ((7, 8, 5), [(0, 1), (0,), (0,)]),
        ((6, 17, 9), [(0,), (0, 3, 6, 9), (0, 2, 4)]),
    ],
)
def test_windows_equal_a_loop_over_them_weighted_by_scipys_gaussian(
    shape: tuple[int, int, int], starts: list[tuple[int, ...]]
) -> None:
    images = volumes(shape)
    found = jax.jit(lambda images: by_windows(network, images, WINDOW))(images)
    np.testing.assert_allclose(
        found, in_a_loop(images, list(itertools.product(*starts))), atol=1e-5
    )


def test_window_of_the_volumes_size_is_the_network_itself() -> None:
    images = jnp.asarray(volumes(WINDOW))
    np.testing.assert_array_equal(by_windows(network, images, WINDOW), network(images))


def test_constant_network_gives_a_constant() -> None:
    found = by_windows(
        lambda images: jnp.full(images[:, 0].shape, -3.25),
        jnp.asarray(volumes((33, 20, 16), 1)),
        WINDOW,
    )
    np.testing.assert_allclose(found, -3.25, rtol=1e-6)


def test_program_of_windows_makes_no_array_of_the_volumes_size() -> None:
    images, shifts = jnp.asarray(volumes((24, 24, 20), 1)), jnp.array([0.0, 2.0, -1.0])

    def shifted(shift, images):  # type: ignore[no-untyped-def]
        return by_windows(lambda window: network(window) + shift, images, WINDOW)

    plain = np.asarray(by_windows(network, images, WINDOW))
    found = jax.jit(jax.vmap(shifted, (0, None)))(shifts, images)
    np.testing.assert_allclose(
        found, plain + np.asarray(shifts)[:, None, None, None, None], atol=1e-5
    )
    exported = jax.export.export(jax.jit(shifted), platforms=("cpu", "cuda"))(shifts[0], images)
    program = exported.serialize()
    np.testing.assert_allclose(
        jax.export.deserialize(program).call(shifts[0], images), plain, atol=1e-5
    )
    assert len(program) < images[0, 0].nbytes / 2


def test_window_larger_than_the_volume_is_refused_in_a_sentence() -> None:
    for call in (
        lambda: by_windows(network, jnp.zeros((1, 2, 8, 8, 4)), WINDOW),
        lambda: lesion_crops(
            jax.random.key(0), jnp.zeros((1, 2, 8, 8, 4)), jnp.zeros((1, 8, 8, 4)), WINDOW
        ),
    ):
        with pytest.raises(
            ValueError,
            match=r"window of \(6, 8, 5\) voxels does not fit into volumes of \(8, 8, 4\)",
        ):
            call()


def crops(foreground_share: float, cases: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """First voxels [B, 3] and masks of crops, from images that hold each voxel's place and masks of
    two lesions of 1 and 3 voxels.
    """
    shape = (12, 16, 10)
    images = np.broadcast_to(np.indices(shape, np.float32), (cases, 3, *shape))
    masks = np.zeros((cases, *shape), np.uint8)
    masks[:, 0, 15, 4] = masks[:, 5:8, 6, 4] = 1
    found, cut = compiled(jax.random.key(1), images, masks, WINDOW, foreground_share)
    starts = np.asarray(found[:, :, 0, 0, 0]).astype(int)
    for start, image, mask in zip(starts[:20], np.asarray(found), np.asarray(cut), strict=False):
        part = tuple(slice(low, low + side) for low, side in zip(start, WINDOW, strict=True))
        np.testing.assert_array_equal(image, images[0][(slice(None), *part)])
        np.testing.assert_array_equal(mask, masks[0][part])
    return starts, np.asarray(cut)


def test_crops_on_lesions_are_centred_on_each_of_their_voxels_as_often() -> None:
    starts, masks = crops(1.0)
    assert masks.any((1, 2, 3)).all()
    expected = {
        (0, 8, 2),
        (2, 2, 2),
        (3, 2, 2),
        (4, 2, 2),
    }  # three voxels before the lesion's, four, and two; the first is at two borders
    places, counts = np.unique(starts, axis=0, return_counts=True)
    assert set(map(tuple, places.tolist())) == expected
    np.testing.assert_allclose(counts / len(starts), 0.25, atol=0.04)


def test_share_of_crops_on_lesions_is_the_one_asked_for_and_others_lie_anywhere() -> None:
    anywhere, _ = crops(0.0)
    for axis, room in enumerate((6, 8, 5)):
        places, counts = np.unique(anywhere[:, axis], return_counts=True)
        assert places.tolist() == list(range(room + 1))
        np.testing.assert_allclose(counts / len(anywhere), 1 / (room + 1), atol=0.04)
    starts, _ = crops(0.5)
    on_single = (starts == (0, 8, 2)).all(1).mean()
    assert on_single == pytest.approx(0.5 / 4 + 0.5 / (7 * 9 * 6), abs=0.03)


def test_crops_of_cases_without_a_lesion_lie_anywhere() -> None:
    images = np.broadcast_to(np.indices((8, 8, 6), np.float32), (600, 3, 8, 8, 6))
    found, _ = compiled(
        jax.random.key(0), jnp.asarray(images), jnp.zeros((600, 8, 8, 6)), WINDOW, 1.0
    )
    starts, counts = np.unique(np.asarray(found[:, :, 0, 0, 0]), axis=0, return_counts=True)
    assert starts.tolist() == [[d, 0, w] for d in range(3) for w in range(2)]
    np.testing.assert_allclose(counts / 600, 1 / 6, atol=0.06)
