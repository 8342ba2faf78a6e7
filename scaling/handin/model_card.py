"""The model card of exported weights, in Markdown."""

from collections.abc import Sequence
from typing import Any

NOT_STATED = "not stated"
CNN_LOADING = """\
```python
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from safetensors.torch import load_file
from torch import nn

norm = dict(norm_op=nn.InstanceNorm3d, norm_op_kwargs=dict(eps=1e-5, affine=True))
nonlin = dict(nonlin=nn.LeakyReLU, nonlin_kwargs=dict(inplace=True))
network = ResidualEncoderUNet(
    1, {levels}, {features}, nn.Conv3d, 3, {strides}, {blocks}, 1, 1,
    conv_bias=True, **norm, **nonlin
)
network.load_state_dict(load_file("weights.safetensors"){lenient})
```

MONAI's inferers and nnU-Net's trainers take this network. For nnU-Net's `-pretrained_weights`:
`scaling convert-weights weights.safetensors checkpoint.pth`.
"""
PLAIN_LOADING = """\
```python
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from safetensors.torch import load_file
from torch import nn

norm = dict(norm_op=nn.InstanceNorm3d, norm_op_kwargs=dict(eps=1e-5, affine=True))
nonlin = dict(nonlin=nn.LeakyReLU, nonlin_kwargs=dict(inplace=True))
encoder = PlainConvEncoder(
    1, {levels}, {features}, nn.Conv3d, 3, {strides}, 2, conv_bias=True, return_skips=True,
    pool="max", **norm, **nonlin
)
state = load_file("weights.safetensors")
of_encoder = {{key[8:]: value for key, value in state.items() if key.startswith("encoder.")}}
encoder.load_state_dict(of_encoder)
```

Levels are halved by their maximum, which nnU-Net's own `PlainConvUNet` does not do.
"""
VIT_LOADING = """\
```python
from vit import load

encoder = load("weights.safetensors")  # volumes [B, D, H, W] -> tokens [B, N, {width}]
```
"""


def model_card(
    described: dict[str, Any],
    collections: Sequence[dict[str, Any]],
    verdicts: str,
    study: str,
) -> str:
    """The card of what `describe` says: data, objective, size, duration, licence, verdicts."""
    objective, encoder = described["objective"], described["architecture"]
    spacing = described["spacing_mm"]
    lines = [
        f"# {described['name']}",
        "",
        "An encoder of 3D brain MRI, pretrained without labels.",
        "",
        "| | |",
        "|---|---|",
        f"| objective | {objective.get('name') or objective['kind']} |",
        f"| architecture | {encoder['kind']}, size {described['size']} |",
        f"| parameters of the encoder | {described['parameters']:,} |",
        f"| duration | {described['samples']:,} samples of {crop(described)} voxels |",
        f"| grid | {'the scans own' if spacing is None else f'{spacing:g} mm'}, axes RAS |",
        f"| licence of the weights | {described['licence'] or NOT_STATED} |",
        f"| study | {study} |",
        "",
        "Intensities have zero mean and unit variance over the head, between the 0.5th and the "
        f"99.5th percentile; outside of the head they are {described['background']:g}.",
        "",
        "## Data",
        "",
        f"Pretrained on {', '.join(described['sources'])}, {described['fraction']:.0%} of the "
        "subjects. The study's collections:",
        "",
        "| collection | scans | subjects | licence |",
        "|---|---|---|---|",
    ]
    for row in collections:
        licence = row["licence"] or NOT_STATED
        lines.append(f"| {row['collection']} | {row['scans']} | {row['subjects']} | {licence} |")
    lines += ["", "## Verdicts of the study", ""]
    if verdicts:
        lines += ["```", verdicts.strip(), "```"]
    else:
        lines.append("The study has no report yet.")
    lines += ["", "## Loading", "", loading(described)]
    return "\n".join(lines)


def crop(described: dict[str, Any]) -> str:
    """The shape of a crop, in words."""
    return " x ".join(str(side) for side in described["pretraining"]["crop"])


def loading(described: dict[str, Any]) -> str:
    """How the weights are loaded in PyTorch."""
    encoder = described["architecture"]
    if encoder["kind"] == "vit":
        return VIT_LOADING.format(width=encoder["width"])
    levels = len(encoder["features"])
    values = {
        "levels": levels,
        "features": tuple(encoder["features"]),
        "strides": (1, *(2,) * (levels - 1)),
        "blocks": tuple(encoder["blocks"]),
        "lenient": "" if described["decoder"] else ", strict=False",
    }
    text = CNN_LOADING if encoder["kind"] == "resenc" else PLAIN_LOADING
    return text.format(**values)
