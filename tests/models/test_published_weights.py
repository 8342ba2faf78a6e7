"""Published tensors and our parameters: a round trip, and what is refused by name."""

from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from scaling.models.backbone import build_encoder
from scaling.models.published import encoder_to, leaves, with_aliases
from scaling.study.cnn_shape import CnnShape
from scaling.study.config import ResEnc, UNet, ViT, Weights
from scaling.study.families import Family
from scaling.transfer.references.weights import checked_names, public_encoder

Tensors = dict[str, np.ndarray]


def written(path: Path, tensors: Tensors) -> None:
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)


def random_encoder(family: Family, size: str) -> dict[str, np.ndarray]:
    """Its parameters, every one random: norms start at ones and zeros otherwise."""
    abstract = jax.eval_shape(
        build_encoder(family.encoder(size, "standard")).init, jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract)


def published(family: Family, size: str) -> Tensors:
    shape = family.encoder(size, "standard")
    parameters = random_encoder(family, size)
    if isinstance(shape, CnnShape):
        return encoder_to(parameters, shape)
    return dict(leaves(parameters))


@pytest.mark.parametrize(
    ("family", "size"), [(ResEnc(levels=3), "s"), (UNet(levels=3), "xxs"), (ViT(), "xxs")]
)
def test_published_tensors_come_back_as_the_same_parameters(
    tmp_path: Path, family: Family, size: str
) -> None:
    tensors = published(family, size)
    if family.kind != "vit":
        tensors = with_aliases(tensors)
        tensors["decoder.stages.0.convs.0.conv.weight"] = np.ones(3, np.float32)
    written(tmp_path / "w.safetensors", tensors)
    read = public_encoder(Weights("w", str(tmp_path / "w.safetensors"), family, size))
    wanted = random_encoder(family, size)
    assert jax.tree.structure(read) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(read), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_of_other_modules_prefixes_and_axes_are_understood(tmp_path: Path) -> None:
    family = ResEnc(levels=3)
    tensors = published(family, "xxs")
    theirs: Tensors = {}
    for name, value in tensors.items():
        renamed = name.replace("stem.convs.0.", "stem.conv1.").replace(".norm.", ".norm_op.")
        if value.ndim == 5:
            value = value.transpose(0, 1, 4, 3, 2)
        theirs[f"model.{renamed}"] = value
    written(tmp_path / "w.safetensors", theirs)
    path = str(tmp_path / "w.safetensors")
    read = public_encoder(Weights("w", path, family, "xxs", axes="zyx"))
    wanted = random_encoder(family, "xxs")
    jax.tree.map(np.testing.assert_array_equal, read, wanted)


def test_missing_left_over_misshapen_and_infinite_tensors_are_refused_by_name(
    tmp_path: Path,
) -> None:
    path = tmp_path / "w.safetensors"
    reference = Weights("w", str(path), ResEnc(levels=3), "xxs")
    whole = published(reference.family, "xxs")
    name = "encoder.stages.1.blocks.0.conv1.conv.weight"
    missing = {key: value for key, value in whole.items() if key != name}
    written(path, missing)
    with pytest.raises(ValueError, match=f"missing: {name.removeprefix('encoder.')}"):
        checked_names(reference)
    written(path, whole | {"mask_token": np.zeros(4, np.float32)})
    with pytest.raises(ValueError, match=r"1 tensors of the file are left over: mask_token"):
        checked_names(reference)
    allowed = Weights("w", str(path), ResEnc(levels=3), "xxs", ignored=("decoder.", "mask_token"))
    checked_names(allowed)
    written(path, whole | {name: whole[name][:, :2]})
    with pytest.raises(ValueError, match=rf"{name} is \[8, 2, 3, 3, 3\], expected \[8, 4"):
        checked_names(reference)
    broken = whole[name].copy()
    broken[0, 0, 0, 0, 0] = np.nan
    written(path, whole | {name: broken})
    with pytest.raises(ValueError, match="no finite number"):
        public_encoder(reference)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        checked_names(reference)
