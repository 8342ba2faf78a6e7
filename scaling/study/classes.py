"""Classes of a task: how they are declared, and which one a label means.

An entry of `Task.classes` is a name ("AD"), a value (2), or both ("nerve=1"). A classification's
label is the value where there is one, else the name. A mask's voxels are the values; names alone
stand for 1, 2, ... in their order.
"""

import math
from collections.abc import Sequence

LARGEST = 255  # masks are stored as bytes


def name_and_value(entry: str | int) -> tuple[str, str]:
    """Name and value of an entry, the same text where only one is given."""
    name, separator, value = str(entry).partition("=")
    return (name.strip(), value.strip()) if separator else (name.strip(), name.strip())


def class_names(classes: Sequence[str | int]) -> tuple[str, ...]:
    """The names of classes, in order."""
    return tuple(name_and_value(entry)[0] for entry in classes)


def class_index(text: str, classes: Sequence[str | int]) -> int:
    """Which class a label's text means: equal as text, or as a number ("1.0" is 1).

    Raises ValueError if it is none of them.
    """
    number = as_number(text)
    for index, entry in enumerate(classes):
        name, value = name_and_value(entry)
        if text.strip() in (value, name):
            return index
        if not math.isnan(number) and as_number(value) == number:
            return index
    raise ValueError(f"{text!r} is none of the classes {', '.join(class_names(classes))}")


def named(classes: Sequence[str | int]) -> tuple[tuple[str, int], ...]:
    """Name and voxel value of every label of a mask; without classes there is one, "1".

    Raises ValueError for a value that no mask can hold, or that is given twice.
    """
    pairs: list[tuple[str, int]] = []
    for place, entry in enumerate(classes or ("1",), start=1):
        name, value = name_and_value(entry)
        number = as_number(value)
        if math.isnan(number) and "=" not in str(entry):
            number = float(place)
        if not (float(number).is_integer() and 1 <= number <= LARGEST):
            raise ValueError(
                f"class {entry!r} is no value of a mask; expected a name, a whole number from 1 to "
                f"{LARGEST}, or NAME=NUMBER"
            )
        pairs.append((name, int(number)))
    if len({value for _, value in pairs}) < len(pairs):
        raise ValueError(f"classes {tuple(classes)} give a value of the mask twice")
    return tuple(pairs)


def as_number(text: str) -> float:
    """The number that a text is, NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
