"""Files of `torch.save` to safetensors, and back: with PyTorch, which the extra `torch` brings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TORCH = (".pt", ".pth", ".ckpt", ".bin")
INSIDE = ("network_weights", "state_dict", "model", "model_state_dict")  # where weights may lie


def convert_weights(source: Path, target: Path) -> int:
    """Write the tensors of `source` to `target`, one a .safetensors, the other of `torch.save`.
    Returns their number.

    Code in a pickle is never run: it is read by `torch.load(weights_only=True)`. Tensors that share
    memory are written once each. The other way they are put under "network_weights", as nnU-Net
    reads them. Raises ValueError, or FileNotFoundError without a source.
    """
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; expected a file of weights")
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            "converting weights needs PyTorch; install it with `pip install "
            "'brain-mri-scaling[torch]'`"
        ) from error
    from safetensors.torch import load_file, save_file

    from scaling.files import replacing

    if source.suffix == ".safetensors" and target.suffix in TORCH:
        tensors = load_file(source)
        with replacing(target) as temporary:
            torch.save({"network_weights": tensors}, temporary)
        return len(tensors)
    if target.suffix != ".safetensors":
        raise ValueError(
            f"{source} to {target}: expected a .safetensors and one of {', '.join(TORCH)}"
        )
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises what pickle and zip files raise
        raise ValueError(
            f"{source} cannot be read by torch.load(weights_only=True) "
            f"({str(error).splitlines()[0]}); expected a file of torch.save with tensors alone"
        ) from error
    tensors = {}
    for name, value in weights_within(source, content).items():
        if torch.is_tensor(value):
            tensors[str(name)] = value.detach().clone().contiguous()
    with replacing(target) as temporary:
        save_file(tensors, temporary)
    return len(tensors)


def weights_within(source: Path, content: Any) -> Mapping[Any, Any]:
    """The state dict of a checkpoint, which may hold it under a name. Raises ValueError."""
    for name in INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            return weights_within(source, content[name])
    if not isinstance(content, Mapping) or not any(hasattr(v, "dtype") for v in content.values()):
        raise ValueError(
            f"{source} holds no tensors by name; expected a state dict, or one under "
            f"{', '.join(INSIDE)}"
        )
    return content
