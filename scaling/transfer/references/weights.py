"""Public weights as parameters of our backbones: read from safetensors, checked by name."""

from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from scaling.models.backbone import build_encoder
from scaling.models.published import encoder_from, leaves, put
from scaling.objectives.interface import Parameters
from scaling.study.cnn_shape import CnnShape
from scaling.study.config import Weights
from scaling.study.published import canonical_name, encoder_layers
from scaling.study.shapes import EncoderShape

Shapes = dict[str, tuple[int, ...]]
FEW = 3  # names that a message lists


def public_encoder(reference: Weights) -> Parameters:
    """The encoder's parameters, as `build_encoder(reference.encoder)` takes them.

    Raises ValueError, naming the tensors, for those that are missing, left over, of another shape,
    or not finite.
    """
    encoder = reference.encoder
    names = checked_names(reference)
    tensors: dict[str, np.ndarray] = {}
    with safe_open(reference.path, framework="flax") as file:
        for name, place in names.items():
            value = np.asarray(file.get_tensor(name).astype(jnp.float32))
            if not np.isfinite(value).all():
                raise ValueError(
                    f"reference {reference.name!r}: {name} in {reference.path} holds a value that "
                    "is no finite number"
                )
            if place in tensors and not np.array_equal(tensors[place], value):
                raise ValueError(
                    f"reference {reference.name!r}: {reference.path} holds two different tensors "
                    f"for {place}, the second is {name}"
                )
            tensors[place] = value
    if not isinstance(encoder, CnnShape):
        tree: Parameters = {}
        for name, value in tensors.items():
            put(tree, tuple(name.split(".")), value)
        return tree
    if reference.axes == "zyx":
        # A kernel [F, C, z, y, x] of their volumes is [F, C, x, y, z] of ours.
        for name, value in tensors.items():
            if value.ndim == 5:
                tensors[name] = value.transpose(0, 1, 4, 3, 2)
    return encoder_from(tensors, encoder)


def checked_names(reference: Weights) -> dict[str, str]:
    """Tensor in the file -> which of the architecture's it is. No value is read.

    Raises FileNotFoundError without a file, and ValueError as `public_encoder` does.
    """
    shapes = shapes_of_file(reference)
    wanted, void = expected_tensors(reference.encoder)
    what = f"{reference.family.label} {reference.size}"
    names: dict[str, str] = {}
    left_over, misshapen = [], []
    for name, shape in shapes.items():
        place = canonical_name(name) if name not in wanted else name
        if place in void or is_ignored(name, reference.ignored):
            continue
        if place not in wanted:
            left_over.append(name)
        elif shape != wanted[place]:
            misshapen.append(f"{name} is {list(shape)}, expected {list(wanted[place])}")
        names[name] = place
    missing = [name for name in wanted if name not in names.values()]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of its {len(wanted)} tensors are missing: {few(missing)}")
    if left_over:
        faults.append(
            f"{len(left_over)} tensors of the file are left over: {few(left_over)} (name those to "
            "leave out in `ignored`)"
        )
    if misshapen:
        faults.append(f"{len(misshapen)} have another shape: {few(misshapen)}")
    if faults:
        raise ValueError(
            f"reference {reference.name!r}: {reference.path} is not of {what}: {'; '.join(faults)}"
        )
    return names


def is_ignored(name: str, beginnings: Iterable[str]) -> bool:
    """Whether a tensor, or a part of the model that it lies in, is named by a beginning.

    The encoder that a published decoder lists as well is the encoder's.
    """
    if ".encoder." in f".{name}":
        return False
    return any(f".{beginning}" in f".{name}" for beginning in beginnings)


def expected_tensors(encoder: EncoderShape) -> tuple[Shapes, set[str]]:
    """The tensors that an architecture needs, name -> shape, and those that change nothing."""
    if isinstance(encoder, CnnShape):
        layers = list(encoder_layers(encoder))
        shapes: Shapes = {}
        for layer in layers:
            shapes |= layer.shapes
        return shapes, {layer.void for layer in layers}
    abstract = jax.eval_shape(build_encoder(encoder).init, jax.random.key(0))
    return {name: tuple(leaf.shape) for name, leaf in leaves(abstract)}, set()


def shapes_of_file(reference: Weights) -> Shapes:
    """Name -> shape of the tensors in a file, from its header alone. Raises ValueError."""
    path = Path(reference.path)
    if not path.is_file():
        raise FileNotFoundError(
            f"reference {reference.name!r}: {path} does not exist; expected a .safetensors file"
        )
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"reference {reference.name!r}: {path} cannot be read as safetensors ({error}); a file "
            "of torch.save is converted by `scaling convert-weights`"
        ) from error


def few(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - FEW} more" if len(listed) > FEW else ""
    return ", ".join(listed[:FEW]) + more
