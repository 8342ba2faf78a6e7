"""Weights of published U-Nets and our parameters, one from the other (`scaling.study.published`).

PyTorch keeps kernels as [F, C, D, H, W], we as [D, H, W, C, F], equal blocks stacked.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from scaling.study.cnn_shape import CnnShape
from scaling.study.published import Layer, encoder_layers

Tree = dict[str, Any]


def encoder_from(tensors: Mapping[str, np.ndarray], shape: CnnShape) -> Tree:
    """Our parameters from tensors by their canonical names, which `encoder_layers` lists."""
    stacks: dict[tuple[str, ...], list[np.ndarray]] = {}
    for layer in encoder_layers(shape):
        kernel = tensors[f"{layer.name}.conv.weight"].transpose(2, 3, 4, 1, 0)
        if layer.taps == 1:
            kernel = kernel[0, 0, 0]  # [1, 1, 1, C, F] -> [C, F]
        stacks.setdefault(layer.kernel, []).append(kernel)
        stacks.setdefault((*layer.norm, "scale"), []).append(tensors[f"{layer.name}.norm.weight"])
        stacks.setdefault((*layer.norm, "bias"), []).append(tensors[f"{layer.name}.norm.bias"])
    tree: Tree = {}
    for path, arrays in stacks.items():
        stacked = "rest" in path
        value = np.stack(arrays) if stacked else arrays[0]
        put(tree, path, np.ascontiguousarray(value, np.float32))
    return tree


def encoder_to(parameters: Tree, shape: CnnShape) -> dict[str, np.ndarray]:
    """The published tensors of an encoder, "encoder." before their names. The biases of the
    convolutions, which the published modules have and the norms make void, are zeros.
    """
    tensors: dict[str, np.ndarray] = {}
    for layer in encoder_layers(shape):
        tensors |= layer_to(parameters, layer, f"encoder.{layer.name}")
    return tensors


def layer_to(parameters: Tree, layer: Layer, name: str) -> dict[str, np.ndarray]:
    """The published tensors of one layer."""
    kernel = taken(parameters, layer.kernel, layer.place)
    if layer.taps == 1:
        kernel = kernel[None, None, None]  # [C, F] -> [1, 1, 1, C, F]
    tensors = {
        f"{name}.conv.weight": kernel.transpose(4, 3, 0, 1, 2),
        f"{name}.norm.weight": taken(parameters, (*layer.norm, "scale"), layer.place),
        f"{name}.norm.bias": taken(parameters, (*layer.norm, "bias"), layer.place),
    }
    if layer.taps > 1:
        tensors[f"{name}.conv.bias"] = np.zeros(layer.features, np.float32)
    return tensors


def decoder_to(parameters: Tree, shape: CnnShape) -> dict[str, np.ndarray]:
    """The published tensors of a reconstruction decoder: a decoder of one output.

    One that does not read the encoder's levels has zeros where the published one reads them. Its
    outputs of lower resolution, which only deep supervision reads, are zeros.
    """
    tensors: dict[str, np.ndarray] = {}
    last = len(shape.features) - 2
    for stage in range(last + 1):
        level = last - stage
        features, below = shape.features[level], shape.features[level + 1]
        at = ("levels", f"level{level}")
        up = taken(parameters, (*at, "kernel")).reshape(below, 2, 2, 2, features)
        tensors[f"decoder.transpconvs.{stage}.weight"] = up.transpose(0, 4, 1, 2, 3)
        tensors[f"decoder.transpconvs.{stage}.bias"] = taken(parameters, (*at, "bias"))
        inside = (*at, "conv")
        layer = Layer("", (*inside, "kernel"), (*inside, "norm"), 2 * features, features)
        name = f"decoder.stages.{stage}.convs.0"
        tensors |= layer_to(parameters, layer, name)
        kernel = tensors[f"{name}.conv.weight"]
        missing = 2 * features - kernel.shape[1]
        zeros = np.zeros((features, missing, 3, 3, 3), np.float32)
        tensors[f"{name}.conv.weight"] = np.concatenate([kernel, zeros], axis=1)
        tensors[f"decoder.seg_layers.{stage}.weight"] = np.zeros((1, features, 1, 1, 1), np.float32)
        tensors[f"decoder.seg_layers.{stage}.bias"] = np.zeros(1, np.float32)
    voxels = taken(parameters, ("voxels", "kernel"))  # [C, 1]
    tensors[f"decoder.seg_layers.{last}.weight"] = voxels.T[..., None, None, None]
    tensors[f"decoder.seg_layers.{last}.bias"] = taken(parameters, ("voxels", "bias"))
    return tensors


def with_aliases(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published tensors under all names of the modules' state dicts, which list every layer within
    a sequence as well, and the encoder within the decoder.
    """
    complete = dict(tensors)
    for name, tensor in tensors.items():
        again = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        complete[again] = tensor
    if any(name.startswith("decoder.") for name in tensors):
        for name in [name for name in complete if name.startswith("encoder.")]:
            complete[f"decoder.{name}"] = complete[name]
    return complete


def taken(parameters: Tree, path: tuple[str, ...], place: int | None = None) -> np.ndarray:
    """A parameter, or that of one block of a stack."""
    node: Any = parameters
    for key in path:
        node = node[key]
    value = np.asarray(node, np.float32)
    return value if place is None else value[place]


def put(tree: Tree, path: tuple[str, ...], value: np.ndarray) -> None:
    """Set a leaf of nested dicts."""
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts with their names, joined by dots."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key)), value
