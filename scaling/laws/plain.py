"""Results as plain JSON: dataclasses become dictionaries, arrays lists, and numbers that are not
finite None."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def plain(value: Any, leave_out: tuple[str, ...] = ()) -> Any:
    """`value` as dictionaries, lists, strings, finite numbers and None; fields named in
    `leave_out` are skipped."""
    if is_dataclass(value):
        return {
            f.name: plain(getattr(value, f.name), leave_out)
            for f in fields(value)
            if f.name not in leave_out
        }
    if isinstance(value, dict):
        return {str(k): plain(v, leave_out) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v, leave_out) for v in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
