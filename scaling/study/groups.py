"""Groups of cases, such as sex or age bins: a variable is a column, or a column and its edges."""

import bisect
import itertools
from dataclasses import dataclass

from scaling.study.classes import as_number


@dataclass(frozen=True)
class Variable:
    """A variable of cases: a column of participants.tsv, binned by ascending inclusive upper
    `edges` where there are any.
    """

    column: str
    edges: tuple[float, ...] = ()

    def group(self, text: str) -> str:
        """The group of a case from its column's text: lower-case text, or a bin such as "25-50";
        "" where the value is missing or, in a binned variable, not above 0 (as FOMO26 does).
        """
        if not self.edges:
            return text.strip().lower()
        number = as_number(text)
        if not number > 0:
            return ""
        place = bisect.bisect_left(self.edges, number)
        if place == 0:
            return f"<={self.edges[0]:g}"
        if place == len(self.edges):
            return f">{self.edges[-1]:g}"
        return f"{self.edges[place - 1]:g}-{self.edges[place]:g}"


def parse_group(text: str) -> Variable:
    """The variable that "sex" or "age:25,50,75" stands for. Raises ValueError."""
    column, separator, edges = text.partition(":")
    numbers = [as_number(edge) for edge in edges.split(",")] if separator else []
    ascending = all(low < high for low, high in itertools.pairwise(numbers))
    if not column.strip() or any(number != number for number in numbers) or not ascending:
        raise ValueError(
            f"group {text!r} is not understood; expected a column such as 'sex', or one with "
            "ascending edges such as 'age:25,50,75'"
        )
    return Variable(column.strip().lower(), tuple(numbers))
